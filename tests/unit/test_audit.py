"""The audit checks what was served, and what was not served because t was too old; training sets see no more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from headrace.features.offline.tile_index import SortedTiles
from headrace.serving.features import Status
from headrace.trainers.audit.compare import ServedVectorRows, audit
from tests.support.audit_scene import AuditScene

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["wall", "stream"])
def scene(tmp_path: Path, request: pytest.FixtureRequest) -> AuditScene:
    return AuditScene(tmp_path, request.param)


def test_a_vector_out_of_range_is_counted_and_matches(scene: AuditScene) -> None:
    statuses = [json.loads(vector["statuses"]) for vector in scene.vectors]
    outside = [Status.OUT_OF_RANGE in found.values() for found in statuses]
    assert {found["now"] for found in statuses} > {Status.OUT_OF_RANGE}
    assert any(found["now"] != found["past"] == Status.REBUILDING for found in statuses)  # in range for one of them
    found = audit(ServedVectorRows(scene.specs, scene.history, scene.frame()))
    assert (found.checked, found.different, found.out_of_range) == (len(statuses), 0, sum(outside))


def test_a_wrong_status_out_of_range_is_a_mismatch(scene: AuditScene) -> None:
    scene.serve(30)
    said = json.dumps({"now": "out_of_range", "past": "present"})
    frame = scene.frame(statuses=said, values=[None, None, scene.vectors[-1]["values"][2]])
    assert audit(ServedVectorRows(scene.specs, scene.history, frame)).different == 1


@pytest.mark.parametrize("change", [{"statuses": '{"now":"present","past":"present"}'}, {"values": [0.0, None, None]}])
def test_a_missing_status_out_of_range_or_a_number_with_the_status_is_a_mismatch(
    scene: AuditScene, change: dict[str, Any]
) -> None:
    scene.serve(0)
    assert scene.vectors[-1]["values"] == [None, None, None]
    found = audit(ServedVectorRows(scene.specs, scene.history, scene.frame(**change)))
    assert found.different == 1
    assert "now__n_1h" in found.by_column


def test_a_training_set_has_no_number_where_the_served_answer_had_none(scene: AuditScene) -> None:
    keys = pl.DataFrame({"shop": ["a"] * len(scene.vectors)})
    at_us = scene.frame()["served_at"].dt.epoch("us").to_numpy()
    served = scene.history.features(keys, at_us, scene.frame()["offsets"].to_list())
    assert [list(row) for row in served.rows()] == [vector["values"] for vector in scene.vectors]
    never = scene.history.features(keys, at_us, [None] * len(at_us))
    assert never["now__n_1h"].null_count() == 0


def test_an_audit_without_vectors_checks_nothing(scene: AuditScene) -> None:
    assert audit(ServedVectorRows(scene.specs, scene.history, scene.frame().clear())).checked == 0


@pytest.mark.parametrize("far", [2**20, 2**40], ids=["counted", "ranked"])
def test_many_entities_and_far_times_do_not_run_over(far: int) -> None:
    entity, k = np.array([2, 2, 2, far, far + 1]), np.array([-far, 5, far, 5, 5])
    of = SortedTiles(entity, k, np.zeros(5, np.int64), 1)
    asked = np.array([2, 2, far, far + 1, 3, -1])
    low, high = of.ranges(asked, np.array([-(2**50), 6, 5, 6, -(2**50), -(2**50)]), np.full(6, 2**50))
    assert [list(range(*pair)) for pair in zip(low, high, strict=True)] == [[0, 1, 2], [2], [3], [], [], []]
