"""The commands of a page, run one after the other, with what they print compared with the page."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.documents import ROOT, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HEADRACE = (sys.executable, "-m", "headrace")
ANYTHING = "…"
"""In a page: any text within a line; on a line of its own, any lines."""


@dataclass(frozen=True)
class Shown:
    """A command of a page, and what the page says that it prints."""

    command: str
    output: str


def shown(page: str) -> Iterator[Shown]:
    """The commands in the console blocks of a page, in order. A command goes on after a backslash."""
    for block in blocks(page, "console"):
        text = block.text.replace("\\\n", "")
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield Shown(command, output.rstrip())


def run(command: str, environment: Mapping[str, str]) -> str:
    """What `headrace …` prints, on both of its outputs."""
    name, *arguments = shlex.split(command)
    assert name == "headrace"
    done = subprocess.run(
        [*HEADRACE, *arguments],
        cwd=ROOT, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        timeout=240,
    )  # fmt: skip
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()).rstrip()


def is_as_shown(printed: str, output: str) -> bool:
    """Whether a command printed what its page says."""
    lines = [
        r"(?:.*\n)*?" if line.strip() == ANYTHING else ".*".join(map(re.escape, line.split(ANYTHING))) + r"\n"
        for line in output.splitlines()
    ]
    return re.fullmatch("".join(lines), printed + "\n" if printed else "") is not None


def difference(each: Shown, printed: str) -> str:
    """What a command printed, if that is not what its page says; else an empty text."""
    if is_as_shown(printed, each.output):
        return ""
    return f"\n$ {each.command}\nthe page says:\n{each.output}\nit printed:\n{printed}\n"
