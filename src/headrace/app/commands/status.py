"""`headrace status`: how a deployment does now, as its processes tell it."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import typer

from headrace.app.processes.connections import kafka_address
from headrace.app.terminal.options import BootstrapServers, DataDir, JsonOption, RedisUrl, settings_from
from headrace.app.terminal.tables import print_json, print_rows

if TYPE_CHECKING:
    from headrace.app.project.settings import Settings
    from headrace.app.snapshot.snapshot import Snapshot

_LONGEST_S = 3.0
_AFTER_S = 1.2
"""A worker reports each second, so by then each has done it twice: there are rates."""


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
    from headrace.app.snapshot.said_snapshot import said_sentences, said_tables

    rows = said_sentences(found)
    print_rows(tuple(rows[0]), rows)
    for name, table in said_tables(found).items():
        if table:
            typer.echo(f"\n{name}")
            print_rows(tuple(table[0]), table)
