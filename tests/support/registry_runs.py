"""Runs as a trainer records them in a registry."""

from __future__ import annotations

from dataclasses import replace

from sklearn.linear_model import LogisticRegression

from headrace.models import artifact
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
