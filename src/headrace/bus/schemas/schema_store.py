"""The schemas of records by their ids: in memory, in a folder, and in the schema registry.

The registry is asked on a thread of its own, so that a registry that does not answer holds up only those who need it.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import msgspec
import structlog

from headrace.bus.schemas.schema_registry import RegisteredSchema
from headrace.errors import CodecError, SchemaRegistryUnavailableError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from headrace.bus.schemas.schema_registry import SchemaKind, SchemaRegistry

WAIT_S = 0.5
"""A caller waits so long for an answer of the registry, before it is told that the schema is not there yet."""
_UNKNOWN_FOR_S, _MOST_UNKNOWN = 60.0, 100_000
"""That there is no schema is remembered so long, for so many ids: more than the records of a batch can name."""
LARGEST_ID = 2**31 - 1
"""Registries give ids of 31 bits. Some say nothing of a larger one but that the address is wrong."""
_FOREVER = msgspec.json.Decoder(RegisteredSchema)
T = TypeVar("T")
logger = structlog.get_logger(__name__)


class SchemaStore:
    """Finds schemas by their ids. Safe from any thread.

    A schema that was found once is kept for ever, in memory and in ``folder``: an id never changes its meaning. That
    there is no schema with an id is remembered for a minute.
    """

    def __init__(
        self, registry: SchemaRegistry, folder: Path | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.registry, self._monotonic = registry, monotonic
        place = hashlib.sha256(registry.url.encode()).hexdigest()[:16]
        self._folder = None if folder is None else folder / place
        self._known: dict[int, RegisteredSchema] = {}
        self._unknown: dict[int, float] = {}
        self._failed: dict[int, str] = {}
        self._asked: dict[int, threading.Event] = {}
        self._ids: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self._wanted: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def schema(self, schema_id: int, wait_s: float = WAIT_S, *, last_word: bool = False) -> RegisteredSchema:
        """Return the schema with this id.

        Raises CodecError if the registry says that there is none, and SchemaRegistryUnavailableError if it has not
        answered after ``wait_s`` seconds. It is then asked again by the next call. With ``last_word``, a registry that
        does not answer says again that there is none, if that is the last thing that it has said.
        """
        if schema_id > LARGEST_ID:
            raise CodecError(f"There is no schema with the id {schema_id}: the largest id is {LARGEST_ID}")
        if schema_id in self._known:
            return self._known[schema_id]
        if self._monotonic() >= self._unknown.get(schema_id, 0.0):
            self._ask(schema_id).wait(wait_s)
        if schema_id in self._known:
            return self._known[schema_id]
        unknown_until = self._unknown.get(schema_id)
        if unknown_until is not None and (last_word or self._monotonic() < unknown_until):
            raise CodecError(f"The schema registry {self.registry.url} has no schema with the id {schema_id}")
        why = self._failed.get(schema_id, "it has not answered yet")
        raise SchemaRegistryUnavailableError(
            f"waiting for the schema with the id {schema_id} of the schema registry {self.registry.url}: {why}"
        )

    def id_of(self, subject: str, kind: SchemaKind, text: str) -> int:
        """Return the id of a schema, registered in a subject if need be. Raises what the registry raises."""
        key = subject, text
        if key not in self._ids:
            self._ids[key] = self.registry.id_of(subject, kind, text)
        return self._ids[key]

    def close(self) -> None:
        """Close the connections of the registry."""
        self.registry.close()

    # -- asking the registry ------------------------------------------------------------------------------------------

    def _ask(self, schema_id: int) -> threading.Event:
        """Let the thread ask for a schema, unless it does already. Return what is set after the answer."""
        with self._lock:
            kept = self._from_folder(schema_id)
            if kept is not None:
                self._known[schema_id] = kept
                done = threading.Event()
                done.set()
                return done
            if schema_id not in self._asked:
                self._asked[schema_id] = threading.Event()
                self._wanted.put(schema_id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._answer, name="schemas", daemon=True)
                self._thread.start()
            return self._asked[schema_id]

    def _answer(self) -> None:
        while True:
            schema_id = self._wanted.get()
            try:
                self._take(schema_id, self.registry.schema(schema_id))
            except TransientError as error:
                _remember(self._failed, schema_id, str(error))
            except Exception as error:
                logger.exception("a schema cannot be had", schema_id=schema_id)
                _remember(self._failed, schema_id, f"{type(error).__name__}: {error}")
            with self._lock:
                self._asked.pop(schema_id).set()

    def _take(self, schema_id: int, found: RegisteredSchema | None) -> None:
        self._failed.pop(schema_id, None)
        if found is None:
            _remember(self._unknown, schema_id, self._monotonic() + _UNKNOWN_FOR_S)
            return
        self._unknown.pop(schema_id, None)
        self._known[schema_id] = found
        self._keep(found)

    # -- the folder ---------------------------------------------------------------------------------------------------

    def _from_folder(self, schema_id: int) -> RegisteredSchema | None:
        if self._folder is None:
            return None
        with suppress(OSError, msgspec.MsgspecError, ValueError, RecursionError):
            found = _FOREVER.decode((self._folder / f"{schema_id}.json").read_bytes())
            return found if found.id == schema_id else None
        return None

    def _keep(self, found: RegisteredSchema) -> None:
        """Write a schema into the folder, whole or not at all. Without it the registry is asked after a restart."""
        if self._folder is None:
            return
        file = self._folder / f"{found.id}.json"
        own = file.with_suffix(f".{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            own.write_bytes(msgspec.json.encode(found))
            own.replace(file)
        except OSError as error:
            logger.warning("a schema cannot be kept", file=str(file), error=str(error))


def _remember(of: dict[int, T], schema_id: int, what: T) -> None:
    """Keep something of an id, and forget the oldest of too many: anybody may write records with any ids."""
    of.pop(schema_id, None)
    of[schema_id] = what
    if len(of) > _MOST_UNKNOWN:
        del of[next(iter(of))]
