"""The page for persons on call: each command prints what the page says, on the first 75 days of the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.console_page import difference, run, shown
from tests.support.demo_run import run_demo
from tests.support.on_call_scene import DAYS, on_call_scene

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = "docs/how-to/on-call.md"
pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(1_800),
    pytest.mark.long,
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of the commands, while the processes of the scene run."""
    folder = run_demo(tmp_path_factory.mktemp("on-call"), "--days", str(DAYS))
    with on_call_scene(folder / "data") as found:
        yield found


def test_each_command_of_the_page_for_persons_on_call_prints_what_it_says(environment: dict[str, str]) -> None:
    commands = list(shown(PAGE))
    assert len(commands) > 15
    wrong = [difference(each, run(each.command, environment)) for each in commands]
    assert "".join(wrong) == ""
