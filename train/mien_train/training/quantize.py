"""From a float network to an int8 .tflite: quantisation-aware training (Jacob et al. 2018), or calibration only."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from mien_edge import files
from mien_edge.contract import as_floats
from mien_edge.errors import RunError
from mien_edge.model import tflite
from numpy.typing import NDArray

from mien_train.training import fit, loop, networks
from mien_train.training.run import OpenRun

CALIBRATION_ROWS = 500


def quantize(run: OpenRun) -> list[dict[str, float]]:
    """Quantisation-aware training from the fitted weights; resumes. Returns the history."""
    recipe, fitted = run.recipe, run.stage_folder("fit")
    weights = loop.best_weights(fitted)
    return loop.train(
        lambda: add_fake_quant(networks.build(recipe), weights),
        recipe.quantize,
        fit.training_set(run, recipe.quantize),
        run.stage_folder("quantize"),
        recipe.seed,
    )


def add_fake_quant(model: tf_keras.Model, weights: list[NDArray[Any]] | None = None) -> tf_keras.Model:
    """The network with fake quantisation (8 bits; one scale a channel, but one for a whole depthwise kernel)."""
    import tensorflow_model_optimization as tfmot

    if weights is not None:
        model.set_weights(weights)
        equalize_ranges(model)
    return tfmot.quantization.keras.quantize_model(model)


def equalize_ranges(model: tf_keras.Model) -> None:
    """Give all channels of a depthwise kernel the same range, and the difference to the normalisation after it, so that
    the network computes what it did; for fake quantisation has one scale for the whole of it (Nagel et al. 2019).
    """
    for kernel in model.layers:
        if isinstance(kernel, tf_keras.layers.DepthwiseConv2D):
            (scale,) = (node.layer for node in kernel.outbound_nodes)
            (values,) = kernel.get_weights()
            gamma, beta, mean, variance = scale.get_weights()
            ranges = np.abs(values).max(axis=(0, 1, 3))
            ranges = np.where(ranges > 0, ranges, 1)
            levelled = variance / ranges**2
            gain = ranges * np.sqrt((levelled + scale.epsilon) / (variance + scale.epsilon))
            kernel.set_weights([values / ranges[:, None]])
            scale.set_weights([gamma * gain, beta, mean / ranges, levelled])


def quantized_network(run: OpenRun, head: str, batch: int | None = None) -> tf_keras.Model:
    """The fake-quantised network as trained, with one of its heads."""
    model = add_fake_quant(networks.build(run.recipe, batch, heads=1))
    weights = loop.best_weights(run.stage_folder("quantize"))
    model.set_weights(networks.one_head(weights, model, run.recipe.heads.index(head)))
    return model


def convert(model: tf_keras.Model, calibration: NDArray[np.uint8] | None = None) -> bytes:
    """A full-integer .tflite (uint8 in, int8 out) of a model built for batch 1. A fake-quantised model brings its
    ranges along; a float model needs `calibration`, toned (n, s, s) uint8 crops, to measure them (post-training
    quantisation).
    """
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if calibration is not None:
        converter.representative_dataset = _representative(calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def _representative(crops: NDArray[np.uint8]) -> Callable[[], Iterator[list[Any]]]:
    def samples() -> Iterator[list[Any]]:
        for crop in crops[:CALIBRATION_ROWS]:
            yield [as_floats(crop[None])]

    return samples


def check_integer(content: bytes) -> None:
    """Raise RunError if any operator touches anything but integers."""
    floating = sorted(
        {each.name for each in tflite.operators(content) if any("FLOAT" in dtype for dtype in each.dtypes)}
    )
    if floating:
        raise RunError(f"the converted network has float operators ({', '.join(floating)}); change the recipe's layers")


def write_models(run: OpenRun, head: str) -> tuple[Path, Path]:
    """export/HEAD/qat.tflite and ptq.tflite of a run."""
    rows = run.split.train
    chosen = np.random.default_rng(run.recipe.seed).choice(rows, min(CALIBRATION_ROWS, len(rows)), replace=False)
    calibration = run.recipe.preprocess.normalize(run.dataset.images[np.sort(chosen)])
    folder = run.stage_folder("export") / head
    written = []
    for name, content in (
        ("qat", convert(quantized_network(run, head, batch=1))),
        ("ptq", convert(fit.float_network(run, head, batch=1), calibration)),
    ):
        check_integer(content)
        files.write_bytes(folder / f"{name}.tflite", content)
        written.append(folder / f"{name}.tflite")
    return written[0], written[1]
