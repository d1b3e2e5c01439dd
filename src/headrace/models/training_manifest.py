"""The manifest of a training set: which rows and definitions made it, so that it can be made again."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from headrace.bus import message
from headrace.models.manifest import StreamPin, TimeSpan

FORMAT = 1
IN_PARQUET = b"headrace.training-set"
"""The key of the manifest in a Parquet file's own metadata."""


class TrainingManifest(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of a training set. Times are microseconds UTC; hashes are ``sha256:…``.

    ``rows_from`` is ``requests``, the model's matured and labelled requests at ``as_of_us``, or ``spine``, rows that
    were given; then ``spine_hash`` is theirs. ``content_hash`` is that of ``columns``, of all rows in ``row_order``.
    """

    format: int = FORMAT
    of: Literal["model", "service"]
    name: str
    service: str
    spec_hashes: dict[str, str]
    streams: list[StreamPin]
    rows_from: Literal["requests", "spine"]
    row_order: list[str]
    rows: int
    content_hash: str
    columns: list[str]
    feature_columns: list[str]
    time: str
    as_of_us: int
    label: dict[str, Any] | None = None
    label_column: str | None = None
    spine_columns: list[str] = []
    spine_hash: str | None = None
    excluded: list[TimeSpan] = []
    libraries: dict[str, str] = {}


def encode(manifest: TrainingManifest) -> bytes:
    """Return the manifest as JSON: the same bytes for equal manifests."""
    return msgspec.json.encode(manifest, order="deterministic")


def decode(data: bytes) -> TrainingManifest:
    """Return the manifest in these bytes. Raises CodecError for malformed bytes and for a newer format."""
    return message.decode(data, TrainingManifest, FORMAT, "the manifest of a training set")
