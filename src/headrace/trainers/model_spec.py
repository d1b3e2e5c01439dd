"""The spec of a model, with those of its label and its gate: all but the code that trains it, which is named."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from headrace.features.definitions.expression_tree import ExpressionTree
from headrace.features.definitions.feature_spec import OwnEventRule
from headrace.features.definitions.service_spec import OnDemandSpec, VersionedName
from headrace.features.definitions.spec import spec_hash
from headrace.trainers.triggers.trigger_specs import TriggerSpec


class LabelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A label as data. ``missing`` says what happens to a request whose label never comes.

    ``which`` is left out if the first label of a request counts, ``task`` if it is ``binary``, ``classes``,
    ``limits`` and ``quantiles`` if there are none.
    """

    topic: str
    value: ExpressionTree
    on: str
    within_us: int
    missing: Literal["drop", "false"]
    which: Literal["last"] | UnsetType = UNSET
    task: Literal["classes", "regression", "quantile"] | UnsetType = UNSET
    classes: tuple[str | int, ...] | UnsetType = UNSET
    limits: tuple[float, ...] | UnsetType = UNSET
    quantiles: tuple[float, ...] | UnsetType = UNSET


DAY = "1d"


class Floors(msgspec.Struct, frozen=True, kw_only=True):
    """The least evidence that a gate judges by: blocks, rows, and rows of each class.

    Blocks are resampled, and fewer than 14 say too little: the chance of a false verdict was measured for these numbers
    and more.

    >>> from headrace import Floors, Gate
    >>> Gate("auc", floors=Floors(rows=5_000)).spec.floors
    Floors(blocks=14, rows=5000, of_class=100)
    """

    blocks: int = 14
    rows: int = 2_000
    of_class: int = 100


USUAL_FLOORS = Floors()


class GateSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A gate as data. What was added later is left out at its default, so the hashes of older specs stay the same.

    ``approve`` is left out if a challenger that passed is live at once. ``block`` is a time, or the fields that make up
    an entity. ``serial_correlation`` is left out if the correlation between blocks is ignored, as it was in the first
    specs.
    """

    metric: str
    rule: Literal["better", "not_worse"]
    holdout: str
    margin: float
    approve: Literal["manual"] | UnsetType = UNSET
    block: str | tuple[str, ...] | UnsetType = UNSET
    serial_correlation: Literal["measured"] | UnsetType = UNSET
    floors: Floors | UnsetType = UNSET
    alpha: float | UnsetType = UNSET
    per: Literal["quarter", "year"] | UnsetType = UNSET


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A model as data. ``requests`` is a topic, ``features`` the name of a service, ``train`` that of a function."""

    spec_version: int
    name: str = msgspec.field(name="model")
    requests: str
    request_key: str = msgspec.field(name="key")
    requested_at: str = msgspec.field(name="at")
    features: str
    views: tuple[VersionedName, ...]
    request_features: tuple[str, ...]
    label: LabelSpec
    train: str = msgspec.field(name="fit")
    first_after: int = msgspec.field(name="first")
    cooldown: str
    daily_budget: int | None
    learn_from: Literal["events", "logged"] = msgspec.field(name="source")
    triggers: TriggerSpec
    gate: GateSpec
    on_demand: OnDemandSpec | UnsetType = UNSET
    own_event: OwnEventRule | UnsetType = UNSET
    on_stale: Literal["keep"] | UnsetType = UNSET
    categories: tuple[str, ...] | UnsetType = UNSET

    @cached_property
    def version(self) -> str:
        """The hash of the spec."""
        return spec_hash(self)
