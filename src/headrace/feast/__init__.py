"""Feast as the catalogue and the common language: plug-ins that serve tiled views next to ordinary Feast views.

In ``feature_store.yaml``::

    online_store:  {type: headrace.feast.HeadraceOnlineStore, connection_string: "localhost:6379"}
    offline_store: {type: headrace.feast.HeadraceOfflineStore, event_log: .headrace/events}

It needs the extra ``feast``. Importing Feast takes seconds, so neither a worker nor a look-up of an application imports
it. The names here are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from headrace.errors import MissingExtraError, missing_extra

if TYPE_CHECKING:
    from headrace.feast.catalogue import Catalogue
    from headrace.feast.offline import HeadraceOfflineStore, HeadraceOfflineStoreConfig
    from headrace.feast.online import HeadraceOnlineStore, HeadraceOnlineStoreConfig
    from headrace.feast.source import HeadraceSource
    from headrace.feast.translation import objects

_HOME = {
    "Catalogue": "catalogue",
    "HeadraceOfflineStore": "offline",
    "HeadraceOfflineStoreConfig": "offline",
    "HeadraceOnlineStore": "online",
    "HeadraceOnlineStoreConfig": "online",
    "HeadraceSource": "source",
    "objects": "translation",
}

__all__ = [
    "Catalogue",
    "HeadraceOfflineStore",
    "HeadraceOfflineStoreConfig",
    "HeadraceOnlineStore",
    "HeadraceOnlineStoreConfig",
    "HeadraceSource",
    "objects",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name from its home on first use (PEP 562)."""
        if name not in _HOME:
            raise AttributeError(f"module 'headrace.feast' has no attribute {name!r}; it has {', '.join(__all__)}")
        try:
            value: object = getattr(import_module(f"headrace.feast.{_HOME[name]}"), name)
        except ModuleNotFoundError as error:
            if isinstance(error, MissingExtraError) or (error.name or "").startswith("headrace."):
                raise
            raise missing_extra(str(error.name), "feast") from error
        globals()[name] = value
        return value
