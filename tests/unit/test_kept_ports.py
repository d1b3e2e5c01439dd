"""Services keep their ports, and processes that found them look again."""

from __future__ import annotations

import random
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.app.local.address_watch import has_moved
from headrace.app.local.lock import Addresses
from headrace.app.local.ports import LocalPorts, kept_ports
from headrace.app.project.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


def test_ports_are_chosen_once_and_lie_below_those_of_clients(tmp_path: Path) -> None:
    first = kept_ports(tmp_path / "local", random.Random(1))
    assert kept_ports(tmp_path / "local", random.Random(2)) == first
    assert len({first.kafka, first.controller, first.valkey}) == 3
    assert all(20_000 <= port < 32_000 for port in (first.kafka, first.controller, first.valkey))
    assert kept_ports(tmp_path / "other", random.Random(2)) != first


def test_a_port_that_is_taken_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    first = kept_ports(tmp_path, random.Random(1))
    with socket.create_server(("127.0.0.1", first.kafka)):
        second = kept_ports(tmp_path, random.Random(1))
    assert second.kafka != first.kafka
    assert (second.controller, second.valkey) == (first.controller, first.valkey)
    assert kept_ports(tmp_path, random.Random(3)) == second


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"kafka":1,"controller":1}', b"\xff"])
def test_a_file_that_cannot_be_read_is_written_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ports.json").write_bytes(content)
    assert isinstance(kept_ports(tmp_path, random.Random(1)), LocalPorts)


PLACES = st.sampled_from([None, "a:1", "b:2"])


@given(PLACES, PLACES, PLACES, PLACES)
def test_only_an_address_that_is_not_set_and_is_another_one_counts(
    kafka: str | None, redis: str | None, kafka_now: str | None, redis_now: str | None
) -> None:
    before = Addresses(pid=1, bootstrap_servers=kafka, redis_url=redis)
    now = Addresses(pid=2, bootstrap_servers=kafka_now, redis_url=redis_now)
    expected = (kafka_now not in {None, kafka}) or (redis_now not in {None, redis})
    assert has_moved(Settings(), before, now) == expected
    given_kafka = Settings(bootstrap_servers="k:9092")
    assert has_moved(given_kafka, before, now) == (redis_now not in {None, redis})
