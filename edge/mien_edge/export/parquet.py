"""Readings as a Parquet table (Apache Parquet), through pyarrow: the extra `parquet`."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mien_edge.errors import RuntimeMissingError, SinkError
from mien_edge.export.textfile import Existing, check_new, lock, not_writable
from mien_edge.files import atomic_write, make_folder
from mien_edge.formats import columns, reading_values, score_column
from mien_edge.labels import LABELS
from mien_edge.values import Reading

_PART_READINGS = 4096
_PART_SECONDS = 10.0
_ROW_GROUP = 65536  # rows


def check_parquet(path: Path, existing: Existing) -> None:
    """Raise SinkError unless a table may be written, RuntimeMissingError without pyarrow."""
    if find_spec("pyarrow") is None:
        raise RuntimeMissingError(f"{path}: pyarrow is not installed; pip install 'mien[parquet]'")
    check_new(path, existing)
    parts = _parts_folder(path)
    if parts.is_dir() and any(parts.iterdir()):
        text = "readings of a run that was cut off, or still goes on, as Parquet files"
        raise SinkError(f"{parts}: {text}; move it away, or remove it")


def _parts_folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.parts")


class Parquet:
    """Writes each reading as a row with the columns of formats.columns, typed: `time` as a
    timestamp in UTC, `position` in seconds, probabilities as floats, empty cells as nulls.

    path: appears whole, when the sink is closed.
    monotonic: a clock in seconds.
    labels: of the readings; where some have others, these get columns as well.

    Until then the readings are in PATH.parts, a folder of Parquet files which pyarrow, pandas and
    DuckDB read as one table: at most 4096 readings or those of ten seconds are in memory, and a
    kill loses no others. Raises SinkError, and RuntimeMissingError where pyarrow is not installed.
    """

    def __init__(
        self,
        path: Path,
        existing: Existing,
        monotonic: Callable[[], float] = time.monotonic,
        labels: tuple[str, ...] = LABELS,
    ) -> None:
        check_parquet(path, existing)
        # Heavy, and for whoever asked for it only.
        import pyarrow
        from pyarrow import parquet

        self._arrow = pyarrow
        self._parquet = parquet
        self._labels = dict.fromkeys(labels)
        self._path = path
        self._folder = _parts_folder(path)
        self._monotonic = monotonic
        self._part_began = monotonic()
        self._rows: list[dict[str, Any]] = []
        self._parts: list[Path] = []
        try:
            make_folder(self._folder)
            self._lock = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
            lock(self._lock, path)
        except OSError as problem:
            raise self._not_written(problem) from None

    def __call__(self, readings: tuple[Reading, ...]) -> None:
        """Write the readings of a frame. Raises SinkError."""
        for reading in readings:
            self._rows.append(_row(reading))
            if reading.emotion is not None:
                self._labels.update(dict.fromkeys(reading.emotion.labels))
        is_old = self._monotonic() - self._part_began >= _PART_SECONDS
        if len(self._rows) >= _PART_READINGS or is_old:
            self._write_part()

    def _write_part(self) -> None:
        self._part_began = self._monotonic()
        if not self._rows:
            return
        path = self._folder / f"{len(self._parts) + 1:06d}.parquet"
        table = self._arrow.Table.from_pylist(self._rows, self._schema())
        try:
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                self._parquet.write_table(table, file)
        except OSError as problem:
            raise self._not_written(problem) from None
        self._parts.append(path)
        self._rows = []

    def _schema(self) -> Any:
        arrow = self._arrow
        types = {
            "time": arrow.timestamp("ms", "UTC"),
            "position": arrow.float64(),
            "confidence": arrow.float32(),
            **dict.fromkeys(("frame",), arrow.int64()),
            **dict.fromkeys(("track", "x", "y", "width", "height"), arrow.int32()),
            **dict.fromkeys(map(score_column, self._labels), arrow.float32()),
        }
        names = columns(self._labels)
        return arrow.schema([(name, types.get(name, arrow.string())) for name in names])

    def _not_written(self, problem: OSError) -> SinkError:
        if isinstance(problem, SinkError):
            return problem
        reason = not_writable(self._path, problem)
        return SinkError(f"{reason}; what was written before is in {self._folder}")

    def close(self) -> None:
        """Join the parts to the file, and remove them. Raises SinkError."""
        try:
            self._write_part()
            with (
                atomic_write(self._path) as temporary,
                temporary.open("wb") as file,
                self._parquet.ParquetWriter(file, self._schema()) as writer,
            ):
                for table in self._row_groups():
                    writer.write_table(table)
            shutil.rmtree(self._folder)
        except OSError as problem:
            raise self._not_written(problem) from None
        finally:
            os.close(self._lock)

    def _row_groups(self) -> Iterator[Any]:
        """Some parts at once, all with the columns of the last one."""
        columns_of_all = self._schema().empty_table()
        tables: list[Any] = []
        for part in self._parts:
            with part.open("rb") as file:  # pyarrow takes no name that is not UTF-8
                table = self._parquet.read_table(file)
            whole = self._arrow.concat_tables([columns_of_all, table], promote_options="default")
            tables.append(whole)
            if sum(table.num_rows for table in tables) >= _ROW_GROUP:
                yield self._arrow.concat_tables(tables)
                tables = []
        if tables:
            yield self._arrow.concat_tables(tables)


def _row(reading: Reading) -> dict[str, Any]:
    values = reading_values(reading)
    return {**values, "time": datetime.fromisoformat(values["time"])}
