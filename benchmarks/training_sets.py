"""Training sets: rows of a spine with features as of each row's time, against Feast's own store and mere reading."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
from deltalake import write_deltalake

from headrace import Count, Entity, FeatureService, FeatureView, Max, Mean, Min, Settings, Stream, Sum, training_set
from headrace.event_log.columns import ACCEPTED
from headrace.event_log.event_log import EventLog
from headrace.event_log.table import with_all_columns

from .charts import draw
from .definitions import payments
from .results import median
from .rig import console

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.features.definitions.aggregates import Aggregate

    from .options import Options
    from .rig import Rig

DAY_US = 86_400_000_000
START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
DAYS = 30
FILE_ROWS = 500_000
WINDOWS = ("1h", "1d", "7d", "6h", "12h", "3h", "2d", "3d")
SPINE_ROWS = 100_000


class Load(msgspec.Struct, frozen=True):
    """``events`` payments of ``users`` users in thirty days, a share of them ``late`` by up to an hour; a spine."""

    events: int
    rows: int = SPINE_ROWS
    users: int = 10_000
    partitions: int = 4
    late: float = 0.01
    windows: int = 2
    seed: int = 7

    @property
    def stream(self) -> Stream:
        """Its stream."""
        return payments("bench.training")

    @property
    def service(self) -> FeatureService:
        """Five features a window."""
        features: dict[str, Aggregate] = {
            "n": Count(), "sum": Sum("amount"), "mean": Mean("amount"), "least": Min("amount"), "most": Max("amount"),
        }  # fmt: skip
        windows = list(WINDOWS[: self.windows])
        view = FeatureView("spending", Entity("user_id"), self.stream, windows, features)
        return FeatureService("bench", [view])


def write_log(folder: Path, load: Load) -> None:
    """The event log that a worker would have written of the load."""
    log = EventLog(folder)
    log.create(load.stream)
    for first in range(0, load.events, FILE_ROWS):
        table = log.table(load.stream.topic)
        rows = with_all_columns(events_of(load, first, min(first + FILE_ROWS, load.events)), table)
        write_deltalake(table, rows.to_arrow(compat_level=pl.CompatLevel.oldest()), mode="append")


def events_of(load: Load, first: int, end: int) -> pl.DataFrame:
    """Some of the events, as the event log has them: each partition's in order."""
    chance, places = np.random.default_rng([load.seed, first]), np.arange(first, end)
    known = START_US + places * (DAYS * DAY_US // load.events)
    behind = np.where(chance.random(len(places)) < load.late, chance.integers(0, DAY_US // 24, len(places)), 0)
    users = chance.integers(0, load.users, len(places))
    frame = pl.DataFrame(
        {
            "__topic_id": pl.Series([bytes([1]) * 16], dtype=pl.Binary).new_from_index(0, len(places)),
            "__partition": pl.Series(places % load.partitions, dtype=pl.Int32),
            "__offset": places // load.partitions,
            "__record_timestamp": _times(known),
            "__available_at": _times(known),
            "__verdict": pl.Series([ACCEPTED]).new_from_index(0, len(places)),
            "user_id": _names(users),
            "ts": _times(known - behind),
            "amount": np.round(chance.exponential(50.0, len(places)), 2),
            "merchant": pl.Series(["merchant-1"]).new_from_index(0, len(places)),
        }
    )
    return frame.sort("__partition", "__offset")


def spine_of(load: Load) -> pl.DataFrame:
    """Users and times, in no order."""
    chance = np.random.default_rng(load.seed + 1)
    times = START_US + chance.integers(DAY_US, DAYS * DAY_US, load.rows)
    return pl.DataFrame(
        {"user_id": _names(chance.integers(0, load.users, load.rows)), "event_timestamp": _times(times)}
    )


def _times(us: np.ndarray) -> pl.Series:
    return pl.Series(us, dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))


def _names(numbers: np.ndarray) -> pl.Series:
    return pl.select(pl.format("user-{}", pl.lit(pl.Series(numbers)))).to_series()


# -- what is measured, each in a process of its own ------------------------------------------------------------------


def read(folder: Path, _: Load) -> None:
    """The floor: merely read the columns of the log that the view uses."""
    for path in sorted((folder / "log").glob("*/*.parquet")):
        pl.read_parquet(path, columns=["user_id", "ts", "amount", "__available_at", "__offset", "__partition"])


def headrace(folder: Path, load: Load) -> None:
    """A training set of the spine."""
    settings = Settings(event_log=str(folder / "log"))
    training_set(load.service, pl.read_parquet(folder / "spine.parquet"), settings=settings).to_arrow()


def parquet(folder: Path, load: Load) -> None:
    """A training set of a spine that is a file, into a file."""
    settings = Settings(event_log=str(folder / "log"))
    training_set(load.service, folder / "spine.parquet", settings=settings).to_parquet(folder / "made.parquet")


def feast(folder: Path, load: Load) -> None:
    """Feast's default store: values that are ready made, as many columns and rows, joined as of the same times."""
    import feast as package  # noqa: PLC0415 - takes seconds
    from feast.infra.offline_stores.file_source import FileSource  # noqa: PLC0415
    from feast.types import Float64  # noqa: PLC0415

    columns = [f"f{number}" for number in range(len(load.service.columns()))]
    user = package.Entity(name="user", join_keys=["user_id"], value_type=package.ValueType.STRING)
    view = package.FeatureView(
        name="ready", entities=[user], ttl=timedelta(days=DAYS),
        schema=[package.Field(name=name, dtype=Float64) for name in columns],
        source=FileSource(path=str(folder / "ready.parquet"), timestamp_field="event_timestamp"),
    )  # fmt: skip
    store = package.FeatureStore(config=package.RepoConfig(
        project="bench", provider="local", registry=str(folder / "registry.db"),
        offline_store={"type": "dask"}, online_store=None, entity_key_serialization_version=3,
    ))  # fmt: skip
    store.apply([user, view])
    spine = pl.read_parquet(folder / "spine.parquet").to_pandas()
    store.get_historical_features(spine, [f"ready:{name}" for name in columns]).to_df()


WORK: dict[str, Callable[[Path, Load], None]] = {"read": read, "headrace": headrace, "feast": feast}
LARGE: dict[str, Callable[[Path, Load], None]] = {"parquet": parquet}


class Took(msgspec.Struct, frozen=True):
    """Wall and CPU seconds, and the process's peak memory; of small ones of the second of two runs in it."""

    seconds: float
    cpu: float
    peak_gb: float


def once(what: str, folder: Path, load: Load) -> Took:
    """Do it in a process of its own, the first time for warmth on a part of the spine."""
    asked = [sys.executable, "-m", "benchmarks.training_sets", what, str(folder), msgspec.json.encode(load).decode()]
    own = {name: value for name, value in os.environ.items() if name != "POLARS_MAX_THREADS"}  # as a notebook has it
    done = subprocess.run(asked, stdout=subprocess.PIPE, check=True, env=own)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Took)


def _child(what: str, folder: Path, load: Load) -> Took:
    warnings.simplefilter("ignore")
    work = (WORK | LARGE)[what]
    if what in {"read", "headrace"}:
        work(folder, load)
    began, used = time.monotonic(), time.process_time()
    work(folder, load)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return Took(round(time.monotonic() - began, 3), round(time.process_time() - used, 3), round(peak_gb, 2))


def fill(folder: Path, load: Load) -> None:
    """The log, the spine, and for Feast as many ready-made values as there are events."""
    write_log(folder / "log", load)
    spine_of(load).write_parquet(folder / "spine.parquet")
    rows = EventLog(folder / "log").reader(load.stream.topic, ["user_id", "ts", "amount"]).read()
    values = [(pl.col("amount") + number).alias(f"f{number}") for number in range(len(load.service.columns()))]
    rows.select("user_id", pl.col("ts").alias("event_timestamp"), *values).write_parquet(folder / "ready.parquet")


# -- the section -----------------------------------------------------------------------------------------------------


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """Ours, the floor and Feast in turn; then how ours grows."""
    load = Load(options.events, max(options.events // 10, 1))
    folder = rig.folder / "training"
    folder.mkdir()
    with console.status("filling"):
        fill(folder, load)
    took: dict[str, list[Took]] = {name: [] for name in WORK}
    for turn in range(options.repeat):
        for name in WORK if turn == 0 else ("read", "headrace"):
            took[name].append(once(name, folder, load))
            console.print(f"  {name}: {took[name][-1].seconds:.2f} s")
    seconds = {name: median([each.seconds for each in runs]) for name, runs in took.items()}
    return {
        "events": load.events,
        "rows": load.rows,
        "features": len(load.service.columns()),
        "seconds": seconds,
        "peak_gb": took["headrace"][-1].peak_gb,
        "ratio_to_feast": round(seconds["feast"] / seconds["headrace"], 1),
        "ratio_to_reading": round(seconds["headrace"] / seconds["read"], 1),
        "growth": growth(rig, options),
        "large": large(rig, options) if options.large else None,
    }


def large(rig: Rig, options: Options) -> dict[str, Any]:
    """Ten times as many of both, from file to file."""
    load = Load(10 * options.events, options.events, users=100_000)
    folder = rig.folder / "training-large"
    folder.mkdir()
    with console.status("filling"):
        write_log(folder / "log", load)
        spine_of(load).write_parquet(folder / "spine.parquet")
    took = once("parquet", folder, load)
    console.print(f"  {load.rows:,} rows of {load.events:,} events: {took.seconds:.1f} s, {took.peak_gb} GB")
    return {"events": load.events, "rows": load.rows, "seconds": took.seconds, "peak_gb": took.peak_gb}


def growth(rig: Rig, options: Options) -> dict[str, dict[str, int]]:
    """Rows a second by rows, events, windows and the share of late events, in percent; a chart each."""
    base = Load(options.growth_events, options.growth_events // 10)
    varied = {
        "spine rows": {base.rows * n: changed(base, rows=base.rows * n) for n in (1, 2, 5, 10)},
        "events": {base.events * n: changed(base, events=base.events * n) for n in (1, 2, 5)},
        "windows": {n: changed(base, windows=n) for n in (1, 2, 4, 8)},
        "late percent": {n: changed(base, late=n / 100) for n in (1, 5, 20, 50)},
    }
    found = {}
    for name, loads in varied.items():
        rates = {}
        for count, load in loads.items():
            folder = rig.folder / f"training-{name.replace(' ', '-')}-{count}"
            folder.mkdir()
            fill(folder, load)
            rates[count] = round(load.rows / once("headrace", folder, load).seconds)
            console.print(f"  {name} {count:,}: {rates[count]:,} rows/s")
        draw(options.charts / f"training-{name.replace(' ', '-')}.png", name, rates, what="rows")
        found[name] = {str(count): rate for count, rate in rates.items()}
    return found


def changed(load: Load, **changes: Any) -> Load:
    """The load with some of it changed."""
    return msgspec.structs.replace(load, **changes)


if __name__ == "__main__":
    told = _child(sys.argv[1], Path(sys.argv[2]), msgspec.json.decode(sys.argv[3], type=Load))
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
