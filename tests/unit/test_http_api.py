"""The HTTP API against its own description: schemathesis makes requests, good and bad, of /openapi.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving.features import FeatureClient
from headrace.serving.http import HttpOptions, RequestLimits, application
from tests.support.http_scene import InThreads, ask, serving
from tests.support.lookups_scene import Worker, sale

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow
KEY = "a key"
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
EXCLUDED = [positive_data_acceptance, ignored_auth]
"""A schema cannot say all that must hold of a body; and every request here has the right key besides a wrong one."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server that asks for a key."""
    store = MemoryOnlineStore()
    Worker(store).fold(0, sale("a", 1, 1.0))
    options = HttpOptions(services=["risk"], api_keys=[KEY], limits=RequestLimits(deadline="10s"))
    with serving(application(InThreads(FeatureClient(store)), options)) as url:
        yield url


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        *((path, mode) for path in ("/features", "/get-online-features") for mode in GenerationMode),
        *((path, GenerationMode.POSITIVE) for path in ("/livez", "/readyz", "/metrics")),
    ],
)
def test_the_server_answers_as_its_openapi_says(url: str, path: str, mode: GenerationMode) -> None:
    described = schemathesis.openapi.from_url(f"{url}/openapi.json", headers={"X-API-Key": KEY})
    (operation,) = described[path].values()

    @settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=SLOW)
    @given(operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate(headers={"X-API-Key": KEY}, excluded_checks=EXCLUDED)

    check()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/features", {"service": "risk", "entities": [{"shop": "a", "till": 1}, {"shop": None}], "offsets": True}),
        ("/features", {"service": "risk", "entities": [], "as_of": "2020-01-01T00:04:00+01:00"}),
        ("/get-online-features", {"features": ["till:last_1h"], "entities": {"shop": ["a"], "till": [1]}}),
    ],
)
def test_an_answer_with_features_matches_its_schema(url: str, path: str, body: Any) -> None:
    described = schemathesis.openapi.from_url(f"{url}/openapi.json", headers={"X-API-Key": KEY})
    (operation,) = described[path].values()
    case = operation.Case(body=body, media_type="application/json")
    assert case.call_and_validate(headers={"X-API-Key": KEY}).status_code == 200


def test_the_openapi_document_names_every_path(url: str) -> None:
    found = ask(f"{url}/openapi.json", headers={"X-API-Key": KEY}).json
    assert sorted(found["paths"]) == ["/features", "/get-online-features", "/livez", "/metrics", "/readyz"]
    assert found["components"]["schemas"]["FeaturesRequest"]["required"] == ["entities"]
    assert found["paths"]["/features"]["post"]["security"] == [{"bearer": []}, {"key": []}]
    assert "401" in found["paths"]["/features"]["post"]["responses"]
