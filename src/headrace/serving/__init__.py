"""For applications: look features up, follow model events, predict, and log the answers.

Importing it is light: scikit-learn, pandas and the Kafka client are loaded when they are first used.
"""

from headrace.serving.answerer import Predicted
from headrace.serving.async_features import AsyncFeatureClient
from headrace.serving.connection import Connection, connect
from headrace.serving.features import FeatureClient, FeatureVectors, Status
from headrace.serving.model_event_feed import ModelEventFeed
from headrace.serving.predictor import Predictor
from headrace.serving.server_addresses import ServerAddresses
from headrace.serving.subscriber import LoadedModel, LoadingPolicy, ModelSubscriber

__all__ = [
    "AsyncFeatureClient",
    "Connection",
    "FeatureClient",
    "FeatureVectors",
    "LoadedModel",
    "LoadingPolicy",
    "ModelEventFeed",
    "ModelSubscriber",
    "Predicted",
    "Predictor",
    "ServerAddresses",
    "Status",
    "connect",
]
