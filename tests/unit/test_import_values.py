"""Values of Parquet files that Python or Polars lack are rejected at their place; the rows beside them are accepted."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace import Count, Entity, Event, FeatureView, Stream
from headrace.bus.source_partition import import_partition
from headrace.errors import DefinitionError, SettingsError
from headrace.streams.imports.availability import Availability
from headrace.streams.imports.file_pieces import column_names, pieces
from headrace.streams.imports.import_judge import ImportJudge
from headrace.streams.imports.source_file import find_files
from headrace.streams.ingest.file_rows import FileRows
from headrace.testing import fold

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1_000)
FAR_MS = 253_402_300_800_000
NO_TIME = "Invalid RFC3339 encoded datetime - at `$.stops[0]`"


class Trip(Event):
    at: datetime
    stops: list[datetime] | None = None
    legs: dict[str, float] | None = None
    note: str | None = None
    day: date | None = None


class Plain(Event):
    at: datetime
    note: str | None = None
    back: datetime | None = None


trips, plain = (Stream(kind.__name__, kind, event_time="at") for kind in (Trip, Plain))


def written(tmp_path: Path, column: str, values: list[Any], kind: pa.DataType) -> str:
    """A file of two rows. Times are numbers: pyarrow makes none of a time that Python lacks."""
    try:
        found = pa.array(values, kind)
    except (pa.ArrowException, TypeError):
        found = pa.array(values).cast(kind, safe=False)
    at = pa.array([NOON] * 2, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"at": at, column: found, "arrived": at}), tmp_path / "f.parquet")
    return str(tmp_path / "f.parquet")


def judged(name: str, stream: Stream, available_at: str = "arrived") -> pl.DataFrame:
    judge = ImportJudge(stream, Availability.of(stream, available_at))
    (file,) = find_files([name])
    there = column_names(file)
    assert there is not None
    (rows,) = [judge.rows(piece, import_partition(bytes(9))) for piece in pieces(file, judge.wanted(there))]
    return rows


@pytest.mark.parametrize(
    ("column", "values", "kind", "says"),
    [
        ("stops", [[FAR_MS], [NOON_MS]], pa.list_(pa.timestamp("ms", "UTC")), (NO_TIME, "253402300800000 ms since")),
        ("stops", [[2**63 - 1], []], pa.list_(pa.timestamp("ms", "+05:30")), (NO_TIME, "9223372036854775807 ms since")),
        ("stops", [[2**62], []], pa.list_(pa.duration("ms")), (NO_TIME, "4611686018427387904 ms")),
        ("legs", [[("a", Decimal("1.5"))], []], pa.map_(pa.string(), pa.decimal256(60, 1)),
         ("Expected `float`, got `str` - at `$.legs[...]`", "1.5")),
        ("legs", [[[("a", 1)]], None], pa.list_(pa.map_(pa.string(), pa.int64())),
         ("Expected `object | null`, got `array` - at `$.legs`", "key")),
        ("day", [2**31 - 1, 1], pa.date32(), ("Invalid RFC3339 encoded date - at `$.day`", "2147483647 days")),
    ],
)  # fmt: skip
def test_a_value_is_rejected_at_its_place_and_the_row_beside_it_is_not(
    tmp_path: Path, column: str, values: list[Any], kind: pa.DataType, says: tuple[str, str]
) -> None:
    error, said = says
    name = written(tmp_path, column, values, kind)
    rows = judged(name, trips)
    assert rows["__error"].to_list() == [error, None]
    assert said in rows["__value"][0].decode()
    (file,) = find_files([name])
    first, second = FileRows(trips).of(file)
    assert (first.reason, second.reason) == (error, "")
    assert second.event is not None


@pytest.mark.parametrize(
    ("kind", "values", "wanted"),
    [
        (pa.timestamp("ms", "Mars/Base"), [NOON_MS, FAR_MS], [NOON, None]),
        (pa.timestamp("s", "+05:30"), [NOON_MS // 1_000, FAR_MS // 1_000], [NOON, None]),
        (pa.timestamp("us", "UTC"), [NOON_MS * 1_000, FAR_MS * 1_000], [NOON, None]),
    ],
)
def test_a_time_is_read_whatever_its_zone_and_rejected_if_no_datetime_holds_it(
    tmp_path: Path, kind: pa.DataType, values: list[int], wanted: list[datetime | None]
) -> None:
    for stream, column in ((plain, "back"), (trips, "at")):
        rows = judged(written(tmp_path, column, values, kind), stream)
        assert rows[column].to_list() == wanted
        assert rows["__error"].to_list() == [None, f"Invalid RFC3339 encoded datetime - at `$.{column}`"]


def test_a_text_that_is_no_utf_8_is_rejected(tmp_path: Path) -> None:
    texts = pa.array([b"\xff", b"a"]).view(pa.string())
    at = pa.array([NOON] * 2, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"at": at, "note": texts, "arrived": at}), tmp_path / "f.parquet")
    rows = judged(str(tmp_path / "f.parquet"), plain)
    assert rows["__error"].to_list() == ["Expected `str | null`, got `array` - at `$.note`", None]
    assert rows["note"].to_list() == [None, "a"]


def test_a_column_of_no_times_is_named(tmp_path: Path) -> None:
    name = written(tmp_path, "since", [[1], [2]], pa.list_(pa.int64()))
    with pytest.raises(SettingsError, match=r"--available-at since: the column is list<.*>; it has to be a time"):
        judged(name, plain, "since")


def test_rows_in_memory_are_judged_as_those_of_a_file(tmp_path: Path) -> None:
    """Nested columns of a file that is previewed, and of a table in memory, are the same rows."""
    view = FeatureView("by_note", Entity("note"), trips, ["1h"], {"n": Count()})
    name = written(tmp_path, "stops", [[NOON_MS], [NOON_MS]], pa.list_(pa.timestamp("ms", "UTC")))
    near = pl.read_parquet(name).with_columns(note=pl.lit("a"))
    assert fold(view, near, entity={"note": "a"})["by_note__n_1h"] == 2
    far = near.with_columns(stops=pl.Series([[2**62], []]).cast(pl.List(pl.Datetime("us", "UTC"))))
    with pytest.raises(DefinitionError, match=r"row 0 .* at `\$.stops\[0\]`.*4611686018427387904 us since 1970"):
        fold(view, far)
