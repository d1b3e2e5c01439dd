"""``python -m tests.support.crash.nameless_header SERVERS TOPIC…``: a record whose header has a name that is no text.

Clients in other languages can send such a record. In Python only a client without its compiled part can.
"""

from __future__ import annotations

import asyncio
import sys

from aiokafka import AIOKafkaProducer


class Nameless(str):
    """A name that becomes other bytes than UTF-8."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe"


async def send(servers: str, topics: list[str]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    for topic in topics:
        await producer.send_and_wait(topic, b"junk", headers=[(Nameless("name"), b"value")])
    await producer.stop()


if __name__ == "__main__":
    asyncio.run(send(sys.argv[1], sys.argv[2:]))
