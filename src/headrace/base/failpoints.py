"""Named places in the code where a test may let the process die or stop.

``FAILPOINT=after-redis:3`` kills the worker or trainer when it passes ``after-redis`` for the third time, as by
``kill -9``. ``FAILPOINT=after-redis:3:SIGSTOP`` stops it there instead. Without the variable a failpoint costs one
look-up in a dictionary.

The names in a worker, in the order in which a batch passes them::

    before-redis     a batch is judged, buffered and folded; its write has not begun
    after-redis      the store has answered the write of a batch
    before-delta     a commit of the event log begins
    after-delta      the commit is made; the worker does not know it yet
    before-catch-up  a slice of a catch-up is folded; its write has not begun
    after-catch-up   the store has answered the write of a slice

The names in an import of history, in the order in which it passes them::

    after-import-piece  a piece of a file is judged and sorted, on the disk
    after-import-file   a file of the event log is written; the table does not have it
    before-import       all files are written, and the import is described; the commit has not begun
    after-import        the commit is made; the process does not know it yet
    after-undo-note     the import is noted as undone; its rows are still there

The name in an ingest::

    after-ingest-flush  Kafka has the rows of a file or a batch; the file or the position is not remembered yet

The names in a processor, in the order in which a batch passes them::

    before-process-write    the events, or their features, are made; the transaction has not begun
    before-process-offsets  Kafka's client has the events; the offsets are not in the transaction
    before-process-commit   the offsets are in the transaction; it is open
    after-process-commit    the transaction is committed; the process does not know it yet

The names in a trainer, in the order in which a run passes them::

    before-ask           a decision asks for a run; nothing is on the bus
    after-ask            the request is on the bus; the decision is not
    after-decision       the decision is on the bus; the trainer's state does not have it yet
    before-training-set  a request is taken
    after-training-set   the rows are there; the fit has not begun
    after-fit            the challenger is fitted
    after-gate           the gate has judged it
    after-refit          the model to publish is fitted
    before-version       the registry has the run and its files, and no version
    after-version        the registry has the version, and does not call the run complete
    after-register       the run is complete in the registry
    after-publish        the model event is on the bus
    after-alias          the registry's alias names the version
    after-answer         the end of the run is on the bus; the request is not committed
"""

from __future__ import annotations

import os
import signal

_armed: dict[str, int] = {}
_signals: dict[str, signal.Signals] = {}


def arm(setting: str | None) -> None:
    """Arm a failpoint from ``name:count`` or ``name:count:SIGNAL``. None disarms all."""
    _armed.clear()
    if setting:
        name, count, sent = [*setting.split(":"), "", ""][:3]
        _signals[name] = signal.Signals[sent or "SIGKILL"]
        _armed[name] = int(count or 1)


def failpoint(name: str) -> None:
    """Die or stop here if this failpoint is armed and is passed for the last time of its count."""
    if name in _armed:
        _armed[name] -= 1
        if _armed[name] == 0:
            os.kill(os.getpid(), _signals[name])
