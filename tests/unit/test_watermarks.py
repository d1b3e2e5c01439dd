"""Asking for the ends of partitions."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from headrace.bus.watermarks import Watermarks


class Broker:
    """Refuses so many times."""

    def __init__(self, code: int, times: int) -> None:
        self._refusals = [KafkaException(KafkaError(code))] * times

    def get_watermark_offsets(self, *_: Any) -> tuple[int, int]:
        if self._refusals:
            raise self._refusals.pop()
        return 3, 7


def of(code: int, times: int, monkeypatch: pytest.MonkeyPatch, timeout_s: float = 10.0) -> tuple[int, int]:
    watermarks = Watermarks("127.0.0.1:1")
    watermarks.close()
    monkeypatch.setattr(watermarks, "_consumer", Broker(code, times))
    return watermarks.offsets("t", 0, timeout_s)


def test_a_partition_that_has_no_leader_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert of(KafkaError.NOT_LEADER_FOR_PARTITION, 2, monkeypatch) == (3, 7)


@pytest.mark.parametrize(
    ("code", "timeout_s"), [(KafkaError.TOPIC_AUTHORIZATION_FAILED, 10.0), (KafkaError.NOT_LEADER_FOR_PARTITION, 0.0)]
)
def test_lasting_refusals_of_the_broker_are_errors(
    monkeypatch: pytest.MonkeyPatch, code: int, timeout_s: float
) -> None:
    with pytest.raises(KafkaException):
        of(code, 1, monkeypatch, timeout_s)
