"""A small MobileNet pruned from a large one."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from mien_edge.contract import as_floats
from mien_edge.model import tflite
from mien_train.results import export
from mien_train.training import loop, networks, prune, quantize, recipes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def crops():
    return export.golden_inputs(48, 96, seed=3)


def settle(model, crops):
    """Give its normalisations what they see, as in a trained network, and each channel a scale of its own."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            inputs = tf_keras.Model(model.input, layer.input)(as_floats(crops[:24])).numpy()
            width = inputs.shape[-1]
            gamma = rng.uniform(0.5, 1.5, width)
            beta = rng.normal(0.5, 0.5, width)
            layer.set_weights([gamma, beta, inputs.mean((0, 1, 2)), inputs.var((0, 1, 2)) + 1e-4])


@pytest.fixture(scope="module")
def large(crops):
    tf_keras.utils.set_random_seed(1)
    model = networks.build(recipes.recipe("teacher-face"))
    settle(model, crops)
    return model


def small(widths, halving, batch=None):
    return networks.build(
        replace(recipes.EDGE, arguments={"widths": widths, "halving": halving}), batch
    )


def activations(model, layer, crops):
    """What the layer computes from crops, away from the border: there the large network's picture is padded with grey,
    the small one's with black.
    """
    return tf_keras.Model(model.input, layer.output).predict(as_floats(crops), verbose=0)[
        :, 3:-3, 3:-3
    ]


def of_kind(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def test_a_network_from_which_nothing_is_pruned_computes_the_same(large, crops):
    model = small((32, 64, 128), ())
    prune.prune(model, large, crops)
    for index in (
        0,
        1,
    ):  # the first convolution, over a doubled picture in the large network; the depthwise one
        pair = [
            (network, of_kind(network, tf_keras.layers.ReLU)[index]) for network in (model, large)
        ]
        student, teacher = (activations(network, layer, crops) for network, layer in pair)
        assert teacher.std() > 0.1
        np.testing.assert_allclose(student, teacher, atol=2e-3)


def test_a_pruned_network_computes_on_other_pictures_what_the_large_one_does_and_better_the_wider_it_is(
    large, crops
):
    others = export.golden_inputs(48, 24, seed=4)

    def explained(model):
        """How much of the selected channels' variance after the second block."""
        student, teacher = (
            of_kind(network, tf_keras.layers.BatchNormalization)[4] for network in (model, large)
        )
        scales = teacher.get_weights()[
            0
        ].tolist()  # each channel's own: they show which were selected
        channels = [scales.index(scale) for scale in student.get_weights()[0].tolist()]
        outputs = activations(model, student, others)
        targets = activations(large, teacher, others)[..., channels]
        return 1 - np.square(outputs - targets).mean() / targets.var(axis=(0, 1, 2)).mean()

    shares = []
    for divisor in (1, 2, 8):
        model = small((32 // divisor, 64 // divisor, 128 // divisor), (2,))
        prune.prune(model, large, crops)
        shares.append(explained(model))
    fitted = of_kind(model, tf_keras.layers.Conv2D)[-1]
    fitted.set_weights([fitted.get_weights()[0][..., ::-1]])
    shares.append(explained(model))
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.9


def test_the_channels_selected_are_those_that_the_others_follow_from():
    rng = np.random.default_rng(0)
    own = rng.normal(size=(500, 3))
    channels = np.stack(
        [own[:, 0], own[:, 0] + own[:, 1], own[:, 1], 2 * own[:, 2], 0.01 * rng.normal(size=500)], 1
    )
    covariance = channels.T @ channels / len(channels)
    selected = prune.select_greedily(covariance, np.eye(5), 3)
    assert 3 in selected
    assert 4 not in selected
    blind = prune.select_greedily(
        covariance, np.diag([1.0, 1, 1, 0, 0]), 2
    )  # what nobody looks at needs no channel
    assert set(blind) <= {0, 1, 2}
    assert len(prune.select_greedily(covariance, np.eye(5), 5)) == 5


def test_equalized_kernels_compute_the_same(crops):
    model = small((8, 16, 16), (2,))
    kernels = of_kind(model, tf_keras.layers.DepthwiseConv2D)
    rng = np.random.default_rng(0)
    for layer in kernels:
        (values,) = layer.get_weights()
        layer.set_weights([values * 10 ** rng.uniform(-2, 1, (values.shape[2], 1))])
    settle(model, crops)
    before = loop.predict(model, crops)
    assert before.std(axis=0).min() > 0.02
    quantize.equalize_ranges(model)
    assert len(kernels) == 2
    for layer in kernels:
        assert np.abs(layer.get_weights()[0]).max(axis=(0, 1, 3)) == pytest.approx(1)
    np.testing.assert_allclose(loop.predict(model, crops), before, atol=1e-4)


def test_a_mobile_becomes_integer_operators_that_run_fast_on_a_device():
    model = small((8, 16, 16), (2,), batch=1)
    quantize.equalize_ranges(model)
    content = quantize.convert(quantize.add_fake_quant(model))
    quantize.check_integer(content)
    assert {operator.name for operator in tflite.operators(content)} == {
        "QUANTIZE", "CONV_2D", "DEPTHWISE_CONV_2D", "MEAN", "FULLY_CONNECTED",
    }  # fmt: skip


@pytest.mark.parametrize("is_calibrated", [False, True])
def test_a_conversion_gives_what_keras_own_gives(crops, is_calibrated):
    """All but one byte: the metadata's, which says whether Keras or a saved function was converted."""
    model = networks.build(
        replace(recipes.TINY, arguments={"stem": 4, "widths": (4,), "depths": (1,)}), batch=1
    )
    if not is_calibrated:
        model = quantize.add_fake_quant(model)
    calibration = crops if is_calibrated else None
    own = quantize.convert(model, calibration)
    with pytest.MonkeyPatch.context() as patch:
        from_keras_model = tf.lite.TFLiteConverter.from_keras_model
        patch.setattr(
            tf.lite.TFLiteConverter, "from_saved_model", lambda _: from_keras_model(model)
        )
        expected = quantize.convert(model, calibration)
    assert len(own) == len(expected)
    assert sum(a != b for a, b in zip(own, expected, strict=True)) <= 1
