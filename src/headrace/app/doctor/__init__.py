"""What `headrace doctor` looks at: whether a deployment can keep what headrace promises."""

from __future__ import annotations

from headrace.app.doctor.finding import Finding, Severity

__all__ = ["Finding", "Severity"]
