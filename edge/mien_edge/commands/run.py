"""`mien-edge run`: read expressions from a source."""

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mien_edge import paths
from mien_edge.commands.common import model_option, settings_from, settings_option
from mien_edge.credentials import exposed_files

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
        help="print readings as JSON lines, then one line with the summary",
    )
    parser.add_argument("--quiet", action="store_true", help="print only the summary")
    parser.add_argument(
        "--jsonl",
        type=Path,
        metavar="FILE",
        help="also write JSON lines to this file, rotated (default: sinks.jsonl of the settings)",
    )
    parser.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="also write CSV to this file, rotated (default: sinks.csv of the settings)",
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
    parser.add_argument("--max-frames", type=int, metavar="N", help="stop after N frames")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from mien_edge.service.run import Service, ignore_hangup

    names = options.source
    options.source = names[0] if names else None
    settings = settings_from(options)
    settings_file = None if options.source else options.settings
    for exposure, fix in exposed_files(settings, settings_file):
        _log.warning("%s; %s", exposure, fix)
    run_options = _run_options(options, names)
    if run_options.runtime_folder:
        ignore_hangup()
    service = Service.from_settings(settings, run_options)
    _print_summary(options, service.run())


def _run_options(options: argparse.Namespace, names: list[str]) -> "RunOptions":
    from mien_edge.service.run import RunOptions

    return RunOptions(
        console=_console(options),
        log=options.log,
        jsonl=options.jsonl,
        csv=options.csv,
        annotate=options.annotate,
        labels=options.labels,
        max_frames=options.max_frames,
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
        print(json.dumps({"summary": summary.as_dict()}))  # noqa: T201
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
