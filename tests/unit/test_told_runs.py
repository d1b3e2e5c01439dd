"""What `headrace runs` says of a run."""

from __future__ import annotations

from typing import Any

from headrace.app.operators import describe_run, summarize_run
from headrace.trainers.runs.messages import RetrainRequest, RunEnded

DAY_US = 86_400_000_000
ASKED = RetrainRequest(
    request_id="r", model="m", rule="volume", reason="20 of 20 labels", t_us=3 * DAY_US, matured_labels=20
)


def ended(**more: Any) -> RunEnded:
    return RunEnded(
        request_id="r", model="m", outcome="refused", reason="no gain", rule="volume", t_us=3 * DAY_US,
        matured_labels=20, **more,
    )  # fmt: skip


def test_a_run_says_why_it_was_asked_for_and_what_came_of_it() -> None:
    line = summarize_run(ASKED, ended())
    assert (line["cause"], line["why"]) == ("volume", "20 of 20 labels")
    assert (line["outcome"], line["version"], line["result"]) == ("refused", None, "no gain")
    assert (line["id"], line["model"], line["asked_at"]) == ("r", "m", "1970-01-04T00:00:00Z")


def test_an_open_run_has_no_result() -> None:
    found = describe_run(ASKED, None)
    assert (found["outcome"], found["result"], found["over_pin"]) == ("not ended", None, False)


def test_a_run_that_was_cancelled_and_has_not_ended_says_who_cancelled_it() -> None:
    line = summarize_run(ASKED, None, "cancelled by ann: one was enough")
    assert (line["outcome"], line["result"]) == ("cancelling", "cancelled by ann: one was enough")
    assert summarize_run(ASKED, ended(), "cancelled by ann: too late")["result"] == "no gain"


def test_a_run_says_its_times_by_the_wall_clock_beside_those_of_the_stream() -> None:
    found = describe_run(ASKED, None, times={"asked_at": "2026-11-29T16:21:08Z", "ended_at": None})
    assert (found["asked_at"], found["wall_clock"]["asked_at"]) == ("1970-01-04T00:00:00Z", "2026-11-29T16:21:08Z")


def test_the_end_of_a_run_is_told_if_its_request_is_gone() -> None:
    assert (describe_run(None, ended())["why"], describe_run(None, ended())["result"]) == (None, "no gain")


def test_the_last_day_of_a_holdout_is_in_it() -> None:
    assert describe_run(ASKED, ended(holdout_days=(0, 14)))["holdout"] == {"from": "1970-01-01", "to": "1970-01-14"}
    assert describe_run(ASKED, ended())["holdout"] is None


def test_a_holdout_of_hours_is_told_by_its_times() -> None:
    found = describe_run(ASKED, ended(holdout_days=(0, 1), holdout_us=(3_600_000_000, 7_200_000_000)))
    assert found["holdout"] == {"from": "1970-01-01T01:00:00Z", "to": "1970-01-01T02:00:00Z"}
