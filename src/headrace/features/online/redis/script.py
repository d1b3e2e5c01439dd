"""Lua scripts and transactions: each is done by a node at one moment.

Scripts are sent by their hash. A node that does not know a script gets its text, and knows it from then on.
"""

from __future__ import annotations

from hashlib import sha1
from typing import TYPE_CHECKING, Any

from hiredis import pack_command

if TYPE_CHECKING:
    from collections.abc import Sequence


class Transaction(tuple[Any, ...]):
    """Commands that are sent and answered as one transaction: ``MULTI``, the commands, ``EXEC``."""

    __slots__ = ()

    def lines(self) -> Sequence[Sequence[Any]]:
        """All commands that are sent; each has a reply."""
        return [("MULTI",), *self, ("EXEC",)]


def single_commands(lines: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return the single commands; a transaction is several."""
    return [own for line in lines for own in (line.lines() if isinstance(line, Transaction) else (line,))]


def pack_commands(single: Sequence[Sequence[Any]]) -> bytes:
    """Return the bytes of commands in one piece: for look-ups, where redis-py's own checks take longer than packing."""
    return b"".join([pack_command(tuple(words)) for words in single])


def reply_of(replies: Sequence[Any]) -> Any:
    """Return the reply of a transaction: the last reply to its commands, or the first error."""
    last = replies[-1]
    where = last if isinstance(last, list) else replies
    return next((reply for reply in where if isinstance(reply, Exception)), last)


class Script:
    """A Lua script."""

    _known: dict[str, str] = {}  # noqa: RUF012 - the hash is of the text: nothing in it ever changes

    def __init__(self, text: str) -> None:
        self._hash = sha1(text.encode()).hexdigest()  # noqa: S324 - what EVALSHA asks for
        self._known[self._hash] = text

    def call(self, keys: Sequence[bytes], arguments: Sequence[Any] = ()) -> Sequence[Any]:
        """Return the words of a command that runs it."""
        return ("EVALSHA", self._hash, len(keys), *keys, *arguments)

    @classmethod
    def in_full(cls, words: Sequence[Any]) -> Sequence[Any]:
        """Return the same command with the script's text."""
        return ("EVAL", cls._known[words[1]], *words[2:])
