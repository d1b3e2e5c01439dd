"""A model by the hour: its first version comes within eight hours, and its answer to a change within six."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest

from tests.support import click_scene
from tests.support.click_scene import HOUR_US, STEP_US, ClickScene, hours
from tests.support.documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "how-to" / "hourly-models.md").read_text("utf-8")
WITHIN_US = STEP_US


@pytest.mark.slow
@pytest.mark.long
def test_a_model_by_the_hour_has_a_version_within_eight_hours_and_answers_a_change_within_six(tmp_path: Path) -> None:
    change_us = hours(8 + 25 / 60)
    scene = ClickScene(tmp_path, change_us)
    scene.play(change_us + 6 * HOUR_US)
    first, answer = scene.published()
    assert first.gate is not None
    assert (first.version, first.gate["blocks"]) == (1, 5)
    assert first.t_us <= hours(8)
    assert first.holdout == (first.t_us - WITHIN_US - 5 * HOUR_US, first.t_us - WITHIN_US)
    assert answer.gate is not None
    auc = answer.gate["metrics"]["auc"]
    assert (answer.version, auc["champion"] < 0.5, auc["gain_low"] > 0) == (2, True, True)


def test_the_page_shows_the_train_function_of_the_scene() -> None:
    assert inspect.getsource(click_scene.train) in PAGE
