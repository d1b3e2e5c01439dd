"""One finding of `headrace doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """``error``: data is lost, or will be. ``warning``: look at it; it may be on purpose."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report: the checked subject, the severity, what was found, and the advice.

    A finding with the severity ``ok`` has no advice.
    """

    subject: str
    severity: Severity
    found: str
    advice: str = ""


def ok(subject: str, found: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(subject, Severity.OK, found)


def warning(subject: str, found: str, advice: str) -> Finding:
    """Return a finding that may be on purpose."""
    return Finding(subject, Severity.WARNING, found, advice)


def error(subject: str, found: str, advice: str) -> Finding:
    """Return a finding that somebody has to act on."""
    return Finding(subject, Severity.ERROR, found, advice)
