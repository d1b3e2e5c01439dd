"""Rows of a real Postgres as events: types, changes, transactions that commit late, and what goes wrong."""

from __future__ import annotations

import json
import random
import threading
import time
from datetime import datetime  # noqa: TC003 - a field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from structlog.testing import capture_logs

from headrace import Event, Stream
from headrace.errors import BusUnavailableError, SourceUnavailableError
from tests.support.postgres_scene import PostgresScene
from tests.support.postgres_server import Postgres
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration
TABLE = "CREATE TABLE {0} (id bigserial PRIMARY KEY, note text, updated_at timestamptz DEFAULT now())"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as found:
        yield found


@pytest.fixture
def scenes(postgres: Postgres, tmp_path: Path) -> Iterator[Any]:
    made: list[PostgresScene] = []
    table = f"notes_{uuid4().hex}"
    postgres.sql(TABLE.format(table))

    def scene(**options: Any) -> PostgresScene:
        rows = {"table": table} | options.pop("rows", {})
        made.append(PostgresScene(postgres, tmp_path / str(len(made)), rows=rows, **options))
        return made[-1]

    scene.table = table  # type: ignore[attr-defined]
    yield scene
    for each in made:
        each.end()


def ids(events: list[Any]) -> list[int]:
    return [event.id for event in events]


def test_rows_that_are_inserted_and_updated_while_it_looks(scenes: Any, postgres: Postgres) -> None:
    scene = scenes()
    assert scene.look() == []
    postgres.sql(f"INSERT INTO {scenes.table} (note) SELECT 'n' FROM generate_series(1, 2500)")
    assert ids(scene.look()) == list(range(1, 2501))
    assert scene.look() == []
    postgres.sql(f"UPDATE {scenes.table} SET note = 'changed', updated_at = now() WHERE id IN (7, 2400)")
    postgres.sql(f"INSERT INTO {scenes.table} (note) VALUES (NULL)")
    assert [(each.id, each.note) for each in scene.look()] == [(7, "changed"), (2400, "changed"), (2501, None)]
    scene.end()
    scene.begin()
    assert scene.look() == []


@pytest.mark.parametrize("watermark", ["updated_at", "id"])
def test_a_transaction_that_commits_late_loses_no_row(scenes: Any, postgres: Postgres, watermark: str) -> None:
    scene = scenes(rows={"watermark": watermark})
    insert = f"INSERT INTO {scenes.table} (note) VALUES ('n')"
    with psycopg.connect(postgres.url()) as late:  # a transaction begins here, and has written nothing yet
        late.execute("SELECT nextval(%s)", [f"{scenes.table}_id_seq"])
        postgres.sql(insert)
        assert scene.look() == []
        late.execute(f"INSERT INTO {scenes.table} (id, note) VALUES (1, 'late')")
        postgres.sql(insert)
        assert scene.look() == []
    assert sorted(ids(scene.look())) == [1, 2, 3]
    assert scene.look() == []


def test_a_user_who_may_only_read_sees_that_others_have_not_ended(scenes: Any, postgres: Postgres) -> None:
    postgres.sql(f"CREATE ROLE plain LOGIN; GRANT SELECT ON {scenes.table} TO plain")
    postgres.sql("CREATE DATABASE other")
    scene = scenes(url=postgres.url("plain"))
    insert = f"INSERT INTO {scenes.table} (note) VALUES ('n')"
    with psycopg.connect(f"{postgres.url().removesuffix('/postgres')}/other") as elsewhere:
        elsewhere.execute("SELECT 1")  # a transaction of another database is not waited for
        with psycopg.connect(postgres.url()) as late:
            late.execute(insert)
            postgres.sql(insert)
            assert scene.look() == []
        assert ids(scene.look()) == [1, 2]


def test_a_prepared_transaction_is_waited_for(scenes: Any, postgres: Postgres) -> None:
    scene = scenes()
    with psycopg.connect(postgres.url()) as late:
        late.tpc_begin(late.xid(1, "late", "1"))
        late.execute(f"INSERT INTO {scenes.table} (note) VALUES ('late')")
        assert scene.look() == []
        late.tpc_prepare()
        postgres.sql(f"INSERT INTO {scenes.table} (note) VALUES ('n')")
        assert scene.look() == scene.look() == []
        late.tpc_commit()
    assert ids(scene.look()) == [1, 2]


