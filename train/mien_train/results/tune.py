"""`mien-train tune`: a search over networks and training with Optuna, for accuracy against cost.

Three objectives: validation accuracy, multiply-accumulates, and measured milliseconds of the int8
file. Optuna prunes studies of one objective only, so successive halving (ASHA, Li et al. 2018) is
done here, on the Pareto rank: at each rung a trial is promoted if it is among the best third by how
many others are better and cost no more.

A study is one journal file, or lies in a database (`tune_storage`). Any number of processes and
machines may work on it as long as they share its folder. There each trial has its checkpoints and a
lock; the lock of a killed process falls free, and whoever resumes continues its trial where it was.
"""

import dataclasses
import fcntl
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from mien_edge import files
from mien_edge.contract import LABELS
from mien_edge.errors import RunError
from mien_edge.formats import csv_line
from mien_edge.model import tflite
from mien_edge.model.profile import invoke_milliseconds
from optuna import Study
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import BaseTrial, FrozenTrial, Trial, TrialState

from mien_train import html, plots
from mien_train.data import heads
from mien_train.data.read import Dataset
from mien_train.data.splits import Split, current_split_name, split_dataset
from mien_train.data.strengths import Augment
from mien_train.plots import TrialPoint
from mien_train.progress import Progress
from mien_train.results.tune_storage import DATABASE_ERRORS, open_storage, require_folder
from mien_train.training import loop, networks, quantize, samples
from mien_train.training.recipes import Recipe, Stage, parse_recipe

STUDY = "mien"
RUNGS = (1, 3, 9)
"""Epochs after which a trial is compared; the last is its complete training."""
REDUCTION_FACTOR = 3
"""ASHA's eta: one trial in so many is promoted to the next rung."""

_MACS = "M MACs"
_MILLISECONDS = "milliseconds"
_STOPPED = "stopped"
_DIRECTIONS = (
    StudyDirection.MAXIMIZE,
    StudyDirection.MINIMIZE,
    StudyDirection.MINIMIZE,
)
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_MIN_TRIALS = 4  # trained to the end, before importances say anything
_COST_CROPS = 50  # random crops that the int8 file is calibrated with to measure its cost

_AMOUNTS = ("rotate", "scale", "shift", "brightness", "contrast", "gamma", "noise")
"""Fields of Augment that are amounts; the others are probabilities."""
_MAX_PROBABILITY = 0.9


def _tpe(seed: int) -> BaseSampler:
    return TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _nsga2(seed: int) -> BaseSampler:
    return NSGAIISampler(seed=seed)


def _random(seed: int) -> BaseSampler:
    return RandomSampler(seed=seed)


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": _tpe,
    "nsga2": _nsga2,
    "random": _random,
}
"""Optuna's samplers by name, each to be made with a seed."""


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """What all trials of a study have in common.

    base: the recipe that trials vary. dataset, split: the rows that they train and validate on.
    folder: the study's.
    max_macs: million multiply-accumulates above which a network is not trained.
    """

    base: Recipe
    dataset: Dataset
    split: Split
    folder: Path
    max_macs: float

    def trial_folder(self, number: int) -> Path:
        """Where a trial's checkpoints and lock are."""
        return _trial_folder(self.folder, number)


class Cost(NamedTuple):
    """Of a network as int8 file: million multiply-accumulates, and milliseconds on this machine
    with one thread.
    """

    macs: float
    milliseconds: float


class TrialTable(NamedTuple):
    """The columns' names, and a row of cells for each trial."""

    header: list[str]
    rows: list[list[str]]


