"""What `headrace doctor` makes of what it is told."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import UNSET
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.app.doctor import Severity, clocks, event_log, kafka, learning, project, redis
from headrace.app.doctor.diagnosis import diagnose
from headrace.app.doctor.finding import error, ok, warning
from headrace.app.project.settings_sources import load_settings
from headrace.bus.event import Event
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.stream import Stream, after
from headrace.features.definitions.aggregates import Count
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.view import FeatureView
from headrace.features.online.cursor import Cursor, CursorState
from headrace.models.model_events import Acknowledgement
from headrace.models.model_state import fold
from headrace.trainers.runs.messages import DecisionRecord, RetrainRequest
from headrace.trainers.runs.operator_requests import OperatorRequest
from headrace.trainers.triggers.evidence import Evidence
from headrace.trainers.triggers.rules import volume
from headrace.trainers.triggers.trigger_policy import TriggerPolicy
from headrace.trainers.triggers.trigger_state import TriggerState
from headrace.trainers.triggers.watched_inputs import WatchedInput
from tests.support.model_events import promoted, published
from tests.support.orders_model import model

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from headrace.app.doctor import Finding


class Ping(Event):
    user: str
    at: datetime


REDIS = {"redis_version": "7.2.4", "role": "master", "maxmemory_policy": "noeviction", "maxmemory": 0}
TOPIC = {"cleanup.policy": "delete", "retention.ms": "-1", "message.timestamp.type": "LogAppendTime"}
KEPT = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


def worst(found: Iterable[Finding]) -> tuple[Severity, str]:
    """The severest finding, and what was found and advised."""
    listed = list(found)
    each = max(listed, key=lambda finding: list(Severity).index(finding.severity))
    assert all(finding.advice for finding in listed if finding.severity is not Severity.OK)
    return each.severity, f"{each.found} → {each.advice}"


def test_a_redis_as_it_should_be_is_fine() -> None:
    assert worst(redis.check_info("redis", REDIS, 0.1))[0] is Severity.OK


@pytest.mark.parametrize(
    ("said", "ahead_s", "severity", "word"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, 0, "error", "allkeys-lru"),
        ({"maxmemory_policy": "volatile-ttl"}, 0, "error", "noeviction"),
        ({"role": "slave"}, 0, "error", "takes no writes"),
        ({"rdb_last_bgsave_status": "err"}, 0, "error", "refuses writes"),
        ({"maxmemory": 1000, "used_memory": 900}, 0, "warning", "90%"),
        ({}, 2.0, "warning", "2.0 s ahead of"),
        ({}, -2.0, "warning", "2.0 s behind"),
    ],
)
def test_a_redis_that_would_lose_values_is_named(
    said: dict[str, Any], ahead_s: float, severity: str, word: str
) -> None:
    found = worst(redis.check_info("redis", REDIS | said, ahead_s))
    assert (found[0], word in found[1]) == (severity, True)


@pytest.mark.parametrize(
    ("config", "severity", "word"),
    [
        ({}, "ok", ""),
        ({"cleanup.policy": "compact,delete"}, "error", "compact"),
        ({"retention.ms": "3600000"}, "warning", "3,600,000"),
        ({"retention.ms": "604800000"}, "ok", ""),
        ({"message.timestamp.type": "CreateTime"}, "warning", "LogAppendTime"),
    ],
)
def test_a_stream_topic_that_would_lose_or_lie_is_named(config: dict[str, str], severity: str, word: str) -> None:
    found = [*kafka.check_stream_topic("topic", TOPIC | config)]
    assert (worst(found) if found else ("ok", ""))[0] == severity
    assert not word or word in worst(found)[1]


def test_producers_stamps_are_fine_where_a_field_says_what_was_available() -> None:
    assert not [*kafka.check_stream_topic("topic", TOPIC | {"message.timestamp.type": "CreateTime"}, by_record=False)]


def test_a_topic_that_is_folded_from_its_begin_is_kept_for_ever_in_order() -> None:
    assert worst(kafka.check_kept_topic("headrace.models", KEPT, 1))[0] is Severity.OK
    assert "retention.ms=-1" in worst(kafka.check_kept_topic("headrace.models", KEPT | {"retention.ms": "1000"}, 1))[1]
    assert "3 partitions" in worst(kafka.check_kept_topic("headrace.models", KEPT, 3))[1]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert worst(event_log.check_folder("log", tmp_path / "not" / "there"))[0] is not Severity.ERROR
    assert worst(event_log.check_folder("log", file / "events"))[0] is Severity.ERROR


def cursor(heartbeat_us: int, state: CursorState = CursorState.LIVE) -> dict[SourcePartition, Cursor]:
    return {
        SourcePartition(0, b"t" * 16): Cursor(
            owner=uuid.uuid4().bytes, next_offset=5, rows_total=5, clock=0, partitions=1, state=state,
            heartbeat_us=heartbeat_us,
        )
    }  # fmt: skip


def test_a_view_without_a_live_worker_is_named() -> None:
    def of(cursors: dict[SourcePartition, Cursor]) -> Finding:
        return project.check_view("view", cursors, now_us=10_000_000, bound_us=5_000_000)

    assert of(cursor(9_000_000)).severity is Severity.OK
    assert "nothing" in of({}).found
    assert "stale" in of(cursor(4_000_000)).found
    assert "rebuilding" in of(cursor(9_000_000, CursorState.REBUILDING)).found


HOUR = 3_600_000_000
NOW = 400_000 * HOUR
PINGS = Stream("pings", Ping, "at", tolerance="10m")


@pytest.mark.parametrize(
    ("ahead_us", "wanted"),
    [(-HOUR, None), (600_000_000, None), (600_000_001, "partition 3: its clock is 600 s ahead"),
     (23 * HOUR, "partition 3: its clock is 23.0 h ahead of this machine's"), (2**60, "the year 10,000")],
)  # fmt: skip
def test_a_partition_whose_clock_is_ahead_is_named_with_its_distance(ahead_us: int, wanted: str | None) -> None:
    found = [*clocks.check_topic(PINGS, {2: NOW, 3: NOW + ahead_us, 4: NO_CLOCK}, NOW)]
    if wanted is None:
        assert found == []
    else:
        assert worst(found)[0] is Severity.ERROR
        assert wanted in found[0].found


@pytest.mark.parametrize(("history", "ahead_h", "count"), [("0s", 0, 0), ("0s", 23, 1), ("1d", 23, 0), ("1d", 25, 1)])
def test_a_view_that_look_ups_of_now_do_not_see_is_named(history: str, ahead_h: int, count: int) -> None:
    view = FeatureView("v", Entity("user"), PINGS, ["1h"], {"n": Count()}, history=history)
    cursors = {
        SourcePartition(partition, b"t" * 16): Cursor(b"o" * 16, 1, clock=NOW + ahead_h * HOUR * partition)
        for partition in range(2)
    }
    found = [*clocks.check_view(view.spec, cursors, NOW)]
    assert ["partition 1 of pings: its clock is" in each.found for each in found] == [True] * count


@pytest.mark.parametrize(
    ("missing", "known", "wanted"),
    [
        (False, {0: NOW, 1: NOW - HOUR}, []),
        (False, {0: NOW, 1: NOW - HOUR - 1, 2: NO_CLOCK}, ["partition 1 of returns, which has had no record since 20"]),
        (False, {0: NO_CLOCK}, ["wait for a first record on returns"]),
        (False, {}, ["wait for a first record on returns"]),
        (None, {0: NOW - HOUR - 1}, []),
    ],
)
def test_a_partition_that_holds_labels_up_is_named(missing: Any, known: dict[int, int], wanted: list[str]) -> None:
    sure = replace(model, label=replace(model.label, missing=missing))
    found = [*clocks.check_labels(sure, known, NOW)]
    assert [part in each.found for each, part in zip(found, wanted, strict=True)] == [True] * len(wanted)
    assert {each.severity for each in found} <= {Severity.WARNING}


def test_history_that_was_loaded_in_bulk_is_warned_of() -> None:
    assert [*project.check_stream(Stream("p", Ping, "at"))] == []
    assert worst(project.check_stream(Stream("p", Ping, "at", available_at=after("5m"))))[0] == "warning"


def test_a_project_that_does_not_load_costs_no_other_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "headrace.toml").write_text('[project]\nstreams = ["nowhere_to_be_found"]\n')
    found = list(diagnose(load_settings({"data_dir": tmp_path / "data", "event_log": str(tmp_path / "log")})))
    assert found[0].subject == "project"
    assert found[0].severity == "error"
    assert {finding.subject.split()[0] for finding in found} >= {"redis", "kafka", "event"}


# -- the learning loop -----------------------------------------------------------------------------------------------

NOW_US, MINUTE_US = 1_800_000_000_000_000, 60_000_000


def asked(name: str, *, minutes: int, is_taken: bool = False) -> learning.AskedRun:
    """A run of the model ``delay`` that was asked for so long ago."""
    request = RetrainRequest(request_id=name, model="delay", rule="volume", reason="", t_us=5, matured_labels=1)
    return learning.AskedRun(request, NOW_US - minutes * MINUTE_US, is_taken)


@pytest.mark.parametrize(
    ("run", "trainers", "severity", "words"),
    [
        (asked("r", minutes=5), ["t1 at host"], "ok", "run r was asked for at 2027-01-15T07:55:00Z by rule 'volume'"),
        (asked("r", minutes=5), ["t1 at host"], "ok", "it is with trainer t1 at host"),
        (asked("r", minutes=61), ["t1 at host"], "warning", "see the trainer's log"),
        (asked("r", minutes=5), [], "warning", "start `headrace trainer`"),
        (asked("r", minutes=5, is_taken=True), ["t1 at host"], "warning", "a trainer left it out"),
    ],
)
def test_a_run_that_has_not_ended_is_named_with_its_trainer(
    run: learning.AskedRun, trainers: list[str], severity: str, words: str
) -> None:
    (found,) = learning.check_runs([run], set(), lambda: {0: trainers, 1: ["another"]}, NOW_US)
    assert (found.subject, found.severity) == ("model delay", severity)
    assert words in f"{found.found} → {found.advice}"


def test_a_run_is_named_once_and_an_ended_one_not_at_all() -> None:
    runs = [asked("a", minutes=9), asked("b", minutes=8), asked("b", minutes=7)]
    (found,) = learning.check_runs(runs, {"a"}, lambda: {0: ["t"]}, NOW_US)
    assert "07:52:00Z" in found.found
    assert list(learning.check_runs(runs, {"a", "b"}, lambda: pytest.fail("nobody is asked"), NOW_US)) == []


def test_a_run_belongs_to_the_trainer_of_its_own_partition() -> None:
    runs = [replace(asked("a", minutes=9), partition=3), asked("b", minutes=8)]
    first, second = learning.check_runs(runs, set(), lambda: {0: ["zero"], 3: ["three"]}, NOW_US)
    assert "it is with trainer three" in first.found
    assert "it is with trainer zero" in second.found
    assert "no trainer takes requests" in next(learning.check_runs(runs, set(), lambda: {0: ["zero"]}, NOW_US)).found


def acknowledged(application: str, event: str, at: int, reason: str = "") -> Acknowledgement:
    """An answer of an application to the event of a version 3."""
    return Acknowledgement(
        application=application, model="delay", version=3, event_id=event, ok=not reason, reason=reason,
        at_us=NOW_US + at * MINUTE_US,
    )  # fmt: skip


def test_an_application_that_could_not_load_a_version_is_named_since_its_first_failure() -> None:
    answers = [
        acknowledged("web", "e1", 0),
        acknowledged("web", "e2", 1, "no such file"),
        acknowledged("batch", "e2", 2, "no such type"),
        acknowledged("web", "e2", 3, "no such folder"),
        acknowledged("batch", "e2", 4),
    ]
    (found,) = learning.check_applications(answers)
    assert (found.subject, found.severity) == ("application web", Severity.WARNING)
    assert "version 3 of model delay since 2027-01-15T08:01:00Z: no such folder" in found.found
    assert [each.subject for each in learning.check_applications(answers[:3])] == [
        "application web",
        "application batch",
    ]


def test_a_version_that_waits_for_its_approval_is_named_with_the_commands_that_decide() -> None:
    waits = published("w", 2, expects="a", approval="wanted", format=4)
    states = {"delay": fold([published("a", 1, expects=None), waits]), "other": fold([])}
    (found,) = learning.check_approvals(states)
    assert (found.subject, found.severity) == ("model delay", Severity.WARNING)
    assert found.found == "version 2 passed its gate, and waits for approval since 2013-02-04T17:46:40Z"
    assert "`headrace models promote delay 2 --reason …`" in found.advice
    decided = {"delay": fold([published("a", 1, expects=None), waits, promoted("p", 2)])}
    assert list(learning.check_approvals(decided)) == []


def test_a_model_whose_rules_fail_is_named_with_the_error_and_its_time() -> None:
    def last(name: str, kind: Any, since_us: Any) -> DecisionRecord:
        return DecisionRecord(
            model=name, kind=kind, t_us=90_000_000, reason="ValueError: no", state=TriggerState(), since_us=since_us
        )

    found = list(
        learning.check_rules([last("new", "error", 30_000_000), last("old", "error", UNSET), last("m", "reset", UNSET)])
    )
    assert [(each.subject, each.severity) for each in found] == [
        ("model new", Severity.ERROR),
        ("model old", Severity.ERROR),
    ]
    assert [each.found for each in found] == [
        "its rules fail since 1970-01-01T00:00:30Z, last at 1970-01-01T00:01:30Z: ValueError: no",
        "its rules fail since 1970-01-01T00:01:30Z, last at 1970-01-01T00:01:30Z: ValueError: no",
    ]
    assert "the trainer's log has the traceback" in worst(found)[1]


def test_a_model_with_an_input_out_of_range_is_named_with_it() -> None:
    policy = TriggerPolicy("m", volume(labels=9), first_after=5, cooldown_us=0)
    watched = [
        WatchedInput(input="price", what="nulls", days=90, lately=0.5, before=0.0, low=0.0, high=0.25, out=out)
        for out in (True, False, True, True, True)
    ]
    decision = policy.evaluate(TriggerState(), Evidence(5, 1, watched=watched))
    record = DecisionRecord(model="m", kind="evaluated", t_us=5, reason="", state=decision.after, decision=decision)
    (found,) = learning.check_rules([record])
    one = "price 50.00% null, before 0.00%, by chance 0.00% to 25.00%"
    assert (found.severity, found.found) == (
        Severity.WARNING,
        f"lately out of range: {one}; {one}; {one}; and 1 others",
    )
    assert "`headrace triggers explain m`" in found.advice


def test_a_request_that_waits_and_a_log_that_lacks_a_column_are_no_wrong_rules() -> None:
    asked = OperatorRequest(id="w", model="m", action="train", by="ann", reason="x", at_us=0)
    waits = DecisionRecord(
        model="m", kind="error", t_us=90_000_000, reason="asked by ann: x, but not yet: no disk", state=TriggerState(),
        operator=asked,
    )  # fmt: skip
    lacks = DecisionRecord(
        model="n", kind="error", t_us=1, reason="NotInLogYetError: it has no column 'x' yet", state=TriggerState()
    )
    request, column = learning.check_rules([waits, lacks])
    assert (request.severity, request.found) == (
        Severity.WARNING,
        "a request waits since 1970-01-01T00:01:30Z: asked by ann: x, but not yet: no disk",
    )
    assert column.advice.startswith("start or restart `headrace worker` with this definition")


def test_the_table_and_the_json_begin_with_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [ok("a", "fine"), warning("b", "odd", "look"), ok("c", "fine"), error("d", "bad", "do"), ok("e", "fine")]
    monkeypatch.setattr("headrace.app.doctor.diagnosis.diagnose", lambda _: found)
    lines = CliRunner().invoke(build(), ["doctor"]).stdout.splitlines()
    assert [line[0] for line in lines] == ["s", "d", "b", "a", "c", "e"]
    listed = json.loads(CliRunner().invoke(build(), ["doctor", "--json"]).stdout)
    assert [each["subject"] for each in listed] == ["d", "b", "a", "c", "e"]