def test_a_transaction_is_waited_for_no_longer_than_said(scenes: Any, postgres: Postgres) -> None:
    scene = scenes(longest_s=0.2)
    with psycopg.connect(postgres.url()) as late:
        late.execute("SELECT 1")
        postgres.sql(f"INSERT INTO {scenes.table} (note) VALUES ('n')")
        assert scene.look() == []
        time.sleep(0.3)
        with capture_logs() as logs:
            assert ids(scene.look()) == [1]
    assert "can be lost" in str(logs)


@pytest.mark.parametrize(("watermark", "lag_s"), [("updated_at", 2.0), ("id", 0.0)])
def test_transactions_at_the_same_time_lose_no_row(
    scenes: Any, postgres: Postgres, watermark: str, lag_s: float
) -> None:
    scene, table = scenes(rows={"watermark": watermark}, lag_s=lag_s), scenes.table
    ended = threading.Event()

    def write(seed: int) -> None:
        choose = random.Random(seed)
        with psycopg.connect(postgres.url()) as own:
            for _ in range(25):
                own.execute("SELECT 1")
                time.sleep(choose.random() * 0.05)
                for _ in range(choose.randrange(1, 5)):
                    own.execute(f"INSERT INTO {table} (note) VALUES ('n')")
                    time.sleep(choose.random() * 0.02)
                own.commit() if choose.random() < 0.8 else own.rollback()

    def look() -> None:
        while not ended.is_set():
            scene.look()

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    looker = threading.Thread(target=look)
    for thread in (looker, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    looker.join()
    until(lambda: scene.look() == [] and len(scene.producer.flushed) == count(postgres, table), 30)
    found = ids(scene.producer.flushed)
    assert sorted(found) == [int(number) for (number,) in postgres.sql(f"SELECT id FROM {table} ORDER BY id")]


def count(postgres: Postgres, table: str) -> int:
    return int(postgres.sql(f"SELECT count(*) FROM {table}")[0][0])


def test_a_server_that_restarts_is_waited_for(scenes: Any, postgres: Postgres) -> None:
    scene = scenes()
    postgres.sql(f"INSERT INTO {scenes.table} (note) VALUES ('n')")
    assert ids(scene.look()) == [1]
    postgres.stop()
    try:
        for _ in range(2):
            with pytest.raises(SourceUnavailableError, match=r"'shop': Postgres at postgresql://postgres@127.* says: "):
                scene.look()
    finally:
        postgres.start()
    postgres.sql(f"INSERT INTO {scenes.table} (note) VALUES ('n')")
    assert [event.note for event in scene.look()] == ["n"]


def test_rows_stay_with_the_database_while_kafka_is_away(scenes: Any, postgres: Postgres) -> None:
    scene = scenes()
    postgres.sql(f"INSERT INTO {scenes.table} (note) SELECT 'n' FROM generate_series(1, 1500)")
    scene.look()
    postgres.sql(f"INSERT INTO {scenes.table} (note) SELECT 'n' FROM generate_series(1, 1500)")
    scene.producer.error = BusUnavailableError("Kafka is away")
    with pytest.raises(BusUnavailableError):
        scene.look()
    assert len(scene.producer.flushed) == 1500
    scene.look()
    assert ids(scene.producer.flushed[-1500:]) == list(range(1501, 3001))


def test_a_row_without_a_watermark_is_never_read_and_that_is_said(scenes: Any, postgres: Postgres) -> None:
    scene = scenes()
    postgres.sql(f"INSERT INTO {scenes.table} (updated_at) VALUES (now()), (NULL), ('infinity')")
    with capture_logs() as logs:
        assert ids(scene.look()) == [1]
    assert "rows with null in their watermark or key are never read" in str(logs)


def test_a_row_that_is_no_event_and_one_that_kafka_refuses_are_kept_and_others_go_on(
    scenes: Any, postgres: Postgres
) -> None:
    class Short(Event):
        id: int
        note: str
        updated_at: datetime

    scene = scenes(stream=Stream("notes", Short, event_time="updated_at", key="id"))
    postgres.sql(f"INSERT INTO {scenes.table} (note) VALUES ('a'), (NULL), ('large'), ('refused'), ('b')")
    scene.producer.too_large = lambda event: event.note == "large"
    scene.producer.refused = lambda event: event.note == "refused"
    assert [event.note for event in scene.look()] == ["a", "b"]
    found = scene.rejected()
    assert [each["reason"].partition(" -")[0] for each in found] == [
        "Expected `str`, got `null`",
        "a message of 9 bytes cannot be produced: too large",
        "Kafka refuses them: too large for the topic",
    ]
    assert json.loads(found[0]["row"])["id"] == 2
    assert found[0]["at"].endswith(", 2")
