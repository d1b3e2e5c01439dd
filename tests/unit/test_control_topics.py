"""The control topics of a namespace: their names, and that everything takes its names from there."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from headrace import Settings, load_settings
from headrace.app.project.project import load_project
from headrace.app.project.settings import ProjectSettings
from headrace.bus.control_topics import EVENT_LOGS, LONGEST_NAMESPACE, REPLAYS, ControlTopics
from headrace.bus.topics import dead_letter_topic
from headrace.errors import DefinitionError, SettingsError
from headrace.event_log.event_log import EventLog
from headrace.models.predictions import predictions_of, vectors_of
from headrace.serving import ServerAddresses
from tests.support.source_tree import SourceFile, python_files

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = python_files("src/headrace")
ENDINGS = {name.removeprefix("headrace.") for name in (*ControlTopics().all, EVENT_LOGS, REPLAYS)}
NAMED = re.compile(rf"(?:^|\bheadrace)\.(?:{'|'.join(sorted(ENDINGS))})\b(?!\.\w|-\w)")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
NO_NAMESPACE = {"feast/offline.py": "it reads streams alone, and their tables have no namespace in their names"}


def test_the_default_namespace_has_the_names_of_always() -> None:
    assert sorted(ControlTopics().all) == [
        "headrace.control", "headrace.decisions", "headrace.definitions", "headrace.exclusions", "headrace.findings",
        "headrace.heartbeats", "headrace.model-acks", "headrace.models", "headrace.observations",
        "headrace.operator-requests", "headrace.predictions", "headrace.retrain-requests", "headrace.runs",
        "headrace.vectors",
    ]  # fmt: skip
    assert (vectors_of("headrace").topic, predictions_of("headrace").topic) == (
        "headrace.vectors",
        "headrace.predictions",
    )


def test_two_namespaces_have_no_topic_in_common() -> None:
    names = [ControlTopics(name).all for name in ("headrace", "shop", "shop.models", "shop-2")]
    assert len({name for each in names for name in each}) == sum(map(len, names))
    assert {name.startswith("shop.") for name in ControlTopics("shop").all} == {True}


@pytest.mark.parametrize("file", SOURCE, ids=repr)
def test_no_other_module_names_a_control_topic(file: SourceFile) -> None:
    if file.name == "bus/control_topics.py":
        return
    documents = {ast.get_docstring(each, clean=False) for each in ast.walk(file.tree) if isinstance(each, DOCUMENTED)}
    texts = {each.value for each in ast.walk(file.tree) if isinstance(each, ast.Constant)} - documents
    assert [text for text in texts if isinstance(text, str) and NAMED.search(text)] == []


@pytest.mark.parametrize("file", SOURCE, ids=repr)
def test_every_event_log_is_opened_for_a_namespace(file: SourceFile) -> None:
    calls = [
        each for each in ast.walk(file.tree) if isinstance(each, ast.Call) and ast.unparse(each.func) == "EventLog"
    ]
    lacking = [each.lineno for each in calls if "namespace" not in {keyword.arg for keyword in each.keywords}]
    assert lacking == [] or file.name in NO_NAMESPACE


@pytest.mark.parametrize("name", ["", "a shop", "läden", "-shop", ".shop", "shop\n", "a/b", "{shop}", "s" * 151])
def test_a_namespace_that_topics_cannot_begin_with_is_refused_by_name(name: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(repr(name))):
        ControlTopics(name)
    with pytest.raises(SettingsError, match="namespace"):
        ServerAddresses("k:1", "redis://r", name)
    with pytest.raises(SettingsError, match="namespace"):
        load_settings({"namespace": name})


def test_the_longest_namespace_has_topics_that_kafka_takes() -> None:
    name = "n" * LONGEST_NAMESPACE
    assert load_settings({"namespace": name}).topics == ControlTopics(name)
    assert max(len(dead_letter_topic(topic)) for topic in ControlTopics(name).all) <= 249


def test_a_stream_with_the_name_of_a_control_topic_is_refused(tmp_path: Path) -> None:
    module = "takes_a_control_topic"
    (tmp_path / f"{module}.py").write_text(
        "from datetime import datetime\nfrom headrace import Event, Stream\n"
        "class Run(Event):\n    at: datetime\nruns = Stream('shop.runs', Run, event_time='at')\n"
    )
    modules = ProjectSettings(streams=[module], features=[], trainers=[])
    assert list(load_project(Settings(root=tmp_path, project=modules)).streams) == ["shop.runs"]
    with pytest.raises(DefinitionError, match=r"'shop\.runs'.*namespace 'shop'"):
        load_project(Settings(root=tmp_path, project=modules, namespace="shop"))


def test_a_snapshot_has_the_namespace_of_its_log(tmp_path: Path) -> None:
    assert EventLog(tmp_path, namespace="shop").snapshot().snapshot().namespace == "shop"
