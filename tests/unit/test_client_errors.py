"""While Kafka is away, a client writes few lines, and one when Kafka answers again."""

from __future__ import annotations

from typing import Any

from structlog.testing import capture_logs

from headrace.bus.client_errors import ClientErrors


class Refused:
    """An error of Kafka's client: its text says how long a connection has failed."""

    def __init__(self, milliseconds: int, host: str = "b:9092") -> None:
        self._text = f"{host}/1: Connect failed: Connection refused (after {milliseconds}ms in state CONNECT)"

    def str(self) -> str:
        return self._text


def lines(events: list[tuple[float, Any]]) -> list[tuple[str, Any]]:
    """Return what is logged. An event is a time with an error, or with whether a poll returned records."""
    clock = [0.0]
    errors = ClientErrors(lambda: clock[0])
    with capture_logs() as logged:
        for at, event in events:
            clock[0] = at
            if isinstance(event, bool):
                errors.polled(has_records=event)
            else:
                errors(event)
    return [(line["event"], line.get("error", line.get("failed_for_s"))) for line in logged]


def test_the_same_error_is_logged_once_a_minute_and_another_one_at_once() -> None:
    often = [(second / 10, Refused(second)) for second in range(1_300)]
    said = "b:9092/1: Connect failed: Connection refused"
    assert lines(often) == [("kafka client", said)] * 3
    both = [*often[:10], (1.0, Refused(1, "c:9092")), *often[10:20]]
    assert lines(both) == [("kafka client", said), ("kafka client", said.replace("b:", "c:"))]


def test_kafka_that_answers_again_is_logged_once() -> None:
    away = [(0.0, Refused(1)), (1.0, True), (5.0, Refused(2)), (30.0, Refused(3))]
    back = [(35.0, True), (41.0, False), (42.0, True), (43.0, True), (500.0, False)]
    assert lines([(0.0, True), *away, *back])[1:] == [("kafka answers again", 30)]
    assert lines([*away, (89.0, False), (90.0, False), (200.0, False)])[1:] == [("kafka answers again", 30)]
    assert lines([*away, *back, (600.0, Refused(1))])[-1][0] == "kafka client"
