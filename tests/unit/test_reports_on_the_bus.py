"""The messages with which processes say how they do: their bytes, and what readers of other releases make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from headrace.bus import check_report, heartbeats, worker_report
from headrace.bus.check_report import CheckFinding, CheckReport, bounded, finite
from headrace.bus.heartbeats import ApplicationHeartbeat, RunProgress, TrainerHeartbeat, is_silent
from headrace.bus.worker_report import MemoryReport, PartitionReport, StoppedReport, ViewReport, WorkerReport
from headrace.errors import CodecError, NewerFormatError

if TYPE_CHECKING:
    from collections.abc import Callable

RUN = RunProgress(
    request_id="m-1", model="m", rule="volume", reason="enough", started_us=5, phase="fit", phase_us=6
)  # fmt: skip
MESSAGES: dict[str, tuple[msgspec.Struct, bytes, Callable[[bytes], object]]] = {
    "worker": (
        WorkerReport(
            "w",
            9,
            [
                PartitionReport(
                    "t", "ab-0", 4, 3, 8, 2, {"user@cd": ViewReport(3, 2, 7, catching_up=True)},
                    reasons={"decode": 2}, end_offset=6,
                )
            ],
            [StoppedReport("t", 1, "why")],
            memory={"user@cd": MemoryReport(2, 512)},
            release="0.1.0",
            started_us=1,
        ),
        (
            b'{"type":"observation","worker":"w","observed_us":9,"partitions":[{"topic":"t","source":"ab-0",'
            b'"next_offset":4,"logged_offset":3,"available_us":8,"rejected":2,"views":{"user@cd":{"next_offset":3,'
            b'"rows_total":2,"clock_us":7,"catching_up":true}},"late":0,"reasons":{"decode":2},"end_offset":6}],'
            b'"stopped":[{"topic":"t","partition":1,"why":"why"}],"format":1,'
            b'"memory":{"user@cd":{"entities":2,"bytes":512}},"release":"0.1.0","started_us":1}'
        ),
        worker_report.decode,
    ),
    "trainer": (
        TrainerHeartbeat(
            process="p", release="0.1.0", started_us=1, observed_us=9, every_us=5, models=["m"], tick_us=60,
            ticked_us=7, run=RUN, waiting=["m-2"],
        ),
        (
            b'{"type":"trainer","process":"p","release":"0.1.0","started_us":1,"observed_us":9,"every_us":5,'
            b'"models":["m"],"tick_us":60,"ticked_us":7,"run":{"request_id":"m-1","model":"m","rule":"volume","reason":"enough",'
            b'"started_us":5,"phase":"fit","phase_us":6},"waiting":["m-2"],"format":1}'
        ),
        heartbeats.decode,
    ),
    "trainer at rest": (
        TrainerHeartbeat(process="p", release="0.1.0", started_us=1, observed_us=9, every_us=5, models=[]),
        (
            b'{"type":"trainer","process":"p","release":"0.1.0","started_us":1,"observed_us":9,"every_us":5,'
            b'"models":[],"format":1}'
        ),
        heartbeats.decode,
    ),
    "application": (
        ApplicationHeartbeat(
            process="p", application="web", release="0.1.0", model="m", started_us=1, observed_us=9, every_us=5,
            predicted=7, failed=1, version=2, event_id="b", loaded_us=3, wanted=3, error="no such file",
        ),
        (
            b'{"type":"application","process":"p","application":"web","release":"0.1.0","model":"m","started_us":1,'
            b'"observed_us":9,"every_us":5,"predicted":7,"failed":1,"version":2,"event_id":"b","loaded_us":3,'
            b'"wanted":3,"error":"no such file","format":1}'
        ),
        heartbeats.decode,
    ),
    "application that was closed before version 1": (
        ApplicationHeartbeat(
            process="p", application="web", release="0.1.0", model="m", started_us=1, observed_us=9, every_us=5,
            predicted=0, failed=0, stopped=True,
        ),
        (
            b'{"type":"application","process":"p","application":"web","release":"0.1.0","model":"m","started_us":1,'
            b'"observed_us":9,"every_us":5,"predicted":0,"failed":0,"stopped":true,"format":1}'
        ),
        heartbeats.decode,
    ),
    "check": (
        CheckReport(
            check="audit", subject="m", at_us=5, by="w", numbers={"checked": 7.0, "mismatched": 1.0},
            findings=[CheckFinding("m", "error", "1 of 7 differ", "headrace audit m")], every_us=9,
        ),
        (
            b'{"check":"audit","subject":"m","at_us":5,"by":"w","numbers":{"checked":7.0,"mismatched":1.0},"findings":'
            b'[{"subject":"m","severity":"error","found":"1 of 7 differ","advice":"headrace audit m"}],"every_us":9,'
            b'"format":1}'
        ),
        check_report.decode,
    ),
    "check that found nothing": (
        CheckReport(check="doctor", subject="deployment", at_us=5, by="ann@desk", numbers={}, findings=[]),
        b'{"check":"doctor","subject":"deployment","at_us":5,"by":"ann@desk","numbers":{},"findings":[],"format":1}',
        check_report.decode,
    ),
}  # fmt: skip


@pytest.fixture(params=MESSAGES)
def message(request: pytest.FixtureRequest) -> tuple[msgspec.Struct, bytes, Callable[[bytes], object]]:
    return MESSAGES[request.param]


def test_a_report_has_these_bytes(message: tuple[msgspec.Struct, bytes, Callable[[bytes], object]]) -> None:
    value, golden, read = message
    assert msgspec.json.encode(value) == golden
    assert read(golden) == value


def test_readers_ignore_a_later_field_and_refuse_a_newer_format(
    message: tuple[msgspec.Struct, bytes, Callable[[bytes], object]],
) -> None:
    value, golden, read = message
    assert read(golden[:-1] + b',"later":{"a":1}}') == value
    with pytest.raises(NewerFormatError, match="has format 9, this release reads formats up to 1: upgrade headrace"):
        read(golden.replace(b'"format":1', b'"format":9'))


def test_the_reader_of_a_heartbeat_leaves_out_kinds_that_it_does_not_know() -> None:
    with pytest.raises(CodecError, match="these bytes are not a heartbeat: Invalid value 'scheduler'"):
        heartbeats.decode(b'{"type":"scheduler","format":1}')
    later = MESSAGES["trainer"][1].replace(b'"phase":"fit"', b'"phase":"distilling"')
    found = heartbeats.decode(later)
    assert isinstance(found, TrainerHeartbeat)
    assert isinstance(found.run, RunProgress)
    assert found.run.phase == "distilling"


class OldView(msgspec.Struct):
    """What earlier releases read of a view."""

    next_offset: int
    rows_total: int
    clock_us: int


class OldPartition(msgspec.Struct):
    """What earlier releases read of a partition."""

    topic: str
    source: str
    next_offset: int
    logged_offset: int
    available_us: int
    rejected: int
    views: dict[str, OldView]
    late: int = 0


class OldReport(msgspec.Struct, tag_field="type", tag="observation"):
    """What earlier releases read of a worker's report."""

    worker: str
    observed_us: int
    partitions: list[OldPartition]
    format: int = 1


