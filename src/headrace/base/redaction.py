"""Addresses that may be shown to people: without passwords and other secrets."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote_plus, urlsplit

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SECRET = re.compile(r"password|passwd|username|secret|token", re.IGNORECASE)
_HIDDEN = "***"


def redacted(address: str) -> str:
    """Return a URL without its password, and without user names, passwords, secrets and tokens in its query.

    If the URL cannot be parsed, for example because of an unescaped ``/`` in its password, only the scheme is shown.
    Text that is not a URL is returned unchanged.

    >>> redacted("redis://worker:hunter2@db:6379/0?token=abc")
    'redis://worker:***@db:6379/0?token=***'
    """
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


def _parts(address: str) -> SplitResult | None:
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises too
    except ValueError:
        return None
    is_doubtful = ":" in parts.netloc and "@" in parts.path + parts.query + parts.fragment
    return None if is_doubtful else parts


def _parameter(text: str) -> str:
    name, equals, value = text.partition("=")
    return name + equals + (_HIDDEN if _SECRET.search(unquote_plus(name)) else value)
