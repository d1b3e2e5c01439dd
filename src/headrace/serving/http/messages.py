"""The request and the response of `/features`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headrace.serving.features import FeatureVectors, Status, ViewAnswer
from headrace.serving.http.problems import each_once, invalid

JsonScalar = str | int | float | bool | None
JsonRow = dict[str, JsonScalar]
EntityRow = Annotated[
    JsonRow, Meta(description="The join keys of one entity by name, and perhaps its request's values; more is ignored.")
]


class FeaturesRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A look-up of many entities over the views of a service."""

    entities: Annotated[list[EntityRow], Meta(description="One object an entity.")]
    service: Annotated[str | None, Meta(description="A feature service; or `views`.")] = None
    views: Annotated[
        list[str] | None, Meta(description="Views as `name` or `name@version`, each once; or `service`.")
    ] = None
    as_of: Annotated[datetime, Meta(tz=True, description="Exactly the time to look up at.")] | None = None
    request: Annotated[
        JsonRow | list[JsonRow] | None,
        Meta(description="Values for on-demand features of the service: one object for all entities, or one each."),
    ] = None
    offsets: Annotated[bool, Meta(description="Whether the answer says V of each row.")] = False

    def check(self) -> None:
        """Raise ProblemError unless exactly one of service and views is given, and each view once."""
        if (self.service is None) == (self.views is None):
            came = "neither" if self.service is None else "both"
            raise invalid(f"{came} of `service` and `views` came; give one of them")
        each_once("views", self.views or [])


class ViewAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """One view's part of the response: for each row its status, and the seconds since the newest known event."""

    view: str
    version: str
    statuses: list[Status]
    ages_s: list[float | None]
    offsets: list[dict[str, int]] | UnsetType = UNSET


class FeaturesResponse(msgspec.Struct, frozen=True, kw_only=True):
    """Values by row and column, null where there is none. ``at`` is the time t of the values.

    A time is text in RFC 3339, a date text such as ``2026-01-31``. A list is an array.
    """

    at: datetime
    columns: list[str]
    rows: list[list[JsonScalar | list[JsonScalar]]]
    views: list[ViewAnswered]


def response_of(found: FeatureVectors, *, offsets: bool) -> FeaturesResponse:
    """Return the response to a look-up."""
    return FeaturesResponse(
        at=found.at,
        columns=found.columns,
        rows=found.to_lists(),
        views=[_view(answer, offsets=offsets) for answer in found.views],
    )


def _view(answer: ViewAnswer, *, offsets: bool) -> ViewAnswered:
    return ViewAnswered(
        view=answer.view,
        version=answer.version,
        statuses=list(answer.statuses),
        ages_s=[age / 1e6 if age >= 0 else None for age in answer.age_us.tolist()],
        offsets=[dict(of_row) for of_row in answer.offsets] if offsets else UNSET,
    )
