"""`mien-edge logs`: the on-device log for people and programs."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien_edge.commands.common import add_command, log_option, log_path, settings_option
from mien_edge.errors import SettingsError
from mien_edge.labels import LABELS

if TYPE_CHECKING:
    from mien_edge.log.show import HourSummary


def add_logs(commands: Any) -> None:
    logs = add_command(commands, "logs", "read the on-device log", _logs)
    settings_option(logs)
    log_option(logs)
    logs.add_argument(
        "--since", metavar="TIME", help="only entries since 90s, 15m, 1h or 7d ago, or since an ISO date or time"
    )
    logs.add_argument("--until", metavar="TIME", help="only entries until then, in the same forms")
    logs.add_argument("--emotion", choices=LABELS, help="only readings with this label")
    logs.add_argument("--track", type=int, metavar="N", help="only readings of this face")
    logs.add_argument(
        "--kind", metavar="KIND", help="only this kind: 'reading', 'event', or a kind of event such as 'camera lost'"
    )
    logs.add_argument("--follow", action="store_true", help="keep running and print new entries as they are committed")
    form = logs.add_mutually_exclusive_group()
    form.add_argument("--summary", action="store_true", help="print the emotion shares of each hour")
    form.add_argument("--csv", action="store_true", help="print readings as CSV")
    form.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the emotion shares of each hour to a .png or .jpg file"
    )
    logs.add_argument("--json", action="store_true", help="print JSON lines; with --summary one JSON array")


def _logs(options: argparse.Namespace) -> None:
    import time

    from mien_edge.log import reader
    from mien_edge.log import show as log_show

    path, now = log_path(options), time.time()
    wanted = reader.Filter(
        since=log_show.moment(options.since, now) if options.since else 0.0,
        until=log_show.moment(options.until, now) if options.until else 1e12,
        label=options.emotion,
        track=options.track,
    )
    if options.summary or options.plot:
        _summary(options, log_show.summary(path, wanted))
        return
    form = "json" if options.json else "csv" if options.csv else "text"
    printed = log_show.follow if options.follow else log_show.lines
    for text in printed(path, wanted, form, options.kind):
        print(text, flush=options.follow)  # noqa: T201


def _summary(options: argparse.Namespace, rows: "list[HourSummary]") -> None:
    from mien_edge.log import plot
    from mien_edge.log import show as log_show
    from mien_edge.schema import to_dict

    if options.emotion or options.track or options.kind or options.follow:
        raise SettingsError("a summary is of all faces; leave out --emotion, --track, --kind and --follow")
    if options.plot:
        plot.save(options.plot, rows)
        print(f"drawn: {options.plot}")  # noqa: T201
    else:
        print(json.dumps([to_dict(row) for row in rows]) if options.json else log_show.summary_text(rows))  # noqa: T201
