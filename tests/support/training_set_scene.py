"""What the tests of training sets share: spines over a shop's orders, and the sets made for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

import headrace
from headrace import Settings
from headrace.base.times import utc_datetime
from tests.support.orders_model import DAYS, Shop, day, model

AS_OF = utc_datetime(day(DAYS + 2))
HALF_HOUR = 1_800_000_000
SERVICE = model.features


def settings_of(shop: Shop) -> Settings:
    """Settings that name the shop's event log."""
    return Settings(event_log=str(shop.folder / "log"))


def made(shop: Shop, what: Any, spine: Any = None, **options: Any) -> headrace.TrainingSet:
    """A training set of the shop's event log."""
    given: dict[str, Any] = {"as_of": AS_OF, "excluded": []} | options
    return headrace.training_set(what, spine, **given, settings=settings_of(shop))


def spine_of(rows_: int, seed: int = 1) -> pl.DataFrame:
    """Rows in no order, of shops that some are nobody's, with a column of one's own."""
    rng = np.random.default_rng(seed)
    times = rng.integers(day(-1), day(DAYS + 1), rows_)
    times[-1:] = day(DAYS) + HALF_HOUR
    return pl.DataFrame(
        {
            "note": [f"row {row}" for row in range(rows_)],
            "shop": [f"shop-{number}" for number in rng.integers(0, 7, rows_)],
            "at": pl.Series(times).cast(pl.Datetime("us", "UTC")),
        }
    )
