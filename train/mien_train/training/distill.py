"""Distillation (Hinton et al. 2015): a teacher's opinions on augmented views of the training rows, cached.

The student then sees the very views that the teacher judged (Beyer et al. 2021), so a teacher of any size costs one
pass a view, once for all students of the same augmentation.
"""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from mien_edge import schema
from numpy.typing import NDArray
from tqdm import tqdm

from mien_train.data import cache as data_cache
from mien_train.training import ensemble
from mien_train.training.recipes import Stage
from mien_train.training.run import Run
from mien_train.training.samples import TrainingSet, judged


def taught(run: Run, stage: Stage, material: TrainingSet) -> TrainingSet:
    """The material with the opinions of the run's teacher on `stage.views` views; asks the teacher for those that are
    not cached yet, so it goes on where a killed call was. Raises RunError where the teacher does not fit the run.
    """
    folder = run.teacher()
    assert folder is not None  # noqa: S101 - runs.begin has seen to it
    asked = ensemble.load(folder)
    ensemble.check_alike(str(run.folder), ensemble.of_run(run), str(folder), asked.members[0].facts)
    cache = folder / "opinions" / _key(run, stage)
    numbers = tqdm(range(stage.views), desc="asking the teacher", unit=" views", leave=False, disable=None)
    found = [_opinions(cache / f"{number:02d}.npz", asked, material, run, stage, number) for number in numbers]
    return replace(material, opinions=tuple(found), share=stage.taught)


def _key(run: Run, stage: Stage) -> str:
    """Names what the opinions depend on: the views' pictures, the rows, the teacher."""
    seen = {key: value for key, value in asdict(stage.augment).items() if key not in ("erase", "mixup")}
    facts = [
        seen,
        schema.to_dict(run.recipe.preprocess),
        run.recipe.seed,
        run.record["data"]["sha256"],
        run.record["split"],
    ]
    facts.append(run.record["teacher"]["sha256"])
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _opinions(
    path: Path, teacher: ensemble.Ensemble, material: TrainingSet, run: Run, stage: Stage, number: int
) -> NDArray[np.float16]:
    def asked() -> NDArray[np.float16]:
        view = judged(material, stage.augment, run.recipe.seed, number)
        return teacher(view(np.arange(len(material.images)))).astype(np.float16)

    return data_cache.kept(path, asked)
