"""Follows model events: fold, fetch, verify, load, warm up, swap, acknowledge. On failure the old version stays.

An application that starts on a version that cannot be loaded answers with the last one before it that can.

Nothing heavy is imported with this module: scikit-learn and skops come with the first artifact, Kafka with its log.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from headrace.base.background_loop import BackgroundLoop
from headrace.base.times import SECOND, duration_us, utc_datetime
from headrace.errors import NoModelError, TransientError
from headrace.features.kernel.on_demand import on_demand
from headrace.models import artifact
from headrace.models.artifact_places import NO_PLACES, ArtifactPlaces
from headrace.models.model_events import Acknowledgement
from headrace.models.model_state import ModelState, advance, earlier_live
from headrace.models.prediction_task import read_predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from headrace.base.times import Clock, Duration
    from headrace.models.model_event_log import Acknowledgements, ModelEventLog
    from headrace.models.model_events import ModelEvent, Published, ServiceRef

logger = structlog.get_logger(__name__)
_WAIT = "500ms"
_RETRY_S = 1.0
_SILENT_US = 60 * SECOND


@dataclass(frozen=True)
class LoadedModel:
    """A version that predicts. It is replaced, never changed. ``event`` made it live, ``published`` describes it."""

    version: int
    estimator: Any
    event: ModelEvent
    published: Published


@dataclass(frozen=True)
class FollowingStatus:
    """How an application follows its model.

    ``version`` predicts now, ``wanted`` is live by the model events that were read; both are None before the first.
    ``error`` says why they differ, or why the events are not read; it is empty if all is well. ``since``: the time
    since when the events are read, or since when they are not. ``heard``: the last time at which they were read, or
    None.
    """

    version: int | None
    wanted: int | None
    error: str
    since: datetime
    heard: datetime | None

    @property
    def is_current(self) -> bool:
        """True if the events are read, and the live version is the one that predicts. Also before the first version."""
        return not self.error and self.version == self.wanted


@dataclass(frozen=True)
class LoadingPolicy:
    """The rules for loading artifacts. ``trusted`` is the deployment's list of types; a list in an artifact is ignored.

    ``places`` are those from which artifacts are loaded; without any, none is. ``sample`` makes a few rows for a
    service: a new estimator predicts them once before it becomes live.
    """

    trusted: Sequence[str]
    places: ArtifactPlaces = NO_PLACES
    sample: Callable[[ServiceRef], Any] | None = None

    def load(self, published: Published) -> Any:
        """Return the estimator of a publication, verified and warm. Raises ArtifactError or TransientError."""
        estimator = self.places.load(published.artifact, self.trusted)
        on_demand(published.service.on_demand)  # raises an error here, not at each prediction
        if self.sample is not None:
            read_predictions(estimator, self.sample(published.service), published.predicts)
        return estimator


class ModelSubscriber:
    """Keeps one model's live version loaded. Read ``current`` once for each prediction: it is swapped as one reference.

    ``poll_once`` does one round in the caller's thread; ``start`` does rounds in a thread of its own. Use only one of
    the two. A :class:`Predictor` has one already.

    >>> from headrace import ModelSubscriber
    >>> from headrace.serving import LoadingPolicy
    >>> from headrace.testing import MemoryAcknowledgements, MemoryModelEventLog, SettableClock
    >>> log, sent, clock = MemoryModelEventLog(), MemoryAcknowledgements(), SettableClock()
    >>> subscriber = ModelSubscriber("delay", log, sent, LoadingPolicy(trusted=[]), application="shop", clock=clock)
    >>> print(subscriber.poll_once())  # no version has been published yet
    None
    """

    def __init__(
        self,
        model: str,
        log: ModelEventLog,
        acknowledgements: Acknowledgements,
        loading: LoadingPolicy,
        *,
        application: str,
        clock: Clock,
    ) -> None:
        self._model = model
        self._log = log
        self._acknowledgements = acknowledgements
        self._loading = loading
        self._application = application
        self._clock = clock
        self._offset = 0
        self._state = ModelState()
        self._current: LoadedModel | None = None
        self._settled: set[str] = set()  # the ids of the events whose version was loaded, or can never be loaded
        self._unsent: deque[Acknowledgement] = deque()
        self._acknowledged: dict[str, str] = {}  # the id of an event, and why its version is not loaded
        self._refused = ""  # why the live version is not loaded
        self._swapped = threading.Condition()
        self._loaded_at: datetime | None = None
        self.changed: Callable[[], None] = lambda: None
        """Called in the subscriber's thread after a version was loaded or refused."""
        self._loop = BackgroundLoop(f"{model} subscriber", self._round, retry_s=_RETRY_S)

    @property
    def current(self) -> LoadedModel | None:
        """The version that predicts now, or None before the first."""
        return self._current

    @property
    def loaded_at(self) -> datetime | None:
        """The time since when the version that predicts now does, on the subscriber's clock; None before the first."""
        return self._loaded_at

    @property
    def state(self) -> ModelState:
        """The state of the model after the events that were read so far."""
        return self._state

    def poll_once(self, wait: Duration = "0s") -> LoadedModel | None:
        """Read new events (waiting for one at most ``wait``), load the live version, acknowledge it, and return it.

        If nothing is loaded yet and the live version cannot be, the last version before it that can is loaded, unless a
        person took it back. Raises BusUnavailableError; the next call goes on from there.
        """
        for entry in self._log.read(self._offset, wait=wait):
            if entry.event is not None and entry.event.model == self._model:
                self._state = advance(self._state, entry.event)
            self._offset = entry.offset + 1
        live, published = self._state.live, self._state.published_live
        if live is not None and published is not None and live.id not in self._settled:
            self._refused = self._follow(live, published)
            self.changed()
        if self._current is None:
            self._fall_back()
        self._send()
        return self._current

    def start(self) -> None:
        """Follow in a background thread until ``stop``. An error does not end it: see :attr:`status`."""
        self._loop.start()

    def stop(self, timeout: Duration = "10s") -> None:
        """End the thread, waiting for it at most ``timeout``. The live version stays loaded."""
        self._loop.stop(duration_us(timeout) / SECOND)

    @property
    def status(self) -> FollowingStatus:
        """How the following does: whether model events are read, and whether the live version is the one that predicts.

        It is that of the thread of ``start``.
        """
        rounds, wanted, current = self._loop.status, self._state.version, self._current
        error = rounds.error or self._refused
        if self._refused and current is not None:
            error += f"; version {current.version} answers instead"
        if not self._loop.is_running:
            error = error or "nothing follows the model events: the subscriber was not started, or was stopped"
        elif self._loop.silent_us > _SILENT_US:
            error = error or "the model events have not been read for more than a minute"
        return FollowingStatus(
            version=None if current is None else current.version,
            wanted=wanted,
            error=error,
            since=utc_datetime(rounds.since_us),
            heard=None if rounds.succeeded_us is None else utc_datetime(rounds.succeeded_us),
        )

    def wait_until_ready(self, timeout: Duration = "30s", *, version: int | None = None) -> LoadedModel:
        """Wait until a version is loaded, and return it. ``version``: wait for exactly this one.

        It needs the thread of ``start``. Raises NoModelError if the version is not loaded within ``timeout``.
        """
        with self._swapped:
            found = self._swapped.wait_for(lambda: self._loaded(version), duration_us(timeout) / SECOND)
        if found is None:
            wanted = "no version" if version is None else f"no version {version}"
            raise NoModelError(f"model {self._model!r} has {wanted} loaded after {timeout}: {self._why_none()}")
        return found

    def _why_none(self) -> str:
        if self.status.error:
            return self.status.error
        live = self._state.version
        if live is None:
            return "the model events name none; is a trainer running? `headrace models list` shows all versions"
        return f"version {live} is live"

    def _loaded(self, version: int | None) -> LoadedModel | None:
        current = self._current
        return current if current is not None and version in {None, current.version} else None

    def _round(self) -> None:
        artifact.prepare()
        if not self._loop.stopping.is_set():  # to prepare takes seconds
            self.poll_once(_WAIT)

    def _follow(self, event: ModelEvent, published: Published) -> str:
        """Load the version that an event made live, and swap to it. Return why it cannot be loaded, if it cannot."""
        try:
            loaded = LoadedModel(published.version, self._estimator(published), event, published)
        except TransientError as error:  # tried again with the next round
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - a sample or an estimator may raise anything; the old version serves on
            self._settled.add(event.id)
            reason = f"{type(error).__name__}: {error}"
        else:
            self._settled.add(event.id)
            reason = ""
            self._log_swap(loaded)
            with self._swapped:
                self._current, self._loaded_at = loaded, utc_datetime(self._clock())
                self._swapped.notify_all()
        self._acknowledge(event, published, reason)
        return f"version {published.version} cannot be loaded: {reason}" if reason else ""

    def _log_swap(self, loaded: LoadedModel) -> None:
        before = None if self._current is None else self._current.version
        if before != loaded.version:
            more = {} if before is None else {"before": before}
            logger.info("version loaded", model=self._model, version=loaded.version, **more)

    def _fall_back(self) -> None:
        """Load the last version before the live one that can be loaded. The live one is tried again all the same."""
        for event in earlier_live(self._state):
            published = self._state.publication(event.data.version)
            if event.id not in self._settled and published is not None and not self._follow(event, published):
                logger.warning("an earlier version answers", model=self._model, reason=self.status.error)
                return

    def _estimator(self, published: Published) -> Any:
        now = self._current
        if now is not None and now.published == published:  # a rollback to the loaded version, or a pin removed
            return now.estimator
        return self._loading.load(published)

    def _acknowledge(self, event: ModelEvent, published: Published, reason: str) -> None:
        if self._acknowledged.get(event.id) == reason:
            return
        self._acknowledged[event.id] = reason
        self._unsent.append(
            Acknowledgement(
                application=self._application,
                model=self._model,
                version=published.version,
                event_id=event.id,
                ok=not reason,
                reason=reason,
                at_us=self._clock(),
            )
        )

    def _send(self) -> None:
        while self._unsent:
            self._acknowledgements.send(self._unsent[0])
            self._unsent.popleft()
