"""`headrace status`: how a deployment does now, as its processes tell it."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import typer

from headrace.app.processes.connections import kafka_address
from headrace.app.terminal.options import BootstrapServers, DataDir, JsonOption, RedisUrl, settings_from
from headrace.app.terminal.tables import harmless, print_json, print_rows
from headrace.base.times import SECOND

if TYPE_CHECKING:
    from headrace.app.project.settings import Settings
    from headrace.app.snapshot.snapshot import NowSentence, Snapshot

_LONGEST_S = 3.0
_AFTER_S = 1.2
"""A worker reports each second, so by then each has done it twice: there are rates."""
_SIGNS = {"ok": "ok", "warning": "look", "error": "act", "unknown": "?"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(
    *,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show how the deployment does now: complete, fresh, learning, applied; then partitions, views, models.

    It listens to what the processes tell on Kafka for at most three seconds. Each number has its age. What nobody has
    told is `-`, and null in JSON: never 0.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    found = _read(settings)
    if json:
        print_json(found)
    else:
        print_status(found)


def _read(settings: Settings) -> Snapshot:
    from headrace.app.project.project import load_project
    from headrace.app.snapshot.control_topic_reader import ControlTopicReader
    from headrace.app.snapshot.snapshot_fold import SnapshotFold
    from headrace.base.times import wall_clock

    project = load_project(settings)
    fold = SnapshotFold(settings.topics, settings.signing, sorted(project.models), begun_us=wall_clock())
    with closing(
        ControlTopicReader(kafka_address(settings), settings.topics, fold, sorted(project.streams), wall_clock)
    ) as reader:
        begun_s = time.monotonic()
        heard_s: float | None = None
        while time.monotonic() - begun_s < _LONGEST_S:
            reader.poll(0.2)
            if heard_s is None and fold.is_heard():
                heard_s = time.monotonic()
            if heard_s is not None and reader.is_at_end() and time.monotonic() - heard_s > _AFTER_S:
                break
    return fold.snapshot(wall_clock())


def print_status(found: Snapshot) -> None:
    """Print a snapshot: the four sentences, and a table of each part that is known."""
    now = found.now
    sentences = {"complete": now.complete, "fresh": now.fresh, "learning": now.learning, "applied": now.applied}
    print_rows(
        ("now", "mark", "told", "what"), [_sentence(name, each, found.at_us) for name, each in sentences.items()]
    )
    for name, table in _tables(found).items():
        if table:
            typer.echo(f"\n{name}")
            print_rows(tuple(table[0]), table)


def _sentence(name: str, each: NowSentence, at_us: int) -> dict[str, Any]:
    from headrace.base.times import said_minute

    since = "" if each.since_us is None else f", since {said_minute(each.since_us)}"
    told = _age(each.told_us, at_us)
    return {"now": name, "mark": _SIGNS[each.mark], "told": told, "what": harmless(each.said + since)}


def _age(told_us: int | None, at_us: int) -> str | None:
    return None if told_us is None else f"{max(0, at_us - told_us) / SECOND:.0f} s ago"


def _tables(found: Snapshot) -> dict[str, list[dict[str, Any]]]:
    def age(at_us: int | None) -> str | None:
        return _age(at_us, found.at_us)

    return {
        "partitions": [
            {
                "topic": each.topic, "partition": each.partition, "a second": each.rate, "lag": each.lag,
                "not in the log": each.unlogged, "rejected": each.rejected, "worker": each.worker,
                "told": age(each.observed_us), "stopped": each.stopped,
            }
            for each in found.partitions
        ],
        "views": [
            {
                "view": each.view, "a second": each.rate, "behind": each.behind, "clock": age(each.clock_us),
                "entities": each.entities, "told": age(each.observed_us),
            }
            for each in found.views
        ],
        "models": [
            {
                "model": each.model, "version": each.version, "live since": age(each.since_us), "rule": each.held,
                "progress": None if each.progress is None else f"{each.progress:.0%}", "told": age(each.decided_us),
                "reason": each.reason,
            }
            for each in found.models
        ],
        "applications": [
            {
                "application": each.application, "model": each.model, "version": each.version, "live": each.live,
                "a second": each.rate, "told": age(each.observed_us), "acknowledged": age(each.acknowledged_us),
                "error": each.error,
            }
            for each in found.applications
        ],
    }  # fmt: skip
