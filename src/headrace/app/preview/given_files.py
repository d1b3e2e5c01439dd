"""Files of rows, read whole: Parquet, CSV and lines of JSON, as imports of history read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from headrace.errors import DefinitionError
from headrace.streams.imports.file_pieces import FilePiece, column_names, pieces
from headrace.streams.imports.source_file import find_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.bus.stream import Stream
    from headrace.streams.imports.source_file import FileForm, SourceFile


def rows_of_files(
    streams: Sequence[Stream], names: Sequence[str], form: FileForm | None = None
) -> Mapping[str, FilePiece]:
    """Return the rows of each stream, by topic. A name is a file, or ``TOPIC=FILE`` if there are several streams.

    Raises DefinitionError if it is not clear of which stream a file is, SettingsError for a file that is not there or
    not of its form, and OfflineStoreUnavailableError.
    """
    topics = [stream.topic for stream in streams]
    of_topics: dict[str, list[str]] = {}
    for name in names:
        topic, is_pair, file = name.partition("=")
        if not is_pair or topic not in topics:
            topic, file = topics[0], name
            if len(topics) > 1:
                wanted = ", ".join(f"{each}=FILE" for each in topics)
                raise DefinitionError(f"--from {name}: the view has several streams; say which one it is: {wanted}")
        of_topics.setdefault(topic, []).append(file)
    return {topic: _whole(find_files(files, form)) for topic, files in of_topics.items()}


def _whole(files: Sequence[SourceFile]) -> FilePiece:
    """Return all rows of some files as one piece. Raises DefinitionError if one has columns and another has lines."""
    found = [piece for file in files for piece in pieces(file, column_names(file) or [])]
    tables = [piece.columns for piece in found if piece.columns is not None]
    lines = [line for piece in found for line in piece.lines]
    kinds = {(piece.columns is None, piece.is_text) for piece in found}
    if len(kinds) > 1:
        raise DefinitionError(f"{', '.join(file.name for file in files[:3])}: give files of one form")
    if not tables:
        return FilePiece(0, lines=lines)
    broken = [line for piece in found for line in piece.broken]
    return FilePiece(
        0,
        columns=pl.concat(tables, how="diagonal_relaxed"),
        is_text=found[0].is_text,
        broken=broken,
        broken_at=[0] * len(broken),
    )
