"""The answers to requests that fail: problem details (RFC 9457) say what came, what was wanted, and what to do."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import structlog
from starlette.responses import Response

from headrace.errors import EntityKeyError, FeaturesUnknownError, HeadraceError, RequestValueError, TransientError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.exceptions import HTTPException
    from starlette.requests import Request

logger = structlog.get_logger(__name__)
T = TypeVar("T")
MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER_S = "1"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was not answered (RFC 9457).

    ``type`` names the kind of problem, ``title`` is its sentence, ``detail`` says what came and what to do.
    """

    type: str
    title: str
    status: int
    detail: str


class ProblemError(Exception):
    """Ends a request with a problem."""

    def __init__(self, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.problem = Problem(type=f"urn:headrace:{kind}", title=TITLES[kind], status=status, detail=detail)
        self.headers = headers

    def response(self) -> Response:
        """Return the answer."""
        return Response(msgspec.json.encode(self.problem), self.problem.status, self.headers, MEDIA_TYPE)


TITLES = {
    "malformed": "The body is not JSON",
    "invalid": "The request is not what the API takes",
    "wrong-key": "A join key is not of its type",
    "wrong-value": "A value of the request is missing or not of its type",
    "no-event": "An item of the body is no event",
    "unsupported": "The body is of another media type",
    "not-acknowledged": "Kafka has not acknowledged the events",
    "unauthorized": "The request has no valid API key",
    "unknown": "There is no such service, view or feature",
    "too-large": "The request is too large",
    "head-too-large": "The head of the request is too large",
    "too-slow": "The request came too slowly",
    "busy": "The server has no connection left",
    "unavailable": "The online store does not answer",
    "deadline": "There was no answer in time",
    "http": "The request cannot be served",
    "internal": "The server has failed",
}


def of_error(_: Request, error: Exception) -> Response:
    """Return the answer to a request that raised one of headrace's errors, or a problem."""
    return problem_of(error).response()


def of_http_error(_: Request, error: Exception) -> Response:
    """Return the answer to an unknown path, or to a method that the path does not have."""
    found: Any = error
    http: HTTPException = found
    detail = f"{http.detail}: /openapi.json says which paths and methods there are"
    return ProblemError(http.status_code, "http", detail, http.headers).response()


def problem_of(error: Exception) -> ProblemError:
    """Return the problem for one of headrace's errors, for a problem, or for an unexpected error."""
    match error:
        case ProblemError():
            return error
        case EntityKeyError():
            return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "wrong-key", str(error))
        case RequestValueError():
            return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "wrong-value", str(error))
        case FeaturesUnknownError():
            return ProblemError(HTTPStatus.NOT_FOUND, "unknown", str(error))
        case TransientError():  # its text names the store's host, so only the log has it
            logger.warning("the online store does not answer", error=str(error))
            return unavailable("the online store does not answer; try again later: the log of the server says why")
        case HeadraceError():
            logger.error("a request has failed", error=str(error))
        case _:  # the endpoint raises it again, and the server logs it
            pass
    return _internal()


def _internal() -> ProblemError:
    """Return the problem for an unexpected error. Its text could show secrets, so only the log has it."""
    return ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "see the log of the server")


def invalid(detail: str) -> ProblemError:
    """Return the problem for a request that has the right JSON types and is still impossible."""
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", detail)


def each_once(what: str, names: Sequence[str]) -> None:
    """Raise ProblemError if a name occurs more than once."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise invalid(f"the {what} {twice} came more than once; ask for each once")


def too_large(detail: str) -> ProblemError:
    """Return the problem for a request that asks for too much at once."""
    return ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", f"{detail}: ask for less at a time")


def unavailable(detail: str) -> ProblemError:
    """Return the problem for a store that does not answer: the same request may succeed later."""
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", detail, {"Retry-After": _RETRY_AFTER_S})


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Return the content of a body. Raises ProblemError if it is not JSON, or JSON of other types."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        detail = f"{error}; /openapi.json says what is wanted"
        raise invalid(detail) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "malformed", f"{error}; a JSON object is wanted") from error
