"""The wheel and the sdist as a user gets them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.contents import complaints

pytestmark = [pytest.mark.packaging, pytest.mark.slow]
ROOT = Path(__file__).parents[2]


def uv(*words: str, **environ: str) -> None:
    command = shutil.which("uv", path=str(Path(sys.executable).parent))
    assert command is not None, "uv is part of the development group"
    subprocess.run([command, *words], check=True, cwd=ROOT, env=os.environ | environ)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(folder))
    return folder


@pytest.fixture(scope="module")
def application(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an application that installed the wheel with no extra."""
    folder = tmp_path_factory.mktemp("application")
    python = folder / "bin" / "python"
    uv("venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
    (wheel,) = dist.glob("*.whl")
    constraints = tmp_path_factory.mktemp("constraints") / "requirements.constraints"
    constraints.write_text(_without_hashes((ROOT / "requirements.lock").read_text()))
    uv("pip", "install", "--quiet", "--constraint", str(constraints), str(wheel), VIRTUAL_ENV=str(folder))
    return python


def _without_hashes(lock: str) -> str:
    lines = (line.rstrip(" \\") for line in lock.splitlines() if line[:1].isalnum())
    return "\n".join(lines)


def ask(python: Path, code: str, cwd: Path) -> str:
    done = subprocess.run([python, "-W", "error", "-c", code], capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_wheel_and_sdist_contain_what_they_must(dist: Path) -> None:
    assert complaints(dist) == []


def test_an_application_installs_neither_feast_nor_mlflow_nor_faust(application: Path, tmp_path: Path) -> None:
    code = "from importlib.util import find_spec as f; print([n for n in ('feast','mlflow','faust','sklearn') if f(n)])"
    assert ask(application, code, tmp_path) == "[]"


def test_the_core_imports_and_a_missing_extra_is_named(application: Path, tmp_path: Path) -> None:
    code = """
import headrace
headrace.Event, headrace.Stream, headrace.Settings, headrace.load_project
try:
    with headrace.LocalServices("data"):
        pass
except headrace.MissingExtraError as error:
    print(error)
"""
    assert 'pip install "headrace[local]"' in ask(application, code, tmp_path)


def test_the_cli_of_a_plain_install_writes_the_template(application: Path, tmp_path: Path) -> None:
    headrace = application.with_name("headrace")
    subprocess.run([headrace, "init", "new"], check=True, cwd=tmp_path, capture_output=True)
    assert (tmp_path / "new" / "headrace.toml").is_file()
    assert (tmp_path / "new" / "streams" / "__init__.py").is_file()
    subprocess.run([headrace, "config", "--explain"], check=True, cwd=tmp_path / "new", capture_output=True)
