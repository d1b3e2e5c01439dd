"""The results of checks, on the topic ``findings``: audits, skew, watched inputs, the doctor, tables of features.

One report has the whole result of one check. So the state of a check is its newest report, and a finding that a newer
report does not have is over.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import UNSET, UnsetType

from headrace.base.redaction import without_secrets
from headrace.base.times import Instant
from headrace.bus import message
from headrace.bus.message import Int64

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FORMAT = 1
CheckSeverity = Literal["ok", "warning", "error"]
"""``error``: somebody has to act. ``warning``: look at it; it may be on purpose."""
_WORST: tuple[CheckSeverity, ...] = ("error", "warning", "ok")
_MOST, _LONGEST = 200, 1_000
"""The findings of one report, and the characters of a text: a record has at most a megabyte."""


class CheckFinding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that a check found: about what, how bad it is, the finding in words, and what to do."""

    subject: str
    severity: CheckSeverity
    found: str
    advice: str = ""


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check, keyed by ``check`` and ``subject``.

    ``check`` is ``audit``, ``skew``, ``drift``, ``table`` or ``doctor``; later releases may have others. ``subject`` is
    the model or the view that was checked, or ``deployment`` for the doctor. ``numbers`` are its measurements by name,
    and ``findings`` what follows from them; without any there is nothing to say. ``by`` is the process that checked.
    ``every_us`` is the interval of a check on a schedule: after two of them without a report it is overdue.
    """

    check: str
    subject: str
    at_us: Instant
    by: str
    numbers: dict[str, float]
    findings: list[CheckFinding]
    every_us: Int64 | UnsetType = UNSET
    format: int = FORMAT

    @property
    def key(self) -> str:
        """The key of its record: of the reports with one key, the newest is the state."""
        return f"{self.check} {self.subject}"

    @property
    def severity(self) -> CheckSeverity:
        """The worst severity of its findings."""
        found = {each.severity for each in self.findings}
        for severity in _WORST:
            if severity in found:
                return severity
        return "ok"


def finite(numbers: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers that JSON has.

    >>> finite({"share": 0.5, "lag": float("nan")})
    {'share': 0.5}
    """
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def bounded(findings: Iterable[CheckFinding]) -> list[CheckFinding]:
    """Return the worst findings, as many as a record takes, with texts that are not too long and have no passwords."""
    worst_first = sorted(findings, key=lambda each: _WORST.index(each.severity))
    return [
        msgspec.structs.replace(
            each, found=without_secrets(each.found, _LONGEST), advice=without_secrets(each.advice, _LONGEST)
        )
        for each in worst_first[:_MOST]
    ]


def encode(report: CheckReport) -> bytes:
    """Return the JSON bytes."""
    return msgspec.json.encode(report)


def decode(data: bytes | None) -> CheckReport:
    """Return the report in these bytes. Raises CodecError, and NewerFormatError for one of a later release."""
    return message.decode(data, CheckReport, FORMAT, "a report of a check")
