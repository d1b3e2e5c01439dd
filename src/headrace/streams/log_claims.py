"""The event log of a namespace: Kafka and Redis know which one it is, and a process with another one does not start.

Two workers with different logs would each have half of the events. The first worker of a namespace claims its log, as a
message on ``headrace.event-logs``. The first claim is in force until a person lets the namespace adopt another log.
Namespaces share nothing, so a log that one of them has is refused to the others. All of them share this topic, as
otherwise none could see that another one has its log.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from headrace.bus import message
from headrace.bus.control_topics import EVENT_LOGS
from headrace.bus.kafka_clients import admin
from headrace.bus.producer import EventProducer
from headrace.bus.tail import TopicTail
from headrace.bus.topics import FOR_EVER, TopicPlan, ensure_topics, existing_incarnations
from headrace.bus.unreadable_records import readable
from headrace.errors import OtherLogError
from headrace.event_log.log_identity import LogIdentity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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


def in_force(claims: Iterable[LogClaimed]) -> dict[str, LogClaimed]:
    """Return the claim of each namespace that is in force.

    It is the first one, or the last adoption, with the place of its newest claim. A log that another namespace has is
    not claimed. If it is adopted, the other one does not have it any more.
    """
    found: dict[str, LogClaimed] = {}
    for claim in claims:
        own, holder = found.get(claim.namespace), _holder(found, claim.log)
        is_free = holder in {None, claim.namespace} and (own is None or own.log == claim.log)
        if is_free or claim.adopted is not None:
            if holder is not None:
                del found[holder]
            found[claim.namespace] = claim
    return found


def _holder(found: Mapping[str, LogClaimed], log: str) -> str | None:
    return next((namespace for namespace, claim in found.items() if claim.log == log), None)


class LogClaims:
    """The claims of one namespace. Without a ``store`` only Kafka is asked.

    Every method may raise BusUnavailableError and OnlineStoreUnavailableError.
    """

    def __init__(self, bootstrap_servers: str, namespace: str, store: OnlineStore | None = None) -> None:
        self.namespace, self._servers, self._store = namespace, bootstrap_servers, store

    def check(self, own: LogIdentity) -> None:
        """Raise OtherLogError if the namespace has another log, or if another namespace has this one.

        If Kafka and Redis know none, nothing is claimed.
        """
        for who, known in self.known().items():
            if known.id != own.id:
                raise OtherLogError(_other(self.namespace, who, known, own))
        holder = self.holder(own)
        if holder is not None and holder != self.namespace:
            raise OtherLogError(_held(self.namespace, holder, own))

    def holder(self, log: LogIdentity) -> str | None:
        """Return the namespace that has this log, or None."""
        return _holder(self._in_force(), log.id)

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
        found = self._in_force().get(self.namespace)
        return None if found is None else LogIdentity(found.log, found.place)

    def _in_force(self) -> dict[str, LogClaimed]:
        if not existing_incarnations(admin(self._servers), [EVENT_LOGS]):
            return {}
        with closing(TopicTail(self._servers, [EVENT_LOGS], from_beginning=True)) as tail:
            return in_force(list(readable(tail.drain(), lambda record: decode(record.value()))))

    def _append(self, own: LogIdentity, now_us: int, adopted: str | None) -> None:
        ensure_topics(self._servers, [TopicPlan(EVENT_LOGS, 1, FOR_EVER)])
        claim = LogClaimed(namespace=self.namespace, log=own.id, place=own.place, at_us=now_us, adopted=adopted)
        producer = EventProducer(self._servers)
        producer.put(EVENT_LOGS, self.namespace.encode(), msgspec.json.encode(claim))
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


def _held(namespace: str, holder: str, own: LogIdentity) -> str:
    return (
        f"namespace {namespace!r} cannot have the event log at {own.place}: namespace {holder!r} has it, and the "
        "workers of both would write every row. Set event_log or data_dir to another place. If this namespace replaces "
        "the other one, stop the other's processes and run `headrace log adopt`"
    )
