"""What a person sees of triggers and runs, and how a person tells the trainers what to do."""

from __future__ import annotations

import time
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Any

from headrace.app.processes.registry_alias import whoami
from headrace.base.times import SECOND, utc_datetime, wall_clock
from headrace.errors import BusUnavailableError, NotMeasuredError, TerminalError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from headrace.app.trigger_standing import TriggerStanding
    from headrace.bus.control_topics import ControlTopics
    from headrace.models.model_events import ModelEvent
    from headrace.models.model_state import ModelState
    from headrace.trainers.definitions import Model
    from headrace.trainers.runs.messages import DecisionRecord, RetrainRequest, RunEnded
    from headrace.trainers.runs.operator_requests import OperatorRequest
    from headrace.trainers.triggers.trigger_policy import Decision
    from headrace.trainers.triggers.trigger_state import TriggerState

_DAY_US = 86_400 * SECOND
ANSWER_S = 30.0
"""The longest time that a command waits for a trainer's answer, or for Kafka in the middle of something."""
_POLL_S = 0.2


def new_request(model: str, action: Any, by: str | None, reason: str, **more: Any) -> OperatorRequest:
    """Return a request with an id of its own. Raises TerminalError without a reason."""
    from headrace.trainers.runs.operator_requests import OperatorRequest

    if not reason.strip():
        raise TerminalError("--reason is empty: it is kept with the decision, so say why, such as 'new prices'")
    return OperatorRequest(
        id=uuid.uuid4().hex, model=model, action=action, by=by or whoami(), reason=reason, at_us=wall_clock(), **more
    ).bounded()


def chosen_model(models: Mapping[str, Model], name: str) -> Model:
    """Return the project's model of this name. Raises TerminalError, which lists the models."""
    if name not in models:
        raise TerminalError(f"the project has no model {name!r}; it has {sorted(models)}")
    return models[name]


def send(servers: str, topics: ControlTopics, request: OperatorRequest) -> None:
    """Send a request, and return when Kafka has it. Raises BusUnavailableError."""
    import msgspec

    from headrace.bus.producer import EventProducer
    from headrace.bus.topics import FOR_EVER, TopicPlan, ensure_topics

    ensure_topics(servers, [TopicPlan(topics.operator_requests, 1, FOR_EVER)])
    producer = EventProducer(servers)
    producer.put(topics.operator_requests, request.model.encode(), msgspec.json.encode(request))
    producer.flush()


def answered(servers: str, topics: ControlTopics, request: OperatorRequest) -> DecisionRecord:
    """Send a request and return the trainer's answer.

    Raises UnavailableError, which says why if the trainer does, if none comes: the request is kept, and the next
    trainer answers it. Raises BusUnavailableError if Kafka goes away meanwhile.
    """
    from headrace.bus.tail import TopicTail
    from headrace.bus.topics import FOR_EVER, TopicPlan, ensure_topics

    ensure_topics(servers, [TopicPlan(topics.decisions, 1, FOR_EVER)])
    with closing(TopicTail(servers, [topics.decisions], from_beginning=False)) as tail:
        send(servers, topics, request)
        waits, away, until = None, None, time.monotonic() + ANSWER_S
        while time.monotonic() < until:
            try:
                records, away = _decoded(tail.drain()), None
            except BusUnavailableError as error:
                records, away = [], error
            for record in records:
                if record.operator and record.operator.id == request.id:
                    if record.kind != "error":
                        return record
                    waits = record.reason
            time.sleep(_POLL_S)
    if away is not None:
        raise BusUnavailableError(f"request {request.id} is kept, and a trainer answers it: {away}") from away
    if waits is not None:
        raise UnavailableError(f"request {request.id} is kept, and the trainer tries again by itself: {waits}")
    message = (
        f"no trainer has answered request {request.id} on {topics.operator_requests} within {ANSWER_S:.0f} s: it is "
        "kept, and the next trainer answers it. Is `headrace trainer` running?"
    )
    raise UnavailableError(message)


