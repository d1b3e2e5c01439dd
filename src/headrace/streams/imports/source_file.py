"""The files of an import: on this machine or in an object store, found by name, folder or pattern."""

from __future__ import annotations

import fnmatch
import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

import obstore
import obstore.store
import pyarrow as pa
from deltalake import DeltaTable
from obstore.exceptions import BaseError

from headrace.errors import OfflineStoreUnavailableError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FileForm = Literal["parquet", "csv", "jsonl"]
_FORMS: dict[str, FileForm] = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
}  # fmt: skip
_COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
_PATTERN = frozenset("*?[")
_HASHED = 4 << 20
_NOT_READ = frozenset({"deletionVectors", "columnMapping"})
"""Features of Delta tables whose files alone do not say which rows the table has."""


@dataclass(frozen=True)
class SourceFile:
    """A file to import. ``constants`` are the columns of a Delta table by which it is partitioned: files lack them."""

    name: str
    form: FileForm
    size: int
    constants: tuple[tuple[str, Any], ...] = ()

    @property
    def compression(self) -> str | None:
        """How a text file is compressed, by the end of its name; None if it is not."""
        return _COMPRESSED.get(PurePosixPath(self.name).suffix.lower())

    @contextmanager
    def opened(self) -> Iterator[pa.NativeFile]:
        """Open the file for reading. Raises OfflineStoreUnavailableError if its storage does not answer."""
        try:
            if "://" not in self.name:
                with pa.OSFile(self.name) as here:
                    yield here
                return
            store, path = _store(self.name)
            with pa.PythonFile(_Remote(obstore.open_reader(store, path)), mode="r") as there:
                yield there
        except (BaseError, OSError) as error:
            raise OfflineStoreUnavailableError(f"{self.name} cannot be read: {error}") from error

    def digest(self, advance: Callable[[int], None] = lambda _: None) -> str:
        """Return the SHA-256 of its bytes. ``advance`` gets the number of bytes that were read since its last call."""
        found = hashlib.sha256()
        with self.opened() as opened:
            while data := opened.read(_HASHED):
                found.update(data)
                advance(len(data))
        return found.hexdigest()


class _Remote:
    """A remote file as Arrow reads one."""

    closed = False

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def read(self, size: int = -1) -> bytes:
        return bytes(self._reader.read() if size < 0 else self._reader.read(size))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def find_files(names: Sequence[str], form: FileForm | None = None) -> list[SourceFile]:
    """Return the files that some names mean, in order: a file, a Delta table, a folder, or a pattern such as `*.csv`.

    A folder means the files in it and below it whose names end like a form that can be read. ``form`` says how all of
    them are written, whatever their names. Raises SettingsError for a name that means no file, or a file of no known
    form, and OfflineStoreUnavailableError.
    """
    found = [each for name in names for each in _files_of(name, form)]
    return list({each.name: each for each in found}.values())


def _files_of(name: str, form: FileForm | None) -> list[SourceFile]:
    name = name.rstrip("/") or name
    if _is_delta(name):
        return _of_delta(name)
    listed = _listed_remote(name) if "://" in name else _listed_here(name)
    if not listed:
        raise SettingsError(f"{name}: there is no such file, folder or Delta table")
    is_one = listed[0][0] == name
    found: list[tuple[str, FileForm | None, int]] = [(path, form or form_of(path), size) for path, size in listed]
    if is_one and found[0][1] is None:
        message = f"{name}: its name says no form ({', '.join(_FORMS)}): give it with --format parquet, csv or jsonl"
        raise SettingsError(message)
    known = [SourceFile(path, of, size) for path, of, size in found if of is not None]
    if not known:
        raise SettingsError(f"{name}: none of its {len(found)} files ends in {', '.join(_FORMS)}")
    return sorted(known, key=lambda each: each.name)


def form_of(name: str) -> FileForm | None:
    """Return the form that the end of a file's name says; None if it says none."""
    path = PurePosixPath(name)
    if path.suffix.lower() in _COMPRESSED:
        path = path.with_suffix("")
    return _FORMS.get(path.suffix.lower())


def _is_delta(name: str) -> bool:
    try:
        return DeltaTable.is_deltatable(name)
    except (OSError, ValueError):
        return False


def _of_delta(name: str) -> list[SourceFile]:
    table = DeltaTable(name)
    features = {*(table.protocol().reader_features or ())} & _NOT_READ
    if features:
        message = (
            f"{name} is a Delta table with {', '.join(sorted(features))}: its files alone do not say what its rows are"
        )
        raise SettingsError(f"{message}; import a copy that was written without")
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    partitions, root = table.metadata().partition_columns, name.removeprefix("file://")
    return [
        SourceFile(
            f"{root}/{unquote(each['path'])}",
            "parquet",
            each["size_bytes"],
            tuple((column, each[f"partition.{column}"]) for column in partitions),
        )
        for each in sorted(actions, key=lambda each: str(each["path"]))
    ]


def _listed_here(name: str) -> list[tuple[str, int]]:
    path = Path(name.removeprefix("file://"))
    if path.is_file():
        return [(str(path), path.stat().st_size)]
    if path.is_dir():
        under = [each for each in path.rglob("*") if not any(part[:1] in "._" for part in each.relative_to(path).parts)]
    else:
        fixed = [part for part in path.parts if not _PATTERN & set(part)]
        top = Path(*fixed[: _first_pattern(path.parts)])
        under = list(top.glob(str(Path(*path.parts[_first_pattern(path.parts) :])))) if top != path else []
    return [(str(each), each.stat().st_size) for each in under if each.is_file()]


def _first_pattern(parts: Sequence[str]) -> int:
    return next((place for place, part in enumerate(parts) if _PATTERN & set(part)), len(parts))


def _listed_remote(name: str) -> list[tuple[str, int]]:
    store, path = _store(name)
    parts = path.split("/")
    place = _first_pattern(parts)
    top = "/".join(parts[:place])
    root = name.removesuffix(path)
    try:
        found = [(each["path"], each["size"]) for page in obstore.list(store, top or None) for each in page]
        if not found:
            found = [(path, obstore.head(store, path)["size"])]
    except FileNotFoundError:
        return []
    except (BaseError, OSError) as error:
        raise OfflineStoreUnavailableError(f"{name} cannot be listed: {error}") from error
    if place < len(parts):
        found = [(each, size) for each, size in found if fnmatch.fnmatch(each, path)]
    return [(root + each, size) for each, size in found]


def _store(name: str) -> tuple[Any, str]:
    """Return the store of a remote file, and the file's path in it. Credentials are in the environment."""
    parts = urlsplit(name)
    try:
        return obstore.store.from_url(f"{parts.scheme}://{parts.netloc}"), parts.path.lstrip("/")
    except (BaseError, ValueError) as error:
        raise SettingsError(f"{name}: {error}") from error
