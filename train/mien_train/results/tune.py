"""`mien-train tune`: a search over networks and training with Optuna, for accuracy against cost.

Three objectives: validation accuracy, multiply-accumulates, and measured milliseconds of the int8 file. Optuna prunes
studies of one objective only, so successive halving (ASHA, Li et al. 2018) is done here, on the Pareto rank: at each
rung a trial goes on if it is among the best third by how many others are better and cost no more.

A study is one journal file (or a database, --storage), which any number of processes and machines may work on as long
as they share its folder. There each trial has its checkpoints and a lock; the lock of a killed process falls free, and
whoever resumes goes on with its trial where it was.
"""

import dataclasses
import fcntl
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from mien_edge import files
from mien_edge.errors import RunError
from mien_edge.formats import csv_line
from mien_edge.model import profile, tflite
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from tqdm import tqdm

from mien_train import html, plots
from mien_train.data import read, splits
from mien_train.data.augment import Augment
from mien_train.training import loop, networks, quantize, samples
from mien_train.training.recipes import Recipe, parse_recipe

STUDY = "mien"
RUNGS = (1, 3, 9)
"""Epochs after which a trial is compared; the last is its whole training."""
KEPT = 3  # one in so many goes on

SAMPLERS = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
OBJECTIVES = ("accuracy", "M MACs", "milliseconds")
_DONE = (TrialState.COMPLETE, TrialState.PRUNED)


def storage(folder: Path, url: str) -> BaseStorage:
    """Where the study is kept: study.log in its folder, or the database that an SQLAlchemy URL names."""
    folder.mkdir(parents=True, exist_ok=True)
    return RDBStorage(url) if url else JournalStorage(JournalFileBackend(str(folder / "study.log")))


def study(folder: Path, url: str, sampler: str, seed: int, resume: bool, about: dict[str, Any]) -> optuna.Study:
    """Begin the study, or open it again. about: what its trials have in common (data, rows, recipe).

    Raises RunError where there is one and `resume` is false, there is none and it is true, or it is about something
    else.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kept = storage(folder, url)
    exists = STUDY in optuna.get_all_study_names(kept)
    if exists and not resume:
        raise RunError(f"{folder} holds a study; continue it with --resume, or name another --folder")
    if resume and not exists:
        raise RunError(f"{folder} holds no study to resume; begin one without --resume")
    found = optuna.create_study(
        storage=kept, sampler=SAMPLERS[sampler](seed), study_name=STUDY, load_if_exists=True,
        directions=["maximize", "minimize", "minimize"],
    )  # fmt: skip
    if not exists:
        for key, value in about.items():
            found.set_user_attr(key, value)
    recorded = dict(found.user_attrs)
    recorded["split"] = splits.split_name(recorded.get("split", ""))
    if "recipe" in recorded:  # perhaps one of an earlier version
        recorded["recipe"] = json.loads(json.dumps(parse_recipe(recorded["recipe"]).to_dict()))
    differing = [key for key, value in about.items() if recorded.get(key) != json.loads(json.dumps(value))]
    if differing:
        raise RunError(f"{folder} holds a study with another {differing[0]}; name another --folder")
    return found


def about(base: Recipe, dataset: read.Dataset, split: str, rows: int) -> dict[str, Any]:
    """What makes trials comparable."""
    return {"recipe": base.to_dict(), "data": dataset.sha256, "split": split, "rows": rows}


def split(dataset: read.Dataset, kind: str, rows: int) -> splits.Split:
    """The split that all trials train and validate on, with all its training rows or `rows` of them."""
    parts = splits.split(dataset, kind)
    chosen = np.random.default_rng(0).permutation(parts.train)[: rows or None]
    return dataclasses.replace(parts, train=np.sort(chosen))


def recipe(trial: Any, base: Recipe) -> Recipe:
    """The recipe that a trial's choices make."""
    block = trial.suggest_categorical("block", ["basic", "bottleneck", "inverted"])
    width = trial.suggest_int("width", 16, 40, step=8)
    growth = trial.suggest_float("growth", 1.5, 2.0, step=0.25)
    depths = [trial.suggest_int(f"depth {stage}", 1, 3) for stage in range(1, 5)]
    strength = trial.suggest_float("augmentation", 0.25, 1.5, step=0.25)
    stage = dataclasses.replace(
        base.fit,
        epochs=RUNGS[-1],
        batch_size=trial.suggest_categorical("batch size", [64, 128, 256]),
        optimizer=trial.suggest_categorical("optimizer", ["adamw", "sgd"]),
        schedule=trial.suggest_categorical("schedule", ["cosine", "linear"]),
        learning_rate=trial.suggest_float("learning rate", 5e-4, 5e-3, log=True),
        weight_decay=trial.suggest_float("weight decay", 1e-3, 1e-1, log=True),
        label_smoothing=trial.suggest_float("smoothing", 0.0, 0.2, step=0.05),
        augment=stronger(base.fit.augment, strength, trial.suggest_float("mixup", 0.0, 0.4, step=0.1)),
        distillation_weight=0.0,
        warmup_epochs=1,
        ema_decay=0.99,
    )
    if stage.optimizer == "sgd":
        stage = dataclasses.replace(stage, learning_rate=stage.learning_rate * 20, weight_decay=stage.weight_decay / 20)
    widths = [8 * round(width * growth**i / 8) for i in range(4)]
    arguments = {"stem": 16, "widths": widths, "depths": depths, "block": block}
    precision = "float32" if block == "inverted" else "mixed_bfloat16"
    return dataclasses.replace(base, network="residual", arguments=arguments, fit=stage, precision=precision)


