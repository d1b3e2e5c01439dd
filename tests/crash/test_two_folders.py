"""A namespace has one event log: a process with another folder does not start, and the error names both places."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from headrace.app.doctor.event_log import check_identity
from headrace.app.doctor.finding import Severity
from headrace.bus.control_topics import EVENT_LOGS
from headrace.bus.producer import EventProducer
from headrace.bus.topics import FOR_EVER, TopicPlan, ensure_topics
from headrace.errors import OtherLogError
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_identity import LogIdentity, identity_of, known_identity
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.streams.log_claims import LogClaimed, LogClaims, in_force
from headrace.streams.worker import WorkerConfig, run_worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration


@pytest.fixture
def store(services: LocalServices, namespace: str) -> Iterator[RedisOnlineStore]:
    opened = RedisOnlineStore(services.redis_url, namespace)
    yield opened
    opened.close()


@pytest.fixture
def claims(services: LocalServices, namespace: str, store: RedisOnlineStore) -> LogClaims:
    return LogClaims(services.bootstrap_servers, namespace, store)


def test_an_identity_is_made_once_and_goes_with_the_folder(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events")
    assert known_identity(log) is None
    with ThreadPoolExecutor(8) as pool:
        found = {each.id for each in pool.map(identity_of, [log] * 8)}
    assert len(found) == 1
    (tmp_path / "events").rename(tmp_path / "moved")
    moved = identity_of(EventLog(tmp_path / "moved"))
    assert ({moved.id}, str(tmp_path / "moved") in moved.place) == (found, True)
    assert identity_of(EventLog(tmp_path / "other")).id != moved.id


def test_the_second_folder_is_refused_with_both_places(claims: LogClaims, tmp_path: Path) -> None:
    first, second = (identity_of(EventLog(tmp_path / name)) for name in ("first", "second"))
    claims.claim(first, 1)
    claims.claim(first, 2)
    for refused in (claims.check, lambda own: claims.claim(own, 3)):
        with pytest.raises(OtherLogError) as said:
            refused(second)
        assert first.place in str(said.value)
        assert second.place in str(said.value)
    assert claims.known() == {"Kafka": first, "Redis": first}
    claims.adopt(second, 4, "the first disk died")
    claims.claim(second, 5)
    with pytest.raises(OtherLogError):
        claims.claim(first, 6)


def test_redis_is_told_again_and_kafka_alone_is_enough(
    claims: LogClaims, store: RedisOnlineStore, tmp_path: Path
) -> None:
    first, second = (identity_of(EventLog(tmp_path / name)) for name in ("first", "second"))
    claims.claim(first, 1)
    store.remove_documents(["event-log"])
    with pytest.raises(OtherLogError, match="as Kafka knows"):
        claims.claim(second, 2)
    claims.claim(first, 3)
    assert claims.known()["Redis"] == first
    store.put_document("event-log", {"id": second.id, "place": second.place})  # of another Kafka
    with pytest.raises(OtherLogError, match="as Redis knows"):
        claims.claim(first, 4)


def test_many_workers_that_start_at_once_agree_on_one_log(
    services: LocalServices, claims: LogClaims, namespace: str, tmp_path: Path
) -> None:
    ensure_topics(services.bootstrap_servers, [TopicPlan(EVENT_LOGS, 1, FOR_EVER)])
    logs = [identity_of(EventLog(tmp_path / str(number))) for number in range(4)]

    def start(own: LogIdentity) -> str | None:
        try:
            LogClaims(services.bootstrap_servers, namespace).claim(own, 1)
        except OtherLogError:
            return None
        return own.id

    with ThreadPoolExecutor(4) as pool:
        (winner,) = filter(None, pool.map(start, logs))
    assert claims.known()["Kafka"].id == winner


def test_a_key_that_is_no_claim_moves_nothing_and_another_namespace_is_free(
    services: LocalServices, claims: LogClaims, namespace: str, tmp_path: Path
) -> None:
    first, second = (identity_of(EventLog(tmp_path / name)) for name in ("first", "second"))
    claims.claim(first, 1)
    producer = EventProducer(services.bootstrap_servers)
    for junk in (b"junk", b"", b"[" * 9, b'{"format":9}'):
        producer.put(EVENT_LOGS, namespace.encode(), junk)
    producer.flush()
    claims.check(first)
    LogClaims(services.bootstrap_servers, f"{namespace}-b").claim(second, 2)
    claims.check(first)


def test_a_log_belongs_to_one_namespace_until_another_one_adopts_it(
    services: LocalServices, claims: LogClaims, namespace: str, tmp_path: Path
) -> None:
    log = EventLog(tmp_path)
    own, other = identity_of(log), LogClaims(services.bootstrap_servers, f"{namespace}-b")
    claims.claim(own, 1)
    for refused in (other.check, lambda known: other.claim(known, 2)):
        with pytest.raises(OtherLogError, match=f"'{namespace}' has it"):
            refused(own)
    (found,) = check_identity(log, other)
    assert (found.severity, namespace in found.found) == (Severity.ERROR, True)
    other.adopt(own, 3, "the namespace has a new name")
    other.claim(own, 4)
    assert list(check_identity(log, other)) == []
    with pytest.raises(OtherLogError, match=f"'{namespace}-b' has it"):
        claims.claim(own, 5)


def test_a_worker_with_another_folder_does_not_start_and_doctor_names_it(
    services: LocalServices, namespace: str, claims: LogClaims, tmp_path: Path
) -> None:
    first, second = EventLog(tmp_path / "first"), EventLog(tmp_path / "second")
    claims.claim(identity_of(first), 1)
    config = WorkerConfig(
        services.bootstrap_servers, services.redis_url, str(tmp_path / "second"), str(tmp_path), namespace=namespace
    )
    with pytest.raises(OtherLogError, match="first"):
        run_worker(config, [], [], [])
    found = list(check_identity(second, claims))
    assert [each.severity for each in found] == [Severity.ERROR] * 2
    assert all(str(tmp_path / "first") in each.found for each in found)
    assert list(check_identity(first, claims)) == []


def test_the_first_claim_or_the_last_adoption_is_in_force() -> None:
    def claim(log: str, *, of: str = "n", place: str = "", adopted: str | None = None) -> LogClaimed:
        return LogClaimed(namespace=of, log=log, place=place, at_us=0, adopted=adopted)

    a, b, moved = claim("a"), claim("b"), claim("a", place="new")
    assert in_force([]) == {}
    assert in_force([a, b]) == {"n": a}
    assert in_force([a, b, moved, b]) == {"n": moved}
    adopted = claim("b", adopted="moved")
    assert in_force([a, b, adopted, a]) == {"n": adopted}
    other, taken = claim("a", of="other"), claim("a", of="other", adopted="renamed")
    assert in_force([a, other]) == {"n": a}
    assert in_force([a, taken, a]) == {"other": taken}
    assert in_force([a, adopted, other]) == {"n": adopted, "other": other}
