"""Entities: the kinds of things that features belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from headrace.base.arguments import expect, expect_names
from headrace.errors import DefinitionError
from headrace.features.definitions.spec import checked_name
from headrace.features.definitions.view_spec import NO_KEY, EntitySpec, JoinKey, KeyKind

KeyType = type[str] | type[int]


KEY_KINDS: dict[KeyType, KeyKind] = {str: "str", int: "int"}


@dataclass(frozen=True)
class Entity:
    """The kind of thing that features belong to, such as an airport or a pair of airports.

    The join keys are the fields whose values make the key of one entity. Every stream whose views use the entity has
    each of these fields, as a str or an int. Without ``keys`` there is one join key, which has the entity's name. With
    ``keys=[]`` there is one such entity, to which all events belong: a shop as a whole, or a market.

    >>> from headrace import Entity
    >>> Entity("origin", str).join_keys
    {'origin': <class 'str'>}
    >>> Entity("route", keys=["origin", "dest"]).join_keys
    {'origin': <class 'str'>, 'dest': <class 'str'>}
    >>> Entity("seat", keys={"flight_id": int, "row": str}).join_keys
    {'flight_id': <class 'int'>, 'row': <class 'str'>}
    >>> Entity("market", keys=[]).join_keys
    {}
    """

    name: str
    type: KeyType = str
    keys: Sequence[str] | Mapping[str, KeyType] | None = None

    def __post_init__(self) -> None:
        checked_name("entity", self.name)
        where, write = f"entity {self.name!r}", "a list of fields, such as ['origin', 'dest']"
        if self.keys is not None and not isinstance(self.keys, Mapping):
            expect_names(where, "keys", [self.keys] if isinstance(self.keys, str) else self.keys, write=write)
            expect(where, "keys", self.keys, (list, tuple), write=write)
        for key, key_type in self.join_keys.items():
            if key_type not in KEY_KINDS:
                given = getattr(key_type, "__name__", repr(key_type))
                message = f"entity {self.name!r}: join key {key!r} is {given}; a join key is str or int"
                raise DefinitionError(message)

    @cached_property
    def join_keys(self) -> dict[str, KeyType]:
        """The join keys with their types, in order."""
        if self.keys is None:
            return {self.name: self.type}
        return dict(self.keys) if isinstance(self.keys, Mapping) else dict.fromkeys(self.keys, self.type)

    @cached_property
    def spec(self) -> EntitySpec:
        """The entity as data."""
        keys = tuple(JoinKey(key, KEY_KINDS[key_type]) for key, key_type in self.join_keys.items())
        return EntitySpec(name=self.name, keys=keys or (JoinKey(NO_KEY, "str"),))