def open_study(
    folder: Path,
    url: str,
    sampler: str,
    seed: int,
    resume: bool,
    config: dict[str, Any],
    name: str = STUDY,
) -> Study:
    """Begin the study of a folder, or open it again.

    url: see `open_storage`. sampler: one of SAMPLERS. config: what its trials have in common, see
    `study_config`. name: what it is called in its storage.

    Raises RunError where there is one and `resume` is false, there is none and it is true, or its
    config or its folder is another; and as `open_storage` does.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_storage(folder, url)
    exists = name in optuna.get_all_study_names(storage)
    place = f"the database's study {name!r}" if url else str(folder)
    if exists and not resume:
        another = "--study" if url else "--folder"
        raise RunError(f"{place} exists; continue it with --resume, or name another {another}")
    if resume and not exists:
        raise RunError(f"{place}: no study to resume; begin one without --resume")
    if not exists and (folder / "trials").exists():
        raise RunError(f"{folder} holds the trials of another study; name another --folder")
    study = optuna.create_study(
        storage=storage,
        sampler=SAMPLERS[sampler](seed),
        study_name=name,
        load_if_exists=True,
        directions=_DIRECTIONS,
    )
    if not exists:
        for key, value in config.items():
            study.set_user_attr(key, value)
    if url:
        require_folder(study, folder)
    _check_config(study, config, folder)
    return study


def study_config(base: Recipe, dataset: Dataset, split_name: str, max_rows: int) -> dict[str, Any]:
    """What makes trials comparable, as JSON's values: the recipe that they vary, the data, the
    split, its rows.
    """
    return {
        "recipe": base.to_dict(),
        "data": dataset.sha256,
        "split": split_name,
        "rows": max_rows,
    }


def study_split(dataset: Dataset, split_name: str, max_rows: int) -> Split:
    """The split that all trials train and validate on.

    split_name: one of splits.SPLITS. max_rows: train on so many random rows of it, the same each
    time; 0 for all.
    """
    split = split_dataset(dataset, split_name)
    shuffled = np.random.default_rng(0).permutation(split.train)
    rows = shuffled[: max_rows or None]
    return dataclasses.replace(split, train=np.sort(rows))


def suggest_recipe(trial: BaseTrial, base: Recipe) -> Recipe:
    """The recipe that a trial's choices make of `base`."""
    # A random sampler draws the suggestions one after the other, so their order is part of a
    # seed's result.
    block = trial.suggest_categorical("block", ["basic", "bottleneck", "inverted"])
    width = trial.suggest_int("width", 16, 40, step=8)
    growth = trial.suggest_float("growth", 1.5, 2.0, step=0.25)
    depths = [trial.suggest_int(f"depth {stage}", 1, 3) for stage in range(1, 5)]
    widths = [8 * round(width * growth**stage / 8) for stage in range(4)]
    return dataclasses.replace(
        base,
        network="residual",
        arguments={"stem": 16, "widths": widths, "depths": depths, "block": block},
        fit=_suggest_stage(trial, base.fit),
        precision="float32" if block == "inverted" else "mixed_bfloat16",
    )


def strengthen(augment: Augment, factor: float, mixup: float) -> Augment:
    """Multiply all strengths by `factor`, probabilities to 0.9 at most; `flip` stays, `mixup` is
    set.
    """
    strengths = {}
    for name, value in dataclasses.asdict(augment).items():
        strengths[name] = value * factor
        if name not in _AMOUNTS:
            strengths[name] = min(value * factor, _MAX_PROBABILITY)
    strengths["flip"] = augment.flip
    strengths["mixup"] = mixup
    return Augment(**strengths)


def run_trials(study: Study, space: SearchSpace, count: int) -> None:
    """Run trials until `count` of the study are finished, those of killed processes first.

    The study's tables and pictures are written after each. What a trial raises is recorded with it,
    and raised.
    """
    finished = _count_finished(study)
    with Progress("tuning", "trials", count, finished) as shown:
        while finished < count:
            with _own_trial(study, space.folder) as trial:
                try:
                    _run_trial(study, trial, space)
                except DATABASE_ERRORS:  # no fault of the trial, which goes on with --resume
                    raise
                except Exception as problem:
                    reason = f"{type(problem).__name__}: {problem}"
                    _stop(study, trial, reason, TrialState.FAIL)
                    raise
            report(study, space.folder)
            before = finished
            finished = _count_finished(study)
            shown.update(finished - before)


def measure_cost(recipe: Recipe, folder: Path) -> Cost:
    """Convert the recipe's network with fresh weights to `folder`/model.tflite, and measure it."""
    size = recipe.preprocess.size
    noise = np.random.default_rng(0).integers(0, 256, (_COST_CROPS, size, size), np.uint8)
    content = quantize.post_training_content(recipe, networks.build(recipe, len(LABELS)), noise)
    path = folder / "model.tflite"
    files.write_bytes(path, content)
    macs = sum(operator.macs for operator in tflite.operators(content)) / 1e6
    return Cost(round(macs, 3), round(invoke_milliseconds(path), 4))


