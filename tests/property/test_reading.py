"""Fields of many views read together say what each says when it is read alone."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace import (
    Age,
    Calendar,
    Count,
    DecayedMean,
    DecayedSum,
    Entity,
    FeatureView,
    First,
    Gap,
    Last,
    LastN,
    Lifetime,
    Max,
    Mean,
    Min,
    Quantile,
    Ratio,
    Session,
    Since,
    Skew,
    Sliding,
    Std,
    Stream,
    Sum,
    Trend,
    Tumbling,
)
from headrace import Rows as NewestRows
from headrace.bus.event import Event
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.errors import CodecError
from headrace.features.kernel.field import unpack
from headrace.features.kernel.role_rows import with_time
from headrace.features.kernel.tile_kernel import TileKernel, kernel
from headrace.features.online.cursor import Cursor, CursorState, is_live, present
from headrace.features.online.field_reader import FieldReader
from headrace.features.online.store import ShardSnapshot
from headrace.streams.views.folded_view import FoldedView
from tests.support.example_budget import examples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.features.kernel.states import Values

MINUTE = 60_000_000
T0 = 1_700_000_000_000_000 // (24 * 60 * MINUTE) * 24 * 60 * MINUTE
SOURCES = [SourcePartition(1, b"a" * 16), SourcePartition(0, b"b" * 16), SourcePartition(0, b"a" * 16)]
KEYS = 4


class Sample(Event):
    """A value of a sensor."""

    sensor: int
    at: datetime
    value: float


samples = Stream("samples", Sample, event_time="at")


def compiled(windows: list[Any], features: dict[str, Any]) -> TileKernel:
    return kernel(FeatureView("v", Entity("sensor", int), samples, windows, features).spec)


PLAIN: dict[str, Any] = {"n": Count(), "sum": Sum("value"), "low": Min("value"), "high": Max("value")}
ORDERED: dict[str, Any] = {"first": First("value"), "last": Last("value"), "std": Std("value"), "mean": Mean("value")}
TIMES: dict[str, Any] = {"since": Since(), "age": Age(), "rhythm": Gap("mean"), "pause": Gap("last", "value")}
SHAPE: dict[str, Any] = {
    "share": Ratio("value", "value"), "skew": Skew("value"), "slope": Trend("value"),
    "moving": DecayedMean("value", "1h"),
}  # fmt: skip
SKETCHES: dict[str, Any] = {"newest": LastN("value", 2), "middle": Quantile("value", 0.5), "sum": Sum("value")}
KERNELS = [
    compiled(["1h", "1d"], PLAIN),
    compiled(["1d", Sliding("30m", "1m"), Sliding("10m", "1m")], {**ORDERED, **SHAPE}),
    compiled(["1h"], SKETCHES),
    compiled(["10m", "6h"], PLAIN),
    compiled(["10m", Sliding("1h", lag="1h")], PLAIN),
    compiled([Calendar("day", "Asia/Kolkata"), "1h", Calendar("day", "Europe/Berlin", ago=1)], PLAIN),
    compiled([Lifetime(), Tumbling("1h")], {**ORDERED, **TIMES, "decayed": DecayedSum("value", "1h")}),
    compiled([Tumbling("1d")], {"n": Count()}),
    compiled([NewestRows(2), "1h"], PLAIN),
    compiled([Session("20m", ago=1), NewestRows(3, within="2h")], {**ORDERED, "newest": LastN("value", 2)}),
]

Rows = list[tuple[int, int, int, int, float]]
"""View, key, source, minute, value."""
rows_strategy: st.SearchStrategy[Rows] = st.lists(
    st.tuples(
        st.integers(0, len(KERNELS) - 1),
        st.integers(0, KEYS - 2),  # the last one has nothing
        st.integers(0, len(SOURCES) - 1),
        st.integers(0, 300),
        st.sampled_from([-1.5, 0.0, 1.0, 2.25, 1e6]),
    ),
    max_size=60,
)


TIED: Rows = [(1, 0, 2, 5, 0.0), (1, 0, 2, 5, 1.0), (1, 0, 2, 5, 2.25), (1, 0, 0, 5, -1.5)]
"""Of one time: the larger partition has the smaller offset."""


def fields_of(rows: Rows) -> list[list[dict[SourcePartition, bytes]]]:
    """Of each view and key its fields by source."""
    grouped = defaultdict(list)
    for view, key, source, minute, value in rows:
        grouped[view, key, source].append((minute, value))
    found: list[list[dict[SourcePartition, bytes]]] = [[{} for _ in range(KEYS)] for _ in KERNELS]
    for (view, key, source), of_field in grouped.items():
        found[view][key][SOURCES[source]] = field(KERNELS[view], sorted(of_field))
    return found


def field(of: TileKernel, rows: Sequence[tuple[int, float]]) -> bytes:
    folded = FoldedView(of)
    times = T0 + np.array([minute for minute, _ in rows], np.int64) * MINUTE
    frame = pl.DataFrame(
        {
            "sensor": np.zeros(len(rows), np.int64),
            "at": times.astype("datetime64[us]"),
            "value": [value for _, value in rows],
            "__offset": np.arange(len(rows)),
        }
    )
    folded.fold(np.array([folded.add()] * len(rows)), times, of.lift(with_time(frame, "at")), times)
    (data,) = folded.fields(np.array([0]), np.array([len(rows)]), times[-1:])
    return data


def packed(fields: Mapping[SourcePartition, bytes]) -> list[bytes]:
    return [word for source, data in fields.items() for word in (source.field, data)]


def alone(of: TileKernel, fields: Mapping[SourcePartition, bytes], at_us: int) -> list[Values]:
    """The values of one key, from its fields one by one."""
    parts = [unpack(fields[source], of.layout)[1] for source in sorted(fields)]
    sizes = range(len(of.sizes))
    tiles = [of.join([part[size] for part in parts]) for size in sizes]
    ranks = [np.repeat(np.arange(len(parts)), [len(part[size]) for part in parts]) for size in sizes]
    return of.evaluate(tiles, [np.zeros(len(own), np.int64) for own in tiles], ranks, np.array([at_us]))


@settings(max_examples=examples(80), deadline=None)
@given(rows_strategy, st.permutations(range(len(KERNELS))), st.integers(-200, 400))
@example(TIED, list(range(len(KERNELS))), 10)
def test_reading_entities_together_equals_reading_each_alone(rows: Rows, order: list[int], minute: int) -> None:
    at_us = T0 + minute * MINUTE + 7
    fields = fields_of(rows)
    read = FieldReader([KERNELS[view] for view in order]).read([list(map(packed, fields[view])) for view in order])
    found, ages, clocks = read.values(at_us), read.ages_us(at_us), read.clocks
    for place, view in enumerate(order):
        headers = [{s: unpack(data, KERNELS[view].layout)[0] for s, data in own.items()} for own in fields[view]]
        assert clocks[place] == max([h.clock for own in headers for h in own.values()], default=NO_CLOCK)
        newest = [max((h.newest for h in own.values()), default=None) for own in headers]
        assert ages[place].tolist() == [-1 if at is None else max(at_us - at, 0) for at in newest]
        for key, own in enumerate(headers):
            assert dict(read.offsets[place].of_key(key)) == {s.field: h.next_offset for s, h in own.items()}
            wanted = alone(KERNELS[view], fields[view][key], at_us)
            for name, (values, there), (exact, known) in zip(KERNELS[view].columns, found[place], wanted, strict=True):
                assert there[key] == known[0], name
                assert not there[key] or values[key] == pytest.approx(exact[0], rel=1e-9, abs=1e-6), name


@pytest.mark.parametrize("view", [0, 2])
@pytest.mark.parametrize(
    "broken",
    [
        lambda data: data[:-8],
        lambda data: data + bytes(8),
        lambda data: data[:-1],
        lambda data: b"\x07" + data[1:],
        lambda data: data[:2] + b"\x05" + data[3:],
        lambda data: data[:8],
        lambda data: b"",
    ],
)
def test_other_bytes_are_refused_wherever_they_are(view: int, broken: Any) -> None:
    fields = fields_of([(view, 0, 0, 5, 1.0), (view, 1, 0, 9, 2.0), (view, 1, 1, 9, 2.0)])
    fields[view][1][SOURCES[1]] = broken(fields[view][1][SOURCES[1]])
    with pytest.raises(CodecError):
        FieldReader(KERNELS).read([list(map(packed, own)) for own in fields]).values(T0)


cursors = st.builds(
    Cursor,
    owner=st.just(b"o" * 16),
    next_offset=st.integers(0, 9),
    clock=st.integers(-3, 3),
    state=st.sampled_from(CursorState),
    partitions=st.integers(1, 3),
    heartbeat_us=st.integers(0, 3),
)


@given(st.dictionaries(st.sampled_from(SOURCES), cursors))
def test_the_signs_of_packed_cursors_are_those_of_cursors(known: dict[SourcePartition, Cursor]) -> None:
    moment = ShardSnapshot(0, packed({source: cursor.pack() for source, cursor in known.items()}))
    assert moment.cursors == known
    clock, live, heartbeat_us = moment.summary
    assert clock == max((cursor.clock for cursor in known.values()), default=NO_CLOCK)
    assert live == is_live(known)
    assert heartbeat_us == min((cursor.heartbeat_us for cursor in present(known)), default=0)


def test_a_cursor_of_another_format_has_no_signs() -> None:
    data = Cursor(b"o" * 16, 1).pack()
    for broken in (data[:40] + b"\x09" + data[41:], data[:-1]):
        with pytest.raises(CodecError):
            _ = ShardSnapshot(0, [SOURCES[0].field, broken]).summary
