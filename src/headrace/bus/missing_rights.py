"""Says which right a client lacks, after a broker has refused it.

The broker names neither the right nor, for a group, the group.
"""

from __future__ import annotations

_KINDS = {
    "TOPIC_AUTHORIZATION_FAILED": "topic",
    "GROUP_AUTHORIZATION_FAILED": "group",
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": "transactional id",
    "CLUSTER_AUTHORIZATION_FAILED": "cluster",
}


def missing_right(error: object, operation: str, name: str) -> str:
    """Return what to add to the message of an error; empty if no right is missing.

    ``error`` is a KafkaError, or the KafkaException that has one. ``operation`` is what the client tried, in the words
    of Kafka's ACLs. ``name`` is that of the topic, group or transactional id.

    >>> from confluent_kafka import KafkaError
    >>> missing_right(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), "Read", "payments")
    ": Kafka's user lacks the right Read on the topic 'payments'. docs/explanation/security.md has all rights"
    >>> missing_right(KafkaError(KafkaError.REQUEST_TIMED_OUT), "Read", "payments")
    ''
    """
    kind = _KINDS.get(_name(error))
    if kind is None:
        return ""
    where = "the cluster" if kind == "cluster" else f"the {kind} {name!r}"
    return f": Kafka's user lacks the right {operation} on {where}. docs/explanation/security.md has all rights"


def _name(error: object) -> str:
    """Return the name of an error of Kafka."""
    from confluent_kafka import KafkaError  # noqa: PLC0415 - keeps `import headrace.serving` light

    found = error.args[0] if isinstance(error, Exception) and error.args else error
    return found.name() if isinstance(found, KafkaError) else ""
