"""The gate, as users define it: by which metric, rule and evidence a challenger is judged."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

from msgspec import UNSET

from headrace.base.arguments import expect
from headrace.base.times import Duration, duration_us, format_duration
from headrace.errors import DefinitionError, naming
from headrace.features.definitions.entity import Entity
from headrace.trainers.definition_checks import one_of
from headrace.trainers.metrics.entity_blocks import MOST_ENTITY_BLOCKS
from headrace.trainers.metrics.named_metrics import metric_for
from headrace.trainers.metrics.serial_correlation import LEAST_EFFECTIVE
from headrace.trainers.metrics.within_block import WithinBlock
from headrace.trainers.model_spec import DAY, USUAL_FLOORS, Floors, GateSpec
from headrace.trainers.triggers.evidence import DAY_US

if TYPE_CHECKING:
    from headrace.models.prediction_task import TaskName
    from headrace.trainers.metrics.metric import Metric

GateRule = Literal["better", "not_worse"]
SerialRule = Literal["ignored", "measured"]
AlphaPeriod = Literal["look", "quarter", "year"]
USUAL_ALPHA = 0.025
_MOST_ALPHA = 0.25
_MOST_BLOCKS = 2_000
_USUAL_METRICS: dict[TaskName, str] = {
    "binary": "auc",
    "classes": "macro_log_loss",
    "regression": "root_mean_squared_error",
    "quantile": "mean_pinball_loss",
}
_LEAST_BLOCKS = 5  # the interval from fewer is so wide that hardly any gain passes


@dataclass(frozen=True)
class Gate:
    """The rule that judges a challenger, on the newest ``holdout`` of matured rows, by its gain in ``metric``.

    ``metric`` is ``"auc"``, ``"logloss"``, or another of scikit-learn's names for a label that is true or false:
    ``"brier_score_loss"``, ``"accuracy_score"``, ``"f1_score"``; also ``"expected_calibration_error"``. For classes
    they are ``"macro_log_loss"``, ``"logloss"`` and ``"accuracy_score"``, for numbers ``"rmse"``, ``"mae"`` and others,
    for quantiles ``"mean_pinball_loss"``. ``within_block``, ``expected_cost`` and ``own_metric`` make others. Without a
    metric the gate has that of the label's task: ``"auc"``, ``"macro_log_loss"``, ``"rmse"``, ``"mean_pinball_loss"``.

    The rule ``"better"`` passes a challenger whose lower bound is above ``margin``. The rule ``"not_worse"`` passes one
    whose lower bound is above ``-margin``; it needs a margin. With ``approve="manual"`` a challenger that passed is
    announced, and waits until a person promotes it.

    The rows of one ``block`` of time are resampled together: whole days, or a time that divides a day, such as
    ``"1h"``. A holdout is a number of whole blocks. The gate measures how much the gain of one block says about the
    next, and widens the interval by it. If a holdout is worth fewer than 6 independent blocks, only a very large gain
    passes. With ``serial_correlation="ignored"`` blocks count as independent. Then a gate is wrong more often where bad
    days follow bad days. A holdout of 5 blocks is always judged in this way, because it cannot be worth 6. ``floors``
    is the least evidence that a gate needs.

    With an entity as ``block``, or a field of the requests, all rows of one entity are resampled together. Use it if
    each customer, or each route, has many rows. The holdout is then a number of whole days. Entities have no order, so
    no correlation between them is measured.

    ``alpha`` is the chance that a challenger passes that is no better: ``per`` look, or over all looks of a quarter or
    a year. Each look then gets a share as large as the part of the period since the look before.
    docs/explanation/evidence.md says how often a gate is wrong.

    >>> from headrace import Gate
    >>> Gate("auc", rule="not_worse", margin=0.005)  # doctest: +ELLIPSIS
    Gate(metric='auc', rule='not_worse', holdout='14d', margin=0.005, approve='auto', ...)
    >>> Gate("auc", holdout="7d")
    Traceback (most recent call last):
        ...
    headrace.errors.DefinitionError: gate: holdout='7d' must be 14 or more whole days, because days are resampled
    >>> Gate("auc").measures_correlation
    True
    >>> Gate("auc", serial_correlation="ignored").measures_correlation
    False
    >>> Gate("auc", holdout="20h", block="1h").spec.block
    '1h'
    >>> Gate("auc", block="customer_id").blocks_named
    'values of customer_id'
    """

    metric: str | Metric | None = None
    rule: GateRule = "better"
    holdout: Duration = "14d"
    margin: float = 0.0
    approve: Literal["auto", "manual"] = "auto"
    block: Duration | Entity = DAY
    serial_correlation: SerialRule | None = None
    floors: Floors = USUAL_FLOORS
    alpha: float = USUAL_ALPHA
    per: AlphaPeriod = "look"

    def __post_init__(self) -> None:
        if self.metric is not None:
            _ = self.decides_by  # its own checks
        one_of("gate", "rule", self.rule, get_args(GateRule))
        one_of("gate", "approve", self.approve, ["auto", "manual"])
        if self.serial_correlation is not None:
            one_of("gate", "serial_correlation", self.serial_correlation, get_args(SerialRule))
        one_of("gate", "per", self.per, get_args(AlphaPeriod))
        if not 0 < self.alpha <= _MOST_ALPHA:
            raise DefinitionError(f"gate: alpha={self.alpha!r} must be above 0 and at most {_MOST_ALPHA}, such as 0.05")
        self._check_floors()
        self._check_blocks()
        if not 0 <= self.margin < math.inf or (self.rule == "not_worse" and self.margin == 0):
            given = f"margin={self.margin!r} with rule={self.rule!r}"
            raise DefinitionError(f"gate: {given}; give at least 0, and above 0 for not_worse")

    def _check_floors(self) -> None:
        expect("gate", "floors", self.floors, Floors, write="Floors(…), such as Floors(rows=5_000)")
        usual, least = USUAL_FLOORS, {"blocks": _LEAST_BLOCKS, "rows": 1, "of_class": 1}
        for name, smallest in least.items():
            given = getattr(self.floors, name)
            if not isinstance(given, int) or given < smallest:
                message = f"gate: floors: {name}={given!r} must be a whole number of {smallest} or more"
                raise DefinitionError(message)
            if given < getattr(usual, name):
                warnings.warn(
                    f"gate: floors: {name}={given} is below {getattr(usual, name):,}: how often the gate is wrong was "
                    "not measured for so little evidence",
                    stacklevel=4,
                )

    def _check_blocks(self) -> None:
        with naming("gate: holdout"):
            holdout_us = duration_us(self.holdout)
        if self.block_keys:
            self._check_entities(holdout_us)
            return
        with naming("gate: block"):
            block_us = duration_us(self.block_length)
        if block_us <= 0 or (block_us % DAY_US and DAY_US % block_us):
            message = (
                f"gate: block={self.block!r}; give whole days, such as '1d', or a time that divides a day, such as '1h'"
            )
            raise DefinitionError(message)
        if holdout_us > _MOST_BLOCKS * block_us:
            message = (
                f"gate: holdout={self.holdout!r} has {holdout_us // block_us:,} blocks of {self.block!r}; "
                f"give at most {_MOST_BLOCKS:,}, as the memory of a gate grows with their square"
            )
            raise DefinitionError(message)
        least = self.floors.blocks
        if holdout_us % block_us or holdout_us < least * block_us:
            unit = "days" if block_us == DAY_US else "blocks"
            message = (
                f"gate: holdout={self.holdout!r} must be {least} or more whole {self.blocks_named}, "
                f"because {unit} are resampled"
            )
            raise DefinitionError(message)
        if self.serial_correlation == "measured" and not self._may_be_alike:
            message = (
                f"gate: holdout={self.holdout!r} has {holdout_us // block_us} {self.blocks_named}, and by "
                f"serial_correlation='measured' it must be worth {LEAST_EFFECTIVE} independent ones; give a longer "
                "holdout, or leave serial_correlation out"
            )
            raise DefinitionError(message)

    def _check_entities(self, holdout_us: int) -> None:
        where = f"gate: block={self.block!r} resamples {self.blocks_named}"
        if holdout_us <= 0 or holdout_us % DAY_US:
            message = f"{where}, so holdout={self.holdout!r} must be a number of whole days, such as '14d'"
            raise DefinitionError(message)
        if self.serial_correlation == "measured":
            message = (
                f"{where}, which have no order, so serial_correlation='measured' measures nothing; leave it out, or "
                "give a block of time, such as '1d'"
            )
            raise DefinitionError(message)
        if isinstance(self.decides_by, WithinBlock):
            message = (
                f"{where}, and metric={self.decides_by.name!r} is for blocks of time; give one of them, such as '1d'"
            )
            raise DefinitionError(message)
        if self.floors.blocks > MOST_ENTITY_BLOCKS:
            message = (
                f"{where}, in at most {MOST_ENTITY_BLOCKS} blocks; floors: blocks={self.floors.blocks} is above it; "
                "give fewer"
            )
            raise DefinitionError(message)

    @cached_property
    def block_keys(self) -> tuple[str, ...]:
        """The fields of the requests whose values are the entity that is a block; none if blocks are times."""
        if isinstance(self.block, Entity):
            return tuple(self.block.join_keys)
        is_field = isinstance(self.block, str) and (self.block[:1].isalpha() or self.block.startswith("_"))
        return (str(self.block),) if is_field else ()  # a time begins with a digit

    @cached_property
    def block_length(self) -> str:
        """The length of a block of time as text. It is a day if blocks are entities: holdouts have whole days then."""
        return DAY if self.block_keys or isinstance(self.block, Entity) else format_duration(duration_us(self.block))

    @cached_property
    def blocks_named(self) -> str:
        """What blocks are called: ``days``, ``blocks of 1h``, or ``values of customer_id``."""
        if self.block_keys:
            return f"values of {' and '.join(self.block_keys)}"
        return "days" if self.block_length == DAY else f"blocks of {self.block_length}"

    @property
    def measures_correlation(self) -> bool:
        """Whether the correlation between blocks is measured.

        By default it is, but for blocks that are entities, which have no order, and for a holdout of 5 blocks.
        """
        return self.serial_correlation != "ignored" and self._may_be_alike

    @property
    def _may_be_alike(self) -> bool:
        """Whether blocks have neighbours, and the holdout enough of them to be judged by where they are alike."""
        blocks = duration_us(self.holdout) // duration_us(self.block_length)
        return not self.block_keys and blocks >= LEAST_EFFECTIVE

    @cached_property
    def decides_by(self) -> Metric:
        """The metric itself, where ``metric`` may be its name. Without one it is that of a label that is a bool."""
        return metric_for("gate", _USUAL_METRICS["binary"] if self.metric is None else self.metric)

    def for_task(self, task: TaskName) -> Gate:
        """The gate with the usual metric of the task, if it has none of its own."""
        return self if self.metric is not None else replace(self, metric=_USUAL_METRICS[task])

    @cached_property
    def spec(self) -> GateSpec:
        """The gate as data."""
        holdout = format_duration(duration_us(self.holdout))
        approve = UNSET if self.approve == "auto" else self.approve
        return GateSpec(
            metric=self.decides_by.name,
            rule=self.rule,
            holdout=holdout,
            margin=self.margin,
            approve=approve,
            block=self.block_keys or (UNSET if self.block_length == DAY else self.block_length),
            serial_correlation="measured" if self.measures_correlation else UNSET,
            alpha=UNSET if self.alpha == USUAL_ALPHA else self.alpha,
            per=UNSET if self.per == "look" else self.per,
            floors=UNSET if self.floors == USUAL_FLOORS else self.floors,
        )
