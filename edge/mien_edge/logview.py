"""`mien-edge logs`: the on-device log for people and programs."""

import json
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from mien_edge import log, sinks
from mien_edge.contract import LABELS
from mien_edge.errors import SettingsError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BAR = 40


def moment(text: str, now: float) -> float:
    """Seconds since 1970 for '90s', '15m', '1h', '7d', '2w' before `now`, or an ISO 8601 date or time (local if it
    names no zone). Raises SettingsError for anything else.
    """
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if ago:
        return now - float(ago[1]) * _UNITS[ago[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise SettingsError(f"{text!r} is no time; write 1h, 7d, 2026-01-31 or 2026-01-31T12:00") from None


def lines(path: Path, wanted: log.Filter, form: str) -> Iterator[str]:
    """Readings and, in text form, events, oldest first; `form` is 'text', 'json' or 'csv'."""
    connection = log.open_to_read(path)
    yield from _header(form)
    entries = [(reading.time, _formatted(reading, form)) for _, reading in log.readings(connection, wanted)]
    if form == "text" and wanted.label is None and wanted.track is None:
        entries += [(e["time"], _event(e)) for e in log.events(connection, wanted.since) if e["time"] < wanted.until]
        entries.sort(key=lambda entry: entry[0])
    connection.close()
    yield from (text for _, text in entries)


def follow(path: Path, wanted: log.Filter, form: str, pause: float = 0.5) -> Iterator[str]:
    """Readings since `wanted.since` (0: from now on), and then as they are committed, without end."""
    connection = log.open_to_read(path)
    last = 0 if wanted.since else connection.execute("SELECT COALESCE(MAX(id), 0) FROM readings").fetchone()[0]
    yield from _header(form)
    while True:
        fresh = log.Filter(wanted.since, wanted.until, wanted.label, wanted.track, last)
        for number, reading in log.readings(connection, fresh):
            last = number
            yield _formatted(reading, form)
        time.sleep(pause)


def _header(form: str) -> list[str]:
    return [sinks.csv_line(sinks.CSV_COLUMNS).rstrip("\n")] if form == "csv" else []


def _event(event: dict[str, Any]) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(event["time"]))
    return f"{clock}  * {event['kind']}: {event['text']}"


def _formatted(reading: Any, form: str) -> str:
    if form == "json":
        return json.dumps(sinks.as_dict(reading))
    if form == "csv":
        return sinks.csv_line(sinks.csv_row(sinks.as_dict(reading))).rstrip("\n")
    return sinks.line(reading)


def summary(path: Path, wanted: log.Filter) -> list[dict[str, Any]]:
    """Per hour: its start (ISO 8601, UTC), the number of readings, and the share of each label and of 'none'."""
    connection = log.open_to_read(path)
    rows = []
    for hour, counts in log.shares(connection, wanted):
        total = sum(counts.values())
        shares = {label: counts.get(label, 0) / total for label in (*LABELS, "none")}
        rows.append({"hour": sinks.iso(hour), "readings": total, "shares": shares})
    connection.close()
    return rows


def summary_text(rows: list[dict[str, Any]]) -> str:
    """The summary as bars: one letter per 2.5 %."""
    letters = dict(zip((*LABELS, "none"), "ADFHSUN.", strict=True))
    lines = ["A angry  D disgust  F fear  H happy  S sad  U surprise  N neutral  . no label"]
    for row in rows:
        bar = "".join(letters[label] * round(share * _BAR) for label, share in row["shares"].items())
        local = datetime.fromisoformat(row["hour"].replace("Z", "+00:00")).astimezone()
        lines.append(f"{local:%Y-%m-%d %H}:00  {bar:<{_BAR + 4}}  {row['readings']:>6} readings")
    return "\n".join(lines)
