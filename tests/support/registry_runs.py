"""Runs as a trainer records them in a registry."""

from __future__ import annotations

import atexit
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from sklearn.linear_model import LogisticRegression

from headrace.models import artifact
from headrace.models.mlflow_registry import MlflowRegistry
from headrace.models.registry import RunRecord
from tests.support.model_events import MANIFEST

ESTIMATOR = artifact.dump(LogisticRegression().fit([[0.0], [1.0]], [0, 1]))
PASSED = RunRecord(
    name="delay",
    request_id="delay-1",
    manifest=MANIFEST,
    gate={"verdict": "passed", "reason": "gain +0.02"},
    started_us=1_360_000_000_000_000,
    finished_us=1_360_000_060_000_000,
    challenger=ESTIMATOR,
    model=ESTIMATOR,
    params={"max_iter": 200},
    metrics={"auc": 0.74},
    tags={"code": "git:0123abc"},
)
REFUSED = replace(PASSED, request_id="delay-2", gate={"verdict": "refused"}, model=None)


def ready_database(folder: Path) -> str:
    """The address of a database of MLflow in a folder, with its tables: making them takes a second each time."""
    shutil.copy(_made_once(), folder / "mlflow.db")
    return f"sqlite:///{folder}/mlflow.db"


@cache
def _made_once() -> Path:
    folder = Path(mkdtemp(prefix="headrace-mlflow-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    MlflowRegistry(f"sqlite:///{folder}/mlflow.db", folder.as_uri())
    return folder / "mlflow.db"
