"""Records of the control topics of a small deployment, as its processes would have written them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus import check_report, heartbeats
from headrace.bus.check_report import CheckReport
from headrace.bus.control_topics import ControlTopics
from headrace.bus.heartbeats import ApplicationHeartbeat, RunProgress, TrainerHeartbeat
from headrace.bus.worker_report import PartitionReport, StoppedReport, ViewReport, WorkerReport
from headrace.models.model_events import Acknowledgement, ModelEvent, encode, encode_acknowledgement
from headrace.trainers.runs.messages import DecisionRecord, RunEnded
from headrace.trainers.triggers.trigger_policy import Decision
from headrace.trainers.triggers.trigger_rule import RuleVerdict
from headrace.trainers.triggers.trigger_state import TriggerState

if TYPE_CHECKING:
    from headrace.app.snapshot.snapshot_fold import SnapshotFold

TOPICS = ControlTopics("shop")
SECOND = 1_000_000
T0 = 1_770_000_000 * SECOND
SOURCE = "AAECAwQFBgcICQoLDA0ODw-{}"


@dataclass(frozen=True)
class ToldRecord:
    """A record, with what readers ask of one of Kafka's."""

    of: str
    content: bytes
    at_us: int
    name: bytes = b""
    of_headers: dict[str, bytes] = field(default_factory=dict)

    def topic(self) -> str:
        return self.of

    def value(self) -> bytes:
        return self.content

    def key(self) -> bytes:
        return self.name

    def headers(self) -> list[tuple[str, bytes]]:
        return list(self.of_headers.items())

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 0

    def timestamp(self) -> tuple[int, int]:
        return 1, self.at_us // 1_000


def report(at_us: int, consumed: int, *, partitions: int = 2, worker: str = "w1", **changes: Any) -> ToldRecord:
    """A worker's report: each partition is consumed below ``consumed``, five records behind its end."""
    parts = [
        PartitionReport(
            "orders", SOURCE.format(number), consumed, consumed - 1, at_us, 2,
            {"basket@ab12": ViewReport(consumed, consumed, at_us - SECOND)}, end_offset=consumed + 5,
        )
        for number in range(partitions)
    ]  # fmt: skip
    made = msgspec.structs.replace(WorkerReport(worker, at_us, parts), **changes)
    return ToldRecord(TOPICS.observations, made.encode(), at_us)


def stopped(number: int, why: str) -> StoppedReport:
    return StoppedReport("orders", number, why)


def trainer(at_us: int, *, run: bool = False, **changes: Any) -> ToldRecord:
    progress = RunProgress(
        request_id="r", model="risk", rule="volume", reason="many", started_us=at_us, phase="fit", phase_us=at_us
    )
    beat = TrainerHeartbeat(
        process="t1", release="1", started_us=T0, observed_us=at_us, every_us=5 * SECOND, models=["risk"]
    )
    beat = msgspec.structs.replace(beat, **changes, **({"run": progress} if run else {}))
    return ToldRecord(TOPICS.heartbeats, heartbeats.encode(beat), at_us)


def application(at_us: int, version: int, predicted: int = 0, **changes: Any) -> ToldRecord:
    beat = ApplicationHeartbeat(
        process="a1", application="web", release="1", model="risk", started_us=T0, observed_us=at_us,
        every_us=5 * SECOND, predicted=predicted, failed=0, version=version,
    )  # fmt: skip
    return ToldRecord(TOPICS.heartbeats, heartbeats.encode(msgspec.structs.replace(beat, **changes)), at_us)


def happened(event: ModelEvent) -> ToldRecord:
    made = encode(event)
    return ToldRecord(TOPICS.models, made.value, event.at_us, made.key, made.headers)


def acknowledged(version: int, at_us: int, *, ok: bool = True, reason: str = "") -> ToldRecord:
    answer = Acknowledgement(
        application="web", model="risk", version=version, event_id="e", ok=ok, reason=reason, at_us=at_us
    )
    return ToldRecord(TOPICS.model_acks, encode_acknowledgement(answer), at_us)


def decided(at_us: int, progress: float, **changes: Any) -> ToldRecord:
    verdict = RuleVerdict(rule="volume", fired=False, reason="2,400 of 20,000 labels", progress=progress)
    decision = Decision(
        fired=False, rule="volume", reason=verdict.reason, progress=progress, t_us=at_us, inputs={},
        verdicts=[verdict], state=TriggerState(), after=TriggerState(), request=None,
    )  # fmt: skip
    record = DecisionRecord(
        model="risk", kind="evaluated", t_us=at_us, reason=verdict.reason, state=TriggerState(), decision=decision
    )
    return ToldRecord(TOPICS.decisions, msgspec.json.encode(msgspec.structs.replace(record, **changes)), at_us)


def ended(request_id: str, outcome: Any, reason: str) -> ToldRecord:
    run = RunEnded(
        request_id=request_id, model="risk", outcome=outcome, reason=reason, rule="volume", t_us=T0, matured_labels=9
    )
    return ToldRecord(TOPICS.runs, msgspec.json.encode(run), T0)


def checked(severity: Any, at_us: int) -> ToldRecord:
    finding = check_report.CheckFinding("risk", severity, "3 vectors differ")
    made = CheckReport(
        check="audit", subject="risk", at_us=at_us, by="w1", numbers={"mismatched": 3.0}, findings=[finding],
        every_us=60 * SECOND,
    )  # fmt: skip
    return ToldRecord(TOPICS.findings, check_report.encode(made), at_us)


def take(fold: SnapshotFold, *records: ToldRecord) -> None:
    """Let a fold take records."""
    fold.take(records)  # type: ignore[arg-type]
