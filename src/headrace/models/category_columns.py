"""Columns that an estimator gets as categories of pandas, in training and in an application alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd


def with_categories(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the frame with these columns in the dtype ``category``.

    The categories are the distinct values of the rows, in order. So those of an application are not those of the
    training set: an estimator has to tell categories by their values, as the encoders of scikit-learn do. A row without
    a value has NaN.

    >>> import pandas as pd
    >>> frame = with_categories(pd.DataFrame({"shop": ["b", None, "a"], "n": [1, 2, 3]}), ["shop"])
    >>> str(frame["shop"].dtype), frame["shop"].cat.categories.tolist(), frame["shop"].isna().tolist()
    ('category', ['a', 'b'], [False, True, False])
    """
    if not names:
        return frame
    return frame.astype(dict.fromkeys(names, "category"))


def with_own_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with the categories that its rows have: some rows of a larger frame still have all of them.

    >>> import pandas as pd
    >>> frame = with_categories(pd.DataFrame({"shop": ["b", "a"]}), ["shop"])
    >>> frame.head(1)["shop"].cat.categories.tolist()
    ['a', 'b']
    >>> with_own_categories(frame.head(1))["shop"].cat.categories.tolist()
    ['b']
    """
    names = [name for name, dtype in frame.dtypes.items() if dtype == "category"]
    return frame.assign(**{str(name): frame[name].cat.remove_unused_categories() for name in names}) if names else frame
