"""The manifest: exactly which rows, definitions and versions made a model. It survives compaction and vacuum."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from headrace.bus import message

FORMAT = 1


class StreamPin(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one topic that could be read: all below ``offsets``.

    ``offsets`` maps a source partition, ``<topic id>-<partition>``, to its next offset. ``topic_id`` names the topic's
    incarnations, joined by commas where there were several.
    """

    topic: str
    topic_id: str
    offsets: dict[str, int]


class TimeSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A span [from, to) in microseconds that was marked bad and left out."""

    from_us: int
    to_us: int
    reason: str


class GitState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The git commit of the project. ``diff`` is the hash of what was changed and not committed, if anything was."""

    commit: str
    diff: str | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of a training run. Times are microseconds UTC; hashes are ``sha256:…``.

    ``code`` is the hash of the train function's own source, ``code_modules`` has that of each module of the project
    that it reaches, ``code_bound`` is that of the arguments bound to it. A field that an earlier release did not write
    is left out if it says nothing.
    """

    format: int = FORMAT
    model: str
    request_id: str
    streams: list[StreamPin]
    rows: int
    content_hash: str
    row_order: list[str]
    service: str
    spec_hashes: dict[str, str]
    feature_columns: list[str]
    request_features: list[str]
    label: dict[str, Any]
    seeds: dict[str, int]
    libraries: dict[str, str]
    code: str
    trained_from_us: int
    trained_to_us: int
    excluded: list[TimeSpan] = []
    params: dict[str, Any] = {}
    code_modules: dict[str, str] | UnsetType = UNSET
    code_bound: str | UnsetType = UNSET
    git: GitState | UnsetType = UNSET


def encode(manifest: Manifest) -> bytes:
    """Return the manifest as JSON: the same bytes for equal manifests."""
    return msgspec.json.encode(manifest, order="deterministic")


def decode(data: bytes) -> Manifest:
    """Return the manifest in these bytes. Raises CodecError for malformed bytes and for a newer format."""
    return message.decode(data, Manifest, FORMAT, "a manifest")


def hash_of(manifest: Manifest) -> str:
    """Return ``sha256:…`` of the encoded manifest."""
    return "sha256:" + hashlib.sha256(encode(manifest)).hexdigest()
