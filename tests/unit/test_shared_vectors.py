"""Vectors that are read once for all models of a trainer: each feed gets the rows of its model, once each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.bus.source_partition import SourcePartition
from headrace.errors import NotInLogYetError
from headrace.event_log.event_log import EventLog
from headrace.trainers.data import shared_vectors
from headrace.trainers.data.shared_vectors import SharedVectors, VectorFeed
from tests.support.control_topics import VECTORS
from tests.support.orders_model import made, vector, write

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("a", "b", "c")
SOURCES = (SourcePartition(0, bytes([7]) * 16), SourcePartition(1, bytes([7]) * 16))


class Scene:
    """A log of vectors, and for each feed the keys that it has returned."""

    def __init__(self, folder: Path) -> None:
        self.log = EventLog(folder)
        self.log.create(VECTORS)
        self.shared = SharedVectors(self.log)
        self.written: dict[str, list[str]] = {name: [] for name in NAMES}
        self.feeds: list[tuple[VectorFeed, list[str]]] = []

    def write(self, name: str, rows: int, source: SourcePartition = SOURCES[0]) -> None:
        first = sum(map(len, self.written.values()))
        keys = [str(first + number) for number in range(rows)]
        served = vector(made()[0][0], 3.0)
        write(self.log, VECTORS, [msgspec.structs.replace(served, model=name, key=key) for key in keys], source)
        self.written[name] += keys

    def subscribe(self, name: str) -> None:
        self.feeds.append((self.shared.feed(name), []))

    def read(self, number: int) -> None:
        feed, keys = self.feeds[number % len(self.feeds)]
        keys += feed.read().get_column("key").to_list()

    def check(self) -> None:
        for number, (feed, keys) in enumerate(self.feeds):
            self.read(number)
            assert sorted(keys, key=int) == sorted(self.written[feed.model], key=int)


@pytest.mark.long
@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.just("write"), st.sampled_from(NAMES), st.integers(1, 9), st.sampled_from(SOURCES))
        | st.tuples(st.just("subscribe"), st.sampled_from(NAMES))
        | st.tuples(st.just("read"), st.integers(0, 9)),
        max_size=12,
    )
)
def test_each_feed_gets_each_vector_of_its_model_once_whenever_it_begins_and_reads(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, ...]]
) -> None:
    """More than five new rows are not kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_vectors, "MOST_KEPT", 5)
        scene = Scene(tmp_path_factory.mktemp("vectors"))
        scene.subscribe("a")
        for step, *arguments in steps:
            getattr(scene, step)(*arguments)
        scene.check()


def test_a_model_that_is_never_asked_for_keeps_nothing_after_the_first_tick(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    for name in ("a", "b"):
        scene.write(name, 3)
    scene.subscribe("a")
    scene.read(0)
    assert set(scene.shared._first) == {"a", "b"}
    scene.write("b", 3)
    scene.read(0)
    assert scene.shared._first == {}


def test_a_log_without_vectors_is_named_and_read_when_they_are_there(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    feed = SharedVectors(log).feed("a")
    with pytest.raises(NotInLogYetError):
        feed.read()
    write(log, VECTORS, [msgspec.structs.replace(vector(made()[0][0], 3.0), model="a")])
    assert [feed.read().height for _ in range(2)] == [1, 0]
