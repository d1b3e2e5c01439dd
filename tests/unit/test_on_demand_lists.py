"""On-demand features of lists: of the request, and of views whose newest values are one feature."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - a field of an event
from typing import Any

import numpy as np
import polars as pl
import pytest
from msgspec import UNSET

from headrace import Entity, Event, FeatureService, FeatureView, LastN, Stream, col
from headrace.errors import DefinitionError, RequestValueError
from headrace.features.definitions.service_spec import OnDemandSpec
from headrace.features.definitions.spec import read_spec, to_document
from headrace.features.kernel.masked_column import MaskedColumn
from headrace.features.kernel.on_demand import on_demand
from headrace.features.kernel.on_demand_polars import on_demand_columns


class Payment(Event):
    card: str
    device: str
    pieces: int
    paid_at: datetime


payments = Stream("payments", Payment, event_time="paid_at")
card = FeatureView(
    "card",
    Entity("card"),
    payments,
    windows=["7d"],
    features={"devices": LastN("device", 3, as_list=True), "pieces": LastN("pieces", 3, as_list=True)},
)
risk = FeatureService(
    "risk",
    [card],
    on_demand={
        "is_known": col("device").is_in(col("card__devices_7d")),
        "pieces": col("card__pieces_7d").list.sum(),
        "share": col("amounts").list.max() / col("amounts").list.sum(),
        "rings": col("ring").list.len(),
        "has": col("ring").list.contains(col("device")),
    },
    request={"device": str, "amounts": list[float], "ring": list[str] | None},
)
ROWS: list[dict[str, Any]] = [
    {"device": "a", "amounts": [1.0, 3.0, None, float("nan")], "ring": ["a", None]},
    {"device": "b", "amounts": [], "ring": None},
    {"device": "c", "amounts": [5.0], "ring": []},
]
DEVICES: list[list[str]] = [["b", "a"], ["a"], []]
PIECES: list[list[int]] = [[2**62, 2**62 - 1], [2**62, 2**62], []]
WANTED: list[dict[str, Any]] = [
    {"is_known": True, "pieces": 2**63 - 1, "share": 0.75, "rings": 2, "has": True},
    {"is_known": False, "pieces": None, "share": None, "rings": None, "has": None},
    {"is_known": False, "pieces": 0, "share": 1.0, "rings": 0, "has": False},
]


def objects(lists: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    values = np.full(len(lists), None, object)
    for place, value in enumerate(lists):
        values[place] = value
    return values, np.ones(len(lists), bool)


@pytest.mark.parametrize("rows", [[0, 1, 2], [2], [1]])
def test_lists_in_a_look_up_and_in_a_training_set(rows: list[int]) -> None:
    compiled = on_demand(risk.spec.on_demand)
    given = [ROWS[row] for row in rows]
    devices, pieces = [DEVICES[row] for row in rows], [PIECES[row] for row in rows]
    found = {"card__devices_7d": objects(devices), "card__pieces_7d": objects(pieces)}
    columns = compiled.values(found, compiled.given(given), len(rows))
    online = [MaskedColumn(*each).to_list() for each in columns]
    wanted = [list(WANTED[row].values()) for row in rows]
    assert [list(row) for row in zip(*online, strict=True)] == wanted
    assert [values.dtype.kind for values, _ in columns] == ["b", "i", "f", "i", "b"]
    table = pl.DataFrame(
        {"card__devices_7d": devices, "card__pieces_7d": pieces},
        schema={"card__devices_7d": pl.List(pl.String()), "card__pieces_7d": pl.List(pl.Int64())},
    )
    spine = pl.DataFrame(
        given, schema={"device": pl.String(), "amounts": pl.List(pl.Float64()), "ring": pl.List(pl.String())}
    )
    assert [list(row) for row in on_demand_columns(compiled, table, spine).rows()] == wanted


def test_the_spec_names_lists_and_is_read_again() -> None:
    made = to_document(risk.spec.made)
    assert made["lists"] == {"card__devices_7d": "list(str)", "card__pieces_7d": "list(int)"}
    assert [field.get("many") for field in made["request"]] == [None, True, True]
    assert read_spec(made, OnDemandSpec, "it") == risk.spec.made
    plain = FeatureService("plain", [card], {"long": col("km") > 3}, {"km": float}).spec.made
    assert (plain.lists, plain.request[0].many) == (UNSET, UNSET)
    assert set(to_document(plain)) == {"request", "features"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"amounts": 3.0}, r"Expected `array`, got `float` - at `\$\[0\].amounts`"),
        ({"amounts": ["3"]}, r"Expected `float \| null`, got `str` - at `\$\[0\].amounts\[0\]`"),
        ({"amounts": None}, r"Expected `array`, got `null`"),
    ],
)
def test_a_list_of_another_type_is_refused_by_row_and_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestValueError, match=said) as caught:
        on_demand(risk.spec.on_demand).given([ROWS[0] | change])
    assert "amounts: list(float), ring: list(str) | None" in str(caught.value)


@pytest.mark.parametrize(
    ("spine", "said"),
    [
        (
            pl.DataFrame({"device": ["a"], "amounts": [1.0], "ring": [["a"]]}),
            "'amounts' as Float64; .* as list.float.: cast",
        ),
        (
            pl.DataFrame({"device": ["a"], "amounts": [["x"]], "ring": [["a"]]}),
            r"'amounts' as List\(String\); the service",
        ),
        (pl.DataFrame({"device": ["a"], "ring": [["a"]]}), "lack the request's value 'amounts'"),
    ],
)
def test_a_spine_without_lists_is_refused(spine: pl.DataFrame, said: str) -> None:
    table = pl.DataFrame({"card__devices_7d": [["a"]], "card__pieces_7d": [[1]]})
    with pytest.raises(DefinitionError, match=said):
        on_demand_columns(on_demand(risk.spec.on_demand), table, spine)
