"""Whatever a Parquet file has: each row is accepted, or rejected with an error, or the file is refused by name.

Columns of any type that Arrow writes, also nested, with values at the ends of their types: times of the year 200,000,
texts that are no UTF-8, decimals of 76 digits. Each may stand where an event has any other field.
"""

from __future__ import annotations

import uuid  # noqa: TC003 - the types of an event's fields are looked up
from datetime import UTC, date, datetime
from decimal import Decimal  # noqa: TC003 - likewise
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from headrace import Epoch, Event, Places, Stream
from headrace.bus.source_partition import import_partition
from headrace.errors import SettingsError
from headrace.streams.imports.availability import Availability
from headrace.streams.imports.file_pieces import column_names, pieces
from headrace.streams.imports.import_judge import ImportJudge
from headrace.streams.imports.source_file import find_files
from tests.support.arrow_columns import columns
from tests.support.example_budget import examples

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


class Inner(Event):
    n: int
    at: datetime
    d: date | None = None


class Wide(Event):
    """A field of each kind."""

    at: datetime
    text: str | None = None
    whole: int | None = None
    number: float | None = None
    truth: bool | None = None
    epoch: Annotated[datetime, Epoch("ms")] | None = None
    day: date | None = None
    price: Annotated[Decimal, Places(2)] | None = None
    raw: bytes | None = None
    own_id: uuid.UUID | None = None
    wholes: list[int] | None = None
    times: list[datetime] | None = None
    by_name: dict[str, float] | None = None
    inner: Inner | None = None
    many: list[Inner] | None = None
    choice: Literal["a", "b"] | None = None


class Plain(Event):
    """Fields that are made of columns without JSON between."""

    at: datetime
    text: str | None = None
    whole: int | None = None
    number: float | None = None
    truth: bool | None = None
    time: datetime | None = None
    day: date | None = None


STREAMS = [Stream(kind.__name__.lower(), kind, event_time="at") for kind in (Wide, Plain)]
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


@given(st.data(), st.sampled_from(STREAMS), st.integers(1, 3), st.sampled_from([None, "UTC", "Europe/Berlin"]))
@settings(
    max_examples=examples(60), deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
def test_any_file_is_imported_row_by_row_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, data: Any, stream: Stream, count: int, zone: str | None
) -> None:
    good = pa.array([NOON] * count, pa.timestamp("us", "UTC"))
    names = [field.name for field in stream.fields if "." not in field.name and field.name != "at"]
    table = {"at": good, "arrived": good}
    for name in data.draw(st.lists(st.sampled_from([*names, "at", "arrived"]), min_size=1, max_size=3, unique=True)):
        table[name] = data.draw(columns(count))
    file = tmp_path_factory.mktemp("arrow") / "rows.parquet"
    assume(is_written(table, file))
    available = Availability.of(stream, data.draw(st.sampled_from(["arrived", "event_time+5m"])), zone)
    judge = ImportJudge(stream, available, zone)
    (source,) = find_files([str(file)])
    there = column_names(source)
    assert there is not None
    rows: list[Any] = []
    try:
        judge.check(there, source.name)
        rows = [judge.rows(piece, import_partition(bytes(9))) for piece in pieces(source, judge.wanted(there))]
    except SettingsError as error:
        said = [name for name in (*table, "rows.parquet") if name in str(error)]
    else:
        said = []
        assert sum(each.height for each in rows) == count
        for row in (row for each in rows for row in each.iter_rows(named=True)):
            assert (row["__verdict"] == "accepted") == (row["__error"] is None)
    assert said or rows, "the file is refused by its name or by that of a column"


def is_written(table: dict[str, Any], file: Path) -> bool:
    try:
        pq.write_table(pa.table(table), file)
    except (pa.ArrowException, OSError, ValueError):
        return False
    return True
