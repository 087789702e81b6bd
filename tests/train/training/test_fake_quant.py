"""Fake quantization of our own, and what the converter makes of it."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from mien_edge.contract import as_floats
from mien_edge.errors import RunError
from mien_edge.model import tflite
from mien_edge.model.interpreter import Classifier
from mien_train.results import export
from mien_train.training import convert, fake_quant, loop, networks, quantize, recipes
from mien_train.training.fake_quant import FakeQuantConvolution, FakeQuantRange

pytestmark = pytest.mark.slow

MOBILE = replace(recipes.EDGE, arguments={"widths": (8, 16, 16, 32), "halving": (1, 3)}, seed=3)
SMALL = {
    "mobile": MOBILE,
    "basic": recipes.TINY,
    "bottleneck": replace(
        recipes.TINY, arguments={**recipes.TINY.arguments, "block": "bottleneck"}
    ),
    "inverted": replace(recipes.TINY, arguments={**recipes.TINY.arguments, "block": "inverted"}),
    "plain": replace(
        recipes.TINY, network="plain", arguments={"widths": (8, 12), "depths": (1, 2)}
    ),
    "seed": recipes.SEED,
}


@pytest.fixture(scope="module")
def crops():
    return export.golden_inputs(48, 96, seed=3)


def settled(recipe, crops, outputs=7):
    """A float network whose normalisations fit what they see, as a trained one's do."""
    keras.utils.set_random_seed(recipe.seed)
    model = networks.build(recipe, outputs)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            inputs = keras.Model(model.input, layer.input).predict(as_floats(crops), verbose=0)
            gamma = rng.uniform(0.5, 1.5, inputs.shape[-1])
            beta = rng.normal(0, 0.3, inputs.shape[-1])
            mean = inputs.mean(axis=(0, 1, 2))
            variance = inputs.var(axis=(0, 1, 2)) + 1e-4
            layer.set_weights([gamma, beta, mean, variance])
    return model


def fake_quantized(recipe, float_model, crops, steps=1):
    """The same network fake-quantised, its ranges those of the crops."""
    model = fake_quant.build(recipe, float_model.output_shape[-1], steps)
    fake_quant.load_float_weights(model, float_model)
    model(as_floats(crops), training=True)
    fake_quant.settle(model)
    return model


