"""A folder has any name that the system allows: the event log works in it, or is refused by name before it is made."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.app.local.services import LocalServices
from headrace.app.project.settings_sources import load_settings
from headrace.base.place_names import check_folder_name
from headrace.errors import SettingsError
from headrace.event_log.damage import find_damage
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_identity import identity_of, known_identity
from headrace.event_log.log_writer import LogWriter
from headrace.event_log.maintenance import CompactionSizes, compact
from tests.support.example_budget import examples
from tests.support.ping_log import ZERO, append, offsets, pings

SPECIAL = "[]{}()%?#*|^`~$&=+@!,;:'\"<>\\ .-_\n\t\x01\x7f\udcff\u00e9\u0301日😀41af"
NAMES = (st.text(SPECIAL, min_size=1, max_size=12) | st.text(min_size=1, max_size=12)).filter(
    lambda name: name not in {".", ".."} and not set(name) & {"/", "\0"}
)


@settings(max_examples=examples(20), deadline=None)
@given(NAMES)
@example("a%41b")
@example("100%")
@example("[x]")
@example("ü, neu")
@example("a\\b")
@example("a\nb")
@example("a\udcffb")
@example(" ")
@example("-x")
@example("~")
@example("a?b")
@example("_delta_log")
def test_an_event_log_works_below_every_name_or_names_what_it_cannot_have(name: str) -> None:
    with tempfile.TemporaryDirectory() as below:
        place = Path(below) / name
        try:
            os.fsencode(place)
        except UnicodeEncodeError:
            return  # the system has no such name
        if len(os.fsencode(name)) > 255:
            return
        if (log := opened(place)) is None:
            assert not place.exists()
            return
        use(log)
        assert [found.name for found in Path(below).iterdir()] == [place.name], "nothing is elsewhere"


def opened(place: Path) -> EventLog | None:
    """Return the log below a folder, or None if it is refused by its name."""
    try:
        return EventLog(place / "events")
    except SettingsError as error:
        said = str(error)
    assert "event log" in said
    assert repr(str(place))[1:-1] in said
    return None


def use(log: EventLog) -> None:
    """Write, read, merge and look at a log."""
    writer = LogWriter(log, pings)
    append(writer, ZERO, 3)
    append(writer, ZERO, 6)
    assert log.read_from("pings", ZERO, 2, 4).height == log.scan("pings", ["n"]).__next__().height - 1 == 2
    list(compact(log, "pings", 1, CompactionSizes(least_files=2)))
    assert offsets(log.read("pings")) == offsets(log.select("pings", None)) == list(range(6))
    assert find_damage(log, "pings") == []
    assert identity_of(log) == known_identity(log)


@settings(deadline=None)
@given(st.text("xyzäß日😀 ,;:'\"()+=@#$&!~.-_%", max_size=20))
def test_ordinary_names_are_never_refused(name: str) -> None:
    check_folder_name(f"/srv/x{name}z", "the data folder")


@pytest.mark.parametrize("name", ["[x]", "a\\b", "50%25", "a\nb", "a|b", "a?b"])
def test_a_data_folder_is_refused_by_every_command_and_by_the_services(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="data folder cannot be in"):
        load_settings({"data_dir": tmp_path / name}, environ={})
    with pytest.raises(SettingsError, match="data folder cannot be in"):
        LocalServices(tmp_path / name)
    assert not (tmp_path / name).exists()
