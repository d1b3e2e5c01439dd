"""What a worker serves for Prometheus, and what docs/reference/metrics.md says of it."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast, get_args
from urllib.error import HTTPError
from urllib.request import urlopen

import polars as pl
import pytest
from confluent_kafka import Producer
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from headrace.app.snapshot.snapshot import NowSentence, NowSentences, Snapshot
from headrace.app.snapshot.snapshot_metrics import SnapshotMetrics
from headrace.base.background_tasks import BackgroundTask, BackgroundTasks
from headrace.base.loop_pulse import LoopPulse
from headrace.base.waiting import UntilAvailable
from headrace.bus.kafka_clients import admin
from headrace.bus.process_status import ProcessProbes, ProcessStatus, serve_status
from headrace.bus.topics import incarnations
from headrace.bus.unreadable_records import KafkaPlace, UnreadableRecords
from headrace.bus.worker_report import PartitionReport, StoppedReport, ViewReport, WorkerReport
from headrace.errors import BusUnavailableError, CodecError, SettingsError
from headrace.serving.answer_counts import AnswerCounts
from headrace.serving.answerer import Predicted
from headrace.serving.features import Status
from headrace.serving.predictor_metrics import PredictorMetrics
from headrace.streams.metrics import WorkerMetrics
from headrace.trainers.process.trainer_heartbeat import TrainerHeartbeats
from headrace.trainers.process.trainer_metrics import TrainerMetrics
from headrace.trainers.runs.messages import DecisionRecord, RetrainRequest
from headrace.trainers.triggers.evidence import Evidence
from headrace.trainers.triggers.rules import volume
from headrace.trainers.triggers.trigger_policy import TriggerPolicy
from headrace.trainers.triggers.trigger_state import Baseline, RunOutcome, TriggerState
from headrace.trainers.triggers.waiting_labels import WaitingLabels
from tests.support.waiting import eventually, until

if TYPE_CHECKING:
    from headrace.app.local.services import LocalServices

SINCE = "headrace_failing_rules_since_timestamp_seconds"
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
PROJECT = """
from datetime import datetime
from headrace.bus.event import Event
from headrace.bus.stream import Stream
from headrace.features.definitions.aggregates import Count
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.view import FeatureView
class Ping(Event):
    user: str
    at: datetime
