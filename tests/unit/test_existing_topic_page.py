"""The proposal on the page about an existing topic is the one that the command makes, and the view on it is one."""

from __future__ import annotations

from typing import Any

import msgspec
from confluent_kafka import Message

import headrace
from headrace.bus.schemas.topic_proposal import proposal
from tests.support.documents import blocks

PAGE = "docs/how-to/existing-topic.md"
PYTHON = [block.text for block in blocks(PAGE, "python")]
RECORDS = [line for block in blocks(PAGE, "json") for line in block.text.strip().splitlines()]


def test_the_page_shows_what_is_proposed_and_a_view_of_it() -> None:
    keys = [msgspec.json.decode(line)["cardId"].encode() for line in RECORDS]
    records = [
        Message(topic="shop.payments", key=key, value=line.encode())
        for line, key in list(zip(RECORDS, keys, strict=True)) * 10
    ]
    assert proposal("shop.payments", records).strip() == PYTHON[0].strip()
    names = ("Entity", "FeatureView", "Count", "Sum", "Mean", "col")
    world: dict[str, Any] = {"__name__": "page", **{name: getattr(headrace, name) for name in names}}
    exec(compile("\n".join(PYTHON[:2]), PAGE, "exec", dont_inherit=True), world)
    assert world["spending"].spec.columns[:2] == ["spending__payments_1h", "spending__payments_1d"]
