"""The checks of `headrace doctor`, one file for each part of a deployment."""

from __future__ import annotations

from headrace.app.doctor.finding import Finding, Severity

__all__ = ["Finding", "Severity"]
