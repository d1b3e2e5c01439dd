"""Features that are vectors: what is accepted, their specs, their bytes, and how each reader gets them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
import numpy as np
import polars as pl
import pytest

from headrace import (
    ApproxDistinct,
    Count,
    Entity,
    Event,
    FeatureService,
    FeatureView,
    First,
    Last,
    LastN,
    Lifetime,
    Max,
    Mean,
    Role,
    Stream,
    Sum,
    Table,
    Vector,
    col,
)
from headrace.bus.codec import Decoder
from headrace.bus.event import encode
from headrace.bus.formats.avro import Avro
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.errors import CodecError, DefinitionError
from headrace.features.definitions.spec import read_spec, to_document
from headrace.features.definitions.view_spec import ViewSpec
from headrace.features.kernel.field import FieldLayout, unpack
from headrace.features.kernel.tile_kernel import kernel
from headrace.features.offline.feature_history import value_column
from headrace.features.offline.vector_values import model_matrix, vector_columns
from headrace.features.offline.view_history import PointInTimeQueries, ViewHistory
from headrace.features.online.entity_key import serializer
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.models.predictions import logged_values
from headrace.serving.features import FeatureClient
from headrace.serving.http.messages import response_of
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from headrace.testing import fold

START = datetime(2026, 1, 1, tzinfo=UTC)
START_US = 1_767_225_600_000_000
SOURCE = SourcePartition(0, b"t" * 16)


class Viewed(Event):
    """A user looks at something."""

    user: str
    at: datetime
    embedding: Annotated[list[float], Vector(2)] | None
    free: list[float] | None = None


viewed = Stream("viewed", Viewed, event_time="at", key="user")
user = Entity("user", str)
FEATURES: dict[str, Any] = {
    "taste": Mean("embedding", dim=2), "total": Sum("embedding", dim=2), "last": Last("embedding", dim=2),
    "first": First("embedding", dim=2),
}  # fmt: skip


def view(**more: Any) -> FeatureView:
    return FeatureView("user", user, viewed, **{"windows": [Lifetime()], "features": FEATURES, **more})


def events(*vectors: list[float] | None) -> list[Viewed]:
    """What a looks at, a second after the other."""
    return [Viewed("a", START + timedelta(seconds=second), vector) for second, vector in enumerate(vectors)]


def log(*vectors: list[float] | None, stream: Stream = viewed) -> pl.DataFrame:
    stamps = START_US + 1_000_000 * np.arange(len(vectors))
    payloads = [encode(event) for event in events(*vectors)]
    records = PartitionRecords(np.arange(len(vectors)), stamps, [None] * len(vectors), payloads)
    return RecordJudge(stream).rows(SOURCE.topic_id, 0, records, NO_CLOCK)


def served(of: FeatureView, rows: pl.DataFrame, service: FeatureService | None = None) -> MemoryOnlineStore:
    store = MemoryOnlineStore(lambda: 0)
    publish_definitions(store, [of], [] if service is None else [service])
    owned = ViewPartition(of.spec, SOURCE, store)
    owned.acquire(bytes(16), 1)
    assert all(store.write(owned.fold(LoggedRows.from_rows(rows, "at"), rows.height)))
    return store


def looked_up(of: FeatureView, rows: pl.DataFrame, *users: str) -> Any:
    client = FeatureClient(served(of, rows))
    return client.get_views(of.spec.versioned_name, [{"user": each} for each in users], as_of=START + timedelta(days=1))


def from_log(of: FeatureView, rows: pl.DataFrame, *users: str) -> pl.DataFrame:
    history = ViewHistory(of.spec, rows)
    ends, at_us = np.full((len(users), 1), rows.height), np.full(len(users), START_US + 86_400_000_000)
    queries = PointInTimeQueries(pl.DataFrame({"user": users}), at_us, ends, history.sources)
    values = zip(of.spec.column_kinds.items(), history.values(queries), strict=True)
    return pl.DataFrame([value_column(*named, found, ~there) for named, (found, there) in values])


def test_a_look_up_has_a_list_of_numbers_and_a_training_set_an_array() -> None:
    rows = log([1.0, -2.0], None, [0.5, 4.0])
    found = looked_up(view(), rows, "a", "nobody")
    assert found.to_lists() == [
        [[0.75, 1.0], [1.5, 2.0], [0.5, 4.0], [1.0, -2.0]], [None, [0.0, 0.0], None, None],
    ]  # fmt: skip
    assert set(view().spec.column_kinds.values()) == {"vector(2)"}
    table = from_log(view(), rows, "a", "nobody")
    assert set(table.dtypes) == {pl.Array(pl.Float64, 2)}
    assert [list(row) for row in table.rows()] == found.to_lists()
    assert found.to_pandas()["user__last_lifetime"].tolist() == [[0.5, 4.0], None]
    body = msgspec.json.decode(msgspec.json.encode(response_of(found, offsets=False)))
    assert body["rows"][1] == [None, [0.0, 0.0], None, None]


@pytest.mark.parametrize(
    ("vector", "reason"),
    [
        ("[1, 2, 3]", "a list of 3 numbers, and Vector(2) has 2 - at `$.embedding`"),
        ("[]", "a list of 0 numbers, and Vector(2) has 2 - at `$.embedding`"),
        ("[1, null]", "Expected `float`, got `null` - at `$.embedding[1]`"),
        ("[1, NaN]", "JSON is malformed: invalid character (byte 61)"),
        ("7", "Expected `array | null`, got `int` - at `$.embedding`"),
    ],
)
def test_a_record_with_another_list_is_rejected_with_the_reason_and_nothing_else_is(vector: str, reason: str) -> None:
    good = '{"user": "a", "at": "2026-01-01T00:00:00Z", "embedding": [1, 2]}'
    given = [good.encode(), good.replace("[1, 2]", vector).encode()]
    rows, places, errors = Decoder(viewed).decode(given)
    assert [row.embedding for row in rows] == [[1.0, 2.0]]
    assert (places.tolist(), errors) == ([0], {1: reason})
    told = fold(view(), given, rejected="keep")
    assert [row.error for row in told.rejected] == [reason]


def test_a_number_that_is_not_finite_is_named() -> None:
    assert Vector(2).problem([0.5, float("nan")]) == "number 1 of the vector is nan: each has to be finite"
    assert Vector(2).fits([[0.5, 1.0]])
    assert not Vector(2).fits([[0.5, float("inf")]])
    assert Avro.has_nan


@pytest.mark.parametrize("dim", [0, 5000, 2.0, True])
def test_a_length_is_a_number_from_1_to_4096(dim: Any) -> None:
    for make in (lambda: Vector(dim), lambda: Mean("embedding", dim=dim)):
        with pytest.raises(DefinitionError, match="a vector has from 1 to 4096 numbers"):
            make()


def test_only_a_list_of_floats_is_a_vector() -> None:
    class Wrong(Event):
        at: datetime
        words: Annotated[list[str], Vector(2)]

    with pytest.raises(DefinitionError, match=r"Wrong.words: Vector\(dim=2\) is the length of a list\[float\]"):
        _ = Stream("wrong", Wrong, event_time="at").spec


@pytest.mark.parametrize(
    ("feature", "reason"),
    [
        (Mean("embedding"), r"'x' is a mean of vector\(2\): write Mean\(…, dim=2\)"),
        (Last("embedding"), r"write Last\(…, dim=2\)"),
        (Mean("embedding", dim=3), r"'x' has dim=3, and its value is vector\(2\): write dim=2"),
        (Sum("user", dim=3), "'x' has dim=3, and its value is str, which is no vector$"),
        (Sum("free", dim=3), r"no vector: declare the field as Annotated\[list\[float\], Vector\(3\)\]"),
        (Max("embedding"), r"'x' of 'embedding' is a max of vector\(2\); it takes"),
        (LastN("embedding", 2), r"is a last_n of vector\(2\)"),
        (ApproxDistinct("embedding"), r"is a approx_distinct of vector\(2\)"),
    ],
)
def test_a_feature_and_its_value_have_one_length(feature: Any, reason: str) -> None:
    with pytest.raises(DefinitionError, match=reason):
        view(features={"x": feature})


def test_a_role_that_takes_rows_back_takes_no_vectors() -> None:
    with pytest.raises(DefinitionError, match=r"'taste' is a mean: only count, sum.* of numbers can"):
        FeatureView("user", user, Role(viewed, takes_back=True), ["1h"], {"taste": Mean("embedding", dim=2)})


def test_a_spec_has_the_length_so_that_an_older_release_refuses_it_and_one_without_vectors_is_as_ever() -> None:
    (feature,) = to_document(view(features={"taste": Mean("embedding", dim=2)}).spec)["features"]
    assert feature == {"name": "taste", "aggregate": "mean", "value": ["col", "embedding"], "where": None, "dim": 2}
    document = to_document(view().spec)
    fields = {field["name"]: field for field in document["source"]["fields"]}
    assert fields["embedding"] == {**fields["free"], "name": "embedding", "dim": 2}
    assert "dim" not in fields["free"]
    assert read_spec(document, ViewSpec, "the view").version == view().version
    (plain,) = to_document(view(features={"n": Sum(col("embedding").list.len())}).spec)["features"]
    assert plain == {"name": "n", "aggregate": "sum", "value": ["list_length", ["col", "embedding"]], "where": None}


def test_a_field_with_vectors_has_these_bytes_and_a_format_of_its_own() -> None:
    of = view(features={"taste": Mean("embedding", dim=2), "n": Count(), "last": Last("embedding", dim=2)})
    store = served(of, log([1.0, -2.0], [0.5, 4.0]))
    keys = serializer([(key.name, key.kind) for key in of.spec.entity.keys])
    (field,) = store.look_up([(of.spec.versioned_name, [keys(("a",))])])[0].fields[0].values()
    assert field.hex() == (
        "04" "00" "0100" "00000000"
        "0200000000000000" "40822f4648470600" "40822f4648470600" "01000000" "00000000"
        "0000000000000000" "0200000000000000" "01000000" "01000000"
        "0200000000000000" "000000000000f83f" "0000000000000040"
        "40822f4648470600" "0100000000000000" "0100000000000000" "000000000000e03f" "0000000000001040"
    )  # fmt: skip
    layout = kernel(of.spec).layout
    assert (layout.form, len(unpack(field, layout)[1])) == (4, 1)
    older = FieldLayout(kernel(of.spec).tile, 1, (np.dtype("<i8"), np.dtype("<i8")))
    with pytest.raises(CodecError, match="the view's format is 2"):
        unpack(field, older)
    assert kernel(view(features={"n": Count()}).spec).layout.form == 1


def test_mean_and_sum_share_an_entry_and_a_tile_without_vectors_has_none() -> None:
    both = kernel(view(features={"taste": FEATURES["taste"], "total": FEATURES["total"]}).spec)
    assert [sketch.dtype.itemsize for sketch in both.sketches] == [8 + 2 * 8]
    rows = log(None, None).with_columns(__time=pl.col("at").dt.epoch("us"), __row_offset="__offset")
    assert len(both.lift(rows).entries[0]) == 0  # type: ignore[attr-defined] # tiles with sketches have entries


def test_a_list_in_the_log_from_before_it_was_a_vector_counts_as_null() -> None:
    class Before(Event):
        user: str
        at: datetime
        embedding: list[float] | None

    rows = log([1.0], [3.0, 5.0], [], None, [1.0, 2.0, 3.0], stream=Stream("viewed", Before, event_time="at"))
    assert from_log(view(), rows, "a").row(0) == ([3.0, 5.0], [3.0, 5.0], [3.0, 5.0], [3.0, 5.0])


def test_a_sum_beyond_the_largest_double_is_null_as_that_of_numbers_is() -> None:
    found = looked_up(view(), log([1e308, 0.0], [1e308, 0.0]), "a").to_lists()[0]
    assert found == [None, None, [1e308, 0.0], [1e308, 0.0]]


def test_the_newest_row_of_a_table_gives_its_vector_and_takes_it_back() -> None:
    class Item(Event):
        item: str
        at: datetime
        embedding: Annotated[list[float], Vector(2)] | None

    items = Table("items", Item, event_time="at", key="item")
    of = FeatureView("item", Entity("item", str), items, features=["embedding"])
    assert of.spec.column_kinds == {"item__embedding": "vector(2)"}
    later = START + timedelta(hours=1)
    rows = [Item(*row) for row in (("a", START, [1.0, 2.0]), ("b", START, [1.0, 2.0]), ("a", later, [3.0, 4.0]))]
    found = fold(of, [*rows, Item("b", later, None)], at=[START, later]).to_dicts()
    assert [row["item__embedding"] for row in found] == [[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], None]


def test_an_expression_reads_a_vector_as_a_list_in_a_view_and_on_demand() -> None:
    of = view(features={"taste": Mean("embedding", dim=2), "largest": Mean(col("embedding").list.max())})
    service = FeatureService("feed", [of], on_demand={"second": col("user__taste_lifetime").list.get(1)})
    found = fold(service, events([1.0, -2.0], [0.5, 4.0]), entity=[{"user": "a"}, {"user": "b"}]).to_dicts()
    assert [(row["user__largest_lifetime"], row["second"]) for row in found] == [(2.5, 1.0), (None, None)]


def test_an_estimator_gets_a_column_for_each_number_the_same_in_training_and_in_an_application() -> None:
    of, rows = view(features={"taste": Mean("embedding", dim=2), "n": Count()}), log([1.0, -2.0], [0.5, 4.0])
    found = looked_up(of, rows, "a", "nobody")
    served_rows, trained = (
        found.to_model_input(found.columns),
        model_matrix(from_log(of, rows, "a", "nobody"), pl.DataFrame()),
    )
    assert trained.columns.tolist() == ["user__taste_lifetime_0", "user__taste_lifetime_1", "user__n_lifetime"]
    assert trained.iloc[0].tolist() == [0.75, 1.0, 2.0]
    assert trained.iloc[1].isna().tolist() == [True, True, False]
    assert served_rows.equals(trained)
    assert set(trained.dtypes.astype(str)) == {"float64"}


def test_a_logged_vector_is_json_and_nonsense_in_a_log_is_null() -> None:
    values = logged_values([[0.1, -2.0], None, 3])
    assert values == {"values": [None, None, 3.0], "texts": ["[0.1,-2.0]", None, None]}
    logged = pl.DataFrame(
        {
            "values": [values["values"]] * 4,
            "texts": [values["texts"], ["[1.0]", None, None], ["soon", None, None], [None] * 3],
        }
    )
    found = vector_columns(logged, {"taste": "vector(2)", "other": "vector(2)", "n": "int"})
    assert found.dtypes == [pl.Array(pl.Float64, 2), pl.Array(pl.Float64, 2), pl.Float64]
    assert found["taste"].to_list() == [[0.1, -2.0], None, None, None]
    assert json.loads(values["texts"][0]) == [0.1, -2.0]
