"""Sends dead letters again after a fix: each exactly once, even if the command is killed.

One Kafka transaction carries records to their stream's topic and the ids of their letters to ``headrace.replays``, so
either both are written or neither is. All replays share one transactional id. So a new replay ends every earlier one,
even one that only sleeps, before it reads which letters were replayed.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from headrace.base.times import Clock, Instant, wall_clock
from headrace.bus import kafka_clients, message
from headrace.bus.control_topics import REPLAYS
from headrace.bus.kafka_clients import admin
from headrace.bus.missing_rights import missing_right
from headrace.bus.source_partition import NO_CLOCK
from headrace.bus.tail import TopicTail
from headrace.bus.topics import FOR_EVER, TopicPlan, ensure_topics, incarnations, stamped_by_producers
from headrace.bus.unreadable_records import readable
from headrace.errors import BusUnavailableError, FencedError, TerminalError
from headrace.streams.dead_letters.dead_letter import read_contents, read_headers
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.plane.table_judge import judge_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headrace.bus.formats.record_format import Headers
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog
    from headrace.streams.dead_letters.dead_letter import DeadLetter, RecordContent

REPLAY_OF = "headrace_replay_of"
"""The header of a record that repeats a dead letter: the letter's id."""
FORMAT = 1
_PIECE = 200
_TIMEOUT_S = 30.0
_TRANSACTIONAL_ID = "headrace-replay"


class DeadLettersReplayed(msgspec.Struct, frozen=True, kw_only=True):
    """The dead letters of a topic that were sent again at ``at_us``, in the transaction of this message."""

    topic: str
    letters: list[str]
    at_us: Instant
    format: int = FORMAT


def decode(data: bytes | None) -> DeadLettersReplayed:
    """Decode a message of ``headrace.replays``. Raises NewerFormatError and CodecError."""
    return message.decode(data, DeadLettersReplayed, FORMAT, "a record of a replay")


def replay_times(bootstrap_servers: str) -> dict[str, int]:
    """Return when each letter was replayed (us), by id. Makes the topic if needed. Raises BusUnavailableError."""
    ensure_topics(bootstrap_servers, [TopicPlan(REPLAYS, 1, FOR_EVER)])
    with closing(TopicTail(bootstrap_servers, [REPLAYS], from_beginning=True)) as tail:
        messages = list(readable(tail.drain(), lambda record: decode(record.value())))
    return {letter: each.at_us for each in messages for letter in each.letters}


@dataclass(frozen=True)
class ReplayedPiece:
    """Letters of one transaction: sent now, sent earlier, or still rejected, with the reason."""

    sent: Sequence[DeadLetter]
    earlier: Sequence[DeadLetter]
    rejected: Sequence[tuple[DeadLetter, str]]

    def __len__(self) -> int:
        return len(self.sent) + len(self.earlier) + len(self.rejected)


