"""Previews: a view's values over time from rows in memory and from files, as tables and charts."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from typer.testing import CliRunner

import headrace
from headrace import Count, Entity, Event, FeatureService, FeatureView, Last, Mean, Role, Stream, TerminalError, col
from headrace.app.cli import build
from headrace.app.preview.line_chart import Line, svg
from headrace.errors import DefinitionError
from headrace.testing import fold
from tests.support.documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SPACE = "{http://www.w3.org/2000/svg}"


class Ride(Event):
    city: str
    minutes: float
    ended_at: datetime
    kind: str = "car"


rides = Stream("rides", Ride, event_time="ended_at")
walks = Stream("walks", Ride, event_time="ended_at")
pace = FeatureView("pace", Entity("city"), rides, ["1h"], {"kind": Last("kind"), "n": Count(), "mean": Mean("minutes")})
both = FeatureView("both", Entity("city"), [rides, Role(walks)], ["1h"], {"n": Count()})
TABLE = pl.DataFrame(
    [
        {"city": city, "minutes": float(n % 7), "ended_at": NOON + timedelta(minutes=10 * n)}
        for city, count in (("<b>Ulm", 30), ("Köln", 20), ("Bonn", 10), ("Jena", 5))
        for n in range(count)
    ]
)


def test_a_preview_is_a_fold_over_a_grid_of_times() -> None:
    seen = headrace.preview(pace, TABLE, every="2h")
    assert seen.found.entities == [{"city": city} for city in ("<b>Ulm", "Köln", "Bonn")]
    assert list(seen.found.times) == [NOON + timedelta(hours=hours) for hours in (0, 2, 4, 6)]
    wanted = fold(pace, TABLE, at=seen.found.times, entity=seen.found.entities)
    assert seen.to_polars().equals(wanted.to_polars())
    assert seen.to_pandas()["pace__n_1h"].tolist() == wanted.column("pace__n_1h")


def test_the_grid_has_about_sixty_steps_by_default() -> None:
    assert len(headrace.preview(pace, TABLE).found.times) == 59
    with pytest.raises(DefinitionError, match=r"every='1s' gives 17402 times"):
        headrace.preview(pace, TABLE, every="1s")


def test_the_grid_of_few_rows_has_few_steps() -> None:
    two = [{"city": "Ulm", "minutes": 1.0, "ended_at": NOON + timedelta(hours=hours)} for hours in (0, 1)]
    assert len(headrace.preview(pace, two).found.times) == 7


def test_a_notebook_gets_a_chart_and_a_table_with_escaped_text() -> None:
    rows = [*TABLE.to_dicts(), {"city": "Ulm", "minutes": None, "ended_at": NOON}]
    seen = headrace.preview(pace, rows)
    html = seen._repr_html_()
    assert "<svg " in html
    assert "1 rows are rejected" in html
    assert "<b>Ulm" not in html
    assert "&lt;b&gt;Ulm" in html
    assert html.count("<tr>") == 14
    assert ET.fromstring(html).tag == "div"
    assert [(row.row, row.reason) for row in seen.rejected] == [(65, "decode")]


def test_a_chart_has_a_line_for_each_entity_and_gaps_where_there_is_no_value(tmp_path: Path) -> None:
    seen = headrace.preview(pace, TABLE, every="30m")
    root = ET.fromstring(seen.svg("pace__mean_1h"))
    assert len(root.findall(f"{SPACE}polyline")) == 3
    assert root.get("fill") == "currentColor"
    seen.chart(tmp_path / "a.svg")
    assert "prefers-color-scheme: dark" in (tmp_path / "a.svg").read_text().replace(":dark", ": dark")
    seen.chart(tmp_path / "a.png", "pace__n_1h")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    gaps = ET.fromstring(svg("t", [NOON] * 5, [Line("a", [1.0, None, 2.0, 3.0, float("nan")])]))
    assert len(gaps.findall(f"{SPACE}polyline")) == 2
    assert len(gaps.findall(f"{SPACE}circle")) == 1
    with pytest.raises(TerminalError, match=r"no feature 'pace__kind_1h' that is a number"):
        seen.svg("pace__kind_1h")
    with pytest.raises(TerminalError, match=r"written as \.svg or \.png"):
        seen.chart(tmp_path / "a.gif")


def test_files_give_what_their_rows_give(tmp_path: Path) -> None:
    texts = TABLE.with_columns(pl.col("ended_at").dt.to_string("iso:strict"))
    TABLE.write_parquet(tmp_path / "a.parquet")
    texts.write_csv(tmp_path / "a.csv")
    texts.write_ndjson(tmp_path / "a.jsonl")
    wanted = headrace.preview(pace, TABLE, every="1h").to_polars()
    for name in ("a.parquet", "a.csv", "a.jsonl"):
        assert headrace.preview(pace, tmp_path / name, every="1h").to_polars().equals(wanted), name
    (tmp_path / "days").mkdir()
    TABLE[:40].write_parquet(tmp_path / "days" / "1.parquet")
    TABLE[40:].write_parquet(tmp_path / "days" / "2.parquet")
    assert headrace.preview(pace, tmp_path / "days", every="1h").to_polars().equals(wanted)
    with pytest.raises(DefinitionError, match=r"several streams; say which one it is: rides=FILE, walks=FILE"):
        headrace.preview(both, tmp_path / "a.csv")
    (tmp_path / "days" / "3.csv").write_bytes((tmp_path / "a.csv").read_bytes())
    with pytest.raises(DefinitionError, match="files of one form"):
        headrace.preview(pace, tmp_path / "days")


def test_a_service_is_previewed_with_its_request() -> None:
    service = FeatureService(
        "pace", [pace], on_demand={"slow": col("limit") < col("pace__mean_1h")}, request={"limit": float}
    )
    seen = headrace.preview(
        service, TABLE, at=NOON + timedelta(hours=1), entity={"city": "Köln"}, request={"limit": 2.0}
    )
    assert seen.to_polars()["slow"].to_list() == [True]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some flights in a file."""
    flights = [
        {"flight_id": n, "carrier": "B6", "origin": "JFK", "dest": "LAX", "delay_minutes": float(n),
         "departed_at": f"2013-01-01T{n:02}:00:00Z"} for n in range(6)
    ]  # fmt: skip
    lines = [*map(json.dumps, flights), json.dumps(flights[0] | {"delay_minutes": "x"})]
    (tmp_path / "flights.jsonl").write_text("\n".join(lines))
    return tmp_path


