"""A service with on-demand features on the views of shops and tills, with requests and the values they must give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.features.definitions.expression import col
from headrace.features.definitions.service import FeatureService
from tests.support.lookups_scene import MINUTE, START_US, Awaited, Waiting, shops, tills

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Waiting | Awaited]


ON_DEMAND = {
    "gap": col("shop__amount_10m") - col("till__last_1h"),
    "is_dear": col("price") > 2 * col("till__last_1h"),
    "is_known": ~col("gap").is_null() | col("vip").fill_null(value=False),
}
basket = FeatureService("basket", [shops, tills], ON_DEMAND, {"price": float, "vip": bool | None})
AT_US = START_US + 4 * MINUTE
NOWHERE = {"shop": "zz", "till": 1}
REQUESTS: list[dict[str, Any]] = [{"price": 3, "vip": None}, {"price": 1.0, "vip": True}, {"price": 9.0, "vip": None}]
WANTED: list[list[Any]] = [[2.0, True, True], [None, None, True], [None, None, False]]
