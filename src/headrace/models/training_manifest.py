"""The manifest of a training set: which rows and definitions made it, so that it can be made again."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from headrace.bus import message
from headrace.models.manifest import StreamPin, TimeSpan

FORMAT = 1
IN_PARQUET = b"headrace.training-set"
"""The key in a Parquet file's own metadata under which its manifest stands."""


class TrainingManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a training set was made of. Times are microseconds UTC; hashes are ``sha256:…``.

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
    """The manifest as JSON, byte for byte the same for equal manifests."""
    return msgspec.json.encode(manifest, order="deterministic")


def decode(data: bytes) -> TrainingManifest:
    """The manifest in these bytes. Raises CodecError for malformed ones and for a format newer than this release's."""
    return message.decode(data, TrainingManifest, FORMAT, "the manifest of a training set")
