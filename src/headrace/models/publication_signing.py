"""Signatures of model events: who has no key of the deployment cannot make a version live, or take one back.

It needs the standard library alone.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from headrace.errors import CodecError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.models.model_events import ModelEventRecord

SIGNATURE = "ce_signature"
"""The header with the signature: an extension attribute of the CloudEvent."""
_ALGORITHM = "hmac-sha256:"
_CONTEXT = b"headrace model event, signature 1"
_LEAST_BYTES = 16


@dataclass(frozen=True)
class PublicationSigning:
    """The keys of a deployment. Without keys nothing is signed, and every readable event counts.

    The first key signs, and each of them verifies, so that keys can be replaced one after the other. Events below
    ``from_offset`` need no signature: they were there before signing was turned on, and nobody can write there any
    more. Raises SettingsError for a key of less than 16 bytes.

    >>> PublicationSigning(["0123456789abcdef"])
    PublicationSigning(from_offset=0)
    """

    keys: Sequence[str] = field(default=(), repr=False)
    from_offset: int = 0

    def __post_init__(self) -> None:
        short = [len(key.encode()) for key in self.keys if len(key.encode()) < _LEAST_BYTES]
        if short:
            message = (
                f"a key in publication_keys has {short[0]} bytes: wanted at least {_LEAST_BYTES}, random ones, such as "
                "those of `openssl rand -hex 32`"
            )
            raise SettingsError(message)

    def signed(self, record: ModelEventRecord) -> ModelEventRecord:
        """Return the record with its signature."""
        if not self.keys:
            return record
        return replace(record, headers=record.headers | {SIGNATURE: _signature(self.keys[0], record)})

    def check(self, offset: int, record: ModelEventRecord) -> None:
        """Raise CodecError for a record that needs a signature and has no valid one."""
        if not self.keys or offset < self.from_offset:
            return
        given = record.headers.get(SIGNATURE)
        if given is None:
            raise CodecError("void: it is not signed, and this deployment has publication_keys")
        valid = [hmac.compare_digest(given, _signature(key, record)) for key in self.keys]  # all: no early end
        if not any(valid):
            raise CodecError("void: none of this deployment's publication_keys has signed it")


UNSIGNED = PublicationSigning()
"""Signs nothing, and wants no signature."""


def _signature(key: str, record: ModelEventRecord) -> bytes:
    """Return the signature of key, attributes and data. The length before each part makes the parts unambiguous."""
    attributes = sorted(item for item in record.headers.items() if item[0].startswith("ce_") and item[0] != SIGNATURE)
    parts = [
        _CONTEXT,
        record.key,
        record.value,
        *(part for name, value in attributes for part in (name.encode(), value)),
    ]
    return (_ALGORITHM + hmac.new(key.encode(), _joined(parts), hashlib.sha256).hexdigest()).encode()


def _joined(parts: Iterable[bytes]) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)
