"""Compares the live model with the frozen first one on the same matured rows."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.intervals import gain_interval
from headrace.trainers.metrics.named_metrics import metric_named, metric_value, within_block

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.trainers.data.model_log import ModelLog

_ROLLING_DAYS = 14
_FEWEST = 200


def compared_rows(log: ModelLog, t_us: int) -> pl.DataFrame:
    """Return the matured rows that both models predicted: ``key day label live frozen``. Frozen is version 1."""
    predictions = log.predictions()
    if predictions.is_empty():
        return pl.DataFrame(
            schema={"key": pl.String, "day": pl.Int64, "label": pl.Int8, "live": pl.Float64, "frozen": pl.Float64}
        )
    first = predictions.get_column("version").min()
    at = pl.col("requested_at").dt.epoch("us").alias("__requested_us")
    live = predictions.filter(pl.col("role") == "live").select("key", at, pl.col("score").alias("live"))
    frozen = predictions.filter(pl.col("version") == first).select("key", at, pl.col("score").alias("frozen"))
    labels = log.labelled(t_us).filter(pl.col("__label").is_not_null())
    labels = labels.select(
        pl.col("__key").alias("key"),
        pl.col("__day").alias("day"),
        pl.col("__label").cast(pl.Int8).alias("label"),
        "__requested_us",
    )
    request = ["key", "__requested_us"]
    joined = live.join(frozen, on=request).join(labels, on=request).sort("__requested_us", "key")
    return joined.select("key", "day", "label", "live", "frozen")


def compare_scores(rows: pl.DataFrame, *, seed: int) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Return the parts ``auc`` and ``logloss`` of the report."""
    day, label, live, frozen = (rows.get_column(name).to_numpy() for name in ("day", "label", "live", "frozen"))
    if len(np.unique(label)) < 2:  # noqa: PLR2004 - two classes
        names = ("frozen", "live", "gain", "gain_low", "frozen_within_day", "live_within_day")
        return dict.fromkeys(names), {"frozen": None, "live": None}
    theirs, ours = BlockRows(day, label, frozen), BlockRows(day, label, live)
    auc = gain_interval(theirs, ours, metric_named("auc"), seed=seed)
    logloss = metric_named("logloss")
    of_day = within_block("auc")
    found = {
        "frozen": auc.champion,
        "live": auc.challenger,
        "gain": auc.interval.point,
        "gain_low": auc.interval.low,
        "frozen_within_day": of_day.statistic(theirs).point,
        "live_within_day": of_day.statistic(ours).point,
    }
    return _plain(found), _plain({"frozen": logloss.statistic(theirs).point, "live": logloss.statistic(ours).point})


def _plain(found: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else round(float(value), 6) for name, value in found.items()}


def rolling_auc(rows: pl.DataFrame, since: int | None = None) -> tuple[list[int], list[float], list[float]]:
    """Return days, and the AUC of live and frozen over the 14 days up to the end of each. Few rows give NaN.

    The days begin with ``since``, or with the first day of the rows.
    """
    if rows.is_empty():
        return [], [], []
    day, label, live, frozen = (rows.get_column(name).to_numpy() for name in ("day", "label", "live", "frozen"))
    days = list(range(max(int(day.min()), since or 0), int(day.max()) + 1))
    windows = [(day > end - _ROLLING_DAYS) & (day <= end) for end in days]
    return days, [_auc(label[w], live[w]) for w in windows], [_auc(label[w], frozen[w]) for w in windows]


def _auc(label: np.ndarray, score: np.ndarray) -> float:
    return metric_value("auc", label, score) if len(label) >= _FEWEST else math.nan


def count_unlabelled(log: ModelLog, t_us: int, reasons: Mapping[str, str], within_us: int) -> dict[str, int]:
    """Count predicted rows without a matured label, by reason: the source's, ``not matured``, ``no label in time``."""
    predicted = (
        log.predictions()
        .filter(pl.col("role") == "live")
        .select("key", pl.col("requested_at").dt.epoch("us").alias("at"))
    )
    labels = log.labelled(t_us).select(pl.col("__key").alias("key"), pl.col("__requested_us").alias("at"), "__label")
    rows = predicted.join(labels, on=["key", "at"], how="left").filter(pl.col("__label").is_null())
    counts: Counter[str] = Counter()
    for key, at, _ in rows.iter_rows():
        matured = at + within_us <= t_us
        counts[reasons.get(key, "no label in time" if matured else "not matured")] += 1
    return dict(sorted(counts.items()))


def count_decisions(records: list[Any], runs: list[Any]) -> dict[str, dict[str, int]]:
    """Count for each simple rule how often it was evaluated, fired, and was refused by the gate."""
    found: dict[str, Counter[str]] = {}
    for record in records:
        if record.decision is None:
            continue
        verdicts = record.decision.verdicts
        for verdict in verdicts[1:] or verdicts:
            counts = found.setdefault(verdict.rule, Counter(evaluated=0, fired=0, refused=0))
            counts["evaluated"] += 1
            counts["fired"] += verdict.fired
    for run in runs:
        if run.outcome == "refused":
            for rule in run.rule.split("+"):
                found.setdefault(rule, Counter(evaluated=0, fired=0, refused=0))["refused"] += 1
    return {rule: dict(counts) for rule, counts in sorted(found.items())}
