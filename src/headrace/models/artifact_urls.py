"""Files at URLs: in an object store (s3, gs, abfs), and on an MLflow server that keeps artifacts itself.

An object store takes its credentials and its address from the environment, such as ``AWS_ACCESS_KEY_ID`` and
``AWS_ENDPOINT_URL``. The address of ``mlflow-artifacts:/…`` is the registry's, and never part of a message.
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

from headrace.base.redaction import revealed, shortened
from headrace.errors import ArtifactError, SettingsError, TransientError, require

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")
OBJECT_STORES = ("s3", "gs", "abfs", "abfss")
MLFLOW = "mlflow-artifacts"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_PIECE = 1 << 20
_SHOWN = 200
_NOT_FOUND = 404
_API = "/api/2.0/mlflow-artifacts/artifacts/"


def scheme_of(place: str) -> str:
    """Return the scheme of a URL, or nothing for the path of a folder."""
    found = _SCHEME.match(place)
    return "" if found is None else found[1]


def check_place(place: str, what: str, registry: str) -> None:
    """Raise SettingsError unless files can be kept at this folder or URL. ``what`` is the setting that names it."""
    scheme = scheme_of(place)
    if scheme == MLFLOW and not revealed(registry).startswith(("http://", "https://")):
        message = (
            f"{what} = {place!r} is on an MLflow server, and registry_uri names none: set registry_uri to the server's "
            "address, such as http://mlflow:5000"
        )
        raise SettingsError(message)
    if scheme not in {"", "file", MLFLOW, *OBJECT_STORES}:
        message = (
            f"{what} = {place!r}: artifacts cannot be kept at {scheme}: URLs; choose a folder, "
            f"{', '.join(f'{each}://' for each in OBJECT_STORES)} or {MLFLOW}:/"
        )
        raise SettingsError(message)


def read(uri: str, *, largest: int, within_s: float, registry: str = "") -> bytes:
    """Return the bytes at a URL, in this time.

    Raises ArtifactError for a file that is too large, or a URL that cannot be read here, and TransientError for one
    that is missing, late, or in a store that does not answer.
    """
    shown, deadline = shortened(uri, _SHOWN), time.monotonic() + within_s
    open_file = _open_on_server if scheme_of(uri) == MLFLOW else _open_object

    def whole() -> bytes:
        pieces, size = [], 0
        with open_file(uri, registry, within_s) as file:
            while piece := file.read(_PIECE):
                pieces.append(piece)
                size += len(piece)
                if size > largest:
                    raise ArtifactError(f"the artifact {shown!r} has more than {largest:,} bytes")
                if time.monotonic() > deadline:
                    raise _late(shown)
        return b"".join(pieces)

    try:
        return _in_time(whole, within_s, shown)
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(f"the artifact {shown!r} cannot be read: {error}") from error


def write(folder: str, files: Mapping[str, bytes], *, within_s: float, registry: str = "") -> None:
    """Write files below a URL. Raises OSError if the store does not answer in time."""
    put = _put_on_server if scheme_of(folder) == MLFLOW else _put_object
    for name, data in files.items():
        uri = f"{folder.rstrip('/')}/{name}"
        try:
            _in_time(lambda uri=uri, data=data: put(uri, data, registry, within_s), within_s, uri)  # type: ignore[misc]
        except (TransientError, http.client.HTTPException) as error:
            raise OSError(f"{uri} cannot be written: {error}") from error


def _in_time(action: Callable[[], T], within_s: float, shown: str) -> T:
    """Return the result of an action. The libraries of object stores have no limit of time that always holds."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(action())
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    thread = threading.Thread(target=run, name="headrace-artifact", daemon=True)
    thread.start()
    thread.join(within_s)
    if failed:
        raise failed[0]
    if not done:
        raise _late(shown)
    return done[0]


def _late(shown: str) -> TransientError:
    return TransientError(f"the artifact {shown!r} did not come in time")


# -- object stores -----------------------------------------------------------------------------------------------------


def _open_object(uri: str, _: str, __: float) -> Any:
    store, path = _store(uri)
    return store.open_input_stream(path)


def _put_object(uri: str, data: bytes, _: str, __: float) -> None:
    store, path = _store(uri)
    with store.open_output_stream(path) as file:
        file.write(data)


def _store(uri: str) -> tuple[Any, str]:
    scheme, path = scheme_of(uri), uri.partition("://")[2]
    fs = require("pyarrow.fs", "s3")
    if scheme == "s3":
        return _s3(fs), path
    if scheme in OBJECT_STORES:
        store, path = fs.FileSystem.from_uri(uri)
        return store, path
    raise ArtifactError(
        f"cannot read {shortened(uri, _SHOWN)!r}: artifacts are read from folders, {', '.join(OBJECT_STORES)} and "
        f"{MLFLOW}; for {scheme or 'plain paths'} give the ArtifactPlaces a `fetch` function of your own"
    )


def _s3(fs: Any) -> Any:
    address = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    options: dict[str, Any] = {} if region is None else {"region": region}
    if address:
        parts = urlsplit(address)
        options |= {"endpoint_override": parts.netloc, "scheme": parts.scheme}
    return fs.S3FileSystem(retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=2), **options)


# -- MLflow's server ---------------------------------------------------------------------------------------------------


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the credentials to another server."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _open_on_server(uri: str, registry: str, within_s: float) -> Any:
    return _asked(_request(uri, registry), within_s)


def _put_on_server(uri: str, data: bytes, registry: str, within_s: float) -> None:
    _asked(_request(uri, registry, data=data, method="PUT"), within_s).close()


def _asked(request: urllib.request.Request, within_s: float) -> Any:
    try:
        return urllib.request.build_opener(_NoRedirects).open(request, timeout=within_s)
    except urllib.error.HTTPError as error:
        code = error.code
        error.close()
        if code == _NOT_FOUND:
            raise FileNotFoundError("there is no such file") from error
        raise OSError(f"the MLflow server answers {code} {error.reason}") from error


def _request(uri: str, registry: str, **options: Any) -> urllib.request.Request:
    server, file = urlsplit(revealed(registry)), urlsplit(uri)
    host = server.netloc.rpartition("@")[2]
    if server.scheme not in {"http", "https"} or file.netloc not in {"", host}:
        message = (
            f"cannot read {shortened(uri, _SHOWN)!r}: it is on an MLflow server, and the setting `registry_uri` does "
            "not name that one"
        )
        raise ArtifactError(message)
    path = server.path.rstrip("/") + _API + quote(unquote(file.path).lstrip("/"))
    headers = {"Content-Type": "application/octet-stream", **_authorization(server.username, server.password)}
    return urllib.request.Request(f"{server.scheme}://{host}{path}", headers=headers, **options)  # noqa: S310


def _authorization(username: str | None, password: str | None) -> dict[str, str]:
    user = unquote(username) if username else os.environ.get("MLFLOW_TRACKING_USERNAME")
    secret = unquote(password) if password else os.environ.get("MLFLOW_TRACKING_PASSWORD")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if user and secret:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()}
    return {"Authorization": f"Bearer {token}"} if token else {}
