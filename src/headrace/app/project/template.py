"""Writes the projects of `headrace init`: the root folders of this repository, or one of `templates/`."""

from __future__ import annotations

from pathlib import Path

from headrace.errors import ProjectError

PARTS = ("headrace.toml", "streams", "features", "trainers")
FLIGHTS = "flights"
TEMPLATES = {
    FLIGHTS: "the project of the demo: flights, weather, and a model of delays",
    "minimal": "one stream, one view, one service",
    "payments": "card payments with refunds, and a model of fraud",
}
"""The templates, each with what it is."""


def template_folder() -> Path:
    """Return the folder of the flights project: in the installed package, or the root of a checkout."""
    package = _package()
    for folder in (package / "template", package.parents[1]):
        if all((folder / part).exists() for part in PARTS):
            return folder
    raise ProjectError(
        f"this installation of headrace has no template: neither in {package} nor in its checkout; reinstall it"
    )


def write_template(target: Path, name: str = FLIGHTS) -> list[Path]:
    """Copy a template into `target` and return the written files.

    Raises ProjectError, and writes nothing, if a file would be overwritten, or if there is no such template.
    """
    wanted = {path: target / copy for path, copy in _contents(name).items()}
    taken = [str(path) for path in wanted.values() if path.exists()]
    if taken:
        raise ProjectError(
            f"headrace init would overwrite {', '.join(taken)}; choose an empty folder or move them away"
        )
    for path, copy in wanted.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return list(wanted.values())


def _contents(name: str) -> dict[Path, Path]:
    """Return the files of a template, each with its place in the project."""
    if name not in TEMPLATES:
        raise ProjectError(f"there is no template {name!r}: there are {', '.join(TEMPLATES)}")
    own = _package() / "templates" / name
    own = own if own.is_dir() else _package().parents[1] / "templates" / name
    if not own.is_dir():
        raise ProjectError(f"this installation of headrace lacks the template {name!r}; reinstall it")
    found = {path: path.relative_to(own) for path in _files(own)}
    if name == FLIGHTS:
        shared = template_folder()
        found |= {path: path.relative_to(shared) for part in PARTS for path in _files(shared / part)}
    return found


def _package() -> Path:
    return Path(__file__).resolve().parents[2]


def _files(part: Path) -> list[Path]:
    if part.is_file():
        return [part]
    return sorted(path for path in part.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
