"""A fitted scikit-learn estimator as bytes: skops, never pickle."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from headrace.base.redaction import shortened
from headrace.base.times import SECOND, duration_us
from headrace.errors import ArtifactError, TransientError, require
from headrace.models import artifact_urls
from headrace.models.safe_types import SAFE_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.base.times import Duration

_LARGEST = 1 << 30  # bytes, stored and unpacked: a zip can promise far more than it holds
_PIECE = 1 << 20
_SHOWN = 200
_NOT_CONTENT = frozenset({"__id__", "_skops_version", "protocol"})


@dataclass(frozen=True)
class Artifact:
    """The stored bytes of an estimator, their digest, and a hash of their content.

    ``digest`` guards transport and differs on every save; ``content_hash`` is equal for equal estimators.
    """

    data: bytes
    digest: str
    content_hash: str


def dump(estimator: Any) -> Artifact:
    """Return the artifact of an estimator that this process fitted itself, after checking that it loads.

    Raises ArtifactError if it holds something that skops cannot store, or cannot load again, such as a lambda.
    """
    skops_io = require("skops.io", "serving")
    try:
        data: bytes = skops_io.dumps(estimator, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
        skops_io.loads(data, trusted=skops_io.get_untrusted_types(data=data))
    except Exception as error:
        message = f"{type(estimator).__name__} cannot be stored by skops: {error}; use importable functions and classes"
        raise ArtifactError(message) from error
    return Artifact(data, digest(data), content_hash(data))


def prepare() -> None:
    """Import the packages of :func:`load`. It takes seconds: call it before the first version comes."""
    require("skops.io", "serving")


def load(data: bytes, trusted: Sequence[str]) -> Any:
    """Return the estimator in these bytes.

    Every type in it must be safe by itself, or in ``trusted``, the deployment's own list.

    Raises ArtifactError for other types (naming them) and for bytes that are truncated or malformed.
    """
    skops_io = require("skops.io", "serving")
    _members(data)
    try:
        known = {*trusted, *SAFE_TYPES}
        unsure = skops_io.get_untrusted_types(data=data)
        foreign = [name for name in unsure if name not in known]
        if not foreign:
            return skops_io.loads(data, trusted=unsure)
    except (Exception, RecursionError) as error:  # hostile bytes can raise anything, anywhere
        message = f"the artifact does not load: {type(error).__name__}: {error}; publish it again from its run"
        raise ArtifactError(message) from error
    message = (
        f"the artifact holds types that this deployment does not trust: {', '.join(foreign)}; "
        "if you reviewed them, add this line to headrace.toml, above its first table, and start the process again: "
        f"trusted_types = {json.dumps([*trusted, *foreign])}"
    )
    raise ArtifactError(message)


def digest(data: bytes) -> str:
    """Return ``sha256:…`` of the stored bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def verify(data: bytes, expected: str) -> None:
    """Raise ArtifactError unless the bytes have this digest."""
    found = digest(data)
    if found != expected:
        message = f"the artifact's digest is {found}, its event says {expected}: these are not the published bytes"
        raise ArtifactError(message)


def store(artifact: Artifact, path: Path) -> str:
    """Write the bytes as a new file, complete or not at all, and return its ``file://`` URI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_bytes(artifact.data)
    draft.replace(path)
    return path.resolve().as_uri()


def fetch(uri: str, *, within: Duration = "60s", registry: str = "") -> bytes:
    """Return the bytes at a ``file://`` URI, in an object store (``s3://`` …), or on MLflow's server.

    ``registry`` is the address of the server for ``mlflow-artifacts:/…``. Raises ArtifactError for what is no regular
    file, or is larger than 1 GiB. A missing file is a TransientError, as a shared folder may lag behind, and so is one
    that takes longer than ``within``.
    """
    parts, shown, within_s = urlsplit(uri), shortened(uri, _SHOWN), duration_us(within) / SECOND
    if parts.scheme != "file":
        return artifact_urls.read(uri, largest=_LARGEST, within_s=within_s, registry=registry)
    if parts.netloc not in {"", "localhost"}:
        raise ArtifactError(f"cannot fetch {shown!r}: a file:// URI names a file of this host")
    try:
        return _read(Path(unquote(parts.path)), time.monotonic() + within_s)
    except OSError as error:
        message = f"the artifact {shown!r} cannot be read: {error.strerror}; is its folder shared with this host?"
        raise TransientError(message) from error


def _read(path: Path, deadline: float) -> bytes:
    """Return the bytes of a regular file. Anything else is not even opened: a device or a pipe may never end."""
    _check_regular(path, path.stat())
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        _check_regular(path, os.fstat(file.fileno()))
        pieces, size = [], 0
        while piece := file.read(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > _LARGEST:
                raise ArtifactError(f"the artifact {str(path)!r} has more than {_LARGEST:,} bytes")
            if time.monotonic() > deadline:
                raise TransientError(f"the artifact {str(path)!r} did not come in time, after {size:,} bytes")
    return b"".join(pieces)


def _check_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ArtifactError(f"the artifact {str(path)!r} is no regular file")


def content_hash(data: bytes) -> str:
    """Return ``sha256:…`` of the bytes' content: the same for two saves of one estimator. Raises ArtifactError."""
    members = _members(data)
    try:
        schema = json.loads(members["schema.json"])
        return "sha256:" + _Canonical(members).hash(schema)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        message = f"the artifact has no readable schema: {type(error).__name__}: {error}"
        raise ArtifactError(message) from error


class _Canonical:
    """Merkle hashes of a skops schema: memory ids resolved, array files by their bytes, sets in no order."""

    def __init__(self, members: dict[str, bytes]) -> None:
        self._members = members
        self._seen: dict[int, str] = {}

    def hash(self, node: Any) -> str:
        if not isinstance(node, dict):
            return _sha([self.hash(item) for item in node] if isinstance(node, list) else node)
        identity = node.get("__id__", 0)
        if node.get("__loader__") == "CachedNode":
            return self._seen.get(identity, "circular")
        parts = {key: self._part(key, value) for key, value in node.items() if key not in _NOT_CONTENT}
        if node.get("__loader__") == "SetNode":
            parts["content"] = _sha(sorted(self.hash(item) for item in node["content"]))
        result = _sha(parts)
        self._seen[identity] = result
        return result

    def _part(self, key: str, value: Any) -> str:
        if key == "file" and isinstance(value, str):
            return _sha(hashlib.sha256(self._members[value]).hexdigest())
        return self.hash(value)


def _sha(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _members(data: bytes) -> dict[str, bytes]:
    """Return the unpacked files, checked against their checksums and a bound on their size."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(item.file_size for item in archive.infolist())
            members = {item.filename: archive.read(item) for item in archive.infolist()} if size <= _LARGEST else None
    except Exception as error:  # BadZipFile, zlib.error, EOFError, ...: hostile bytes can raise anything
        message = f"the artifact is not a skops file or is truncated ({len(data):,} bytes): {error}"
        raise ArtifactError(message) from error
    if members is None:
        message = f"the artifact unpacks to {size:,} bytes, the bound is {_LARGEST:,}: a zip bomb?"
        raise ArtifactError(message)
    return members
