"""The places from which a deployment loads artifacts and manifests. A message on the bus cannot name any other file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from headrace.base.redaction import shortened
from headrace.errors import ArtifactError
from headrace.models import artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.models.model_events import ArtifactRef

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_SHOWN = 200


@dataclass(frozen=True)
class ArtifactPlaces:
    """Folders and URLs below which artifacts may lie. Without places nothing is loaded.

    ``fetch`` returns the bytes at a URI, and raises TransientError if trying again may help. The default reads regular
    files and ``s3://``, ``gs://`` and ``abfs://`` URLs, with a bound on their bytes and on the time. A function of your
    own needs bounds of its own.

    >>> places = ArtifactPlaces(["/srv/models", "s3://bucket/models"])
    >>> places.declared("s3://bucket/models/delay/3/model.skops")
    's3://bucket/models/delay/3/model.skops'
    >>> places.declared("file:///srv/models/../../etc/passwd")
    Traceback (most recent call last):
    headrace.errors.ArtifactError: 'file:///srv/models/../../etc/passwd' is in none of the places from which this ...
    """

    places: Sequence[str | Path] = ()
    fetch: Callable[[str], bytes] = artifact.fetch

    def read(self, uri: str) -> bytes:
        """Return the bytes at a URI that a message names.

        Raises ArtifactError if it is in none of the places, is no regular file or is too large, and TransientError if
        it cannot be read now. Nothing outside of the places is touched.
        """
        return self.fetch(self.declared(uri))

    def load(self, published: ArtifactRef, trusted: Sequence[str]) -> Any:
        """Return the estimator of a publication, if its bytes are the published ones and hold no other types.

        Raises ArtifactError and TransientError.
        """
        data = self.read(published.uri)
        artifact.verify(data, published.digest)
        return artifact.load(data, trusted)

    def declared(self, uri: str) -> str:
        """Return the URI, without links on the way if it is a file. Raises ArtifactError if it is in no place."""
        found = _file(uri) if uri.startswith("file:") else _below(uri, self.places)
        if isinstance(found, Path):
            folders = [folder for folder in map(_folder, self.places) if folder is not None]
            found = found.as_uri() if any(folder in found.parents for folder in folders) else None
        if found is None:
            message = (
                f"{shortened(uri, _SHOWN)!r} is in none of the places from which this deployment loads artifacts, "
                f"{[str(place) for place in self.places]}: if it should be, name its place in the setting "
                "`artifact_places`"
            )
            raise ArtifactError(message)
        return found


def places_with(places: Sequence[str | Path], registry: str) -> ArtifactPlaces:
    """Return the places of a deployment whose registry, which may keep artifacts itself, has this address."""
    return ArtifactPlaces(places, partial(artifact.fetch, registry=registry))


NO_PLACES = ArtifactPlaces()
"""No artifact is loaded."""


def _file(uri: str) -> Path | None:
    parts = urlsplit(uri)
    path = unquote(parts.path)
    if parts.netloc not in {"", "localhost"} or not path.startswith("/"):
        return None
    try:
        return Path(path).resolve()
    except (OSError, ValueError, RuntimeError):  # a path with a null byte, too long, or a loop of links
        return None


def _folder(place: str | Path) -> Path | None:
    """Return the folder that a place is; None for a URL of another kind."""
    text = str(place)
    if text.startswith("file:"):
        return _file(text)
    return None if _SCHEME.match(text) else Path(text).expanduser().resolve()


def _below(uri: str, places: Sequence[str | Path]) -> str | None:
    """Return the URL if it begins with one of the places, and has no way up."""
    steps = unquote(unquote(uri)).replace("\\", "/").split("/")
    is_plain = not {"..", "."} & {*steps} and _SCHEME.match(uri) is not None
    texts = [str(place).rstrip("/") + "/" for place in places if _SCHEME.match(str(place))]
    return uri if is_plain and any(uri.startswith(text) for text in texts) else None
