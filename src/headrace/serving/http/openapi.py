"""The OpenAPI document, generated from the message types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headrace.serving.http import problems
from headrace.serving.http.feast import FeastRequest, FeastResponse
from headrace.serving.http.messages import FeaturesRequest, FeaturesResponse
from headrace.serving.http.problems import Problem
from headrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCHEMAS = "#/components/schemas/{name}"
_FAILURES = {
    400: "The body is not JSON.",
    404: "There is no such service, view or feature.",
    408: "The head or the body did not come in time.",
    413: "Too many bytes, entities, or entities times views.",
    422: "JSON of another shape, a join key of another type, or a value of the request that is missing or of another.",
    431: "The head of the request is too large.",
    503: "The online store does not answer, or every connection is in use: try again after Retry-After seconds.",
    504: "There was no answer within the server's deadline.",
}
_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def document(*, with_keys: bool) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the server. ``with_keys``: requests need an API key."""
    messages: Sequence[type] = (FeaturesRequest, FeaturesResponse, FeastRequest, FeastResponse, Problem)
    _, schemas = msgspec.json.schema_components(messages, ref_template=_SCHEMAS)
    components: dict[str, Any] = {"schemas": schemas}
    if with_keys:
        components["securitySchemes"] = _KEYS
    return {
        "openapi": "3.1.0",
        "info": {"title": "headrace", "version": __version__, "summary": "Look-ups of features."},
        "paths": {
            "/features": _look_up("Look up features", FeaturesRequest, FeaturesResponse, with_keys=with_keys),
            "/get-online-features": _look_up(
                "Look up features as Feast's server does", FeastRequest, FeastResponse, with_keys=with_keys
            ),
            "/livez": _probe("Whether the process answers"),
            "/readyz": _probe("Whether the online store answers and knows the services", 503),
            "/metrics": _text("Metrics for Prometheus", with_keys=with_keys),
        },
        "components": components,
    }


def _look_up(summary: str, request: type, response: type, *, with_keys: bool) -> dict[str, Any]:
    failures = {str(status): _problem(text) for status, text in _all_failures(with_keys=with_keys).items()}
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": _json(request)},
            "responses": {"200": {"description": "What was found.", "content": _json(response)}, **failures},
            **_security(with_keys=with_keys),
        }
    }


def _all_failures(*, with_keys: bool) -> dict[int, str]:
    return _FAILURES | ({401: "No valid API key."} if with_keys else {})


def _probe(summary: str, *failures: int) -> dict[str, Any]:
    found = _text(summary, with_keys=False)
    found["get"]["responses"] |= {str(status): _problem(_FAILURES[status]) for status in failures}
    return found


def _text(summary: str, *, with_keys: bool) -> dict[str, Any]:
    answered = {"description": "The answer is yes.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    failures = {"401": _problem("No valid API key.")} if with_keys else {}
    return {"get": {"summary": summary, "responses": {"200": answered, **failures}, **_security(with_keys=with_keys)}}


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": _SCHEMAS.format(name=Problem.__name__)}
    return {"description": description, "content": {problems.MEDIA_TYPE: {"schema": schema}}}


def _json(message: type) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _SCHEMAS.format(name=message.__name__)}}}


def _security(*, with_keys: bool) -> dict[str, Any]:
    return {"security": [{name: []} for name in _KEYS]} if with_keys else {}
