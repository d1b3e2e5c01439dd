"""How many examples a property is tried on."""

from __future__ import annotations

from hypothesis import settings

SOAK = "soak"


def soaking() -> bool:
    """Whether ``--hypothesis-profile=soak`` was given."""
    return settings.get_current_profile_name() == SOAK


def examples(usual: int) -> int:
    """So many usually; ``--hypothesis-profile=soak`` asks for more."""
    return max(usual, settings.default.max_examples) if soaking() else usual  # type: ignore[union-attr]
