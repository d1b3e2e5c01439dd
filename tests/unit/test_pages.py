"""Every page of docs/ begins with what the reader can do after it and with an example, and links to what exists."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "adr")
EVERY_PAGE = [*PAGES, *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "adr").glob("*.md"))]
EVERY_PAGE += ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_begins_with_what_the_reader_can_do_and_an_example(page: str) -> None:
    title, first, rest = (ROOT / page).read_text("utf-8").split("\n\n", 2)
    assert title.startswith("# ")
    assert re.match(r"After (reading )?this page you (can|know)\b", first), first
    assert re.search(r"^(```|> |An example\b)", rest.partition("\n## ")[0], re.MULTILINE)


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_the_links_of_a_page_lead_to_files(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / page).read_text("utf-8"))
    assert [link for link in links if "://" not in link and not ((ROOT / page).parent / link).exists()] == []


def test_the_classes_that_the_messages_page_links_to_exist() -> None:
    page = ROOT / "docs" / "reference" / "messages.md"
    linked = re.findall(r"\[(`[^]]+)\]\(([^)]+)\)", page.read_text("utf-8"))
    assert len(linked) > 10
    for names, file in linked:
        source = (page.parent / file).read_text("utf-8")
        assert [name for name in re.findall(r"`(\w+)`", names) if f"\nclass {name}(" not in source] == []


def test_every_decision_has_a_number_of_its_own() -> None:
    names = [path.name for path in sorted((ROOT / "docs" / "adr").glob("*.md"))]
    numbers = [name.partition("-")[0] for name in names]
    assert numbers == [f"{number:04}" for number in range(1, len(names) + 1)]
    titles = [(ROOT / "docs" / "adr" / name).read_text("utf-8").partition("\n")[0] for name in names]
    assert [title for title, number in zip(titles, numbers, strict=True) if f"# {int(number)}. " not in title] == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL), re.MULTILINE
    )
    plain = (re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_the_links_of_a_page_lead_to_headings(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]*\.md)?#([^)\s]+)\)", (ROOT / page).read_text("utf-8"))
    here = ROOT / page
    found = {(target, anchor): here.parent / target if target else here for target, anchor in links}
    assert [link for link, target in found.items() if "://" not in link[0] and link[1] not in anchors(target)] == []
