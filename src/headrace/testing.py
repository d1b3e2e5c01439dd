"""Tests without servers: features of given rows, and doubles of all that headrace keeps in Kafka, Redis or MLflow.

``fold`` computes what a look-up answers after some rows, as :class:`FoldedFeatures`. A ``Record`` is a row with a
timestamp of its own. docs/how-to/test-features.md shows both.

Each double passes the same contract tests as the real thing. They are imported when they are first used.

| double | stands for |
|---|---|
| `MemoryOnlineStore` | the online store in Redis |
| `MemoryModelEventLog` | the log of model events on Kafka |
| `MemoryAcknowledgements` | the topic of applications' acknowledgements |
| `MemoryRegistry` | the registry on MLflow |
| `MemoryExclusions` | the log of time spans that were marked bad |
| `InlineFits` | the child processes in which estimators are fitted |
| `SettableClock` | the clock of the machine |

`check_trigger_rule` tests whether a trigger rule of a project keeps the contract of trigger rules.

>>> from headrace.testing import SettableClock
>>> clock = SettableClock()
>>> clock()
0
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.app.in_memory.folded_features import FoldedFeatures
    from headrace.app.in_memory.memory_fold import fold
    from headrace.app.in_memory.record import Record
    from headrace.base.times import SettableClock
    from headrace.features.online.memory_store import MemoryOnlineStore
    from headrace.models.model_event_log import MemoryAcknowledgements, MemoryModelEventLog
    from headrace.models.registry import MemoryRegistry
    from headrace.trainers.data.exclusions import MemoryExclusions
    from headrace.trainers.runs.fitting import InlineFits
    from headrace.trainers.triggers.rule_conformance import check_trigger_rule

_HOME = {
    "FoldedFeatures": "headrace.app.in_memory.folded_features",
    "InlineFits": "headrace.trainers.runs.fitting",
    "MemoryAcknowledgements": "headrace.models.model_event_log",
    "MemoryExclusions": "headrace.trainers.data.exclusions",
    "MemoryModelEventLog": "headrace.models.model_event_log",
    "MemoryOnlineStore": "headrace.features.online.memory_store",
    "MemoryRegistry": "headrace.models.registry",
    "Record": "headrace.app.in_memory.record",
    "SettableClock": "headrace.base.times",
    "check_trigger_rule": "headrace.trainers.triggers.rule_conformance",
    "fold": "headrace.app.in_memory.memory_fold",
}

__all__ = [
    "FoldedFeatures",
    "InlineFits",
    "MemoryAcknowledgements",
    "MemoryExclusions",
    "MemoryModelEventLog",
    "MemoryOnlineStore",
    "MemoryRegistry",
    "Record",
    "SettableClock",
    "check_trigger_rule",
    "fold",
]


if not TYPE_CHECKING:  # type checkers know the names above, and only those

    def __getattr__(name: str) -> object:
        """Import a double from its module on first use (PEP 562)."""
        if name not in _HOME:
            raise AttributeError(f"module 'headrace.testing' has no attribute {name!r}; it has {', '.join(__all__)}")
        value: object = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
