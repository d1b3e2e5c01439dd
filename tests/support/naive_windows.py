"""Windows whose rows choose their content, as loops over rows: the newest rows, and sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

if TYPE_CHECKING:
    from headrace.features.definitions.windows import SessionSpec, WindowSpec

Row = dict[str, Any]


def chosen_rows(rows: list[Row], window: WindowSpec, at_us: int) -> list[Row]:
    """The rows of one entity that such a window has at t."""
    ordered = sorted(rows, key=lambda row: (row["time_us"], row["partition"], row["offset"]))
    if window.session is not UNSET:
        return _session(_within_tiles(ordered, window, at_us), window.session, at_us)
    assert window.newest_rows is not UNSET
    newest: list[Row] = []
    for row in reversed(ordered):
        if len(newest) < window.newest_rows and row["time_us"] > at_us - window.length_us:
            newest.append(row)
    return newest


def _within_tiles(rows: list[Row], window: WindowSpec, at_us: int) -> list[Row]:
    size = window.tile_us
    newest, tiles = at_us // size, window.length_us // size
    return [row for row in rows if newest - tiles < row["time_us"] // size <= newest]


def _session(rows: list[Row], session: SessionSpec, at_us: int) -> list[Row]:
    """Sessions from the newest back: a silence of the gap or more is between them."""
    sessions: list[list[Row]] = [[]]
    later_us = at_us
    for row in reversed(rows):
        if later_us - row["time_us"] >= session.gap_us:
            sessions.append([])
        sessions[-1].append(row)
        later_us = row["time_us"]
    return sessions[session.ago] if session.ago < len(sessions) else []