def test_earlier_releases_read_the_report_of_a_worker_as_before() -> None:
    partition = OldPartition("t", "ab-0", 4, 3, 8, 2, {"user@cd": OldView(3, 2, 7)})
    assert msgspec.json.decode(MESSAGES["worker"][1], type=OldReport) == OldReport("w", 9, [partition])


def test_reports_of_earlier_releases_are_read() -> None:
    found = worker_report.decode(msgspec.json.encode(OldReport("w", 9, [])))
    assert found == WorkerReport("w", 9, [])
    assert (
        found.encode() == b'{"type":"observation","worker":"w","observed_us":9,"partitions":[],"stopped":[],"format":1}'
    )


def test_a_process_is_silent_after_three_intervals() -> None:
    beat = MESSAGES["trainer at rest"][0]
    assert isinstance(beat, TrainerHeartbeat)
    assert [is_silent(beat, now) for now in (9, 24, 25)] == [False, False, True]


def test_a_check_is_as_bad_as_its_worst_finding() -> None:
    found = [CheckFinding("a", "ok", ""), CheckFinding("b", "error", ""), CheckFinding("c", "warning", "")]
    report = CheckReport(check="doctor", subject="deployment", at_us=5, by="x", numbers={}, findings=found)
    assert (report.severity, report.key) == ("error", "doctor deployment")
    assert msgspec.structs.replace(report, findings=[]).severity == "ok"


def test_a_report_of_a_check_fits_into_a_record_and_has_no_password() -> None:
    found = [CheckFinding(str(number), "ok", "x" * 5_000) for number in range(1_000)]
    found.append(CheckFinding("redis", "error", "redis://:hunter2@db:6379/0 is away"))
    kept = bounded(found)
    report = CheckReport(check="doctor", subject="deployment", at_us=5, by="x", numbers={}, findings=kept)
    assert kept[0] == CheckFinding("redis", "error", "redis://:***@db:6379/0 is away")
    assert (len(kept), len(check_report.encode(report)) < 900_000) == (200, True)
    assert finite({"a": float("inf"), "b": 2}) == {"b": 2.0}
