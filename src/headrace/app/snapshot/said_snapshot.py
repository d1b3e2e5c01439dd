"""A snapshot in words for a terminal: rows of tables, each with the age of what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.base.times import SECOND, said_minute

if TYPE_CHECKING:
    from headrace.app.snapshot.snapshot import NowSentence, Snapshot

SIGNS = {"ok": "ok", "warning": "look", "error": "act", "unknown": "?"}
"""The words for the marks."""


def said_sentences(found: Snapshot) -> list[dict[str, Any]]:
    """Return the four sentences as rows."""
    now = found.now
    sentences = {"complete": now.complete, "fresh": now.fresh, "learning": now.learning, "applied": now.applied}
    return [_sentence(name, each, found.at_us) for name, each in sentences.items()]


def _sentence(name: str, each: NowSentence, at_us: int) -> dict[str, Any]:
    since = "" if each.since_us is None else f", since {said_minute(each.since_us)}"
    return {"now": name, "mark": SIGNS[each.mark], "told": said_age(each.told_us, at_us), "what": each.said + since}


def said_age(told_us: int | None, at_us: int) -> str | None:
    """Return how long ago something was told; None if it never was.

    >>> said_age(5_000_000, 7_000_000)
    '2 s ago'
    """
    return None if told_us is None else f"{max(0, at_us - told_us) / SECOND:.0f} s ago"


def said_tables(found: Snapshot) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each table by its title. What nobody has told is None."""

    def age(told_us: int | None) -> str | None:
        return said_age(told_us, found.at_us)

    return {
        "partitions": [
            {
                "topic": each.topic, "partition": each.partition, "a second": each.rate, "lag": each.lag,
                "not in the log": each.unlogged, "rejected": each.rejected, "worker": each.worker,
                "told": age(each.observed_us), "stopped": each.stopped,
            }
            for each in found.partitions
        ],
        "views": [
            {
                "view": each.view, "a second": each.rate, "behind": each.behind, "clock": age(each.clock_us),
                "entities": each.entities, "told": age(each.observed_us),
            }
            for each in found.views
        ],
        "models": [
            {
                "model": each.model, "version": each.version, "live since": age(each.since_us), "rule": each.held,
                "progress": None if each.progress is None else f"{each.progress:.0%}", "told": age(each.decided_us),
                "reason": each.reason,
            }
            for each in found.models
        ],
        "applications": [
            {
                "application": each.application, "model": each.model, "version": each.version, "live": each.live,
                "a second": each.rate, "told": age(each.observed_us), "acknowledged": age(each.acknowledged_us),
                "error": each.error,
            }
            for each in found.applications
        ],
    }  # fmt: skip
