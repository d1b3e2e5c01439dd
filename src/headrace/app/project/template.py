"""Writes the projects of `headrace init`: the root folders of this repository, or one of `templates/`."""

from __future__ import annotations

from pathlib import Path

from headrace.errors import ProjectError

PARTS = ("headrace.toml", "streams", "features", "trainers")


def template_folder() -> Path:
    """Return the folder of the demo's definitions: in the installed package, or the root of a checkout."""
    package = _package()
    for folder in (package / "template", package.parents[1]):
        if all((folder / part).exists() for part in PARTS):
            return folder
    raise ProjectError(
        f"this installation of headrace has no template: neither in {package} nor in its checkout; reinstall it"
    )


def templates() -> dict[str, Path]:
    """Return the templates by name, each with its folder: that of the demo first."""
    package = _package()
    folder = next((each for each in (package / "templates", package.parents[1] / "templates") if each.is_dir()), None)
    found = [] if folder is None else sorted(each for each in folder.iterdir() if each.is_dir())
    return {each.name: each for each in sorted(found, key=_has_definitions)}


def write_template(target: Path, name: str | None = None) -> list[Path]:
    """Copy a template into `target` and return the written files. None: that of the demo.

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


def _contents(name: str | None) -> dict[Path, Path]:
    """Return the files of a template, each with its place in the project."""
    known = templates()
    if not known:
        raise ProjectError(f"this installation of headrace has no templates beside {_package()}; reinstall it")
    own = known.get(next(iter(known)) if name is None else name)
    if own is None:
        raise ProjectError(f"there is no template {name!r}: there are {', '.join(known)}")
    found = {path: path.relative_to(own) for path in _files(own)}
    if not _has_definitions(own):
        shared = template_folder()
        found |= {path: path.relative_to(shared) for part in PARTS for path in _files(shared / part)}
    return found


def _has_definitions(template: Path) -> bool:
    """Return False for the template of the demo: its definitions are those in :func:`template_folder`."""
    return (template / PARTS[0]).exists()


def _package() -> Path:
    return Path(__file__).resolve().parents[2]


def _files(part: Path) -> list[Path]:
    if part.is_file():
        return [part]
    return sorted(path for path in part.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
