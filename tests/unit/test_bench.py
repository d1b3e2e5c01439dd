"""The benchmarks' own code: what they compare with has to be right."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import numpy as np
import pytest

from benchmarks import aggregates, formats, lookups, page, results, swap, training_sets
from benchmarks.definitions import Payment
from benchmarks.measuring import Run
from benchmarks.options import Options
from benchmarks.workload import START_US, Rows, Workload
from headrace.base.times import epoch_us
from headrace.features.definitions.aggregates import Aggregate

if TYPE_CHECKING:
    from pathlib import Path

SKEWED = Workload("t", 3_000, users=50, zipf=1.1, late=0.05, per_second=10)
HERE = {"cpu": "some", "cores": 2}


def test_the_records_say_what_the_columns_say() -> None:
    rows = SKEWED.rows
    decoded = [(key, msgspec.json.decode(value, type=Payment), stamp) for key, value, stamp in rows.records()]
    assert [key for key, _, _ in decoded] == [b"user-%d" % user for user in rows.users]
    assert [key.decode() for key, _, _ in decoded] == [payment.user_id for _, payment, _ in decoded]
    assert [epoch_us(payment.ts) for _, payment, _ in decoded] == rows.times_us.tolist()
    assert [payment.amount for _, payment, _ in decoded] == rows.amounts.tolist()
    assert [stamp for _, _, stamp in decoded] == (rows.stamps_us // 1_000).tolist()


def test_a_workload_is_the_same_each_time_and_skewed_and_late_as_asked() -> None:
    again = Workload("t", 3_000, users=50, zipf=1.1, late=0.05, per_second=10).rows
    assert all((getattr(SKEWED.rows, name) == getattr(again, name)).all() for name in Rows.__dataclass_fields__)
    assert np.bincount(again.users).argmax() == 0
    assert 0.03 < (again.times_us < again.stamps_us).mean() < 0.07
    assert again.times_us.max() <= SKEWED.end_us


def test_windows_are_counted_as_a_loop_counts_them() -> None:
    found = SKEWED.rows.window(SKEWED.users, SKEWED.end_us, 60_000_000, 10_000_000)
    amounts: dict[int, list[float]] = defaultdict(list)
    tiles = set()
    newest = SKEWED.end_us // 10_000_000
    for user, time, amount in zip(SKEWED.rows.users, SKEWED.rows.times_us, SKEWED.rows.amounts, strict=True):
        if newest - 6 < time // 10_000_000 <= newest:
            amounts[user].append(amount)
            tiles.add((user, time // 10_000_000))
    assert 0 < sum(map(len, amounts.values())) < SKEWED.events
    for user in range(SKEWED.users):
        assert found.counts[user] == len(amounts[user])
        assert found.sums[user] == pytest.approx(sum(amounts[user]))
        assert found.largest[user] == max(amounts[user], default=-np.inf)
    assert found.tiles == len(tiles)


def test_tiles_of_two_users_are_told_apart() -> None:
    times = np.full(2, START_US)
    assert Rows(np.array([0, 1]), times, times, np.ones(2)).window(2, START_US, 60_000_000, 10_000_000).tiles == 2


def test_sections_of_the_page_are_kept_until_the_machine_changes(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    results.record(path, HERE, "ingest", {"events": 1})
    results.record(path, HERE, "bytes", {"events": 2})
    assert {name: found["events"] for name, found in results.read(path)["sections"].items()} == {
        "ingest": 1,
        "bytes": 2,
    }
    results.record(path, HERE | {"cores": 4}, "bytes", {"events": 3})
    assert list(results.read(path)["sections"]) == ["bytes"]


def test_a_summary_has_the_median_and_all_runs() -> None:
    found = results.summary([Run(1.0, rate, {}) for rate in (30.0, 10.0, 20.0)])
    assert found["events_per_s"] == 20.0
    assert [run["events_per_s"] for run in found["runs"]] == [30.0, 10.0, 20.0]


def test_quantiles_are_in_milliseconds() -> None:
    assert results.quantiles([0.001, 0.002, 0.003]) == {"p50_ms": 2.0, "p99_ms": 2.98, "max_ms": 3.0}


def test_the_page_shows_what_was_measured_between_its_markers_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"before\n{page.BEGIN}\nold 123\n{page.END}\nafter\n")
    page.write(path, {"machine": MACHINE, "sections": {"bytes": BYTES, "backfill": BACKFILL, "ingest": INGEST}})
    text = path.read_text()
    assert re.match(r"before\n.*\nafter\n\Z", text, re.DOTALL)
    assert "old 123" not in text
    assert "| 200,000 | 1,500,000 | 900,000 | 900,000 · 800,000 |" in text
    assert "| fields, as stored | 50.0 | 2.0 |" in text
    assert "| uniform, 9 | ingest | 20 | 10 · 20 · 30 | 0.45 | 0.4 | 1.0 | 2.0 | 3.0 |" in text
    page.write(path, {"machine": MACHINE, "sections": {}})
    assert "fields, as stored" not in path.read_text()


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("mine")
    with pytest.raises(RuntimeError, match="lacks the markers"):
        page.write(path, {"machine": MACHINE, "sections": {}})
    assert path.read_text() == "mine"


MACHINE: dict[str, Any] = {
    **HERE, "memory_gb": 1, "system": "s", "python": "3", "kafka": "4", "headrace": "0", "packages": {"numpy": "2"},
}  # fmt: skip
CPU = {"worker": 1.0, "broker": 2.0, "redis": 3.0}
RUNS = results.summary([Run(9 / rate, rate, CPU, 0.4) for rate in (10.0, 20.0, 30.0)])
STAMP = {"at": "2026-01-01T00:00:00+00:00", "commit": "abc"}
INGEST = {
    **STAMP,
    "uniform": {"events": 9, "decode": RUNS, "ingest": RUNS, "ratio_to_decode": 1.0, "events_per_cpu_s": 9},
}
BACKFILL = {
    **STAMP, "events": 200_000, "events_per_s": 900_000, "events_per_cpu_s": 1_500_000,
    "runs": [{"events_per_s": 900_000}, {"events_per_s": 800_000}],
}  # fmt: skip
BYTES = {
    **STAMP, "entities": 10, "windows": 3, "tiles": 99, "dense_bytes_per_entity_window": 25.0,
    "field_bytes_per_entity_window": 50.0, "memory_bytes_per_entity_window": 75.0, "field_ratio": 2.0,
    "memory_ratio": 3.0,
}  # fmt: skip


def test_the_training_load_is_in_order_and_late_as_asked_and_its_page_shows_ratios() -> None:
    load = training_sets.Load(4_000, 400, users=20, late=0.2)
    rows = training_sets.events_of(load, 0, 4_000)
    for _, part in rows.group_by("__partition"):
        assert part["__offset"].to_list() == list(range(1_000))
        assert part["__available_at"].is_sorted()
    assert 0.17 * 4_000 < (rows["ts"] < rows["__available_at"]).sum() < 0.23 * 4_000
    assert training_sets.spine_of(load).height == 400
    assert len(load.service.columns()) == 10
    told = {
        **STAMP, "rows": 400, "events": 4_000, "features": 10, "peak_gb": 1.5, "ratio_to_feast": 25.0,
        "seconds": {"read": 0.1, "headrace": 0.4, "feast": 10.0}, "growth": {"late percent": {"1": 5, "20": 4}},
        "large": {"rows": 4_000, "events": 40_000, "seconds": 3.21, "peak_gb": 2.5},
    }  # fmt: skip
    text = page.render({"machine": MACHINE, "sections": {"training": told}})
    assert "| headrace | 0.40 | 4.0 |" in text
    assert "Feast's time to ours: **25.0**" in text
    assert "4,000 rows of 40,000 events, from file to file: 3.2 s, at most 2.5 GB" in text
    assert "benchmarks/training-late-percent.png" in text


def test_look_ups_are_reported_as_ratios_to_raw_reads_of_the_same_run() -> None:
    repeats = [
        {"raw": [0.001, 0.002, 0.003], "look_up": [0.003] * 3, "told": [0.004] * 3},
        {"raw": [0.004] * 3, "look_up": [0.005] * 3, "told": [0.006] * 3},
    ]
    found = lookups.summary(repeats)
    assert found == {
        "raw_p50_ms": 3.0, "look_up_p50_ms": 4.0, "told_p50_ms": 5.0, "ratio": 1.38, "ratios": [1.5, 1.25],
    }  # fmt: skip
    told = {**STAMP, "columns": 50, "bytes": 12_000, "rounds": 200, "shapes": {"1x5": found}}
    text = page.render({"machine": MACHINE, "sections": {"lookups": told}})
    assert "| 1 x 5 | 3.0 | 4.0 | 5.0 | 1.38 | 1.5 · 1.25 |" in text


def test_each_round_looks_up_other_entities_and_none_twice() -> None:
    first, second, *_ = lookups.drawn(100)
    assert first != second
    assert len({row["user_id"] for row in first}) == len({row["merchant"] for row in first}) == 100


def test_a_swap_counts_everything_but_the_fits_and_its_parts_are_the_whole() -> None:
    steps = {"training_set": 0.2, "fit": 3.0, "gate": 0.1, "refit": 2.0, "register": 0.25, "publish": 0.05}
    one = swap.Swap(sent=9.5, requested=10.0, published=15.75, swapped=16.0, steps=steps)
    assert one.beyond_fit == pytest.approx(1.0)
    assert sum(one.parts.values()) == pytest.approx(1.0)
    assert one.parts["application"] == pytest.approx(0.25)
    assert one.parts["rest"] == pytest.approx(0.15)
    told = swap.report([one] * 20) | {"at": "now", "commit": "c"}
    assert (told["runs"], told["p95_s"], told["parts"]["register"]["share"]) == (20, 1.0, 0.25)
    text = page.render({"machine": MACHINE, "sections": {"swap": told}})
    assert "| register | 0.25 | 0.25 | 25% |" in text


def test_each_aggregate_has_a_row_of_its_costs() -> None:
    no_rig: Any = None
    found = aggregates.run(no_rig, Options(events=200, repeat=1))
    table = page.PARTS["aggregates"](found)
    names = [line.split(" | ")[0].strip("| ") for line in table.splitlines() if line.startswith("| ")][2:]
    assert names == sorted(kind.__name__ for kind in get_args(Aggregate))
    assert all(each["row_ns"] > 0 < each["look_up_us"] and each["bytes"] > 0 for each in found["aggregates"].values())


def test_each_format_is_measured_against_its_own_decoder_and_has_a_row() -> None:
    no_rig: Any = None
    found = formats.run(no_rig, Options(events=50, repeat=1))
    table = page.PARTS["formats"](found)
    names = ["Json", "CloudEvents (binary)", "CloudEvents (structured)", "Debezium", "JsonSchema", "Avro", "Protobuf"]
    assert [line.split(" | ")[0].strip("| ") for line in table.splitlines()[2:9]] == names
    assert all(each["records_per_s"] > 0 < each["own_per_s"] for each in found["formats"].values())
