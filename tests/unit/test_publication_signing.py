"""With keys, a model event counts for nobody unless one of the keys has signed exactly this event."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.app.processes.connections import artifact_places
from headrace.app.project.settings_sources import load_settings
from headrace.errors import CodecError, SettingsError
from headrace.models.kafka_model_event_log import SignedTail
from headrace.models.model_event_log import MemoryModelEventLog, events
from headrace.models.model_events import decode, encode
from headrace.models.model_state import fold
from headrace.models.publication_signing import SIGNATURE, PublicationSigning
from headrace.serving import ServerAddresses
from tests.support.control_topics import DEFINITIONS, MODELS
from tests.support.model_events import published, retired, rolled_back

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.models.model_events import ModelEventRecord

OLD, NEW = "an old key of the deployment", "a new key of the deployment"
SIGNING = PublicationSigning([OLD])
EVENT = published("a", 1, expects=None)
SIGNED = SIGNING.signed(encode(EVENT))


def counts(record: ModelEventRecord, by: PublicationSigning = SIGNING, offset: int = 0) -> bool:
    try:
        by.check(offset, record)
    except CodecError:
        return False
    return True


# -- the signature -----------------------------------------------------------------------------------------------------


def test_a_signed_event_counts_and_is_the_same_event() -> None:
    assert counts(SIGNED)
    assert decode(SIGNED) == EVENT
    assert not counts(encode(EVENT))
    assert not counts(PublicationSigning([NEW]).signed(encode(EVENT)))


def test_the_bytes_of_a_signature_are_those_of_the_page() -> None:
    signature = SIGNED.headers[SIGNATURE]
    assert signature == b"hmac-sha256:07070f57bc2272a0a205d775cf3534fe21e3004201dbc25a5e7f50a63227df37"


@pytest.mark.parametrize("event", [EVENT, rolled_back("b", 1), retired("c", 1)])
def test_every_kind_of_event_is_signed(event: Any) -> None:
    assert counts(SIGNING.signed(encode(event)))
    assert not counts(encode(event))


@given(st.sampled_from(["key", "value", *SIGNED.headers]), st.binary(max_size=20))
def test_no_part_of_a_signed_event_can_be_changed(part: str, other: bytes) -> None:
    headers = SIGNED.headers if part in {"key", "value"} else SIGNED.headers | {part: other}
    key, value = other if part == "key" else SIGNED.key, other if part == "value" else SIGNED.value
    changed = replace(SIGNED, key=key, headers=headers, value=value)
    same = changed == SIGNED or part == "content-type"  # which no reader reads
    assert counts(changed) == same


def test_no_attribute_can_be_added_or_removed() -> None:
    assert not counts(replace(SIGNED, headers=SIGNED.headers | {"ce_more": b""}))
    assert not counts(replace(SIGNED, headers={k: v for k, v in SIGNED.headers.items() if k != "ce_time"}))


def test_bytes_cannot_move_from_one_part_to_the_next() -> None:
    record = encode(EVENT)
    moved = replace(record, key=record.key[:-1], value=record.key[-1:] + record.value)
    assert SIGNING.signed(moved).headers[SIGNATURE] != SIGNED.headers[SIGNATURE]


# -- keys --------------------------------------------------------------------------------------------------------------


def test_keys_are_replaced_one_after_the_other() -> None:
    both = PublicationSigning([NEW, OLD])
    assert counts(SIGNED, both)
    assert counts(both.signed(encode(EVENT)), PublicationSigning([NEW]))
    assert not counts(both.signed(encode(EVENT)), SIGNING)


def test_events_from_before_signing_need_no_signature() -> None:
    later = PublicationSigning([NEW], from_offset=7)
    assert [counts(encode(EVENT), later, offset) for offset in (0, 6, 7, 8)] == [True, True, False, False]


def test_without_keys_nothing_is_signed_and_everything_counts() -> None:
    nothing = PublicationSigning()
    assert nothing.signed(encode(EVENT)) == encode(EVENT)
    assert counts(encode(EVENT), nothing)
    assert counts(SIGNED, nothing)


def test_a_key_is_long_enough_and_is_not_shown() -> None:
    assert OLD not in repr(SIGNING)
    with pytest.raises(SettingsError, match="has 5 bytes: wanted at least 16") as raised:
        PublicationSigning([OLD, "short"])
    assert "short" not in str(raised.value).replace("too short", "")


def test_settings_and_applications_read_the_same_keys_and_places(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text('artifact_places = ["more", "s3://bucket/models"]\n')
    environ = {
        "HEADRACE_PUBLICATION_KEYS": f"{NEW}, {OLD}",
        "HEADRACE_PUBLICATIONS_SIGNED_FROM": "3",
        "HEADRACE_BOOTSTRAP_SERVERS": "k:1",
        "HEADRACE_REDIS_URL": "redis://r",
    }
    settings = load_settings(environ=environ, folder=tmp_path)
    where = ServerAddresses.find(environ=environ, folder=tmp_path)
    own = settings.signing
    assert own == where.signing == PublicationSigning((NEW, OLD), 3)
    wanted = [str(tmp_path / ".headrace" / "artifacts"), str(tmp_path / "more"), "s3://bucket/models"]
    assert where.artifact_places == artifact_places(settings).places == wanted
    assert OLD not in repr(settings) + repr(where) + settings.model_dump_json()


# -- readers -----------------------------------------------------------------------------------------------------------


def test_a_log_signs_what_it_appends_and_leaves_out_what_is_forged() -> None:
    log = MemoryModelEventLog(SIGNING)
    log.append(EVENT)
    log.append_record(encode(rolled_back("b", 1)))
    log.append_record(encode(published("c", 2, expects="a")))
    log.append_record(SIGNED)  # sent again: its id was seen
    first, *forged, again = log.read()
    assert (first.event, again.event) == (EVENT, EVENT)
    assert [entry.error for entry in forged] == ["void: it is not signed, and this deployment has publication_keys"] * 2
    state = fold(events(log.read(), "delay"))
    assert (state.version, state.live_id, state.pinned) == (1, "a", False)


def test_a_forged_event_cannot_take_the_id_of_one_to_come() -> None:
    log = MemoryModelEventLog(SIGNING)
    log.append_record(encode(published("b", 9, expects=None)))
    log.append(EVENT)
    log.append(published("b", 2, expects="a"))
    assert fold(events(log.read(), "delay")).version == 2


def test_a_worker_does_not_hear_of_forged_events() -> None:
    def message(topic: str, record: ModelEventRecord) -> Any:
        return SimpleNamespace(
            partition=lambda: 0,
            topic=lambda: topic,
            offset=lambda: 5,
            key=lambda: record.key,
            headers=lambda: list(record.headers.items()),
            value=lambda: record.value,
        )

    heard = [message(MODELS, SIGNED), message(MODELS, encode(EVENT)), message(DEFINITIONS, encode(EVENT))]
    tail: Any = SimpleNamespace(poll=lambda _: heard, drain=lambda: heard)
    signed = SignedTail(tail, SIGNING, MODELS)
    assert signed.poll(0.0) == signed.drain() == [heard[0], heard[2]]
