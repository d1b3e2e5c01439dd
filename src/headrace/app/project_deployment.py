"""Plans and deploys the definitions of a project, for `headrace plan` and `headrace apply`."""

from __future__ import annotations

import time
import uuid
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec
import structlog

from headrace.app.model_versions import read_model_states
from headrace.app.processes.connections import addresses
from headrace.app.project.ingest_entries import named_stream
from headrace.app.project.project import Project, load_project
from headrace.base.times import wall_clock
from headrace.bus.kafka_clients import admin
from headrace.bus.tail import TopicTail
from headrace.bus.topics import ensure_report_topics, existing_incarnations
from headrace.bus.unreadable_records import readable
from headrace.bus.worker_report import decode
from headrace.errors import HeadraceError, SettingsError, TerminalError, TransientError, require
from headrace.event_log.event_log import EventLog
from headrace.event_log.imports import Imports
from headrace.features.definitions.store_documents import read_service
from headrace.features.online.cursor import imported, is_live, present
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.streams.deployments.deployment import Deployed, named_by_models
from headrace.streams.deployments.estimate import estimate, positions
from headrace.streams.deployments.kafka_deployment_log import KafkaDeploymentLog
from headrace.streams.deployments.plan import DeploymentPlan, PlanLine, make_plan
from headrace.trainers.audit.audited_service import AuditedService

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from headrace.app.project.settings import Settings
    from headrace.bus.source_partition import SourcePartition
    from headrace.features.definitions.service_spec import ServiceSpec
    from headrace.features.definitions.store_documents import ServiceDocument
    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.streams.processors.processor import Processor

logger = structlog.get_logger(__name__)
_WORKERS_S = 5.0
_TAKEN_S = 20.0


@dataclass(frozen=True)
class DeploymentProgress:
    """The progress of a deployment.

    ``folded`` counts the folded rows by view. ``waiting`` names the views and services that are not live yet.
    """

    folded: Mapping[str, int]
    waiting: list[str]


