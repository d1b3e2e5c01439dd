"""The classes by which users define a model: Model and Label. The module exports Gate and the trigger functions too."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args

from msgspec import UNSET

from headrace.base.arguments import expect, expect_items
from headrace.base.times import Duration, duration_us, format_duration
from headrace.bus.stream import Stream
from headrace.errors import DefinitionError, naming
from headrace.features.definitions.decimals import in_doubles
from headrace.features.definitions.expression import Expression
from headrace.features.definitions.expression_kinds import kind
from headrace.features.definitions.expression_tree import expect_writable
from headrace.features.definitions.service import FeatureService
from headrace.trainers.definition_checks import (
    brings,
    check_categories,
    check_is_no_table,
    check_own_event,
    described,
    one_of,
)
from headrace.trainers.gate_definition import Gate
from headrace.trainers.label_checks import DeclaredLabel, prediction_task
from headrace.trainers.metrics.named_metrics import metric_for
from headrace.trainers.model_spec import LabelSpec, ModelSpec
from headrace.trainers.train_function import EstimatorTraining, Run, TrainFunction, check_train, train_name
from headrace.trainers.triggers.consecutive import consecutive
from headrace.trainers.triggers.hysteresis import hysteresis, watched_metrics
from headrace.trainers.triggers.rule_parts import expect_rules
from headrace.trainers.triggers.rules import all_of, any_of, at_least, drift, performance, schedule, volume
from headrace.trainers.triggers.trigger_policy import TriggerPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.features.definitions.feature_spec import OwnEventRule
    from headrace.features.definitions.view import FeatureView
    from headrace.models.prediction_task import PredictionTask, TaskName
    from headrace.trainers.triggers.trigger_rule import TriggerRule

__all__ = [
    "Gate", "Label", "Model", "Run", "all_of", "any_of", "at_least", "consecutive", "drift", "hysteresis",
    "performance", "schedule", "volume",
]  # fmt: skip

SPEC_VERSION = 1
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


LearnFrom = Literal["events", "logged"]
WhichLabel = Literal["first", "last"]
StaleRule = Literal["leave_out", "keep"]


@dataclass(frozen=True)
class Label:
    """The label of a request: it comes from the event of ``stream`` that has the same value in the field ``on``.

    ``value`` is an expression over the fields of that event. If the value is null, the event is not a label. A label
    must arrive after the request and ``within`` this time: an earlier or a later one does not count. If several do,
    ``which`` says whether the first or the last of them is the label. ``missing`` is the value of a label that has not
    arrived: ``None`` leaves the row out, ``False`` counts it as false.

    The task follows from the value, or ``task`` declares it. A condition is ``"binary"``: the model predicts the
    probability of true. A number is ``"regression"``. With ``classes`` the value is one of these texts or whole
    numbers, and the model predicts the probability of each; another value is no label. With ``classes`` and ``limits``
    the value is a number: it is of the first class up to the first limit, of the second one above it, and so on. With
    ``quantiles`` the model predicts these quantiles of a number.

    >>> from datetime import datetime
    >>> from headrace import Event, Label, Stream, col
    >>> class Ride(Event):
    ...     ride_id: int
    ...     ended_at: datetime
    ...     delay_minutes: float
    >>> rides = Stream("ride", Ride, event_time="ended_at")
    >>> late = Label(rides, value=col("delay_minutes") > 15, on="ride_id", within="36h")
    >>> late.predicts.name, Label(rides, value=col("delay_minutes"), on="ride_id", within="36h").predicts.name
    ('binary', 'regression')
    >>> Label(rides, value=col("delay_minutes"), on="ride_id", within="36h", quantiles=[0.1, 0.9]).predicts.outputs
    ('0.1', '0.9')
    """

    stream: Stream
    value: Expression
    on: str
    within: Duration
    missing: Literal[False] | None = None
    which: WhichLabel = "first"
    task: TaskName | None = None
    classes: Sequence[str] | Sequence[int] = ()
    limits: Sequence[float] = ()
    quantiles: Sequence[float] = ()

    def __post_init__(self) -> None:
        expect("label", "stream", self.stream, Stream, write="a Stream, such as Stream('returns', Return, …)")
        where = f"label on {self.stream.topic!r}"
        check_is_no_table(f"{where}: stream", self.stream)
        expect(where, "value", self.value, Expression, write="a condition, such as col('delay_minutes') > 15")
        expect(where, "on", self.on, str, write="the name of a field that requests and labels have")
        with naming(f"{where}: on"):
            self.stream.field(self.on)
        task = self.predicts  # its own checks
        with naming(f"{where}: within"):
            within_us = duration_us(self.within)
        if within_us <= 0:
            message = f"{where}: within={self.within!r} must be longer than 0"
            raise DefinitionError(message)
        if not any(self.missing is choice for choice in (None, False)):
            message = (
                f"{where}: missing={self.missing!r}; choose None, which leaves a row without a label out, or False, "
                "which counts it as false"
            )
            raise DefinitionError(message)
        if self.missing is not None and task.name != "binary":
            message = f"{where}: missing=False is for a label that is true or false, and the task is {task.name!r}"
            raise DefinitionError(message)
        one_of(where, "which", self.which, get_args(WhichLabel))

    @cached_property
    def predicts(self) -> PredictionTask:
        """The task of a model with this label."""
        where = f"label on {self.stream.topic!r}"
        kinds = self.stream.spec.kinds
        with naming(f"{where}: value"):
            expect_writable(self.value.tree)
            found = kind(in_doubles(self.value.tree, kinds), kinds)
        return prediction_task(DeclaredLabel(where, found, self.task, self.classes, self.limits, self.quantiles))

    @cached_property
    def spec(self) -> LabelSpec:
        """The label as data."""
        task = self.predicts
        return LabelSpec(
            topic=self.stream.topic,
            value=self.value.tree,
            on=self.on,
            within_us=duration_us(self.within),
            missing="drop" if self.missing is None else "false",
            which=UNSET if self.which == "first" else self.which,
            task=UNSET if task.name == "binary" else task.name,
            classes=task.classes or UNSET,
            limits=tuple(map(float, self.limits)) or UNSET,
            quantiles=task.quantiles or UNSET,
        )


@dataclass(frozen=True)
class Model:
    """A model: its requests, its features, its label, its training function, and the triggers of a new training.

    ``requests`` is the stream of rows to predict. ``request_key`` names the field that identifies a request,
    ``requested_at`` the field with the time of its look-up. The label says what is predicted. ``train(X, y, run)``
    returns a fitted estimator; it is a function, a partial or a callable object. For classes ``y`` has their values.
    For quantiles it may return a list with one estimator for each. Or give an ``estimator``: each run clones it, sets
    every ``random_state`` that is None from its seed, and fits it. ``first_after`` is the number of matured rows that
    version 1 needs. ``cooldown`` is the event time between the end of a run and the next request for one;
    ``daily_budget`` is the largest number of such requests on one day.

    ``learn_from`` says which features later versions are trained on. ``"events"``: the features are computed from the
    event log as of each request. ``"logged"``: the vectors that were logged when they were served; rows that were never
    served are left out. Version 1 always learns from the events, since nothing has been served before it.

    ``own_event`` must be given if a view is made from the stream of the requests. A look-up may then come before or
    after its own request is counted. ``"included"``: a prediction waits until the view has counted the request's event,
    and training rows count it too. ``"excluded"``: neither counts it. The features of these views must then be Count,
    Sum, Mean or Histogram, because the other aggregates cannot leave one event out.

    ``on_stale`` concerns vectors of which a view was served ``stale``, ``rebuilding``, ``behind`` or ``out_of_range``.
    ``"leave_out"``: they count neither for drift and performance nor for the gate, and are not learnt from if the model
    learns from logged vectors. ``"keep"``: they count like all others. ``missing`` is no fault: the entity is new.

    ``categories`` names the inputs that the estimator gets as a ``category`` of pandas, such as
    ``HistGradientBoostingClassifier(categorical_features="from_dtype")`` wants them: features and request features that
    are texts or whole numbers.

    >>> from datetime import datetime
    >>> from headrace import Count, Entity, Event, FeatureService, FeatureView, Gate, Label, Model, Stream, col, volume
    >>> class Order(Event):
    ...     order_id: int
    ...     shop: str
    ...     amount: float
    ...     ordered_at: datetime
    >>> class Returned(Event):
    ...     order_id: int
    ...     returned_at: datetime
    ...     broken: bool
    >>> orders = Stream("orders", Order, event_time="ordered_at", key="order_id")
    >>> returns = Stream("returns", Returned, event_time="returned_at", key="order_id")
    >>> shop = FeatureView("shop", entity=Entity("shop"), source=orders, windows=["1d"], features={"orders": Count()})
    >>> def train(X, y, run):
    ...     return LogisticRegression(random_state=run.seed).fit(X, y)
    >>> broken = Model(
    ...     "broken",
    ...     requests=orders,
    ...     request_key="order_id",
    ...     requested_at="ordered_at",
    ...     features=FeatureService("broken", [shop]),
    ...     request_features=["amount"],
    ...     label=Label(returns, value=col("broken"), on="order_id", within="14d", missing=False),
    ...     train=train,
    ...     first_after=5_000,
    ...     triggers=volume(labels=5_000),
    ...     gate=Gate("auc"),
    ...     own_event="excluded",  # an order is predicted from the shop's other orders
    ... )
    >>> broken.features.columns()
    ['shop__orders_1d']
    """

    name: str
    _: KW_ONLY
    requests: Stream
    request_key: str
    requested_at: str
    features: FeatureService
    label: Label
    train: TrainFunction | None = None
    estimator: Any = None
    triggers: TriggerRule
    gate: Gate
    request_features: Sequence[str] = ()
    first_after: int = 20_000
    cooldown: Duration = "7d"
    daily_budget: int | None = None
    learn_from: LearnFrom = "events"
    own_event: OwnEventRule | None = None
    on_stale: StaleRule = "leave_out"
    categories: Sequence[str] = ()

    def __post_init__(self) -> None:
        name: object = self.name
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            message = f"model name {self.name!r}: use letters, digits, _ and -, beginning with a letter"
            raise DefinitionError(message)
        self._check_types()
        self._check_requests()
        self._check_features()
        check_own_event(self.name, self.requests.topic, self.own_event, self.own_views)
        self._check_on_demand()
        check_categories(self.name, self.categories, self.input_kinds)
        self._check_label()
        self._check_metrics()
        with naming(f"model {self.name!r}: cooldown"):
            duration_us(self.cooldown)
        one_of(f"model {self.name!r}", "learn_from", self.learn_from, get_args(LearnFrom))
        one_of(f"model {self.name!r}", "on_stale", self.on_stale, get_args(StaleRule))
        _ = self.policy  # its own checks

    def _check_types(self) -> None:
        where = f"model {self.name!r}"
        expect(where, "requests", self.requests, Stream, write="a Stream, such as Stream('orders', Order, …)")
        check_is_no_table(f"{where}: requests", self.requests)
        expect(
            where, "features", self.features, FeatureService, write="a FeatureService, such as FeatureService('f', …)"
        )
        expect(where, "label", self.label, Label, write="a Label, such as Label(returns, value=…, on=…, within='14d')")
        expect(where, "gate", self.gate, Gate, write="a Gate, such as Gate('auc')")
        expect_items(where, "request_features", self.request_features, str, write="a list of fields, such as ['hour']")
        expect_items(where, "categories", self.categories, str, write="a list of inputs, such as ['country']")
        expect(where, "first_after", self.first_after, int, write="a whole number, such as 20_000")
        expect(where, "daily_budget", self.daily_budget, (int, NoneType), write="a whole number, such as 2, or None")
        expect_rules(where, "triggers", [self.triggers])
        check_train(where, self.train, self.estimator, self.label.predicts)

    def _check_requests(self) -> None:
        self._request_field("request_key", self.request_key, ("int", "str"))
        self._request_field("requested_at", self.requested_at, ("datetime",))
        for name in self.request_features:
            self._request_field("request_features", name, ("int", "float", "bool", "str"))
        for name in self.gate.block_keys:
            self._request_field("gate: block", name, ("int", "str"))
        if len(set(self.request_features)) != len(self.request_features):
            message = f"model {self.name!r}: request_features={list(self.request_features)} names a field twice"
            raise DefinitionError(message)

    def _request_field(self, what: str, name: str, kinds: tuple[str, ...]) -> None:
        choices = [f.name for f in self.requests.fields if f.kind in kinds and f.is_single]
        if name not in choices:
            stream = f"{self.requests.event.__name__} ({self.requests.topic!r})"
            message = (
                f"model {self.name!r}: {what} names {name!r}; the {'/'.join(kinds)} fields of {stream} are {choices}"
            )
            raise DefinitionError(message)

    def _check_features(self) -> None:
        for view in self.features.views:
            for key in view.entity.join_keys:
                if key not in {f.name for f in self.requests.fields}:
                    message = (
                        f"model {self.name!r}: view {view.name!r} is looked up by {key!r}, which "
                        f"{self.requests.event.__name__} ({self.requests.topic!r}) does not have; "
                        f"it has {[f.name for f in self.requests.fields]}"
                    )
                    raise DefinitionError(message)

    @cached_property
    def input_kinds(self) -> dict[str, str]:
        """The kind of each input of the estimator, in order: of the features, then of the request features."""
        return self.features.column_kinds | {name: self.requests.field(name).kind for name in self.request_features}

    @cached_property
    def own_views(self) -> list[FeatureView]:
        """The views that are made from the stream of the requests."""
        return [view for view in self.features.views if self.requests.topic in view.spec.topics]

    def _check_on_demand(self) -> None:
        ours = {f.name: f for f in self.requests.fields}
        stream = f"{self.requests.event.__name__} ({self.requests.topic!r})"
        for name in self.features.on_demand:
            if name in ours:
                message = f"model {self.name!r}: on_demand {name!r} is also a field of {stream}: rename the feature"
                raise DefinitionError(message)
        for wanted in self.features.request_fields:
            found = ours.get(wanted.name)
            if found is None or not brings(found, wanted):
                message = (
                    f"model {self.name!r}: service {self.features.name!r} wants {described(wanted)} with a "
                    f"request; {stream} has {'no such field: ' + repr([*ours]) if found is None else found}"
                )
                raise DefinitionError(message)

    def _check_label(self) -> None:
        ours, theirs = self.requests.field(self.label.on), self.label.stream.field(self.label.on)
        if ours.kind != theirs.kind:
            message = (
                f"model {self.name!r}: the label joins on {self.label.on!r}, which is {ours.kind} in "
                f"{self.requests.topic!r} and {theirs.kind} in {self.label.stream.topic!r}"
            )
            raise DefinitionError(message)

    def _check_metrics(self) -> None:
        """Give the gate the usual metric of the label's task if it has none, and check all metrics for the task."""
        task = self.label.predicts
        object.__setattr__(self, "gate", self.gate.for_task(task.name))
        for part, metric in (("gate", self.gate.decides_by), *watched_metrics(self.triggers)):
            where = f"model {self.name!r}: {part}"
            metric_for(where, metric, task.name)
            if task.classes and metric.classes not in {None, len(task.classes)}:
                message = (
                    f"{where}: metric={metric.name!r} has costs for {metric.classes} classes, and the label has "
                    f"{len(task.classes)}: {list(task.classes)}"
                )
                raise DefinitionError(message)

    @cached_property
    def train_function(self) -> TrainFunction:
        """The function that a run calls: ``train``, or one that fits a clone of ``estimator``."""
        return EstimatorTraining(self.estimator) if self.train is None else self.train

    @cached_property
    def policy(self) -> TriggerPolicy:
        """The triggers with the limits around them."""
        return TriggerPolicy(self.name, self.triggers, self.first_after, duration_us(self.cooldown), self.daily_budget)

    @cached_property
    def spec(self) -> ModelSpec:
        """The model as data. The code of ``train`` is not in it, only its name."""
        return ModelSpec(
            spec_version=SPEC_VERSION,
            name=self.name,
            requests=self.requests.topic,
            request_key=self.request_key,
            requested_at=self.requested_at,
            features=self.features.name,
            views=self.features.spec.views,
            request_features=tuple(self.request_features),
            label=self.label.spec,
            train=train_name(self.train_function),
            first_after=self.first_after,
            cooldown=format_duration(duration_us(self.cooldown)),
            daily_budget=self.daily_budget,
            learn_from=self.learn_from,
            triggers=self.triggers.spec,
            gate=self.gate.spec,
            on_demand=self.features.spec.on_demand,
            own_event=self.own_event or UNSET,
            on_stale=UNSET if self.on_stale == "leave_out" else self.on_stale,
            categories=tuple(self.categories) or UNSET,
        )

    @property
    def version(self) -> str:
        """The hash of the spec."""
        return self.spec.version
