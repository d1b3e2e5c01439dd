"""docs/reference/exactly-once.md names a test for each rule: they are there, in the files that it says."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from headrace.streams.plane.partition import PartitionPhase
from headrace.streams.plane.plane_loop import PlaneLoop

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "reference" / "exactly-once.md").read_text()
RULES = PAGE.partition("## Invariants")[2].split("\n### ")[1:]
ROWS = [
    line for rule in RULES for line in rule.splitlines() if line.startswith("| ") and line != "| invariant | test |"
]


@pytest.mark.parametrize("row", ROWS)
def test_each_invariant_of_the_page_names_an_existing_test(row: str) -> None:
    found = re.search(r"`([a-z]+/test_\w+\.py)::(test_\w+)` \|$", row)
    assert found, row
    file, name = found.groups()
    assert f"\ndef {name}(" in (TESTS / file).read_text()


def test_every_rule_has_its_tests() -> None:
    titles = [rule.partition("\n")[0] for rule in RULES]
    assert titles == [
        "Identity",
        "Delta",
        "Redis layout and cursor",
        "Acquire",
        "Write",
        "Fold",
        "Catching up",
        "Expiry",
        "Nothing lost, nothing counted twice",
    ]
    assert all(rule.count("::test_") >= 3 for rule in RULES)


def test_the_page_and_the_loop_number_the_same_steps() -> None:
    listed = re.findall(r"^(\d+)\. \*\*([^*]+)\*\*: (.+)$", PAGE.partition("## One turn")[2], re.MULTILINE)
    commented = re.findall(r"# (\d+)\. ([^:\n]+): (.+)$", inspect.getsource(PlaneLoop.step), re.MULTILINE)
    assert [int(number) for number, _, _ in listed] == list(range(1, 9))
    assert listed == commented


def test_the_page_describes_each_phase_of_a_partition() -> None:
    table = PAGE.partition("## The phases of a partition")[2].partition("\n## ")[0]
    assert re.findall(r"^\| ([A-Z_]+) \|", table, re.MULTILINE) == [phase.name for phase in PartitionPhase]