def stronger(augment: Augment, factor: float, mixup: float) -> Augment:
    """The strengths times a factor, probabilities at most 0.9; mirroring stays as it is."""
    scaled = {
        name: value * factor if name in ("rotate", "scale", "shift", "brightness", "contrast", "gamma", "noise") else
        min(value * factor, 0.9) for name, value in dataclasses.asdict(augment).items()
    }  # fmt: skip
    return Augment(**{**scaled, "flip": augment.flip, "mixup": mixup})


def work(
    found: optuna.Study,
    base: Recipe,
    dataset: read.Dataset,
    parts: splits.Split,
    folder: Path,
    trials: int,
    limit: float,
) -> None:
    """Run trials until the study has `trials` that are finished; killed ones first. limit: M MACs above which a
    design is given up at once.
    """
    with tqdm(total=trials, initial=_finished(found), desc="trials", unit=" trials", disable=None) as bar:
        while _finished(found) < trials:
            with _trial(found, folder) as trial:
                try:
                    _run(found, trial, recipe(trial, base), dataset, parts, _place(folder, trial.number), limit)
                except Exception as problem:
                    _stop(found, trial, f"{type(problem).__name__}: {problem}", TrialState.FAIL)
                    raise
            report(found, folder)
            bar.n = _finished(found)
            bar.refresh()


def _finished(found: optuna.Study) -> int:
    return len(found.get_trials(deepcopy=False, states=_DONE))


@contextmanager
def _trial(found: optuna.Study, folder: Path) -> Iterator[Trial]:
    """A trial that is this process's own as long as the block lasts: one whose process died, else a new one."""
    for number in _candidates(found):
        with _locked(folder, number) as mine:
            trial = found.get_trials(deepcopy=False)[number]
            if mine and trial.state == TrialState.RUNNING:
                yield Trial(found, trial._trial_id)
                return


def _candidates(found: optuna.Study) -> Iterator[int]:
    """Numbers of trials that may be had: those that run, of which some are orphans, then new ones."""
    yield from [each.number for each in found.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]
    while True:
        yield found.ask().number


def _place(folder: Path, number: int) -> Path:
    return folder / "trials" / f"{number:04d}"


@contextmanager
def _locked(folder: Path, number: int) -> Iterator[bool]:
    """Whether the lock of that trial's folder could be had. The kernel drops it when its process dies."""
    place = _place(folder, number)
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = True
        except BlockingIOError:
            mine = False
        yield mine


def _run(
    found: optuna.Study, trial: Trial, chosen: Recipe, dataset: read.Dataset, parts: splits.Split, place: Path,
    limit: float,
) -> None:  # fmt: skip
    macs, milliseconds = cost(chosen, place)
    trial.set_user_attr("M MACs", macs)
    trial.set_user_attr("milliseconds", milliseconds)
    if macs > limit:
        # Failed, not pruned: samplers learn from what was pruned, and this was never trained.
        _stop(found, trial, f"above {limit:g} M MACs", TrialState.FAIL)
        return

    def build() -> Any:
        return networks.build(chosen, precision=chosen.precision)

    material = samples.training_set(dataset, parts, chosen.heads, chosen.preprocess, chosen.fit.label_smoothing)
    for epochs in RUNGS:
        history = loop.train(build, chosen.fit, material, place / "fit", chosen.seed, max_epochs=epochs)
        accuracy = max(entry["val_accuracy"] for entry in history[:epochs])
        trial.set_user_attr(_rung(epochs), accuracy)
        passed = len(history) > epochs or epochs == RUNGS[-1]
        if not passed and not goes_on(found.get_trials(deepcopy=False), trial.number, epochs):
            _stop(found, trial, f"after {epochs} epochs", TrialState.PRUNED)
            return
    found.tell(trial, [accuracy, macs, milliseconds])


