"""What trainers, predictors and jobs say of themselves, without servers."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import UNSET
from structlog.testing import capture_logs

from headrace.app.doctor.finding import error, ok, warning
from headrace.app.doctor.recorded import doctor_report
from headrace.app.processes import scheduled_jobs
from headrace.base.times import SettableClock, utc_datetime
from headrace.bus import check_report
from headrace.bus.check_report import CheckFinding
from headrace.models.model_event_log import MemoryAcknowledgements, MemoryModelEventLog
from headrace.serving.answer_counts import AnswerCounts
from headrace.serving.answerer import Predicted
from headrace.serving.features import Status
from headrace.serving.predictor_heartbeats import PredictorHeartbeats
from headrace.serving.subscriber import LoadingPolicy, ModelSubscriber
from headrace.streams.upkeep import JobReports, ScheduledJob
from headrace.trainers.process.drift_report import drift_report
from headrace.trainers.process.trainer_heartbeat import TrainerHeartbeats
from headrace.trainers.runs.messages import DecisionRecord, RetrainRequest
from headrace.trainers.runs.run_under_way import StepTimer
from headrace.trainers.triggers.trigger_policy import WatchReport
from headrace.trainers.triggers.trigger_state import TriggerState
from headrace.trainers.triggers.watched_inputs import WatchedInput
from tests.support.model_events import published

FIRST = RetrainRequest(request_id="m-1", model="m", rule="volume", reason="enough", t_us=5, matured_labels=7)


def clock_at(t_us: int) -> SettableClock:
    return SettableClock(utc_datetime(t_us))


def test_a_trainer_says_which_run_is_under_way_and_in_which_phase() -> None:
    clock, seen = clock_at(1), []
    trainer = TrainerHeartbeats("p", clock, 60)
    trainer.models = lambda: {"m", "a"}
    trainer.changed = lambda: seen.append(trainer.state())
    timer = StepTimer(watch=trainer)
    clock.now = utc_datetime(5)
    trainer.began(FIRST)
    clock.now = utc_datetime(7)
    with timer.step("fit"):
        pass
    clock.now = utc_datetime(9)
    trainer.began(FIRST)  # the store was away: it goes on
    trainer.ended()
    phases = [(each.run.phase, each.run.started_us, each.run.phase_us) for each in seen if each.run is not UNSET]
    assert phases == [("begins", 5, 5), ("fit", 5, 7), ("begins", 5, 9)]
    assert [each.run is UNSET for each in seen] == [False, False, False, True]
    assert (seen[0].models, seen[0].tick_us, seen[0].ticked_us) == (["a", "m"], 60, UNSET)
    assert timer.seconds.keys() == {"fit"}


def test_another_run_begins_at_its_own_time_and_a_tick_is_told() -> None:
    clock = clock_at(1)
    trainer = TrainerHeartbeats("p", clock, 0)
    trainer.began(FIRST)
    clock.now = utc_datetime(3)
    trainer.began(RetrainRequest(request_id="m-2", model="m", rule="r", reason="", t_us=5, matured_labels=7))
    trainer.ticked()
    trainer.waiting = lambda: ["m-3"]
    state = trainer.state()
    assert (state.run is not UNSET and state.run.started_us, state.ticked_us, state.waiting) == (3, 3, ["m-3"])
    assert state.tick_us is UNSET  # ticks come from outside
    trainer.reached("gate")
    trainer.ended()
    trainer.reached("publish")  # of no run
    assert trainer.state().run is UNSET


def test_a_phase_that_ends_leaves_the_run_in_it() -> None:
    trainer = TrainerHeartbeats("p", clock_at(1), 0)
    trainer.began(FIRST)
    with pytest.raises(ValueError, match="no"), StepTimer(watch=trainer).step("gate"):
        raise ValueError("no")
    state = trainer.state()
    assert state.run is not UNSET
    assert state.run.phase == "gate"


def subscriber(log: MemoryModelEventLog, clock: SettableClock) -> ModelSubscriber:
    return ModelSubscriber("delay", log, MemoryAcknowledgements(), LoadingPolicy([]), application="web", clock=clock)


def heartbeats(log: MemoryModelEventLog, *, is_driven: bool) -> tuple[PredictorHeartbeats, ModelSubscriber]:
    following = subscriber(log, clock_at(1))
    answerer = SimpleNamespace(counts=AnswerCounts(), failures=2)
    made = PredictorHeartbeats("web", "delay", following, cast("Any", answerer), is_driven=is_driven, clock=clock_at(9))
    return made, following


def test_a_predictor_says_which_version_it_lacks_and_why() -> None:
    log = MemoryModelEventLog()
    said, following = heartbeats(log, is_driven=False)
    before = said.state("p")
    assert (before.version, before.wanted, before.failed, before.observed_us) == (UNSET, UNSET, 2, 9)
    assert "was not started" in str(before.error)
    log.append(published("first", 1, expects=None))
    changes: list[int] = []
    following.changed = lambda: changes.append(1)
    following.poll_once()
    after = said.state("p")
    assert (after.version, after.wanted, after.event_id, after.loaded_us) == (UNSET, 1, UNSET, UNSET)
    assert "version 1 cannot be loaded" in str(after.error)
    assert changes == [1]


def test_a_predictor_that_is_driven_does_not_say_that_it_waits() -> None:
    said, _ = heartbeats(MemoryModelEventLog(), is_driven=True)
    assert said.state("p").error is UNSET


def test_answers_are_counted_by_view_status_and_duration() -> None:
    counts, at = AnswerCounts(), utc_datetime(5)
    good = Predicted(0.5, 3, {"user": Status("present")}, at, "v", {2: 0.4, 3: 0.5})
    late = Predicted(0.1, 3, {"user": Status("stale")}, at, "w", {3: 0.1})
    fallback = Predicted(0.2, 0, {}, None, "", {})
    counts.answered([good, late, fallback], 0.001)
    counts.answered([fallback], 9.0)
    calls, seconds, statuses = counts.snapshot()
    assert (counts.predicted, counts.of_shadows, seconds) == (2, 1, 9.001)
    assert statuses == {("user", "present"): 1, ("user", "stale"): 1}
    assert (calls[1], calls[-1], sum(calls)) == (1, 1, 2)


def test_a_job_is_told_to_metrics_and_bus() -> None:
    found = {"checked": 7.0, "mismatched": 2.0, "not_logged": 0.0, "other_services": 0.0, "equal_share": 0.5,
             "lag_records_p50": float("nan")}  # fmt: skip
    metered: list[str] = []
    sent: dict[bytes, bytes] = {}
    reports = JobReports("w", clock_at(5), lambda name, _: metered.append(name), sent.__setitem__)
    job = ScheduledJob(
        "audit m", "t", timedelta(hours=1), lambda: found, lambda each: scheduled_jobs.audit_reports("m", each)
    )
    reports.done(job, found)
    reports.done(ScheduledJob("compact", "t", timedelta(hours=1), dict), {})
    assert metered == ["audit m", "compact"]
    assert list(sent) == [b"audit m", b"skew m"]
    audit, skew = map(check_report.decode, sent.values())
    assert (audit.by, audit.at_us, audit.every_us, audit.severity) == ("w", 5, 3_600_000_000, "error")
    assert audit.findings[0].found == "2 of 7 served vectors differ from the event log"
    assert skew.numbers == {"equal_share": 0.5}


def decision(*inputs: WatchedInput) -> DecisionRecord:
    watched = WatchReport(inputs=list(inputs)) if inputs else UNSET
    return DecisionRecord(model="m", kind="evaluated", t_us=5, reason="", state=TriggerState(), watched=watched)


def test_watched_inputs_out_of_range_are_findings() -> None:
    assert drift_report(decision(), by="t", at_us=9) is None
    inside = WatchedInput(input="a", what="nulls", days=90, lately=0.5, before=0.5, low=0.4, high=0.6)
    few = WatchedInput(input="b", what="nulls", days=3, lately=0.5)
    out = WatchedInput(input="c", what="rate", days=90, lately=0.5, before=0.25, low=0.0, high=0.375, out=True)
    report = drift_report(decision(inside, few, out), by="t", at_us=9)
    assert report is not None
    assert (report.key, report.at_us, report.by) == ("drift m", 9, "t")
    assert report.numbers == {"watched": 3, "judged": 2, "out_of_range": 1}
    assert [each.subject for each in report.findings] == ["c"]
    assert report.findings[0].found == "c 50.00% true, before 25.00%, by chance 0.00% to 37.50%"


def test_a_doctors_report_has_what_is_not_ok() -> None:
    report = doctor_report([ok("kafka", "fine"), warning("a", "w", "do"), error("b", "e", "act")], by="ann", at_us=9)
    assert report.numbers == {"ok": 1, "warnings": 1, "errors": 1}
    assert report.findings == [CheckFinding("b", "error", "e", "act"), CheckFinding("a", "warning", "w", "do")]
    with capture_logs() as logged:
        assert doctor_report([], by="ann", at_us=9).severity == "ok"
    assert logged == []
