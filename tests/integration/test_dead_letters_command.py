"""`headrace dead-letters` on real Kafka: what a worker rejected is listed, shown, and sent again once."""

from __future__ import annotations

import json
import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.app.project.project import load_project
from headrace.app.project.settings_sources import load_settings
from headrace.bus.kafka_clients import admin
from headrace.bus.topics import TopicPlan, dead_letter_topic, ensure_topics, retained_offsets
from headrace.errors import FencedError, SettingsError, TerminalError
from headrace.event_log.event_log import EventLog
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.streams.dead_letters.dead_letter import find_letters
from headrace.streams.dead_letters.replay import REPLAY_OF, DeadLetterReplayer, replay_times
from headrace.streams.plane.data_plane import DataPlane
from headrace.streams.plane.followed_views import FixedViews
from headrace.streams.plane.plane_config import PlaneConfig
from tests.support.control_topics import OBSERVATIONS
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    from headrace.app.local.services import LocalServices
    from headrace.bus.stream import Stream
    from headrace.streams.dead_letters.dead_letter import DeadLetter

pytestmark = pytest.mark.integration
run = CliRunner()
STREAM = """
from datetime import datetime
from headrace.bus.event import Event
from headrace.bus.stream import Stream
class Ping(Event):
    at: datetime
    size: {size}
pings = Stream("{topic}", Ping, event_time="at")
"""
FIXED = "int | None = None"
GOOD, SIZELESS, BROKEN = b'{"at":"2020-01-01T00:00:00Z","size":1}', b'{"at":"2020-01-01T00:00:00Z"}', b"\xff\x00"
SENT = [(0, b"a", GOOD), (0, b"b", SIZELESS), (1, b"c", SIZELESS), (1, None, BROKEN), (1, b"d", GOOD)]
FIRST_MS = 1_577_836_800_000


@dataclass
class Post:
    """A project in a folder of its own, a topic of two partitions, and a worker when it is asked for."""

    services: LocalServices
    topic: str
    folder: Path
    config: dict[str, str]

    def define(self, size: str) -> None:
        """Write the project; a module of its own each time, as the last one is imported already."""
        module = f"m{uuid.uuid4().hex}"
        (self.folder / "headrace.toml").write_text(f'[project]\nstreams = ["{module}"]\n')
        (self.folder / f"{module}.py").write_text(STREAM.format(topic=self.topic, size=size))

    @property
    def stream(self) -> Stream:
        return load_project(load_settings({})).streams[self.topic]

    @property
    def log(self) -> EventLog:
        return EventLog(self.folder / ".headrace" / "events")

    def make(self) -> None:
        plans = [
            TopicPlan(self.topic, 2, self.config),
            TopicPlan(dead_letter_topic(self.topic)),
            TopicPlan(OBSERVATIONS),
        ]
        ensure_topics(self.services.bootstrap_servers, plans)
        producer = Producer({"bootstrap.servers": self.services.bootstrap_servers})
        for number, (partition, key, value) in enumerate(SENT):
            producer.produce(
                self.topic,
                value,
                key,
                partition,
                timestamp=FIRST_MS + number,
                headers=[("trace", b"t"), ("none", None)],
            )
        assert producer.flush(10) == 0

    def work(self, rows: int) -> None:
        """Run a worker until the log has that many rows."""
        store = RedisOnlineStore(self.services.redis_url, self.topic)
        plane = DataPlane(
            PlaneConfig(self.services.bootstrap_servers, group=uuid.uuid4().hex, flush_s=0.05),
            [self.stream],
            FixedViews([]),
            store,
            self.log,
        )
        thread = threading.Thread(target=plane.run)
        thread.start()
        try:
            until(lambda: self.log.exists(self.topic) and self.log.read(self.topic).height >= rows, 20)
        finally:
            plane.stop()
            thread.join(20)
            store.close()
        assert self.log.read(self.topic).height == rows

    def records(self) -> list[tuple[int, bytes | None, bytes | None, int, dict[str, Any]]]:
        """What the topic has beyond :data:`SENT`, as a worker reads it."""
        consumer = Consumer(
            {"bootstrap.servers": self.services.bootstrap_servers, "group.id": "x", "enable.partition.eof": False}
        )
        consumer.assign([TopicPartition(self.topic, 0, 2), TopicPartition(self.topic, 1, 3)])
        found = [message for message in consumer.consume(1_000, 2.0) if message.error() is None]
        consumer.close()
        headers: list[Any] = [message.headers() or [] for message in found]
        rows = [
            (m.partition() or 0, m.key(), m.value(), m.timestamp()[1], dict(own))
            for m, own in zip(found, headers, strict=True)
        ]
        return sorted(rows, key=lambda row: (row[0], row[3]))


