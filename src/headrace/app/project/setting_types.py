"""The types of values that several tables of settings have."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, PlainSerializer

from headrace.base.redaction import SecretUrl, redacted
from headrace.base.times import duration_us
from headrace.bus.kafka_servers import kafka_properties
from headrace.errors import DefinitionError, SettingsError

STRICT = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)
"""The configuration of every table of settings: an unknown name is an error, and an error shows no value."""


def _duration(text: str) -> str:
    try:
        duration_us(text)
    except DefinitionError as error:
        raise ValueError(str(error)) from error
    return text


def client_properties(given: Any) -> Any:
    """Return the properties of Kafka's client in a table of settings. Raises ValueError for a wrong one."""
    try:
        return kafka_properties(given) if isinstance(given, dict) else given
    except SettingsError as error:
        raise ValueError(str(error)) from error


def _public(place: str) -> str:
    """Refuse a place with a password: places are part of model events, tables and messages."""
    if redacted(place) != place:
        raise ValueError(
            f"{redacted(place)} has a password, and the place is shown in model events and messages: give the "
            "credentials in the environment of the processes, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return place


DurationText = Annotated[str, AfterValidator(_duration)]
"""A duration as text, such as "5m"."""
UrlWithPassword = Annotated[str, AfterValidator(SecretUrl), PlainSerializer(str)]
"""A URL that may have a password, which is never shown."""
PublicPlace = Annotated[str, AfterValidator(_public)]
"""A folder or a URL that is part of messages. It has no password."""
