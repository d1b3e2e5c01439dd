"""One body on every log of model events: the double keeps the promises of Kafka."""

from __future__ import annotations

import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from headrace.errors import BusUnavailableError, DefinitionError
from headrace.models.kafka_model_event_log import KafkaModelEventLog, ensure_topic
from headrace.models.model_event_log import FoldedEvents, MemoryModelEventLog, ModelEventLog, events
from headrace.models.model_events import ModelEventRecord, encode
from headrace.models.model_state import fold
from headrace.models.publication_signing import UNSIGNED, PublicationSigning
from tests.support.control_topics import MODELS
from tests.support.model_events import published

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


Other = tuple[ModelEventLog, "Callable[[ModelEventRecord], object]"]


@contextmanager
def opened(request: pytest.FixtureRequest, signing: PublicationSigning) -> Iterator[Other]:
    if request.param == "memory":
        memory = MemoryModelEventLog(signing)
        yield memory, memory.append_record
        return
    servers, topic = request.getfixturevalue("services").bootstrap_servers, f"models-{uuid.uuid4()}"
    ensure_topic(servers, topic)
    kafka = KafkaModelEventLog(servers, topic, signing=signing)
    others = Producer({"bootstrap.servers": servers})

    def append(record: ModelEventRecord) -> None:
        others.produce(topic, record.value, record.key, headers=list(record.headers.items()))
        others.flush()

    yield kafka, append
    kafka.close()


ADAPTERS = ["memory", pytest.param("kafka", marks=pytest.mark.integration)]


@pytest.fixture(params=ADAPTERS)
def log(request: pytest.FixtureRequest) -> Iterator[Other]:
    with opened(request, UNSIGNED) as found:
        yield found


@pytest.fixture(params=ADAPTERS)
def signed_log(request: pytest.FixtureRequest) -> Iterator[Other]:
    with opened(request, PublicationSigning(["a key of this deployment"])) as found:
        yield found


FIRST = published("a", 1, expects=None)
SECOND = published("b", 2, expects="a")


def test_events_come_back_in_their_order_and_whole(log: Other) -> None:
    ours, _ = log
    assert [ours.append(FIRST), ours.append(SECOND)] == [0, 1]
    assert [(entry.offset, entry.event) for entry in ours.read()] == [(0, FIRST), (1, SECOND)]


def test_reading_goes_on_from_any_offset_as_often_as_one_likes(log: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.models.kafka_model_event_log._BATCH", 3)  # many batches to the end
    ours, _ = log
    assert ours.read() == []
    many = [published(f"e{n}", n + 1, expects=f"e{n - 1}" if n else None) for n in range(30)]
    for event in many:
        ours.append(event)
    assert [entry.event for entry in ours.read(28)] == many[28:]
    assert [entry.event for entry in ours.read()] == many
    assert ours.read(30) == []
    ours.append(FIRST)
    assert [entry.offset for entry in ours.read(30)] == [30]
    assert ours.read(31) == []
    assert fold(many).version == 30


def test_a_kept_fold_reads_on_and_is_the_fold_of_the_whole(log: Other) -> None:
    ours, record = log
    kept = FoldedEvents(ours)
    assert kept.state("delay") == fold([])
    for event in (FIRST, SECOND, published("c", 3, expects="a")):  # the last one is void
        ours.append(event)
        record(ModelEventRecord(b"delay", {}, b"no event"))
        assert kept.state(event.model) == kept.state(event.model) == fold(events(ours.read(), event.model))
    assert kept.state(FIRST.model).version == 2


def test_a_reader_that_waits_is_woken_by_an_append(log: Other) -> None:
    ours, _ = log
    ours.append(FIRST)
    later = threading.Timer(0.2, ours.append, [SECOND])
    later.start()
    found = ours.read(1, wait="20s")
    later.join()
    assert [entry.event for entry in found] == [SECOND]


def test_an_unreadable_record_is_an_entry_with_its_error_and_changes_nothing(log: Other) -> None:
    ours, append_record = log
    ours.append(FIRST)
    append_record(ModelEventRecord(b"delay", {}, b"not an event"))
    other = encode(FIRST)
    append_record(ModelEventRecord(b"fraud", other.headers, other.value))
    ours.append(SECOND)
    entries = ours.read()
    assert [entry.event is None for entry in entries] == [False, True, False, False]
    assert "not a model event" in entries[1].error
    assert fold(events(entries, "delay")).version == 2


@pytest.mark.integration
def test_the_topic_is_kept_for_ever_and_another_shape_is_refused(request: pytest.FixtureRequest) -> None:
    servers, topic = request.getfixturevalue("services").bootstrap_servers, f"models-{uuid.uuid4()}"
    ensure_topic(servers, topic)
    ensure_topic(servers, topic)
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": servers})
    wrong = f"{topic}-wrong"
    admin.create_topics([NewTopic(wrong, num_partitions=2, replication_factor=1)])[wrong].result(30)
    with pytest.raises(DefinitionError, match=r"2 partitions.*retention\.ms"):
        ensure_topic(servers, wrong)


def test_a_log_with_a_key_signs_its_events_and_leaves_others_out(signed_log: Other) -> None:
    ours, others = signed_log
    ours.append(FIRST)
    others(encode(SECOND))
    others(PublicationSigning(["a key of somebody else"]).signed(encode(SECOND)))
    assert [(entry.offset, entry.event, entry.error[:5]) for entry in ours.read()] == [
        (0, FIRST, ""),
        (1, None, "void:"),
        (2, None, "void:"),
    ]
    ours.append(SECOND)
    assert fold(events(ours.read(), "delay")).live == SECOND


def test_no_broker_is_a_transient_error_that_names_the_address() -> None:
    log = KafkaModelEventLog("127.0.0.1:1", MODELS, timeout="300ms")
    with pytest.raises(BusUnavailableError, match=r"127\.0\.0\.1:1"):
        log.append(FIRST)
    with pytest.raises(BusUnavailableError, match=r"127\.0\.0\.1:1"):
        log.read()
    with pytest.raises(BusUnavailableError, match=r"127\.0\.0\.1:1"):
        ensure_topic("127.0.0.1:1", MODELS, timeout_s=0.3)
    log.close()