@pytest.fixture(params=["CreateTime", "LogAppendTime"])
def post(
    request: pytest.FixtureRequest,
    services: LocalServices,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Post:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_BOOTSTRAP_SERVERS", services.bootstrap_servers)
    monkeypatch.setenv("HEADRACE_REDIS_URL", services.redis_url)
    config = {"retention.ms": "-1", "message.timestamp.type": request.param}
    made = Post(services, f"{namespace}.pings", tmp_path, config)
    made.define("int")
    made.make()
    made.work(len(SENT))
    return made


def call(*words: str, answer: str | None = None) -> Result:
    return run.invoke(build(), ["dead-letters", *words], input=answer)


def told(*words: str) -> Any:
    return json.loads(call(*words, "--json").stdout)


def test_letters_are_listed_and_shown(post: Post) -> None:
    rows = told("list")
    assert {(row["topic"], row["id"].partition("-")[2], row["reason"]) for row in rows} == {
        (post.topic, place, "decode") for place in ("0-1", "1-0", "1-1")
    }
    assert [row["when"] for row in rows] == sorted((row["when"] for row in rows), reverse=True)
    assert all(row["replayed"] is None and row["error"] for row in rows)
    assert told("list", "--limit", "1") == rows[:1]
    assert told("list", "--reason", "future") == []
    assert "1-1" in call("list", "--stream", post.topic).stdout

    (sizeless,) = (row for row in rows if row["id"].endswith("-1-0"))
    assert told("show", "1-0") == sizeless | {
        "key": "c", "value": {"at": "2020-01-01T00:00:00Z"}, "headers": [["trace", "t"], ["none", None]],
    }  # fmt: skip
    assert told("show", "1-1")["value"] == "ff 00"
    assert '"at": "2020-01-01T00:00:00Z"' in call("show", sizeless["id"]).stdout

    assert isinstance(call("list", "--stream", "no.such").exception, SettingsError)
    assert isinstance(call("show", "7-7").exception, TerminalError)
    ambiguous = call("show", "1").exception
    assert isinstance(ambiguous, TerminalError)
    assert "end of several ids" in str(ambiguous)


def test_after_a_fix_each_letter_is_sent_again_once(post: Post) -> None:
    post.define(FIXED)
    refused = call("replay", answer="n\n")
    assert (refused.exit_code, "send 3 records" in refused.stderr, post.records()) == (1, True, [])

    done = call("replay", "--yes", "--json")
    assert done.exit_code == 1
    (broken,) = json.loads(done.stdout)["rejected_still"]
    assert broken["id"].endswith("-1-1")
    assert json.loads(done.stdout) | {"rejected_still": []} == {"sent": 2, "sent_before": 0, "rejected_still": []}
    ids = {row["id"].partition("-")[2]: row["id"] for row in told("list")}
    again = [record for record in post.records() if REPLAY_OF in record[4]]
    assert [(*record[:3], record[4]) for record in again] == [
        (0, b"b", SIZELESS, {REPLAY_OF: ids["0-1"].encode()}),
        (1, b"c", SIZELESS, {REPLAY_OF: ids["1-0"].encode()}),
    ]
    if post.config["message.timestamp.type"] == "CreateTime":  # a clock that stands in 2020 is not moved
        assert [record[3] for record in again] == [FIRST_MS + 1, FIRST_MS + 2]

    assert told("replay", "1-0", "0-1", "--yes") == {"sent": 0, "sent_before": 2, "rejected_still": []}
    assert sorted(row["replayed"] is None for row in told("list")) == [False, False, True]
    post.work(len(SENT) + 2)
    rows = post.log.read(post.topic)
    assert rows.filter(rows["__verdict"] == "accepted").get_column("__offset").to_list() == [0, 2, 2, 3]
    end = retained_offsets(admin(post.services.bootstrap_servers), post.topic, 0).ends
    assert end == 4  # two records, the replay, and the end of its transaction, which is no record
    assert told("list", "--reason", "decode") == told("list")


def test_a_replay_that_another_overtakes_sends_nothing_more(post: Post) -> None:
    post.define(FIXED)
    letters = find_letters(post.log, [post.topic])
    of = (post.services.bootstrap_servers, post.log, {post.topic: post.stream})
    sleeper = DeadLetterReplayer(*of)
    sent: list[DeadLetter] = []
    with pytest.raises(FencedError, match="run it again"):
        overtaken(sleeper, post.topic, lambda: sent.extend(sent_of(DeadLetterReplayer(*of), letters)))
    assert len(sent) == 2
    assert {record[4].get(REPLAY_OF) for record in post.records()} == {each.id.encode() for each in sent}
    assert replay_times(of[0]).keys() >= {each.id for each in sent}
    (late,) = DeadLetterReplayer(*of).replay([each for each in letters if each in sent][:1])
    assert (late.sent, len(late.earlier)) == ([], 1)


def overtaken(sleeper: DeadLetterReplayer, topic: str, meanwhile: Callable[[], None]) -> None:
    """A replay that sleeps between sending and committing."""
    with sleeper._transaction():
        sleeper._producer.produce(topic, SIZELESS, b"b", 0, headers=[(REPLAY_OF, b"of one who sleeps")])
        assert sleeper._producer.flush(10) == 0
        meanwhile()


def sent_of(replayer: DeadLetterReplayer, letters: list[DeadLetter]) -> list[DeadLetter]:
    return [letter for piece in replayer.replay(letters) for letter in piece.sent]
