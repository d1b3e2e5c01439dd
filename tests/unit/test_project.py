from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from headrace.app.project.project import Project, load_project
from headrace.app.project.settings import ProjectSettings, Settings
from headrace.errors import DefinitionError, ProjectError

if TYPE_CHECKING:
    from pathlib import Path

ARRIVES = """
from datetime import datetime
from headrace import Event, Stream

class Ping(Event):
    user: str
    at: datetime
    value: float

pings = Stream("pings", Ping, event_time="at")
"""
REMEMBERED = """
from headrace import Count, Entity, FeatureService, FeatureView
from {name}.arrives import pings

user = Entity("user", str)
activity = FeatureView("activity", entity=user, source=pings, windows=["1h"], features={{"pings": Count()}})
service = FeatureService("all", [activity])
"""


def write(root: Path, files: dict[str, str]) -> Settings:
    """A project of one package with a name of its own, since modules stay imported."""
    name = f"project_{uuid.uuid4().hex[:8]}"
    folder = root / name
    folder.mkdir()
    for file, text in {"__init__.py": "", **files}.items():
        (folder / file).write_text(text.replace("{name}", name).replace("{{", "{").replace("}}", "}"))
    return Settings(root=root, project=ProjectSettings(streams=[name], features=[name], trainers=[]))


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))


def test_definitions_of_submodules_are_found_once_each(tmp_path: Path) -> None:
    project = load_project(write(tmp_path, {"arrives.py": ARRIVES, "remembered.py": REMEMBERED}))
    assert list(project.streams) == ["pings"]
    assert list(project.entities) == ["user"]
    assert list(project.views) == ["activity"]
    assert list(project.services) == ["all"]
    assert not project.models


def test_two_things_of_one_name_are_refused(tmp_path: Path) -> None:
    settings = write(tmp_path, {"arrives.py": ARRIVES, "again.py": ARRIVES})
    with pytest.raises(
        DefinitionError, match=r"arrives\.pings and .*again\.pings are two|again\.pings and .*arrives\.pings"
    ):
        load_project(settings)


def test_an_absent_module_is_named_with_the_folder(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, project=ProjectSettings(streams=["not_there_at_all"], features=[], trainers=[]))
    with pytest.raises(ProjectError, match=r"there is no headrace\.toml in .* and no module 'not_there_at_all'"):
        load_project(settings)
    (tmp_path / "headrace.toml").touch()
    with pytest.raises(ProjectError, match=r"names the module 'not_there_at_all', but .* has no not_there_at_all\.py"):
        load_project(settings)


def test_an_absent_dependency_is_told_apart_from_an_absent_module(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="absent_dependency"):
        load_project(write(tmp_path, {"arrives.py": "import absent_dependency\n"}))


def test_a_broken_module_says_what_it_raised(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"arrives does not import: ZeroDivisionError"):
        load_project(write(tmp_path, {"arrives.py": "1 / 0\n"}))


def test_a_wrong_definition_keeps_its_own_message(tmp_path: Path) -> None:
    wrong = ARRIVES.replace('event_time="at"', 'event_time="when"')
    with pytest.raises(DefinitionError, match="'when'"):
        load_project(write(tmp_path, {"arrives.py": wrong}))


def test_a_module_shadowed_by_another_of_its_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "__init__.py").write_text("")
    settings = Settings(root=tmp_path, project=ProjectSettings(streams=["json"], features=[], trainers=[]))
    with pytest.raises(ProjectError, match=r"is shadowed by .*json"):
        load_project(settings)


def test_an_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(ProjectError, match="no model 'delay'; it has none"):
        Project().model("delay")
