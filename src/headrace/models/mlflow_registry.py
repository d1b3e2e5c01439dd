"""The registry on MLflow: its database in sqlite (or any tracking URI), artifacts in a folder or at a URL.

MLflow is imported when the first registry is made, not with this module: it takes seconds.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from headrace.base.failpoints import failpoint
from headrace.base.redaction import redacted, revealed, without_secrets
from headrace.errors import HeadraceError, RegistryUnavailableError, TransientError, UnknownVersionError, require
from headrace.models import artifact, artifact_urls, manifest
from headrace.models.mlflow_database import database_errors, make_database
from headrace.models.registry import (
    CHALLENGER_FILE,
    GATE_FILE,
    LOG_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    FailedRun,
    Registration,
    RunRecord,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_REQUEST = "headrace.request_id"
_COMPLETE = "headrace.complete"
_MANIFEST_HASH = "headrace.manifest_hash"
_CHAMPION = "champion"
_VERDICT = "headrace.verdict"
_LONGEST_PARAM = 6_000  # MLflow's own bound
_LONGEST_TAG = 5_000  # MLflow's bound is 8,000 bytes on some databases, 5,000 on others
_LONGEST_CAUSE = 500
_WRITING_S = 120.0
_AWAY = frozenset(
    {
        "DEADLINE_EXCEEDED",
        "INTERNAL_ERROR",
        "PERMISSION_DENIED",
        "REQUEST_LIMIT_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "TEMPORARILY_UNAVAILABLE",
        "UNAUTHENTICATED",
    }
)
"""Errors of MLflow that say nothing of the run: it is waited for, as for a password that is changed."""
_CALM = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # users of headrace did not opt in
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the caller waits and tries again, and says so in its log
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""Settings of MLflow, unless the environment has others."""


