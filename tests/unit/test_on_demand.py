"""On-demand features: what a service may say, its spec, which is a public format, and what a request must bring."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from headrace import Count, Entity, Event, FeatureService, FeatureView, Last, Max, Mean, Stream, Sum, col
from headrace.errors import DefinitionError, NewerFormatError, RequestValueError
from headrace.features.definitions.spec import to_document
from headrace.features.definitions.store_documents import read_service
from headrace.features.kernel.on_demand import expanded, on_demand
from headrace.features.kernel.on_demand_polars import on_demand_columns
from headrace.features.kernel.tile_kernel import kernel

if TYPE_CHECKING:
    from collections.abc import Callable


class Sale(Event):
    shop: str
    amount: float
    items: int
    is_online: bool
    at: datetime


sales = Stream("sales", Sale, event_time="at")
shop = FeatureView(
    "shop",
    entity=Entity("shop"),
    source=sales,
    windows=["1h", "1d"],
    derived={"each": col("amount") / col("items")},
    features={"n": Count(), "mean": Mean("amount"), "items": Sum("items"), "online": Last("is_online"),
              "dear": Max("each"), "most": Max("items")},
)  # fmt: skip
REQUEST: dict[str, Any] = {"price": float, "pieces": int, "paid_at": datetime | None, "coupon": str | None, "vip": bool}
ON_DEMAND = {
    "ratio": col("price") / col("shop__mean_1d"),
    "is_dear": col("ratio") > 2,
    "rest": col("pieces") - col("shop__items_1h"),
    "by_night": (col("paid_at").hour() < 6) | col("vip"),
    "sale": col("coupon").is_in(["spring", "autumn"]),
}


def service(**changes: Any) -> FeatureService:
    return FeatureService("risk", [shop], **({"on_demand": ON_DEMAND, "request": REQUEST} | changes))


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(DefinitionError) as caught:
        make()
    return str(caught.value)


def test_a_request_that_is_nested_without_end_has_the_values_of_its_first_levels() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep, "b": 1}
    found = expanded({"card": deep})
    assert (found["card.b"], found["card.a.a.b"]) == (1, 1)
    assert max(name.count(".") for name in found) == 10


def test_on_demand_columns_come_after_the_columns_of_the_views_in_order() -> None:
    plain = FeatureService("risk", [shop])
    assert service().columns() == [*plain.columns(), "ratio", "is_dear", "rest", "by_night", "sale"]


def test_the_spec_of_on_demand_features_is_plain_json_that_never_changes() -> None:
    assert to_document(service().spec) == {
        "spec_version": 2,
        "service": "risk",
        "views": [["shop", shop.version]],
        "on_demand": {
            "request": [
                {"name": "price", "kind": "float", "nullable": False},
                {"name": "pieces", "kind": "int", "nullable": False},
                {"name": "paid_at", "kind": "datetime", "nullable": True},
                {"name": "coupon", "kind": "str", "nullable": True},
                {"name": "vip", "kind": "bool", "nullable": False},
            ],
            "features": [
                {"name": "ratio", "kind": "float", "value": ["div", ["col", "price"], ["col", "shop__mean_1d"]]},
                {"name": "is_dear", "kind": "bool", "value": ["gt", ["col", "ratio"], ["lit", 2]]},
                {"name": "rest", "kind": "int", "value": ["sub", ["col", "pieces"], ["col", "shop__items_1h"]]},
                {
                    "name": "by_night",
                    "kind": "bool",
                    "value": ["or", ["lt", ["hour", ["col", "paid_at"]], ["lit", 6]], ["col", "vip"]],
                },
                {"name": "sale", "kind": "bool", "value": ["is_in", ["col", "coupon"], ["spring", "autumn"]]},
            ],
        },
    }
    assert service().version == "91abe20d83084f3e"


def test_a_service_without_on_demand_features_keeps_its_spec_and_hash() -> None:
    plain = FeatureService("risk", [shop])
    assert to_document(plain.spec) == {"spec_version": 1, "service": "risk", "views": [["shop", shop.version]]}
    assert not on_demand(plain.spec.on_demand).names


def test_a_spec_of_a_later_release_is_refused() -> None:
    with pytest.raises(NewerFormatError, match=r"service 'risk' has spec version 3.*up to 2: upgrade"):
        read_service(to_document(service().spec) | {"spec_version": 3}).spec  # noqa: B018 - it raises


def test_the_kinds_of_columns_equal_the_kinds_of_the_kernel() -> None:
    compiled = kernel(shop.spec)
    outputs = [output.result for output in compiled.outputs for _ in compiled.windows]
    found = shop.spec.column_kinds
    assert found == dict(zip(compiled.columns, outputs, strict=True))
    wanted = {"n": "int", "mean": "float", "items": "int", "online": "bool", "dear": "float", "most": "int"}
    assert {name.split("_")[2]: of for name, of in found.items()} == wanted


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"on_demand": {"x": col("shop__mean_7d") * 2}}, ("on_demand 'x'", "'shop__mean_7d'", "'shop__mean_1d'")),
        ({"on_demand": {"x": col("amount") * 2}}, ("on_demand 'x'", "no column 'amount'", "'price'", "'shop__n_1h'")),
        ({"on_demand": {"a": col("b") + 1, "b": col("price")}}, ("on_demand 'a'", "no column 'b'")),
        ({"on_demand": {"a": col("a") + 1}}, ("on_demand 'a'", "no column 'a'")),
        ({"on_demand": {"x": col("price") + col("coupon")}}, ("on_demand 'x'", "'add' cannot take float and str")),
        ({"on_demand": {"x": col("paid_at")}}, ("on_demand 'x' is datetime", "['bool', 'float', 'int', 'str']")),
        ({"on_demand": {"x__y": col("price")}}, ("on_demand name 'x__y'", "single underscores")),
        ({"on_demand": {"price": col("price") * 2}}, ("the request's 'price'", "also an on-demand feature", "rename")),
        ({"request": REQUEST | {"more": int}}, ("the request's 'more'", "read by no on-demand feature")),
        ({"on_demand": {}, "request": {"price": float}}, ("the request's 'price'", "read by no on-demand feature")),
        ({"request": REQUEST | {"coupon": bytes}}, ("request.coupon", "int, float, bool, str, datetime")),
        ({"request": REQUEST | {"coupon": list[str]}}, ("'is_in' cannot take list(str) and str",)),
        (
            {"request": REQUEST | {"coupon": list[datetime]}},
            ("request.coupon is a list of datetime", "or a list of int"),
        ),
        ({"request": REQUEST | {"a__b": int}}, ("request name 'a__b'", "single underscores")),
    ],
    ids=lambda case: "-".join(case) if isinstance(case, dict) else "",
)
def test_a_wrong_on_demand_feature_is_refused_when_defined(changes: dict[str, Any], said: tuple[str, ...]) -> None:
    message = refusal(lambda: service(**changes))
    for part in ("service 'risk'", *said):
        assert part in message


WHOLE: dict[str, Any] = {"price": 9.5, "pieces": 3, "paid_at": None, "coupon": None, "vip": False}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"price": None}, "got `null` - at `$[1].price`"),
        ({"price": "9"}, "Expected `float`, got `str` - at `$[1].price`"),
        ({"price": float("inf")}, "inf is no number - at `$[1].price`"),
        ({"pieces": 3.0}, "Expected `int`, got `float` - at `$[1].pieces`"),
        ({"pieces": True}, "Expected `int`, got `bool` - at `$[1].pieces`"),
        ({"pieces": 2**63}, "`$[1].pieces`"),
        ({"paid_at": datetime(2020, 1, 1)}, "timezone component - at `$[1].paid_at`"),  # noqa: DTZ001 - the case
        ({"coupon": 3}, "Expected `str | null`, got `int` - at `$[1].coupon`"),
        ({"vip": 1}, "Expected `bool`, got `int` - at `$[1].vip`"),
    ],
)
def test_a_value_of_another_type_is_refused_by_row_and_name(row: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestValueError) as caught:
        on_demand(service().spec.on_demand).given([WHOLE, WHOLE | row])
    assert said in str(caught.value)
    assert "price: float, pieces: int, paid_at: datetime | None, coupon: str | None, vip: bool" in str(caught.value)


@pytest.mark.parametrize("name", WHOLE)
def test_a_value_that_is_absent_is_refused_by_row_and_name(name: str) -> None:
    with pytest.raises(RequestValueError, match=rf"required field `{name}` - at `\$\[0\]`"):
        on_demand(service().spec.on_demand).given([{key: value for key, value in WHOLE.items() if key != name}])


def test_a_row_may_hold_more_and_a_time_may_be_text() -> None:
    at = datetime(2020, 1, 1, 3, tzinfo=UTC)
    rows = [WHOLE | {"paid_at": at, "price": 9, "more": object()}, WHOLE | {"paid_at": "2020-01-01T04:00:00+01:00"}]
    given = on_demand(service().spec.on_demand).given(rows)
    assert given["paid_at"].to_list() == [int(at.timestamp()) * 1_000_000] * 2
    assert given["price"].to_list() == [9.0, 9.5]


def test_a_training_set_gives_what_a_look_up_gives() -> None:
    compiled = on_demand(service().spec.on_demand)
    rows = [WHOLE | {"paid_at": datetime(2020, 1, 1, 3, tzinfo=UTC), "coupon": "spring"}, WHOLE]
    found = {"shop__mean_1d": ([2.0, np.nan], [True, False]), "shop__items_1h": ([5, 0], [True, True])}
    arrays = {name: (np.array(values), np.array(there)) for name, (values, there) in found.items()}
    online = [
        [value if there else None for value, there in zip(values.tolist(), present.tolist(), strict=True)]
        for values, present in compiled.values(arrays, compiled.given(rows), 2)
    ]
    assert online == [[4.75, None], [True, None], [-2, 3], [True, None], [True, None]]
    table = pl.DataFrame({"shop__mean_1d": [2.0, None], "shop__items_1h": [5, 0]})
    assert [column.to_list() for column in on_demand_columns(compiled, table, pl.DataFrame(rows))] == online


SPINE = pl.DataFrame([WHOLE], schema_overrides={"paid_at": pl.Datetime("us", "UTC"), "coupon": pl.String()})


@pytest.mark.parametrize(
    ("spine", "said"),
    [
        (SPINE.drop("price"), "the rows lack the request's value 'price' (float); they have ['pieces'"),
        (SPINE.with_columns(price=pl.lit("9")), "'price' as String; the service has it as float: cast it"),
        (SPINE.with_columns(pieces=pl.lit(3.0)), "'pieces' as Float64; the service has it as int: cast it"),
        (SPINE.with_columns(vip=pl.lit(1)), "'vip' as Int32; the service has it as bool"),
        (SPINE.with_columns(price=pl.lit(None, pl.Float64())), "'price' is no float in 1 rows, the first is row 0"),
        (SPINE.with_columns(price=float("nan")), "'price' is no float in 1 rows"),
    ],
)
def test_a_spine_that_does_not_bring_the_values_is_refused(spine: pl.DataFrame, said: str) -> None:
    table = pl.DataFrame({"shop__mean_1d": [2.0], "shop__items_1h": [5]})
    assert said in refusal(lambda: on_demand_columns(on_demand(service().spec.on_demand), table, spine))


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_of_a_spine_are_utc(zone: str | None, unit: Any) -> None:
    noon = pl.Series([datetime(2020, 1, 1, 5)]).cast(pl.Datetime(unit))  # noqa: DTZ001 - cast below
    spine = SPINE.with_columns(paid_at=noon.dt.replace_time_zone("UTC").dt.convert_time_zone(zone) if zone else noon)
    table = pl.DataFrame({"shop__mean_1d": [2.0], "shop__items_1h": [5]})
    assert on_demand_columns(on_demand(service().spec.on_demand), table, spine)["by_night"].to_list() == [True]
