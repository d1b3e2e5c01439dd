"""Values of the kernel as Python has them, and as expressions take them."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from headrace.features.kernel.states import Values

_TIME = np.dtype("M8[us]")


def python_list(values: np.ndarray) -> list[Any]:
    """Return values as Python has them: a time is a datetime in UTC, a date a date, a text a str.

    >>> import numpy as np
    >>> python_list(np.array(["2026-01-31"], "M8[D]"))
    [datetime.date(2026, 1, 31)]
    """
    found: list[Any] = values.tolist()
    return [time.replace(tzinfo=UTC) for time in found] if values.dtype == _TIME else found


def lists_of_owners(values: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Return a list for each owner: the next ``number`` of the values.

    >>> import numpy as np
    >>> lists_of_owners(np.array([1, 2, 3]), np.array([2, 0, 1])).tolist()
    [[1, 2], [], [3]]
    """
    flat, ends = python_list(values), np.cumsum(number).tolist()
    return np.fromiter((flat[end - own : end] for end, own in zip(ends, number.tolist(), strict=True)), object)


def in_expressions(found: Values) -> Values:
    """Return values as expressions take them: times and dates in microseconds."""
    values, present = found
    return (values.astype(_TIME).astype(np.int64), present) if values.dtype.kind == "M" else found
