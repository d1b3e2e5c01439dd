"""The topics by which the processes of one namespace talk to each other, and the two that all namespaces share.

This module is the only one that knows their names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from headrace.errors import SettingsError

DEFAULT_NAMESPACE = "headrace"
NAMESPACE = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""The pattern of a namespace: it begins names of topics, consumer groups and keys, so it has Kafka's characters."""
LONGEST_NAMESPACE = 150
"""Kafka's names of topics have at most 249 characters, and the longest ending of ours has 26."""

EVENT_LOGS = "headrace.event-logs"
"""Shared: whose event log is whose. A namespace could not see otherwise that another one has its log already."""
REPLAYS = "headrace.replays"
"""Shared: which dead letters were sent again. They go to the topics of streams, which all namespaces may read."""


def check_namespace(namespace: str) -> str:
    """Return the namespace. Raises SettingsError if names of topics cannot begin with it.

    >>> check_namespace("shop")
    'shop'
    """
    if len(namespace) > LONGEST_NAMESPACE or not re.fullmatch(NAMESPACE, namespace):
        message = (
            f"namespace {namespace!r} cannot begin the names of Kafka's topics: wanted are 1 to {LONGEST_NAMESPACE} "
            "letters of ASCII, digits, '.', '_' and '-', the first one a letter or a digit, such as 'shop'"
        )
        raise SettingsError(message)
    return namespace


@dataclass(frozen=True)
class ControlTopics:
    """The names of one namespace's control topics. Another namespace has other ones: they share none of these.

    Raises SettingsError for a namespace with other characters than topics have.

    >>> ControlTopics("shop").decisions
    'shop.decisions'
    """

    namespace: str = DEFAULT_NAMESPACE

    def __post_init__(self) -> None:
        check_namespace(self.namespace)

    def _topic(self, what: str) -> str:
        return f"{self.namespace}.{what}"

    @property
    def all(self) -> tuple[str, ...]:
        """All of them."""
        return (
            self.observations, self.decisions, self.retrain_requests, self.runs, self.models, self.model_acks,
            self.control, self.exclusions, self.definitions, self.vectors, self.predictions, self.operator_requests,
            self.heartbeats, self.findings,
        )  # fmt: skip

    @property
    def observations(self) -> str:
        """The reports of workers."""
        return self._topic("observations")

    @property
    def heartbeats(self) -> str:
        """What trainers and applications say of themselves."""
        return self._topic("heartbeats")

    @property
    def findings(self) -> str:
        """The results of checks: audits, watched inputs, the doctor."""
        return self._topic("findings")

    @property
    def reports(self) -> tuple[str, str, str]:
        """The three topics on which processes say how they do, as ``report_plans`` takes them."""
        return self.observations, self.heartbeats, self.findings

    @property
    def decisions(self) -> str:
        """The evaluations of trigger rules, and the ends of runs."""
        return self._topic("decisions")

    @property
    def retrain_requests(self) -> str:
        """The requests for runs."""
        return self._topic("retrain-requests")

    @property
    def runs(self) -> str:
        """The results of runs."""
        return self._topic("runs")

    @property
    def operator_requests(self) -> str:
        """What a person, or a program, tells the trainers to do."""
        return self._topic("operator-requests")

    @property
    def models(self) -> str:
        """The model events."""
        return self._topic("models")

    @property
    def model_acks(self) -> str:
        """The acknowledgements of applications."""
        return self._topic("model-acks")

    @property
    def control(self) -> str:
        """The ticks of an injected clock, and requests to flush."""
        return self._topic("control")

    @property
    def exclusions(self) -> str:
        """The spans of time that are marked bad."""
        return self._topic("exclusions")

    @property
    def definitions(self) -> str:
        """The deployments of views and services."""
        return self._topic("definitions")

    @property
    def vectors(self) -> str:
        """The vectors that applications were served."""
        return self._topic("vectors")

    @property
    def predictions(self) -> str:
        """The answers of model versions to served vectors."""
        return self._topic("predictions")