def is_promoted(trials: Sequence[FrozenTrial], number: int, epochs: int) -> bool:
    """Whether the trial of that number is in the best third of those that reached the rung of
    `epochs`.

    They are ordered by Pareto rank: by how many of them are more accurate and cost no more.
    """
    rung = [trial for trial in trials if _rung(epochs) in trial.user_attrs]
    ranks = {trial.number: _pareto_rank(trial, rung, _rung(epochs)) for trial in rung}
    threshold = sorted(ranks.values())[(len(ranks) - 1) // REDUCTION_FACTOR]
    return ranks[number] <= threshold


def table(study: Study) -> TrialTable:
    """A row for each trial that ended and whose cost is known: accuracy at each rung, cost, whether
    it is on the Pareto front or why it stopped, its choices.
    """
    front = {trial.number for trial in study.best_trials}
    ended = study.get_trials(deepcopy=False, states=(*_FINISHED, TrialState.FAIL))
    trials = [trial for trial in ended if _MILLISECONDS in trial.user_attrs]
    choices = sorted({name for trial in trials for name in trial.params})
    rungs = [_rung(epochs) for epochs in RUNGS]
    rows = []
    for trial in trials:
        attributes = trial.user_attrs
        accuracies = [f"{attributes[rung]:.4f}" if rung in attributes else "" for rung in rungs]
        costs = [f"{attributes[name]:g}" for name in (_MACS, _MILLISECONDS)]
        state = "front" if trial.number in front else attributes.get(_STOPPED, "")
        values = [_short(trial.params.get(name, "")) for name in choices]
        rows.append([str(trial.number), *accuracies, *costs, state, *values])
    return TrialTable(["trial", *rungs, _MACS, _MILLISECONDS, "state", *choices], rows)


def importances(study: Study) -> dict[str, float]:
    """How much each choice decides the accuracy of the trials that were trained to the end: shares
    that sum to 1 (PED-ANOVA, Watanabe et al. 2023); empty where there are too few to say.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < _MIN_TRIALS:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    # It takes a low target for a good one, and warns of that; this one is low where accuracy is
    # high.
    warnings.filterwarnings("ignore", message="PedAnova.*low `target`")
    get_importances = optuna.importance.get_param_importances
    return get_importances(study, evaluator=evaluator, target=_negative_accuracy)


def report(study: Study, folder: Path) -> None:
    """Write tune.csv, and once a trial was trained to the end tune.png and tune.html, into the
    study's folder.
    """
    header, rows = table(study)
    files.write_text(folder / "tune.csv", "".join(csv_line(cells) for cells in (header, *rows)))
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return
    points = [_point(trial) for trial in complete]
    picture = plots.pareto(points, importances(study))
    files.write_bytes(folder / "tune.png", picture)
    caption = "Trials trained to the end, the front of each cost, and what decides accuracy"
    parts = [html.picture(picture, caption), html.table(header, rows)]
    files.write_text(folder / "tune.html", html.page("mien: search", parts))


def as_text(study: Study) -> str:
    """The trials on the Pareto front, best first."""
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    complete = states.count(TrialState.COMPLETE)
    pruned = states.count(TrialState.PRUNED)
    lines = [f"{complete} trials trained to the end, {pruned} stopped"]
    for trial in sorted(study.best_trials, key=_negative_accuracy):
        accuracy, macs, milliseconds = trial.values
        lines.append(
            f"trial {trial.number:>3}  accuracy {accuracy:.4f}  {macs:6.2f} M MACs  "
            f"{milliseconds:.3f} ms  {json.dumps(trial.params)}"
        )
    return "\n".join(lines)


def _check_config(study: Study, config: dict[str, Any], folder: Path) -> None:
    """Raise RunError unless the study was begun with that config, perhaps under the names of an
    earlier version.
    """
    recorded = dict(study.user_attrs)
    recorded["split"] = current_split_name(recorded.get("split", ""))
    if "recipe" in recorded:
        recorded["recipe"] = _as_json(parse_recipe(recorded["recipe"]).to_dict())
    for key, value in config.items():
        if recorded.get(key) != _as_json(value):
            raise RunError(f"{folder} holds a study with another {key}; name another --folder")


def _as_json(value: Any) -> Any:
    """The value as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(value))


def _suggest_stage(trial: BaseTrial, base: Stage) -> Stage:
    strength = trial.suggest_float("augmentation", 0.25, 1.5, step=0.25)
    stage = dataclasses.replace(
        base,
        epochs=RUNGS[-1],
        batch_size=trial.suggest_categorical("batch size", [64, 128, 256]),
        optimizer=trial.suggest_categorical("optimizer", ["adamw", "sgd"]),
        schedule=trial.suggest_categorical("schedule", ["cosine", "linear"]),
        learning_rate=trial.suggest_float("learning rate", 5e-4, 5e-3, log=True),
        weight_decay=trial.suggest_float("weight decay", 1e-3, 1e-1, log=True),
        label_smoothing=trial.suggest_float("smoothing", 0.0, 0.2, step=0.05),
        augment=strengthen(
            base.augment, strength, mixup=trial.suggest_float("mixup", 0.0, 0.4, step=0.1)
        ),
        distillation_weight=0.0,
        warmup_epochs=1,
        ema_decay=0.99,
    )
    if stage.optimizer != "sgd":
        return stage
    return dataclasses.replace(
        stage,
        learning_rate=stage.learning_rate * 20,
        weight_decay=stage.weight_decay / 20,
    )


