"""A chain processor → enrichment → view is killed at each step: nothing is lost, nothing is twice, and V is right."""

from __future__ import annotations

import json
import random
import signal
from datetime import UTC, datetime
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import pytest

from headrace.bus.topics import TopicPlan, ensure_topics
from tests.support.enriched_project import PYTHON, EnrichedProject
from tests.support.processor_project import PARTITIONS, committed_records, stopped
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.integration, pytest.mark.crash]
STEPS = ["before-process-write", "before-process-offsets", "before-process-commit", "after-process-commit"]
SMALL = {"HEADRACE_PROCESS_BATCH_SIZE": "20"}
ROWS = 60
STREAM = 'payments = Stream("payments", Payment, event_time="paid_at", key="card")'
CHAIN = PYTHON.replace(
    STREAM,
    f"""
class Checked(Payment):
    pass


raw = {STREAM.partition("= ")[2].replace('"payments"', '"raw"')}
{STREAM.replace("Payment,", "Checked,")}


@processor(raw, into=[payments])
def checked(batch):
    for payment in batch:
        if payment.amount > 0:
            yield Checked(**{{name: getattr(payment, name) for name in payment.__struct_fields__}})
""",
).replace("Stream, col", "Stream, col, processor")


def payment(number: int) -> bytes:
    chance = random.Random(number)
    row = {"payment_id": number, "card": f"c{chance.randrange(5)}", "shop": f"s{chance.randrange(3)}"}
    amount = -1.0 if number % 10 == 0 else float(chance.randrange(1, 100))
    return json.dumps(row | {"amount": amount, "paid_at": datetime.now(UTC).isoformat()}).encode()


@pytest.mark.long
def test_a_chain_that_is_killed_at_each_step_is_exact(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    raw = f"{namespace}.raw"
    ensure_topics(services.bootstrap_servers, [TopicPlan(raw, PARTITIONS)])
    project = EnrichedProject(services, namespace, tmp_path, python=CHAIN)
    good = [number for number in range(ROWS * len(STEPS)) if number % 10]
    with project.working():
        for turn, step in enumerate(STEPS):  # in turn the processor and the enrichment
            project.put(*(payment(ROWS * turn + number) for number in range(ROWS)), topic=raw)
            with project.process(FAILPOINT=f"{step}:{2 + 2 * turn}", **SMALL) as process:
                assert process.wait(150) == -signal.SIGKILL, project.log()
        with project.process(**SMALL) as process:
            found = project.await_written(len(good))
            highest = {
                shop: max(each["z"] for each in found.values() if each["shop"] == shop and each["z"] is not None)
                for shop in ("s0", "s1", "s2")
            }
            until(lambda: {shop: project.highest(shop) for shop in highest} == highest, 30, project.log)
            assert stopped(process) == 0
    checked = [
        json.loads(each.value() or b"")["payment_id"] for each in committed_records(project.servers, project.payments)
    ]
    assert sorted(checked) == sorted(found) == good
    assert_right(project, found)


def assert_right(project: EnrichedProject, found: dict[int, dict[str, Any]]) -> None:
    """Compare with a plain loop over the log of payments."""
    log = project.event_log.read(project.payments).to_dicts()
    seen = 0
    for row in log:
        at = min(row["paid_at"], row["__available_at"])
        before = [
            each["amount"]
            for each in log
            if each["card"] == row["card"]
            and (at - each["__available_at"]).total_seconds() >= 0.001
            and (each["__partition"] != row["__partition"] or each["__offset"] < row["__offset"])
        ]
        event = found[row["payment_id"]]
        assert event["card__mean_30d"] == (pytest.approx(fmean(before)) if before else None)
        spread = pstdev(before) if before else 0.0
        assert event["z"] == (pytest.approx((row["amount"] - fmean(before)) / spread, abs=1e-6) if spread > 0 else None)
        seen += len(before)
    assert seen, "no event has another before it"
