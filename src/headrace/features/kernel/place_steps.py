"""Steps of places on the Earth and of times in its zones, in numpy. They are equal to the bit on every machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headrace.features.kernel.elementary import arctan, cos_degrees, sin_degrees
from headrace.features.kernel.local_times import in_zone
from headrace.features.kernel.masked_column import DAY, MaskedColumn

if TYPE_CHECKING:
    from collections.abc import Callable

_DIAMETER = 2 * 6371.0088
"""Twice the mean radius of the Earth in km (IUGG)."""
_MOST_LATITUDE, _MOST_LONGITUDE = 90.0, 360.0


def _haversine(arms: list[MaskedColumn]) -> MaskedColumn:
    lat1, lon1, lat2, lon2 = (arm.values.astype(np.float64) for arm in arms)
    there = np.logical_and.reduce([arm.present for arm in arms])
    inside = (np.abs(lat1) <= _MOST_LATITUDE) & (np.abs(lat2) <= _MOST_LATITUDE)
    inside &= (np.abs(lon1) <= _MOST_LONGITUDE) & (np.abs(lon2) <= _MOST_LONGITUDE)
    lat1, lon1, lat2, lon2 = (np.where(inside, each, 0.0) for each in (lat1, lon1, lat2, lon2))
    return MaskedColumn(_DIAMETER * _half_angle(lat1, lon1, lat2, lon2), there & inside)


def _half_angle(lat1: np.ndarray, lon1: np.ndarray, lat2: np.ndarray, lon2: np.ndarray) -> np.ndarray:
    up, across = sin_degrees((lat2 - lat1) / 2.0), sin_degrees((lon2 - lon1) / 2.0)
    square = np.minimum(up * up + cos_degrees(lat1) * cos_degrees(lat2) * (across * across), 1.0)
    sine, cosine = np.sqrt(square), np.sqrt(1.0 - square)
    small = arctan(np.minimum(sine, cosine) / np.maximum(sine, cosine))
    return np.where(sine <= cosine, small, np.pi / 2.0 - small)


def _in_zone(arms: list[MaskedColumn], zone: str) -> MaskedColumn:
    [arm] = arms
    return MaskedColumn(in_zone(np.where(arm.present, arm.values, 0), zone), arm.present)


def _date(arms: list[MaskedColumn]) -> MaskedColumn:
    return MaskedColumn(arms[0].values // DAY * DAY, arms[0].present)


PLACE_STEPS: dict[str, Callable[..., MaskedColumn]] = {"haversine": _haversine, "in_zone": _in_zone, "date": _date}