def previewed(*arguments: str) -> Any:
    """Run the command in this process, for the project of this repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return CliRunner().invoke(build(), ["features", "preview", *arguments])


def test_the_command_prints_a_table_json_or_csv_and_draws(folder: Path) -> None:
    column = "airport__mean_delay_1h"
    rest = ("--from", str(folder / "flights.jsonl"), "--entity", "origin=JFK", "--every", "1h", "--feature", column)
    shown = previewed("airport", *rest, "--chart", str(folder / "c.svg"))
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.split()[:3] == ["origin", "at", column]
    assert "1 of 7 rows are rejected" in shown.stderr
    assert "row 6 of flights.departed (decode)" in shown.stderr
    assert ET.parse(folder / "c.svg").getroot().tag == f"{SPACE}svg"
    found: list[dict[str, Any]] = json.loads(previewed("airport", *rest, "--json").stdout)
    assert [row[column] for row in found] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    rows = list(csv.DictReader(io.StringIO(previewed("airport", *rest, "--csv").stdout)))
    assert [float(row[column]) for row in rows] == [row[column] for row in found]


def test_the_command_says_what_is_wrong(folder: Path) -> None:
    wrong = {
        ("airpot", "--from", str(folder / "flights.jsonl")): "no view and no service 'airpot'",
        ("airport", "--from", str(folder / "flights.jsonl"), "--entity", "dest=LAX"): "no join key",
        ("airport", "--from", str(folder / "nothing.csv")): "nothing.csv: there is no such file",
        ("airport", "--from", str(folder / "flights.jsonl"), "--feature", "mean"): "no feature 'mean'",
    }
    for arguments, message in wrong.items():
        said = previewed(*arguments)
        assert said.exit_code != 0
        assert message in f"{said.exception} {' '.join(said.output.replace('│', ' ').split())}"
