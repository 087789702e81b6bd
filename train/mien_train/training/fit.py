"""Float training of a run."""

import tf_keras

from mien_train.training import distill, loop, networks, pretrained, prune
from mien_train.training import samples as materials
from mien_train.training import start as starts
from mien_train.training.recipes import Stage
from mien_train.training.run import Run
from mien_train.training.samples import TrainingSet


def fit(run: Run) -> list[dict[str, float]]:
    """Train the run's float network; resumes. Returns the history."""
    recipe = run.recipe
    path, teacher = run.pretrained(), run.teacher()
    source = starts.source(recipe, teacher) if teacher and recipe.starts_from_teacher else None
    given = material(run, recipe.fit)

    def start(model: tf_keras.Model) -> None:
        crops = given.preprocess.normalize(given.images)
        if path:
            pretrained.start(model, path, crops)
        elif source and source.has_shape_of(recipe):
            model.set_weights(source.weights)
        elif source:
            prune.prune(model, source.network(), crops)

    def build() -> tf_keras.Model:
        return networks.build(recipe, precision=recipe.precision)

    return loop.train(build, recipe.fit, given, run.stage("fit"), recipe.seed, start=start if recipe.start else None)


def fitted(run: Run, head: str, batch: int | None = None) -> tf_keras.Model:
    """The trained float network with one of its heads."""
    model = networks.build(run.recipe, batch, heads=1)
    weights = loop.best_weights(run.stage("fit"))
    model.set_weights(networks.one_head(weights, model, run.recipe.heads.index(head)))
    return model


def material(run: Run, stage: Stage) -> TrainingSet:
    """The run's training and validation rows, with the teacher's opinions where the stage is taught."""
    dataset = run.dataset()
    made = materials.of(dataset, run.split(dataset), run.recipe.heads, run.recipe.preprocess, stage.smoothing)
    return distill.taught(run, stage, made) if stage.taught else made
