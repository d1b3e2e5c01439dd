"""The scavenger takes the views that it was given, each by its own reach, step after step."""

from __future__ import annotations

import struct
from datetime import datetime

from headrace.bus.event import Event
from headrace.bus.source_partition import SourcePartition
from headrace.bus.stream import Stream
from headrace.features.definitions.aggregates import Count
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.view import FeatureView
from headrace.features.online.cursor import Cursor
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.features.online.store import FencedWrite
from headrace.streams.plane.followed_views import FixedViews, FollowedViews
from headrace.streams.plane.housekeeping import Scavenger

HOUR = 3_600_000_000


class Sale(Event):
    """A sale in a shop."""

    shop: str
    at: datetime


sales = Stream("sales", Sale, event_time="at")
short = FeatureView("short", Entity("shop"), sales, ["10m", "1h"], {"n": Count()})
kept = FeatureView("kept", Entity("shop"), sales, ["1h"], {"n": Count()}, history="2h", clock="stream")
foreign = FeatureView("foreign", Entity("shop"), sales, ["10m"], {"n": Count()})
ZERO = SourcePartition(0, bytes(16))


def test_a_scavenger_deletes_only_fields_that_no_look_up_can_see() -> None:
    store = MemoryOnlineStore()
    names = {view.name: f"{view.name}@{view.version}" for view in (short, kept, foreign)}
    fields = {b"old": HOUR, b"new": HOUR + 1, b"older": -HOUR}
    packed = [struct.pack("<BBHIqqq", 1, 0, 1, 0, 1, 0, newest) for newest in fields.values()]
    for name in names.values():
        after = Cursor(b"w" * 16, 1, clock=2 * HOUR)
        assert store.write([FencedWrite(name, ZERO, Cursor(b"", -1), after, list(fields), packed)]) == [True]
    scavenger = Scavenger(store, FollowedViews(FixedViews([short.spec, kept.spec])))
    for _ in range(2):
        scavenger.step()
        left = {
            view: [key for key, found in zip(fields, store.read(name, ZERO, list(fields)), strict=True) if found]
            for view, name in names.items()
        }
        assert left == {"short": [b"new"], "kept": [b"old", b"new"], "foreign": list(fields)}
