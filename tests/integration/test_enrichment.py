"""`payments.with_features(…)` on real services: the page, a view over the events, history, and what is waited for."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

import pytest

from tests.support.console_page import difference, shown
from tests.support.enriched_project import PAGE, EnrichedProject
from tests.support.processor_project import stopped
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration


def payment(number: int, at: datetime, amount: float) -> bytes:
    row = {"payment_id": number, "card": f"c{number % 3}", "shop": f"s{number % 2}", "amount": amount}
    return json.dumps(row | {"paid_at": at.isoformat()}).encode()


def test_the_page(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    project = EnrichedProject(services, namespace, tmp_path)
    with project.working(), project.process() as process:
        for number in range(12):  # each is available before the next one happens
            project.put(payment(number, datetime.now(UTC), 10.0 + number))
        found = project.await_written(12)
        for number in range(12):
            before = [10.0 + earlier for earlier in range(number % 3, number, 3)]
            assert found[number]["card__mean_30d"] == (pytest.approx(fmean(before)) if before else None)
            z = (10.0 + number - fmean(before)) / pstdev(before) if len(before) > 1 else None
            assert found[number]["z"] == (None if z is None else pytest.approx(z))
        highest = max(found[number]["z"] or 0 for number in (1, 3, 5, 7, 9, 11))
        until(lambda: project.highest("s1") == highest, 30, project.log)
        assert stopped(process) == 0
    (page,) = shown(PAGE)
    lines = "\n".join(line for line in project.log().splitlines() if line.startswith("{"))
    assert not difference(page, lines.replace(f"{namespace.replace('-', '_')}_", ""))
