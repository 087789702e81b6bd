"""What a .tflite consists of, told from the file itself, and what it may cost."""

import numpy as np
import pytest
from mien_edge.model import estimates, interpreter, profile, tflite


def test_the_operators_of_the_bundle_are_integer_and_their_work_adds_up(bundle):
    found = tflite.operators(bundle.model.read_bytes())
    assert not [each for each in found if any("FLOAT" in dtype for dtype in each.dtypes)]
    assert sum(each.macs for each in found) == bundle.card.metrics["network"]["macs"]
    assert found[-1].shape == (1, 7)


@pytest.mark.parametrize("count", [2, 7, 12])
def test_a_prefix_is_the_network_up_to_there(bundle, tmp_path, count):
    content = bundle.model.read_bytes()
    wanted = tflite.operators(content)[:count]
    path = tmp_path / "part.tflite"
    path.write_bytes(tflite.truncate(content, count))
    assert tflite.operators(path.read_bytes()) == wanted
    network = interpreter.find_runtime().load(path)
    network.set_tensor(
        network.get_input_details()[0]["index"], np.full((1, 48, 48, 1), 77, np.uint8)
    )
    network.invoke()
    assert network.get_tensor(network.get_output_details()[0]["index"]).shape == wanted[-1].shape


def test_each_layer_is_timed(bundle):
    found = profile.profile_layers(bundle.model, repeats=2)
    assert [each.operator for each in found] == [
        each.name for each in tflite.operators(bundle.model.read_bytes())
    ]
    assert all(each.milliseconds >= 0 for each in found)
    assert sum(each.milliseconds for each in found) > 0
    assert profile.layers_as_text(found).count("\n") == len(found) + 1


def test_the_rates_give_the_published_milliseconds_back():
    """MobileNet v1 and v2 by the estimate take what XNNPACK's table says they take, on four cores."""
    for (convolutions, depthwise), milliseconds in (
        (estimates._V1_MACS, estimates._V1_MILLISECONDS),
        (estimates._V2_MACS, estimates._V2_MILLISECONDS),
    ):
        network = [
            tflite.Operator("CONV_2D", (), int(convolutions * 1e6), ()),
            tflite.Operator("DEPTHWISE_CONV_2D", (), int(depthwise * 1e6), ()),
        ]
        a72, *_ = estimates.estimate(network)
        assert a72.milliseconds / 4 == pytest.approx(milliseconds, rel=1e-3)
