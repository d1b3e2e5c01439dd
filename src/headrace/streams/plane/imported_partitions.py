"""The imports of a topic as partitions of a worker: the one that reads the topic's partition 0 folds them.

Nothing comes to an import after its commit. So it is a partition whose views catch up to its end and stay there; the
heartbeat shows a store that has lost it, and it is folded again. docs/reference/event-log.md says what an import is.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import structlog

from headrace.errors import TransientError
from headrace.event_log.imports import Imports
from headrace.streams.plane.partition import OwnedPartition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from headrace.event_log.event_log import EventLog
    from headrace.event_log.imports import ImportRecord
    from headrace.features.online.store import OnlineStore
    from headrace.streams.plane.acquisition import Acquisition
    from headrace.streams.plane.log_flushes import LogFlushes
    from headrace.streams.plane.partition import StoppedPartition
    from headrace.streams.plane.partition_opener import PartitionOpener
    from headrace.streams.plane.partitions import Partitions

LOOK_S = 5.0
"""The pause between two looks for imports that are new or undone."""
_SCANS = 10
"""The steps of a removal in one turn: about 10,000 keys."""
logger = structlog.get_logger(__name__)


class ImportedPartitions:
    """Opens partitions, with a topic's partition 0 also its imports, and removes what is left of undone ones."""

    def __init__(
        self,
        partitions: Partitions,
        log: EventLog,
        store: OnlineStore,
        *,
        opener: PartitionOpener,
        acquisition: Acquisition,
        flushes: LogFlushes,
        monotonic: Callable[[], float],
    ) -> None:
        self._partitions, self._store = partitions, store
        self._imports, self._looked = Imports(log), Imports(log)  # one for each thread
        self._opener, self._acquisition, self._flushes = opener, acquisition, flushes
        self._monotonic = monotonic
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="imports")
        self._look: Future[list[ImportRecord]] | None = None
        self._next_look = 0.0
        self._removing: dict[str, tuple[ImportRecord, int]] = {}
        self._gone: set[str] = set()

    def open(self, topic: str, partition: int) -> OwnedPartition | StoppedPartition:
        """Open a partition of a topic, as PartitionOpener does.

        The imports of the topic are opened with its partition 0, and their cursors are acquired: so no view is live
        before its history is counted. Raises TransientError.
        """
        opened = self._opener.open(topic, partition)
        if partition == 0 and isinstance(opened, OwnedPartition):
            self._open([each for each in self._imports.all() if each.topic == topic])
        return opened

    def give_up(self, topics: Iterable[str]) -> None:
        """Give up the imports of topics whose partition 0 has gone to another worker."""
        left = set(topics)
        for owned in self._owned():
            if owned.topic in left:
                self._release(owned)
        self._removing = {source: each for source, each in self._removing.items() if each[0].topic not in left}

    def acquire_again(self, topic: str) -> None:
        """Acquire the imports of a topic again after a write was refused. Raises OnlineStoreUnavailableError."""
        for owned in self._owned():
            if owned.topic == topic and not owned.is_written:
                self._acquisition.acquire(owned)

    def step(self) -> None:
        """Look for new and undone imports every few seconds, and go on with removals. An error is tried again."""
        try:
            self._take_in()
            self._remove()
        except TransientError as error:
            logger.warning("imports have to wait", error=str(error))

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)

    # -- opening ----------------------------------------------------------------------------------------------------

    def _owned(self) -> list[OwnedPartition]:
        return [owned for owned in self._partitions.all_owned() if owned.source.is_import]

    def _take_in(self) -> None:
        """Read the list of imports on a thread, since its storage may be far away, and take it in when it is there."""
        if self._look is None and self._monotonic() >= self._next_look:
            self._next_look = self._monotonic() + LOOK_S
            self._look = self._thread.submit(self._looked.all)
        if self._look is None or not self._look.done():
            return
        found, self._look = self._look.result(), None
        self._open([each for each in found if self._partitions.is_read((each.topic, 0))])

    def _open(self, records: Sequence[ImportRecord]) -> None:
        known: Mapping[str, OwnedPartition] = {owned.source.text: owned for owned in self._owned()}
        for each in records:
            owned = known.get(each.source)
            if each.state == "complete" and owned is None:
                self._open_one(each)
            if each.state == "undone" and each.source not in self._gone and each.source not in self._removing:
                if owned is not None:
                    self._release(owned)
                self._removing[each.source] = each, -1

    def _open_one(self, record: ImportRecord) -> None:
        owned = self._opener.open_import(record.topic, record.partition)
        self._flushes.collect()  # to open a log ends its commit under way
        self._acquisition.acquire(owned)
        self._partitions.add(owned)
        logger.info("import opened", topic=record.topic, id=record.id, rows=owned.next_offset)

    def _release(self, owned: OwnedPartition) -> None:
        self._partitions.release(owned.place)
        for view in owned.views:
            view.memory.drop(view.source)
        self._flushes.close(owned)

    # -- removing ---------------------------------------------------------------------------------------------------

    def _remove(self) -> None:
        """Remove the fields and the cursors of imports that were undone, a few thousand keys at a time.

        The cursors go last, and say *rebuilding* until then. So whoever finds a cursor knows that there may be fields.
        """
        for record, position in list(self._removing.values()):
            if position < 0 and not self._fenced(record):
                self._end(record)
            else:
                self._forget(record, max(position, 0))

    def _fenced(self, record: ImportRecord) -> bool:
        """Fence the owner of an import. Return False if it has no cursors: then nothing of it is in the store."""
        found = self._store.cursors(self._opener.view_names(record.topic))
        if not any(record.partition in of_view for of_view in found):
            return False
        owned = self._opener.open_import(record.topic, record.partition)
        self._flushes.close(owned)
        self._acquisition.acquire_suspended(owned)
        return True

    def _forget(self, record: ImportRecord, position: int) -> None:
        views = self._opener.view_names(record.topic)
        for _ in range(_SCANS):
            position, _ = self._store.forget(views, record.partition, position)
            if position == 0:
                logger.info("an undone import is gone from the online store", topic=record.topic, id=record.id)
                self._end(record)
                return
        self._removing[record.source] = record, position

    def _end(self, record: ImportRecord) -> None:
        self._removing.pop(record.source, None)
        self._gone.add(record.source)
