"""A trainer in a process of its own, as `headrace trainer` runs it, that a test may kill or let die at a named step.

It is forked from a process that has the libraries loaded, and so are its fits: a start takes no seconds of imports.
"""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass
from multiprocessing import forkserver
from typing import TYPE_CHECKING, Any

from headrace.app.terminal.logs import configure_logs
from headrace.base.failpoints import arm
from headrace.trainers.process.trainer import RegistryPlace, TrainerConfig, run_trainer
from tests.support.crash.trained_models import trained_models
from tests.support.crash.worker import obey, write_to
from tests.support.processes import end_with_the_test_run

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import below
multiprocessing.get_context("forkserver").set_forkserver_preload(
    ["tests.support.crash.trainer_process", "mlflow", "sklearn.linear_model", "skops.io", "deltalake", "redis"]
)


@dataclass(frozen=True)
class TrainerSetting:
    """What a trainer process is given. ``output``: the file that it writes its messages to."""

    bootstrap_servers: str
    event_log: str
    registry: str
    folder: str
    namespace: str
    models: int
    output: str
    failpoint: str | None = None


def train(setting: TrainerSetting, commands: Connection) -> None:
    """Run until SIGTERM or death."""
    end_with_the_test_run()
    arm(setting.failpoint)
    write_to(setting.output)
    obey(commands)
    configure_logs("info")
    _fork_fits_from_the_same_process()
    run_trainer(
        TrainerConfig(
            setting.bootstrap_servers,
            setting.event_log,
            RegistryPlace(setting.registry, f"file://{setting.folder}/artifacts"),
            f"{setting.folder}/faust",
            namespace=setting.namespace,
        ),
        trained_models(setting.models),
    )


def _fork_fits_from_the_same_process() -> None:
    """Python would start another fork server here, which would import everything again."""
    server: Any = forkserver
    server.ensure_running = server._forkserver.ensure_running = lambda: None
