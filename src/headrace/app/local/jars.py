"""Fetches Kafka's jars once through jgo and keeps a list of their paths, so that later starts need no network."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import DownloadError, require

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)
KAFKA_VERSION = "4.3.1"
# Without a binding for its logs Kafka says nothing at all.
KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"


def kafka_jars(cache: Path | None = None) -> list[Path]:
    """Return the class path of Kafka. The first call on a machine downloads about 50 MB, later calls need no network.

    `cache` is the folder of the list (default: the user's cache folder). Raises DownloadError if a download is needed
    and fails.
    """
    folder = cache or user_cache()
    listing = folder / f"kafka-{KAFKA_VERSION}.json"
    known = _known(listing)
    if known:
        return known
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / "jars.lock"):
        jars = _known(listing) or _resolve()
        _write(listing, jars)
        return jars


def has_kafka_jars(cache: Path | None = None) -> bool:
    """Return whether :func:`kafka_jars` needs no network."""
    return bool(_known((cache or user_cache()) / f"kafka-{KAFKA_VERSION}.json"))


def user_cache() -> Path:
    """Return the folder of this user's cache: `$XDG_CACHE_HOME/headrace` or `~/.cache/headrace`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headrace"


def _known(listing: Path) -> list[Path]:
    """Return the listed jars, or nothing if the list or one of the files is missing."""
    try:
        jars = [Path(name) for name in json.loads(listing.read_text())]
    except (OSError, ValueError):
        return []
    return jars if jars and all(jar.is_file() for jar in jars) else []


def _resolve() -> list[Path]:
    jgo = require("jgo", "local")
    _log.info("fetching Kafka %s once (about 50 MB)", KAFKA_VERSION)
    try:
        jars = list(jgo.build(KAFKA).all_jars)  # jgo parts them into class path and module path
    except Exception as error:
        raise DownloadError(
            f"local Kafka needs its jars ({KAFKA}) from Maven Central once, and they could not be fetched: {error}. "
            "Connect this machine once and try again, or set bootstrap_servers (HEADRACE_BOOTSTRAP_SERVERS) "
            "to a Kafka that runs already."
        ) from error
    return [Path(jar).resolve() for jar in jars]


def _write(listing: Path, jars: list[Path]) -> None:
    draft = listing.with_suffix(f".{os.getpid()}.draft")
    draft.write_text(json.dumps([str(jar) for jar in jars], indent=0))
    draft.replace(listing)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Let one process at a time fetch."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