pings = Stream("{topic}", Ping, event_time="at", lateness="1h")
view = FeatureView("user", entity=Entity("user"), source=pings, windows=["1d"], features={{"n": Count()}})
"""
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(each.name, frozenset(each.labels.items())): each.value for each in found}


def own(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def scraped(port: int) -> Samples:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return samples(answer.read().decode())


def test_each_metric_is_in_the_docs_with_its_type_and_labels() -> None:
    documented = dict(re.findall(r"^\| `(headrace_\w+)` \| (\w+) \|", PAGE.read_text(), re.MULTILINE))
    registries = [full().registry, full_trainer().registry, full_predictor(), nobodys()]
    text = "".join(generate_latest(each).decode() for each in registries)
    served_names = re.findall(r"^# TYPE (headrace_\w+) (\w+)$", text, re.MULTILINE)
    assert {name: kind for name, kind in served_names if not name.endswith("_created")} == documented
    labels = dict(re.findall(r"^\| `(headrace_\w+)` \| \w+ \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE))
    for name, found in samples("".join(generate_latest(each).decode() for each in registries)):
        plain = re.sub("_(bucket|sum|count)$", "", name)
        if plain in labels:
            wanted = set(re.findall(r"\w+", labels[plain]))
            assert {label for label, _ in found} - {"le"} == wanted, name


def nobodys() -> CollectorRegistry:
    """Metrics of a snapshot in which nobody has said anything."""
    registry, said = CollectorRegistry(), NowSentence(mark="unknown", said="")
    now = NowSentences(complete=said, fresh=said, learning=said, applied=said)
    parts = ("partitions", "views", "models", "applications", "trainers", "checks", "topics")
    nothing: dict[str, Any] = {part: [] for part in parts}
    registry.register(SnapshotMetrics(Snapshot(namespace="headrace", at_us=0, begun_us=0, now=now, **nothing)))
    return registry


def full_predictor() -> CollectorRegistry:
    """Metrics of a predictor that was told something of everything."""
    counts, at = AnswerCounts(), datetime(2026, 1, 1, tzinfo=UTC)
    counts.answered([Predicted(0.5, 3, {"user": Status("present")}, at, "v", {2: 0.4, 3: 0.5})], 0.003)
    following = SimpleNamespace(current=SimpleNamespace(version=3), state=SimpleNamespace(version=4), loaded_at=at)
    registry, metrics = CollectorRegistry(), PredictorMetrics()
    metrics.add("m", cast("Any", following), cast("Any", SimpleNamespace(counts=counts, failures=2)))
    registry.register(metrics)
    return registry


def test_the_metrics_of_a_predictor_say_what_it_answers() -> None:
    found = samples(generate_latest(full_predictor()).decode())
    assert (
        own(found, "headrace_predictor_version", model="m"),
        own(found, "headrace_predictor_wanted_version", model="m"),
    ) == (3, 4)
    assert own(found, "headrace_predictor_loaded_timestamp_seconds", model="m") == 1_767_225_600
    assert [own(found, "headrace_predictions_total", model="m", role=role) for role in ("live", "shadow")] == [1, 1]
    assert own(found, "headrace_prediction_failures_total", model="m") == 2
    assert own(found, "headrace_feature_status_total", model="m", view="user", status="present") == 1
    buckets = [own(found, "headrace_prediction_seconds_bucket", model="m", le=le) for le in ("0.002", "0.005", "+Inf")]
    assert buckets == [0, 1, 1]
    assert own(found, "headrace_prediction_seconds_sum", model="m") == 0.003


def full_trainer() -> TrainerMetrics:
    """Metrics of a trainer that was told something of everything."""
    said = TrainerHeartbeats("p", lambda: 8_000_000, 60)
    said.ticked()
    said.began(RetrainRequest(request_id="r", model="m", rule="volume", reason="", t_us=5, matured_labels=7))
    metrics, held = (
        TrainerMetrics(state=said.state),
        WaitingLabels(rows=7, topic="returns", partition=2, since_us=5_000_000),
    )
    evidence = Evidence(9_000_000, 30, waiting=[held, WaitingLabels(rows=7, topic="others")])
    decision = TriggerPolicy("m", volume(labels=10), 100, 0).evaluate(TriggerState(), evidence)
    for made in (decision, None):  # the last one is the end of a run
        metrics.recorded(
            DecisionRecord(model="m", kind="evaluated", t_us=9_000_000, reason="", state=TriggerState(), decision=made)
        )
    baseline = Baseline(run="r", outcome="refused", t_us=5, matured_labels=3)
    state = TriggerState(baseline=baseline)
    metrics.recorded(DecisionRecord(model="m", kind="finished", t_us=9_000_000, reason="", state=state, run="r"))
    metrics.recorded(failed("n"))
    return metrics


def failed(name: str) -> DecisionRecord:
    """An error of a model's rules."""
    return DecisionRecord(
        model=name, kind="error", t_us=9_000_000, reason="ValueError: no: 5", state=TriggerState(), since_us=7_000_000
    )


def test_the_metrics_of_a_trainer_name_rules_that_fail_until_they_work_or_another_trainer_has_them() -> None:
    mine = {"m", "n"}
    metrics = TrainerMetrics(mine.__contains__)
    decision = TriggerPolicy("m", volume(labels=10), 100, 0).evaluate(TriggerState(), Evidence(9_000_000, 30))
    works = DecisionRecord(
        model="m", kind="evaluated", t_us=9_000_000, reason="", state=TriggerState(), decision=decision
    )

    def failing() -> dict[str, float]:
        found = samples(generate_latest(metrics.registry).decode())
        return {
            name: value
            for name in ("m", "n")
            if (value := own(found, SINCE, model=name, error="ValueError")) is not None
        }

    for name in ("m", "n"):
        metrics.recorded(failed(name))
    assert failing() == {"m": 7, "n": 7}
    metrics.recorded(works)
    assert failing() == {"n": 7}
    mine.clear()
    assert failing() == {}
    assert "headrace_matured_labels{" not in generate_latest(metrics.registry).decode()


def test_the_metrics_of_a_trainer_name_what_holds_labels_up() -> None:
    found = samples(generate_latest(full_trainer().registry).decode())
    held = {"model": "m", "topic": "returns", "partition": "2"}
    assert own(found, "headrace_waiting_labels", **held) == 7
    assert own(found, "headrace_waiting_labels_since_timestamp_seconds", **held) == 5
    assert own(found, "headrace_waiting_labels", model="m", topic="others", partition="") == 7
    assert own(found, "headrace_matured_labels", model="m") == 30
    assert own(found, "headrace_decision_timestamp_seconds", model="m") == 9


