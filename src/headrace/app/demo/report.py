"""Makes the report of the demo from the event log and the source data. Its keys are fixed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import polars as pl

from headrace.app.demo import evaluation
from headrace.app.demo.completeness import count_lost_and_duplicated
from headrace.base.times import utc_datetime
from headrace.event_log.columns import ACCEPTED, REJECTED
from headrace.event_log.event_log import EventLog
from headrace.features.offline.feature_history import FeatureHistory
from headrace.models.predictions import vectors_of
from headrace.trainers.audit.compare import ServedVectorRows, audit, lag_records, lags, skew
from headrace.trainers.audit.own_events import OwnEvents
from headrace.trainers.data.model_log import ModelLog

if TYPE_CHECKING:
    from headrace.app.demo.driver import ReplayTally
    from headrace.app.demo.history import History
    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.trainers.definitions import Model

AucCurves = tuple[list[int], list[float], list[float]]


def build_report(
    settings: Settings, project: Project, model: Model, history: History, tally: ReplayTally
) -> tuple[dict[str, Any], AucCurves]:
    """Return the report without its ``seconds``, and the curves of the chart."""
    log = EventLog(settings.event_log, namespace=settings.namespace)
    with ThreadPoolExecutor(1) as pool:
        counting = pool.submit(_counted, history, project, log)
        audited = _audited(model, log)
        counted = counting.result()
    model_log = ModelLog(model, log)
    rows = evaluation.compared_rows(model_log, history.to_us)
    auc, logloss = evaluation.compare_scores(rows, seed=settings.demo.seed)
    live = model_log.predictions().filter(pl.col("role") == "live")
    within_us = model.label.spec.within_us
    report = {
        "events": sum(tally.produced[topic] for topic in project.streams),
        "predictions": live.height,
        "unlabelled": evaluation.count_unlabelled(model_log, history.to_us, history.unlabelled, within_us),
        "versions": _versions(tally),
        "decisions": evaluation.count_decisions(tally.records, tally.runs),
        "auc": auc,
        "logloss": logloss,
        **audited,
        **counted,
    }
    return report, evaluation.rolling_auc(rows)


def _counted(history: History, project: Project, log: EventLog) -> dict[str, int]:
    lost, duplicated = count_lost_and_duplicated(history, project.streams, log)
    rejected = [log.read(topic).filter(pl.col("__verdict") == REJECTED).height for topic in project.streams]
    return {"dead_letters": sum(rejected), "lost": lost, "duplicated": duplicated}


def _versions(tally: ReplayTally) -> list[dict[str, Any]]:
    return [
        {
            "version": run.version,
            "cause": run.rule,
            "gate": run.reason,
            "published_at": utc_datetime(run.t_us).isoformat(),
            "swapped_at": utc_datetime(tally.swapped[run.version]).isoformat()
            if run.version in tally.swapped
            else None,
        }
        for run in tally.runs
        if run.version is not None
    ]


def _audited(model: Model, log: EventLog) -> dict[str, Any]:
    specs = [view.spec for view in model.features.views]
    vectors = log.read(vectors_of(log.namespace).topic).filter(
        (pl.col("__verdict") == ACCEPTED) & (pl.col("model") == model.name)
    )
    history = FeatureHistory(specs, log)
    history.refresh()
    served = ServedVectorRows(specs, history, vectors, own=OwnEvents.of_model(model))
    checked, skewed = audit(served), skew(served)
    return {
        "audit": {
            "checked": checked.checked,
            "mismatched": checked.different,
            "out_of_range": checked.out_of_range,
            "examples": list(checked.examples),
        },
        "skew": {
            "checked": skewed.checked,
            "equal": skewed.checked - skewed.different,
            "lag_records": lag_records([lags(served)]),
        },
    }
