"""Writes records together with the offsets of the records that they were made from, in one transaction of Kafka."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from headrace.base.failpoints import failpoint
from headrace.base.stopping import stop_signals
from headrace.bus import kafka_clients
from headrace.bus.missing_rights import missing_right
from headrace.bus.producer import refused_codes
from headrace.errors import BusUnavailableError, FencedError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka import KafkaError, Message, Producer

    from headrace.bus.consumer import BatchConsumer
    from headrace.bus.producer import ProducerRecord

LONGEST_MS = 15_000
"""A transaction that is open for longer is ended by Kafka. It holds up readers after its process was killed."""
_TIMEOUT_S, _WHILE_STOPPING_S, _FULL_S, _POLL_S = 10.0, 2.0, 10.0, 0.1


class OutputTransactions:
    """The transactions of one process, by its ``transactional_id``. A later process with this id ends its transactions.

    Raises BusUnavailableError, and FencedError. After an error, ``is_open`` says whether a transaction may be open:
    then make it anew, which ends the transaction, and read the committed offsets again. For one thread at a time.
    """

    def __init__(self, servers: str, transactional_id: str) -> None:
        self._servers, self._id = servers, transactional_id
        self.is_open = True
        self._failed: list[tuple[ProducerRecord, KafkaError]] = []
        options = {"transactional.id": transactional_id, "transaction.timeout.ms": LONGEST_MS, "linger.ms": 5}
        self._producer: Producer = kafka_clients.producer(servers, options)
        self._begin()

    def _begin(self) -> None:
        try:
            self._do(lambda: self._producer.init_transactions(_timeout_s()))
        except _AbortableError as error:
            raise BusUnavailableError(f"Kafka does not let {self._id!r} begin transactions: {error}") from error
        self.is_open = False

    def write(
        self, records: Sequence[ProducerRecord], consumer: BatchConsumer, ends: Mapping[tuple[str, int], int]
    ) -> None:
        """Write records, and commit the offsets ``ends`` for the consumer's group: both or neither.

        Raises RefusedError if the broker refuses a record, BusUnavailableError, and FencedError.
        """
        self._failed, self.is_open = [], True
        failpoint("before-process-write")
        try:
            self._do(self._producer.begin_transaction)
            self._do(lambda: self._produce(records))
            failpoint("before-process-offsets")
            positions = [(*place, offset) for place, offset in ends.items()]
            self._do(lambda: consumer.send_offsets(self._producer, positions, _timeout_s()))
            failpoint("before-process-commit")
            self._do(lambda: self._producer.commit_transaction(_timeout_s()))
        except _AbortableError as error:
            self._abort(error)
            self._raise_refused()
            raise BusUnavailableError(f"the transaction {self._id!r} was given up: {error}") from error
        failpoint("after-process-commit")
        self.is_open = False

    def _abort(self, because: Exception) -> None:
        try:
            self._do(lambda: self._producer.abort_transaction(_timeout_s()))
        except _AbortableError as error:
            raise BusUnavailableError(f"the transaction {self._id!r} cannot be given up: {error}") from because
        self.is_open = False

    def _produce(self, records: Sequence[ProducerRecord]) -> None:
        from confluent_kafka import KafkaException  # noqa: PLC0415

        for record in records:
            try:
                self._hand_over(record)
            except KafkaException as error:  # it is too large for the client
                self._failed.append((record, error.args[0]))
                raise
        self._producer.poll(0)

    def _hand_over(self, record: ProducerRecord) -> None:
        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                self._failed.append((record, error))

        more: dict[str, Any] = {"on_delivery": delivered, **record.more}
        until_s = time.monotonic() + _FULL_S
        while True:
            try:
                self._producer.produce(record.topic, record.value, record.key, **more)
            except BufferError as error:
                if time.monotonic() > until_s:
                    raise _AbortableError("the queue of the producer is full: the broker takes nothing") from error
                self._producer.poll(_POLL_S)
            else:
                return

    def _raise_refused(self) -> None:
        codes = refused_codes()
        refused = [(record, error) for record, error in self._failed if error.code() in codes]
        if refused:
            record, error = refused[0]
            said = error.str() + missing_right(error, "Write", record.topic)
            lacks_right = error.name() == "TOPIC_AUTHORIZATION_FAILED"
            message = f"{self._servers} refuses a message to {record.topic!r}: {said}"
            raise RefusedError(message, [each for each, _ in refused], lacks_right=lacks_right)

    def _do(self, action: Any) -> None:
        """Do it. Raises _AbortableError if the transaction has to be aborted and can be, and headrace's errors."""
        from confluent_kafka import KafkaException  # noqa: PLC0415

        try:
            action()
        except KafkaException as error:
            why: KafkaError = error.args[0]
            said = f"{why.str()}{missing_right(why, 'Write', self._id)}"
            if why.fatal():
                message = (
                    f"the transactions of {self._id!r} were ended by another process of this id, or this one stood "
                    f"still for longer than {LONGEST_MS // 1_000} s ({said}): what was read is read again; if another "
                    "process runs, give this one another --instance"
                )
                raise FencedError(message) from error
            if why.txn_requires_abort() or not why.retriable():
                raise _AbortableError(said) from error
            raise BusUnavailableError(f"the transaction {self._id!r} has to wait for Kafka: {said}") from error


class _AbortableError(Exception):
    """The transaction has to be aborted. Its client goes on."""


def _timeout_s() -> float:
    return _WHILE_STOPPING_S if stop_signals.asked.is_set() else _TIMEOUT_S
