"""The registry on MLflow: its database in sqlite (or any tracking URI), artifacts in a local or shared folder.

MLflow is imported when the first registry is made, not with this module: it takes seconds.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.base.redaction import revealed
from headrace.errors import UnknownVersionError, require
from headrace.models import manifest
from headrace.models.registry import (
    CHALLENGER_FILE,
    GATE_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    Registration,
    RunRecord,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_REQUEST = "headrace.request_id"
_COMPLETE = "headrace.complete"
_MANIFEST_HASH = "headrace.manifest_hash"
_CHAMPION = "champion"
_LONGEST_PARAM = 6000  # MLflow's own bound


class MlflowRegistry:
    """Runs are MLflow runs in an experiment of the model's name; versions are its registered model's."""

    def __init__(self, tracking_uri: str, artifacts: str) -> None:
        """``artifacts``: the folder's ``file://`` URI; ``tracking_uri``: such as ``sqlite:///…/mlflow.db``."""
        self._artifacts = artifacts.rstrip("/")
        self._writing = threading.Lock()
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before its import: users of headrace did not opt in
        with _quiet():
            self._mlflow: Any = require("mlflow", "trainer")
            logging.getLogger("mlflow").setLevel(logging.WARNING)  # otherwise it logs its migrations
            uri = revealed(tracking_uri)
            self._client: Any = self._mlflow.MlflowClient(uri, uri)
            self._client.search_experiments(max_results=1)  # creates the tables

    def record(self, run: RunRecord) -> Registration:
        """Log the run with its files, then its version, then mark it complete. An incomplete run is logged again."""
        with self._writing, _quiet():
            known = self._find(run.name, run.request_id)
            if known is not None:
                return known
            run_id, folder = self._log(run)
            if run.model is not None:
                self._register(run, run_id, folder)
            self._client.set_terminated(run_id, "FINISHED", run.finished_us // 1_000)
            self._client.set_tag(run_id, _COMPLETE, "true")
            return self._registration(run.name, self._client.get_run(run_id))

    def find(self, name: str, request_id: str) -> Registration | None:
        """The complete run with that request id."""
        with _quiet():
            return self._find(name, request_id)

    def version(self, name: str, version: int) -> Registration:
        """The run of that version."""
        with _quiet():
            try:
                found = self._client.get_model_version(name, str(version))
            except self._mlflow.MlflowException as error:
                raise self._unless_absent(error, UnknownVersionError(name, version)) from error
            return self._registration(name, self._client.get_run(found.run_id))

    def promote(self, name: str, version: int) -> None:
        """Set the alias ``champion``."""
        with self._writing, _quiet():
            try:
                self._client.set_registered_model_alias(name, _CHAMPION, str(version))
            except self._mlflow.MlflowException as error:
                raise self._unless_absent(error, UnknownVersionError(name, version)) from error

    def champion(self, name: str) -> int | None:
        """The version with the alias ``champion``."""
        with _quiet():
            found = self._client.search_registered_models(f"name = '{name}'")
        alias = found[0].aliases.get(_CHAMPION) if found else None
        return None if alias is None else int(alias)

    def _find(self, name: str, request_id: str) -> Registration | None:
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            return None
        wanted = f"tags.`{_REQUEST}` = '{request_id}' and tags.`{_COMPLETE}` = 'true'"
        runs = self._client.search_runs([experiment.experiment_id], wanted, max_results=1)
        return self._registration(name, runs[0]) if runs else None

    def _log(self, run: RunRecord) -> tuple[str, str]:
        """The run's id and the URI of its artifact folder."""
        tags = {_REQUEST: run.request_id, _MANIFEST_HASH: manifest.hash_of(run.manifest), **run.tags}
        experiment = self._experiment(run.name)
        made = self._client.create_run(experiment, run.started_us // 1_000, tags, run_name=run.request_id).info
        entities = self._mlflow.entities
        at_ms = run.finished_us // 1_000
        metrics = [entities.Metric(key, float(value), at_ms, 0) for key, value in run.metrics.items()]
        params = [entities.Param(key, str(value)[:_LONGEST_PARAM]) for key, value in run.params.items()]
        self._client.log_batch(made.run_id, metrics, params)
        with tempfile.TemporaryDirectory(prefix="headrace-run-") as folder:
            for name, content in _files(run).items():
                (Path(folder) / name).write_bytes(content)
            self._client.log_artifacts(made.run_id, folder)
        return made.run_id, made.artifact_uri

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(name, f"{self._artifacts}/{name}"))

    def _register(self, run: RunRecord, run_id: str, folder: str) -> None:
        try:
            self._client.create_registered_model(run.name)
        except self._mlflow.MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        self._client.create_model_version(run.name, folder, run_id, tags={_REQUEST: run.request_id})

    def _registration(self, name: str, run: Any) -> Registration:
        versions = self._client.search_model_versions(f"run_id = '{run.info.run_id}'")
        folder = run.info.artifact_uri.rstrip("/")
        return Registration(
            name=name,
            request_id=run.data.tags[_REQUEST],
            run_id=run.info.run_id,
            version=int(versions[0].version) if versions else None,
            artifact_uri=f"{folder}/{MODEL_FILE}" if versions else None,
            manifest_uri=f"{folder}/{MANIFEST_FILE}",
            manifest_hash=run.data.tags[_MANIFEST_HASH],
        )

    def _unless_absent(self, error: Any, absent: Exception) -> Exception:
        known = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
        return absent if error.error_code in known else error


def _files(run: RunRecord) -> Mapping[str, bytes]:
    files = {
        MANIFEST_FILE: manifest.encode(run.manifest),
        GATE_FILE: json.dumps(run.gate, indent=2, sort_keys=True, allow_nan=False).encode(),
    }
    if run.challenger is not None:
        files[CHALLENGER_FILE] = run.challenger.data
    if run.model is not None:
        files[MODEL_FILE] = run.model.data
    return files


def _quiet() -> warnings.catch_warnings[None]:
    """Silence the warnings of MLflow and its libraries about their own deprecations: users cannot act on them."""
    return warnings.catch_warnings(action="ignore")
