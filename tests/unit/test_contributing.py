"""CONTRIBUTING.md draws the layers of import-linter, and names files that exist."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.support.documents import ROOT, blocks

PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
SOURCE = ROOT / "src" / "headrace"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
MADE_UP = {
    "src/headrace/app/commands/topics.py",
    "tests/unit/test_topics_command.py",
    "src/headrace/features/online/<name>/",
    "src/headrace/trainers/triggers/silence.py",
}


def contracts() -> dict[str, list[str]]:
    """The layers of import-linter by the room that they divide; "" is the whole package."""
    return {
        contract.get("containers", ["headrace"])[0].removeprefix("headrace").strip("."): [
            layer.replace("headrace.", "") for layer in contract["layers"]
        ]
        for contract in CONTRACTS
    }


def drawn() -> dict[str, list[str]]:
    """The layers of the picture, by room."""
    picture = next(block.text for block in blocks("CONTRIBUTING.md", "text"))
    parts = [part.splitlines() for part in picture.strip().split("\n\n")]
    rooms = {part[0].split(":")[0].removeprefix("inside "): part for part in parts[1:]}
    return {
        "": parts[0],
        **{room: [line.rpartition(":")[2].strip() for line in lines] for room, lines in rooms.items()},
    }


def test_the_picture_of_the_house_shows_the_layers_of_import_linter() -> None:
    assert drawn() == contracts()


def test_every_room_has_a_line_with_a_file_to_start_at() -> None:
    rows = re.findall(r"^\| `([\w/]+)` \| .+ \| `([\w/.]+)` \|$", PAGE, re.MULTILINE)
    assert {start for _, start in rows if not (SOURCE / start).is_file()} == set()
    assert {room.partition("/")[0] for room, _ in rows} == {
        folder.name for folder in SOURCE.iterdir() if (folder / "__init__.py").is_file()
    }


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:src|tests|docs)/[\w/.<>-]+)`", PAGE)) - MADE_UP))
def test_a_file_that_a_recipe_names_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?!src/|tests/|docs/)\w+/[\w/]+\.py)`", PAGE))))
def test_a_file_that_a_table_names_exists(path: str) -> None:
    assert (SOURCE.parent / path).exists() or (SOURCE / path).exists()


def test_the_page_fits_on_a_screen() -> None:
    assert [line for line in PAGE.splitlines() if len(line) > 150] == []
