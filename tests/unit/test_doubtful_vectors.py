"""What was served stale says nothing of a version, unless its model keeps it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from headrace.base.times import utc_datetime
from headrace.errors import DefinitionError
from headrace.event_log.event_log import EventLog
from headrace.features.definitions.spec import to_document
from headrace.serving.feature_vectors import Status
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.data.model_log import DOUBTFUL, ModelLog
from tests.support.control_topics import PREDICTIONS, VECTORS
from tests.support.orders_model import Order, Return, day, model, orders, predictions, returns, vector, write

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.trainers.definitions import Model

STATUSES = [f'{{"shop":"present","stale":"{status}"}}' for status in Status]
"""One vector for each status. Its view has the name of a status, and so has its shop."""
KEEPS = replace(model, on_stale="keep")


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    """One order for each status, in the order of the statuses, served and labelled."""
    found = EventLog(tmp_path / "log")
    asked = [Order(number, "stale", 1.0, utc_datetime(day(number))) for number in range(len(STATUSES))]
    write(found, orders, asked)
    write(
        found,
        returns,
        [Return(each.order_id, back=True, known_at=utc_datetime(day(each.order_id + 0.5))) for each in asked],
    )
    served = [
        msgspec.structs.replace(vector(each, each.order_id), statuses=statuses)
        for each, statuses in zip(asked, STATUSES, strict=True)
    ]
    write(found, VECTORS, served)
    write(found, PREDICTIONS, predictions(asked, 1, seed=0))
    return found


def test_each_status_counts_or_does_not() -> None:
    assert {*Status} - {*DOUBTFUL} == {Status.MISSING, Status.PRESENT}


@pytest.mark.parametrize(("of", "kept"), [(model, ["4", "5"]), (KEEPS, ["0", "1", "2", "3", "4", "5"])])
def test_a_doubtful_vector_enters_neither_gate_nor_performance_nor_drift(
    log: EventLog, of: Model, kept: list[str]
) -> None:
    own = ModelLog(of, log)
    assert own.outcomes(day(30), 1, "live")["key"].to_list() == kept
    evidence = own.evidence(day(30), 1)
    assert (len(evidence.outcomes().score), len(evidence.scores().score)) == (len(kept), len(kept))
    assert evidence.matured_labels == len(STATUSES)  # the label of a request does not depend on what was served


@pytest.mark.parametrize(("on_stale", "learnt"), [("leave_out", [4.0, 5.0]), ("keep", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])])
def test_a_doubtful_vector_is_learnt_from_only_if_the_model_keeps_it(
    log: EventLog, on_stale: str, learnt: list[float]
) -> None:
    served = replace(model, learn_from="logged", on_stale=on_stale)  # type: ignore[arg-type]
    found = ExampleBuilder(served, log).build(day(30), "logged")
    assert (found.frame["shop__orders_1d"].tolist(), found.never_served) == (learnt, len(STATUSES) - len(learnt))
    assert len(ExampleBuilder(served, log).build(day(30))) == len(STATUSES)  # from the events each value is known


def test_the_spec_names_the_rule_for_stale_vectors_only_if_they_are_kept() -> None:
    assert "on_stale" not in to_document(model.spec)
    assert to_document(KEEPS.spec)["on_stale"] == "keep"
    with pytest.raises(DefinitionError, match=r"on_stale='fallback'; choose one of \['leave_out', 'keep'\]"):
        replace(model, on_stale="fallback")  # type: ignore[arg-type]
