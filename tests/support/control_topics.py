"""The control topics of the default namespace, by short names."""

from headrace.bus.control_topics import DEFAULT_NAMESPACE, ControlTopics
from headrace.models.predictions import predictions_of, vectors_of

TOPICS = ControlTopics()
OBSERVATIONS, DECISIONS, RETRAIN_REQUESTS, RUNS = (
    TOPICS.observations, TOPICS.decisions, TOPICS.retrain_requests, TOPICS.runs,
)  # fmt: skip
MODELS, MODEL_ACKS, CONTROL, EXCLUSIONS, DEFINITIONS = (
    TOPICS.models, TOPICS.model_acks, TOPICS.control, TOPICS.exclusions, TOPICS.definitions,
)  # fmt: skip
VECTORS, PREDICTIONS = vectors_of(DEFAULT_NAMESPACE), predictions_of(DEFAULT_NAMESPACE)
