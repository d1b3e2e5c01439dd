"""The parts that manifests have in common: pinned offsets, definitions, content and the versions of libraries."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from headrace.bus.source_partition import SourcePartition
from headrace.models.manifest import StreamPin

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.features.definitions.service import FeatureService
    from headrace.features.offline.content_hash import ContentHash
    from headrace.trainers.definitions import Model


LABEL = "label"
_LIBRARIES = ("headrace", "scikit-learn", "numpy", "pandas", "polars", "skops")


def manifest_parts(
    features: FeatureService, positions: Mapping[str, Mapping[SourcePartition, int]], content: ContentHash
) -> dict[str, Any]:
    """The fields of a TrainingManifest that do not depend on where its rows come from."""
    return {
        "service": features.version,
        "spec_hashes": {view.name: view.version for view in features.views},
        "streams": stream_pins(positions),
        "feature_columns": features.columns(),
        "rows": content.rows,
        "content_hash": content.digest(),
        "libraries": libraries(),
    }


def label_column(taken: Sequence[str], model: Model) -> str:
    """The name of the label's column: ``label``, or ``<model>_label`` if another column has that name."""
    return LABEL if LABEL not in taken else f"{model.name}_{LABEL}"


def libraries() -> dict[str, str]:
    """The installed versions of the libraries that a fit depends on."""
    return {name: _version(name) for name in _LIBRARIES} | {"python": platform.python_version()}


def stream_pins(positions: Mapping[str, Mapping[SourcePartition, int]]) -> list[StreamPin]:
    """The pins of a manifest. ``positions`` are topic → source partition → the offset below which all was read."""
    return [_pin(topic, found) for topic, found in positions.items()]


def pinned_ends(streams: Iterable[StreamPin]) -> dict[str, dict[SourcePartition, int]]:
    """The ``ends`` of an event log that these pins describe: topic → source partition → offset."""
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
