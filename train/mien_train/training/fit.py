"""Float training of a run."""

from functools import partial
from pathlib import Path

import keras

from mien_train.training import (
    distill,
    finetune,
    loop,
    networks,
    pretrained,
    prune,
    samples,
    start,
)
from mien_train.training.ensemble import Member
from mien_train.training.recipes import Stage
from mien_train.training.run import OpenRun
from mien_train.training.samples import TrainingSet


def fit(run: OpenRun) -> list[dict[str, float]]:
    """Train the run's float network, or resume it. Returns the history, one entry an epoch."""
    recipe = run.recipe
    initialize = _initializer(run)
    build = partial(networks.build, recipe, run.outputs, recipe.precision)
    training = training_set(run, recipe.fit)
    folder = run.stage_folder("fit")
    if not recipe.fit.epochs:
        loop.keep_first_weights(build, training, folder, recipe.seed, initialize)
        return []
    return loop.train(build, recipe.fit, training, folder, recipe.seed, initialize=initialize)


def float_network(run: OpenRun, head: str) -> keras.Model:
    """Return the trained float network with one of its heads. Raises RunError before `fit`."""
    outputs = run.outputs_of(head)
    model = networks.build(run.recipe, outputs.stop - outputs.start)
    weights = loop.best_weights(run.stage_folder("fit"))
    model.set_weights(networks.one_head(weights, model, outputs))
    return model


def training_set(run: OpenRun, stage: Stage) -> TrainingSet:
    """Return the run's training and validation rows, with the teacher's soft targets where the
    stage is distilled.
    """
    recipe = run.recipe
    training = samples.training_set(
        run.dataset,
        run.split,
        run.heads,
        recipe.preprocess,
        stage.label_smoothing,
    )
    if recipe.cross_validated:
        return finetune.with_earlier_knowledge(run, stage, training)
    if not stage.distillation_weight:
        return training
    return distill.with_soft_targets(run, stage, training)


def _initializer(run: OpenRun) -> loop.Initializer | None:
    """Return what gives the network its weights before the first epoch, or None for random ones."""
    path = run.pretrained
    if path:
        return partial(_load_pretrained, path)
    if run.bundle:
        return partial(finetune.initialize, run.bundle, run.heads[0].labels)
    if not (run.recipe.starts_from_teacher and run.teacher):
        return None
    member = start.initial_member(run.recipe, run.teacher)
    if member.has_shape_of(run.recipe):
        return partial(_copy_weights, member)
    return partial(_prune_weights, member)


def _load_pretrained(path: Path, model: keras.Model, training: TrainingSet) -> None:
    pretrained.load_weights(model, path, training.crops())


def _copy_weights(member: Member, model: keras.Model, training: TrainingSet) -> None:
    outputs = model.output_shape[-1]
    size = member.facts.head_sizes[0]
    model.set_weights(networks.more_heads(member.weights, outputs, size))


def _prune_weights(member: Member, model: keras.Model, training: TrainingSet) -> None:
    prune.prune(model, member.network(), training.crops(), member.facts.head_sizes[0])
