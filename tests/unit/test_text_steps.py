"""Steps of texts at their corners: in Polars, in numpy and in plain Python, and what never changes."""

from __future__ import annotations

import hashlib
import itertools
import unicodedata
from typing import TYPE_CHECKING, Any, cast

import pytest

from headrace import col
from headrace.errors import DefinitionError
from headrace.features.definitions.expression_kinds import kind, nullable
from headrace.features.definitions.expression_tree import check
from headrace.features.kernel.expression_numpy import to_numpy
from headrace.features.kernel.masked_column import column
from headrace.features.kernel.text_steps import WHITE_SPACE
from tests.support.three_readings import all_alike

if TYPE_CHECKING:
    from collections.abc import Callable

TEXTS = [
    "", "a", "A", "abc", "aab", " a b ", "\u3000x\x85", "\x1cx", "ΑΣ", "ΑΣ.", "ß", "İ", "e\u0301", "é", "\u019b",
    "🎉🎉", "ﬁ", "a.b.c", "..", ".", "b.a", None,
]  # fmt: skip
ALONE = [(text,) for text in TEXTS]
WORDS = ["lower", "upper", "strip", "length"]


@pytest.mark.parametrize("step", WORDS)
def test_a_step_of_one_text(step: str) -> None:
    all_alike([step, ["col", "x"]], {"x": "str"}, ALONE)


@pytest.mark.parametrize("step", ["contains", "starts_with", "ends_with"])
def test_a_step_of_two_texts(step: str) -> None:
    all_alike([step, ["col", "x"], ["col", "y"]], {"x": "str", "y": "str"}, [*itertools.product(TEXTS, TEXTS)])


@pytest.mark.parametrize(("start", "stop"), [*itertools.product([0, 1, -1, -9, 9], [0, 1, 2, -1, -9, 9, None])])
def test_slices_are_those_of_python(start: int, stop: int | None) -> None:
    all_alike(["slice", ["col", "x"], start, stop], {"x": "str"}, ALONE)


@pytest.mark.parametrize(("separator", "part"), [*itertools.product([".", "a", ".."], [0, 1, 2, -1, -4, 9])])
def test_parts_between_separators(separator: str, part: int) -> None:
    all_alike(["split_part", ["col", "x"], separator, part], {"x": "str"}, ALONE)


@pytest.mark.parametrize("buckets", [1, 2, 1000, 2**31])
def test_buckets(buckets: int) -> None:
    all_alike(["bucket", ["col", "x"], buckets], {"x": "str"}, ALONE)


def test_a_bucket_never_changes() -> None:
    found = to_numpy(["bucket", ["col", "x"], 1_000_000], {"x": column(["", "a", "Zürich", "🎉"], "str")}, 4)
    assert found.to_list() == GOLDEN


GOLDEN = [607535, 515345, 705282, 617659]


def test_the_case_of_every_letter_is_that_of_python_3_11() -> None:
    letters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    content = "\n".join(f"{letter.lower()} {letter.upper()}" for letter in letters)
    assert hashlib.sha256(content.encode()).hexdigest()[:16] == "84645f09a2325c1b"


def test_white_space_is_that_of_unicode() -> None:
    separators = {chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in {"Zs", "Zl", "Zp"}}
    assert set(WHITE_SPACE) == separators | set("\t\n\v\f\r\x85")
    assert len(WHITE_SPACE) == 25


def test_methods_make_the_steps() -> None:
    text = col("x").text
    made = [
        text.lower(), text.upper(), text.strip(), text.len(), text.contains("a"), text.starts_with(col("y")),
        text.ends_with("a"), text.slice(1), text.slice(0, -1), text.split_part(".", -1), text.hash(buckets=9),
    ]  # fmt: skip
    for each in made:
        check(each.tree)
    others = ["contains", "starts_with", "ends_with", "slice", "slice", "split_part", "bucket"]
    assert [each.tree[0] for each in made] == [*WORDS, *others]
    assert made[5].tree == ["starts_with", ["col", "x"], ["col", "y"]]
    assert [each.tree[2:] for each in made[7:]] == [[1, None], [0, -1], [".", -1], [9]]
    assert [nullable(each.tree, set()) for each in made] == [each.tree[0] == "split_part" for each in made]


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (lambda: kind(col("n").text.lower().tree, {"n": "int"}), "'lower' cannot take int in .*; it takes a text"),
        (
            lambda: kind(col("s").text.contains(3).tree, {"s": "str"}),
            "'contains' cannot take str and int in .*two texts",
        ),
        (
            lambda: col("s").text.hash(buckets=0),
            r"bucket\(0\) of \['col', 's'\]: 0 is a int; write a whole number, 1 to 214",
        ),
        (lambda: col("s").text.split_part("", 0), "write a separator of at least one character, and a whole number"),
        (lambda: col("s").text.slice(cast("Any", "1")), "'1', None is a str, a NoneType; write whole numbers as in"),
        (lambda: check(["bucket", ["col", "s"], 2**40]), "is not an expression of this version"),
    ],
)
def test_mistakes_are_named(wrong: Callable[[], object], match: str) -> None:
    with pytest.raises(DefinitionError, match=match):
        wrong()
