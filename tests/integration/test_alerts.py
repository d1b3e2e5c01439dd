"""The shipped alerts: each fires, is quiet for a healthy process, and is known to do what when the process is gone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support import promtool
from tests.support.documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path

RULES = ROOT / "deploy" / "prometheus" / "headrace-alerts.yml"
PAGE = (ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8")
NAMES = re.findall(r"- alert: (\w+)", RULES.read_text("utf-8"))
needs_promtool = pytest.mark.skipif(promtool.PROMTOOL is None, reason=promtool.MISSING)
PLACE = '{topic="t",partition="0",job="worker",instance="a"}'
WORKER, TRAINER = 'up{job="worker",instance="a"}', 'up{job="trainer",instance="b"}'
DAY = "86400"


class Case(NamedTuple):
    """Series with which an alert fires, and those with which it does not, at a time. The clock begins at 0.

    ``gone``: the number that fires half an hour after the end of the series.
    """

    name: str
    fires: dict[str, str]
    quiet: dict[str, str]
    at: str = "20m"
    gone: int = 0


STOPPED = 'headrace_partition_stopped{topic="t",partition="0",gap="%s"}'
JOB = 'headrace_job{job="worker",exported_job="audit m",found="mismatched"}'
JOB_TIME = 'headrace_job_timestamp_seconds{job="worker",exported_job="audit m",instance="%s"}'
RUNS = 'headrace_runs_total{model="m",outcome="%s"}'
TICK = 'headrace_trainer_tick_timestamp_seconds{job="trainer"}'
CASES = [
    Case("HeadraceWorkerGone", {WORKER: "0x200"}, {WORKER: "1x200"}, gone=1),
    Case("HeadraceTrainerGone", {TRAINER: "0x200"}, {TRAINER: "1x200"}, gone=1),
    Case(  # the report of a healthy worker is a second old at each scrape
        "HeadraceWorkerHangs",
        {"headrace_observed_timestamp_seconds": "100x200"},
        {"headrace_observed_timestamp_seconds": "-1+15x200"},
    ),
    Case("HeadracePartitionStopped", {STOPPED % "true": "1x200"}, {STOPPED % "false": "1x200"}),
    Case(
        "HeadraceLagGrows",
        {f"headrace_partition_lag_records{PLACE}": "100000+1000x200"},
        {f"headrace_partition_lag_records{PLACE}": "900000-1000x200"},
    ),
    Case("HeadraceAuditMismatch", {JOB: "1x200"}, {JOB: "0x200"}),
    Case(
        "HeadraceClockAhead",
        {f"headrace_partition_clock_timestamp_seconds{PLACE}": "400+15x200"},
        {f"headrace_partition_clock_timestamp_seconds{PLACE}": "200+15x200"},
    ),
    Case(  # another worker leads now, and its audit is new
        "HeadraceAuditOverdue",
        {JOB_TIME % "a": f"-{4 * 86400}x200"},
        {JOB_TIME % "a": f"-{4 * 86400}x200", JOB_TIME % "b": "60x200"},
    ),
    Case(
        "HeadraceEventLogBehind",
        {
            f"headrace_partition_next_offset{PLACE}": "3000000x200",
            f"headrace_partition_logged_offset{PLACE}": "1000000x200",
        },
        {f"headrace_partition_next_offset{PLACE}": "30x200", f"headrace_partition_logged_offset{PLACE}": "10x200"},
    ),
    Case(
        "HeadraceRecordsRejected",
        {
            'headrace_rejected_records_total{topic="t",reason="decode"}': "0+20x200",
            f"headrace_partition_next_offset{PLACE}": "0+1000x200",
        },
        {
            'headrace_rejected_records_total{topic="t",reason="decode"}': "0+5x200",
            f"headrace_partition_next_offset{PLACE}": "0+1000x200",
        },
    ),
    Case(
        "HeadraceTaskFails",
        {'headrace_task_failing{task="a"}': "1x200"},
        {'headrace_task_failing{task="a"}': " ".join(["0 1x9"] * 9)},  # it is tried again, and works at times
    ),
    Case(
        "HeadraceRecordsUnreadable",
        {'headrace_unreadable_records_total{topic="t"}': "_x300 1x100"},  # there is no 0 before the first one
        {'headrace_unreadable_records_total{topic="t"}': "3x500"},
        at="90m",
    ),
    Case("HeadraceTrainerSilent", {TICK: "0x200", WORKER: "1x200"}, {TICK: "0+15x200", WORKER: "1x200"}),
    Case(
        "HeadraceRunStuck",
        {'headrace_run_started_timestamp_seconds{model="m"}': "0x500"},
        {'headrace_run_started_timestamp_seconds{model="m"}': "5000x500"},
        at="90m",
    ),
    Case(
        "HeadraceRunsFail",
        {RUNS % "failed": "0x9 1x9 2x181"},
        {RUNS % "failed": "0x9 1x9 2x181", RUNS % "refused": "0x9 1x190"},
        gone=1,
    ),
    Case(
        "HeadraceRulesFail",
        {'headrace_failing_rules_since_timestamp_seconds{model="m",error="E"}': "5x200"},
        {'headrace_failing_rules_since_timestamp_seconds{model="m",error="E"}': "_x200"},
    ),
    Case(
        "HeadracePartitionUnowned",
        {'headrace_partitions_unowned{topic="t"}': "2x200"},
        {'headrace_partitions_unowned{topic="t"}': "0x70 2x5 0x100"},  # a rebalance
    ),
    Case(
        "HeadraceApplicationBehind",
        {'headrace_application_behind_seconds{application="web",model="m"}': "0+15x200"},
        {'headrace_application_behind_seconds{application="web",model="m"}': "20x200"},
    ),
    Case(
        "HeadraceNotSwapped",
        {'headrace_predictor_wanted_version{model="m"}': "4x200", 'headrace_predictor_version{model="m"}': "3x200"},
        {'headrace_predictor_wanted_version{model="m"}': "4x200", 'headrace_predictor_version{model="m"}': "3x9 4x190"},
    ),
    Case(
        "HeadraceLabelsWait",
        {'headrace_waiting_labels{model="m",topic="t",partition="0"}': "7x200"},
        {'headrace_waiting_labels{model="m",topic="t",partition="0"}': "_x200"},
    ),
]  # fmt: skip


def test_each_alert_is_tested_and_explained() -> None:
    assert sorted(case.name for case in CASES) == sorted(NAMES)
    explained = dict(re.findall(r"^\| `(Headrace\w+)` \| (\w+) \|", PAGE, re.MULTILINE))
    severities = dict(re.findall(r"- alert: (\w+)[^-]*?severity: (\w+)", RULES.read_text("utf-8"), re.DOTALL))
    assert explained.keys() == set(NAMES)
    assert {name: explained[name] for name in severities} == severities


def test_each_alert_reads_values_that_the_page_has() -> None:
    served = set(re.findall(r"^\| `(headrace_\w+)` \|", PAGE, re.MULTILINE))
    assert set(re.findall(r"\b(headrace_\w+)", RULES.read_text("utf-8"))) <= served


@needs_promtool
def test_the_rules_are_rules_for_prometheus() -> None:
    done = promtool.run("check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(NAMES)} rules found" in done.stdout


def ending(values: str) -> str:
    """A series of which the last part ends after twenty values: nothing is scraped any more."""
    return re.sub(r"x\d+$", "x19 stale", values)


@needs_promtool
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_alert_fires_is_quiet_and_knows_a_process_that_is_gone(case: Case, tmp_path: Path) -> None:
    gone = {name: ending(values) for name, values in case.fires.items()}
    scenarios = [
        promtool.scenario(case.fires, case.at, {case.name: 1}),
        promtool.scenario(case.quiet, case.at, {case.name: 0}),
        promtool.scenario(gone, "35m", {case.name: case.gone}),
    ]
    code, said = promtool.tested(RULES, scenarios, tmp_path)
    assert code == 0, said


@needs_promtool
def test_the_age_of_a_report_is_not_the_age_of_the_scrape(tmp_path: Path) -> None:
    """A rule with time() fires for a healthy worker that is scraped every 30 seconds; that of the page does not."""
    rules = tmp_path / "rules.yml"
    expressions = {
        "Wrong": "time() - headrace_observed_timestamp_seconds > 10",
        "Right": "timestamp(headrace_observed_timestamp_seconds) - headrace_observed_timestamp_seconds > 10",
    }
    lines = [f"  - {{alert: {name}, expr: '{expression}'}}\n" for name, expression in expressions.items()]
    rules.write_text("groups:\n- name: a\n  rules:\n" + "".join(lines))
    healthy = {"headrace_observed_timestamp_seconds": "-1 _ 29 _ 59 _ 89 _ 119 _"}
    code, said = promtool.tested(rules, [promtool.scenario(healthy, "105s", {"Wrong": 1, "Right": 0})], tmp_path)
    assert code == 0, said