@pytest.mark.parametrize("name", SMALL)
def test_every_architecture_becomes_integers_that_say_what_its_fake_quantized_network_says(
    name, crops, tmp_path
):
    """To the bit, where no sums of two activations are rounded (TensorFlow Lite's ADD)."""
    recipe = SMALL[name]
    float_model = settled(recipe, crops)
    model = fake_quantized(recipe, float_model, crops)
    content = quantize.quantized_content(recipe, model)
    convert.check_integer(content)
    expected = fake_quant.predict(model, crops)
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    classifier = Classifier(path)
    logits = np.stack([classifier.logits(crop) for crop in crops])
    steps = np.abs(logits - expected) / classifier.output.scale
    has_sums = recipe.network == "residual"
    if has_sums:
        assert (steps < 1.5).mean() > 0.97
        assert (logits.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95
    else:
        assert steps.max() < 0.01
    distance = np.abs(expected - loop.predict(float_model, crops)).mean()
    assert 0 < distance < 0.15 * expected.std()


def test_a_mobile_has_the_operators_that_run_fast_on_a_device_and_pixels_for_steps(crops, tmp_path):
    model = fake_quantized(MOBILE, settled(MOBILE, crops), crops)
    content = quantize.quantized_content(MOBILE, model)
    assert {operator.name for operator in tflite.operators(content)} == {
        "QUANTIZE", "CONV_2D", "DEPTHWISE_CONV_2D", "MEAN", "FULLY_CONNECTED",
    }  # fmt: skip
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    assert (Classifier(path)._steps_of_gray == np.arange(256)).all()


def test_each_channel_of_a_depthwise_kernel_has_its_own_steps(crops):
    float_model = settled(MOBILE, crops)
    depthwise = float_model.get_layer("depthwise_1")
    (kernel,) = depthwise.get_weights()
    factors = np.array([1000.0, *[1.0] * (kernel.shape[2] - 1)])
    depthwise.set_weights([kernel * factors[:, None]])
    model = fake_quant.build(MOBILE, 7)
    fake_quant.load_float_weights(model, float_model)
    folded = fake_quant.kernels(model, is_rounded=False)["depthwise_1"].kernel
    rounded = fake_quant.kernels(model, is_rounded=True)["depthwise_1"].kernel
    steps = np.abs(folded).max(axis=(0, 1, 3)) / 127
    assert (np.abs(rounded - folded).max(axis=(0, 1, 3)) <= 0.51 * steps).all()
    assert np.abs(rounded[:, :, 1:] - folded[:, :, 1:]).max() > 0


def test_post_training_quantization_measures_the_ranges_on_crops(crops, tmp_path):
    float_model = settled(MOBILE, crops)
    content = quantize.post_training_content(MOBILE, float_model, crops)
    convert.check_integer(content)
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    classifier = Classifier(path)
    logits = np.stack([classifier.logits(crop) for crop in crops])
    assert np.corrcoef(logits.ravel(), loop.predict(float_model, crops).ravel())[0, 1] > 0.98


def test_a_folded_layer_computes_what_convolution_and_normalisation_do(crops):
    float_model = settled(MOBILE, crops)
    model = fake_quant.build(MOBILE, 7)
    fake_quant.load_float_weights(model, float_model)
    kernel, bias = fake_quant.kernels(model, is_rounded=False)["conv_1"]
    expected = keras.Model(float_model.input, float_model.get_layer("conv_1_norm").output)
    values = keras.ops.conv(as_floats(crops[:4]), kernel, 1, "same", "channels_last")
    values = keras.ops.convert_to_numpy(values) + bias
    np.testing.assert_allclose(values, expected.predict(as_floats(crops[:4]), verbose=0), atol=1e-4)


def test_a_range_follows_slowly_and_freezes():
    layer = FakeQuantRange(steps=3)
    layer(np.array([[-1.0, 3.0]]), training=True)
    assert [float(value) for value in layer.get_weights()] == [-1, 3, 1]
    layer(np.array([[0.0, 5.0]]), training=True)
    low, high, _ = map(float, layer.get_weights())
    assert (low, high) == pytest.approx((-0.99, 3.02))
    for _ in range(2):
        layer(np.array([[-100.0, 100.0]]), training=True)
    low, high, count = map(float, layer.get_weights())
    assert (low, high, count) == pytest.approx((-0.99 * 0.99 - 1, 3.02 * 0.99 + 1, 4), abs=1e-3)
    layer(np.array([[-100.0, 100.0]]))
    assert float(layer.get_weights()[2]) == 4


def test_gradients_pass_rounding_and_not_clipping():
    import tensorflow as tf

    layer = FakeQuantRange(steps=1)
    layer(np.array([[0.0, 1.0]]), training=True)
    x = tf.constant([[0.3, 2.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(layer(x))
    assert tape.gradient(total, x).numpy().tolist() == [[1.0, 0.0]]


def test_the_gradient_of_a_kernel_reaches_normalisation_too():
    import tensorflow as tf

    layer = FakeQuantConvolution(None, 4, 3)
    x = tf.random.normal((2, 8, 8, 3), seed=1)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(x, training=True) ** 2)
    gradients = tape.gradient(total, [variable.value for variable in layer.trainable_variables])
    assert [variable.name for variable in layer.trainable_variables] == ["kernel", "gamma", "beta"]
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


def test_a_network_with_float_operators_is_refused(monkeypatch):
    operator = tflite.Operator("SOFTMAX", ("FLOAT32",), 0, (1, 7))
    monkeypatch.setattr(tflite, "operators", lambda content: [operator])
    with pytest.raises(RunError, match=r"float operators \(SOFTMAX\)"):
        convert.check_integer(b"")


def test_a_teacher_that_cannot_be_quantized_is_refused():
    with pytest.raises(RunError, match="`face` is a teacher"):
        fake_quant.build(recipes.TEACHER_FACE, 14)
