"""A probe of the storage of an event log: whether it can refuse a commit of a version that exists."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from headrace.errors import OfflineStoreUnavailableError, SettingsError

_RACES, _RIVALS, _CONTENT = 8, 4, bytes(1 << 16)
_REFUSED = (AlreadyExistsError, PreconditionError)


def check_fence(url: str, probe: str) -> None:
    """Raise SettingsError unless the storage of an event log at an URL refuses to create an object that exists.

    A commit of Delta is the creation of an object. Some stores that look like S3 overwrite it, and its rows are lost.
    Others look whether it exists, and write it a moment later: then two workers at the same moment both create it. So
    the probe also lets several writers race, a few times. ``probe`` is a new id: the name of the objects, which are
    removed again. The address and the credentials of the store are in the environment, as Delta reads them. Raises
    OfflineStoreUnavailableError.
    """
    if "://" not in url or url.startswith("file:"):  # a file system can
        return
    try:
        wrong = _wrong(obstore.store.from_url(url), f"_headrace_probes/{probe}")
    except (BaseError, OSError) as error:
        message = f"the storage of the event log at {url} does not answer: {error}"
        raise OfflineStoreUnavailableError(message) from error
    if wrong:
        message = (
            f"the storage of the event log at {url} {wrong}. Commits of workers would be lost. Use a store whose "
            "conditional PUT (If-None-Match) is atomic"
        )
        raise SettingsError(message)


def _wrong(store: Any, path: str) -> str:
    """Return what is wrong with a store; empty if nothing was found."""
    if not _overwrites(store, path):
        several = [number for number in range(_RACES) if _winners(store, f"{path}-{number}") > 1]
        if not several:
            return ""
        return f"let several writers create one object at the same moment, in {len(several)} of {_RACES} races"
    return "overwrites an object that exists: it has no conditional PUT"


def _overwrites(store: Any, path: str) -> bool:
    """Create an object twice, and return whether the second time changed it."""
    obstore.put(store, path, b"", mode="create")
    try:
        obstore.put(store, path, b"", mode="create")
    except _REFUSED:
        return False
    finally:
        obstore.delete(store, path)
    return True


def _winners(store: Any, path: str) -> int:
    """Let several writers create an object at the same moment. Return how many were told that they did."""
    barrier = Barrier(_RIVALS)

    def create(_: int) -> bool | BaseError:
        barrier.wait()
        try:
            obstore.put(store, path, _CONTENT, mode="create")
        except _REFUSED:
            return False
        except BaseError as error:  # such as a conflict: it did not create the object
            return error
        return True

    with ThreadPoolExecutor(_RIVALS) as threads:
        found = list(threads.map(create, range(_RIVALS)))
    errors = [each for each in found if isinstance(each, BaseError)]
    if len(errors) == _RIVALS:
        raise errors[0]
    obstore.delete(store, path)
    return sum(each is True for each in found)
