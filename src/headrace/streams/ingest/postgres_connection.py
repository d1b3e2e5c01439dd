"""A connection to Postgres that reads and never writes, with errors in words and without passwords."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from headrace.base.redaction import redacted, revealed, without_secrets
from headrace.errors import SettingsError, SourceUnavailableError, require
from headrace.streams.ingest.postgres_query import PostgresColumn
from headrace.streams.ingest.read_bounds import Running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LONGEST = 1_000
_OPTIONS = {
    "connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3,
    "tcp_user_timeout": 60_000, "application_name": "headrace ingest",
}  # fmt: skip
"""A URL that has one of these parameters wins."""
_SESSION = "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; SET LOCAL standard_conforming_strings = on"
_TYPES = (
    "SELECT o::bigint, format_type(o, -1), (SELECT typcategory FROM pg_type WHERE oid = o) "
    "FROM unnest(%s::bigint[]::oid[]) o"
)
_OPEN = """
    SELECT DISTINCT l.virtualxid FROM pg_locks l
    WHERE l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' AND l.granted AND l.pid <> pg_backend_pid()
    AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = l.pid)
    AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.datname <> current_database())
"""
"""Every transaction holds this lock from its begin until its rows can be seen. Every user may see it."""
_PREPARED = "SELECT 'prepared ' || transaction FROM pg_prepared_xacts WHERE database = current_database()"
_WRONG = ("42", "3F", "22", "0A", "3D")
"""Classes of SQLSTATE whose cause is in the settings, or in what a user may do."""


class PostgresConnection:
    """One connection, for one thread. ``where`` begins each error, and ``password`` is used if the URL has none.

    Raises SourceUnavailableError, and MissingExtraError without the extra ``postgres``.
    """

    def __init__(self, url: str, where: str, password: str | None = None) -> None:
        psycopg = require("psycopg", "postgres")
        self._where, self._errors = where, psycopg
        options: dict[str, Any] = {} if password is None else {"password": password}
        self._at = f"Postgres at {redacted(url)}"
        with self.answering():
            known = psycopg.conninfo.conninfo_to_dict(revealed(url))
            self._connection = psycopg.connect(
                **(_OPTIONS | options | known), autocommit=True, prepare_threshold=None, cursor_factory=psycopg.Cursor
            )
            self._connection.read_only = True
            if self._all("SELECT pg_is_in_recovery()")[0][0]:
                self._connection.close()
                raise SettingsError(
                    f"{where}: {self._at} is a standby, on which running transactions cannot be seen: their rows would "
                    "be lost. Give the URL of the primary"
                )

    @property
    def is_open(self) -> bool:
        """False after the server has ended the connection."""
        return not (self._connection.closed or self._connection.broken)

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    def columns(self, statement: str) -> list[PostgresColumn]:
        """Return the columns of the answer to a statement."""
        with self.answering(), self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(statement.replace("%%", "%"))
            found = [(each.name, each.type_code) for each in cursor.description or ()]
            types = {oid: more for oid, *more in cursor.execute(_TYPES, [[oid for _, oid in found]])}
        return [PostgresColumn(name, *types[oid]) for name, oid in found]

    def value(self, statement: str) -> Any:
        """Return the only value of an answer. As in statements with parameters, %% stands for a per cent sign."""
        with self.answering():
            return self._all(statement.replace("%%", "%"))[0][0]

    def running(self) -> Running:
        """Return the transactions of the database that run now, but for this one and those of a vacuum."""
        with self.answering():
            held = frozenset(text for (text,) in self._all(_OPEN))
            return Running(held, frozenset(text for (text,) in self._all(_PREPARED)))

    @contextmanager
    def rows(self, statement: str, parameters: Sequence[str], at_once: int) -> Iterator[Iterator[tuple[Any, ...]]]:
        """Give the rows of an answer, all of one snapshot, of which ``at_once`` are in memory."""
        with self.answering(), self._connection.transaction():
            self._connection.execute(_SESSION)
            with self._connection.cursor(name="headrace") as cursor:
                cursor.itersize = at_once
                cursor.execute(statement, parameters)
                yield iter(cursor)

    def _all(self, statement: str) -> list[tuple[Any, ...]]:
        with self._connection.transaction():
            self._connection.execute(_SESSION)
            found: list[tuple[Any, ...]] = self._connection.execute(statement).fetchall()
        return found

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Turn an error of Postgres into SourceUnavailableError, or into SettingsError if waiting does not help."""
        try:
            yield
        except self._errors.ProgrammingError as error:
            raise SettingsError(f"{self._where}: {self._said(error)}") from None
        except self._errors.Error as error:
            state = getattr(error, "sqlstate", None) or ""
            kind = SettingsError if state[:2] in _WRONG else SourceUnavailableError
            raise kind(f"{self._where}: {self._said(error)}{_advice(state, str(error))}") from None

    def _said(self, error: Exception) -> str:
        """Return what Postgres says, in one line."""
        text = " ".join(part.strip() for part in str(error).splitlines() if part.strip() and set(part) - {" ", "^"})
        return f"{self._at} says: {without_secrets(text, _LONGEST)}"


def _advice(state: str, said: str) -> str:
    if state == "28P01" or "password" in said:
        return ". Look at the user in the URL, and at password_file or password_env"
    if state[:2] == "28" or "pg_hba.conf" in said:
        return ". The server does not let this user in from this machine: look at its pg_hba.conf, and at sslmode"
    return ""
