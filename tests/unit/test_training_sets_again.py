"""Training sets are made once more from their manifest, whose bytes are public."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import pytest

import headrace
from headrace import FeatureService
from headrace.base.times import utc_datetime
from headrace.errors import NewerFormatError, TerminalError
from headrace.event_log.maintenance import CompactionSizes, compact
from headrace.models import training_manifest
from headrace.models.manifest import StreamPin
from headrace.models.training_manifest import TrainingManifest
from headrace.trainers.data import rebuilt_rows
from tests.support.control_topics import VECTORS
from tests.support.orders_model import (
    DAYS,
    Order,
    Return,
    Shop,
    day,
    model,
    orders,
    returns,
    write,
)
from tests.support.training_set_scene import SERVICE, made, settings_of, spine_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.mark.slow
def test_a_training_set_is_rebuilt_identically_after_new_rows_and_compaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path)
    shop.serve(1)
    spine = spine_of(40).with_columns(order_id=pl.int_range(40, dtype=pl.Int64))
    given, own = made(shop, model, spine), made(shop, model)
    kept = given.to_parquet(tmp_path / "given.parquet"), own.to_parquet(tmp_path / "own.parquet")
    last_us = int(shop.orders[-1].ordered_at.timestamp() * 1e6)
    late = [Order(10**6 + n, f"shop-{n % 5}", 1.0, utc_datetime(last_us + n)) for n in range(50)]
    write(shop.log, orders, late)
    write(
        shop.log, returns, [Return(order.order_id, back=True, known_at=utc_datetime(day(DAYS) + 1)) for order in late]
    )
    for topic in ("orders", "returns", VECTORS.topic):
        list(compact(shop.log, topic, 1, CompactionSizes(least_files=2)))
        shop.log.table(topic).vacuum(0, dry_run=False, enforce_retention_duration=False)
    project = type("P", (), {"model": staticmethod(lambda _: model), "services": {SERVICE.name: SERVICE}})
    monkeypatch.setattr("headrace.app.training_sets.load_project", lambda _: project)
    again = [headrace.rebuild(tmp_path / name, settings=settings_of(shop)) for name in ("given.parquet", "own.parquet")]
    assert [one.manifest for one in again] == list(kept)
    assert headrace.rebuild(kept[0], spine, settings=settings_of(shop)).manifest == kept[0]
    now = [made(shop, model, spine).manifest, made(shop, model).manifest]
    assert all(one.content_hash != before.content_hash for one, before in zip(now, kept, strict=True))
    with pytest.raises(
        TerminalError, match=r"this is not the same spine: its hash is sha256:.*; the training set was made for sha256:"
    ):
        headrace.rebuild(kept[0], spine[::-1], settings=settings_of(shop))
    with pytest.raises(TerminalError, match="was made for a spine of 40 rows: pass that spine"):
        headrace.rebuild(kept[0], settings=settings_of(shop))


def test_other_definitions_are_refused(shop: Shop) -> None:
    told = made(shop, SERVICE, spine_of(3)).manifest
    other = FeatureService(SERVICE.name, [replace(SERVICE.views[0], windows=["2d"])])
    with pytest.raises(
        TerminalError, match=r"has changed since the manifest was written, in its views \['shop'\]: use the code"
    ):
        rebuilt_rows.rows_of_manifest(told, other, str(shop.folder / "log"))


GOLDEN = (
    b'{"format":1,"of":"service","name":"risk","service":"s","spec_hashes":{"v":"h"},'
    b'"streams":[{"topic":"sales","topic_id":"aa","offsets":{"aa-0":7}}],"rows_from":"spine",'
    b'"row_order":["as given"],"rows":2,"content_hash":"sha256:1","columns":["k","f"],"feature_columns":["f"],'
    b'"time":"at","as_of_us":3,"label":null,"label_column":null,"spine_columns":["k"],"spine_hash":"sha256:2",'
    b'"excluded":[],"libraries":{}}'
)


def test_the_manifest_of_a_training_set_has_these_bytes() -> None:
    kept = TrainingManifest(
        of="service", name="risk", service="s", spec_hashes={"v": "h"},
        streams=[StreamPin(topic="sales", topic_id="aa", offsets={"aa-0": 7})],
        rows_from="spine", row_order=["as given"], rows=2, content_hash="sha256:1", columns=["k", "f"],
        feature_columns=["f"], time="at", as_of_us=3, spine_columns=["k"], spine_hash="sha256:2",
    )  # fmt: skip
    assert training_manifest.encode(kept) == GOLDEN
    assert training_manifest.decode(GOLDEN) == kept
    with pytest.raises(NewerFormatError):
        training_manifest.decode(GOLDEN.replace(b'"format":1', b'"format":2'))
