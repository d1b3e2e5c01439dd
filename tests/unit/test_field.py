"""The bytes of an online field."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.errors import CodecError
from headrace.features.kernel.field import FieldHeader, FieldLayout, fronts, unpack

TILE = np.dtype([("k", "<i8"), ("c0", "<i8"), ("c1", "<f8")])
TILES = np.array([(5, 1, 0.5), (6, 2, -1.0), (1, 3, 1.5)], TILE)
LAYOUT = FieldLayout(TILE, 2)
HEADER = FieldHeader(258, -2, 7)


def field(counts: list[int]) -> bytes:
    headers = np.array([HEADER.next_offset]), np.array([HEADER.clock]), np.array([HEADER.newest])
    return fronts(headers, np.array([counts]))[0] + TILES.tobytes()


DATA = field([2, 1])


def test_a_field_has_these_bytes() -> None:
    assert DATA.hex() == (
        "01" "00" "0200" "00000000"
        "0201000000000000" "feffffffffffffff" "0700000000000000"
        "02000000" "01000000"
        "0500000000000000" "0100000000000000" "000000000000e03f"
        "0600000000000000" "0200000000000000" "000000000000f0bf"
        "0100000000000000" "0300000000000000" "000000000000f83f"
    )  # fmt: skip


def test_an_odd_number_of_sizes_is_padded_to_eight_bytes() -> None:
    data = field([1, 0, 2])
    assert data[32:48].hex() == "01000000000000000200000000000000"
    assert [len(part) for part in unpack(data, FieldLayout(TILE, 3))[1]] == [1, 0, 2]


def test_a_field_reads_back() -> None:
    header, parts = unpack(DATA, LAYOUT)
    assert header == HEADER
    assert [part.tolist() for part in parts] == [TILES[:2].tolist(), TILES[2:].tolist()]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "format is 1"),
        (b"\x02" + DATA[1:], "format is 1"),
        (DATA[:31], "format is 1"),
        (DATA[:-1], "does not hold 3 tiles and their entries"),
        (DATA + b"\0", "does not hold 3 tiles and their entries"),
        (DATA[:36], "sizes"),
        (field([3]), "1 tile sizes, the view's spec 2"),
    ],
)
def test_a_field_of_other_bytes_is_refused(data: bytes, match: str) -> None:
    with pytest.raises(CodecError, match=match):
        unpack(data, LAYOUT)
