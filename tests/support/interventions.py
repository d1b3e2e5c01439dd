"""Trainers without data, and a plain loop that says what model events amount to."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, cast

from msgspec import UNSET

from headrace.errors import UnknownVersionError
from headrace.models.model_events import ModelEvent, Promoted, Published, Retired, RolledBack
from headrace.trainers.runs.messages import RetrainRequest
from headrace.trainers.runs.version_publisher import Judged, PublicationEnd, VersionPublisher, held_by
from tests.support.model_events import published

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.models.model_event_log import ModelEventLog
    from headrace.models.model_state import ModelState
    from headrace.models.registry import Registry
    from headrace.trainers.runs.gate import GateReport

MODEL = "delay"


class Versions:
    """A registry of numbers."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._known: set[int] = set()
        self._champion: int | None = None
        self._lock = threading.Lock()

    def new(self) -> int:
        with self._lock:
            self._known.add(number := next(self._numbers))
        return number

    def champion(self, _: str) -> int | None:
        return self._champion

    def promote(self, name: str, version: int) -> None:
        if version not in self._known:
            raise UnknownVersionError(name, version)
        self._champion = version


class Passed:
    """A gate's report, as far as publishing looks at it."""

    verdict, reason = "passed", "better"


PASSED = cast("GateReport", Passed())


class DatalessTrainer:
    """A trainer whose runs need no data. At most one run is in flight."""

    def __init__(self, log: ModelEventLog, versions: Versions) -> None:
        self.log, self.versions = log, versions
        self.publisher = VersionPublisher(MODEL, log, cast("Registry", versions))
        self.run: tuple[Judged, RetrainRequest, int] | None = None
        self.judged: dict[str, int] = {}
        """The id of a publication, and how many events its trainer had read when the challenger was judged."""

    def take(self, request: RetrainRequest) -> str:
        """Begin the run of a request, or say why it is held."""
        state = self.publisher.state()
        held = held_by(state, request)
        if not held and state.request(request.request_id) is None:
            self.run = Judged(state, PASSED), request, self.versions.new()
        return held

    def finish(self, *, manual: bool = False, meanwhile: Callable[[], object] = lambda: None) -> PublicationEnd | None:
        """Publish. ``meanwhile`` is called while a challenger is judged again."""
        if self.run is None:
            return None
        (judged, request, version), self.run = self.run, None

        def judge_again(_: ModelState) -> GateReport:
            meanwhile()
            return PASSED

        return self.publisher.publish(
            judged, request.request_id, lambda now: self._event(now, request, version, manual=manual), judge_again
        )

    def die(self) -> None:
        """Publish, and be killed before the alias is set."""
        if self.run is not None:
            (judged, request, version), self.run = self.run, None
            self.log.append(self._event(judged, request, version, manual=False))

    def _event(self, judged: Judged, request: RetrainRequest, version: int, *, manual: bool) -> ModelEvent:
        state = judged.state
        id_ = f"{request.request_id}-{version}-{len(self.judged)}"
        self.judged[id_] = len(state.history) + len(state.void)
        return published(
            id_,
            version,
            expects=state.live_id,
            request_id=request.request_id,
            lifts=UNSET if state.pin is None else request.lifts,
            approval="wanted" if manual else UNSET,
        )


def asked(id_: str, lifts: ModelEvent | None) -> RetrainRequest:
    """A retrain request, for a run that ends this pin."""
    pin = UNSET if lifts is None else lifts.id
    return RetrainRequest(request_id=id_, model=MODEL, rule="r", reason="", t_us=0, matured_labels=0, lifts=pin)


class Told:
    """What a plain loop over all events says: the live version, the pin, the version that waits, and the live event."""

    def __init__(self, log: Sequence[ModelEvent]) -> None:
        self.version: int | None = None
        self.pin: str | None = None
        self.waits: int | None = None
        self.live: str | None = None
        self.in_force: list[int] = []
        """The places of the events that count."""
        self._approved: dict[int, bool] = {}
        self._retired, self._requests, seen = set[int](), set[str](), set[str]()
        for place, event in enumerate(log):
            counts = event.id not in seen and self._counts(event)
            seen.add(event.id)
            if counts:
                self._take(event)
                self.in_force.append(place)

    def _counts(self, event: ModelEvent) -> bool:
        data, version = event.data, event.data.version
        published_ = version in self._approved
        match data:
            case Published():
                over = self.pin is not None and data.lifts != self.pin
                return not (over or published_ or data.expects != self.live or data.request_id in self._requests)
            case Retired():
                return published_ and version != self.version
            case Promoted():
                return published_ and version not in self._retired
            case RolledBack():
                late = data.lifts is not UNSET and data.lifts != self.live
                return not late and self._approved.get(version, False) and version not in self._retired

    def _take(self, event: ModelEvent) -> None:
        data, version = event.data, event.data.version
        if isinstance(data, Published):
            self._requests.add(data.request_id)
            self._approved[version] = data.approval is UNSET
            self.waits = None if self._approved[version] else version
        elif self.waits == version:
            self.waits = None
        if isinstance(data, Retired):
            self._retired.add(version)
        elif self.waits != version:
            self._approved[version] = True
            pins = isinstance(data, RolledBack) and data.pin
            self.version, self.live, self.pin = version, event.id, event.id if pins else None


def check_log(log: Sequence[ModelEvent], state: ModelState, judged: dict[str, int]) -> None:
    """The fold is that of the plain loop, and no publication goes over what a person decided."""
    told = Told(log)
    waits = None if state.waiting is None else state.waiting.data.version
    pin = None if state.pin is None else state.pin.id
    assert (state.version, state.live_id, pin, waits) == (told.version, told.live, told.pin, told.waits)
    assert list(state.history) == [log[place] for place in told.in_force]
    for place in told.in_force:
        event = log[place]
        if not isinstance(event.data, Published):
            continue
        held = Told(log[:place]).pin
        assert held is None or event.data.lifts == held, f"{event.id} went over the pin {held}"
        between = [log[each] for each in told.in_force if judged.get(event.id, place) <= each < place]
        assert [each for each in between if isinstance(each.data, RolledBack | Promoted)] == [], event.id
