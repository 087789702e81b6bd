"""From a float network to an int8 .tflite: quantization-aware training (Jacob et al. 2018), or
calibration only.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from mien_edge import files
from mien_edge.contract import as_floats
from mien_edge.errors import RunError
from mien_edge.model import tflite

from mien_train.arrays import Array, Pixels
from mien_train.training import fit, loop, networks
from mien_train.training.recipes import Recipe
from mien_train.training.run import OpenRun

CALIBRATION_ROWS = 500


def quantize(run: OpenRun) -> list[dict[str, float]]:
    """Train the run's network with fake quantization, from the fitted weights, or resume it.
    Returns the history, one entry an epoch. Raises RunError before `fit`.
    """
    recipe = run.recipe
    weights = loop.best_weights(run.stage_folder("fit"))
    return loop.train(
        partial(_build_fake_quant, recipe, weights),
        recipe.quantize,
        fit.training_set(run, recipe.quantize),
        run.stage_folder("quantize"),
        recipe.seed,
    )


def add_fake_quant(model: tf_keras.Model) -> tf_keras.Model:
    """Return the network with fake quantization: 8 bits; one scale a channel, but one for a whole
    depthwise kernel.
    """
    import tensorflow_model_optimization as tfmot

    return tfmot.quantization.keras.quantize_model(model)


def equalize_ranges(model: tf_keras.Model) -> None:
    """Give all channels of a depthwise kernel the same range, and the difference to the
    normalization after it, so that the network computes what it did, because fake quantization has
    one scale for all of them (cross-layer equalization, Nagel et al. 2019).
    """
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.DepthwiseConv2D):
            _equalize(layer)


def quantized_network(run: OpenRun, head: str, batch: int | None = None) -> tf_keras.Model:
    """Return the fake-quantized network as trained, with one of its heads. batch: a fixed batch
    size, for export.
    """
    model = add_fake_quant(networks.build(run.recipe, batch, heads=1))
    weights = loop.best_weights(run.stage_folder("quantize"))
    model.set_weights(networks.one_head(weights, model, run.recipe.heads.index(head)))
    return model


def convert(model: tf_keras.Model, calibration: Pixels | None = None) -> bytes:
    """Return a full-integer .tflite (uint8 in, int8 out) of a model built for batch 1.

    calibration: normalized (n, s, s) uint8 crops to measure a float model's ranges on
    (post-training quantization); a fake-quantized model brings its ranges along.
    """
    with tempfile.TemporaryDirectory(prefix="mien-convert-") as folder:
        _save_function(model, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if calibration is not None:
            converter.representative_dataset = partial(_representative_dataset, calibration)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.int8
        return bytes(converter.convert())


def check_integer(content: bytes) -> None:
    """Raise RunError if any operator of a .tflite touches anything but integers."""
    floating = set()
    for operator in tflite.operators(content):
        if any("FLOAT" in dtype for dtype in operator.dtypes):
            floating.add(operator.name)
    if floating:
        names = ", ".join(sorted(floating))
        raise RunError(
            f"the converted network has float operators ({names}); change the recipe's layers"
        )


def write_models(run: OpenRun, head: str) -> tuple[Path, Path]:
    """Write export/HEAD/qat.tflite and ptq.tflite of a run; return their paths.

    Raises RunError before `quantize`, or for a network with float operators.
    """
    folder = run.stage_folder("export") / head
    qat = convert(quantized_network(run, head, batch=1))
    ptq = convert(fit.float_network(run, head, batch=1), _calibration_crops(run))
    for name, content in (("qat", qat), ("ptq", ptq)):
        check_integer(content)
        files.write_bytes(folder / f"{name}.tflite", content)
    return folder / "qat.tflite", folder / "ptq.tflite"


def _build_fake_quant(recipe: Recipe, weights: list[Array]) -> tf_keras.Model:
    model = networks.build(recipe)
    model.set_weights(weights)
    equalize_ranges(model)
    return add_fake_quant(model)


def _equalize(depthwise: tf_keras.layers.DepthwiseConv2D) -> None:
    (batch_norm,) = (node.layer for node in depthwise.outbound_nodes)
    (kernel,) = depthwise.get_weights()  # (3, 3, channels, 1)
    gamma, beta, mean, variance = batch_norm.get_weights()
    ranges = np.abs(kernel).max(axis=(0, 1, 3))
    ranges = np.where(ranges > 0, ranges, 1)
    new_variance = variance / ranges**2
    gain = ranges * np.sqrt((new_variance + batch_norm.epsilon) / (variance + batch_norm.epsilon))
    depthwise.set_weights([kernel / ranges[:, None]])
    batch_norm.set_weights([gamma * gain, beta, mean / ranges, new_variance])


def _save_function(model: tf_keras.Model, folder: str) -> None:
    """Save what the model computes, and nothing else of it.

    TFLiteConverter.from_keras_model, which gives the same .tflite, saves a function of every layer
    beside it: that takes longer than all the rest.
    """
    (name,) = model.output_names
    (inputs,) = model.inputs
    module = tf.Module()
    module.variables_of_model = model.variables
    module.predict = tf.function(
        lambda crops: {name: model(crops, training=False)},
        input_signature=[tf.TensorSpec(inputs.shape, inputs.dtype, name=model.input_names[0])],
    )
    options = tf.saved_model.SaveOptions(save_debug_info=True)
    signature = module.predict.get_concrete_function()
    tf.saved_model.save(module, folder, signatures=signature, options=options)


def _calibration_crops(run: OpenRun) -> Pixels:
    """Return normalized (n, s, s) crops of up to CALIBRATION_ROWS training rows, drawn with the
    run's seed.
    """
    train = run.split.train
    count = min(CALIBRATION_ROWS, len(train))
    rows = np.random.default_rng(run.recipe.seed).choice(train, count, replace=False)
    return run.recipe.preprocess.normalize(run.dataset.images[np.sort(rows)])


def _representative_dataset(crops: Pixels) -> Iterator[list[Any]]:
    for crop in crops[:CALIBRATION_ROWS]:
        yield [as_floats(crop[None])]
