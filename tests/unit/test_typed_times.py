"""A time that a person types may have each form in which headrace prints times, and an error says what is wrong."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import typer

from headrace.app.terminal.options import moment, with_zone

NOON = datetime(2013, 2, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2013-02-01T12:00", "2013-02-01 12:00", "2013-02-01T12:00:00", "2013-02-01T12:00:00Z", "2013-02-01 12:00 UTC",
        "2013-02-01T13:00+01:00", "2013-02-01T12:00:00.000000Z", " 2013-02-01T12:00 ",
    ],
)  # fmt: skip
def test_a_time_may_be_typed_as_it_is_printed(text: str) -> None:
    assert with_zone(moment(text)) == NOON


def test_a_date_is_its_first_moment() -> None:
    assert with_zone(moment("2013-02-01")) == datetime(2013, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "why"), [("2013-02-30", "day"), ("soon", "Invalid isoformat string"), ("", "Invalid")]
)
def test_a_time_that_does_not_exist_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(typer.BadParameter, match=rf"is no date and no time \(.*{why}.*Write for example 2013-02-01,"):
        moment(text)
