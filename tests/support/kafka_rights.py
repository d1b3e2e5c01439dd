"""The rights on the page about security, given to users of a real Kafka, and those that each of them has used."""

from __future__ import annotations

import re
import shlex
from argparse import ArgumentParser
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from headrace.bus.kafka_servers import KafkaServers
from tests.support.secured_kafka import SecuredKafka

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

USERS = ("producer", "worker", "trainer", "application", "operator")
MAKER = "maker"
"""A user who may do everything."""
_KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional-id": ResourceType.TRANSACTIONAL_ID,
}
_LOGGED = {"topic": "Topic", "group": "Group", "transactional-id": "TransactionalId"}
_IMPLY_DESCRIBE = {"Read", "Write", "Alter", "Delete"}
_DECISION = re.compile(
    r"Principal = User:(\w+) is (Allowed|Denied) operation = (\w+) from host = \S+ on resource = (\w+):LITERAL:(\S+) "
)


class Right(NamedTuple):
    """A user may do something with the resources of a name, or whose names begin with it."""

    user: str
    operation: str
    kind: str
    name: str
    is_prefix: bool

    def covers(self, used: Right) -> bool:
        """Whether it is the reason why a use was allowed."""
        fits = used.name.startswith(self.name) if self.is_prefix else used.name == self.name
        does = used.operation == self.operation or (used.operation == "Describe" and self.operation in _IMPLY_DESCRIBE)
        return fits and does and (used.user, used.kind) == (self.user, self.kind)


def rights(page: str) -> list[Right]:
    """The rights that a page's lines for ``kafka-acls --add`` give."""
    parser = ArgumentParser()
    for option in ("--allow-principal", "--operation", *(f"--{kind}" for kind in _KINDS)):
        parser.add_argument(option, action="append", default=[])
    parser.add_argument("--resource-pattern-type", default="literal")
    found = []
    for line in re.findall(r"^--allow-principal .+$", page, re.MULTILINE):
        given = parser.parse_args(shlex.split(line))
        found += [
            Right(user.removeprefix("User:"), operation, kind, name, given.resource_pattern_type == "prefixed")
            for user in given.allow_principal
            for operation in given.operation
            for kind in _KINDS
            for name in getattr(given, kind.replace("-", "_"))
        ]
    return found


class GuardedKafka(SecuredKafka):
    """Kafka whose users have the rights that they are given. Its log says which ones they used."""

    def __init__(self, folder: Path) -> None:
        authorizer = {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:ANONYMOUS;User:{MAKER}",
        }
        super().__init__(folder, (*USERS, MAKER), more=authorizer)

    def _java(self) -> list[str]:
        java, *options = super()._java()
        return [java, "-Dorg.slf4j.simpleLogger.log.kafka.authorizer.logger=debug", *options]

    def grant(self, given: Iterable[Right]) -> None:
        """Give users rights."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        for future in admin.create_acls([_binding(right) for right in given]).values():
            future.result(30)

    def servers_of(self, user: str) -> KafkaServers:
        """What a client of this user has."""
        return KafkaServers(self.sasl, self.by_password("PLAIN", user=user))

    def variables_of(self, user: str) -> dict[str, str]:
        """What a command of this user has in its environment."""
        properties = self.servers_of(user).properties
        given = {f"HEADRACE_KAFKA__{name.upper().replace('.', '_')}": value for name, value in properties.items()}
        return given | {"HEADRACE_BOOTSTRAP_SERVERS": self.sasl}

    def used(self) -> set[Right]:
        """The rights that were asked for and given so far."""
        return {right for right, answer in self._decisions() if answer == "Allowed"}

    def denied(self) -> set[Right]:
        """The rights that were asked for and denied so far."""
        return {right for right, answer in self._decisions() if answer == "Denied"}

    def _decisions(self) -> Iterator[tuple[Right, str]]:
        kinds = {logged: kind for kind, logged in _LOGGED.items()}
        for user, answer, operation, kind, name in _DECISION.findall(self.log.read_text(errors="replace")):
            if kind in kinds and user in USERS:
                spelled = "".join(part.capitalize() for part in operation.split("_"))
                yield Right(user, spelled, kinds[kind], name, is_prefix=False), answer


def _binding(right: Right) -> AclBinding:
    return AclBinding(
        _KINDS[right.kind],
        right.name,
        ResourcePatternType.PREFIXED if right.is_prefix else ResourcePatternType.LITERAL,
        f"User:{right.user}",
        "*",
        AclOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", right.operation).upper()],
        AclPermissionType.ALLOW,
    )
