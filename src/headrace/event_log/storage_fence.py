"""A probe of the storage of an event log: whether it can refuse a commit of a version that exists."""

from __future__ import annotations

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from headrace.errors import OfflineStoreUnavailableError, SettingsError


def check_fence(url: str, probe: str) -> None:
    """Raise SettingsError unless the storage of an event log at an URL refuses to create an object that exists.

    A commit of Delta is the creation of an object. Some stores that look like S3 overwrite it, and its rows are lost.
    ``probe`` is a new id: the name of the object, which is removed again. The address and the credentials of the store
    are in the environment, as Delta reads them. Raises OfflineStoreUnavailableError.
    """
    if "://" not in url or url.startswith("file:"):  # a file system can
        return
    try:
        overwrites = _overwrites(url, f"_headrace_probes/{probe}")
    except (BaseError, OSError) as error:
        message = f"the storage of the event log at {url} does not answer: {error}"
        raise OfflineStoreUnavailableError(message) from error
    if overwrites:
        message = (
            f"the storage of the event log at {url} overwrites an object that exists: it has no conditional PUT "
            "(If-None-Match). Commits of workers would be lost. Use a store that has it"
        )
        raise SettingsError(message)


def _overwrites(url: str, path: str) -> bool:
    """Create an object twice, and return whether the second time changed it."""
    store = obstore.store.from_url(url)
    obstore.put(store, path, b"", mode="create")
    try:
        obstore.put(store, path, b"", mode="create")
    except (AlreadyExistsError, PreconditionError):
        return False
    finally:
        obstore.delete(store, path)
    return True
