"""The README's program is a program."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import headrace
from headrace.features.definitions.windows import WindowSpec
from headrace.serving import Predicted
from streams import arrivals, scheduled
from tests.support.documents import ROOT, blocks
from trainers.delay import train

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = [block.text for block in blocks("README.md", "python")]


def test_the_definitions_in_the_readme_compile_to_specs() -> None:
    names = ("Event", "Stream", "Entity", "FeatureView", "FeatureService", "Count", "Mean", "Model", "Label", "Gate")
    rules = ("any_of", "volume", "drift", "performance", "col")
    world: dict[str, Any] = {name: getattr(headrace, name) for name in (*names, *rules)}
    world |= {"scheduled": scheduled, "arrivals": arrivals, "train": train}
    program = "from datetime import datetime\n" + BLOCKS[0]
    exec(compile(program, "README.md", "exec", dont_inherit=True), world)
    assert world["delay"].features.columns()[:2] == ["airport__departures_1h", "airport__departures_6h"]
    assert world["airport"].spec.windows[2] == WindowSpec(name="1d", length_us=86_400_000_000, tile_us=1_800_000_000)


def test_the_application_in_the_readme_names_what_there_is() -> None:
    assert any('hr.predictor("delay")' in block for block in BLOCKS[1:])
    assert callable(headrace.Predictor.predict)
    assert {"value", "version", "statuses"} <= {field.name for field in fields(Predicted)}


def test_the_commands_in_the_readme_exist() -> None:
    from headrace.app.cli import build

    known = {command.name or command.callback.__name__ for command in build().registered_commands if command.callback}
    shown = set(re.findall(r"^\$ headrace (\w+)", README, re.MULTILINE))
    assert shown
    assert shown <= known
