"""Writes the project of `headrace init`: the three root folders and headrace.toml, which the wheel contains."""

from __future__ import annotations

from pathlib import Path

from headrace.errors import ProjectError

PARTS = ("headrace.toml", "streams", "features", "trainers")


def template_folder() -> Path:
    """Return the folder of the template: in the installed package, or the root of a checkout."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "template", package.parents[1]):
        if all((folder / part).exists() for part in PARTS):
            return folder
    raise ProjectError(
        f"this installation of headrace has no template: neither in {package} nor in its checkout; reinstall it"
    )


def write_template(target: Path) -> list[Path]:
    """Copy the template into `target` and return the written files.

    Raises ProjectError, and writes nothing, if a file would be overwritten.
    """
    source = template_folder()
    files = [path for part in PARTS for path in _files(source / part)]
    wanted = {path: target / path.relative_to(source) for path in files}
    taken = [str(path) for path in wanted.values() if path.exists()]
    if taken:
        raise ProjectError(
            f"headrace init would overwrite {', '.join(taken)}; choose an empty folder or move them away"
        )
    for path, copy in wanted.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return list(wanted.values())


def _files(part: Path) -> list[Path]:
    if part.is_file():
        return [part]
    return sorted(path for path in part.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
