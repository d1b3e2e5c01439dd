"""Importing history: rows of files into the event log, by form, against a plain read and write of the same rows."""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from deltalake import write_deltalake

from headrace.event_log.event_log import EventLog
from headrace.streams.imports.availability import Availability
from headrace.streams.imports.history_import import HistoryImport, ImportOptions
from headrace.streams.imports.source_file import find_files

from .definitions import payments
from .results import median
from .rig import console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .options import Options
    from .rig import Rig

FORMS = ("parquet", "csv", "jsonl")
_YEAR_US, _START_US = 365 * 86_400_000_000, 1_700_000_000_000_000


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """Each form in turn with its floor, which reads Parquet with Arrow and writes the same columns with Delta."""
    del rig
    with tempfile.TemporaryDirectory(prefix="bench-history-") as folder:
        rows = _files(Path(folder), options.events)
        floors: list[float] = []
        rates: dict[str, list[float]] = {form: [] for form in FORMS}
        for turn in range(options.repeat):
            for form in FORMS:
                place = Path(folder) / f"{turn}-{form}"
                floors.append(_floor(Path(folder) / "payments.parquet", place, rows.height))
                rates[form].append(_import(Path(folder) / f"payments.{form}", place, rows))
                console.print(f"  {form} {turn + 1}/{options.repeat}: {rates[form][-1]:,.0f} rows per CPU second")
    floor = median(floors)
    forms = {
        form: {"rows_per_cpu_s": round(median(own)), "ratio": round(median(own) / floor, 2)}
        for form, own in rates.items()
    }
    return {"events": rows.height, "floor_per_cpu_s": round(floor), "forms": forms}


def _files(folder: Path, count: int) -> pl.DataFrame:
    """A year of payments, in no order, in a file of each form."""
    random = np.random.default_rng(3)
    at = pl.Series("ts", _START_US + random.integers(0, _YEAR_US, count)).cast(pl.Datetime("us", "UTC"))
    users = pl.Series("user_id", [f"user-{number}" for number in random.integers(0, 10_000, count)])
    rows = pl.DataFrame([users, at, pl.Series("amount", random.random(count) * 100)]).with_columns(
        merchant=pl.lit("shop")
    )
    texts = rows.with_columns(pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"))
    rows.write_parquet(folder / "payments.parquet")
    texts.write_csv(folder / "payments.csv")
    texts.write_ndjson(folder / "payments.jsonl")
    return rows


def _floor(file: Path, place: Path, count: int) -> float:
    began = time.process_time()
    write_deltalake(str(place / "floor"), pq.read_table(file))
    return count / (time.process_time() - began)


def _import(file: Path, place: Path, rows: pl.DataFrame) -> float:
    stream, log = payments("payments"), EventLog(place / "log")
    began = time.process_time()
    options = ImportOptions(Availability.of(stream, "event_time+5m"))
    HistoryImport(log, stream, place / "spool", options, _silent).run(find_files([str(file)]), 0)
    used = time.process_time() - began
    found = log.read("payments")
    if not found.select(rows.columns).sort("ts", "user_id").equals(rows.sort("ts", "user_id")):
        raise RuntimeError(f"the import of {file} is not exact")
    return rows.height / used


@contextmanager
def _silent(_what: str, _total: int) -> Iterator[Callable[[int], None]]:
    yield lambda _: None
