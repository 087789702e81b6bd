"""Float training of a run."""

import tf_keras

from mien_train import augment, loop, networks, runs
from mien_train.recipes import Recipe, Stage
from mien_train.runs import Run


def build(recipe: Recipe, batch: int | None = None) -> tf_keras.Model:
    """The recipe's float network with fresh weights."""
    return getattr(networks, recipe.network)(size=recipe.preprocess.size, batch=batch, **recipe.arguments)


def fit(run: Run) -> list[dict[str, float]]:
    """Train the run's float network, after the recipe that it starts from; resumes. Returns the history."""
    recipe, weights = run.recipe, None
    if recipe.start:
        base = runs.base(run)
        fit(base)
        weights = loop.best_weights(base.stage("fit"))

    def started() -> tf_keras.Model:
        model = build(recipe)
        if weights is not None:
            model.set_weights(weights)
        return model

    return loop.train(started, recipe.fit, material(run, recipe.fit), run.stage("fit"), recipe.seed)


def fitted(run: Run, batch: int | None = None) -> tf_keras.Model:
    """The trained float network."""
    model = build(run.recipe, batch)
    model.set_weights(loop.best_weights(run.stage("fit")))
    return model


def material(run: Run, stage: Stage) -> loop.Material:
    """The run's training and validation rows."""
    dataset = run.dataset()
    parts = run.split(dataset)
    train, validation = dataset.take(parts.train), dataset.take(parts.validation)
    targets = augment.soft_targets(train.labels, stage.smoothing)
    return loop.Material(train.images, targets, validation.images, validation.labels, run.recipe.preprocess)
