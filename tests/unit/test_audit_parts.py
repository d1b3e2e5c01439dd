"""An audit of parts finds what one of the whole finds, and reads of the log what its windows see."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.bus.source_partition import SourcePartition
from headrace.event_log.logged_offsets import LoggedOffsets, MissingOffsets
from headrace.features.offline.feature_history import FeatureHistory
from headrace.trainers.audit import vector_parts
from headrace.trainers.audit.auditor import Auditor
from headrace.trainers.audit.compare import ServedVectorRows, audit, lag_records, lags, skew
from headrace.trainers.audit.vector_parts import VectorParts
from tests.support.audit_scene import LoggedAuditScene
from tests.support.control_topics import VECTORS
from tests.support.orders_model import A_DAY, DAYS, Shop, model

if TYPE_CHECKING:
    from pathlib import Path

TOPIC_ID = bytes([3]) * 16


@pytest.fixture
def scene(tmp_path: Path) -> LoggedAuditScene:
    """Vectors of several times, right but for the last one."""
    found = LoggedAuditScene(tmp_path)
    for minute in (12, 20, 11, 30, 64, 66, 70, 80, 200):
        found.serve(minute)
    n, mean, past = found.vectors[-1]["values"]
    return found.logged(values=[n + 1, mean, past])


def whole(scene: LoggedAuditScene) -> ServedVectorRows:
    history = FeatureHistory(scene.specs, scene.log)
    history.refresh()
    return ServedVectorRows(scene.specs, history, scene.log.read(VECTORS.topic))


@pytest.mark.slow
def test_parts_find_what_the_whole_finds(scene: LoggedAuditScene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_parts, "MOST", 3)
    parts, served = list(VectorParts(scene.model, scene.log)), whole(scene)
    assert len(parts) >= 4
    assert sum(part.served.vectors.height for part in parts) == len(scene.vectors)
    wanted, found = audit(served), Auditor(scene.model, scene.log).audit()
    assert (found.checked, found.mismatched, found.out_of_range) == (
        wanted.checked,
        wanted.different,
        wanted.out_of_range,
    )
    assert found.mismatched == 1
    assert [example["served_at"] for example in found.examples] == [e["served_at"] for e in wanted.examples]
    skewed = Auditor(scene.model, scene.log).skew()
    assert skewed.equal == skew(served).checked - skew(served).different
    assert skewed.lag_records == lag_records([lags(served)])


def test_vectors_served_at_one_time_stay_in_one_part(scene: LoggedAuditScene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_parts, "MOST", 1)
    times = [set(part.served.vectors["served_at"].to_list()) for part in VectorParts(scene.model, scene.log)]
    assert [len(each) for each in times] == [1] * len({vector["served_at"] for vector in scene.vectors})


@pytest.mark.slow
def test_a_part_reads_its_windows_of_the_log_and_no_more(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.serve(1)
    parts = VectorParts(model, shop.log)
    rows = [sum(len(frame) for frames in part.served.history._rows.values() for frame in frames) for part in parts]
    assert len(rows) > DAYS // 4
    assert max(rows) <= 3 * A_DAY + 2


class Pieces:
    """A log of these rows."""

    def __init__(self, pieces: list[pl.DataFrame]) -> None:
        self.pieces = pieces

    def scan(self, topic: str, columns: list[str]) -> list[pl.DataFrame]:
        """All of them."""
        return [piece.select(columns) for piece in self.pieces if topic == "t"]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 25)), unique=True), st.integers(1, 6))
def test_an_extent_is_what_a_loop_counts(places: list[tuple[int, int]], pieces: int) -> None:
    frames = [
        pl.DataFrame(
            {
                "__partition": [partition for partition, _ in own],
                "__topic_id": [TOPIC_ID] * len(own),
                "__offset": [offset for _, offset in own],
            }
        )
        for own in (places[part::pieces] for part in range(pieces))
        if own
    ]
    found = LoggedOffsets.read(Pieces(frames), "t")  # type: ignore[arg-type]
    gaps, ends = [], {}
    for partition in sorted({partition for partition, _ in places}):
        source = SourcePartition(partition, TOPIC_ID)
        offsets = sorted(offset for own, offset in places if own == partition)
        ends[source] = offsets[-1] + 1
        for one, other in pairwise(offsets):
            if other > one + 1:
                gaps.append(MissingOffsets("t", source.text, one + 1, other))
    assert (found.ends(), found.gaps()) == (ends, gaps)