def _decoded(records: Iterable[Any]) -> list[DecisionRecord]:
    from headrace.bus.unreadable_records import readable
    from headrace.trainers.runs.messages import DecisionRecord, decode

    return list(readable(records, lambda record: decode(record.value(), DecisionRecord)))


def history(servers: str, topics: ControlTopics, model: str) -> list[DecisionRecord]:
    """Return all decision records of a model, the oldest first. Raises BusUnavailableError."""
    return [record for record in _decoded(_all(servers, topics.decisions)) if record.model == model]


def _all(servers: str, topic: str) -> list[Any]:
    from headrace.bus.tail import TopicTail
    from headrace.bus.topics import has_topic

    if not has_topic(servers, topic):
        return []
    with closing(TopicTail(servers, [topic], from_beginning=True)) as tail:
        return tail.drain()


def last_records(servers: str, topics: ControlTopics, models: Sequence[str]) -> dict[str, DecisionRecord]:
    """Return the last decision record of each model."""
    from headrace.trainers.process.last_decisions import last_decisions

    return last_decisions(servers, topics.decisions, models)


def ended_runs(servers: str, topics: ControlTopics) -> dict[str, RunEnded]:
    """Return the ends of runs by the id of their request, the oldest first."""
    from headrace.bus.unreadable_records import readable
    from headrace.trainers.runs.messages import RunEnded, decode

    found: dict[str, RunEnded] = {}
    for run in readable(_all(servers, topics.runs), lambda record: decode(record.value(), RunEnded)):
        found.setdefault(run.request_id, run)
    return found


def requested_runs(servers: str, topics: ControlTopics) -> dict[str, RetrainRequest]:
    """Return the requests for runs by their id, the oldest first."""
    from headrace.bus.unreadable_records import readable
    from headrace.trainers.runs.messages import RetrainRequest, decode

    found: dict[str, RetrainRequest] = {}
    records = _all(servers, topics.retrain_requests)
    for request in readable(records, lambda record: decode(record.value(), RetrainRequest)):
        found.setdefault(request.request_id, request)
    return found


def open_runs(servers: str, topics: ControlTopics, model: str) -> list[str]:
    """Return the ids of a model's runs that have not ended, the oldest first."""
    ended = ended_runs(servers, topics)
    return [id_ for id_, run in requested_runs(servers, topics).items() if run.model == model and id_ not in ended]


def cancelled_runs(servers: str, topics: ControlTopics) -> dict[str, str]:
    """Return who has cancelled which run, and why, by the id of its request: "cancelled by ann: one was enough"."""
    from headrace.bus.unreadable_records import readable
    from headrace.trainers.process.cancelled_runs import CancelledRuns
    from headrace.trainers.runs.operator_requests import decode

    found = CancelledRuns()
    for asked in readable(_all(servers, topics.operator_requests), lambda record: decode(record.value())):
        found.hear(asked)
    return found.all()


def summarize_run(request: RetrainRequest | None, end: RunEnded | None, cancelled: str | None = None) -> dict[str, Any]:
    """Return the line of a run: what asked for it, why, and how it ended. One of the two is there.

    ``cancelled`` says who has cancelled it.
    """
    known = request or end
    assert known is not None  # noqa: S101 - said above
    return {
        "id": known.request_id,
        "model": known.model,
        "asked_at": said_time(known.t_us),
        "cause": known.rule,
        "why": None if request is None else request.reason,
        "outcome": end.outcome if end is not None else "not ended" if cancelled is None else "cancelling",
        "version": None if end is None else end.version,
        "result": cancelled if end is None else end.reason,
    }


