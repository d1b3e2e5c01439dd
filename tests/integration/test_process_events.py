"""`headrace process`: the page about it, events for which the function fails, frames, metrics, a stop."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from headrace.app.local.process import free_ports
from tests.support.console_page import difference, shown
from tests.support.documents import blocks
from tests.support.ingest_project import answered
from tests.support.processor_project import (
    NAME,
    PAGE,
    PYTHON,
    ProcessorProject,
    committed_records,
    payment,
    stopped,
)
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration


def test_the_page(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    project = ProcessorProject(services, namespace, tmp_path)
    project.put(payment(1), payment(2, amount=3.0), payment(3), b"\xff{", None)
    (port,) = free_ports(1)
    with project.process("--metrics-port", str(port)) as process:
        project.await_committed(5)
        assert sorted(project.alerted()) == [1, 3]
        project.put(payment(4))
        project.await_committed(6)
        assert sorted(project.alerted()) == [1, 3, 4]
        assert answered(port, "/readyz")[0] == 200
        said = answered(port, "/metrics")[1]
        assert f'headrace_process_events_total{{processor="{NAME}"}} 4.0' in said
        assert f'headrace_process_left_records_total{{processor="{NAME}"}} 2.0' in said
        assert f'headrace_process_failed_events_total{{processor="{NAME}"}} 0.0' in said
        assert f'headrace_process_produced_events_total{{processor="{NAME}",topic="{project.alerts}"}} 3.0' in said
        assert f'headrace_process_behind_records{{processor="{NAME}"}} 0.0' in said
        assert stopped(process) == 0
    (first,) = shown(PAGE)
    assert not difference(first, "\n".join(line for line in project.log().splitlines() if line.startswith("{")))
    found = committed_records(project.servers, project.alerts)
    assert {each.key() for each in found} == {b"s1", b"s3", b"s4"}
    assert {*json.loads(found[0].value() or b"")} == {"payment_id", "shop", "amount", "paid_at"}
    assert committed_records(project.servers, project.letters, 1) == []
    with project.process() as process:  # it goes on where it was
        project.put(payment(5))
        project.await_committed(7)
        assert stopped(process) == 0
    assert sorted(project.alerted()) == [1, 3, 4, 5]


def test_the_plan_has_the_processors(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    project = ProcessorProject(services, namespace, tmp_path)
    (table,) = (block.text for block in blocks(PAGE, "text"))
    done = project.run("plan", "--json")
    (line,) = (line for line in json.loads(done.stdout)["lines"] if line["kind"] == "processor")
    ours = f"{line['kind']}  {line['name']}  {line['action']}  {line['what'][0]}"
    assert ours.replace(f"{namespace}.", "") == table.splitlines()[1]


FAILING = PYTHON.replace(
    "        if payment.amount > 1_000:\n",
    "        if payment.amount == 13:\n            raise ValueError('thirteen')\n"
    "        if payment.amount == 14:\n            yield payment\n"
    "        if payment.amount == 15:\n            raise SystemExit(3)\n"
    "        if payment.amount == 16:\n            payment.shop = 's' * 2_000_000\n"
    "        if payment.amount == 17:\n            payment.shop = None\n"
    "        if payment.amount > 10:\n",
)


def test_an_event_for_which_the_function_fails_is_a_dead_letter(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    project = ProcessorProject(services, namespace, tmp_path, FAILING)
    project.put(*(payment(number, amount=float(number)) for number in range(30)))
    with project.process() as process:
        project.await_committed(30)
        assert stopped(process) == 0
    assert sorted(project.alerted()) == [11, 12, *range(18, 30)]
    letters = committed_records(project.servers, project.letters, 1)
    errors: dict[int, Any] = {}
    for each in letters:
        row, headers = json.loads(each.value() or b""), dict[str, Any](each.headers() or [])
        assert each.value() == payment(row["payment_id"], amount=float(row["payment_id"]))
        assert headers["headrace_reason"] == b"processor"
        errors[row["payment_id"]] = headers["headrace_error"].decode()
    assert len(letters) == 5
    assert errors[13] == "ValueError: thirteen"
    assert errors[14].startswith("CodecError: it gave Payment; give events of ['Alert']")
    assert errors[15] == "SystemExit(3)"
    assert "refuses" in errors[16]
    assert "shop is null" in errors[17]


CHANGING = (
    PYTHON.partition("    for payment in batch")[0]
    + """
    while batch:
        payment = batch.pop()
        payment.amount += 1
        if payment.payment_id == 7:
            raise ValueError("seven")
        yield Alert(payment_id=payment.payment_id, shop=payment.shop, amount=payment.amount, paid_at=payment.paid_at)
"""
)


def test_a_function_that_changes_its_batch_and_fails_half_way_gets_new_events(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    project = ProcessorProject(services, namespace, tmp_path, CHANGING)
    project.put(*(payment(number, amount=100.0) for number in range(20)))
    with project.process() as process:
        project.await_committed(20)
        assert stopped(process) == 0
    assert sorted(project.alerted()) == [number for number in range(20) if number != 7]
    found = committed_records(project.servers, project.alerts)
    assert {json.loads(each.value() or b"")["amount"] for each in found} == {101.0}
    (letter,) = committed_records(project.servers, project.letters, 1)
    assert letter.value() == payment(7, amount=100.0)


FRAME = (
    PYTHON.partition("@processor")[0]
    + """
@processor(payments, into=[alerts], frame=True)
def large_payments(frame):
    for row in frame.filter(frame["amount"] > 1_000).drop("card").iter_rows(named=True):
        yield Alert(**row)
"""
)


def test_a_function_of_frames(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    project = ProcessorProject(services, namespace, tmp_path, FRAME)
    project.put(*map(payment, range(20)), payment(20, amount=1.0), b"{")
    with project.process(NAME) as process:
        project.await_committed(22)
        assert stopped(process) == 0
    assert sorted(project.alerted()) == list(range(20))


WAITING = FRAME.replace(
    "    for row",
    "    import pathlib, headrace\n"
    "    if not pathlib.Path('there').exists():\n        raise headrace.UnavailableError('Redis is away')\n    for row",
)


def test_a_transient_error_is_waited_for(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    project = ProcessorProject(services, namespace, tmp_path, WAITING)
    project.put(*map(payment, range(5)))
    with project.process() as process:
        until(lambda: "Redis is away" in project.log(), 30, project.log)
        (tmp_path / "there").touch()
        project.await_committed(5)
        assert stopped(process) == 0
    assert sorted(project.alerted()) == list(range(5))
    assert committed_records(project.servers, project.letters, 1) == []


def test_a_name_that_is_not_there(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    project = ProcessorProject(services, namespace, tmp_path)
    done = project.run("process", "large")
    assert done.returncode == 1
    assert f"no processor 'large'; it has ['{NAME}']" in done.stderr
