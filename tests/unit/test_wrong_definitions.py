"""A wrong definition fails when it loads, and says which object, which field and what it may be."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from headrace import (
    ApproxDistinct,
    Calendar,
    Count,
    DecayedSum,
    Entity,
    Event,
    FeatureView,
    Gate,
    Histogram,
    Label,
    LastN,
    Lifetime,
    Max,
    Mean,
    Min,
    Quantile,
    Std,
    Stream,
    Sum,
    Tumbling,
    Variance,
    col,
    drift,
    schedule,
)
from headrace.app.project.project import collect
from headrace.errors import DefinitionError
from headrace.features.definitions.windows import tile_size

if TYPE_CHECKING:
    from collections.abc import Callable


class Sale(Event):
    shop: str
    amount: float
    tags: list[str]
    at: datetime
    paid_at: datetime | None


sales = Stream("sales", Sale, event_time="at")


def view(name: str = "turnover", **changes: Any) -> FeatureView:
    """A view that is right but for the changes."""
    right: dict[str, Any] = {"entity": Entity("shop"), "source": sales, "windows": ["1h"], "features": {"n": Count()}}
    return FeatureView(name, **(right | changes))


def label(**changes: Any) -> Label:
    right: dict[str, Any] = {"stream": sales, "value": col("amount") > 9, "on": "shop", "within": "1d"}
    return Label(**(right | changes))


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(DefinitionError) as caught:
        make()
    return str(caught.value)


def test_right_definitions_load() -> None:
    assert view().version == view().version
    assert label().spec.within_us == 86_400_000_000


WRONG_VIEWS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"features": {"mean": Mean("amont")}}, ("feature 'mean'", "'amont'", "'amount'", "'shop'")),
    ({"features": {"n": Count(where=col("amont") > 1)}}, ("feature 'n': where", "'amont'", "'amount'")),
    ({"where": col("amont") > 1}, ("where", "'amont'", "'amount'")),
    ({"derived": {"net": col("amont") * 2}}, ("derived 'net'", "'amont'", "'amount'")),
    ({"derived": {"net": col("shop") * 2}}, ("derived 'net'", "mul", "str")),
    ({"features": {"mean": Mean("tags")}}, ("feature 'mean' of 'tags'", "a mean of list(str)", "'float'")),
    ({"entity": Entity("store")}, ("join key 'store'", "entity 'store'", "'sales'", "'shop'", "'amount'")),
    ({"entity": Entity("shop", int)}, ("join key 'shop'", "int", "str", "'sales'")),
    ({"where": col("amount")}, ("where is float", "bool")),
    ({"features": {"n": Count(where=col("amount"))}}, ("feature 'n'", "where is float", "bool")),
    ({"features": {}}, ("one feature",)),
    ({"features": {"a__b": Count()}}, ("feature name 'a__b'", "single underscores")),
    ({"windows": []}, ("one window",)),
    ({"windows": ["3601s"]}, ("window '3601s'", "2,000 tiles", "1h", "30d")),
    ({"windows": ["1h", "100d 1h"]}, ("window '100d 1h'", "ms, s, m, h, d")),
    ({"windows": ["0s"]}, ("window '0s'", "2,000 tiles")),
    ({"windows": [timedelta(milliseconds=100)]}, ("window", "100ms", "1s")),
    ({"windows": [3600]}, ("window 3600", "ms, s, m, h, d")),
    ({"windows": ["1h", "60m"]}, ("windows", "'1h', '1h'", "once")),
    ({"windows": [Tumbling("1d"), Tumbling("24h")]}, ("windows", "'tumbling_1d', 'tumbling_1d'", "once")),
    ({"windows": [Lifetime(), "1h", Lifetime()]}, ("windows", "'lifetime', '1h', 'lifetime'", "once")),
    ({"windows": [Tumbling("a day")]}, ("window Tumbling(length='a day', lag=None)", "ms, s, m, h, d")),
    ({"windows": [Tumbling("250ms")]}, ("window Tumbling(length='250ms', lag=None)", "at least 1s")),
    ({"features": {"d": ApproxDistinct("tags")}}, ("feature 'd' of 'tags'", "of list(str)", "'datetime'")),
    ({"features": {"d": ApproxDistinct(col("amont"))}}, ("feature 'd'", "'amont'", "'amount'")),
    ({"features": {"d": ApproxDistinct("shop", where=col("amount"))}}, ("feature 'd': where is float", "bool")),
    ({"features": {"a": LastN("amount", 2), "a_1": Count()}}, ("columns", "'a_1_1h'", "feature 'a'", "'a_1': rename")),
    ({"features": {"n": Count(), "n_tumbling": Count()}, "windows": ["1d", Tumbling("1d")]}, ("'n_tumbling_1d'",)),
    ({"max_age": "1 hour"}, ("max_age", "'1 hour'", "ms, s, m, h, d")),
    ({"clock": "sun"}, ("clock='sun'", "'wall'", "'stream'")),
    ({"history": "long"}, ("history", "'long'", "ms, s, m, h, d")),
    ({"delay": "soon"}, ("delay", "'soon'", "ms, s, m, h, d")),
    ({"delay": "0s"}, ("delay '0s'", "at least 1ms")),
]


@pytest.mark.parametrize(("changes", "said"), WRONG_VIEWS, ids=lambda case: "-".join(case) if case else "")
def test_a_wrong_view_is_refused_when_it_is_made(changes: dict[str, Any], said: tuple[str, ...]) -> None:
    message = refusal(lambda: view(**changes))
    for part in ("view 'turnover'", *said):
        assert part in message


@pytest.mark.parametrize(
    "aggregate",
    [
        Sum, Mean, Variance, Std, Min, Max,
        lambda of: Histogram(of, [1.0]), lambda of: DecayedSum(of, "1h"),
        lambda of: Quantile(of, 0.5),
    ],
)  # fmt: skip
def test_an_aggregate_of_text_is_refused(aggregate: Callable[[str], Any]) -> None:
    message = refusal(lambda: view(features={"of_text": aggregate("shop")}))
    assert "view 'turnover': feature 'of_text'" in message
    assert "of str; it takes ['bool', 'float', 'int']" in message


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LastN("amount", 0), ("LastN(n=0)", "1 to 100")),
        (lambda: LastN("amount", 101), ("LastN(n=101)", "1 to 100")),
        (lambda: LastN("amount", 2.5), ("LastN(n=2.5)", "whole number")),  # type: ignore[arg-type]
        (lambda: DecayedSum("amount", "soon"), ("DecayedSum(half_life=…)", "'soon'", "ms, s, m, h, d")),
        (lambda: DecayedSum("amount", "0s"), ("DecayedSum(half_life='0s')", "longer than 0")),
        (lambda: ApproxDistinct("shop", precision=3), ("ApproxDistinct(precision=3)", "4", "14")),
        (lambda: ApproxDistinct("shop", precision=15), ("ApproxDistinct(precision=15)", "4", "14")),
        (
            lambda: Calendar("month", "Asia/Kolkata", ago=1).spec,
            ("2,981 tiles of 30m", "at most 2,000", "choose", "every="),
        ),
        (lambda: Calendar("month", "Asia/Kathmandu").spec, ("2,985 tiles of 15m", "every=", "a smaller ago")),
        (lambda: Quantile("amount", 1.0), ("Quantile(q=1.0)", "between 0 and 1", "Max")),
        (lambda: Quantile("amount", 95), ("Quantile(q=95)", "between 0 and 1")),
        (lambda: Quantile("amount", []), ("Quantile(q=[])", "a list of different ones")),
        (lambda: Quantile("amount", [0.5, 0.5]), ("Quantile(q=[0.5, 0.5])", "different")),
        (lambda: Quantile("amount", 1e-7), ("Quantile(q=1e-07)", "at most 6 decimals")),
        (lambda: Quantile("amount", "0.5"), ("Quantile(q='0.5')", "a number between")),  # type: ignore[arg-type]
        (lambda: Quantile("amount", 0.5, error=0), ("Quantile(error=0)", "0.001 to 0.25")),
        (lambda: Quantile("amount", 0.5, error=0.3), ("Quantile(error=0.3)", "0.001 to 0.25")),
    ],
)
def test_a_wrong_aggregate_is_refused(make: Callable[[], object], said: tuple[str, ...]) -> None:
    message = refusal(make)
    for part in said:
        assert part in message


def test_columns_are_named_by_feature_item_and_window() -> None:
    features = {"a": LastN("amount", 2), "q": Quantile("amount", [0.5, 0.999]), "m": Quantile("amount", 0.9)}
    named = view(windows=["1h", Tumbling("7d"), Lifetime()], features=features)
    columns = [column for column in named.spec.columns if column.endswith("_7d")]
    names = ["a_1", "a_2", "q_p50", "q_p99_9", "m"]
    assert columns == [f"turnover__{name}_tumbling_7d" for name in names]
    assert named.spec.columns[2] == "turnover__a_1_lifetime"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"event_time": "when"}, ("'when'", "Sale", "['at']")),
        ({"event_time": "amount"}, ("'amount'", "Sale", "['at']")),
        ({"event_time": "paid_at"}, ("'paid_at'", "not a required datetime field", "['at']")),
        ({"available_at": "later"}, ("'later'", "['at']")),
        ({"key": "id"}, ("'id'", "'shop'", "'amount'")),
        ({"lateness": "an hour"}, ("lateness", "'an hour'", "ms, s, m, h, d")),
        ({"tolerance": "5"}, ("tolerance", "'5'", "ms, s, m, h, d")),
    ],
)
def test_a_wrong_stream_is_refused(changes: dict[str, Any], said: tuple[str, ...]) -> None:
    message = refusal(lambda: Stream("sales", Sale, **({"event_time": "at"} | changes)))
    for part in ("stream 'sales'", *said):
        assert part in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"on": "id"}, ("on", "'id'", "'shop'", "'amount'")),
        ({"value": col("late") > 1}, ("value", "'late'", "'amount'")),
        ({"value": col("amount"), "task": "binary"}, ("value is float", "bool")),
        ({"within": "soon"}, ("within", "'soon'", "ms, s, m, h, d")),
        ({"within": "0s"}, ("within='0s'", "longer")),
        ({"missing": "guess"}, ("missing='guess'", "None", "False")),
    ],
)
def test_a_wrong_label_is_refused(changes: dict[str, Any], said: tuple[str, ...]) -> None:
    message = refusal(lambda: label(**changes))
    for part in ("label on 'sales'", *said):
        assert part in message


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda: Gate("auc", holdout="a while"), "gate: holdout"),
        (lambda: drift("score", psi=0.2, sample="a while"), "drift(sample=…)"),
        (lambda: schedule(every="a while"), "schedule(every=…)"),
    ],
)
def test_a_duration_of_a_trainer_is_refused_by_name(make: Callable[[], object], place: str) -> None:
    message = refusal(make)
    assert message.startswith(f"{place}: 'a while' is not a duration")


def test_two_views_of_one_name_are_refused_with_both_places() -> None:
    ours, theirs = ModuleType("features.ours"), ModuleType("features.theirs")
    vars(ours)["turnover"], vars(theirs)["other"] = view(), view(windows=["2h"])
    message = refusal(lambda: collect([ours, theirs]))
    for part in ("features.ours.turnover", "features.theirs.other", "views", "'turnover'"):
        assert part in message


def test_one_view_seen_from_two_modules_is_one() -> None:
    ours, theirs = ModuleType("features.ours"), ModuleType("features.theirs")
    vars(ours)["turnover"] = vars(theirs)["imported"] = view()
    assert list(collect([ours, theirs]).views) == ["turnover"]


@pytest.mark.parametrize("window_us", [0, -3_600_000_000, 1, 3_601_000_000])
def test_no_tile_size_for_a_window_that_is_not_round(window_us: int) -> None:
    assert "choose a rounder window" in refusal(lambda: tile_size(window_us))