class DeadLetterReplayer:
    """Replays dead letters of some streams. Its construction ends any other replay on the same Kafka.

    Raises BusUnavailableError.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        log: EventLog,
        streams: Mapping[str, Stream],
        *,
        clock: Clock = wall_clock,
        schemas: SchemaStore | None = None,
    ) -> None:
        self._schemas = schemas
        self._servers, self._log, self._streams, self._clock = bootstrap_servers, log, streams, clock
        self._client = admin(bootstrap_servers)
        self._producer = kafka_clients.producer(
            bootstrap_servers,
            {
                "transactional.id": _TRANSACTIONAL_ID,
                "message.max.bytes": 1_000_000_000,  # the topic decides what is too large: it had the record
            },
        )
        with _answering():
            self._producer.init_transactions(_TIMEOUT_S)
        self._known = replay_times(bootstrap_servers)  # only now: no earlier replay can add to it any more

    def replay(self, letters: Sequence[DeadLetter]) -> Iterator[ReplayedPiece]:
        """Send letters again, in the order of their offsets. Each piece is durable when it is yielded.

        A letter that the streams' present definitions would reject again is not sent. Raises FencedError if
        another replay began, TerminalError if the broker refuses a record, and TransientError. The pieces that were
        yielded before an error stay sent.
        """
        ordered = sorted(letters, key=lambda letter: (letter.topic, letter.source, letter.offset))
        for (topic, _), own in groupby(ordered, key=lambda letter: (letter.topic, letter.source)):
            target = self._target(topic)
            rest = list(own)
            while rest:
                piece, rest = rest[:_PIECE], rest[_PIECE:]
                yield self._replay(target, piece)

    def _target(self, topic: str) -> _ReplayTarget:
        partitions = incarnations(self._client, [topic])[topic].partitions
        stream = self._streams[topic]
        keeps_time = bool(stamped_by_producers(self._client, [topic]))
        return _ReplayTarget(stream, judge_of(stream, self._schemas), partitions, keeps_time)

    def _replay(self, target: _ReplayTarget, letters: Sequence[DeadLetter]) -> ReplayedPiece:
        fresh = [letter for letter in letters if letter.id not in self._known]
        earlier = [letter for letter in letters if letter.id in self._known]
        bytes_of = dict(zip(fresh, self._contents(target, fresh), strict=True)) if fresh else {}
        errors = target.errors(bytes_of, self._clock())
        good = {letter: content for letter, content in bytes_of.items() if letter not in errors}
        if good:
            self._send(target, good)
        return ReplayedPiece(list(good), earlier, list(errors.items()))

    def _contents(self, target: _ReplayTarget, letters: Sequence[DeadLetter]) -> list[RecordContent]:
        """Return what to send. A format that reads headers needs those of the record, which only its topic has."""
        found = read_contents(self._log, letters)
        if not target.stream.format.reads_headers:
            return found
        headers = [read_headers(self._servers, letter) for letter in letters]
        return [replace(content, headers=own) for content, own in zip(found, headers, strict=True)]

    def _send(self, target: _ReplayTarget, good: Mapping[DeadLetter, RecordContent]) -> None:
        done = DeadLettersReplayed(
            topic=target.stream.topic, letters=[letter.id for letter in good], at_us=self._clock()
        )
        with self._transaction():
            for letter, content in good.items():
                self._producer.produce(
                    letter.topic, content.value, content.key,
                    headers=[*_without_replay(content.headers), (REPLAY_OF, letter.id.encode())],
                    **target.place(letter),
                )  # fmt: skip
            self._producer.produce(REPLAYS, msgspec.json.encode(done))
        self._known |= dict.fromkeys(done.letters, done.at_us)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        from confluent_kafka import KafkaException  # noqa: PLC0415

        with _answering():
            self._producer.begin_transaction()
            try:
                yield
                self._producer.commit_transaction(_TIMEOUT_S)
            except KafkaException as error:
                if not error.args[0].fatal():
                    self._producer.abort_transaction(_TIMEOUT_S)
                raise


@dataclass(frozen=True)
class _ReplayTarget:
    """The topic to which a letter goes back. ``keeps_time``: its timestamps are the producers', not the broker's."""

    stream: Stream
    judge: RecordJudge
    partitions: int
    keeps_time: bool

    def errors(self, found: Mapping[DeadLetter, RecordContent], now_us: int) -> dict[DeadLetter, str]:
        """Return the error of each letter that would be rejected again."""
        if not found:
            return {}
        letters, source = list(found), next(iter(found)).source
        records = PartitionRecords(
            np.array([letter.offset for letter in letters], np.int64),
            np.array([letter.at_us if self.keeps_time else now_us for letter in letters], np.int64),
            [content.key for content in found.values()],
            [content.value for content in found.values()],
            [content.headers for content in found.values()] if self.stream.format.reads_headers else (),
        )
        rows = self.judge.rows(source.topic_id, source.partition, records, NO_CLOCK)
        return {
            letter: error
            for letter, error in zip(letters, rows.get_column("__error").to_list(), strict=True)
            if error is not None
        }

    def place(self, letter: DeadLetter) -> dict[str, Any]:
        """Return the record's old partition, unless a new topic does not have it, and its timestamp.

        If timestamps are the producers', the record keeps its own: a later one would move its partition's clock.
        """
        place: dict[str, Any] = {"timestamp": letter.at_us // 1_000} if self.keeps_time else {}
        return place | ({"partition": letter.source.partition} if letter.source.partition < self.partitions else {})


def _without_replay(headers: Headers) -> list[tuple[str, bytes | None]]:
    return [(name, content) for name, content in headers or () if name != REPLAY_OF]


@contextmanager
def _answering() -> Iterator[None]:
    """Raise headrace's error for an error that Kafka's client raises inside."""
    from confluent_kafka import KafkaException  # noqa: PLC0415

    try:
        yield
    except KafkaException as error:
        why = error.args[0]
        if missing := missing_right(why, "Write", _TRANSACTIONAL_ID):
            raise TerminalError(f"Kafka refuses the replay: {why.str()}{missing}") from error
        if why.fatal():
            raise FencedError(f"this replay was ended by another one that began later ({why.str()}): run it again; "
                              "what was sent is known and not sent twice") from error  # fmt: skip
        if why.retriable():
            raise BusUnavailableError(f"the replay has to wait for Kafka: {why.str()}; run it again") from error
        raise TerminalError(f"Kafka refuses the replay: {why.str()}; nothing of this piece was sent") from error
