"""The messages with which a person, or any program, tells the trainers what to do with a model."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from headrace.base.redaction import shortened
from headrace.base.times import Instant
from headrace.bus import message

FORMAT = 1
OperatorAction = Literal["train", "reset", "cancel"]
_LONGEST_REASON, _LONGEST_NAME = 2_000, 200
"""The characters that are kept: the answer repeats them, and Kafka takes no more than a megabyte."""


class OperatorRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request on ``headrace.operator-requests``, keyed by model. ``id`` is any new text.

    ``action`` is what is asked for: a run at once (``train``), triggers without a hold and an open run (``reset``), or
    the end of the run ``request_id`` (``cancel``). ``by`` says who asks, ``reason`` why. With ``lift_pin`` a run is
    asked for although a version is pinned, and may replace it.
    """

    id: str
    model: str
    action: OperatorAction
    by: str
    reason: str
    at_us: Instant
    lift_pin: bool = False
    request_id: str | UnsetType = UNSET
    format: int = FORMAT

    @property
    def words(self) -> str:
        """The name of the person who asks, and the reason."""
        return f"{self.by}: {self.reason}" if self.reason else self.by

    def bounded(self) -> OperatorRequest:
        """The request with a reason and a name that are not too long."""
        reason, by = shortened(self.reason, _LONGEST_REASON), shortened(self.by, _LONGEST_NAME)
        return msgspec.structs.replace(self, reason=reason, by=by)


def decode(data: bytes | None) -> OperatorRequest:
    """Return the request in these bytes. Raises CodecError, and NewerFormatError for one of a later release."""
    return message.decode(data, OperatorRequest, FORMAT, "an operator's request").bounded()
