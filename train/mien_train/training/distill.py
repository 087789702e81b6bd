"""Distillation (Hinton et al. 2015): a teacher's probabilities on augmented views of the training
rows, cached.

The student then sees the very views that the teacher saw (Beyer et al. 2021), so a teacher of any
size costs one pass a view, once for all students of the same augmentation.
"""

import hashlib
import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
from mien_edge import schema
from mien_edge.errors import RunError
from numpy.typing import NDArray

from mien_train.data import cache, splits
from mien_train.progress import progress
from mien_train.training import ensemble
from mien_train.training.ensemble import Ensemble
from mien_train.training.recipes import Stage
from mien_train.training.run import OpenRun
from mien_train.training.samples import TrainingSet, View, teacher_view

_FOLDER = "soft-targets"
_EARLIER_FOLDER = "opinions"


def with_soft_targets(run: OpenRun, stage: Stage, training: TrainingSet) -> TrainingSet:
    """Return the training set with the probabilities of the run's teacher on `stage.teacher_views`
    views.

    Views that are not cached yet are computed and cached one by one, so a killed call is continued
    by the next. Raises RunError where the run has no teacher, or one with other facts.
    """
    teacher = run.teacher
    if teacher is None:
        raise RunError(
            f"{run.folder}: this stage is distilled, and its run has no teacher; "
            "begin another with --teacher"
        )
    ensemble.check_alike(str(run.folder), run.facts, str(teacher.folder), teacher.facts)
    folder = _cache_folder(teacher) / _cache_key(run, stage)
    numbers = range(stage.teacher_views)
    probabilities = []
    for number in progress(numbers, "computing soft targets", "views"):
        view = teacher_view(training, stage.augment, run.recipe.seed, number)
        path = folder / f"{number:02d}.npz"
        cached = cache.cached(path, partial(_predict, teacher, view))
        # Earlier versions kept the heads on an axis of their own.
        probabilities.append(cached.reshape(len(training), -1))
    return replace(
        training,
        teacher_probabilities=tuple(probabilities),
        distillation_weight=stage.distillation_weight,
    )


def _cache_folder(teacher: Ensemble) -> Path:
    """Return where a teacher's soft targets are cached, perhaps by an earlier version."""
    earlier = teacher.folder / _EARLIER_FOLDER
    return earlier if earlier.is_dir() else teacher.folder / _FOLDER


def _cache_key(run: OpenRun, stage: Stage) -> str:
    """Return 16 hexadecimal digits that name what soft targets depend on: the views, the rows, the
    teacher.
    """
    strengths = asdict(stage.augment)
    for later in ("erase", "mixup"):  # what the teacher does not see
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


def _predict(teacher: Ensemble, view: View) -> NDArray[np.float16]:
    rows = np.arange(len(view))
    return teacher(view(rows)).astype(np.float16)
