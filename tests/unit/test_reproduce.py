from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec import UNSET
from sklearn.linear_model import LogisticRegression

from headrace.base.times import utc_datetime
from headrace.errors import ArtifactError, TerminalError
from headrace.models import artifact, manifest
from headrace.models.artifact_places import ArtifactPlaces
from headrace.models.manifest import GitState, Manifest, TimeSpan
from headrace.models.model_events import Published
from headrace.trainers.data.exclusions import MemoryExclusions, exclude
from headrace.trainers.runs.fit_task import predict
from headrace.trainers.runs.fitting import InlineFits
from headrace.trainers.runs.reproduce import Reproducer, Reproduction
from tests.support.control_topics import VECTORS
from tests.support.orders_model import (
    LIVE_FROM,
    Order,
    Return,
    Shop,
    day,
    model,
    orders,
    request,
    returns,
    vector,
    write,
)

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.trainers.definitions import Model

pytestmark = pytest.mark.slow  # a second and more for its scenes

SERVED = replace(model, learn_from="logged")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Two versions; then rows come that are as old as those that they were made from."""
    scene = Shop(tmp_path_factory.mktemp("shop"))
    exclusions = MemoryExclusions()
    assert scene.runner().run(request("one", day(LIVE_FROM))).version == 1
    scene.serve(1, until=55)
    exclusions.append(exclude("x", None, TimeSpan(from_us=day(10), to_us=day(12), reason="broken"), at_us=0))
    assert scene.runner(exclusions=exclusions).run(request("two", day(50))).version == 2
    late = [Order(10_000 + n, "shop-0", 3.0, utc_datetime(day(20) + n)) for n in range(50)]
    write(scene.log, orders, late)
    write(scene.log, returns, [Return(each.order_id, False, each.ordered_at + timedelta(hours=1)) for each in late])
    write(scene.log, VECTORS, [vector(each, 9.0) for each in late])
    return scene


def published(shop: Shop, version: int) -> tuple[Published, Manifest, int]:
    event = shop.state.published(version)
    assert event is not None
    assert isinstance(event.data, Published)
    return event.data, manifest.decode(artifact.fetch(event.data.manifest.uri)), event.at_us


def reproduce(shop: Shop, version: int, of: Model = model, **changes: Any) -> Reproduction:
    data, kept, at_us = published(shop, version)
    kept = msgspec.structs.replace(kept, **changes)
    return Reproducer(shop.folder / "log", InlineFits(), places=ArtifactPlaces([shop.folder])).reproduce(
        of, data, kept, at_us
    )


def said(found: Reproduction) -> dict[str, tuple[Any, Any]]:
    return {each.what: (each.then, each.now) for each in found.differences}


@pytest.mark.parametrize("version", [1, 2])
def test_a_version_is_made_again_to_the_bit(shop: Shop, version: int) -> None:
    found = reproduce(shop, version)
    assert (found.identical, found.different_rows, found.largest, found.differences) == (True, 0, 0.0, [])
    assert found.rows == published(shop, version)[1].rows


def test_reproduction_uses_the_rows_that_the_manifest_pins(shop: Shop) -> None:
    whole = reproduce(shop, 1, streams=[])
    assert said(whole).keys() == {"rows", "content_hash"}
    assert said(whole)["rows"] == (29 * 150, 29 * 150 + 50)
    assert not whole.identical


def test_reproduction_excludes_the_spans_excluded_then(shop: Shop) -> None:
    assert said(reproduce(shop, 2, excluded=[])).keys() == {"rows", "content_hash"}


def otherwise(X: Any, y: Any, run: Any) -> LogisticRegression:  # noqa: N803
    return LogisticRegression(C=0.01, random_state=run.seed).fit(X, y)


def test_reproduction_names_each_difference(shop: Shop) -> None:
    kept = published(shop, 1)[1]
    found = reproduce(
        shop, 1, replace(model, train=otherwise), libraries=kept.libraries | {"numpy": "1.0", "gone": "3"}
    )
    here = {"code_modules.tests.unit", f"code_modules.{__name__}"}  # reached now, and not then
    assert said(found).keys() == {"code", "libraries.numpy", "libraries.gone"} | here
    assert said(found)["libraries.numpy"][0] == "1.0"
    assert (found.identical, found.different_rows) == (False, found.rows)
    assert found.largest > 0


def test_reproduction_of_an_older_manifest_compares_what_it_has(shop: Shop) -> None:
    older: dict[str, Any] = {"code_modules": UNSET, "code_bound": UNSET, "git": UNSET}
    assert reproduce(shop, 1, **older).differences == []
    found = reproduce(shop, 1, replace(model, train=otherwise), **older)
    assert said(found).keys() == {"code"}


def test_reproduction_names_the_module_that_was_changed(shop: Shop) -> None:
    kept = published(shop, 1)[1]
    assert kept.code_modules is not UNSET
    name = "tests.support.orders_model"
    found = reproduce(shop, 1, code_modules=kept.code_modules | {name: "sha256:0"}, git=GitState(commit="0" * 40))
    assert said(found).keys() == {f"code_modules.{name}", "git"}
    assert said(found)["git"][0] == {"commit": "0" * 40}


def test_reproduction_sees_a_difference_in_the_last_bit(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.trainers.runs.reproduce.predict", lambda *args: predict(*args) + 1e-16)
    found = reproduce(shop, 1)
    assert not found.identical
    assert found.largest < 1e-15


def test_a_version_that_cannot_be_reproduced_says_why(shop: Shop) -> None:
    data, kept, at_us = published(shop, 1)
    reproducer = Reproducer(shop.folder / "log", InlineFits(), places=ArtifactPlaces([shop.folder]))
    with pytest.raises(TerminalError, match=r"none of the 4,350 rows is in the event log"):
        reproducer.reproduce(
            model, data, msgspec.structs.replace(kept, excluded=[TimeSpan(from_us=0, to_us=at_us, reason="")]), at_us
        )
    other = replace(model, request_features=[])
    with pytest.raises(TerminalError, match=r"the columns \['shop__orders_1d'\] now; .*'amount'"):
        reproducer.reproduce(other, data, kept, at_us)
    swapped = msgspec.structs.replace(data, artifact=msgspec.structs.replace(data.artifact, digest="sha256:00"))
    with pytest.raises(ArtifactError, match="these are not the published bytes"):
        reproducer.reproduce(model, swapped, kept, at_us)


def test_a_version_made_from_what_was_served_is_made_again_from_that(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    assert shop.runner().run(request("one", day(LIVE_FROM))).version == 1
    shop.serve(1, until=55)
    finished = shop.runner(SERVED).run(request("three", day(54)))
    assert finished.gate is not None
    found = shop.registry.find(model.name, "returns-three")
    assert found is not None
    kept = manifest.decode(artifact.fetch(found.manifest_uri))
    data, _, _ = published(shop, 1)
    again = Reproducer(shop.folder / "log", InlineFits(), places=ArtifactPlaces([shop.folder])).reproduce(
        SERVED, data, kept, day(54)
    )
    assert again.differences == []
