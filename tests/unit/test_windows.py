from __future__ import annotations

import msgspec
import pytest

from headrace.base.times import duration_us
from headrace.errors import DefinitionError
from headrace.features.definitions.windows import Sliding, Tumbling, Window, WindowSpec, window_spec

DAY = duration_us("1d")


def test_a_sliding_window_may_say_how_often_it_moves_on() -> None:
    assert window_spec(Sliding("60s", every="10s")) == WindowSpec(name="1m", length_us=60_000_000, tile_us=10_000_000)


def test_a_sliding_window_without_a_step_equals_the_plain_window() -> None:
    assert window_spec(Sliding("1h", every="1m")) == window_spec("1h")


@pytest.mark.parametrize(("length", "every"), [("60s", "7s"), ("2001s", "1s"), ("60s", "500ms"), ("10s", "20s")])
def test_the_steps_of_a_window_are_whole_seconds_and_divide_the_length(length: str, every: str) -> None:
    with pytest.raises(DefinitionError, match="1 to 2,000 whole steps of at least 1s"):
        window_spec(Sliding(length, every))


@pytest.mark.parametrize(
    ("window", "name", "tiles"),
    [
        ("365d", "365d", 73),
        ("730d", "730d", 73),
        ("61m", "61m", 61),
        ("7d", "7d", 56),
        (Sliding("364d", "7d"), "364d", 52),
    ],
)
def test_a_window_of_any_length_has_few_tiles(window: Window, name: str, tiles: int) -> None:
    spec = window_spec(window)
    assert (spec.name, spec.length_us // spec.tile_us) == (name, tiles)


@pytest.mark.parametrize("window", ["2001m", "86401s", Sliding("365d", lag="1m"), Sliding("1h", "1m", lag="30s")])
def test_a_window_without_a_round_size_or_of_too_many_tiles_is_refused(window: Window) -> None:
    with pytest.raises(DefinitionError, match=r"not divide into at most 2,000 tiles|a lag is a whole number of steps"):
        window_spec(window)


def test_a_window_with_a_lag_has_the_tiles_of_the_window_without() -> None:
    plain, lagging = window_spec("7d"), window_spec(Sliding("7d", lag="7d"))
    assert (lagging.name, lagging.tile_us, lagging.skipped_us) == ("7d_lag_7d", plain.tile_us, 7 * DAY)
    assert lagging.reach_us == 14 * DAY
    assert window_spec(Tumbling("1d", lag="7d")) == WindowSpec(
        name="tumbling_1d_lag_7d", length_us=DAY, tile_us=DAY, lag_us=7 * DAY
    )


def test_the_tiles_of_a_window_with_a_lag_divide_both() -> None:
    assert window_spec(Sliding("2h", lag="1m")).tile_us == duration_us("1m")


def test_the_tiles_of_a_window_with_a_long_lag_are_larger() -> None:
    assert window_spec(Sliding("30m", lag="1d")).tile_us == duration_us("1m")
    assert window_spec(Sliding("7d", lag="365d")).tile_us == duration_us("6h")


def test_no_lag_is_no_word_in_the_spec() -> None:
    assert msgspec.json.encode(window_spec(Sliding("1h", lag="0s"))) == msgspec.json.encode(window_spec("1h"))
