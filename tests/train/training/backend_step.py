"""Trains a minute network for two epochs on the backend that KERAS_BACKEND names, and writes its weights.

backend_step.py FOLDER [float|quantize]
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
from mien_edge.contract import Preprocess
from mien_train.data.strengths import Augment
from mien_train.training import fake_quant, loop, networks, recipes, workers
from mien_train.training.samples import TrainingSet

RECIPE = replace(
    recipes.EDGE,
    arguments={"widths": (8, 16, 16), "halving": (1,)},
    preprocess=Preprocess(24, 0.0, "none"),
)


def training_set(rows=192):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (rows, 24, 24), np.uint8)
    targets = np.concatenate([rng.dirichlet(np.ones(7), rows), rng.dirichlet(np.ones(3), rows)], 1)
    labels = np.stack([rng.integers(0, 7, rows), rng.integers(-1, 3, rows)], 1).astype(np.int8)
    return TrainingSet(
        images, targets.astype(np.float32), (7, 3), images[:32], labels[:32], RECIPE.preprocess
    )


def first_weights():
    """Weights that are the same on every backend."""
    model = networks.build(RECIPE, 10)
    rng = np.random.default_rng(1)
    weights = []
    for values in model.get_weights():
        spread = 1 / np.sqrt(max(np.prod(values.shape[:-1]), 1))
        # A kernel is random; a normalisation's weights stay ones and zeros.
        is_kernel = values.ndim > 1
        weights.append(rng.normal(0, spread, values.shape) if is_kernel else values)
    return weights


def initialize(kind, model, training):
    if kind == "float":
        model.set_weights(first_weights())
        return
    float_model = networks.build(RECIPE, 10)
    float_model.set_weights(first_weights())
    fake_quant.load_float_weights(model, float_model)


def main(folder, kind):
    workers.join()
    if kind == "float":
        build = partial(networks.build, RECIPE, 10)
    else:
        build = partial(fake_quant.build, RECIPE, 10, 6)
    stage = replace(
        recipes.TINY.fit, epochs=2, batch_size=48, ema_decay=0.9, augment=Augment(erase=0.3)
    )
    start = partial(initialize, kind)
    loop.train(build, stage, training_set(), folder, seed=0, initialize=start)
    sys.stdout.write(f"{keras.backend.backend()} {'tensorflow' in sys.modules}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
