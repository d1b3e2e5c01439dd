"""What a manifest pins: the offsets below which each topic was read, and the versions of the libraries."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from headrace.bus.source_partition import SourcePartition
from headrace.models.manifest import StreamPin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


_LIBRARIES = ("headrace", "scikit-learn", "numpy", "pandas", "polars", "skops")


def libraries() -> dict[str, str]:
    """The versions of what a fit stands on, as installed here."""
    return {name: _version(name) for name in _LIBRARIES} | {"python": platform.python_version()}


def pins(positions: Mapping[str, Mapping[SourcePartition, int]]) -> list[StreamPin]:
    """Topic → source partition → offset below which all was read, as a manifest says it."""
    return [_pin(topic, found) for topic, found in positions.items()]


def pinned_ends(streams: Iterable[StreamPin]) -> dict[str, dict[SourcePartition, int]]:
    """Topic → source partition → pinned offset: the reverse of :func:`pins`."""
    return {pin.topic: {SourcePartition.from_text(name): end for name, end in pin.offsets.items()} for pin in streams}


def _pin(topic: str, positions: Mapping[SourcePartition, int]) -> StreamPin:
    topic_ids = sorted({source.topic_id.hex() for source in positions})
    offsets = {source.text: offset for source, offset in sorted(positions.items())}
    return StreamPin(topic=topic, topic_id=",".join(topic_ids), offsets=offsets)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
