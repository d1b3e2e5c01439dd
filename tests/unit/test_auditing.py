"""An audit names the fault that was planted; its tolerance is that of the sums, and no more."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow.dataset as ds
import pytest
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.app.commands.audit import gap_lines
from headrace.base.times import utc_datetime
from headrace.bus.event import Event
from headrace.bus.stream import Stream
from headrace.errors import ProjectError
from headrace.event_log.event_log import EventLog
from headrace.event_log.logged_offsets import MissingOffsets
from headrace.features.definitions.aggregates import Aggregate, DecayedSum, Max, Mean, Std, Sum, Variance
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import col
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from headrace.features.definitions.windows import Lifetime
from headrace.features.offline.feature_history import FeatureHistory
from headrace.streams.deployments.deployment import Deployed, Deployment, advance
from headrace.trainers.audit.audited_service import AuditedService
from headrace.trainers.audit.auditor import Auditor
from headrace.trainers.audit.compare import ServedVectorRows, audit
from headrace.trainers.audit.tolerance import tolerances
from tests.support.audit_scene import SOURCES, LoggedAuditScene
from tests.support.control_topics import VECTORS
from tests.support.orders_model import Shop, day, write

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


@pytest.fixture
def scene(tmp_path: Path) -> LoggedAuditScene:
    found = LoggedAuditScene(tmp_path)
    found.serve(12)
    return found


def test_rightly_served_vectors_match_in_every_feature(scene: LoggedAuditScene) -> None:
    found = scene.logged().audit()
    assert (found.checked, found.mismatched, found.not_logged, found.gaps) == (len(scene.vectors), 0, 0, [])
    assert found.out_of_range > 0
    assert {counts.matched for counts in found.features.values()} == {found.checked}
    assert list(found.features) == ["now__n_1h", "now__mean_1h", "past__n_1h"]


def test_a_corrupted_tile_is_named_by_its_feature(scene: LoggedAuditScene) -> None:
    n, mean, past = scene.vectors[-1]["values"]
    assert n
    found = scene.logged(values=[n + 1, mean, None]).audit()
    assert (found.mismatched, past is not None) == (1, True)
    assert found.features["now__n_1h"].mismatched == 1
    assert (found.features["past__n_1h"].mismatched, found.features["past__n_1h"].missing) == (0, 1)
    assert found.features["now__mean_1h"].matched == found.checked
    assert found.examples[0]["values"]["now__n_1h"] == [n + 1, n]


def test_a_row_that_the_log_lost_is_named(scene: LoggedAuditScene) -> None:
    scene.logged()
    scene.keep(~((ds.field("__partition") == 0) & (ds.field("__offset") == 4)))
    found = scene.audit()
    assert found.mismatched > 0
    assert [(gap.topic, gap.source, gap.first, gap.end) for gap in found.gaps] == [("sales", SOURCES[0].text, 4, 5)]


def test_vectors_that_saw_more_than_the_log_has_are_counted_apart(scene: LoggedAuditScene) -> None:
    scene.logged()
    scene.keep((ds.field("__partition") == 1) | (ds.field("__offset") < 8), end=8)
    found = scene.audit()
    ahead = [vector for vector in scene.vectors if f'"{SOURCES[0].text}": 9' in vector["offsets"]]
    assert (found.not_logged, found.mismatched) == (len(ahead), 0)
    assert found.checked == len(scene.vectors) - len(ahead)


def test_the_end_of_a_transaction_is_an_offset_without_a_row_that_the_log_has(scene: LoggedAuditScene) -> None:
    passed = scene.vectors[-1]["offsets"].replace(f'"{SOURCES[0].text}": 9', f'"{SOURCES[0].text}": 10')
    scene.logged(offsets=passed)
    assert scene.audit().not_logged == 1
    scene.keep(ds.field("__offset") >= 0, end=10)
    found = scene.audit()
    assert (found.checked, found.not_logged, found.mismatched) == (len(scene.vectors), 0, 0)


def test_a_source_that_the_log_does_not_have_yet_is_beyond_it(scene: LoggedAuditScene) -> None:
    scene.logged()
    scene.keep(ds.field("__partition") == 0)
    found = scene.audit()
    ahead = [vector for vector in scene.vectors if f'"{SOURCES[1].text}": 1' in vector["offsets"]]
    assert (found.not_logged, found.mismatched) == (len(ahead), 0)
    assert found.checked == len(scene.vectors) - len(ahead) > 0


def test_a_changed_spec_is_named_by_the_service_that_served(scene: LoggedAuditScene) -> None:
    scene.logged()
    served_by = scene.model.features.version
    views = [replace(scene.model.features.views[0], windows=["2h"]), scene.model.features.views[1]]
    scene.model = replace(scene.model, features=FeatureService("risk", views))
    found = scene.audit()
    assert (found.checked, found.other_services) == (0, {served_by: len(scene.vectors)})
    assert found.service != served_by


def test_vectors_of_an_earlier_version_of_a_service_are_audited_by_its_own_spec(scene: LoggedAuditScene) -> None:
    n, mean, past = scene.vectors[-1]["values"]
    scene.logged(values=[n + 1, mean, past])
    before = scene.model.features
    views = [replace(before.views[0], windows=["2h"]), before.views[1]]
    scene.model = replace(scene.model, features=FeatureService("risk", views))
    first = Deployed(
        id="1", namespace="n", expects=None, at_us=0, services=[before.spec], views=[v.spec for v in before.views]
    )
    now = Deployed(
        id="2", namespace="n", expects="1", at_us=1, services=[scene.model.features.spec], views=[v.spec for v in views]
    )
    deployed = advance(advance(Deployment(), first), now)
    known = {
        version: AuditedService.deployed(service, deployed.specs)
        for version, service in deployed.service_versions.items()
    }
    assert set(known) == {before.version, scene.model.features.version}
    (other,) = Auditor(scene.model, scene.log).of_other_services(known)
    found = other.audit()
    assert (found.service, found.checked, found.mismatched) == (before.version, len(scene.vectors), 1)
    assert [name for name, counts in found.features.items() if counts.mismatched] == ["now__n_1h"]
    assert Auditor(scene.model, scene.log).of_other_services({}) == []


def test_the_markers_of_transactions_are_one_line() -> None:
    markers = [MissingOffsets("sales", "ab-0", offset, offset + 1) for offset in range(0, 360, 2)]
    longer = [MissingOffsets("sales", "ab-0", begin, begin + 5) for begin in range(1_000, 1_120, 10)]
    lines = gap_lines([*markers, longer[0]])
    assert lines[0].startswith("the event log of 'sales' has no rows at 180 single offsets: Kafka keeps the marker")
    assert lines[1:] == [
        (
            "the event log of 'sales' has no rows 1,000 to 1,004 of ab-0: they are lost, or of a transaction that was "
            "aborted"
        )
    ]
    assert gap_lines(longer)[10:] == ["and 2 more gaps: --json lists all of them"]
    assert gap_lines([]) == []


def test_an_audit_since_a_time_checks_only_later_vectors(scene: LoggedAuditScene) -> None:
    scene.logged()
    last = scene.vectors[-1]["served_at"]
    found = Auditor(scene.model, scene.log, since_us=int(last.timestamp() * 1e6)).audit()
    assert 0 < found.checked < len(scene.vectors)


def test_files_of_what_was_served_before_are_not_read(scene: LoggedAuditScene, tmp_path: Path) -> None:
    last = scene.vectors[-1]["served_at"]
    scene.logged()
    before = max((tmp_path / VECTORS.topic).glob("*.parquet"), key=lambda path: path.stat().st_size)
    scene.serve(30)
    scene.vectors = scene.vectors[-1:]
    scene.logged()
    before.write_bytes(b"no Parquet")
    assert Auditor(scene.model, scene.log, since_us=int(last.timestamp() * 1e6) + 60_000_000).audit().checked == 1


# -- tolerance -------------------------------------------------------------------------------------------------------


class Move(Event):
    """Money in or out."""

    who: str
    at: datetime
    amount: float
    pieces: int


moves = Stream("moves", Move, event_time="at", tolerance="30d")
features: dict[str, Aggregate] = {
    "sum": Sum("amount"), "mean": Mean(col("amount") * 2), "pieces": Sum("pieces"), "most": Max("amount"),
    "mean_pieces": Mean("pieces"), "share": Mean(col("amount") > 0), "var": Variance("amount"), "std": Std("amount"),
    "decayed": DecayedSum("amount", "1h"), "some": Sum("amount", where=col("pieces") > 3),
}  # fmt: skip
view = FeatureView("v", Entity("who"), moves, [Lifetime()], features)
START_US = day(0)


def history_of(folder: Path, amounts: list[float]) -> FeatureHistory:
    log = EventLog(folder)
    write(log, moves, [Move("a", utc_datetime(START_US + n), x, n % 9) for n, x in enumerate(amounts)])
    history = FeatureHistory([view.spec], log)
    history.refresh()
    return history


def test_the_bounds_of_sums_follow_their_magnitudes(tmp_path: Path) -> None:
    x = np.random.default_rng(3).normal(0, 50, 200)
    history, pieces = history_of(tmp_path, x.tolist()), np.arange(200) % 9
    at_us = np.array([START_US + 3_600_000_000])
    found = tolerances(view.spec, history, pl.DataFrame({"who": ["a"]}), at_us, np.array([[200]]))
    plain = {name.removeprefix("v__").removesuffix("_lifetime"): float(one[0]) / 1e-9 for name, one in found.items()}
    wanted = {
        "sum": np.abs(x).sum(), "mean": 2 * np.abs(x).mean(), "mean_pieces": pieces.mean(), "share": (x > 0).mean(),
        "var": (x**2).mean(), "std": (x**2).mean(), "decayed": np.abs(x).sum() / 2, "some": np.abs(x[pieces > 3]).sum(),
    }  # fmt: skip
    assert plain == pytest.approx(wanted, rel=1e-6)


def vectors(history: FeatureHistory, changes: dict[str, float]) -> pl.DataFrame:
    at_us = np.array([START_US + 60_000_000])
    logged = json.dumps({"v": {source.text: 10**6 for source in history.view(view.spec).sources}})
    row = history.features(pl.DataFrame({"who": ["a"]}), at_us, [logged]).row(0, named=True)
    values = [float(value + changes.get(name, 0.0)) for name, value in row.items()]
    return pl.DataFrame(
        {
            "key": ["a"], "served_at": [utc_datetime(int(at_us[0]))], "request": ['{"who":"a"}'], "values": [values],
            "statuses": ['{"v":"present"}'], "offsets": [logged],
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("column", "off", "is_right"),
    [
        ("v__sum_lifetime", 1e6, True),  # of sums of magnitudes that cancel: 2e16 · 1e-9
        ("v__sum_lifetime", 1e8, False),
        ("v__some_lifetime", 1e-10, False),  # the filter leaves 0.001: an absolute tolerance would forgive it
        ("v__some_lifetime", 1e-13, True),
        ("v__pieces_lifetime", 1.0, False),
        ("v__share_lifetime", 1e-10, True),
        ("v__share_lifetime", 1e-8, False),
        ("v__most_lifetime", 2.0, False),
        ("v__std_lifetime", 1e-3, True),
        ("v__std_lifetime", 1e9, False),
    ],
)
def test_sums_are_equal_within_their_magnitudes_and_all_else_exactly(
    tmp_path: Path, column: str, off: float, is_right: bool
) -> None:
    history = history_of(tmp_path, [1e16, 1.0, -1e16, 0.0, 0.001])
    found = audit(ServedVectorRows([view.spec], history, vectors(history, {column: off})))
    assert found.different == (not is_right)
    assert list(found.by_column) == ([] if is_right else [column])
    assert audit(ServedVectorRows([view.spec], history, vectors(history, {}))).different == 0


def test_a_missing_value_is_never_a_rounding_difference(tmp_path: Path) -> None:
    history = history_of(tmp_path, [1.0, 2.0])
    frame = vectors(history, {})
    row = frame["values"][0].to_list()
    row[0] = None
    found = audit(ServedVectorRows([view.spec], history, frame.with_columns(values=pl.Series([row]))))
    assert (found.by_column, found.missing) == ({"v__sum_lifetime": 1}, {"v__sum_lifetime": 1})


# -- commands --------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.chdir(tmp_path)
    toml = 'event_log = "log"\n[project]\nstreams = ["tests.support.orders_model"]\nfeatures = []\ntrainers = []\n'
    (tmp_path / "headrace.toml").write_text(toml)
    return Shop(tmp_path)


def call(*words: str) -> Result:
    return CliRunner().invoke(build(), list(words))


@pytest.mark.slow
def test_audit_commands_report_and_exit_by_their_findings(project: Shop) -> None:
    assert [call("audit").exit_code, call("skew", "--at-least", "1").exit_code] == [0, 0]  # nothing was served
    project.serve(1, until=31)  # with a value that is none of the log's
    told = call("audit")
    assert told.exit_code == 1
    assert "returns: 150 vectors checked, 150 mismatched" in told.stdout
    assert "shop__orders_1d" in told.stdout
    (plain,) = json.loads(call("audit", "--model", "returns", "--json").stdout)
    assert plain["features"]["shop__orders_1d"] == {"matched": 0, "mismatched": 150, "missing": 0}
    assert call("audit", "--since", "2200-01-01").exit_code == 0
    assert call("skew").exit_code == 0
    assert call("skew", "--at-least", "0.5").exit_code == 1
    (skewed,) = json.loads(call("skew", "--json").stdout)
    assert (skewed["checked"], skewed["equal"], skewed["features"]) == (150, 0, {"shop__orders_1d": 0.0})
    assert skewed["lag_records"]["p50"] > 0
    assert isinstance(call("audit", "--model", "nobody").exception, ProjectError)
