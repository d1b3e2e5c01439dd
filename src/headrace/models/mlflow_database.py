"""The SQLite file of a new MLflow registry: it is there with all its tables, or it is not there."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory


def make_database(uri: str, artifacts: str) -> None:
    """Make the file of ``uri`` if it is an SQLite file that does not exist. Other databases are left to MLflow.

    MLflow makes its tables in some fifty steps, each a commit, when the first client asks. If a process is killed
    between two steps, or two processes do it at once, the file can never be used again. So the tables are made in a
    file beside it, which is then linked to its name: if two do it at once, the first one's is the registry. A file
    system without hard links is left to MLflow too.

    ``artifacts``: where runs of MLflow's default experiment would have their files.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: PLC0415
    from sqlalchemy.engine import make_url  # noqa: PLC0415

    path = _sqlite_file(uri)
    if path is None or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        store = SqlAlchemyStore(make_url(uri).set(database=str(draft)).render_as_string(hide_password=False), artifacts)
        store.engine.dispose()
        with suppress(OSError):
            os.link(draft, path)


def _sqlite_file(uri: str) -> Path | None:
    from sqlalchemy.engine import make_url  # noqa: PLC0415
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    try:
        url = make_url(uri)
    except ArgumentError:  # a folder, or a server
        return None
    is_file = url.get_backend_name() == "sqlite" and url.database and not url.database.startswith((":", "file:"))
    return Path(url.database) if is_file and url.database else None


def database_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a database that does not answer, or is locked."""
    from sqlalchemy.exc import OperationalError  # noqa: PLC0415

    return (OperationalError,)
