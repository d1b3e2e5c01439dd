"""The roll-out: which views a worker folds, when a service goes over to new views, and when old views go.

Any number of workers do the same at once: every decision follows from two logs and the cursors.
docs/adr/0011-definitions-are-deployed.md says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from headrace.bus.control_topics import ControlTopics
from headrace.bus.unreadable_records import readable
from headrace.features.definitions.spec import read_spec, to_document
from headrace.features.definitions.store_documents import deployment_number, name_the_same, view_names
from headrace.features.online.cursor import is_live
from headrace.models.model_events import decode_message
from headrace.models.model_state import ModelState
from headrace.models.model_state import advance as advance_model
from headrace.streams.deployments.deployment import (
    Deployed,
    Deployment,
    DeploymentChange,
    ViewsRetired,
    advance,
    decode,
    named_by_models,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from confluent_kafka import Message

    from headrace.base.times import Clock
    from headrace.bus.source_partition import SourcePartition
    from headrace.bus.stream import Stream
    from headrace.bus.stream_spec import StreamSpec
    from headrace.features.definitions.service_spec import ServiceSpec
    from headrace.features.definitions.store_documents import NamingDocument
    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.features.online.cursor import Cursor
    from headrace.features.online.store import OnlineStore

_GRACE_S = 60.0
"""The seconds that a view stays after nothing needs it: an application may still look it up."""
_DROP_AFTER_S = 5.0
"""The seconds that the keys of a retired view stay: all workers have to read the retirement first."""
_SCANS = 10
"""The steps of a scan in each turn, of about a thousand keys each, while there is something to drop."""
logger = structlog.get_logger(__name__)


class TopicFollower(Protocol):
    """Follows topics, as headrace.bus.tail.TopicTail does."""

    def poll(self, timeout_s: float) -> list[Message]:
        """Return the messages that have come."""
        ...

    def drain(self) -> list[Message]:
        """Return all messages up to the present end."""
        ...


@dataclass(frozen=True)
class RolloutTimes:
    """The clocks of a roll-out, and its waits.

    A view stays for ``grace_s`` after nothing needs it any more. Its keys stay for ``drop_after_s`` after it retired.
    """

    clock: Clock
    monotonic: Callable[[], float]
    grace_s: float = _GRACE_S
    drop_after_s: float = _DROP_AFTER_S


class Rollout:
    """Follows definitions and model events for one worker. One thread may use it.

    ``tail`` follows the namespace's definitions and model events from their beginnings; ``append`` writes to the
    first of them. ``streams`` are the streams that the worker reads: it does not fold a view that needs other fields.
    """

    def __init__(
        self,
        namespace: str,
        streams: Sequence[Stream],
        store: OnlineStore,
        tail: TopicFollower,
        append: Callable[[DeploymentChange], None],
        *,
        new_id: Callable[[], str],
        times: RolloutTimes,
    ) -> None:
        self._namespace, self._store, self._tail, self._append = namespace, store, tail, append
        self._model_events = ControlTopics(namespace).models
        self._streams = {stream.topic: stream.spec for stream in streams}
        self._new_id, self._clock = new_id, times.clock
        self._unneeded = NamesPresentFor(times.monotonic, times.grace_s)
        self._undropped = NamesPresentFor(times.monotonic, times.drop_after_s)
        self._dropped: set[str] = set()
        self._dropping: frozenset[str] = frozenset()
        self._scan, self._found = 0, 0
        self._warned: set[str] = set()
        self.deployment, self._models = Deployment(), dict[str, ModelState]()

    def begin(self, views: Sequence[ViewSpec], services: Sequence[ServiceSpec]) -> None:
        """Read both logs. If nothing was ever deployed, the worker's own definitions become the first deployment.

        Raises BusUnavailableError.
        """
        self._take(self._tail.drain())
        while self.deployment.current is None:
            self._append(
                Deployed(
                    id=self._new_id(), namespace=self._namespace, expects=None, views=list(views),
                    services=list(services), at_us=self._clock(),
                )
            )  # fmt: skip
            self._take(self._tail.drain())
        if not self.deployment.deploys(views, services):
            logger.warning(
                "the project's definitions differ from the deployed ones, which hold",
                do="see `headrace plan`, then `headrace apply`",
            )

    def specs(self) -> list[ViewSpec]:
        """Return the views to fold: the wanted ones, and earlier versions that are not retired."""
        folded = self.deployment.folded(named_by_models(self._models))
        return [spec for name, spec in folded.items() if self._can_fold(name, spec)]

    def _can_fold(self, name: str, spec: ViewSpec) -> bool:
        lacking = [topic for topic in spec.topics if not self._reads(spec.stream_of(topic))]
        if not lacking:
            return True
        if name not in self._warned:
            self._warned.add(name)
            logger.warning(
                "a deployed view needs a stream that this worker does not read, or other fields of it",
                view=name, topic=", ".join(lacking), do="start the worker again with the project's new streams",
            )  # fmt: skip
        return False

    def _reads(self, wanted: StreamSpec) -> bool:
        stream = self._streams.get(wanted.topic)
        if stream is None or stream.table != wanted.table:
            return False
        return all(field in stream.fields for field in wanted.fields)

    def publish(self) -> None:
        """Put the specs into the store. Raises OnlineStoreUnavailableError."""
        for name, spec in self.deployment.folded(named_by_models(self._models)).items():
            self._store.put_document(f"view:{name}", to_document(spec))
        self._serve()

    def step(self) -> list[ViewSpec]:
        """Read new changes, switch services, retire and drop views. Returns the views to fold from now on.

        Raises OnlineStoreUnavailableError and BusUnavailableError; it may be called again after that.
        """
        if self._take(self._tail.poll(0)):
            self.publish()
        in_force = self._serve()
        self._retire(in_force)
        self._drop()
        return self.specs()

    # -- hearing ----------------------------------------------------------------------------------------------------

    def _take(self, messages: Sequence[Message]) -> bool:
        """Take messages in. Returns whether one of them changed something."""
        before = self.deployment, dict(self._models)
        for message in messages:
            if message.topic() == self._model_events:
                self._take_model_events([message])
            else:
                self._take_changes([message])
        return (self.deployment, self._models) != before

    def _take_changes(self, messages: Sequence[Message]) -> None:
        """Take deployments in. If one cannot be read, the one before it stays in force."""
        for change in readable(messages, lambda message: decode(message.value())):
            if change.namespace == self._namespace:
                self.deployment = advance(self.deployment, change)

    def _take_model_events(self, messages: Sequence[Message]) -> None:
        for event in readable(messages, decode_message):
            self._models[event.model] = advance_model(self._models.get(event.model, ModelState()), event)

    # -- services ---------------------------------------------------------------------------------------------------

    def _serve(self) -> list[NamingDocument]:
        """Switch each service, and each view's name, to its new version by one write, once all its partitions are live.

        Returns the documents that are in force: of services, and of views' names. A name that the store does not know
        waits for nothing.
        """
        gone = [f"service:{name}" for name in self.deployment.gone_services]
        self._store.remove_documents(gone + [f"view:{name}" for name in self.deployment.gone_views])
        wanted = self.deployment.documents
        found = self._store.get_documents([*wanted])
        return [
            self._serve_one(name, document, there)
            for (name, document), there in zip(wanted.items(), found, strict=True)
        ]

    def _serve_one(self, name: str, wanted: NamingDocument, document: Mapping[str, Any] | None) -> NamingDocument:
        found = None if document is None else read_spec(document, type(wanted), f"the document {name!r}")
        if found is None or self._may_replace(name, found, wanted):
            self._store.put_document(name, to_document(wanted))
            return wanted
        return found

    def _may_replace(self, name: str, found: NamingDocument, wanted: NamingDocument) -> bool:
        """A worker that has not read the newest deployment yet must not go back to an older one."""
        if name_the_same(found, wanted) or deployment_number(found) >= deployment_number(wanted):
            return False
        names = view_names(wanted)
        is_ready = all(map(self._is_live, names, self._store.cursors(names)))
        if is_ready:
            logger.info("look-ups go over to new views", name=name, views=view_names(wanted))
        return is_ready

    def _is_live(self, name: str, cursors: Mapping[SourcePartition, Cursor]) -> bool:
        spec = self.deployment.specs.get(name)
        return is_live(cursors, 1 if spec is None else len(spec.topics))

    # -- retiring ---------------------------------------------------------------------------------------------------

    def _retire(self, in_force: Sequence[NamingDocument]) -> None:
        """Retire the views that nothing has needed for a while. Retiring a view twice is harmless."""
        models = named_by_models(self._models)
        needed = {*self.deployment.views, *models, *(view for service in in_force for view in view_names(service))}
        folded = self.deployment.folded(models)
        due = self._unneeded.over(folded.keys() - needed)
        if due and self.deployment.id is not None:
            logger.info("views retire", views=sorted(due))
            self._append(
                ViewsRetired(
                    namespace=self._namespace, expects=self.deployment.id, views=sorted(due), at_us=self._clock()
                )
            )

    def _drop(self) -> None:
        """Remove keys of retired views from the store, until a complete scan finds none."""
        gone = self.deployment.specs.keys() - self.deployment.folded(named_by_models(self._models)).keys()
        self._dropped &= gone
        dropping = frozenset(self._undropped.over(gone - self._dropped))
        if dropping != self._dropping:
            self._dropping, self._scan, self._found = dropping, 0, 0
        if not dropping:
            return
        self._store.remove_documents([f"view:{name}" for name in dropping])
        for _ in range(_SCANS):
            self._scan, removed = self._store.drop(dropping, self._scan)
            self._found += removed
            if self._scan == 0 and self._found == 0:
                logger.info("keys of retired views are gone", views=sorted(dropping))
                self._dropped |= dropping
                return
            if self._scan == 0:
                self._found = 0


class NamesPresentFor:
    """Tells which names have been present for ``for_s`` seconds."""

    def __init__(self, monotonic: Callable[[], float], for_s: float) -> None:
        self._monotonic, self._for_s = monotonic, for_s
        self._since: dict[str, float] = {}

    def over(self, names: set[str]) -> set[str]:
        """Return the names that every call of the last ``for_s`` seconds contained."""
        now = self._monotonic()
        self._since = {name: self._since.get(name, now) for name in names}
        return {name for name, since in self._since.items() if now - since >= self._for_s}
