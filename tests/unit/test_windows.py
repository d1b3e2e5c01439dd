from __future__ import annotations

import pytest

from headrace.errors import DefinitionError
from headrace.features.definitions.windows import Sliding, WindowSpec, window_spec


def test_a_sliding_window_may_say_how_often_it_moves_on() -> None:
    assert window_spec(Sliding("60s", every="10s")) == WindowSpec(name="1m", length_us=60_000_000, tile_us=10_000_000)


def test_a_sliding_window_without_a_step_equals_the_plain_window() -> None:
    assert window_spec(Sliding("1h", every="1m")) == window_spec("1h")


@pytest.mark.parametrize(("length", "every"), [("60s", "7s"), ("61s", "1s"), ("60s", "500ms"), ("10s", "20s")])
def test_steps_of_a_window_are_whole_seconds_at_most_sixty_and_divide_the_length(length: str, every: str) -> None:
    with pytest.raises(DefinitionError, match="1 to 60 whole steps of at least 1s"):
        window_spec(Sliding(length, every))
