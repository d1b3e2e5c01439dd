"""The two processes of a fit: a keeper, and the worker that it makes, in which the train function runs.

The worker may start processes and threads. The keeper ends all of them when the trainer asks for it, when the trainer
dies, and when they hold more memory than they may. It also keeps what they print.
"""

from __future__ import annotations

import faulthandler
import logging
import multiprocessing
import os
import resource
import signal
import sys
import traceback
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from headrace.base.process_tree import IS_LINUX, adopt_orphans, die_with_parent, kill_below, memory_below
from headrace.errors import ArtifactError, FitError, PredictionError
from headrace.trainers.runs.fit_task import ScoreTask, perform, score, try_few_rows
from headrace.trainers.runs.run_logs import FitOutput

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    import numpy as np

    from headrace.trainers.runs.fit_task import FitResult, FitTask

_POLL_S = 0.1
_PIECE = 1 << 16


@dataclass(frozen=True)
class FitFailure:
    """The reason for which a fit has no result, in one line, and the traceback if the train function raised."""

    reason: str
    traceback: str = ""


def keep(answers: Connection, line: Connection, memory: int, log: Path | None) -> None:
    """Run in the keeper: make the worker, and end everything when ``line`` closes.

    If the worker ends without an answer, or holds more than ``memory`` bytes, a FitFailure is sent on ``line``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the trainer, which closes the line
    adopt_orphans()
    reading, writing = os.pipe()
    worker = multiprocessing.get_context("fork").Process(
        target=_work, args=(answers, line, memory, None if log is None else writing), name="headrace-fit-worker"
    )
    worker.start()
    answers.close()
    os.close(writing)
    output = None if log is None else FitOutput(log)
    try:
        failure = _watch(worker, line, memory, _Pipe(reading, output))
        if failure is not None:
            line.send(failure)
    except OSError:  # the trainer is gone
        pass
    finally:
        kill_below(worker.pid or 0)
        _Pipe(reading, output).drain()
        if output is not None:
            output.close()
    os._exit(0)  # nothing of the user's code has run here, and no thread is waited for


@dataclass
class _Pipe:
    """What the worker and its children print, and where it goes."""

    reading: int
    output: FitOutput | None
    is_open: bool = True

    def copy(self) -> None:
        data = os.read(self.reading, _PIECE)
        self.is_open = bool(data)
        if self.output is not None:
            self.output.write(data)

    def drain(self) -> None:
        os.set_blocking(self.reading, False)
        try:
            while self.is_open:
                self.copy()
        except BlockingIOError:
            pass


def _watch(worker: BaseProcess, line: Connection, memory: int, pipe: _Pipe) -> FitFailure | None:
    """Return when the line or the trainer closes, or with the reason why the fit has to end."""
    trainer = multiprocessing.parent_process()
    ends: list[Connection | int] = [line] if trainer is None else [line, trainer.sentinel]
    while True:
        ready = wait([*ends, *([pipe.reading] if pipe.is_open else [])], _POLL_S)
        if pipe.reading in ready:
            pipe.copy()
        if any(end in ready for end in ends):
            return None
        if not worker.is_alive():
            return FitFailure(_died(worker.exitcode))
        used = memory_below(os.getpid()) if memory and IS_LINUX else 0
        if memory and used > memory:
            return FitFailure(
                f"it took {used / 2**20:,.0f} MiB of memory with all of its processes, the setting "
                f"`trainer.fit_memory` allows {memory / 2**20:,.0f} MiB, and was stopped"
            )


def _died(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"its process died of {name}" + (": out of memory?" if name == "SIGKILL" else "")
    return f"its process ended without a result (exit code {code}): train must return, and not leave the process"


def _work(answers: Connection, line: Connection, memory: int, output: int | None) -> None:
    """Run in the worker: do one task, and answer with its result or a FitFailure."""
    die_with_parent()
    line.close()  # the line of the keeper alone
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if memory and not IS_LINUX:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    if output is not None:
        _print_to(output)
    answers.send(_answer(answers))


def _print_to(output: int) -> None:
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", force=True)


def _answer(answers: Connection) -> FitResult | np.ndarray | FitFailure:
    try:
        task: FitTask | ScoreTask = answers.recv()
        if isinstance(task, ScoreTask):
            return score(task)
        if task.is_tried:
            try_few_rows(task)
        found = perform(task)
    except (ArtifactError, PredictionError, FitError) as error:
        return FitFailure(str(error))
    except MemoryError:
        return FitFailure("there was not enough memory", _traced())
    except ImportError as error:
        return FitFailure(f"{error}; install it where the trainer runs, and start the trainer again", _traced())
    except Exception as error:  # noqa: BLE001 - the trainer words it
        return FitFailure(f"{type(error).__name__}: {error}", _traced())
    if task.log is not None:
        print(f"headrace: the fit of {len(task.label):,} rows succeeded in {found.seconds:.1f} s", flush=True)  # noqa: T201
    return found


def _traced() -> str:
    text = traceback.format_exc()
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - to the run's log
    return text
