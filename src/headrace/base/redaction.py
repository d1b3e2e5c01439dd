"""Text that may be shown to people: without passwords and other secrets, and without end."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import SplitResult, unquote_plus, urlsplit

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SECRET = re.compile(r"password|passwd|username|secret|token", re.IGNORECASE)
_HIDDEN = "***"
_NAMED = re.compile(
    r"""\b(\w{0,40}(?:password|passwd|secret|api_?key|access_?key|signature)\w{0,40}["']?\s?[=:]\s?["']?|"""
    r"""\w{0,40}(?:token|sig)["']?=["']?|(?:bearer|basic)\s)([^\s"'&,;)]{4,})""",
    re.IGNORECASE,
)
"""A name with its value, as in ``password=hunter2``, or the credentials of a header. The value has four characters."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}://\S+")  # an endless scheme would take quadratic time


class SecretUrl(str):
    """A URL that prints without its password: in messages, in logs, and as part of other objects.

    It is a string for every library that connects with it. A library that calls ``str`` first needs :func:`revealed`.

    >>> url = SecretUrl("redis://worker:hunter2@db:6379/0")
    >>> f"{url}", url.startswith("redis://worker:hunter2")
    ('redis://worker:***@db:6379/0', True)
    """

    __slots__ = ()

    def __str__(self) -> str:
        return redacted(revealed(self))

    def __repr__(self) -> str:
        return repr(str(self))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


def revealed(url: str) -> str:
    """Return the URL as it was given, with its password, as a plain string."""
    return str.__str__(url)


def redacted(address: str) -> str:
    """Return a URL without its password, and without user names, passwords, secrets and tokens in its query.

    If the URL cannot be parsed, for example because of an unescaped ``/`` in its password, only the scheme is shown.
    Text that is not a URL is returned unchanged.

    >>> redacted("redis://worker:hunter2@db:6379/0?token=abc")
    'redis://worker:***@db:6379/0?token=***'
    """
    address = revealed(address)
    scheme = _SCHEME.match(address)
    if scheme is None:
        return address
    parts = _parts(address)
    if parts is None:
        return scheme[0] + _HIDDEN
    user, at, place = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    who = f"{name}:{_HIDDEN}@" if colon else user + at
    query = "&".join(map(_parameter, parts.query.split("&")))
    more = (f"?{query}" if query else "") + (f"#{_HIDDEN}" if parts.fragment else "")
    return scheme[0] + who + place + parts.path + more


def without_secrets(value: Any, longest: int) -> Any:
    """Return a value for the log: no text in it has a secret, or more than about ``longest`` characters.

    Secrets are found in URLs, and after names such as ``password=`` and ``Bearer``.

    Lists, tuples and dictionaries are searched. Other objects are returned as they are.

    >>> without_secrets({"error": "redis://:hunter2@db:6379/0 is away", "rows": 3}, 100)
    {'error': 'redis://:***@db:6379/0 is away', 'rows': 3}
    >>> without_secrets("connection failed: host=db password=hunter2", 100)
    'connection failed: host=db password=***'
    """
    match value:
        case str():
            text = shortened(revealed(value), 4 * longest)  # what is hidden first is never cut in two
            text = _URL.sub(lambda found: redacted(found[0]), text)
            return shortened(_NAMED.sub(rf"\1{_HIDDEN}", text), longest)
        case dict():
            return {key: without_secrets(part, longest) for key, part in value.items()}
        case list() | tuple():
            return [without_secrets(part, longest) for part in value]
        case _:
            return value


def shortened(text: str, longest: int) -> str:
    """Return a text of at most about ``longest`` characters. A longer one loses its middle.

    >>> shortened("0123456789", 4)
    '01 … 6 characters are left out … 89'
    """
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} characters are left out … {text[len(text) - half :]}"


def _parts(address: str) -> SplitResult | None:
    try:
        parts = urlsplit(address)
        for host in parts.netloc.rpartition("@")[2].split(","):  # there may be several, as of sentinels
            _ = urlsplit(f"//{host}").port  # raises too
    except ValueError:
        return None
    is_doubtful = ":" in parts.netloc and "@" in parts.path + parts.query + parts.fragment
    return None if is_doubtful else parts


def _parameter(text: str) -> str:
    name, equals, value = text.partition("=")
    return name + equals + (_HIDDEN if _SECRET.search(unquote_plus(name)) else value)
