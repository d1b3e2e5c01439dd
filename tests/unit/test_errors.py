from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import headrace
from headrace import errors
from headrace.errors import HeadraceError, MissingExtraError, TerminalError, TransientError, require

if TYPE_CHECKING:
    from pathlib import Path


def every_error() -> set[type[HeadraceError]]:
    return {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, HeadraceError)}


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = set(re.findall(r"\b\w+Error\b", (errors.__doc__ or "").partition("A message")[0])) - {"ImportError"}
    assert drawn == {error.__name__ for error in every_error()}


def test_every_error_is_terminal_or_transient() -> None:
    for error in every_error() - {HeadraceError}:
        assert issubclass(error, TerminalError) != issubclass(error, TransientError), error


def test_a_missing_extra_names_the_pip_command() -> None:
    with pytest.raises(MissingExtraError, match=r'pip install "headrace\[worker\]"'):
        require("no_such_package_of_ours", "worker")


def test_a_broken_package_is_no_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package_of_ours.py").write_text("import another_one_that_is_absent\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="another_one") as caught:
        require("broken_package_of_ours", "worker")
    assert not isinstance(caught.value, MissingExtraError)


@pytest.mark.parametrize("name", headrace.__all__)
def test_public_names_exist(name: str) -> None:
    assert getattr(headrace, name) is getattr(headrace, name)
    assert name in dir(headrace)


def test_an_unknown_name_lists_the_public_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'; it has A\w+, "):
        _ = headrace.nothing  # type: ignore[attr-defined]


def test_importing_headrace_imports_nothing_heavy() -> None:
    code = "import sys, headrace; print(sorted(m for m in sys.modules if m.split('.')[0] in sys.argv[1:]))"
    heavy = [
        "numpy",
        "pandas",
        "polars",
        "pyarrow",
        "deltalake",
        "sklearn",
        "mlflow",
        "feast",
        "faust",
        "confluent_kafka",
    ]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
