"""A schema registry in memory that may be away, and one of HTTP that confluent-kafka's own client talks to."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from headrace.bus.schemas.schema_registry import RegisteredSchema, SchemaKind, SchemaRegistry
from headrace.errors import SchemaRegistryUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator


class MemorySchemaRegistry(SchemaRegistry):
    """Gives numbers to schemas. While ``is_away``, it does not answer."""

    url = "http://schemas"

    def __init__(self) -> None:
        self.is_away = False
        self.asked: list[int] = []
        self.kept: dict[int, RegisteredSchema] = {}
        self.subjects: dict[str, list[int]] = {}

    def schema(self, schema_id: int) -> RegisteredSchema | None:
        self._answer()
        self.asked.append(schema_id)
        return self.kept.get(schema_id)

    def latest(self, subject: str) -> RegisteredSchema | None:
        self._answer()
        return self.kept[self.subjects[subject][-1]] if subject in self.subjects else None

    def id_of(self, subject: str, kind: SchemaKind, text: str) -> int:
        self._answer()
        known = [found.id for found in self.kept.values() if (found.kind, found.text) == (kind, text)]
        number = known[0] if known else self.add(text, kind)
        if number not in self.subjects.setdefault(subject, []):
            self.subjects[subject].append(number)
        return number

    def is_compatible(self, subject: str, kind: SchemaKind, text: str) -> bool:
        raise NotImplementedError

    def add(self, text: Any, kind: SchemaKind = "AVRO") -> int:
        """Register a schema, and return its id."""
        number = len(self.kept) + 1
        self.kept[number] = RegisteredSchema(number, kind, text if isinstance(text, str) else json.dumps(text))
        return number

    def _answer(self) -> None:
        if self.is_away:
            raise SchemaRegistryUnavailableError("connection refused")


class HttpSchemaRegistry(ThreadingHTTPServer):
    """The few paths of a registry that clients use. ``answers``: what it says to everything, if it is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.schemas: list[dict[str, Any]] = []
        self.subjects: dict[str, list[int]] = {}
        self.answers: tuple[int, bytes] | None = None
        self.incompatible: set[str] = set()
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        number = self.schemas.index(schema) + 1 if schema in self.schemas else len(self.schemas) + 1
        if number > len(self.schemas):
            self.schemas.append(schema)
        if number not in self.subjects.setdefault(subject, []):
            self.subjects[subject].append(number)
        return number


class _Handler(BaseHTTPRequestHandler):
    server: HttpSchemaRegistry

    def do_GET(self) -> None:
        match self._path():
            case ["schemas", "ids", number] if 0 < int(number) <= len(self.server.schemas):
                self._say(200, self.server.schemas[int(number) - 1])
            case ["subjects", subject, "versions", version] if subject in self.server.subjects:
                numbers = self.server.subjects[subject]
                chosen = numbers[-1 if version == "latest" else int(version) - 1]
                said = {"subject": subject, "id": chosen, "version": numbers.index(chosen) + 1}
                self._say(200, {**said, **self.server.schemas[chosen - 1]})
            case _:
                self._say(404, {"error_code": 40403, "message": "Schema not found"})

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        match self._path():
            case ["subjects", subject, "versions"]:
                self._say(200, {"id": self.server.register(subject, content)})
            case ["compatibility", "subjects", subject, "versions", "latest"]:
                self._say(200, {"is_compatible": subject not in self.server.incompatible})
            case ["subjects", subject] if content in self._of(subject):
                number = self.server.schemas.index(content) + 1
                self._say(200, {"subject": subject, "id": number, "version": 1, **content})
            case _:
                self._say(404, {"error_code": 40403, "message": "Schema not found"})

    def _of(self, subject: str) -> list[dict[str, Any]]:
        return [self.server.schemas[number - 1] for number in self.server.subjects.get(subject, ())]

    def _path(self) -> list[str]:
        self.server.headers.append({name.title(): content for name, content in self.headers.items()})
        return [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]

    def _say(self, status: int, content: dict[str, Any]) -> None:
        status, body = self.server.answers or (status, json.dumps(content).encode())
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *of: Any) -> None:
        """Say nothing."""


@contextmanager
def http_schema_registry() -> Iterator[HttpSchemaRegistry]:
    """A registry that answers until the context ends."""
    server = HttpSchemaRegistry()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
