"""The rows that a metric is computed from, by block. A block is resampled as a whole: its rows share their fate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


class BlockRows:
    """The truth and the prediction of each row, with the row's block.

    ``block`` is any integer index, such as the day. ``truth`` is 0 or 1, the index of a class, or a number.
    ``prediction`` is the probability of 1, a row of probabilities by class, a number, or a row of estimates of the
    ``quantiles``. ``weight`` is 1 for each row if it is not given.

    Raises ValueError if the arrays differ in length or if a prediction is not a number: leave such rows out.
    """

    def __init__(
        self,
        block: ArrayLike,
        truth: ArrayLike,
        prediction: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        quantiles: Sequence[float] = (0.5,),
    ) -> None:
        self.prediction = np.asarray(prediction, np.float64)
        if not np.size(block) == np.size(truth) == len(self.prediction):
            raise ValueError(
                f"{np.size(block)} blocks, {np.size(truth)} labels, {len(self.prediction)} predictions: "
                "one of each a row"
            )
        if not np.isfinite(self.prediction).all():
            raise ValueError("a prediction is NaN or infinite: compare rows that both models predicted")
        self.blocks, index = np.unique(np.asarray(block), return_inverse=True)
        self.index: NDArray[np.int64] = index.astype(np.int64)
        self.truth = np.asarray(truth)
        self.quantiles = quantiles
        self.weight = np.ones(len(self.truth)) if weight is None else np.asarray(weight, np.float64)

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Whether the truth of each row is 1, for a truth of 0 or 1."""
        return self.truth.astype(bool)

    @property
    def number(self) -> Floats:
        """The truth of each row as a number."""
        return self.truth.astype(np.float64)

    def sums(self, values: ArrayLike = 1.0) -> Floats:
        """Return the weighted sum over each block of a value for each row: by default of 1, so of the weights."""
        weighted = np.broadcast_to(np.asarray(values, np.float64), self.weight.shape) * self.weight
        return np.bincount(self.index, weighted, len(self.blocks)).astype(np.float64)
