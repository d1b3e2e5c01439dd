"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """``error``: a promise is broken or will be; ``warning``: to be known, and perhaps meant so."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """What was looked at, what it is, and what to do about it unless it is fine."""

    subject: str
    severity: Severity
    found: str
    advice: str = ""


def ok(subject: str, found: str) -> Finding:
    """As it should be."""
    return Finding(subject, Severity.OK, found)


def warning(subject: str, found: str, advice: str) -> Finding:
    """Perhaps not meant so."""
    return Finding(subject, Severity.WARNING, found, advice)


def error(subject: str, found: str, advice: str) -> Finding:
    """A promise is broken, or will be."""
    return Finding(subject, Severity.ERROR, found, advice)
