"""A small MobileNet cut out of a large one."""

from dataclasses import replace

import numpy as np
import pytest
import tf_keras
from mien_edge import graph
from mien_edge.contract import as_floats
from mien_edge.errors import RunError
from mien_train import cut, ensemble, export, loop, networks, quantize, recipes
from mien_train.ensemble import Ensemble, Member

CUT = recipes.EDGE
WHOLE = (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)


@pytest.fixture(scope="module")
def crops():
    return export.golden_inputs(48, 96, seed=3)


@pytest.fixture(scope="module")
def large(crops):
    """A face network whose normalisations fit its activations, as a trained one's do."""
    tf_keras.utils.set_random_seed(1)
    model = networks.build(recipes.recipe("teacher-face"))
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            seen = tf_keras.Model(model.input, layer.input)(as_floats(crops[:24])).numpy()
            rng = np.random.default_rng(len(seen))
            width = seen.shape[-1]
            scale, offset = rng.uniform(0.5, 1.5, width), rng.normal(0.5, 0.5, width)
            layer.set_weights([scale, offset, seen.mean((0, 1, 2)), seen.var((0, 1, 2)) + 1e-4])
    return model


def small(widths, halving):
    return networks.build(replace(CUT, arguments={"widths": widths, "halving": halving}))


def middle(maps):
    """Away from the border, where the large network's picture is padded with grey and the small one's with black."""
    return maps[:, 2:-2, 2:-2]


def test_nothing_cut_away_computes_the_same(large, crops):
    model = small(WHOLE, (2, 4, 6))
    cut.start(model, large, crops)
    for index in (0, 1):  # the first convolution, enlarged in the large network only; the first depthwise one
        ours, theirs = (
            tf_keras.Model(
                each.input, [x for x in each.layers if isinstance(x, tf_keras.layers.ReLU)][index].output
            ).predict(as_floats(crops), verbose=0)
            for each in (model, large)
        )
        assert theirs.std() > 0.1
        np.testing.assert_allclose(middle(ours), middle(theirs), atol=2e-3)


def test_a_cut_tells_much_of_what_the_whole_tells_and_more_the_wider_it_is(large, crops):
    expected = large.predict(as_floats(crops), verbose=0)

    def explained(divisor):
        model = small(tuple(width // divisor for width in WHOLE), (2, 4, 6, 12))
        fresh = loop.predict(model, crops)
        cut.start(model, large, crops)
        told = loop.predict(model, crops)
        left = [np.square(each - expected).mean() / expected.var(axis=0).mean() for each in (told, fresh)]
        assert left[0] < left[1]
        return 1 - left[0]

    shares = [explained(divisor) for divisor in (2, 8)]
    assert shares[0] > shares[1]
    assert shares[0] > 0.5


def test_the_channels_kept_are_those_that_the_rest_follows_from():
    rng = np.random.default_rng(0)
    own = rng.normal(size=(500, 3))
    channels = np.stack([own[:, 0], own[:, 0] + own[:, 1], own[:, 1], 2 * own[:, 2], 0.01 * rng.normal(size=500)], 1)
    covariance = channels.T @ channels / len(channels)
    kept = cut.greedy(covariance, np.eye(5), 3)
    assert 3 in kept
    assert 4 not in kept
    blind = cut.greedy(covariance, np.diag([1.0, 1, 1, 0, 0]), 2)  # what nobody looks at needs no channel
    assert set(blind) <= {0, 1, 2}
    assert len(cut.greedy(covariance, np.eye(5), 5)) == 5


def test_an_ensemble_without_a_face_network_is_named(tmp_path, monkeypatch):
    seed = Member("seed", recipes.SEED, "", {}, [])
    monkeypatch.setattr(ensemble, "load", lambda folder: Ensemble((seed,)))
    with pytest.raises(RunError, match=r"teachers: none of its networks is a `face` to cut; .* fit teacher-face"):
        cut.largest(tmp_path / "teachers")


def test_levelled_kernels_compute_the_same(crops):
    model = small((8, 16, 16), (2,))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.01, 2, each.shape) for each in model.get_weights()])
    before = loop.predict(model, crops)
    quantize.level(model)
    kernels = [each for each in model.layers if isinstance(each, tf_keras.layers.DepthwiseConv2D)]
    assert len(kernels) == 2
    for each in kernels:
        assert np.abs(each.get_weights()[0]).max(axis=(0, 1, 3)) == pytest.approx(1)
    np.testing.assert_allclose(loop.predict(model, crops), before, rtol=1e-4, atol=1e-4)


def test_a_cut_becomes_integer_operators_that_run_fast_on_a_device(large, crops, tmp_path):
    model = small((8, 16, 16), (2,))
    content = quantize.convert(
        quantize.aware(networks.build(replace(CUT, arguments={"widths": (8, 16, 16), "halving": (2,)}), 1))
    )
    quantize.check_integer(content)
    assert model.output_shape == (None, 14)
    assert {each.name for each in graph.operators(content)} <= {
        "QUANTIZE",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "MEAN",
        "FULLY_CONNECTED",
    }
