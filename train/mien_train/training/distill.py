"""Distillation (Hinton et al. 2015): a teacher's probabilities on augmented views of the training
rows, cached.

The student then sees the very views that the teacher saw (Beyer et al. 2021), so a teacher of any
size costs one pass a view, once for all students of the same augmentation.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
from mien_edge import schema
from mien_edge.errors import RunError
from numpy.typing import NDArray

from mien_train.arrays import Array, Mask, Pixels
from mien_train.data import cache, splits
from mien_train.data.heads import head_probabilities
from mien_train.progress import progress
from mien_train.training import derived, ensemble, loop, networks
from mien_train.training.ensemble import Ensemble
from mien_train.training.package_network import PackageNetwork
from mien_train.training.recipes import Stage
from mien_train.training.run import OpenRun
from mien_train.training.samples import TrainingSet, View, teacher_view

_Derive = Callable[[NDArray[np.float16], Mask], NDArray[np.float16]]

_LEAST = 1e-6  # of a probability, before its logarithm is taken
_FOLDER = "soft-targets"
_EARLIER_FOLDER = "opinions"


def with_soft_targets(run: OpenRun, stage: Stage, training: TrainingSet) -> TrainingSet:
    """Return the training set with the probabilities of the stage's teacher on
    `stage.teacher_views` views.

    Views that are not cached yet are computed and cached one by one, so a killed call is continued
    by the next. Raises RunError where the run has no teacher, or one with other facts.
    """
    if stage.distilled_from == "fit":
        folder = run.stage_folder("quantize") / _FOLDER
        return _with_views(run, stage, training, folder, _fitted_teacher(run))
    teacher = run.teacher
    if teacher is None:
        raise RunError(
            f"{run.folder}: this stage is distilled, and its run has no teacher; "
            "begin another with --teacher"
        )
    ensemble.check_alike(str(run.folder), run.facts, str(teacher.folder), teacher.facts)
    folder = _cache_folder(teacher) / _cache_key(run, stage)
    derive = _deriver(run, teacher, training, folder)
    return _with_views(run, stage, training, folder, teacher, derive)


def _with_views(
    run: OpenRun,
    stage: Stage,
    training: TrainingSet,
    folder: Path,
    teacher: Callable[[Pixels], Array],
    derive: _Derive | None = None,
) -> TrainingSet:
    """Return the training set with a teacher's (n, outputs) probabilities of the crops of each of a
    stage's views, cached in the folder.

    derive: adds what derived heads learn to a teacher's (n, outputs) probabilities; it is told
    which rows are mixtures.
    """
    probabilities = []
    mixed_rows = []
    for number in progress(range(stage.teacher_views), "computing soft targets", "views"):
        view = teacher_view(training, stage.augment, run.recipe.seed, number)
        cached = cache.cached(folder / f"{number:02d}.npz", partial(_predict, teacher, view))
        # Earlier versions kept the heads on an axis of their own.
        values = cached.reshape(len(training), -1)
        is_mixture = view.mixtures.is_mixture
        probabilities.append(derive(values, is_mixture) if derive else values)
        mixed_rows.append(is_mixture)
    return replace(
        training,
        teacher_probabilities=tuple(probabilities),
        mixed_rows=tuple(mixed_rows),
        distillation_weight=stage.distillation_weight,
    )


def _deriver(
    run: OpenRun, teacher: Ensemble, training: TrainingSet, folder: Path
) -> _Derive | None:
    """Return what adds, to a teacher's (n, outputs) probabilities on a view, those that the run's
    derived heads learn; None where there are none. They learn nothing of mixtures, for which there
    are no packages' probabilities.
    """
    missing = len(run.heads) - len(teacher.facts.heads)
    if not missing:
        return None
    sizes = teacher.facts.head_sizes
    head_priors = derived.priors(training.targets[:, : sum(sizes)], sizes)
    packages = _package_probabilities(teacher, training, folder)

    def derive(probabilities: NDArray[np.float16], is_mixture: Mask) -> NDArray[np.float16]:
        own = derived.probabilities(probabilities, teacher.facts.heads, head_priors, packages)
        own[is_mixture] = 0
        return np.concatenate([probabilities, *[own.astype(np.float16)] * missing], axis=1)

    return derive


def _package_probabilities(
    teacher: Ensemble, training: TrainingSet, folder: Path
) -> NDArray[np.float16] | None:
    """Return the (n, labels) mean log-probabilities of the teacher's networks out of packages on
    the pictures as they are; None where there are none.
    """
    if not teacher.packages:
        return None
    crops = training.crops()
    means = []
    for package in teacher.packages:
        path = folder / f"package-{package.name}.npz"
        means.append(cache.cached(path, partial(_log_probabilities, package, crops)))
    return np.mean(means, axis=0)


def _log_probabilities(package: PackageNetwork, crops: Pixels) -> NDArray[np.float16]:
    mirrored = np.ascontiguousarray(crops[:, :, ::-1])
    both = [package.probabilities(crops), package.probabilities(mirrored)]
    return np.mean([np.log(np.maximum(own, _LEAST)) for own in both], axis=0).astype(np.float16)


def _cache_folder(teacher: Ensemble) -> Path:
    """Return where a teacher's soft targets are cached, perhaps by an earlier version."""
    earlier = teacher.folder / _EARLIER_FOLDER
    return earlier if earlier.is_dir() else teacher.folder / _FOLDER


def _cache_key(run: OpenRun, stage: Stage) -> str:
    """Return 16 hexadecimal digits that name what soft targets depend on: the views, the rows, the
    teacher.
    """
    strengths = asdict(stage.augment)
    for unseen in ("erase", "mixup"):  # by the teacher
        del strengths[unseen]
    for later in ("blend", "splice"):  # so that earlier caches are still found
        if not strengths[later]:
            del strengths[later]
    values = [
        strengths,
        schema.to_dict(run.recipe.preprocess),
        run.recipe.seed,
        run.record["data"]["sha256"],
        splits.first_split_name(run.record["split"]),  # so that earlier caches are still found
        run.record["teacher"]["sha256"],
    ]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _predict(teacher: Callable[[Pixels], Array], view: View) -> NDArray[np.float16]:
    rows = np.arange(len(view))
    return teacher(view(rows)).astype(np.float16)


def _fitted_teacher(run: OpenRun) -> Callable[[Pixels], Array]:
    """Return what computes the probabilities of crops as the run's float network does."""
    model = networks.build(run.recipe, run.outputs)
    model.set_weights(loop.best_weights(run.stage_folder("fit")))
    sizes = [len(head.labels) for head in run.heads]
    return lambda crops: head_probabilities(loop.predict(model, crops), sizes, [1.0] * len(sizes))
