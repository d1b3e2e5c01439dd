"""The port of schema registries, and a schema as a registry has it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import msgspec

SchemaKind = Literal["AVRO", "JSON", "PROTOBUF"]


class SchemaReference(msgspec.Struct, frozen=True):
    """A schema that another one uses, by the name that it has there."""

    name: str
    text: str


class RegisteredSchema(msgspec.Struct, frozen=True):
    """A schema with its id. An id means the same schema for ever.

    ``references``: the schemas that it uses, each after those that it uses itself.
    """

    id: int
    kind: SchemaKind
    text: str
    references: tuple[SchemaReference, ...] = ()


class SchemaRegistry(ABC):
    """A schema registry. Each method raises SchemaRegistryUnavailableError if it does not answer as it should."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Its address, without a password."""

    def close(self) -> None:  # noqa: B027 - not every registry has something to close
        """Close its connections."""

    @abstractmethod
    def schema(self, schema_id: int) -> RegisteredSchema | None:
        """Return the schema with this id; None if the registry says that there is none."""

    @abstractmethod
    def latest(self, subject: str) -> RegisteredSchema | None:
        """Return the newest schema of a subject; None if the registry says that there is none."""

    @abstractmethod
    def id_of(self, subject: str, kind: SchemaKind, text: str) -> int:
        """Return the id of a schema in a subject. It is registered if it is not there yet.

        Raises TerminalError if the registry refuses it, for example as incompatible.
        """

    @abstractmethod
    def is_compatible(self, subject: str, kind: SchemaKind, text: str) -> bool:
        """Return whether the registry would take a schema as the next one of a subject."""
