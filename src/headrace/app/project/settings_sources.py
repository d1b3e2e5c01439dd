"""Reads the settings from flags, the environment and headrace.toml. The first of them that has a value wins."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from headrace.app.project.ingest_settings import SECRET_SETTINGS, IngestSettings, entry_at
from headrace.app.project.settings import Settings, leaves
from headrace.base.redaction import redacted
from headrace.errors import SettingsError
from headrace.serving.server_addresses import PROJECT_FILE, find_project_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic_core import ErrorDetails

PREFIX = "HEADRACE_"
_KAFKA = "kafka."
"""Below it are the properties of Kafka's client, which knows their names."""


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Return the settings in force for `folder` (default: the working directory), each with its origin.

    `flags` maps the paths of settings ("data_dir", "demo.months") to values; None means not given. `headrace.toml` is
    looked for in `folder` and then in its parents. Without one, `folder` is the project's root. Raises SettingsError,
    which names the setting, its value, where it came from, and what was wanted.

    >>> load_settings({"tick": "5m"}, environ={}).tick
    '5m'
    """
    start = (folder or Path.cwd()).resolve()
    file = find_project_file(start)
    root = file.parent if file is not None else start
    layers = [
        {"root": (root, "default" if file is None else PROJECT_FILE)},
        _from_file(file),
        _from_environment(os.environ if environ is None else environ),
        _from_flags(flags or {}),
    ]
    values = {path: entry for layer in layers for path, entry in layer.items()}
    return _build(values)


_Layer = dict[str, tuple[Any, str]]


def _from_file(file: Path | None) -> _Layer:
    if file is None:
        return {}
    try:
        tree = tomllib.loads(file.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not TOML: {error}") from error
    flat = dict(_flatten(tree))
    _refuse_unknown(flat, str(file))
    return {path: (value, PROJECT_FILE) for path, value in flat.items()}


def _from_environment(environ: Mapping[str, str]) -> _Layer:
    names = {name for name in environ if name.startswith(PREFIX) and environ[name]}  # empty: not set
    by_path = {_path(name): name for name in sorted(names)}
    _refuse_unknown(by_path, "the environment", spelled=by_path)
    return {path: (_decoded(path, environ[name]), f"environment {name}") for path, name in by_path.items()}


def _path(name: str) -> str:
    """Return the setting of a variable. In a property of Kafka's client `_` is a dot: HEADRACE_KAFKA__SASL_PASSWORD."""
    path = name.removeprefix(PREFIX).lower().replace("__", ".")
    return path.replace("_", ".") if path.startswith(_KAFKA) else path


def _from_flags(flags: Mapping[str, Any]) -> _Layer:
    given = {path: value for path, value in flags.items() if value is not None}
    _refuse_unknown(given, "the flags")
    return {path: (value, "flag --" + path.replace("_", "-").replace(".", "-")) for path, value in given.items()}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _refuse_unknown(paths: Iterable[str], where: str, spelled: Mapping[str, str] | None = None) -> None:
    known = leaves()
    unknown = [(spelled or {}).get(path, path) for path in paths if path not in known and not path.startswith(_KAFKA)]
    if unknown:
        raise SettingsError(
            f"{where} sets {', '.join(map(repr, unknown))}, which headrace does not know; it knows {', '.join(known)}"
        )


def _decoded(path: str, text: str) -> Any:
    """Return a list from JSON or from text with commas. Any other value stays text for pydantic."""
    if path not in _LISTS:
        return text
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return json.loads(text)
    except ValueError as error:
        raise SettingsError(
            f"{PREFIX}{path.upper().replace('.', '__')} is neither JSON nor a,b,c: {_shown(path, text)}"
        ) from error


_LISTS = {
    "trusted_types",
    "artifact_places",
    "publication_keys",
    "http.services",
    "ingest",
    "project.streams",
    "project.features",
    "project.trainers",
}


def _build(values: _Layer) -> Settings:
    tree: dict[str, Any] = {}
    for path, (value, _) in values.items():
        holder, _, name = path.partition(".") if path.startswith(_KAFKA) else path.rpartition(".")
        (tree.setdefault(holder, {}) if holder else tree)[name] = value
    origins = {path: values[path][1] if path in values else "default" for path in leaves()}
    kafka = dict.fromkeys(origin for path, (_, origin) in values.items() if path.startswith(_KAFKA))
    origins["kafka"] = ", ".join(kafka) or "default"
    try:
        return Settings.model_validate(tree).with_origins(origins)
    except ValidationError as error:
        raise SettingsError(_complaint(error, origins, tree)) from error


def _complaint(error: ValidationError, origins: Mapping[str, str], tree: Mapping[str, Any]) -> str:
    lines = []
    for one in error.errors(include_url=False):
        match one["loc"]:
            case ("ingest", int(place), *rest):
                lines.append(f"{entry_at(tree['ingest'], place)}{_came(rest, one)}: {one['msg']}")
            case loc:
                path = ".".join(str(part) for part in loc if not isinstance(part, int))
                shown = _shown(path, one["input"])
                lines.append(f"{path} = {shown} (from {origins.get(path, 'default')}): {one['msg']}")
    return "wrong settings: " + "; ".join(lines)


def _came(path: Sequence[int | str], error: ErrorDetails) -> str:
    """Return the setting of an entry that is wrong, and its value. One that headrace does not know may be a secret."""
    if not path:
        return ""
    name = ".".join(map(str, path))
    if error["type"] == "missing":
        return f", {name}"
    is_open = path[0] in IngestSettings.model_fields.keys() - SECRET_SETTINGS
    return f", {name} = {error['input']!r}" if is_open else f", {name} = ***"


def _shown(path: str, value: Any) -> str:
    """Return a wrong value for its error. A value that may hold a password is shown as stars."""
    is_open = path in leaves() and path not in _SECRET
    return repr(redacted(value) if isinstance(value, str) else value) if is_open else "***"


_SECRET = {"kafka", "publication_keys", "redis_url", "registry_uri", "http.api_key", "http.tls_key_password"}
_SECRET |= {"schema_registry.password", "schema_registry.url", "webhook.token"}
