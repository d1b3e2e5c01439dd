"""A schema registry with Confluent's interface, by confluent-kafka's client. The one place that makes this client."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from headrace.base.redaction import redacted, revealed, without_secrets
from headrace.bus.schemas.schema_registry import RegisteredSchema, SchemaKind, SchemaReference, SchemaRegistry
from headrace.errors import SchemaRegistryUnavailableError, SettingsError, TerminalError, missing_extra

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.bus.schemas.registry_access import SchemaRegistryAccess

_NONE = range(40_400, 40_500)
"""The codes for a schema, a subject or a version that is not there. A bare 404 says that the URL is wrong."""
_REFUSED = (409, 422)
_LONGEST = 1_000
"""Characters of what the registry says."""


class ConfluentSchemaRegistry(SchemaRegistry):
    """A schema registry of Confluent, Apicurio (``…/apis/ccompat/v7``), Redpanda, Karapace and others.

    Raises SettingsError for an access that the client does not take.
    """

    def __init__(self, access: SchemaRegistryAccess) -> None:
        self._url = redacted(access.url)
        self._client = _client(access)

    @property
    def url(self) -> str:
        """Its address, without a password."""
        return self._url

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def schema(self, schema_id: int) -> RegisteredSchema | None:
        """Return the schema with this id; None if there is none."""
        found = self._answer(lambda: self._client.get_schema(schema_id))
        return None if found is None else self._registered(schema_id, found)

    def latest(self, subject: str) -> RegisteredSchema | None:
        """Return the newest schema of a subject; None if there is none."""
        found = self._answer(lambda: self._client.get_latest_version(subject))
        return None if found is None else self._registered(found.schema_id, found.schema)

    def id_of(self, subject: str, kind: SchemaKind, text: str) -> int:
        """Return the id of a schema in a subject. It is registered only if it is not there yet.

        Raises TerminalError if the registry refuses it.
        """
        schema = _made(text, kind)
        found = self._answer(lambda: self._client.lookup_schema(subject, schema).schema_id)
        if found is None:
            found = self._answer(lambda: self._client.register_schema(subject, schema))
        return int(found)

    def is_compatible(self, subject: str, kind: SchemaKind, text: str) -> bool:
        """Return whether the registry would take a schema as the next one of a subject."""
        return self._answer(lambda: self._client.test_compatibility(subject, _made(text, kind))) is not False

    def _answer(self, ask: Callable[[], Any]) -> Any:
        """Return the registry's answer; None if it says that it has no such schema, subject or version."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415

        try:
            return ask()
        except SchemaRegistryError as error:
            if error.error_code in _NONE:
                return None
            message = without_secrets(str(error.error_message), _LONGEST)
            said = f"it says {message!r} (HTTP status {error.http_status_code})"
            if error.http_status_code in _REFUSED:
                raise TerminalError(f"the schema registry {self._url} refuses the schema: {said}") from error
            raise SchemaRegistryUnavailableError(said) from error
        except Exception as error:  # any of those that its HTTP client raises
            why = without_secrets(str(error), _LONGEST)
            raise SchemaRegistryUnavailableError(f"{type(error).__name__}: {why}") from error

    def _registered(self, schema_id: int, schema: Any) -> RegisteredSchema:
        kind: Any = schema.schema_type or "AVRO"
        text = schema.schema_str
        if not isinstance(text, str) or kind not in get_args(SchemaKind):
            raise SchemaRegistryUnavailableError(f"it answers with a schema of the unknown kind {kind!r}")
        return RegisteredSchema(schema_id, kind, text, tuple(self._references(schema).values()))

    def _references(self, schema: Any) -> dict[str, SchemaReference]:
        """Return the schemas that a schema uses by their names, each after those that it uses itself."""
        found: dict[str, SchemaReference] = {}
        for each in schema.references or ():
            used = self._answer(partial(self._client.get_version, each.subject, each.version))
            if used is None:
                missing = f"it has no version {each.version} of {each.subject!r}, which the schema refers to"
                raise SchemaRegistryUnavailableError(missing)
            found |= self._references(used.schema)
            found[each.name] = SchemaReference(each.name, used.schema.schema_str)
        return found


def _made(text: str, kind: SchemaKind) -> Any:
    from confluent_kafka.schema_registry import Schema  # noqa: PLC0415

    return Schema(text, schema_type=kind)


def _client(access: SchemaRegistryAccess) -> Any:
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415 - only who uses it needs it
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "httpx2", "schemas") from error
    try:
        return SchemaRegistryClient.new_client({**access.options(), "url": revealed(access.url)})
    except (ValueError, TypeError, OSError) as error:
        said = "it cannot read the url" if "@" in str(error) else without_secrets(str(error), _LONGEST)
        why = f"[schema_registry]: the client does not take the settings: {said}"
        raise SettingsError(why) from None  # the client's own error may have the password of the url
