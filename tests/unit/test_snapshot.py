"""Snapshots: what processes have told, with its age; what nobody has told is null and never 0."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.app.commands.top import screen
from headrace.app.snapshot.snapshot import Snapshot, encode
from headrace.app.snapshot.snapshot_fold import SnapshotFold
from headrace.models.publication_signing import UNSIGNED, PublicationSigning
from tests.support.model_events import published
from tests.support.told_records import (
    SECOND,
    T0,
    TOPICS,
    ToldRecord,
    acknowledged,
    application,
    checked,
    decided,
    ended,
    happened,
    report,
    stopped,
    take,
    trainer,
)

NOW = T0 + 10 * SECOND


def fold(*records: ToldRecord, partitions: int = 2) -> SnapshotFold:
    made = SnapshotFold(TOPICS, UNSIGNED, ["risk"], begun_us=T0)
    made.has_partitions({"orders": partitions})
    take(made, *records)
    return made


def version(number: int, expects: str | None = None, **changes: Any) -> ToldRecord:
    event = published(f"e{number}", number, expects=expects, **changes)
    return happened(msgspec.structs.replace(event, model="risk", at_us=T0 + number))


HEALTHY = (
    report(NOW - 2 * SECOND, 1_000), report(NOW - SECOND, 1_400), version(1), decided(NOW - SECOND, 0.12),
    trainer(NOW - SECOND), application(NOW - 6 * SECOND, 1, 10), application(NOW - SECOND, 1, 60),
)  # fmt: skip


def marks(snapshot: Snapshot) -> tuple[str, str, str, str]:
    now = snapshot.now
    return now.complete.mark, now.fresh.mark, now.learning.mark, now.applied.mark


def test_a_healthy_deployment_is_ok_and_each_number_has_its_time() -> None:
    found = fold(*HEALTHY).snapshot(NOW)
    assert marks(found) == ("ok", "ok", "ok", "ok")
    assert found.now.learning.said == "nearest to a new version: risk, volume at 12%"
    first = found.partitions[0]
    assert (first.topic, first.partition, first.lag, first.unlogged, first.rate) == ("orders", 0, 5, 1, 400.0)
    assert first.observed_us == NOW - SECOND
    (view,) = found.views
    assert (view.view, view.behind, view.rate, view.clock_us) == ("basket@ab12", 0, 800.0, NOW - 2 * SECOND)
    (model,) = found.models
    assert (model.version, model.progress, model.decided_us) == (1, 0.12, NOW - SECOND)
    assert [(rule.rule, rule.progress) for rule in model.rules] == [("volume", 0.12)]
    (web,) = found.applications
    assert (web.version, web.live, web.rate, web.is_silent) == (1, 1, 10.0, False)


def test_an_unheard_deployment_is_unknown_since_the_reader_listens_and_nothing_is_zero() -> None:
    found = fold().snapshot(NOW)
    assert marks(found) == ("unknown",) * 4
    assert {sentence.since_us for sentence in (found.now.complete, found.now.fresh, found.now.learning)} == {T0}
    assert [(each.lag, each.rate, each.rejected, each.observed_us) for each in found.partitions] == [(None,) * 4] * 2
    assert found.models[0].version is None
    assert all(topic.record_us is None for topic in found.topics)


def test_a_silent_process_is_not_green_and_its_numbers_keep_their_time() -> None:
    later = NOW + 60 * SECOND
    found = fold(*HEALTHY).snapshot(later)
    assert marks(found) == ("unknown",) * 4
    assert found.now.complete.since_us == NOW - SECOND
    assert found.now.learning.since_us == NOW - SECOND
    assert (found.partitions[0].lag, found.partitions[0].rate) == (5, None), "a rate of then is no rate of now"
    assert found.partitions[0].is_silent
    assert found.applications[0].is_silent


def test_a_partition_that_no_worker_tells_of_is_shown_and_red() -> None:
    found = fold(*HEALTHY, partitions=3).snapshot(NOW)
    assert found.now.complete.mark == "error"
    assert found.now.complete.said == "1 partition without a worker: orders 2"
    assert [each.partition for each in found.partitions] == [0, 1, 2]
    two = fold(*HEALTHY, report(NOW, 1_500, partitions=0, worker="w2", stopped=[stopped(2, "a gap")])).snapshot(NOW)
    assert two.now.complete.said == "1 partition stopped: orders 2: a gap"


def test_a_moved_partition_counts_by_its_newest_report() -> None:
    found = fold(*HEALTHY, report(NOW, 2_000, partitions=2, worker="w2")).snapshot(NOW + 5 * SECOND)
    assert [each.worker for each in found.partitions] == ["w2", "w2"]
    assert found.views[0].behind == 0


def test_an_acknowledgement_is_no_heartbeat() -> None:
    found = fold(version(1), acknowledged(1, NOW - SECOND)).snapshot(NOW)
    assert found.now.applied.mark == "unknown"
    assert (
        found.now.applied.said == "no application reports; web acknowledged version 1 of risk on 2026-02-02 02:40 UTC"
    )
    assert (found.applications[0].version, found.applications[0].is_silent) == (1, True)


def test_an_application_behind_is_a_warning_and_after_a_minute_an_error_with_the_reason() -> None:
    made = fold(*HEALTHY, version(2, "e1"), acknowledged(2, NOW, ok=False, reason="a type is not trusted"))
    assert made.snapshot(NOW).now.applied.said == "web swaps to version 2 of risk"
    take(made, application(NOW + 70 * SECOND, 1))
    late = made.snapshot(NOW + 71 * SECOND).now.applied
    assert late.mark == "error"
    assert late.said == "web answers with version 1 of risk, 2 is live: a type is not trusted"


def test_a_run_a_failure_and_an_error_are_said() -> None:
    assert fold(*HEALTHY, trainer(NOW, run=True)).snapshot(NOW).now.learning.said == (
        "risk is trained: fit, because of volume"
    )
    failed = fold(*HEALTHY, ended("a", "failed", "no rows"), ended("b", "failed", "no rows at all")).snapshot(NOW)
    assert failed.now.learning.said == "the last runs of risk failed: no rows at all"
    assert [run.request_id for run in failed.models[0].runs] == ["b", "a"]
    wrong = fold(*HEALTHY, decided(NOW, 0.2, kind="error", reason="the log does not answer", decision=None))
    assert wrong.snapshot(NOW).now.learning.said == "the rules of risk cannot be judged: the log does not answer"
    assert wrong.snapshot(NOW).models[0].progress == 0.12, "the last that was measured"
    audit = fold(*HEALTHY, checked("error", NOW)).snapshot(NOW)
    assert audit.now.complete.said == "the audit of risk found differences at 2026-02-02 02:40 UTC"


def test_records_that_come_twice_or_cannot_be_read_change_nothing() -> None:
    made = fold(*HEALTHY)
    before = encode(made.snapshot(NOW))
    take(made, HEALTHY[0], HEALTHY[1], HEALTHY[4], HEALTHY[5])
    take(made, *(ToldRecord(topic, b"\xff{", NOW) for topic in made.sources))
    assert encode(made.snapshot(NOW)) == before
    assert msgspec.json.decode(before, type=Snapshot) == made.snapshot(NOW)


def test_reports_of_two_workers_at_one_time_are_no_rate() -> None:
    made = fold(report(NOW, 10), report(NOW, 12, worker="w2"), report(NOW - SECOND, 14, worker="w3"))
    assert [each.rate for each in made.snapshot(NOW).partitions] == [None, None]
    take(made, report(NOW + SECOND, 16, worker="w2"))
    assert [each.rate for each in made.snapshot(NOW + SECOND).partitions] == [1.0, 1.0]


def test_processes_that_come_and_go_are_forgotten() -> None:
    made = fold(*HEALTHY)
    one = encode(made.snapshot(NOW + 5_000 * SECOND))
    for number in range(3_000):
        at_us = NOW + number * SECOND
        take(made, report(at_us, number, worker=f"w{number}"), trainer(at_us, process=f"t{number}"),
             application(at_us, 1, process=f"a{number}"))  # fmt: skip
    workers, models = made._workers, made._models
    assert max(len(workers._reports), len(models._trainers), len(models._beats), len(models._rates)) <= 1_000
    assert len(encode(made.snapshot(NOW + 10_000 * SECOND))) < 2 * len(one)


def test_an_unsigned_event_has_no_effect_where_events_are_signed() -> None:
    made = SnapshotFold(TOPICS, PublicationSigning(["0123456789abcdef"]), ["risk"], begun_us=T0)
    take(made, version(1))
    assert made.snapshot(NOW).models[0].version is None


def test_the_versions_have_the_interval_of_their_gate() -> None:
    gain = {"champion": 0.7, "challenger": 0.72, "gain": 0.02, "gain_low": 0.01, "gain_high": 0.03}
    gate = {"verdict": "passed", "metric": "auc", "metrics": {"auc": gain}}
    found = fold(version(1), version(2, "e1", gate=gate)).snapshot(NOW).models[0]
    assert [(each.version, each.status, each.gain, each.gain_low) for each in found.versions] == [
        (1, "published", None, None),
        (2, "live", 0.02, 0.01),
    ]
    assert found.since_us == T0 + 2


@pytest.mark.parametrize(
    "gate", [{"metrics": []}, {"metrics": {"auc": 3}}, {"metrics": {"auc": {"gain": "many", "gain_low": 1}}}]
)
def test_a_gate_of_another_shape_does_not_end_the_snapshot(gate: dict[str, Any]) -> None:
    (found,) = fold(version(1, gate={"metric": "auc", **gate})).snapshot(NOW).models[0].versions
    assert (found.version, found.metric, found.gain) == (1, "auc", None)


def test_the_screen_shows_the_sentences_and_a_dash_for_what_nobody_has_told() -> None:
    console = Console(width=200, file=io.StringIO())
    with console.capture() as captured:
        console.print(screen(fold(*HEALTHY[2:]).snapshot(NOW)))
    lines = captured.get().splitlines()
    assert lines[0].startswith("headrace shop, at ")
    assert [line.split()[:2] for line in lines[2:6]] == [
        ["complete", "?"], ["fresh", "?"], ["learning", "ok"], ["applied", "ok"],
    ]  # fmt: skip
    assert next(line for line in lines if line.startswith("orders")).split() == ["orders", "0", *"-" * 7]


def test_top_says_that_it_needs_a_terminal() -> None:
    done = CliRunner().invoke(build(), ["top"])
    assert "use `headrace status`" in str(done.exception)


def test_a_stopped_or_unheard_partition_does_not_hide_that_the_others_are_fresh() -> None:
    assert fold(*HEALTHY, partitions=3).snapshot(NOW).now.fresh.mark == "ok"