class ProjectDeployment:
    """One project with the Kafka, Redis and event log that it is deployed to.

    Every method raises UnavailableError if one of them does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        project: Project = load_project(settings)
        for place in range(len(settings.ingest)):
            named_stream(settings, place, project)  # raises if the definitions have no stream for it any more
        self.views: list[ViewSpec] = [view.spec for view in project.views.values()]
        self.services: list[ServiceSpec] = [service.spec for service in project.services.values()]
        self._processors = [
            PlanLine(kind="processor", name=each.name, action="not deployed", what=[_way(each)])
            for each in project.processors.values()
        ]
        self._namespace, self._topics = settings.namespace, settings.topics
        self._servers, redis_url = addresses(settings)
        self._signing = settings.signing
        self._store = RedisOnlineStore(redis_url, settings.namespace)
        self._log = EventLog(settings.event_log, namespace=settings.namespace)
        self._changes = KafkaDeploymentLog(self._servers, settings.namespace)
        self._feast = feast_folder(settings)
        self._all_taken = time.monotonic()

    @cached_property
    def names(self) -> list[str]:
        """The wanted views, each as ``name@version``."""
        return [spec.versioned_name for spec in self.views]

    def plan(self) -> DeploymentPlan:
        """Return what a deployment would change. The estimates come from folding a part of the event log."""
        state = self._changes.read()
        plan = make_plan(
            state,
            self.views,
            self.services,
            models=named_by_models(read_model_states(self._servers, self._topics.models, self._signing)),
            in_force=self._in_force(),
            live=self._live(),
        )
        return msgspec.structs.replace(plan, lines=[*map(self._estimated, plan.lines), *self._processors])

    def _in_force(self) -> dict[str, ServiceDocument]:
        found = {spec.name: self._store.get_document(f"service:{spec.name}") for spec in self.services}
        return {name: read_service(document) for name, document in found.items() if document is not None}

    def _live(self) -> dict[str, bool]:
        found = zip(self.views, self._store.cursors(self.names), strict=True)
        return {spec.versioned_name: is_live(cursors, len(spec.topics)) for spec, cursors in found}

    def _estimated(self, line: PlanLine) -> PlanLine:
        if line.kind != "view" or line.action not in {"added", "changed"}:
            return line
        spec = next(spec for spec in self.views if spec.name == line.name)
        return msgspec.structs.replace(line, estimate=estimate(self._log, spec, self._ends(spec)))

    def _ends(self, spec: ViewSpec) -> dict[str, dict[SourcePartition, int]]:
        found = existing_incarnations(admin(self._servers), spec.topics)
        ends = {topic: {each.partition: each.rows for each in Imports(self._log).of(topic)} for topic in spec.topics}
        for topic, each in found.items():
            ends[topic] |= positions(self._log, topic, each.topic_id, each.partitions)
        return ends

    # -- applying ---------------------------------------------------------------------------------------------------

    def insist_on_workers(self) -> None:
        """Raise TransientError unless running workers read every stream of the wanted views."""
        wanted = {topic for spec in self.views for topic in spec.topics}
        read = self._topics_read_by_workers(wanted)
        if read is None:
            raise TransientError(
                f"no worker of namespace {self._namespace!r} has been heard within {_WORKERS_S:g} s: start "
                "`headrace worker`, or deploy without waiting by --no-wait"
            )
        if wanted - read:
            raise TransientError(
                f"no worker reads {sorted(wanted - read)}: workers read the streams that they were started with; "
                "start them again with this project, or deploy without waiting by --no-wait"
            )

    def _topics_read_by_workers(self, wanted: set[str]) -> set[str] | None:
        """Listen to the reports of workers until all wanted topics were seen. Returns None if no worker reported."""
        read: set[str] | None = None
        ensure_report_topics(self._servers, self._topics.observations)  # it is missing if no worker ever ran
        with closing(TopicTail(self._servers, [self._topics.observations], from_beginning=False)) as tail:
            deadline = time.monotonic() + _WORKERS_S
            while time.monotonic() < deadline and (read is None or not wanted <= read):
                for report in readable(tail.poll(0.2), lambda record: decode(record.value())):
                    if report.worker.startswith(f"{self._namespace}-worker-"):
                        read = (read or set()) | {partition.topic for partition in report.partitions}
        return read

    def publish(self, plan: DeploymentPlan) -> None:
        """Deploy what was planned. Raises TerminalError if another deployment was published after the plan."""
        id_ = uuid.uuid4().hex
        self._changes.append(
            Deployed(
                id=id_, namespace=self._namespace, expects=plan.expects, views=self.views, services=self.services,
                at_us=wall_clock(),
            )
        )  # fmt: skip
        if self._changes.read().id != id_:
            raise TerminalError("another deployment came between the plan and this one, which is void: plan again")

    def catalogue(self) -> list[str]:
        """Update Feast's registry to what is live now, and return one line for each change.

        A project without a feature_store.yaml has no such registry: then nothing happens. Raises MissingExtraError if
        Feast is not installed, and DefinitionError if the registry has other objects of these names.
        """
        if self._feast is None:
            return []
        require("feast", "feast")
        from headrace.feast.catalogue import Catalogue  # importing Feast takes seconds

        return Catalogue(self._feast).keep(self.views, self.services)

    def rows(self) -> dict[str, int]:
        """Return how many rows the event log has for each wanted view, and start the time limit for workers."""
        self._all_taken = time.monotonic()
        return {spec.versioned_name: sum(map(_rows, self._ends(spec).values())) for spec in self.views}

    def progress(self) -> DeploymentProgress:
        """Return how far the workers are. Raises TransientError if no worker takes a view within the time limit."""
        cursors = dict(zip(self.names, self._store.cursors(self.names), strict=True))
        topics = {spec.versioned_name: len(spec.topics) for spec in self.views}
        in_force = self._in_force()
        waiting = [name for name, found in cursors.items() if not is_live(found, topics[name])]
        waiting += [
            f"service {spec.name}"
            for spec in self.services
            if spec.name not in in_force or in_force[spec.name].views != spec.views
        ]
        folded = {
            name: sum(max(cursor.next_offset, 0) for cursor in [*present(found, topics[name]), *imported(found)])
            for name, found in cursors.items()
        }
        self._insist_on_taking([name for name, found in cursors.items() if not found])
        return DeploymentProgress(folded, waiting)

    def _insist_on_taking(self, untaken: list[str]) -> None:
        now = time.monotonic()
        if not untaken:
            self._all_taken = now
        if now - self._all_taken > _TAKEN_S:
            raise TransientError(
                f"no worker has taken {untaken} for {_TAKEN_S:g} s: if event types of their streams have new fields, "
                "start the workers again with this project; then `headrace apply` goes on from where it stands"
            )


def feast_folder(settings: Settings) -> Path | None:
    """Return the folder of feature_store.yaml, or None if the project has no such file. Raises SettingsError."""
    folder = settings.root / (settings.feature_store or "")
    if (folder / "feature_store.yaml").is_file():
        return folder
    if settings.feature_store is None:
        return None
    raise SettingsError(f"the setting feature_store names {folder}, which has no feature_store.yaml")


def deployed_services(settings: Settings) -> dict[str, AuditedService]:
    """Return all feature services that were ever deployed, by version. Without Kafka none is known: that is logged."""
    try:
        servers, _ = addresses(settings)
        deployed = KafkaDeploymentLog(servers, settings.namespace).read()
    except HeadraceError as error:
        logger.warning("earlier versions of feature services are not known", error=str(error))
        return {}
    return {
        version: AuditedService.deployed(service, deployed.specs)
        for version, service in deployed.service_versions.items()
    }


def _way(processor: Processor) -> str:
    """Return from where to where a processor works."""
    return f"{processor.source.topic} → {', '.join(stream.topic for stream in processor.into)}"


def _rows(ends: Mapping[SourcePartition, int]) -> int:
    return sum(ends.values())
