"""The settings of the schema registry: the table ``[schema_registry]``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, SecretStr

from headrace.base.redaction import SecretUrl
from headrace.bus.schemas.registry_access import NAMES, SchemaRegistryAccess


class SchemaRegistrySettings(BaseModel):
    """The schema registry, for formats whose records name a schema."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)
    url: Annotated[str, AfterValidator(SecretUrl), PlainSerializer(str)] | None = Field(
        default=None, description="Schema registry with Confluent's interface: https://host:port[/path]."
    )
    user: str | None = Field(default=None, description="User at the schema registry, or the name of an API key.")
    password: SecretStr | None = Field(
        default=None,
        description="Password at the schema registry. Set it in the environment: HEADRACE_SCHEMA_REGISTRY__PASSWORD.",
    )
    password_file: Path | None = Field(default=None, description="File with that password.")
    password_keyring: str | None = Field(default=None, description="Entry of the keyring, service/user, with it.")
    ca: Path | None = Field(default=None, description="PEM file of the authorities that sign its certificate.")
    certificate: Path | None = Field(default=None, description="PEM file of the certificate to show to the registry.")
    key: Path | None = Field(default=None, description="PEM file of the private key of that certificate.")

    def access(self, root: Path) -> SchemaRegistryAccess | None:
        """Return the schema registry with what lets clients in; None if no url is set.

        Relative files start at ``root``. Raises SettingsError.
        """
        given = {name: getattr(self, name) for name in NAMES}
        if self.password is not None:
            given["password"] = self.password.get_secret_value()
        return SchemaRegistryAccess.of(given, root)
