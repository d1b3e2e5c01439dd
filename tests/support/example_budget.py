"""How many examples a property is tried on."""

from __future__ import annotations

from hypothesis import settings

SOAK = "soak"


def soaking() -> bool:
    """Whether ``--hypothesis-profile=soak`` was given."""
    return settings.get_current_profile_name() == SOAK


def examples(thorough: int) -> int:
    """Half as many as a thorough trial takes, and never under five; ``--hypothesis-profile=soak`` asks for more."""
    if soaking():
        return max(thorough, settings.default.max_examples)  # type: ignore[union-attr]
    return max(min(thorough, 5), thorough // 2)
