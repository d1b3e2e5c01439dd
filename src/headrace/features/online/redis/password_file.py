"""A password of Redis in a file. It is read for each new connection, so a password that changes needs no restart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError

from headrace.base.redaction import revealed

_PARAMETER = "password_file"
_USER = re.compile(r"^([a-z+]+://)([^/?#@]*)@")


class PasswordFile(CredentialProvider):
    """The credentials of a connection: a user, if there is one, and the content of a file without its line end."""

    def __init__(self, user: str | None, path: Path) -> None:
        self._user, self._path = user, path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return what redis-py sends with AUTH. Raises AuthenticationError if the file cannot be read."""
        try:
            password = self._path.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise AuthenticationError(f"the password file {self._path} cannot be read: {error}") from error
        return (password,) if self._user is None else (self._user, password)


def without_password_file(url: str) -> tuple[str, dict[str, Any]]:
    """Return a URL without ``password_file`` and user, and the options of redis-py's clients that stand for them.

    A URL without such a file is returned as it is. Raises ValueError for a password beside the file.

    >>> without_password_file("redis://app@db:6379/0?password_file=/run/secrets/redis")[0]
    'redis://db:6379/0'
    """
    address, _, query = revealed(url).partition("?")
    given = parse_qsl(query, keep_blank_values=True)
    files = [value for name, value in given if name == _PARAMETER]
    if not files:
        return url, {}
    user = _USER.match(address)
    name, colon, _ = user[2].partition(":") if user else ("", "", "")
    if len(files) > 1 or not files[0] or colon:
        raise ValueError("write a password, or password_file= with the name of one file, not both")
    rest = urlencode([(name, value) for name, value in given if name != _PARAMETER])
    place = _USER.sub(r"\1", address) + (f"?{rest}" if rest else "")
    return place, {"credential_provider": PasswordFile(unquote(name) or None, Path(files[0]))}
