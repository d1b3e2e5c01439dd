"""The examples of `docs/reference/messages.md` are what the code makes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from headrace.base.times import epoch_us
from headrace.models.model_events import ModelEvent, ModelEventData, Promoted, Retired, RolledBack, encode

PAGE = (Path(__file__).parents[2] / "docs/reference/messages.md").read_text()
AT = epoch_us(datetime(2013, 5, 28, 9, 30, tzinfo=UTC))
PIN = RolledBack(version=3, reason="the airline changed its schedule", by="ann@desk")
OTHERS: list[ModelEventData] = [
    RolledBack(version=3, reason="the schedule is stable", pin=False, lifts="6f2c", by="ann@desk"),
    Promoted(version=4, reason="looked at by two people", by="bob@desk"),
    Retired(version=1, reason="trained before the sensor was repaired", by="bob@desk"),
]


def block(comment: str) -> str:
    """The block of text that follows a comment of the page."""
    return PAGE.split(f"<!-- {comment}", 1)[1].split("```text\n", 1)[1].split("\n```", 1)[0]


def test_the_record_of_a_pin_is_that_of_the_code() -> None:
    record = encode(ModelEvent(id="6f2c", model="delay", at_us=AT, data=PIN))
    headers = [f"{name}: {value.decode()}" for name, value in sorted(record.headers.items())]
    assert "\n".join([*headers, "", record.value.decode()]) == block("a pin:")
    assert record.key == b"delay"


def test_the_other_interventions_are_those_of_the_code() -> None:
    records = [encode(ModelEvent(id="x", model="delay", at_us=AT, data=data)) for data in OTHERS]
    assert "\n".join(f"{r.headers['ce_type'].decode()} {r.value.decode()}" for r in records) == block("the others:")
