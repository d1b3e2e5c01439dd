"""Ratios, skewness, kurtosis, correlations, trends and decayed means: their meanings, their bounds and their bytes."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from headrace import (
    Correlation,
    Count,
    DecayedMean,
    Entity,
    FeatureView,
    Kurtosis,
    Lifetime,
    Mean,
    Ratio,
    Skew,
    Stream,
    Sum,
    Trend,
    col,
)
from headrace.base.times import utc_datetime
from headrace.bus.event import Event
from headrace.errors import DefinitionError
from headrace.event_log.event_log import EventLog
from headrace.features.definitions.spec import to_document
from headrace.features.kernel.role_rows import with_time
from headrace.features.kernel.tile_kernel import TileKernel, kernel
from headrace.features.offline.feature_history import FeatureHistory
from headrace.trainers.audit.tolerance import tolerances
from tests.support.orders_model import write

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.features.definitions.aggregates import Aggregate

DAY = 86_400_000_000
T0 = 1_700_000_000_000_000


class Pair(Event):
    who: str
    at: datetime
    x: float | None
    y: float
    abroad: bool


pairs = Stream("pairs", Pair, event_time="at")
FEATURES: dict[str, Aggregate] = {
    "ratio": Ratio("x", "y"), "share": Ratio(Count(where=col("abroad")), Count()), "skew": Skew("x"),
    "kurtosis": Kurtosis("x"), "together": Correlation("x", "y"), "slope": Trend("x"), "moving": DecayedMean("x", "1d"),
}  # fmt: skip


def compiled(features: dict[str, Aggregate]) -> TileKernel:
    return kernel(FeatureView("v", Entity("who", str), pairs, [Lifetime()], features).spec)


def lifted(of: TileKernel, x: Any, y: Any = None, times: Any = None) -> np.ndarray:
    """The partials of rows with these values, a day apart."""
    at = T0 + DAY * np.arange(len(x)) if times is None else np.asarray(times)
    frame = pl.DataFrame(
        {
            "who": ["a"] * len(x),
            "at": at.astype("datetime64[us]"),
            "x": x,
            "y": np.ones(len(x)) if y is None else y,
            "abroad": [place % 4 == 0 for place in range(len(x))],
            "__offset": np.arange(len(x)),
        },
        schema_overrides={"x": pl.Float64},
    )
    return of.lift(with_time(frame, "at"))


def answers(of: TileKernel, partials: np.ndarray) -> dict[str, Any]:
    """The value of each feature over all partials."""
    found = of.finish(of.reduce(partials, np.array([0])), np.array([T0]))
    return {name: v[0].item() if p[0] else None for name, (v, p) in zip(FEATURES, found, strict=True)}


def test_the_values_are_those_of_the_formulas_in_any_cut() -> None:
    chance = np.random.default_rng(7)
    x, y = chance.lognormal(size=300), chance.normal(size=300)
    of = compiled(FEATURES)
    partials = lifted(of, x, y)
    away = x - x.mean()
    weights = 0.5 ** np.arange(299, -1, -1)
    wanted = {
        "ratio": x.sum() / y.sum(), "share": 0.25, "skew": (away**3).mean() / x.std() ** 3,
        "kurtosis": (away**4).mean() / x.var() ** 2 - 3, "together": np.corrcoef(x, y)[0, 1],
        "slope": np.polyfit(np.arange(300), x, 1)[0], "moving": (x * weights).sum() / weights.sum(),
    }  # fmt: skip
    assert answers(of, partials) == pytest.approx(wanted, rel=1e-9)
    for starts in ([0, 1, 2], [0, 100], list(range(0, 300, 7))):
        assert answers(of, of.reduce(partials, np.array(starts))) == pytest.approx(wanted, rel=1e-9)
    shuffled = partials[chance.permutation(300)]
    assert answers(of, shuffled) == pytest.approx(wanted, rel=1e-9)


def test_large_numbers_that_lie_close_together_lose_no_digits() -> None:
    small = np.random.default_rng(3).lognormal(size=500)
    of = compiled(FEATURES)
    near, far = answers(of, lifted(of, small, small**2)), answers(of, lifted(of, small + 1e9, small**2 + 1e9))
    for name in ("skew", "kurtosis", "together", "slope"):
        assert far[name] == pytest.approx(near[name], rel=1e-6), name


def test_times_of_microseconds_have_a_trend() -> None:
    of = compiled(FEATURES)
    found = answers(of, lifted(of, [1.0, 2.0, 3.0], times=[T0, T0 + 1, T0 + 2]))
    assert found["slope"] == pytest.approx(DAY, rel=1e-12)


@pytest.mark.parametrize("x", [[5.0], [5.0, 5.0, 5.0], [1e9 + 0.1] * 7, [None, 2.0]])
def test_equal_values_have_no_shape(x: list[float | None]) -> None:
    of = compiled(FEATURES)
    found = answers(of, lifted(of, x))
    assert [found[name] for name in ("skew", "kurtosis", "together")] == [None] * 3
    assert found["slope"] == (0.0 if x.count(x[-1]) > 1 else None)
    assert found["moving"] == pytest.approx(x[-1], rel=1e-12)


def test_a_power_that_does_not_fit_into_a_double_is_null() -> None:
    of = compiled(FEATURES)
    found = answers(of, lifted(of, [1e200, -1e200, 3.0], [1e300, -1e300, 1.0]))
    assert (found["skew"], found["kurtosis"], found["together"]) == (None, None, None)


@pytest.mark.parametrize(("x", "y"), [([], []), ([1.0, 2.0], [1.0, -1.0])])
def test_a_ratio_to_nothing_is_null(x: list[float], y: list[float]) -> None:
    of = compiled(FEATURES)
    partials = np.repeat(of.empty, 1) if not x else lifted(of, x, y)
    assert answers(of, partials)["ratio"] is None


def test_the_bounds_of_an_audit_are_small_and_known(tmp_path: Path) -> None:
    chance = np.random.default_rng(5)
    x, y = chance.lognormal(size=200), chance.lognormal(size=200)
    log, spec = EventLog(tmp_path), FeatureView("v", Entity("who", str), pairs, [Lifetime()], FEATURES).spec
    at = [utc_datetime(T0 + place * DAY) for place in range(200)]
    write(log, pairs, [Pair("a", at[i], float(x[i]), float(y[i]), i % 4 == 0) for i in range(200)])
    history = FeatureHistory([spec], log)
    history.refresh()
    keys, now = pl.DataFrame({"who": ["a"]}), np.array([T0 + 200 * DAY])
    bounds = tolerances(spec, history, keys, now, np.array([[200]]))
    found = {name.removeprefix("v__").removesuffix("_lifetime"): float(one[0]) / 1e-9 for name, one in bounds.items()}
    values = answers(compiled(FEATURES), lifted(compiled(FEATURES), x, y))
    of_x, of_y = (np.sqrt((each**2).sum() / each.var()) for each in (x, y))
    wanted = {
        "ratio": 2 * abs(values["ratio"]), "share": 0.0, "skew": (1 + abs(values["skew"])) * of_x,
        "kurtosis": (3 + abs(values["kurtosis"])) * of_x, "together": of_x + of_y,
        "slope": np.sqrt(400 * (x**2).sum()) / 199, "moving": x.max(),
    }  # fmt: skip
    assert found == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("made", "written"),
    [
        (
            Ratio(Sum("x", where=col("abroad")), Count()),
            {
                "name": "", "aggregate": "ratio", "value": None, "where": None,
                "numerator": {"name": "", "aggregate": "sum", "value": ["col", "x"], "where": ["col", "abroad"]},
                "denominator": {"name": "", "aggregate": "count", "value": None, "where": None},
            },
        ),
        (Skew("x"), {"name": "", "aggregate": "skew", "value": ["col", "x"], "where": None}),
        (Kurtosis("x"), {"name": "", "aggregate": "kurtosis", "value": ["col", "x"], "where": None}),
        (
            Correlation("x", "y"),
            {"name": "", "aggregate": "correlation", "value": ["col", "x"], "where": None, "paired": ["col", "y"]},
        ),
        (Trend("x"), {"name": "", "aggregate": "trend", "value": ["col", "x"], "where": None, "per_us": DAY}),
        (
            DecayedMean("x", "1h"),
            {"name": "", "aggregate": "decayed_mean", "value": ["col", "x"], "where": None, "half_life_us": DAY // 24},
        ),
    ],
)  # fmt: skip
def test_the_specs_are_as_written(made: Any, written: dict[str, Any]) -> None:
    sides = {side: to_document(getattr(made.spec, side)) for side in ("numerator", "denominator") if side in written}
    assert to_document(made.spec) | sides == written


def test_the_bytes_of_a_tile_are_as_written() -> None:
    of = compiled(FEATURES)
    tile = of.reduce(lifted(of, [1.0, None, 3.0], [2.0, 4.0, 6.0]), np.array([0]))
    stored = np.zeros(1, of.layout.stored)
    for name in of.layout.stored.names or ():
        stored[name] = tile[name]
    stored["k"] = 7
    newest = T0 + 2 * DAY
    columns = [
        4.0, 12.0, 3, 1,  # ratio: the sums and the rows of the whole; the share's part. Its whole is the same rows
        2, 2.0, 2.0, 0.0,  # skew
        2, 2.0, 2.0, 0.0, 2.0,  # kurtosis
        2, 2.0, 4.0, 2.0, 8.0, 4.0,  # correlation
        2, newest, -float(DAY), 2.0, 2.0 * DAY**2, 2.0 * DAY,  # trend
        newest, 3.25, 1.25,  # decayed mean
    ]  # fmt: skip
    assert list(stored[0].item()) == [7, *columns]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Ratio(Mean("x"), "y").spec, ("Ratio(part=Mean(…))", "a Sum or a Count")),
        (lambda: Trend("x", per="0s"), ("Trend(per=…) is '0s'", "longer than 0")),
        (lambda: Trend("x", per="soon"), ("Trend(per=…)", "'soon'")),
        (lambda: DecayedMean("x", "0s"), ("DecayedMean(half_life=…) is '0s'", "longer than 0")),
        (lambda: compiled({"r": Ratio("x", "who")}), ("feature 'r' of 'who' is a sum of str",)),
        (lambda: compiled({"c": Correlation("x", "who")}), ("feature 'c' of 'who' is a correlation of str",)),
        (lambda: compiled({"r": Ratio(Sum("x", where=col("y")), "x")}), ("feature 'r': where is float",)),
    ],
)
def test_a_wrong_shape_is_refused(make: Any, said: tuple[str, ...]) -> None:
    with pytest.raises(DefinitionError) as refused:
        make()
    for part in said:
        assert part in str(refused.value)
