"""Entity keys are Feast's bytes."""

from __future__ import annotations

import pytest

from headrace.errors import DefinitionError
from headrace.features.online.entity_key import serializer

KEYS = [
    ([["origin", "str"]], ("JFK",)),
    ([["origin", "str"], ["dest", "str"]], ("JFK", "LAX")),
    ([["flight_id", "int"]], (7,)),
    ([["flight_id", "int"]], (-(2**63),)),
    ([["b", "int"], ["a", "str"], ["c", "str"]], (2**63 - 1, "", "größe\0😀")),
]


def test_entity_key_has_these_bytes() -> None:
    assert serializer([["shop", "str"], ["id", "int"]])(("x", 258)).hex() == (
        "02000000"
        "0200000002000000" + b"id".hex() +
        "0200000004000000" + b"shop".hex() +
        "04000000" "08000000" "0201000000000000"
        "02000000" "01000000" + b"x".hex()
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("keys", "values"), KEYS)
def test_entity_key_bytes_equal_feasts(keys: list[list[str]], values: tuple[str | int, ...]) -> None:
    feast = pytest.importorskip("feast.infra.key_encoding_utils")
    key_proto = pytest.importorskip("feast.protos.feast.types.EntityKey_pb2")
    value_proto = pytest.importorskip("feast.protos.feast.types.Value_pb2")
    protos = [value_proto.Value(**{"string_val" if isinstance(v, str) else "int64_val": v}) for v in values]
    entity = key_proto.EntityKey(join_keys=[name for name, _ in keys], entity_values=protos)
    assert serializer(keys)(values) == feast.serialize_entity_key(entity, entity_key_serialization_version=3)


@pytest.mark.parametrize(
    ("kind", "value"), [("str", 7), ("int", "7"), ("int", True), ("int", 7.0), ("str", b"x"), ("int", None)]
)
def test_a_value_of_another_type_is_refused(kind: str, value: object) -> None:
    with pytest.raises(DefinitionError, match=rf"wanted {kind}"):
        serializer([["id", kind]])((value,))


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_an_integer_beyond_64_bits_is_refused(value: int) -> None:
    with pytest.raises(DefinitionError, match="64 bits"):
        serializer([["id", "int"]])((value,))


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(DefinitionError, match="UTF-8"):
        serializer([["id", "str"]])(("\ud800",))
