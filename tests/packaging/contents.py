"""What the wheel and the sdist must contain, and what must never be in them.

usage: python tests/packaging/contents.py DIST_FOLDER
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

ROOMS = ("bus", "features", "models", "streams", "trainers", "serving", "feast", "app", "app/commands", "app/local")
WHEEL = {
    "headrace/__init__.py",
    "headrace/errors.py",
    "headrace/py.typed",
    "headrace/app/local/guard.py",
    *(f"headrace/{room}/__init__.py" for room in ROOMS),
    *(f"headrace/template/{part}/__init__.py" for part in ("streams", "features", "trainers")),
    "headrace/template/headrace.toml",
    *(f"headrace/templates/{name}/tests/test_features.py" for name in ("flights", "minimal", "payments")),
}
SDIST = {
    *("LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml", "requirements.lock"),
    *("headrace.toml", "docker-compose.yml", "streams/__init__.py", "features/__init__.py", "trainers/__init__.py"),
    *("src/headrace/__init__.py", "tests/conftest.py", ".ci/run", "deploy/Dockerfile"),
}
NEVER = ("__pycache__", ".venv", ".headrace", ".hypothesis", "_cache/", ".pyc", ".env")


def wheel_names(wheel: Path) -> set[str]:
    """The files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def sdist_names(sdist: Path) -> set[str]:
    """The files of an sdist, without its top folder."""
    with tarfile.open(sdist) as archive:
        return {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}


def complaints(dist: Path) -> list[str]:
    """What is wrong with the one wheel and the one sdist in `dist`; empty if nothing is."""
    (wheel,), (sdist,) = sorted(dist.glob("*.whl")), sorted(dist.glob("*.tar.gz"))
    in_wheel, in_sdist = wheel_names(wheel), sdist_names(sdist)
    found = [f"{wheel.name} lacks {name}" for name in sorted(WHEEL - in_wheel)]
    found += [f"{sdist.name} lacks {name}" for name in sorted(SDIST - in_sdist)]
    found += [
        f"{name} does not belong there" for name in sorted(in_wheel | in_sdist) if any(bad in name for bad in NEVER)
    ]
    tops = {name.partition("/")[0] for name in in_wheel} - {"headrace"}
    found += [
        f"{wheel.name} installs {top} beside the package" for top in sorted(tops) if not top.endswith(".dist-info")
    ]
    if not any(name.endswith("licenses/LICENSE") for name in in_wheel):
        found.append(f"{wheel.name} lacks the licence")
    return found


if __name__ == "__main__":
    wrong = complaints(Path(sys.argv[1]))
    print("\n".join(wrong) or "wheel and sdist contain what they must")  # noqa: T201 - a script
    sys.exit(bool(wrong))