def run_times(servers: str, topics: ControlTopics, run: str) -> dict[str, str | None]:
    """Return when a run was asked for and when it ended, by the clock of Kafka."""
    from headrace.bus.unreadable_records import readable
    from headrace.trainers.runs.messages import RetrainRequest, RunEnded, decode

    def first(topic: str, decoded: Callable[[bytes | None], RetrainRequest | RunEnded]) -> str | None:
        for record in _all(servers, topic):
            for found in readable([record], lambda each: decoded(each.value())):
                if found.request_id == run:
                    return said_time(record.timestamp()[1] * 1_000)
        return None

    return {
        "asked_at": first(topics.retrain_requests, lambda data: decode(data, RetrainRequest)),
        "ended_at": first(topics.runs, lambda data: decode(data, RunEnded)),
    }


def describe_run(
    request: RetrainRequest | None,
    end: RunEnded | None,
    cancelled: str | None = None,
    times: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Return all about a run as plain JSON: its line, the data, the gate's report, and the seconds of each step.

    ``times`` are those of :func:`run_times`.
    """
    line = summarize_run(request, end, cancelled)
    line["wall_clock"] = dict(times or {})
    line["over_pin"] = bool(request and request.lifts)
    if end is None:
        return line
    return line | {
        "rows": end.rows,
        "holdout": _said_holdout(end),
        "gate": end.gate,
        "seconds": {name: round(seconds, 3) for name, seconds in end.seconds.items()},
        "event": end.event_id,
    }


def _said_holdout(run: RunEnded) -> dict[str, str] | None:
    """Return the first and the last day of a holdout, or its times if it is not of whole days."""
    if run.holdout_us:
        begin, end = map(said_time, run.holdout_us)
        return {"from": begin, "to": end}
    if run.holdout_days is None:
        return None
    first, last = run.holdout_days
    begin, end = (f"{utc_datetime(day * _DAY_US):%Y-%m-%d}" for day in (first, last - 1))
    return {"from": begin, "to": end}


def wait_for_end(servers: str, topics: ControlTopics, run: str) -> RunEnded:
    """Return the end of a run, when it has come.

    Raises BusUnavailableError if Kafka does not answer for :data:`ANSWER_S`: the run goes on.
    """
    from headrace.bus.tail import TopicTail
    from headrace.bus.unreadable_records import readable
    from headrace.trainers.runs.messages import RunEnded, decode

    heard = time.monotonic()
    with closing(TopicTail(servers, [topics.runs], from_beginning=True)) as tail:
        while True:
            try:
                records = tail.drain()
                heard = time.monotonic()
            except BusUnavailableError as error:
                if time.monotonic() > heard + ANSWER_S:
                    message = f"run {run} goes on, but its end is not heard; `headrace runs show {run}` says it later: "
                    raise BusUnavailableError(f"{message}{error}") from error
                records = []
            for ended in readable(records, lambda record: decode(record.value(), RunEnded)):
                if ended.request_id == run:
                    return ended
            time.sleep(_POLL_S)


def earlier_decisions(servers: str, topics: ControlTopics, last: Mapping[str, DecisionRecord]) -> dict[str, Decision]:
    """Return the last decision on each model whose last record is none: the end of a run, or a reset."""
    wanted = {name for name, record in last.items() if record.decision is None and record.kind != "error"}
    records = _decoded(_all(servers, topics.decisions)) if wanted else []
    return {each.model: each.decision for each in records if each.decision is not None and each.model in wanted}


def summarize_triggers(
    model: Model,
    record: DecisionRecord | None,
    decided: Decision | None = None,
    published: ModelState | None = None,
) -> dict[str, Any]:
    """Return the line of a model's triggers: the rule that fired, the hold in force, or the nearest rule.

    ``decided`` is the last decision, if ``record`` is none. ``published`` is the state of the model by all its events:
    a person may have pinned a version after the last decision.
    """
    from headrace.app.trigger_standing import standing

    if record is None:
        none = dict.fromkeys(("decided_at", "rule", "progress"))
        return {"model": model.name, **none, "reason": "no decision yet", "until": None}
    now = standing(model.policy, record, decided, published)
    return {
        "model": model.name,
        "decided_at": said_time(record.t_us),
        "rule": now.rule,
        "progress": None if now.progress is None else round(now.progress, 3),
        "reason": _said_reason(record, now.reason),
        "until": now.until,
    }


def _said_reason(record: DecisionRecord, reason: str) -> str:
    return f"fails since {said_time(record.since_us)}: {reason}" if record.since_us else reason


def explain(model: Model, records: Sequence[DecisionRecord], published: ModelState | None = None) -> dict[str, Any]:
    """Return the state of a model's triggers and of each rule: since when, how far, and what would have to happen.

    ``records`` are all of the model, the oldest first. ``published`` is its state by all model events.
    """
    from headrace.app.trigger_standing import said_verdicts, said_watch, standing

    if not records:
        return {"model": model.name, "reason": "no decision yet: is `headrace trainer` running, and do workers report?"}
    last = records[-1]
    decided = next((record.decision for record in reversed(records) if record.decision is not None), None)
    now = standing(model.policy, last, decided, published)
    watched = next((record for record in reversed(records) if record.watched), None)
    pin = None if published is None else published.pin
    return {
        "model": model.name,
        "decided_at": said_time(last.t_us),
        "now": _said_reason(last, now.reason),
        "since": said_time(_since(model, records, now, pin)),
        "until": now.until,
        "last": None if last.reason == now.reason else last.reason,
        "state": _said_state(now.state, pin),
        "rules": said_verdicts(now.verdicts),
        "inputs": {}
        if decided is None
        else {name: decided.inputs[name] for name in decided.inputs if name != "watched"},
        "watched": None if watched is None else {"evaluated_at": said_time(watched.t_us), **said_watch(watched)},
    }


def _since(model: Model, records: Sequence[DecisionRecord], now: TriggerStanding, pin: ModelEvent | None) -> int:
    """Return the time of the first of the newest records that have the same rule or hold in front.

    A pin holds since a person said so.
    """
    from headrace.app.trigger_standing import standing

    if now.rule == "pinned" and pin is not None:
        return pin.at_us
    since = records[-1].t_us
    for record in reversed(records[:-1]):
        if standing(model.policy, record).rule != now.rule:
            break
        since = record.t_us
    return since


def _said_state(state: TriggerState, pin: ModelEvent | None) -> dict[str, Any]:
    pinned_us = pin.at_us if pin is not None else None if state.pin is None else state.pin.t_us
    return {
        "live": state.live,
        "open_run": state.request,
        "counted_since": state.labels_since,
        "pinned_since": None if pinned_us is None else said_time(pinned_us),
        "disarmed": ", ".join(state.disarmed) or None,
    }


def replay(model: Model, records: Sequence[DecisionRecord]) -> dict[str, Any]:
    """Judge the recorded inputs of a model again with its present rules, and return the differences.

    A decision is unknown if it was made while the rules were held, and the present ones would be measured then.
    """
    judged = [record.decision for record in records if record.decision is not None]
    differences, unknown = [], 0
    for then in judged:
        try:
            now = model.policy.judge(then.state, then.t_us, then.inputs)
        except NotMeasuredError:
            unknown += 1
            continue
        if _verdict(now) != _verdict(then):
            differences.append({"decided_at": said_time(then.t_us), "then": then.reason, "now": now.reason})
    return {"model": model.name, "decisions": len(judged), "unknown": unknown, "differences": differences}


def _verdict(decision: Decision) -> tuple[Any, ...]:
    """Return what was decided, without the words."""
    return decision.fired, decision.rule, [(each.rule, each.fired, each.armed) for each in decision.verdicts]


def said_time(t_us: int) -> str:
    """Return a time as text, to the second."""
    return utc_datetime(t_us - t_us % 1_000_000).isoformat().replace("+00:00", "Z")