def _run_trial(study: Study, trial: Trial, space: SearchSpace) -> None:
    """Measure the cost of a trial's network, and train it from rung to rung as long as it is
    promoted.
    """
    recipe = suggest_recipe(trial, space.base)
    folder = space.trial_folder(trial.number)
    cost = measure_cost(recipe, folder)
    trial.set_user_attr(_MACS, cost.macs)
    trial.set_user_attr(_MILLISECONDS, cost.milliseconds)
    if cost.macs > space.max_macs:
        # Failed, not pruned: samplers learn from what was pruned, and this was never trained.
        _stop(study, trial, f"above {space.max_macs:g} M MACs", TrialState.FAIL)
        return
    train = _trainer(recipe, space, folder / "fit")
    for epochs in RUNGS:
        history = train(max_epochs=epochs)
        accuracy = max(entry["val_accuracy"] for entry in history[:epochs])
        trial.set_user_attr(_rung(epochs), accuracy)
        if epochs == RUNGS[-1]:
            study.tell(trial, [accuracy, cost.macs, cost.milliseconds])
            return
        was_promoted = len(history) > epochs  # by a process that was killed later
        if was_promoted or is_promoted(study.get_trials(deepcopy=False), trial.number, epochs):
            continue
        _stop(study, trial, f"after {epochs} epochs", TrialState.PRUNED)
        return


def _trainer(recipe: Recipe, space: SearchSpace, folder: Path) -> Callable[..., loop.History]:
    """`loop.train` of a trial's float network, with its checkpoints in `folder`."""
    own_heads = heads.resolve(recipe.heads, space.dataset)
    training = samples.training_set(
        space.dataset,
        space.split,
        own_heads,
        recipe.preprocess,
        recipe.fit.label_smoothing,
    )
    build = partial(networks.build, recipe, sum(training.head_sizes), recipe.precision)
    return partial(loop.train, build, recipe.fit, training, folder, recipe.seed)


def _stop(study: Study, trial: Trial, reason: str, state: TrialState) -> None:
    trial.set_user_attr(_STOPPED, reason)
    study.tell(trial, state=state)


def _count_finished(study: Study) -> int:
    return len(study.get_trials(deepcopy=False, states=_FINISHED))


@contextmanager
def _own_trial(study: Study, folder: Path) -> Iterator[Trial]:
    """A trial that belongs to this process as long as the block lasts: one whose process died, else
    a new one.
    """
    for number in _candidates(study):
        with _lock(folder, number) as is_locked:
            trial = study.get_trials(deepcopy=False)[number]
            if is_locked and trial.state == TrialState.RUNNING:
                yield Trial(study, trial._trial_id)
                return


def _candidates(study: Study) -> Iterator[int]:
    """Yield numbers of trials that may be free: those that are running, some of which are orphans,
    then new ones.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    yield from [trial.number for trial in running]
    while True:
        yield study.ask().number


@contextmanager
def _lock(folder: Path, number: int) -> Iterator[bool]:
    """Lock a trial's folder as long as the block lasts; False where another process has it.

    The kernel drops the lock when its process dies.
    """
    trial_folder = _trial_folder(folder, number)
    trial_folder.mkdir(parents=True, exist_ok=True)
    with (trial_folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_locked = True
        except BlockingIOError:
            is_locked = False
        yield is_locked


def _trial_folder(folder: Path, number: int) -> Path:
    return folder / "trials" / f"{number:04d}"


def _pareto_rank(trial: FrozenTrial, rung: Sequence[FrozenTrial], key: str) -> int:
    """How many trials of a rung are more accurate than this one and cost no more."""
    accuracy = trial.user_attrs[key]
    macs = trial.user_attrs[_MACS]
    better = [other for other in rung if other.user_attrs[key] > accuracy]
    return sum(other.user_attrs[_MACS] <= macs for other in better)


def _rung(epochs: int) -> str:
    """The attribute of a trial, and the column, that holds its accuracy after so many epochs."""
    return f"accuracy after {epochs}"


def _negative_accuracy(trial: FrozenTrial) -> float:
    return -trial.values[0]


def _point(trial: FrozenTrial) -> TrialPoint:
    accuracy, macs, milliseconds = trial.values
    return TrialPoint(accuracy, macs, milliseconds, trial.params["block"])


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
