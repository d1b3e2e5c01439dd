"""The fits of a trainer have the limits, the log and the trial that its settings ask for.

Trainers know of each other's runs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from headrace.bus.control_topics import ControlTopics
from headrace.bus.producer import EventProducer
from headrace.errors import FitError
from headrace.event_log.event_log import EventLog
from headrace.trainers.process import trainer as trainer_process
from headrace.trainers.process.trainer import RegistryPlace, Trainer, TrainerConfig, make_topics
from headrace.trainers.runs.fitting import FitLimits, InlineFits
from headrace.trainers.runs.run_logs import RunLogs
from headrace.trainers.runs.training_runner import RunOptions
from tests.support.crash.trained_models import trained_models, write_log
from tests.support.orders_model import day, fit, request

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from headrace.trainers.runs.fit_task import FitResult, FitTask

pytestmark = pytest.mark.integration
LIMITS = FitLimits(seconds=5, memory=1 << 30)


class SeenFits:
    """Keeps what a fit would be given."""

    def __init__(self, limits: FitLimits) -> None:
        assert limits == LIMITS

    def fit(self, task: FitTask) -> FitResult:
        raise FitError(f"log={task.log} tried={task.is_tried}")


@pytest.mark.long
def test_a_fit_has_the_limits_and_the_log_of_the_settings_and_is_tried_first(
    services: LocalServices, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_process, "FitPool", SeenFits)
    write_log(EventLog(tmp_path / "log", namespace=namespace), [])
    make_topics(services.bootstrap_servers, ControlTopics(namespace))
    logs = RunLogs(tmp_path / "runs")
    config = TrainerConfig(
        services.bootstrap_servers,
        str(tmp_path / "log"),
        RegistryPlace(f"sqlite:///{tmp_path}/mlflow.db", tmp_path.as_uri()),
        str(tmp_path),
        namespace=namespace,
        options=RunOptions(logs=logs),
        fit_limits=LIMITS,
    )
    [model] = trained_models(1)
    asked = msgspec.structs.replace(request("first", day(22)), model=model.name)
    ended = Trainer(config, [model]).runners()[model.name].run(asked)
    assert f"log={logs.path(asked.request_id)} tried=True" in ended.reason


def learns_the_opposite(X: Any, y: Any, run: Any) -> Any:  # noqa: N803
    return fit(X, 1 - y, run)


@pytest.mark.long
def test_a_trainer_knows_what_another_one_has_looked_at_and_refused_meanwhile(
    services: LocalServices, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_process, "FitPool", lambda _: InlineFits())
    write_log(EventLog(tmp_path / "log", namespace=namespace), [])
    topics = ControlTopics(namespace)
    make_topics(services.bootstrap_servers, topics)
    config = TrainerConfig(
        services.bootstrap_servers,
        str(tmp_path / "log"),
        RegistryPlace(f"sqlite:///{tmp_path}/mlflow.db", tmp_path.as_uri()),
        str(tmp_path),
        namespace=namespace,
    )
    [model] = trained_models(1)
    first, second = (msgspec.structs.replace(request(name, day(22)), model=model.name) for name in ("first", "second"))
    mine = Trainer(config, [model]).runners()[model.name]
    other = Trainer(config, [replace(model, train=learns_the_opposite)]).runners()[model.name]
    refused = other.run(first)
    assert refused.outcome == "refused", refused.reason
    producer = EventProducer(services.bootstrap_servers)
    producer.put(topics.runs, model.name.encode(), msgspec.json.encode(refused))
    producer.flush()
    published = mine.run(second)
    assert (published.outcome, published.version) == ("published", 1), published.reason
    assert published.gate is not None
    assert published.gate["looks_max"] == 2
    again = mine.run(first)  # the trainer that refused it may have died before it said so
    assert msgspec.structs.replace(again, seconds={}) == msgspec.structs.replace(refused, seconds={})
