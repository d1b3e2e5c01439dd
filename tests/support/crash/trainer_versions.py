"""What the trainers of a lane published, registered and decided, compared with what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow

from headrace.app import operators
from headrace.models.model_events import Published
from tests.support.crash.trained_models import trained_models
from tests.support.waiting import until

if TYPE_CHECKING:
    from headrace.models.mlflow_registry import MlflowRegistry
    from tests.support.crash.trainer_lane import TrainerLane


def check_versions(lane: TrainerLane) -> None:
    """Everything that a lane's trainers wrote: one version for each request, wherever they died."""
    states, registry, waves = lane.states(), lane.registry(), len(lane.deck)
    ends = operators.ended_runs(lane.bootstrap_servers, lane.topics)
    requests = operators.requested_runs(lane.bootstrap_servers, lane.topics)
    assert ends.keys() == requests.keys()
    client = mlflow.MlflowClient(f"sqlite:///{lane.folder}/mlflow.db", f"sqlite:///{lane.folder}/mlflow.db")
    until(lambda: champions(lane.names, registry) == {name: states[name].version for name in lane.names}, 30)
    for model in trained_models(lane.models):
        state = states[model.name]
        own = [event.data for event in state.history if isinstance(event.data, Published)]
        assert len(own) == len(state.history)
        assert [data.version for data in own] == list(range(1, waves + 1)), (lane.namespace, model.name)
        published = {data.request_id: data.version for data in own}
        assert len(published) == waves
        assert published == {end.request_id: end.version for end in ends.values() if end.model == model.name}
        registered = client.search_model_versions(f"name = '{model.name}'")
        assert {each.tags["headrace.request_id"]: int(each.version) for each in registered} == published
        assert len(registered) == waves
        records = operators.history(lane.bootstrap_servers, lane.topics, model.name)
        replayed = operators.replay(model, records)
        assert replayed["decisions"] >= waves
        assert replayed["differences"] == []


def champions(names: list[str], registry: MlflowRegistry) -> dict[str, int | None]:
    """The version that the registry's alias names, of each model."""
    return {name: registry.champion(name) for name in names}
