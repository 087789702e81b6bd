"""`mien-edge run`: read expressions from a source."""

import argparse
import dataclasses
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mien_edge import paths
from mien_edge.commands.common import (
    existing,
    existing_options,
    model_option,
    settings_from,
    settings_option,
)
from mien_edge.commands.page import page_beside
from mien_edge.credentials import exposed_files
from mien_edge.export.exports import SUFFIXES, Export, check
from mien_edge.formats import typed_line
from mien_edge.settings import SinkSettings

_SUFFIXES = ", ".join(SUFFIXES)

_log = logging.getLogger("mien.run")

if TYPE_CHECKING:  # loads OpenCV, which --help does without
    from mien_edge.service.run import RunOptions, Summary


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `run`."""
    parser.add_argument(
        "source",
        nargs="*",
        help="picamera, v4l2:0, rtsp://…, demo, demo:forever, or any number of videos, photos, "
        "folders (read with their sub-folders) and patterns as 'trip/*.heic'",
    )
    settings_option(parser)
    model_option(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON lines: readings (type 'reading'), then the summary (type 'summary')",
    )
    parser.add_argument("--quiet", action="store_true", help="print only the summary")
    parser.add_argument(
        "--export",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help=f"also write readings to this file, in the format of its suffix ({_SUFFIXES}); may be "
        "given several times",
    )
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="--export of CSV, whatever the suffix"
    )
    parser.add_argument(
        "--jsonl", type=Path, metavar="FILE", help="--export of JSON lines, whatever the suffix"
    )
    existing_options(parser)
    parser.add_argument(
        "--per",
        choices=("change", "frame"),
        default="change",
        help="what a subtitle or annotation of an export lasts for (default: change of a label)",
    )
    parser.add_argument(
        "--log",
        type=Path,
        metavar="FILE",
        help="also write this SQLite log, which `logs` reads",
    )
    parser.add_argument(
        "--annotate",
        type=Path,
        metavar="FILE",
        help="also write an annotated picture, video or folder of pictures",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="labels.csv with the true labels, to score photographs",
    )
    parser.add_argument(
        "--view",
        action="store_true",
        help="show the page beside the run, on a free port of 127.0.0.1, until the run ends",
    )
    parser.add_argument("--max-frames", type=int, metavar="N", help="stop after N frames")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from mien_edge.service.run import Service, ignore_hangup

    exports = _exports(options)
    names = options.source
    check(exports, existing(options), _inputs(options, names))
    options.source = names[0] if names else None
    settings = settings_from(options)
    if options.source or exports:
        settings = replace(settings, sinks=SinkSettings())  # those files are the service's
    settings_file = None if options.source else options.settings
    for exposure, fix in exposed_files(settings, settings_file):
        _log.warning("%s; %s", exposure, fix)
    run_options = _run_options(options, exports, names)
    if run_options.runtime_folder:
        ignore_hangup()
    with ExitStack() as stack:
        if options.view:
            log = options.log or _path(settings.log.path)
            folders = stack.enter_context(page_beside(options.settings, log))
            run_options = dataclasses.replace(
                run_options,
                runtime_folder=folders.runtime,
                log=folders.log,
                is_viewed=True,
            )
        service = Service.from_settings(settings, run_options)
        summary = service.run()
    _print_summary(options, summary)


def _path(setting: str) -> Path | None:
    return Path(setting) if setting else None


def _exports(options: argparse.Namespace) -> list[Export]:
    exports = [Export.by_suffix(path) for path in options.export]
    if options.csv:
        exports.append(Export(options.csv, "csv"))
    if options.jsonl:
        exports.append(Export(options.jsonl, "jsonl"))
    return exports


def _inputs(options: argparse.Namespace, names: Sequence[str]) -> list[Path]:
    """The files that the run reads or writes beside its exports."""
    inputs = [path for path in (options.labels, options.log, options.annotate) if path]
    for name in names:
        inputs += [Path(name), Path(name, "labels.csv")]
    return inputs


def _run_options(
    options: argparse.Namespace, exports: Sequence[Export], names: Sequence[str]
) -> "RunOptions":
    from mien_edge.service.run import RunOptions

    return RunOptions(
        console=_console(options),
        log=options.log,
        exports=exports,
        existing=existing(options),
        per_frame=options.per == "frame",
        annotate=options.annotate,
        labels=options.labels,
        max_frames=options.max_frames,
        progress=options.quiet or not sys.stdout.isatty(),
        sources=names if len(names) > 1 else (),
        state_folder=paths.systemd_directory("STATE_DIRECTORY"),
        runtime_folder=paths.systemd_directory("RUNTIME_DIRECTORY"),
    )


def _console(options: argparse.Namespace) -> Literal["text", "json", "none"]:
    if options.quiet:
        return "none"
    if options.json:
        return "json"
    return "text"


def _print_summary(options: argparse.Namespace, summary: "Summary") -> None:
    from mien_edge.chain import score

    if options.json:
        print(typed_line("summary", summary.as_dict()))  # noqa: T201
        return
    print(summary)  # noqa: T201
    if summary.score:
        print(score.as_text(summary.score))  # noqa: T201
    if options.annotate:
        _print_annotated(options.annotate)


def _print_annotated(path: Path) -> None:
    from mien_edge.chain.encode import playable_path

    written = playable_path(path)
    if written.exists():
        print(f"annotated: {written}")  # noqa: T201
