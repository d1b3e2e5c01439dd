"""Powers, exponentials, logarithms and angles that are equal to the bit on every machine.

numpy's own ``exp`` differs between processors in the last bit of every twentieth double, and so do Polars' and those of
the C libraries. These are made of steps that IEEE 754 defines to the last bit: ``+ - * /``, the square root, rounding
to whole numbers, and shifts of the exponent. The result differs from the true value by less than two units in the
last place. That of :func:`power` with an exponent that is no half of a whole number differs by less than 1e-13 of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]

_LOG_2 = float.fromhex("0x1.62e42fefa39efp-1")
_LOG_2_HIGH, _LOG_2_LOW = float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")
"""The logarithm of 2 in two parts: a whole number below 2^21 times the first part is exact."""
_ROOT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
_FACTORIALS = np.cumprod(np.arange(1.0, 21.0))
"""1! to 20!."""
_EXP_TERMS = [float(1.0 / _FACTORIALS[n - 1]) for n in range(14, 1, -1)]
"""1/n! for n = 14 to 2."""
_LOG_TERMS = [2.0 / (2 * n + 1) for n in range(12, 0, -1)]
"""The series of 2·artanh(s), divided by s, without its first term: powers of s² from 12 to 1."""
_SIN_TERMS = [float((-1.0) ** n / _FACTORIALS[2 * n]) for n in range(9, -1, -1)]
"""The series of sin(x)/x in x², from the power 9 down."""
_COS_TERMS = [float((-1.0) ** n / _FACTORIALS[2 * n - 1]) for n in range(10, 0, -1)] + [1.0]
_ATAN_TERMS = [(-1.0) ** n / (2 * n + 1) for n in range(13, -1, -1)]
"""The series of arctan(x)/x in x²: enough for x up to tan(π/16)."""
_QUARTER = 90.0
_LEAST, _MOST = -800.0, 800.0
_TINY = 2.0**-54
_MOST_STEPS = 1024
"""Halves of whole exponents up to this are computed by multiplication."""


def _series(terms: list[float], x: Doubles) -> Doubles:
    found = np.full_like(x, terms[0])
    for term in terms[1:]:
        found = found * x + term
    return found


def exp(x: Doubles) -> Doubles:
    """Return e to the power of each number; infinite beyond the largest double."""
    x = np.clip(x, _LEAST, _MOST)
    twos = np.rint(x / _LOG_2)
    high, low = x - twos * _LOG_2_HIGH, twos * _LOG_2_LOW
    rest = high - low
    lost, first = (high - rest) - low, 1.0 + rest
    lost = lost + (rest - (first - 1.0))
    return np.ldexp(first + (rest * rest * _series(_EXP_TERMS, rest) + lost), twos.astype(np.int32))


def log(x: Doubles) -> Doubles:
    """Return the natural logarithm of each number; NaN unless it is positive."""
    fraction, twos = np.frexp(x)
    small = fraction < _ROOT_HALF
    over = np.where(small, fraction * 2.0, fraction) - 1.0
    twos = twos.astype(np.float64) - small
    ratio = over / (2.0 + over)
    square, half = ratio * ratio, over * over * 0.5
    inner = ratio * (half + square * _series(_LOG_TERMS, square)) + twos * _LOG_2_LOW
    found = twos * _LOG_2_HIGH - ((half - inner) - over)
    return np.where(x > 0.0, found, np.nan)


def log1p(x: Doubles) -> Doubles:
    """Return the natural logarithm of 1 + x for each x; NaN unless x is above -1."""
    one = 1.0 + x
    lost = np.where(np.abs(x) < 1.0, x - (one - 1.0), 1.0 - (one - x))
    return np.where(np.abs(x) < _TINY, x, log(one) + lost / one)


def power(base: Doubles, exponent: Doubles) -> Doubles:
    """Return each base to the power of its exponent; NaN for a broken power of a negative number.

    A half of a whole exponent up to 1024 is a product of bases and perhaps of a root. All others are
    ``exp(exponent * log(base))``.
    """
    halves = np.abs(exponent * 2.0)
    stepped = (halves == np.rint(halves)) & (halves <= 2 * _MOST_STEPS)
    found = _product(base, np.where(stepped, halves, 0.0).astype(np.int64))
    found = np.where(exponent < 0.0, 1.0 / found, found)
    return found if stepped.all() else np.where(stepped, found, _through_logs(base, exponent))


def _product(base: Doubles, halves: NDArray[np.int64]) -> Doubles:
    """Return the base to the power of a number of halves, by squares: first the root, then bit after bit."""
    found = np.where(halves % 2 == 1, np.sqrt(base), 1.0)
    left = halves // 2
    while left.any():
        found = np.where(left % 2 == 1, found * base, found)
        base, left = base * base, left // 2
    return found


def _through_logs(base: Doubles, exponent: Doubles) -> Doubles:
    size = exp(exponent * log(np.abs(base)))
    odd = np.abs(np.fmod(exponent, 2.0)) == 1.0
    of_a_negative = np.where(exponent == np.rint(exponent), np.where(odd, -size, size), np.nan)
    of_zero = np.where(exponent > 0.0, 0.0, np.inf)
    return np.where(base > 0.0, size, np.where(base < 0.0, of_a_negative, of_zero))


def sin_degrees(x: Doubles) -> Doubles:
    """Return the sine of each angle in degrees."""
    quarters = np.rint(x / _QUARTER)
    rest = (x - quarters * _QUARTER) * (np.pi / 180.0)
    turn = quarters.astype(np.int64) % 4
    square = rest * rest
    found = np.where(turn % 2 == 0, rest * _series(_SIN_TERMS, square), _series(_COS_TERMS, square))
    return np.where(turn >= 2, -found, found)  # noqa: PLR2004 - the second half of the circle


def cos_degrees(x: Doubles) -> Doubles:
    """Return the cosine of each angle in degrees."""
    return sin_degrees(_QUARTER - np.abs(x))


def arctan(x: Doubles) -> Doubles:
    """Return the angle of each tangent of 0 to 1, in radians: four times the one of a quarter of the angle."""
    for _ in range(2):
        x = x / (1.0 + np.sqrt(1.0 + x * x))
    return 4.0 * (x * _series(_ATAN_TERMS, x * x))
