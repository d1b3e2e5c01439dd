"""The types of Postgres as fields of events, and what is said of a database that does not fit."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import pytest

from headrace import Epoch, Event, Places, Stream
from headrace.errors import HeadraceError, SettingsError, SourceUnavailableError
from tests.support.postgres_scene import PostgresScene
from tests.support.postgres_server import Postgres, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
TABLES = """
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE every (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), small int2, big int8, amount numeric(30, 4), rate float8,
    exact numeric DEFAULT 1, ok bool, day date, at timestamptz DEFAULT now(), local timestamp DEFAULT now(),
    stamp timestamptz DEFAULT now(), raw bytea DEFAULT '', tags text[] DEFAULT '{}', numbers int[] DEFAULT '{}',
    more jsonb DEFAULT '{}', kind mood, address inet, card jsonb DEFAULT '{"country": "FR"}', nothing text
);
INSERT INTO every VALUES (
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', -1, 9223372036854775807, 12345678901234.5678, 0.1, 2.50, true, '2026-03-02',
    '2026-03-02 10:00:00.123456+01', '2026-03-02 10:00', '2026-03-02 09:00:00.5+00',
    decode(repeat('ff00', 60), 'hex'), '{a,"b c"}', '{1,2}', '{"x": 1}', 'bad', '10.0.0.1', '{"country": "DE"}', NULL
);
CREATE TABLE notes (
    id bigint, note text, updated_at timestamptz, day date, local timestamp, cost money, "A % b" text
);
CREATE ROLE secured LOGIN PASSWORD 'hunter2';
CREATE ROLE reader LOGIN;
"""


class Card(Event):
    country: str


class Every(Event):
    id: UUID
    small: int | None
    big: int | None
    amount: Annotated[Decimal, Places(4)] | None
    rate: float | None
    exact: float
    ok: bool | None
    day: date | None
    at: datetime
    local: datetime
    stamp: Annotated[datetime, Epoch("ms")]
    raw: bytes
    tags: list[str]
    numbers: list[int]
    more: dict[str, int]
    kind: str | None
    address: str | None
    card: Card
    nothing: str | None
    absent: str | None
    default: int = 7


EVERY = Stream("every", Every, event_time="at", key="id")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as found:
        found.sql(TABLES)
        rules = found.rules.read_text()
        found.rules.write_text(f"host all secured all scram-sha-256\nhost all stranger all reject\n{rules}")
        found.sql("SELECT pg_reload_conf()")
        yield found


def test_each_type_of_postgres(postgres: Postgres, tmp_path: Path) -> None:
    rows = {"table": "every", "watermark": "at", "key": ("id",), "zone": "Europe/Berlin"}
    scene = PostgresScene(postgres, tmp_path, stream=EVERY, rows=rows)
    (event,) = scene.look()
    assert scene.rejected() == []
    assert (event.id, event.small, event.big) == (UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), -1, 2**63 - 1)
    assert (event.amount, event.rate, event.exact, event.ok) == (Decimal("12345678901234.5678"), 0.1, 2.5, True)
    assert (event.day, event.at) == (date(2026, 3, 2), NOW.replace(microsecond=123_456))
    assert (event.local, event.stamp) == (NOW, NOW.replace(microsecond=500_000))
    assert event.raw == b"\xff\x00" * 60
    assert (event.tags, event.numbers, event.more) == (["a", "b c"], [1, 2], {"x": 1})
    assert (event.kind, event.address, event.card) == ("bad", "10.0.0.1", Card("DE"))
    assert (event.nothing, event.absent, event.default) == (None, None, 7)
    wrong = {
        "local": "infinity", "stamp": "-infinity", "exact": "NaN", "tags": "{a,NULL}", "card": "{}", "raw": None,
        "more": '{"x": "y"}',
    }  # fmt: skip
    for column, value in wrong.items():
        postgres.sql(f"INSERT INTO every ({column}) VALUES ({'NULL' if value is None else repr(value)})")
    assert scene.look() == []
    assert [each["reason"].partition("`$.")[2].rstrip("`") for each in scene.rejected()] == [
        "local", "stamp", "exact", "tags[1]", "card", "raw", "more[...]",
    ]  # fmt: skip
    postgres.sql("INSERT INTO every (small) VALUES (3)")
    assert [each.small for each in scene.look()] == [3]
    scene.end()


def opened(postgres: Postgres, folder: Path, stream: Stream | None = None, **options: Any) -> HeadraceError:
    """The error of a look at a database that does not fit."""
    given = {"stream": stream} if stream else {}
    options.setdefault("rows", {"table": "notes"})
    scene = PostgresScene(postgres, folder, **given, **options)
    try:
        with pytest.raises(HeadraceError) as found:
            scene.look()
    finally:
        scene.end()
    assert str(found.value).startswith("[[ingest]] 'shop'")
    assert "hunter2" not in str(found.value)
    return found.value


class Costs(Event):
    id: int
    cost: float
    updated_at: datetime


class Times(Event):
    id: int
    local: datetime


def test_a_database_that_does_not_fit_is_an_error_in_words(postgres: Postgres, tmp_path: Path) -> None:
    said = {
        "table": (opened(postgres, tmp_path, rows={"table": "shop.none"}), 'relation "shop.none" does not exist'),
        "query": (opened(postgres, tmp_path, rows={"query": "SELEC 1"}), "syntax error"),
        "watermark": (opened(postgres, tmp_path, rows={"table": "notes", "watermark": "at"}),
                      "has no column 'at', the watermark; it has ['A % b', 'cost',"),
        "key": (opened(postgres, tmp_path, rows={"table": "notes", "key": ("id", "no")}), "no column 'no', the key"),
        "field": (opened(postgres, tmp_path, EVERY, rows={"table": "notes"}), "notes has no column 'exact', 'at'"),
        "day": (opened(postgres, tmp_path, rows={"table": "notes", "watermark": "day"}), "type date; it has to be a"),
        "local": (opened(postgres, tmp_path, rows={"table": "notes", "watermark": "local"}), 'with zone = "UTC"'),
        "cost": (opened(postgres, tmp_path, Stream("c", Costs, event_time="updated_at")),
                 "'cost' is of type money, which has no form for 'cost', a field of kind float: cast it"),
        "times": (opened(postgres, tmp_path, Stream("c", Times, event_time="local")), 'say with zone = "UTC"'),
        "right": (opened(postgres, tmp_path, url=postgres.url("reader")), "permission denied for table notes"),
    }  # fmt: skip
    for what, (error, text) in said.items():
        assert text in str(error), what
        assert isinstance(error, SettingsError), what


def test_a_server_that_lets_nobody_in_is_waited_for(postgres: Postgres, tmp_path: Path) -> None:
    nowhere = f"postgresql://postgres:hunter2@127.0.0.1:{free_port()}/postgres"
    said = {
        "unreachable": (opened(postgres, tmp_path, url=nowhere), "postgres:***@127.0.0.1"),
        "no password": (opened(postgres, tmp_path, url=postgres.url("secured")), "no password supplied"),
        "wrong": (opened(postgres, tmp_path, url=postgres.url("secured"), password="hunter21"),
                  'password authentication failed for user "secured". Look at the user'),
        "rejected": (opened(postgres, tmp_path, url=postgres.url("stranger")), "look at its pg_hba.conf"),
    }  # fmt: skip
    for what, (error, text) in said.items():
        assert text in str(error), what
        assert isinstance(error, SourceUnavailableError), what


def test_a_query_may_have_per_cent_signs_and_names_in_any_letters(postgres: Postgres, tmp_path: Path) -> None:
    class Odd(Event):
        id: int
        odd: str
        at: datetime

    postgres.sql(
        "INSERT INTO notes (id, updated_at, \"A % b\") VALUES (5, '2026-01-01', 'x%y'), (7, '2026-01-01', 'z')"
    )
    query = """SELECT id % 5 AS id, "A % b" AS odd, updated_at AS "At %s", updated_at AS at
        FROM notes WHERE "A % b" LIKE 'x%'; """
    rows = {"query": query, "watermark": "At %s"}
    scene = PostgresScene(postgres, tmp_path, stream=Stream("o", Odd, event_time="at"), rows=rows)
    assert [(each.id, each.odd) for each in scene.look()] == [(0, "x%y")]
    postgres.sql("INSERT INTO notes (id, updated_at, \"A % b\") VALUES (11, now(), 'x')")
    assert [(each.id, each.odd) for each in scene.look()] == [(1, "x")]
    scene.end()


def test_a_position_of_other_rows_is_refused(postgres: Postgres, tmp_path: Path) -> None:
    scene = PostgresScene(postgres, tmp_path, rows={"query": "SELECT 1 AS id, 'n' AS note, now() AS updated_at"})
    assert len(scene.look()) <= 1
    postgres.sql("CREATE TABLE others AS SELECT 1 AS id, 'n' AS note, '2026-01-01'::timestamptz AS updated_at")
    scene.end()
    scene = PostgresScene(postgres, tmp_path / "own", rows={"table": "others"})
    assert len(scene.look()) == 1
    scene.end()
    with pytest.raises(SettingsError, match=r"'shop': its position is one of 'others by updated_at, id', and .*Remove"):
        PostgresScene(postgres, tmp_path / "own", rows={"table": "others", "key": ("note",)})
