"""The event log of a namespace: Kafka and Redis know which one it is, and a process with another one does not start.

Two workers with different logs would each have half of the events. The first worker of a namespace claims its log, as a
message on ``headrace.event-logs``. The first claim is in force until a person lets the namespace adopt another log.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from headrace.bus import message
from headrace.bus.producer import EventProducer
from headrace.bus.tail import TopicTail
from headrace.bus.topics import EVENT_LOGS, FOR_EVER, TopicPlan, admin, ensure_topics, existing_incarnations
from headrace.bus.unreadable_records import readable
from headrace.errors import OtherLogError
from headrace.event_log.log_identity import LogIdentity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.features.online.store import OnlineStore

FORMAT = 1
_DOCUMENT = "event-log"


class LogClaimed(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace has this event log, at this place. ``adopted`` is a person's reason to replace an earlier log."""

    namespace: str
    log: str
    place: str
    at_us: int
    adopted: str | None = None
    format: int = FORMAT


def decode(data: bytes | None) -> LogClaimed:
    """Return the claim in these bytes. Raises CodecError, and NewerFormatError for one of a later release."""
    return message.decode(data, LogClaimed, FORMAT, "a claim of an event log")


def in_force(claims: Iterable[LogClaimed], namespace: str) -> LogClaimed | None:
    """Return the claim that is in force: the first one, or the last adoption, with the place of its newest claim."""
    found: LogClaimed | None = None
    for claim in claims:
        if claim.namespace == namespace and (found is None or claim.adopted is not None or claim.log == found.log):
            found = claim
    return found


class LogClaims:
    """The claims of one namespace. Without a ``store`` only Kafka is asked.

    Every method may raise BusUnavailableError and OnlineStoreUnavailableError.
    """

    def __init__(self, bootstrap_servers: str, namespace: str, store: OnlineStore | None = None) -> None:
        self._servers, self._namespace, self._store = bootstrap_servers, namespace, store

    def check(self, own: LogIdentity) -> None:
        """Raise OtherLogError if Kafka or Redis knows another log. If they know none, nothing is claimed."""
        for who, known in self.known().items():
            if known.id != own.id:
                raise OtherLogError(_other(self._namespace, who, known, own))

    def claim(self, own: LogIdentity, now_us: int) -> None:
        """Claim the log for the namespace, or raise OtherLogError if it has another one."""
        self.check(own)
        if self._on_kafka() != own:  # there is none, or the log was moved
            self._append(own, now_us, None)
            self.check(own)  # another worker may have been first
        self._keep(own)

    def adopt(self, own: LogIdentity, now_us: int, reason: str) -> None:
        """Let the namespace have this log from now on, whatever it had before."""
        self._append(own, now_us, reason)
        self._keep(own)

    def known(self) -> dict[str, LogIdentity]:
        """Return the log that Kafka knows and the one that Redis knows, each if there is one."""
        document = self._store.get_document(_DOCUMENT) if self._store else None
        in_redis = None if document is None else msgspec.convert(document, LogIdentity)
        both = {"Kafka": self._on_kafka(), "Redis": in_redis}
        return {who: found for who, found in both.items() if found is not None}

    def _on_kafka(self) -> LogIdentity | None:
        if not existing_incarnations(admin(self._servers), [EVENT_LOGS]):
            return None
        with closing(TopicTail(self._servers, [EVENT_LOGS], from_beginning=True)) as tail:
            claims = list(readable(tail.drain(), lambda record: decode(record.value())))
        found = in_force(claims, self._namespace)
        return None if found is None else LogIdentity(found.log, found.place)

    def _append(self, own: LogIdentity, now_us: int, adopted: str | None) -> None:
        ensure_topics(self._servers, [TopicPlan(EVENT_LOGS, 1, FOR_EVER)])
        claim = LogClaimed(namespace=self._namespace, log=own.id, place=own.place, at_us=now_us, adopted=adopted)
        producer = EventProducer(self._servers)
        producer.put(EVENT_LOGS, self._namespace.encode(), msgspec.json.encode(claim))
        producer.flush()

    def _keep(self, own: LogIdentity) -> None:
        if self._store:
            self._store.put_document(_DOCUMENT, msgspec.to_builtins(own))


def _other(namespace: str, who: str, known: LogIdentity, own: LogIdentity) -> str:
    return (
        f"namespace {namespace!r} has its event log at {known.place}, as {who} knows, but this process has another one "
        f"at {own.place}: each would have only a part of the events. Set event_log or data_dir to the first place, or "
        "choose another namespace. If the log was replaced on purpose, run `headrace log adopt` with the new one"
    )
