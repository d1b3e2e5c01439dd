"""The live page in a real browser, Debian's chromium, driven by playwright. Without the browser the tests are skipped.

`apt-get install chromium` installs it.
"""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from headrace.app.flow.definition_graph import definition_graph
from headrace.app.project.project import load_project
from headrace.app.project.settings_sources import load_settings
from headrace.app.project.ui_settings import UiSettings
from headrace.app.snapshot.snapshot_fold import SnapshotFold
from headrace.app.ui.application import live_page
from headrace.app.ui.pages import PAGES
from headrace.bus.worker_report import PartitionReport, ViewReport, WorkerReport
from headrace.errors import TransientError
from headrace.models.publication_signing import UNSIGNED
from headrace.serving.http import ConnectionLimits
from tests.support.http_scene import serving
from tests.support.model_events import published
from tests.support.told_records import TOPICS, ToldRecord, application, decided, happened, take, trainer
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.app.snapshot.snapshot import Snapshot

CHROMIUM = shutil.which("chromium")
pytestmark = [pytest.mark.long, pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")]
DASH = ["\N{EN DASH}"]
HOSTILE = '<img src=x onerror="document.title=1">'
GAIN = {"champion": 0.7, "challenger": 0.72, "gain": 0.02, "gain_low": 0.01, "gain_high": 0.03}


def now() -> int:
    return time.time_ns() // 1_000


class ToldDeployment:
    """The reference system, all of whose processes have told how they do."""

    def __init__(self) -> None:
        self.project = load_project(load_settings())
        self._fold = SnapshotFold(TOPICS, UNSIGNED, ["delay"], begun_us=now())
        self._fold.has_partitions({"flights.departed": 2, "flights.arrived": 1})
        gate = {"verdict": "passed", "metric": "auc", "metrics": {"auc": GAIN}}
        for event in (published("e1", 1, expects=None), published("e2", 2, expects="e1", gate=gate)):
            take(self._fold, happened(msgspec.structs.replace(event, at_us=now())))
        self._consumed = 1_000
        self.is_silent = False

    def read(self) -> Snapshot:
        if self.is_silent:
            raise TransientError("nothing is heard")
        at_us = now()
        self._consumed += 100
        view = f"airport@{self.project.views['airport'].version}"
        part = PartitionReport(
            "flights.departed", "AA-0", self._consumed, self._consumed - 7, at_us, 3,
            {view: ViewReport(self._consumed, self._consumed, at_us)}, end_offset=self._consumed + 41,
        )  # fmt: skip
        take(
            self._fold,
            ToldRecord(TOPICS.observations, WorkerReport(HOSTILE, at_us, [part]).encode(), at_us),
            trainer(at_us, models=["delay"]),
            application(at_us, 2, self._consumed, model="delay", application=HOSTILE),
            decided(at_us, 0.31, model="delay"),
        )
        return self._fold.snapshot(at_us)


@pytest.fixture(scope="module")
def told() -> ToldDeployment:
    return ToldDeployment()


@pytest.fixture(scope="module")
def address(told: ToldDeployment) -> Iterator[str]:
    page = live_page(told.read, definition_graph(told.project), namespace="shop", hosts=UiSettings().hosts())
    with serving(page, ConnectionLimits(answered="5m")) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as running:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        opened = running.chromium.launch(executable_path=CHROMIUM, args=arguments, timeout=120_000)
        yield opened
        opened.close()


class OpenPage:
    """A page with what it has said and asked for."""

    def __init__(self, browser: Any, url: str, scheme: str, width: int) -> None:
        self.said: list[str] = []
        self.asked: set[str] = set()
        self.page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.page.set_default_timeout(120_000)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.add(request.url))
        self.page.goto(url, wait_until="domcontentloaded")
        until(lambda: self.page.inner_text("#connection").startswith("live"), timeout_s=60)

    def rows(self) -> list[list[str]]:
        found = (
            "[...document.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
        )
        rows: list[list[str]] = self.page.evaluate(found)
        return rows


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_shown_without_an_error_and_asks_nobody_else(
    browser: Any, address: str, name: str, scheme: str, width: int
) -> None:
    opened = OpenPage(browser, f"{address}/{'' if name == 'now' else name}", scheme, width)
    page = opened.page
    assert opened.said == []
    assert {url for url in opened.asked if not url.startswith((address, "data:"))} == set()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() == f"{PAGES[name]} · shop · headrace"
    assert page.locator("img").count() == 0, "what comes from outside is text"
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    found = axe.Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
    page.close()


def test_the_first_page_shows_marks_and_the_flow_and_says_when_it_hears_nothing(
    browser: Any, address: str, told: ToldDeployment
) -> None:
    opened = OpenPage(browser, address, "light", 1280)
    marks = "[...document.querySelectorAll('[data-sentence]')].map((each) => each.dataset.mark)"
    assert opened.page.evaluate(marks) == ["error", "ok", "ok", "ok"]
    complete = opened.page.inner_text('[data-sentence="complete"] .said')
    assert complete == "2 partitions without a worker: flights.arrived 0, flights.departed 1"
    assert opened.page.text_content('[data-note="topic:flights.departed"]') == "1 of 2 not read"
    assert opened.page.text_content('[data-note="model:delay"]') == "v2 · volume 31 %"
    told.is_silent = True
    try:
        until(lambda: opened.page.evaluate("document.body.hasAttribute('data-lost')"), timeout_s=60)
        assert "has heard nothing for" in opened.page.inner_text("#connection")
        assert opened.page.evaluate(marks) == ["unknown"] * 4
    finally:
        told.is_silent = False
    until(lambda: opened.page.inner_text("#connection").startswith("live"), timeout_s=60)
    opened.page.close()


def test_a_number_of_a_table_is_that_of_the_snapshot_and_an_unknown_one_is_a_dash(browser: Any, address: str) -> None:
    opened = OpenPage(browser, f"{address}/streams", "light", 1280)
    rows = {(row[0], row[1]): row for row in opened.rows()}
    assert rows["flights.departed", "0"][4] == "41"
    assert rows["flights.departed", "0"][9] == HOSTILE
    assert rows["flights.arrived", "0"][2:9] == ["no worker", *DASH * 3, "never", *DASH * 2]
    opened.page.close()
