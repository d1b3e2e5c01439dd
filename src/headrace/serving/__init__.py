"""For applications: look features up, follow model events, predict, and log what was served.

Importing it is light: neither scikit-learn nor pandas nor a Kafka client is loaded before it is used.
"""

from headrace.serving.answerer import Predicted
from headrace.serving.async_features import AsyncFeatureClient
from headrace.serving.connection import Connection
from headrace.serving.features import FeatureClient, FeatureVectors, Status
from headrace.serving.predictor import Predictor
from headrace.serving.subscriber import LoadedModel, LoadingPolicy, ModelSubscriber

__all__ = [
    "AsyncFeatureClient",
    "Connection",
    "FeatureClient",
    "FeatureVectors",
    "LoadedModel",
    "LoadingPolicy",
    "ModelSubscriber",
    "Predicted",
    "Predictor",
    "Status",
]
