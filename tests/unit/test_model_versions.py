from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from headrace.app.model_versions import (
    check_in_force,
    choose_model,
    describe_intervention,
    describe_version,
    differences,
    fetch_manifest,
    published_versions,
    summarize_version,
    tell_intervention,
)
from headrace.errors import ArtifactError, HeadraceError
from headrace.models.artifact_places import ArtifactPlaces
from headrace.models.manifest import encode, hash_of
from headrace.models.model_events import ManifestRef
from headrace.models.model_state import ModelState, fold
from tests.support.model_events import MANIFEST, PUBLISHED, promoted, published, retired, rolled_back

if TYPE_CHECKING:
    from pathlib import Path


def test_a_version_shows_everything_that_made_the_model() -> None:
    told = describe_version(fold([published("a", 1, expects=None)]), 1, MANIFEST)
    assert json.loads(json.dumps(told)) == told
    assert (told["model"], told["version"], told["status"]) == ("delay", 1, "live")
    assert told["published_at"] == "2013-02-04T17:46:40Z"
    assert told["cause"]["rule"] == "first"
    assert told["cause"]["reason"].startswith("20,000 of 20,000")
    assert told["data"] == {
        "topics": [{"topic": "flights.departed", "topic_id": "AAECAw", "offsets": {"0": 120, "1": 98}}],
        "rows": 20_000,
        "content_hash": "sha256:33",
        "trained_from": "2013-01-01T00:26:40Z",
        "trained_to": "2013-02-04T17:46:40Z",
        "excluded": [
            {"from": "1970-01-01T00:00:00.000001Z", "to": "1970-01-01T00:00:00.000002Z", "reason": "sensor broken"}
        ],
    }
    assert (told["code"], told["seeds"], told["libraries"]) == ("git:0123abc", {"fit": 7}, {"scikit-learn": "1.9.1"})
    assert told["spec_hashes"] == {"airport": "a1b2"}
    assert told["gate"] == PUBLISHED.gate
    assert told["metrics"] == {"auc": 0.74}
    assert (told["run"], told["registry_run"]) == ("request-a", "run-1")
    assert told["artifact"] == {"uri": "file:///models/1.skops", "digest": "sha256:00", "content_hash": "sha256:11"}
    assert told["void"] == []


def test_a_version_is_live_published_retired_or_void() -> None:
    events = [
        published("a", 1, expects=None),
        published("b", 2, expects="a"),
        published("c", 3, expects="a"),  # judged against what is not live any more
        published("d", 2, expects="b"),  # a version that exists
        published("e", 4, expects="b"),
        rolled_back("f", 2),
        retired("g", 1),
    ]
    state = fold(events)
    assert published_versions(state) == [1, 2, 3, 4]
    assert [summarize_version(state, each)["status"] for each in published_versions(state)] == [
        "retired",
        "live",
        "void",
        "published",
    ]
    assert [describe_version(state, each, MANIFEST)["status"] for each in published_versions(state)] == [
        summarize_version(state, each)["status"] for each in published_versions(state)
    ]
    void = describe_version(state, 3, MANIFEST)["void"]
    assert void == [{"event": "c", "reason": "it was judged against a, live is b"}]
    twice = describe_version(state, 2, MANIFEST)
    assert twice["event"] == "b"
    assert twice["void"] == [{"event": "d", "reason": "version 2 exists"}]


def test_an_unknown_version_or_model_names_the_known_ones() -> None:
    state = fold([published("a", 1, expects=None), published("b", 2, expects="a"), retired("r", 9)])
    with pytest.raises(HeadraceError, match=r"no version 9 .* published versions: 1, 2"):
        describe_version(state, 9, MANIFEST)
    with pytest.raises(HeadraceError, match="published versions: none"):
        summarize_version(ModelState(), 1)
    assert choose_model({"delay": state}, "delay") == "delay"
    with pytest.raises(HeadraceError, match=r"'other' has no events; .*: delay, price"):
        choose_model({"price": state, "delay": state}, "other")


def test_a_manifest_is_the_one_its_event_names(tmp_path: Path) -> None:
    path = tmp_path / "1.json"
    path.write_bytes(encode(MANIFEST))
    places = ArtifactPlaces([tmp_path])
    data = msgspec.structs.replace(PUBLISHED, manifest=ManifestRef(uri=path.as_uri(), hash=hash_of(MANIFEST)))
    assert fetch_manifest(data, places) == MANIFEST
    path.write_bytes(encode(msgspec.structs.replace(MANIFEST, rows=1)))
    with pytest.raises(ArtifactError, match="it was changed after version 1"):
        fetch_manifest(data, places)