class MlflowRegistry:
    """Runs are MLflow runs in an experiment of the model's name; versions are its registered model's."""

    def __init__(self, tracking_uri: str, artifacts: str) -> None:
        """``tracking_uri``: such as ``sqlite:///…/mlflow.db``. ``artifacts``: a URL, ``file://`` if it is a folder."""
        self._tracking_uri = tracking_uri
        self._artifacts = artifacts.rstrip("/")
        self._writing = threading.Lock()
        for name, value in _CALM.items():
            os.environ.setdefault(name, value)  # before its import
        with self._reached():
            self._mlflow: Any = require("mlflow", "trainer")
            logging.getLogger("mlflow").setLevel(logging.WARNING)  # otherwise it logs its migrations
            uri = revealed(tracking_uri)
            make_database(uri, self._artifacts)
            self._client: Any = self._mlflow.MlflowClient(uri, uri)
            self._client.search_experiments(max_results=1)  # creates the tables

    def record(self, run: RunRecord) -> Registration:
        """Log the run with its files, then its version, then mark it complete.

        A run that was cut short is logged again. If it has a version, its files are there, and it is completed instead.
        If two trainers record one request at once, the version that was made first is the request's.
        """
        with self._writing, self._reached():
            return self._recorded(run) or self._record(run)

    def record_failure(self, run: FailedRun) -> None:
        """Log the run with the status FAILED, its reason and its log."""
        with self._writing, self._reached():
            tags = {_REQUEST: run.request_id, _VERDICT: "failed", "headrace.reason": run.reason}
            made = self._create(run.name, run.request_id, run.at_us, tags)
            self._client.log_batch(made.info.run_id, [], self._params(run.params))
            if run.log is not None:
                self._write(made.info.artifact_uri, {LOG_FILE: run.log})
            self._client.set_terminated(made.info.run_id, "FAILED", run.at_us // 1_000)

    def read(self, uri: str) -> bytes:
        """Read the file."""
        try:
            return artifact.fetch(uri, registry=self._tracking_uri)
        except TransientError as error:
            raise RegistryUnavailableError(str(error)) from error

    def find(self, name: str, request_id: str) -> Registration | None:
        """The complete run with that request id."""
        with self._reached():
            complete = [run for run in self._runs(name, request_id) if _COMPLETE in run.data.tags]
            versions = self._versions(name, request_id)[:1] if complete else []
            made = [run for run in complete for version in versions if run.info.run_id == version.run_id]
            return _registration(name, made[0], versions[0]) if made else _of_no_version(name, complete)

    def version(self, name: str, version: int) -> Registration:
        """The run of that version."""
        with self._reached():
            try:
                found = self._client.get_model_version(name, str(version))
            except self._mlflow.MlflowException as error:
                raise self._unless_absent(error, UnknownVersionError(name, version)) from error
            return _registration(name, self._client.get_run(found.run_id), found)

    def gated_fit(self, name: str, version: int) -> bytes | None:
        """Read the file of the version's run. Runs of an old MLflow, or files that were deleted, have none."""
        run = self.version(name, version)
        try:
            return self.read(f"{run.gate_uri.removesuffix(GATE_FILE)}{CHALLENGER_FILE}")
        except RegistryUnavailableError as error:
            cause = error.__cause__
            if cause is not None and isinstance(cause.__cause__, FileNotFoundError):
                return None
            raise

    def promote(self, name: str, version: int) -> None:
        """Set the alias ``champion``."""
        with self._writing, self._reached():
            try:
                self._client.set_registered_model_alias(name, _CHAMPION, str(version))
            except self._mlflow.MlflowException as error:
                raise self._unless_absent(error, UnknownVersionError(name, version)) from error

    def champion(self, name: str) -> int | None:
        """The version with the alias ``champion``."""
        with self._reached():
            found = self._client.search_registered_models(f"name = '{name}'")
        alias = found[0].aliases.get(_CHAMPION) if found else None
        return None if alias is None else int(alias)

    def _runs(self, name: str, request_id: str) -> list[Any]:
        """All runs of a request: complete ones, failed ones, and those that were cut short."""
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            return []
        return list(self._client.search_runs([experiment.experiment_id], f"tags.`{_REQUEST}` = '{request_id}'"))

    def _versions(self, name: str, request_id: str) -> list[Any]:
        """The versions of a request, the first one first."""
        wanted = f"name = '{name}' and tags.`{_REQUEST}` = '{request_id}'"
        return sorted(self._client.search_model_versions(wanted), key=lambda each: int(each.version))

    def _recorded(self, run: RunRecord) -> Registration | None:
        """What the registry has of the request already: its version, or else a complete run without one."""
        earlier = self._runs(run.name, run.request_id)
        if not earlier:  # a run is there before its version is
            return None
        version = self._first_version(run)
        if version is not None:
            return self._completed(run, self._client.get_run(version.run_id), version)
        return _of_no_version(run.name, [each for each in earlier if _COMPLETE in each.data.tags])

    def _record(self, run: RunRecord) -> Registration:
        made, version = self._log(run), None
        failpoint("before-version")
        if run.model is not None:
            version = self._register(run, made.info)
            failpoint("after-version")
            if version.run_id != made.info.run_id:  # another trainer was first with the same request
                self._client.set_terminated(made.info.run_id, "KILLED", run.finished_us // 1_000)
                made = self._client.get_run(version.run_id)
        return self._completed(run, made, version)

    def _first_version(self, run: RunRecord) -> Any:
        """The request's version, or None. A later version of the same request is deleted."""
        found = self._versions(run.name, run.request_id)
        for surplus in found[1:]:
            try:
                self._client.delete_model_version(run.name, surplus.version)
            except self._mlflow.MlflowException as error:  # the other trainer was first with this too
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        return found[0] if found else None

    def _completed(self, run: RunRecord, found: Any, version: Any) -> Registration:
        """Mark the run complete, and return its registration."""
        if _COMPLETE not in found.data.tags:
            self._client.set_terminated(found.info.run_id, "FINISHED", run.finished_us // 1_000)
            self._client.set_tag(found.info.run_id, _COMPLETE, "true")
        return _registration(run.name, found, version)

    def _log(self, run: RunRecord) -> Any:
        """Log a run with its files, and return it."""
        tags = {_REQUEST: run.request_id, _MANIFEST_HASH: manifest.hash_of(run.manifest), **run.tags}
        made = self._create(run.name, run.request_id, run.started_us, tags)
        at_ms = run.finished_us // 1_000
        metrics = [self._mlflow.entities.Metric(key, float(value), at_ms, 0) for key, value in run.metrics.items()]
        self._client.log_batch(made.info.run_id, metrics, self._params(run.params))
        self._write(made.info.artifact_uri, _files(run))
        return made

    def _create(self, name: str, request_id: str, started_us: int, tags: Mapping[str, str]) -> Any:
        short = {key: value[:_LONGEST_TAG] for key, value in tags.items()}
        return self._client.create_run(self._experiment(name), started_us // 1_000, short, run_name=request_id)

    def _params(self, params: Mapping[str, Any]) -> list[Any]:
        return [self._mlflow.entities.Param(key, str(value)[:_LONGEST_PARAM]) for key, value in params.items()]

    def _write(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Write the files of a run. MLflow would need packages of its own for most object stores."""
        if not folder.startswith("file:"):
            artifact_urls.write(folder, files, within_s=_WRITING_S, registry=self._tracking_uri)
            return
        path = Path(unquote(urlsplit(folder).path))
        path.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            draft = path / f"{name}.part"
            draft.write_bytes(content)
            draft.replace(path / name)

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(name, f"{self._artifacts}/{name}"))

    def _register(self, run: RunRecord, made: Any) -> Any:
        """Give the run a version, and return the version of its request: another trainer may be first."""
        try:
            version = self._make_version(run, made)
        except self._mlflow.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            self._make_model(run.name)
            version = self._make_version(run, made)
        return self._first_version(run) or version

    def _make_version(self, run: RunRecord, made: Any) -> Any:
        tags = {_REQUEST: run.request_id}
        return self._client.create_model_version(run.name, made.artifact_uri, made.run_id, tags=tags)

    def _make_model(self, name: str) -> None:
        try:
            self._client.create_registered_model(name)
        except self._mlflow.MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn the error of a registry or a store that does not answer into RegistryUnavailableError."""
        try:
            with _quiet():
                yield
        except HeadraceError:
            raise
        except Exception as error:
            if not _is_away(error):
                raise
            place = redacted(self._tracking_uri)
            message = (
                f"the registry at {place}, or the place of its artifacts, {self._artifacts}, does not answer: "
                f"{without_secrets(str(error), _LONGEST_CAUSE)}"
            )
            raise RegistryUnavailableError(message) from error

    def _unless_absent(self, error: Any, absent: Exception) -> Exception:
        known = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
        return absent if error.error_code in known else error


def _registration(name: str, run: Any, version: Any) -> Registration:
    folder = run.info.artifact_uri.rstrip("/")
    return Registration(
        name=name,
        request_id=run.data.tags[_REQUEST],
        run_id=run.info.run_id,
        version=None if version is None else int(version.version),
        artifact_uri=None if version is None else f"{folder}/{MODEL_FILE}",
        manifest_uri=f"{folder}/{MANIFEST_FILE}",
        manifest_hash=run.data.tags[_MANIFEST_HASH],
        gate_uri=f"{folder}/{GATE_FILE}",
    )


def _of_no_version(name: str, complete: Sequence[Any]) -> Registration | None:
    return _registration(name, complete[0], None) if complete else None


def _is_away(error: Exception) -> bool:
    """Return whether the same call may succeed later. MLflow says so by a code, or by none that means something else.

    Without a connection, and for an answer that is no JSON, the code is that of an internal error.
    """
    code = getattr(error, "error_code", None)
    return isinstance(error, (OSError, *database_errors())) if code is None else code in _AWAY


def _files(run: RunRecord) -> Mapping[str, bytes]:
    files = {
        MANIFEST_FILE: manifest.encode(run.manifest),
        GATE_FILE: run.gate_json(),
    }
    if run.challenger is not None:
        files[CHALLENGER_FILE] = run.challenger.data
    if run.model is not None:
        files[MODEL_FILE] = run.model.data
    if run.log is not None:
        files[LOG_FILE] = run.log
    return files


def _quiet() -> warnings.catch_warnings[None]:
    """Silence the warnings of MLflow and its libraries about their own deprecations: users cannot act on them."""
    return warnings.catch_warnings(action="ignore")
