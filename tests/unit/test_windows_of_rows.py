"""Windows whose rows choose their content: names, what is refused, their bytes, and what they answer at the edges."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from headrace import Count, Entity, Event, FeatureView, Last, Lifetime, Mean, Role, Rows, Session, Stream, Sum, col
from headrace.base.times import epoch_us
from headrace.errors import CodecError, DefinitionError
from headrace.features.definitions.windows import WindowSpec, window_spec
from headrace.features.kernel.field import unpack
from headrace.features.kernel.tile_kernel import TileKernel, kernel
from headrace.streams.deployments.deployment import Deployed, decode
from headrace.streams.views.folded_view import FoldedView
from headrace.testing import fold

if TYPE_CHECKING:
    from headrace.features.definitions.windows import Window

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE = 60_000_000


class Payment(Event):
    """A payment by a card."""

    card: str
    amount: float
    at: datetime


payments = Stream("payments", Payment, event_time="at")
cards = Entity("card", str)
FEATURES: dict[str, Any] = {"n": Count(), "amount": Sum("amount")}


def view(*windows: Window, **other: Any) -> FeatureView:
    return FeatureView("card", cards, payments, windows, **({"features": FEATURES} | other))


def values(of: FeatureView, minutes: list[float], at: float) -> dict[str, Any]:
    """The columns at a time, of payments of 1, 2, 4, … at these minutes, in the order in which they come."""
    rows = [
        {"card": "a", "amount": float(2**place), "at": START + timedelta(minutes=minute)}
        for place, minute in enumerate(minutes)
    ]
    found = fold(of, rows, at=START + timedelta(minutes=at))
    return {name: found[name] for name in of.spec.columns}


def test_names_say_number_gap_limit_and_how_many_ago() -> None:
    windows: list[Window] = [
        Rows(5), Rows(5, within="7d"), Session("30m"), Session("30m", ago=2), Session("90s", within="1d", ago=1),
    ]  # fmt: skip
    assert [window_spec(window).name for window in windows] == [
        "rows_5", "rows_5_within_7d", "session_30m", "session_30m_ago_2", "session_90s_within_1d_ago_1",
    ]  # fmt: skip


def test_tiles_of_a_session_are_not_longer_than_its_gap() -> None:
    assert window_spec(Session("30m")).tile_us == 30 * MINUTE
    assert window_spec(Session("30m")).length_us == 30 * 60 * MINUTE
    assert window_spec(Session("45m", within="1d")).tile_us == 45 * MINUTE
    assert window_spec(Session("50m", within="1d")).tile_us == 30 * MINUTE


@pytest.mark.parametrize(
    ("window", "part"),
    [
        (Rows(0), "whole number of rows from 1 to 1,000"),
        (Rows(1_001), "whole number of rows"),
        (Rows(True), "whole number of rows"),
        (Rows(5, within="0s"), "longer than 0"),
        (Session("1ms"), "at least 1s"),
        (Session("30m", ago=-1), "from 0 to 100"),
        (Session("30m", within="10m"), "not shorter than the gap"),
        (Session("30m", within="365d"), "at most 2,000 tiles"),
        (Session("7s", within="100s"), r"Session\(gap='7s'"),
    ],
)
def test_a_window_that_cannot_work_is_refused_with_what_to_write(window: Window, part: str) -> None:
    if window == Session("7s", within="100s"):  # 5 s divide both the gap and 100 s: it works
        assert window_spec(window).tile_us == 5_000_000
        return
    with pytest.raises(DefinitionError, match=part):
        view(window)


def test_rows_that_are_taken_back_are_refused_by_name() -> None:
    sources: list[Stream | Role] = [payments, Role(payments, amount="amount", takes_back=True)]
    windows: list[Window] = [Rows(3), Session("30m")]
    for window in windows:
        with pytest.raises(DefinitionError, match=f"takes rows back, and the windows .'{window_spec(window).name}'"):
            FeatureView("card", cards, sources, [window], {"n": Count()})


def test_the_newest_rows_count_however_old_they_are_and_in_the_order_of_their_times() -> None:
    of = view(Rows(2), Rows(2, within="1h"), features={"n": Count(), "amount": Sum("amount"), "last": Last("amount")})
    found = values(of, [0, 50, 10], at=70)  # 1 at 0, 2 at 50, 4 at 10: a late one
    assert (found["card__n_rows_2"], found["card__amount_rows_2"], found["card__last_rows_2"]) == (2, 6.0, 2.0)
    assert (found["card__n_rows_2_within_1h"], found["card__amount_rows_2_within_1h"]) == (1, 2.0)
    assert values(of, [0, 50, 10], at=100_000)["card__n_rows_2"] == 2


def test_a_filter_chooses_among_the_newest_rows() -> None:
    of = view(Rows(3), features={"large": Mean(col("amount") > 3), "n": Count(where=col("amount") > 3)})
    found = values(of, [0, 1, 2, 3], at=5)  # of 2, 4 and 8
    assert found["card__n_rows_3"] == 2
    assert found["card__large_rows_3"] == pytest.approx(2 / 3)


def test_a_session_ends_with_a_silence_of_its_gap() -> None:
    of = view(Session("30m"), Session("30m", ago=1), Session("30m", ago=2), features={"amount": Sum("amount")})
    names = ["card__amount_session_30m", "card__amount_session_30m_ago_1", "card__amount_session_30m_ago_2"]
    minutes = [0.0, 29.9, 59.9, 65.0]  # 1 and 2, then a gap of exactly 30 minutes, then 4 and 8
    assert list(map(values(of, minutes, 94.9).get, names)) == [12.0, 3.0, 0.0]
    assert list(map(values(of, minutes, 95.0).get, names)) == [0.0, 12.0, 3.0]


def test_a_late_row_joins_two_sessions() -> None:
    of = view(Session("30m"), features={"n": Count()})
    assert values(of, [0, 50], at=51)["card__n_session_30m"] == 1
    assert values(of, [0, 50, 25], at=51)["card__n_session_30m"] == 3


def test_a_session_counts_what_lies_in_its_limit() -> None:
    of = view(Session("30m", within="1h"), features={"n": Count()})
    assert values(of, [0, 20, 40, 60, 80], at=81)["card__n_session_30m_within_1h"] == 3  # since minute 30


def compiled(*windows: Window) -> TileKernel:
    return kernel(view(*windows).spec)


def field_of(of: TileKernel, times_us: list[int]) -> bytes:
    """The field of one entity with rows at these times, counted from START."""
    folded, own = FoldedView(of), np.repeat(of.empty, len(times_us))
    own["c0"], own["c1"] = 1, np.arange(1, len(times_us) + 1)
    if "c3" in (own.dtype.names or ()):
        own["c2"] = own["c3"] = np.array(times_us) + epoch_us(START)
    slot = np.full(len(times_us), folded.add())
    clock = np.full(len(times_us), epoch_us(START) + MINUTE)
    folded.fold(slot, np.array(times_us) + epoch_us(START), own, clock)
    return folded.fields(slot[:1], np.array([7]), clock[:1])[0]


def test_a_field_with_rows_has_these_bytes() -> None:
    assert field_of(compiled(Rows(2)), [5, 9, 5]).hex() == (
        "0500010000000000" "0700000000000000" "00f71957094c0600" "09708653094c0600" "0200000000000000"
        "05708653094c0600" "0100000000000000" "0000000000000840"  # the third row: of the same time as the first
        "09708653094c0600" "0100000000000000" "0000000000000040"
    )  # fmt: skip


def test_a_field_of_a_session_has_the_times_of_its_first_and_last_row() -> None:
    assert field_of(compiled(Session("30m")), [5, 9, 5]).hex() == (
        "0100010000000000" "0700000000000000" "00f71957094c0600" "09708653094c0600" "0100000000000000"
        "78060f0000000000" "0300000000000000" "0000000000001840" "05708653094c0600" "09708653094c0600"
    )  # fmt: skip


def test_a_field_with_rows_is_no_field_of_another_view() -> None:
    plain = replace(compiled(Lifetime()).layout)
    with pytest.raises(CodecError, match="the view's format is 1"):
        unpack(field_of(compiled(Rows(2)), [5]), plain)


def test_hashes_of_such_views_stay_what_they_are() -> None:
    windows = (Rows(5), Rows(5, within="7d"), Session("30m"), Session("30m", ago=1))
    assert [view(window).version for window in windows] == [
        "a2328a5fd10ce976", "c746bd3de6651b4d", "812d7d6d37e33e6a", "ea11595f24bb0eca",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"tile_us": 60 * MINUTE, "length_us": 60 * MINUTE},
        {"newest_rows": 3},
        {"tile_us": 1},
    ],
)
def test_a_deployment_with_an_unsound_window_is_not_read(change: dict[str, Any]) -> None:
    spec = view(Session("30m")).spec
    windows = (msgspec.structs.replace(spec.windows[0], **change),)
    changed = msgspec.structs.replace(spec, windows=windows)
    data = msgspec.json.encode(Deployed(id="1", namespace="n", expects=None, views=[changed], services=[], at_us=0))
    with pytest.raises(CodecError, match="cannot be folded"):
        decode(data)


def test_an_older_spec_has_no_word_of_rows_and_sessions() -> None:
    assert set(msgspec.to_builtins(window_spec("1h"))) == {"name", "length_us", "tile_us"}
    assert not WindowSpec(name="1h", length_us=60, tile_us=60).is_of_rows