def test_a_manifest_comes_from_a_declared_place_only(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_bytes(encode(MANIFEST))
    uri = (tmp_path / "secret.json").as_uri()
    data = msgspec.structs.replace(PUBLISHED, manifest=ManifestRef(uri=uri, hash=hash_of(MANIFEST)))
    with pytest.raises(ArtifactError, match="in none of the places"):
        fetch_manifest(data, ArtifactPlaces([tmp_path / "artifacts"]))


def test_a_version_that_needs_an_approval_waits_or_is_superseded() -> None:
    waits = [published("a", 1, expects=None), published("b", 2, expects="a", approval="wanted")]
    assert summarize_version(fold(waits), 2)["status"] == "waiting"
    later = [*waits, published("c", 3, expects="a", approval="wanted")]
    assert [summarize_version(fold(later), each)["status"] for each in (1, 2, 3)] == ["live", "superseded", "waiting"]
    state = fold([*later, promoted("p", 3), rolled_back("x", 1, by="ann@desk")])
    assert [summarize_version(state, each)["status"] for each in (1, 2, 3)] == ["live", "superseded", "published"]
    pinned = [summarize_version(state, each)["pinned"] for each in (1, 3)]
    assert pinned == ["version 1 was pinned by ann@desk at 1970-01-01 00:00 UTC: worse", None]
    assert describe_version(state, 3, MANIFEST)["interventions"] == [
        "version 3 was promoted at 1970-01-01 00:00 UTC: better"
    ]


def test_two_versions_differ_in_what_made_them_and_not_in_their_names() -> None:
    gate = {"verdict": "passed", "metrics": {"auc": {}}}
    better = published("b", 2, expects="a", run="run-2", metrics={"auc": 0.76}, gate=gate)
    state = fold([published("a", 1, expects=None), better])
    other = msgspec.structs.replace(
        MANIFEST,
        rows=30_000,
        libraries={"scikit-learn": "1.9.2"},
        params={},
        streams=[msgspec.structs.replace(MANIFEST.streams[0], offsets={"0": 120, "1": 200})],
    )
    found = differences(describe_version(state, 1, MANIFEST), describe_version(state, 2, other))
    assert [(each["what"], each["from"], each["to"]) for each in found] == [
        ("status", "published", "live"),
        ("data.topics.flights.departed.1", 98, 200),
        ("data.rows", 20_000, 30_000),
        ("params.max_iter", 200, None),
        ("libraries.scikit-learn", "1.9.1", "1.9.2"),
        ("gate.gain_low", 0.01, None),
        ("metrics.auc", 0.74, 0.76),
    ]
    assert differences(describe_version(state, 1, MANIFEST), describe_version(state, 1, MANIFEST)) == []


def test_an_intervention_says_what_is_live_now_or_that_it_came_too_late() -> None:
    event = rolled_back("x", 1, by="ann@desk")
    state = fold([published("a", 1, expects=None), published("b", 2, expects="a"), event])
    assert tell_intervention(state, event) == (
        "version 1 of delay is live, and pinned until `headrace models unpin delay`"
    )
    assert tell_intervention(state, event, 1) == (
        "version 1 of delay was live already, and is pinned now until `headrace models unpin delay`"
    )
    assert describe_intervention(state, event) == {
        "model": "delay", "event": "x", "kind": "rolled_back", "at": "1970-01-01T00:00:00.000002Z", "format": 1,
        "version": 1, "reason": "worse", "pin": True, "by": "ann@desk", "live": 1, "pinned": True,
    }  # fmt: skip
    check_in_force(state, event)
    later = [*state.history, rolled_back("z", 2, by="bob@desk")]
    with pytest.raises(
        HeadraceError, match=r"version 1 was pinned by ann@desk at .*: version 2 was pinned by bob@desk"
    ):
        check_in_force(fold(later), event)
    check_in_force(fold(later), later[-1])
    late = rolled_back("y", 1, pin=False, lifts="an earlier pin")
    with pytest.raises(HeadraceError, match="nothing has changed, as another event came first: it was decided while"):
        check_in_force(fold([*state.history, late]), late)