def test_the_metrics_of_a_trainer_name_its_tick_its_run_and_how_runs_ended() -> None:
    found = samples(generate_latest(full_trainer().registry).decode())
    assert own(found, "headrace_trainer_tick_timestamp_seconds") == 8
    assert own(found, "headrace_run_started_timestamp_seconds", model="m") == 8
    assert own(found, "headrace_trigger_progress_ratio", model="m", rule="first") == 0.3
    ends = {outcome: own(found, "headrace_runs_total", model="m", outcome=outcome) for outcome in get_args(RunOutcome)}
    assert ends == {"published": 0, "refused": 1, "postponed": 0, "failed": 0}


def test_the_probes_name_a_task_that_fails_without_its_error() -> None:
    tasks, unreadable = BackgroundTasks(), UnreadableRecords()
    task = BackgroundTask("upkeep sales", lambda: 1_500_000)
    tasks.add(task)
    unreadable.skip(KafkaPlace("t", 0, 3), CodecError("no"))
    registry = CollectorRegistry()
    registry.register(ProcessStatus(tasks, unreadable))
    with serve_status(registry, "127.0.0.1", 0, tasks) as port:
        assert probe(port, "livez") == probe(port, "readyz") == (200, "ok\n")
        with task.attempt():
            raise ValueError("redis://user:hunter2@db")
        assert probe(port, "livez") == (200, "ok\n")
        status, said = probe(port, "readyz")
        assert (status, said) == (
            503,
            "upkeep sales has failed 1 times since 1970-01-01T00:00:01+00:00: the log says why\n",
        )
        found = scraped(port)
        assert own(found, "headrace_task_failing", task="upkeep sales") == 1
        assert own(found, "headrace_task_failures_total", task="upkeep sales") == 1
        assert own(found, "headrace_unreadable_records_total", topic="t") == 1
        with task.attempt():
            pass
        assert probe(port, "readyz") == (200, "ok\n")


def test_a_probe_says_that_the_loop_stands_and_that_a_worker_has_not_begun() -> None:
    now, metrics = [0.0], WorkerMetrics()
    pulse = LoopPulse(lambda: now[0])
    probes = ProcessProbes(pulse.problem, metrics.unready)
    with serve_status(metrics.registry, "127.0.0.1", 0, BackgroundTasks(), probes=probes) as port:
        status, said = probe(port, "readyz")
        assert (status, said) == (503, "nothing was reported yet: the log says what it waits for\n")
        metrics.reported(WorkerReport("w", 7_000_000, []), {})
        assert probe(port, "readyz") == probe(port, "livez") == (200, "ok\n")
        now[0] = 301.5
        assert probe(port, "livez") == (503, "the loop has not moved for 301 s\n")
        assert probe(port, "readyz") == (200, "ok\n")
        stop = threading.Event()
        left = [1]

        def away() -> str:
            if left.pop() if left else None:
                raise BusUnavailableError("no answer")
            return "here"

        assert UntilAvailable(stop, pulse.moved)(away) == "here"  # who waits for a store moves
        assert probe(port, "livez") == (200, "ok\n")
        now[0] += 301.5
        assert UntilAvailable(stop, pulse.moved)(away) == "here"  # so does who opens one of many partitions
        assert probe(port, "livez") == (200, "ok\n")


