"""`mien-edge logs`: the on-device log for people and programs."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

from mien_edge.commands.common import (
    existing,
    existing_options,
    log_option,
    log_path,
    settings_option,
)
from mien_edge.errors import SettingsError, SinkError
from mien_edge.events import EventKind
from mien_edge.export.exports import SUFFIXES, TIMED, Export, check, open_export
from mien_edge.log import distributions, plot, reader, show
from mien_edge.text import file_name, printable

_SUFFIXES = ", ".join(suffix for suffix, kind in SUFFIXES.items() if kind not in TIMED)
_END_OF_TIME = 1e12  # seconds since 1970


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `logs`."""
    settings_option(parser)
    log_option(parser)
    parser.add_argument(
        "--since",
        metavar="TIME",
        help="only entries since 90s, 15m, 1h or 7d ago, or since an ISO date or time",
    )
    parser.add_argument(
        "--until",
        metavar="TIME",
        help="only entries until then, in the same forms",
    )
    parser.add_argument(
        "--emotion",
        metavar="LABEL",
        help="only readings with this label, such as happy; it is one that the log's models have",
    )
    parser.add_argument(
        "--source",
        metavar="NAME",
        help="only readings of the photograph or video of this name, such as clip.mp4",
    )
    parser.add_argument("--track", type=int, metavar="N", help="only readings of this face")
    parser.add_argument(
        "--kind",
        metavar="KIND",
        help="only this kind: 'reading', 'event', or a kind of event such as 'camera lost'",
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="keep running and print new entries as they are committed",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--summary",
        action="store_true",
        help="print the emotion shares of each hour",
    )
    form.add_argument("--csv", action="store_true", help="print readings as CSV")
    form.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="draw the emotion shares of each hour to a .png or .jpg file",
    )
    form.add_argument(
        "--export",
        type=Path,
        metavar="FILE",
        help=f"write readings to this file, in the format of its suffix ({_SUFFIXES})",
    )
    existing_options(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON lines; with --summary one JSON array",
    )
    parser.set_defaults(run=_logs)


def _logs(options: argparse.Namespace) -> None:
    path = log_path(options)
    options.source = file_name(options.source) if options.source else None
    if options.kind:
        _refuse_unknown_kind(path, options.kind)
    if options.emotion:
        _refuse_unknown_label(path, options.emotion)
    now = time.time()
    source = file_name(options.source) if options.source else None
    entries = reader.Filter(
        since=show.moment(options.since, now) if options.since else 0.0,
        until=show.moment(options.until, now) if options.until else _END_OF_TIME,
        label=options.emotion,
        track=options.track,
        source=source,
    )
    if source and not options.follow:
        show.require_source(path, source)
    if options.summary or options.plot:
        hours = show.summary(path, entries)
        if source:
            hours = _require_hours(hours, source)
        _summarize(options, hours)
        return
    if options.export:
        _export(options, path, entries)
        return
    form = _form(options)
    if options.follow:
        output = sys.stdout.fileno()
        lines = show.follow(path, entries, form, options.kind, output=output)
    else:
        lines = show.lines(path, entries, form, options.kind)
    is_first = True
    for text in lines:
        # The first line at once: a long log takes seconds.
        print(text, flush=options.follow or is_first)  # noqa: T201
        is_first = False


def _refuse_unknown_kind(path: Path, kind: str) -> None:
    """Raise SettingsError for what is no kind of entry, neither of this version nor in the log."""
    known = [show.READING, show.EVENT, *EventKind]
    if kind in known:
        return
    with closing(reader.open_to_read(path)) as connection:
        known += reader.event_kinds(connection)
    if kind not in known:
        names = ", ".join(sorted(set(known)))
        raise SettingsError(f"--kind {kind!r} is no kind of entry; choose one of {names}")


def _refuse_unknown_label(path: Path, label: str) -> None:
    """Raise SettingsError for what is no label of a model whose readings the log has."""
    with closing(reader.open_to_read(path)) as connection:
        known = distributions.all_labels(connection)
        if label in known or label in reader.labels(connection):
            return
    raise SettingsError(
        printable(f"--emotion {label!r} is no label in {path}; choose one of {', '.join(known)}")
    )


def _export(options: argparse.Namespace, path: Path, entries: reader.Filter) -> None:
    if options.follow or options.kind not in (None, show.READING):
        raise SettingsError("an export is of the readings so far; leave out --follow and --kind")
    export = Export.by_suffix(options.export)
    if export.is_timed:
        hint = "export it from a run over the video: mien-edge run clip.mp4 --export"
        raise SinkError(f"{export.path}: the log keeps changes, not when a face left; {hint} FILE")
    check([export], existing(options), inputs=[path])
    with closing(reader.open_to_read(path)) as connection:
        readings = reader.readings(connection, entries)
        labels = distributions.all_labels(connection)
        with closing(open_export(export, existing(options), labels)) as exporter:
            count = 0
            for _, reading in readings:
                exporter((reading,))
                count += 1
    print(f"exported: {count} readings to {export.path}")  # noqa: T201


def _form(options: argparse.Namespace) -> str:
    if options.json:
        return "json"
    if options.csv:
        return "csv"
    return "text"


def _require_hours(hours: Iterator[show.HourSummary], source: str) -> Iterator[show.HourSummary]:
    """Return the hours of a file, or raise SettingsError where there is none."""
    first = next(hours, None)
    if first is None:
        hint = "only videos have them; leave out --summary"
        raise SettingsError(f"{source}: the log has no face-minutes of it in that time; {hint}")
    return chain([first], hours)


def _summarize(options: argparse.Namespace, hours: Iterator[show.HourSummary]) -> None:
    if options.emotion or options.track or options.kind or options.follow:
        options_to_drop = "--emotion, --track, --kind and --follow"
        raise SettingsError(f"a summary is of all faces; leave out {options_to_drop}")
    if options.plot:
        from mien_edge.drawing import save_chart  # loads NumPy and OpenCV

        save_chart(options.plot, plot.chart(hours))
        print(f"drawn: {options.plot}")  # noqa: T201
    elif options.json:
        for text in show.summary_json(hours):
            print(text, end="")  # noqa: T201
        print()  # noqa: T201
    else:
        for text in show.summary_lines(hours):
            print(text)  # noqa: T201
