"""The requests of one model with their labels, kept up to date: what is new is joined, not all that there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headrace.trainers.data.request_joins import JOINED, LABEL, REQUEST, found_labels
from headrace.trainers.triggers.evidence import DAY_US

if TYPE_CHECKING:
    from headrace.event_log.readable_log import LogSnapshot
    from headrace.trainers.data.topic_rows import TopicRows
    from headrace.trainers.definitions import Label


class LabelledRequests:
    """Joins a label when it or its request is new, or when rows that came late have moved one of them.

    ``requests`` have the columns of :data:`REQUEST`, and ``labels`` those of :data:`LABEL`. Nobody else may call
    :meth:`TopicRows.settle` of the two. Not for several threads at once.
    """

    def __init__(self, requests: TopicRows, labels: TopicRows, label: Label) -> None:
        self._requests = requests
        self._labels = labels
        self._label = label
        self._frame: pl.DataFrame | None = None
        self._restarts = 0, 0

    def frame(self, snapshot: LogSnapshot | None = None) -> pl.DataFrame:
        """A row for each request in the log, matured or not, in order of availability.

        The columns are those of :data:`REQUEST`, ``__available_us``, ``__day`` (the request's day, counted since the
        epoch), and those of :func:`found_labels`.
        """
        requests, labels = self._requests.frame(snapshot), self._labels.frame(snapshot)
        restarts = self._requests.restarts, self._labels.restarts
        if restarts != self._restarts:
            self._frame, self._restarts = None, restarts
        is_new = self._requests.unchanged < requests.height or self._labels.unchanged < labels.height
        if self._frame is None or is_new:
            self._frame = self._updated(requests, labels)
            self._requests.settle()
            self._labels.settle()
        return self._frame

    def _updated(self, requests: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
        """Join the labels of requests that are new, and of those with the key of a new label; keep all others."""
        keys, changed = requests.get_column(self._label.on), labels.get_column("__on")[self._labels.unchanged :]
        unchanged = 0 if self._frame is None else self._requests.unchanged
        again = keys[:unchanged].is_in(changed.unique().implode()).arg_true().to_numpy()
        rows = np.concatenate([again, np.arange(unchanged, len(keys))])
        asked = pl.DataFrame({"__on": keys, "__asked_us": requests.get_column("__requested_us")})[rows]
        own = labels.select(LABEL).filter(labels.get_column("__on").is_in(asked.get_column("__on").unique().implode()))
        found = found_labels(asked, own, self._label)
        if self._frame is not None:
            found = pl.concat([self._frame.select(JOINED)[:unchanged], found])
        place = np.arange(len(keys))  # of each request in what was found
        place[rows] = unchanged + np.arange(len(rows))
        available_us = pl.col("__available_at").dt.epoch("us").alias("__available_us")
        day = (pl.col("__requested_us") // DAY_US).alias("__day")
        return requests.select(*REQUEST, available_us, day).rechunk().hstack(found[place])
