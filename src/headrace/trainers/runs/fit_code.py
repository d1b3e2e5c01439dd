"""What a fit ran on: the project's code, its git commit, and every installed package that was imported."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.base.fork_server import is_fork_server
from headrace.models.manifest import GitState
from headrace.trainers.runs.project_code import TrainingCode, training_code

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.trainers.train_function import TrainFunction

_PATIENCE_S = 20.0


@dataclass(frozen=True)
class FitCode:
    """What a fit ran on. ``packages`` maps the distributions that were imported to their versions."""

    code: TrainingCode
    packages: dict[str, str] = field(default_factory=dict)
    git: GitState | None = None


def fit_code(train: TrainFunction) -> FitCode:
    """Return what a fit in this process ran on. Call it after the fit: then everything is imported."""
    code = training_code(train)
    files = (getattr(sys.modules.get(name), "__file__", None) for name in code.modules)
    folder = next((Path(file).parent for file in files if file), None)
    return FitCode(code, imported_packages(sys.modules), None if folder is None else git_state(folder))


def imported_packages(modules: Iterable[str]) -> dict[str, str]:
    """Return the version of every installed distribution that has one of these modules."""
    installed = _installed(tuple(map(_changed_ns, sys.path)))
    tops = {name.partition(".")[0] for name in modules}
    return dict(sorted(item for top in tops for item in installed.get(top, {}).items()))


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


@cache
def _installed(_: tuple[int, ...]) -> dict[str, dict[str, str]]:
    """Return the distributions with their versions by top module. It takes a second, so once for each installation."""
    found = packages_distributions()
    versions = {name: installed_version(name) for names in found.values() for name in names}
    return {top: {name: known for name in names if (known := versions[name])} for top, names in found.items()}


def _changed_ns(folder: str) -> int:
    """Return when something was last installed in a folder, 0 if it is none."""
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


def git_state(folder: Path) -> GitState | None:
    """Return the commit of the repository that holds ``folder``, or None if there is none, or no git."""
    try:
        commit = _git(folder, "rev-parse", "HEAD").decode().strip()
        changed = _git(folder, "diff", "HEAD", "--binary")
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return GitState(commit=commit, diff="sha256:" + hashlib.sha256(changed).hexdigest() if changed else None)


def _git(folder: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(folder), *arguments]
    calm = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    done = subprocess.run(  # noqa: S603 - git of the machine, on the project's own repository
        command, check=True, timeout=_PATIENCE_S, capture_output=True, stdin=subprocess.DEVNULL, env=calm
    )
    return done.stdout


if is_fork_server():
    imported_packages(())  # the fits that are forked from it need not look the installed packages up
