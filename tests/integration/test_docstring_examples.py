"""The examples in docstrings run, and print what they show, on real Kafka and Valkey."""

from __future__ import annotations

import doctest
from contextlib import closing
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from headrace import load_project, load_settings
from headrace.event_log.event_log import EventLog
from headrace.models.predictions import vectors_of
from tests.support.documents import ROOT
from tests.support.reference_project import ReferenceProject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

SOURCES = ROOT / "src"
MODULES = sorted(
    ".".join(path.relative_to(SOURCES).with_suffix("").parts)
    for path in (SOURCES / "headrace").rglob("*.py")
    if ">>> " in path.read_text("utf-8")
)


class _Runner(doctest.DocTestRunner):
    """Runs examples while the worker's heart beats, however slow the machine is."""

    def __init__(self, project: ReferenceProject) -> None:
        super().__init__(verbose=False, optionflags=doctest.ELLIPSIS)
        self._project = project

    def report_start(self, out: Any, test: doctest.DocTest, example: doctest.Example) -> None:
        """Beat before each example."""
        self._project.beat()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose event log has the tables of all streams, and no rows."""
    folder = tmp_path_factory.mktemp("data")
    for stream in load_project(load_settings(folder=ROOT)).streams.values():
        EventLog(str(folder / "events")).create(stream)
    return folder


@pytest.fixture
def project(
    services: Any, namespace: str, monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> Iterator[ReferenceProject]:
    monkeypatch.setenv("HEADRACE_DATA_DIR", str(data_dir))
    EventLog(str(data_dir / "events")).create(vectors_of(namespace))
    with closing(ReferenceProject(services, namespace, monkeypatch)) as deployed:
        yield deployed


@pytest.mark.parametrize("module", MODULES)
def test_examples_print_their_output(module: str, project: ReferenceProject) -> None:
    runner, said, found = _Runner(project), list[str](), import_module(module)
    own = {name: value for name, value in vars(found).items() if getattr(value, "__module__", None) == module}
    for examples in doctest.DocTestFinder().find(found):
        examples.globs = {**own, "__name__": "example"}  # like a user's file: it imports everything else
        runner.run(examples, out=said.append)
    assert not said, "".join(said)
