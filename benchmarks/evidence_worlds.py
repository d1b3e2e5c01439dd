"""Synthetic blocks whose truth is known: days with a level of their own, and two models that err by row and by day.

Both models share an error, so they are alike as a champion and its challenger are. They are equally good, or the
champion is ``worse`` by an error of this size. ``phi`` is the lag-1 correlation of the errors that a model makes on all
rows of a day, and ``of_day`` a factor of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from headrace.trainers.metrics.block_rows import BlockRows

Pair = tuple[BlockRows, BlockRows]
World = Callable[..., Pair]


def binary(
    generator: np.random.Generator,
    blocks: int,
    *,
    worse: float = 0.0,
    rows: int = 100,
    phi: float = 0.0,
    of_day: float = 1.0,
) -> Pair:
    """A label that is true in a third of the rows."""
    day = np.repeat(np.arange(blocks), rows)
    logit = generator.normal(-1.2, 0.7, blocks)[day] + generator.normal(0, 1, len(day))
    label = (generator.random(len(day)) < logistic(logit)).astype(np.int8)
    shared = logit + generator.normal(0, 0.4, len(day)) + generator.normal(0, 0.2, blocks)[day]
    more, *own = _errors(generator, day, blocks, (0.3, 0.15 * of_day), worse=worse, phi=phi)
    return BlockRows(day, label, logistic(shared + own[0] + more)), BlockRows(day, label, logistic(shared + own[1]))


def numbers(
    generator: np.random.Generator,
    blocks: int,
    *,
    worse: float = 0.0,
    rows: int = 100,
    phi: float = 0.0,
    of_day: float = 1.0,
) -> Pair:
    """Minutes of delay: skewed, so that few days have most of the squared error."""
    day = np.repeat(np.arange(blocks), rows)
    mean = np.exp(generator.normal(2.5, 0.3, blocks)[day] + generator.normal(0, 0.4, len(day)))
    truth = mean * generator.gamma(4, 0.25, len(day)) + 1
    shared = mean * np.exp(generator.normal(0, 0.1, blocks))[day]
    more, *own = _errors(generator, day, blocks, (0.1, 0.07 * of_day), worse=worse, phi=phi)
    return BlockRows(day, truth, shared * np.exp(own[0] + more)), BlockRows(day, truth, shared * np.exp(own[1]))


def classes(
    generator: np.random.Generator,
    blocks: int,
    *,
    worse: float = 0.0,
    rows: int = 100,
    phi: float = 0.0,
    of_day: float = 1.0,
) -> Pair:
    """Three classes, of which one is rare."""
    day = np.repeat(np.arange(blocks), rows)
    logits = np.array([1.0, 0.0, -1.0]) + generator.normal(0, 0.4, (blocks, 3))[day]
    logits = logits + generator.normal(0, 1, (len(day), 3))
    truth = (softmax(logits).cumsum(axis=1) < generator.random((len(day), 1))).sum(axis=1).clip(0, 2)
    more, *own = _errors(generator, day, (blocks, 3), (0.3, 0.1 * of_day), worse=worse, phi=phi)
    return BlockRows(day, truth, softmax(logits + own[0] + more)), BlockRows(day, truth, softmax(logits + own[1]))


def _errors(
    generator: np.random.Generator,
    day: np.ndarray,
    shape: int | tuple[int, int],
    sizes: tuple[float, float],
    *,
    worse: float,
    phi: float,
) -> list[np.ndarray]:
    """Return the error that makes the champion worse, and those of both models: of rows and of days, in these sizes."""
    of_row, of_day = sizes
    rows = (len(day), *shape[1:]) if isinstance(shape, tuple) else (len(day),)
    more = generator.normal(0, worse, rows) if worse else np.zeros(rows)
    return [
        more,
        *(generator.normal(0, of_row, rows) + of_day * stationary(generator, shape, phi)[day] for _ in range(2)),
    ]


def stationary(generator: np.random.Generator, shape: int | tuple[int, int], phi: float) -> np.ndarray:
    """A series of first order with variance 1, or several beside each other."""
    series = generator.normal(size=shape)
    for at in range(1, len(series)):
        series[at] = phi * series[at - 1] + np.sqrt(1 - phi**2) * series[at]
    return np.asarray(series)


def slow(generator: np.random.Generator, blocks: int, phi: float) -> np.ndarray:
    """A slow drift below noise of its own size: its first lag says less than there is."""
    both = stationary(generator, blocks, phi) + generator.normal(size=blocks)
    return np.asarray(both / np.sqrt(2))


def logistic(x: np.ndarray) -> np.ndarray:
    """Probabilities of logits."""
    return np.asarray(1 / (1 + np.exp(-x)))


def softmax(x: np.ndarray) -> np.ndarray:
    """Rows of probabilities of rows of logits."""
    raised = np.exp(x)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
