"""Random event types and records: a Delta table has what a plain reading of the JSON gives, in any batch cut."""

from __future__ import annotations

import base64
import itertools
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from headrace import Event, Places, Stream
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from tests.support.example_budget import examples
from tests.support.paid_orders import SOURCE, judged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NOON = datetime(2023, 11, 14, 12, tzinfo=UTC)
Written = tuple[Any, Any]
"""A value as JSON has it, and as the log has it."""


@dataclass(frozen=True)
class FieldType:
    """A type of a field, and the strategy of its values."""

    hint: Any
    values: st.SearchStrategy[Written]


def same(hint: Any, values: st.SearchStrategy[Any]) -> FieldType:
    return FieldType(hint, values.map(lambda value: (value, value)))


def as_text(hint: Any, values: st.SearchStrategy[Any], text: Callable[[Any], str]) -> FieldType:
    return FieldType(hint, values.map(lambda value: (text(value), value)))


def decimals(places: int) -> FieldType:
    units = st.integers(1 - 10**18, 10**18 - 1).map(lambda units: Decimal(units).scaleb(-places))
    forms: list[Callable[[Decimal], Any]] = [
        str, lambda value: msgspec.Raw(f"{value:f}".encode()), lambda value: f"{value:f}{'' if places else '.'}00",
    ]  # fmt: skip
    pairs = st.tuples(units, st.sampled_from(forms)).map(lambda drawn: (drawn[1](drawn[0]), drawn[0]))
    return FieldType(Annotated[Decimal, Places(places)], pairs)


OF_DICT = [
    same(int, st.integers(-(2**63), 2**63 - 1)),
    same(float, st.floats(allow_nan=False, allow_infinity=False)),
    same(bool, st.booleans()),
    same(str, st.text(max_size=5)),
]
SCALARS = [
    *OF_DICT,
    as_text(datetime, st.datetimes(timezones=st.just(UTC)), datetime.isoformat),
    as_text(date, st.dates(), date.isoformat),
    as_text(bytes, st.binary(max_size=5), lambda value: base64.b64encode(value).decode()),
    *map(decimals, (0, 2, 18)),
]


def nullable(of: FieldType) -> FieldType:
    return FieldType(of.hint | None, of.values | st.just((None, None)))


def many(of: FieldType) -> FieldType:
    lists = st.lists(of.values, max_size=3)
    return FieldType(list[of.hint], lists.map(lambda items: ([j for j, _ in items], [s for _, s in items])))  # type: ignore[name-defined]


def keyed(of: FieldType) -> FieldType:
    dicts = st.dictionaries(st.text(max_size=3), of.values, max_size=3)
    return FieldType(
        dict[str, of.hint],  # type: ignore[name-defined]
        dicts.map(
            lambda found: (
                {key: json for key, (json, _) in found.items()},
                [{"key": key, "value": value} for key, (_, value) in found.items()],
            )
        ),
    )


NUMBERS = itertools.count()


def nested(members: Sequence[FieldType]) -> FieldType:
    names = [f"f{place}" for place in range(len(members))]
    event = msgspec.defstruct(
        f"Random{next(NUMBERS)}",
        [(name, member.hint) for name, member in zip(names, members, strict=True)],
        bases=(Event,),
        kw_only=True,
    )
    values = st.tuples(*(member.values for member in members))
    return FieldType(
        event,
        values.map(lambda drawn: (dict(zip(names, (j for j, _ in drawn), strict=True)), _second(names, drawn))),
    )


def _second(names: Sequence[str], drawn: Sequence[Written]) -> dict[str, Any]:
    return dict(zip(names, (stored for _, stored in drawn), strict=True))


def with_null(types: st.SearchStrategy[FieldType]) -> st.SearchStrategy[FieldType]:
    return types | types.map(nullable)


field_types = st.recursive(
    with_null(st.sampled_from(SCALARS)) | with_null(st.sampled_from(OF_DICT).map(keyed)),
    lambda inner: with_null(
        st.sampled_from(SCALARS).map(many)
        | st.lists(inner, min_size=1, max_size=3).map(nested)
        | st.lists(inner, min_size=1, max_size=2).map(nested).map(many)
    ),
    max_leaves=5,
)
BAD = st.sampled_from([None, b"", b"[]", b"{}", b'{"at":"2023-11-14T12:00:00","x":{}}', b"[" * 5_000])


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Stream, list[tuple[bytes | None, dict[str, Any] | None]]]:
    """A stream of a random event type, and records with what each has, None for a bad one."""
    content = nested(draw(st.lists(field_types, min_size=1, max_size=4)))
    event: Any = msgspec.defstruct("Scene", [("at", datetime), ("x", content.hint)], bases=(Event,), kw_only=True)
    good = content.values.map(
        lambda pair: (msgspec.json.encode({"at": NOON, "x": pair[0]}), {"at": NOON, "x": pair[1]})
    )
    bad = BAD.map(lambda value: (value, None)) | good.map(lambda pair: (pair[0][:-1], None))
    records: Any = draw(st.lists(good | good | bad, min_size=1, max_size=8))
    return Stream("scene", event, event_time="at"), records


@pytest.mark.long
@settings(max_examples=examples(40), deadline=None)
@given(scenes(), st.lists(st.integers(1, 4), max_size=8))
def test_the_log_has_what_a_plain_reading_gives_in_any_batch_cut(
    scene: tuple[Stream, list[tuple[bytes | None, dict[str, Any] | None]]], cuts: list[int]
) -> None:
    stream, records = scene
    values = [value for value, _ in records]
    starts = [start for start in (0, *itertools.accumulate(cuts)) if start < len(values)]
    parts = [judged(stream, values[a:b], a) for a, b in itertools.pairwise([*starts, len(values)])]
    rows = pl.concat(parts)
    assert_frame_equal(rows, judged(stream, values))
    with tempfile.TemporaryDirectory() as folder:
        log = EventLog(folder)
        writer = LogWriter(log, stream)
        middle = parts[0].height
        writer.append(rows[:middle], {SOURCE: None}, {SOURCE: middle})
        writer.append(rows[middle:], {SOURCE: middle}, {SOURCE: len(values)})
        names = [field.name for field in stream.fields]
        found, flat = log.read(stream.topic), log.read_from(stream.topic, SOURCE, 0, None, names)
        assert_frame_equal(flat, log.select(stream.topic, None, names).select(names))
    assert [
        None if row["__verdict"] == "rejected" else {"at": row["at"], "x": row["x"]} for row in found.to_dicts()
    ] == [content for _, content in records]
    assert found.get_column("__value").to_list() == [None if content else value for value, content in records]
    assert flat.to_dicts() == [{name: at_name(content, name) for name in names} for _, content in records]


def at_name(content: dict[str, Any] | None, name: str) -> Any:
    found: Any = content
    for part in name.split("."):
        found = None if found is None else found[part]
    return found
