"""Texts from the bus cannot control the terminal of the person who reads them."""

from __future__ import annotations

import pytest

from headrace.app.terminal.tables import harmless, print_rows


@pytest.mark.parametrize("control", ["\x1b[2J", "\x9b2J", "\u202e", "\a", "\r", "\x00"])
def test_a_character_that_controls_a_terminal_is_printed_as_an_escape(
    control: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_rows(["reason"], [{"reason": f"worse {control} than before"}])
    printed = capsys.readouterr().out
    assert control[0] not in printed
    assert ascii(control[0])[1:-1] in printed


def test_letters_of_all_languages_and_lines_stay_what_they_are() -> None:
    text = "größer → 大\n\tnext"
    assert harmless(text) == text
