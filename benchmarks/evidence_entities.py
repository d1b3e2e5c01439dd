"""False passes a look where the rows of an entity share a model's error: by rows, days and entities as blocks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.entity_blocks import entity_blocks, entity_hashes
from headrace.trainers.metrics.intervals import gain_interval, t_quantile
from headrace.trainers.metrics.named_metrics import metric_named

from .evidence_coverage import DRAWS, FEW_DRAWS
from .evidence_worlds import logistic

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .evidence_worlds import Pair

RUNS, SEED, DAYS, ROWS = 1_000, 1, 14, 300
ENTITIES = (30, 300, 3_000)
METRICS = ("auc", "brier_score_loss")
"""One whose bounds are percentiles, and one whose bounds are from contributions."""


def looks_at_entities() -> list[dict[str, Any]]:
    """False passes a look at 14 days, by how many entities the rows are of."""
    return [{"metric": name, "of": entities, **_looks(name, entities)} for name in METRICS for entities in ENTITIES]


def _looks(name: str, entities: int) -> dict[str, float]:
    metric, passed = metric_named(name), dict[str, list[bool]]()
    draws = DRAWS if metric.percentiles else FEW_DRAWS
    for seed in range(RUNS):
        entity, pair = of_entities(np.random.default_rng([SEED, seed]), entities)
        blocks = {"days": np.arange(len(entity)) % DAYS, "entities": entity_blocks(entity_hashes(zip(entity.tolist())))}
        found = {
            kind: gain_interval(*pair(block), metric, seed=SEED, draws=draws).interval.low > 0
            for kind, block in blocks.items()
        }
        if name == "brier_score_loss":
            found["rows"] = _by_rows(*pair(entity))
        for kind, each in found.items():
            passed.setdefault(kind, []).append(bool(each))
    return {kind: float(np.mean(each)) for kind, each in passed.items()}


def _by_rows(champion: BlockRows, challenger: BlockRows) -> bool:
    """Whether the mean gain of the Brier score is surely above 0 if rows were independent."""
    errors = [(rows.prediction - rows.number) ** 2 for rows in (champion, challenger)]
    gains = errors[0] - errors[1]
    return bool(gains.mean() > t_quantile(0.025, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains)))


def of_entities(generator: np.random.Generator, entities: int) -> tuple[np.ndarray, partial[Pair]]:
    """The entity of each row, and both models' scores by blocks: models err by entity, and are equally good.

    Some entities have far more rows than others.
    """
    shares = generator.lognormal(0, 1, entities)
    entity = generator.choice(entities, DAYS * ROWS, p=shares / shares.sum())
    logit = generator.normal(-1.2, 0.7, entities)[entity] + generator.normal(0, 1, len(entity))
    label = (generator.random(len(entity)) < logistic(logit)).astype(np.int8)
    shared = logit + generator.normal(0, 0.4, len(entity))
    own = [generator.normal(0, 0.8, entities)[entity] + generator.normal(0, 0.3, len(entity)) for _ in range(2)]
    return entity, partial(_pair, label, *(logistic(shared + error) for error in own))


def _pair(label: np.ndarray, champion: np.ndarray, challenger: np.ndarray, block: ArrayLike) -> Pair:
    return BlockRows(block, label, champion), BlockRows(block, label, challenger)
