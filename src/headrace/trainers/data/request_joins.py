"""What belongs to a request: its label, and the vector or prediction that was served for it.

All training sets, counts and outcomes follow these two rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from headrace.trainers.definitions import Label

REQUEST = ["__key", "__requested_us"]
"""The columns that identify a request."""
LABEL = ["__on", "__label", "__labelled_us"]
"""The columns of a label: the value of its key, what it says (null for nothing), and when it was available."""
JOINED = ["__label", "__revision"]
"""The columns of a label that belongs to a request: see :func:`found_labels`."""
_TIME = "__labelled_us"


def joined_labels(asked: pl.DataFrame, labels: pl.DataFrame, label: Label, clock_us: int) -> pl.DataFrame:
    """Return ``__label`` and ``__revision`` of each request, in the order of ``asked``.

    See :func:`found_labels` for what is joined, and :func:`as_of_clock` for ``clock_us``.
    """
    found = found_labels(asked, labels, label)
    until_us = asked.get_column("__asked_us") + label.spec.within_us
    return found.select(as_of_clock(label, clock_us, pl.lit(until_us)))


def found_labels(asked: pl.DataFrame, labels: pl.DataFrame, label: Label) -> pl.DataFrame:
    """Return ``__label`` and ``__revision`` of each request that has a label, null for others, in the given order.

    ``asked`` has the columns ``__on``, the value of the label's key, and ``__asked_us``, the time of the request.
    ``labels`` has the columns of :data:`LABEL`, in the order in which the labels were available. A label
    belongs to a request if ``request < label <= request + within``. If there are several, ``label.which`` says
    whether the first or the last one counts. A label that is null is none. ``__revision`` is the number of labels that
    were counted so far, 1 for the first one.
    So what is found for a request changes only with labels of its key.
    """
    known = labels.filter(pl.col("__label").is_not_null() & pl.col("__on").is_not_null())
    rows = asked.select(
        "__on",
        (pl.col("__asked_us") + 1).alias("__from_us"),
        (pl.col("__asked_us") + label.spec.within_us).alias("__until_us"),
    ).with_row_index("__row")
    found = (_first if label.which == "first" else _last)(rows.sort("__from_us"), known)
    in_time = pl.col(_TIME).is_between("__from_us", "__until_us")
    return found.sort("__row").select(pl.when(in_time).then(name).alias(name) for name in JOINED)


def as_of_clock(label: Label, clock_us: int, until_us: pl.Expr) -> list[pl.Expr]:
    """Return ``__label`` and ``__revision`` of requests from what :func:`found_labels` found for them.

    ``clock_us`` is the time up to which the log has all partitions of the label's stream, ``until_us`` the time of each
    request plus ``within``. With ``missing=False`` a row has no label, neither true nor false, until ``clock_us`` is
    later than that. Before, its label may still be in Kafka, and all labels that are already in the log would be true.
    A label that is missing for good is false, and has revision 0.
    """
    if label.missing is None:
        return [pl.col(name) for name in JOINED]
    is_over, has_label = until_us < clock_us, pl.col("__label").is_not_null()
    return [
        pl.when(is_over).then(pl.col("__label").fill_null(value=False)).alias("__label"),
        pl.when(is_over).then(pl.when(has_label).then("__revision").otherwise(0)).alias("__revision"),
    ]


def _first(rows: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    found = rows.join_asof(
        labels, left_on="__from_us", right_on=_TIME, by="__on", strategy="forward", coalesce=False,
        check_sortedness=False,
    )  # fmt: skip
    return found.with_columns(pl.lit(1, pl.UInt32).alias("__revision"))


def _last(rows: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Each label has its number among those of its key, so that two look-ups count the labels between them."""
    numbered = labels.with_columns(pl.int_range(pl.len(), dtype=pl.UInt32).over("__on").alias("__number"))
    first = _first(rows, numbered).select("__row", pl.col("__number").alias("__first"))
    found = rows.sort("__until_us").join_asof(
        numbered, left_on="__until_us", right_on=_TIME, by="__on", strategy="backward", coalesce=False,
        check_sortedness=False,
    )  # fmt: skip
    counted = pl.col("__number") - pl.col("__first") + 1
    return found.join(first, on="__row", how="left").with_columns(counted.alias("__revision"))


def of_requests(answers: pl.DataFrame, requests: pl.DataFrame) -> pl.DataFrame:
    """Return the first answer to each request: ``answers`` with the columns of :data:`REQUEST`.

    An answer belongs to the request with its ``key`` and its ``requested_at``. An application need not say the time of
    a request, and then has logged that of its look-up. So a key that was requested only once takes an answer of any
    time, unless there is one of its own time. For a key that was requested more than once that would be wrong: the
    answer to another request knows of other events.
    """
    once = requests.filter(~pl.col("__key").is_duplicated()).select(
        "__key", pl.col("__requested_us").alias("__only_us")
    )
    asked = answers.with_columns(
        pl.col("key").alias("__key"), pl.col("requested_at").dt.epoch("us").alias("__requested_us")
    ).drop("key", "requested_at")
    asked = asked.join(once, on="__key", how="left", maintain_order="left")
    is_other = (pl.col("__only_us") != pl.col("__requested_us")).fill_null(value=False)
    own_first = asked.sort(is_other, maintain_order=True)
    own_first = own_first.with_columns(pl.coalesce("__only_us", "__requested_us").alias("__requested_us"))
    return own_first.unique(REQUEST, keep="first", maintain_order=True).drop("__only_us")