def probe(port: int, name: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{port}/{name}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def full() -> WorkerMetrics:
    """Metrics that were told something of everything."""
    metrics = WorkerMetrics()
    metrics.batch(20, 0.01)
    metrics.rejected("t", pl.Series(["decode", "future", "decode"]))
    metrics.wrote([True, False, True], 0.002)
    metrics.flushed("t", 30, 0.05)
    views = {"user@ab": ViewReport(90, 88, 4_000_000)}
    place = PartitionReport("t", "07" * 16 + "-3", 100, 80, 5_500_000, 1, views, late=2, duplicates=6)
    new = PartitionReport("t", "07" * 16 + "-4", 0, 0, -(2**62), 0, {})
    stopped = [StoppedReport("t", 5, "why"), StoppedReport("t", 6, "why", log_ends=3)]
    metrics.reported(WorkerReport("w", 7_000_000, [place, new], stopped), {("t", 3): 130, ("t", 9): 4})
    return metrics


def test_metrics_report_the_state_of_the_worker() -> None:
    found = samples(generate_latest(full().registry).decode())
    three = {"topic": "t", "partition": "3"}
    assert own(found, "headrace_partition_next_offset", **three) == 100
    assert own(found, "headrace_partition_logged_offset", **three) == 80
    assert own(found, "headrace_partition_lag_records", **three) == 30
    assert own(found, "headrace_partition_clock_timestamp_seconds", **three) == 5.5
    assert own(found, "headrace_late_records_total", **three) == 2
    assert own(found, "headrace_duplicate_records_total", **three) == 6
    assert own(found, "headrace_duplicate_records_total", topic="t", partition="4") is None  # no `unique=`
    assert own(found, "headrace_view_next_offset", **three, view="user@ab") == 90
    assert own(found, "headrace_view_clock_timestamp_seconds", **three, view="user@ab") == 4
    assert own(found, "headrace_partition_lag_records", topic="t", partition="4") == 0
    assert own(found, "headrace_partition_clock_timestamp_seconds", topic="t", partition="4") is None
    assert own(found, "headrace_partition_stopped", topic="t", partition="5", gap="false") == 1
    assert own(found, "headrace_partition_stopped", topic="t", partition="6", gap="true") == 1
    assert own(found, "headrace_rejected_records_total", topic="t", reason="decode") == 2
    assert own(found, "headrace_online_refused_writes_total") == 1
    assert (own(found, "headrace_batch_records_sum"), own(found, "headrace_flush_rows_sum", topic="t")) == (20, 30)
    assert own(found, "headrace_observed_timestamp_seconds") == 7


def test_a_taken_port_is_an_error() -> None:
    with serve_status(WorkerMetrics().registry, "127.0.0.1", 0) as port:
        assert scraped(port)
        with (
            pytest.raises(SettingsError, match=f"127.0.0.1:{port}.*--metrics-port"),
            serve_status(full().registry, "127.0.0.1", port),
        ):
            pass
    with serve_status(WorkerMetrics().registry, "127.0.0.1", port):
        pass  # it was given back


@pytest.mark.integration
@pytest.mark.long
def test_a_real_worker_is_scraped(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    topic = f"{namespace}.pings"
    modules = f'streams = ["m{namespace}"]\nfeatures = []\ntrainers = []\n'
    (tmp_path / "headrace.toml").write_text(f'namespace = "{namespace}"\n[project]\n{modules}')
    (tmp_path / f"m{namespace}.py").write_text(PROJECT.format(topic=topic))
    port = free_port()
    command = [sys.executable, "-m", "headrace", "worker", "--partitions", "1", "--metrics-port", str(port)]
    addresses = ["--bootstrap-servers", services.bootstrap_servers, "--redis-url", services.redis_url]
    with subprocess.Popen([*command, *addresses], cwd=tmp_path) as worker:
        try:
            until(lambda: listens(port), 60)
            eventually(lambda: incarnations(admin(services.bootstrap_servers), [topic])[topic])
            produce(services, topic)
            place = {"topic": topic, "partition": "0"}
            until(lambda: own(scraped(port), "headrace_partition_logged_offset", **place) == 4, 30)
            found = scraped(port)
            assert own(found, "headrace_partition_next_offset", **place) == 4
            assert own(found, "headrace_partition_lag_records", **place) == 0
            assert own(found, "headrace_rejected_records_total", topic=topic, reason="decode") == 1
            assert own(found, "headrace_late_records_total", **place) == 3
            clock = own(found, "headrace_partition_clock_timestamp_seconds", **place)
            assert clock is not None
            assert abs(time.time() - clock) < 60
            assert own(found, "headrace_flush_rows_sum", topic=topic) == 4
            assert (
                own(found, "headrace_batch_records_sum") or 0
            ) >= 4  # all topics count, and others may have had records
            for name in ("headrace_online_write_seconds_count", "headrace_batch_seconds_count"):
                assert (own(found, name) or 0) > 0
            if sys.platform == "linux":
                assert (own(found, "process_resident_memory_bytes") or 0) > 1e7
        finally:
            worker.terminate()
        assert worker.wait(30) == 0


def produce(services: LocalServices, topic: str) -> None:
    producer = Producer({"bootstrap.servers": services.bootstrap_servers})
    for value in (b"broken", *[b'{"user":"u","at":"2020-01-01T00:00:00Z"}'] * 3):
        producer.produce(topic, value)
    assert producer.flush(10) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def listens(port: int) -> bool:
    try:
        return bool(scraped(port))
    except OSError:
        return False
