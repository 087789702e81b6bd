"""From a float network to an int8 .tflite: quantization-aware training (Jacob et al. 2018), or
calibration only.
"""

from functools import partial
from pathlib import Path

import keras
import numpy as np
from mien_edge import files

from mien_train.arrays import Array, Floats, Pixels
from mien_train.training import fake_quant, fit, loop, networks
from mien_train.training.recipes import Recipe
from mien_train.training.run import OpenRun

_FROZEN_FROM = 0.5  # share of the training after which the ranges of activations stay


def quantize(run: OpenRun) -> list[dict[str, float]]:
    """Train the run's network with fake quantization, from the fitted weights, or resume it.
    Returns the history, one entry an epoch. Raises RunError before `fit`.
    """
    recipe = run.recipe
    stage = recipe.quantize
    weights = loop.best_weights(run.stage_folder("fit"))
    training = fit.training_set(run, stage)
    steps = stage.epochs * (len(training) // stage.batch_size)
    return loop.train(
        partial(_build_from_float, recipe, weights, run.outputs, int(steps * _FROZEN_FROM)),
        stage,
        training,
        run.stage_folder("quantize"),
        recipe.seed,
        predictor=partial(_predict_settled, recipe),
    )


def quantized_network(run: OpenRun, head: str) -> keras.Model:
    """Return the fake-quantized network as trained, with one of its heads, settled (see
    fake_quant.settle): its .tflite computes what it does, to the bit. Raises RunError before
    `quantize`.
    """
    outputs = run.outputs_of(head)
    model = fake_quant.build(run.recipe, outputs.stop - outputs.start)
    weights = loop.best_weights(run.stage_folder("quantize"))
    model.set_weights(networks.one_head(weights, model, outputs))
    fake_quant.settle(model)
    return model


def post_training_content(recipe: Recipe, float_model: keras.Model, calibration: Pixels) -> bytes:
    """Return a full-integer .tflite of a float network, its ranges measured on normalized (n, s, s)
    crops.
    """
    from mien_train.training import convert

    outputs = float_model.output_shape[-1]
    model = fake_quant.build(recipe, outputs)
    fake_quant.load_float_weights(model, float_model)
    kernels = fake_quant.kernels(model, is_rounded=False)
    return convert.convert_float(recipe, outputs, kernels, calibration)


def quantized_content(recipe: Recipe, model: keras.Model) -> bytes:
    """Return a full-integer .tflite of a fake-quantized network."""
    from mien_train.training import convert

    kernels = fake_quant.kernels(model, is_rounded=True)
    ranges = fake_quant.ranges(model)
    return convert.convert_fake_quantized(recipe, model.output_shape[-1], kernels, ranges)


def write_models(run: OpenRun, head: str) -> tuple[Path, Path]:
    """Write export/HEAD/qat.tflite and ptq.tflite of a run; return their paths.

    Raises RunError before `quantize`, or for a network with float operators.
    """
    from mien_train.training import convert

    folder = run.stage_folder("export") / head
    float_model = fit.float_network(run, head)
    qat = quantized_content(run.recipe, quantized_network(run, head))
    ptq = post_training_content(run.recipe, float_model, _calibration_crops(run))
    for name, content in (("qat", qat), ("ptq", ptq)):
        convert.check_integer(content)
        files.write_bytes(folder / f"{name}.tflite", content)
    return folder / "qat.tflite", folder / "ptq.tflite"


def _build_from_float(
    recipe: Recipe, weights: list[Array], outputs: int, steps: int
) -> keras.Model:
    float_model = networks.build(recipe, outputs)
    float_model.set_weights(weights)
    model = fake_quant.build(recipe, outputs, steps)
    fake_quant.load_float_weights(model, float_model)
    return model


def _predict_settled(recipe: Recipe, model: keras.Model, crops: Pixels) -> Floats:
    """Return the (n, outputs) logits of the network as it would ship, by which an epoch is chosen:
    a settled one differs in a few labels of a thousand.
    """
    settled = fake_quant.build(recipe, model.output_shape[-1])
    settled.set_weights(model.get_weights())
    fake_quant.settle(settled)
    return fake_quant.predict(settled, crops)


def _calibration_crops(run: OpenRun) -> Pixels:
    """Return normalized (n, s, s) crops of up to CALIBRATION_ROWS training rows, drawn with the
    run's seed.
    """
    from mien_train.training import convert

    train = run.split.train
    count = min(convert.CALIBRATION_ROWS, len(train))
    rows = np.random.default_rng(run.recipe.seed).choice(train, count, replace=False)
    return run.recipe.preprocess.normalize(run.dataset.images[np.sort(rows)])
