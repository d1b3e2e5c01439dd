"""Entities: what features belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from headrace.errors import DefinitionError
from headrace.features.definitions.spec import checked_name

KeyType = type[str] | type[int]


KEY_KINDS: dict[KeyType, str] = {str: "str", int: "int"}


@dataclass(frozen=True)
class Entity:
    """What features belong to: ``Entity("origin", str)``, or ``Entity("route", keys=["origin", "dest"])``.

    The join keys are str or int fields of every stream whose views use the entity.
    """

    name: str
    type: KeyType = str
    keys: Sequence[str] | Mapping[str, KeyType] | None = None

    def __post_init__(self) -> None:
        checked_name("entity", self.name)
        for key, key_type in self.join_keys.items():
            if key_type not in KEY_KINDS:
                message = f"entity {self.name!r}: join key {key!r} is {key_type.__name__}; a join key is str or int"
                raise DefinitionError(message)

    @cached_property
    def join_keys(self) -> dict[str, KeyType]:
        """The join keys with their types, in order."""
        if self.keys is None:
            return {self.name: self.type}
        return dict(self.keys) if isinstance(self.keys, Mapping) else dict.fromkeys(self.keys, self.type)

    def spec(self) -> dict[str, Any]:
        """The entity as plain JSON."""
        return {"name": self.name, "keys": [[key, KEY_KINDS[kind_]] for key, kind_ in self.join_keys.items()]}