def _stop(found: optuna.Study, trial: Trial, why: str, state: TrialState) -> None:
    trial.set_user_attr("stopped", why)
    found.tell(trial, state=state)


def cost(chosen: Recipe, place: Path) -> tuple[float, float]:
    """(M MACs, measured milliseconds on this machine, one thread) of the recipe's int8 file with fresh weights."""
    noise = np.random.default_rng(0).integers(0, 256, (50, chosen.preprocess.size, chosen.preprocess.size), np.uint8)
    content = quantize.convert(networks.build(chosen, batch=1, heads=1), noise)
    files.write_bytes(place / "model.tflite", content)
    macs = sum(each.macs for each in tflite.operators(content)) / 1e6
    return round(macs, 3), round(profile.invoke_milliseconds(place / "model.tflite"), 4)


def goes_on(trials: Sequence[FrozenTrial], number: int, epochs: int) -> bool:
    """Whether a trial is in the best third of those that reached this rung, by Pareto rank: by how many of them are
    more accurate and cost no more.
    """
    key = _rung(epochs)
    reached = [each for each in trials if key in each.user_attrs]

    def rank(one: FrozenTrial) -> int:
        return sum(
            other.user_attrs[key] > one.user_attrs[key] and other.user_attrs["M MACs"] <= one.user_attrs["M MACs"]
            for other in reached
        )

    ranks = sorted(rank(each) for each in reached)
    own = next(rank(each) for each in reached if each.number == number)
    return own <= ranks[(len(ranks) - 1) // KEPT]


def _rung(epochs: int) -> str:
    return f"accuracy after {epochs}"


def table(found: optuna.Study) -> tuple[list[str], list[list[str]]]:
    """(header, a row per trial that is over and came to a cost): accuracy at each rung, cost, whether it is on the
    front or why it stopped, its choices.
    """
    front = {trial.number for trial in found.best_trials}
    over = found.get_trials(deepcopy=False, states=(*_DONE, TrialState.FAIL))
    trials = [trial for trial in over if OBJECTIVES[2] in trial.user_attrs]
    names = sorted({name for trial in trials for name in trial.params})
    rungs = [_rung(epochs) for epochs in RUNGS]
    rows = []
    for trial in trials:
        known = trial.user_attrs
        accuracies = [f"{known[rung]:.4f}" if rung in known else "" for rung in rungs]
        state = "front" if trial.number in front else known.get("stopped", "")
        choices = [_short(trial.params.get(name, "")) for name in names]
        rows.append([str(trial.number), *accuracies, *(f"{known[name]:g}" for name in OBJECTIVES[1:]), state, *choices])
    return ["trial", *rungs, *OBJECTIVES[1:], "state", *names], rows


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def importances(found: optuna.Study) -> dict[str, float]:
    """How much each choice decides the accuracy of the trials that were trained to the end, shares that sum to 1
    (PED-ANOVA, Watanabe et al. 2023); empty where there are too few to tell.
    """
    complete = found.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < 4:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    warnings.filterwarnings(
        "ignore", message="PedAnova.*low `target`"
    )  # the target below is low where accuracy is high
    return optuna.importance.get_param_importances(found, evaluator=evaluator, target=lambda trial: -trial.values[0])


def report(found: optuna.Study, folder: Path) -> None:
    """Write tune.csv, tune.png and tune.html into the study's folder."""
    header, rows = table(found)
    files.write_text(folder / "tune.csv", "".join(map(csv_line, [header, *rows])))
    complete = found.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return
    points = [(*trial.values, trial.params["block"]) for trial in complete]
    picture = plots.pareto(points, importances(found))
    files.write_bytes(folder / "tune.png", picture)
    parts = [html.picture(picture, "Trials trained to the end, the front of each cost, and what decides accuracy")]
    files.write_text(folder / "tune.html", html.page("mien: search", [*parts, html.table(header, rows)]))


def as_text(found: optuna.Study) -> str:
    """The trials on the front, best first."""
    states = [trial.state for trial in found.get_trials(deepcopy=False)]
    lines = [
        f"{states.count(TrialState.COMPLETE)} trials trained to the end, {states.count(TrialState.PRUNED)} stopped"
    ]
    for trial in sorted(found.best_trials, key=lambda trial: -trial.values[0]):
        accuracy, macs, milliseconds = trial.values
        lines.append(
            f"trial {trial.number:>3}  accuracy {accuracy:.4f}  {macs:6.2f} M MACs  {milliseconds:.3f} ms  "
            f"{json.dumps(trial.params)}"
        )
    return "\n".join(lines)
