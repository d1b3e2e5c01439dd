"""docs/glossary.md gives each term one meaning, one picture and one example, and lists all terms in order."""

from __future__ import annotations

import re

from tests.support.documents import ROOT

PAGE = (ROOT / "docs" / "glossary.md").read_text("utf-8")
GROUPS, INDEX = PAGE.split("\n## All terms\n")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")] for line in GROUPS.splitlines() if line.startswith("| **")
]
TERMS = [row[0].strip("* ") for row in ROWS]
ANCHORS = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", GROUPS, re.MULTILINE)}


def test_every_bold_term_of_the_glossary_is_there_once() -> None:
    bold = [term.lower() for term in re.findall(r"\*\*(.+?)\*\*", PAGE)]
    assert len(bold) == len(TERMS) > 100
    assert sorted(set(bold)) == sorted(bold)


def test_every_term_of_the_glossary_has_a_meaning_a_picture_and_an_example() -> None:
    assert [row for row in ROWS if len(row) != 4 or not all(row)] == []


def test_the_list_of_all_terms_is_sorted_complete_and_links_to_groups() -> None:
    listed = re.findall(r"\[([^]]+)\]\(#([^)]+)\)", INDEX)
    names = [name for name, _ in listed]
    assert names == sorted(TERMS, key=str.lower)
    assert {anchor for _, anchor in listed} <= ANCHORS
