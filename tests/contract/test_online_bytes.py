"""Public bytes: docs/reference/online-format.md."""

from __future__ import annotations

import pytest

from headrace.bus.source_partition import SourcePartition
from headrace.errors import CodecError
from headrace.features.online.cursor import Cursor, CursorState
from headrace.features.online.store import shard_of
from tests.support.online_stores import (
    FIRST,
)


def test_the_cursor_has_these_bytes() -> None:
    cursor = Cursor(b"0123456789abcdef", 258, 7, -2, CursorState.REBUILDING, 3, 5)
    assert cursor.pack().hex() == (
        "30313233343536373839616263646566" "0201000000000000" "0700000000000000" "feffffffffffffff"
        "01" "01" "0000" "03000000" "0500000000000000"
    )  # fmt: skip
    assert Cursor.unpack(cursor.pack()) == cursor


def test_a_source_has_two_names_that_read_back() -> None:
    source = SourcePartition(258, bytes(range(16)))
    assert source.field.hex() == "000102030405060708090a0b0c0d0e0f" + "02010000"
    assert source.text == "000102030405060708090a0b0c0d0e0f-258"
    assert SourcePartition.from_field(source.field) == SourcePartition.from_text(source.text) == source


@pytest.mark.parametrize(
    "data", [b"", FIRST.after.pack()[:-1], FIRST.after.pack()[:40] + b"\x09" + FIRST.after.pack()[41:]]
)
def test_cursors_of_another_format_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError, match="format 1"):
        Cursor.unpack(data)


def test_a_field_name_of_another_length_is_refused() -> None:
    with pytest.raises(CodecError, match="20 bytes"):
        SourcePartition.from_field(b"short")


@pytest.mark.parametrize(("key", "shard"), [(b"", 0), (b"a", 3), (b"\x00\xff", 50), (b"123456789", 38)])
def test_an_entity_is_in_this_shard(key: bytes, shard: int) -> None:
    """Public: docs/reference/online-format.md."""
    assert (shard_of(key, 64), shard_of(key, 1)) == (shard, 0)
