"""All errors of headrace, in one tree.

::

    HeadraceError
    ├── TerminalError                 the same call fails again: change something first
    │   ├── DefinitionError           a stream, view, service or model says something impossible
    │   │   ├── FeaturesUnknownError      the online store has no such service, view or feature
    │   │   ├── EntityKeyError            a join key is not of its type
    │   │   └── RequestValueError         a value of the request is missing or not of its type
    │   ├── ProjectError              headrace.toml or a module it names does not load
    │   ├── SettingsError             a setting is unknown, malformed or contradictory
    │   ├── MissingExtraError         a part of headrace that is not installed (also an ImportError)
    │   ├── DataFolderInUseError      another process runs its services on this data folder
    │   ├── OtherLogError             the namespace has another event log, at another place
    │   ├── DownloadError             a jar is needed, is not cached, and cannot be fetched
    │   ├── CodecError                the bytes are not in their format
    │   │   └── NewerFormatError          a message of a later release: upgrade
    │   ├── RefusedError              the broker refuses records because of their content
    │   ├── DataLossError             the topic starts beyond the event log: an operator decides
    │   ├── FencedError               another owner writes here now: drop the memory, acquire again
    │   ├── FitError                  the user's train function raised, died, or took too long
    │   ├── PredictionError           an estimator cannot predict a row
    │   ├── UnknownVersionError       the registry has no such version of a model
    │   ├── NotMeasuredError          a recorded decision has no inputs for a rule that was changed since
    │   └── ArtifactError             a model's bytes, digest or types are not those of its event
    └── TransientError                the same call may succeed later, unchanged
        ├── ServiceStartError         a local service did not start (the message names its log)
        ├── ProcessDiedError          a process of the demo ended while it was needed
        ├── BarrierError              a process of the demo did not reach a point in time
        ├── NoModelError              no version of the model is live yet, and there is no fallback
        └── UnavailableError          Kafka, Redis or the store does not answer
            ├── StoppingError             this process was asked to stop: the work is done again after a restart
            ├── BusUnavailableError       Kafka
            │   └── TopicUnknownError         Kafka does not know the topic or partition: not yet, or not any more
            ├── OnlineStoreUnavailableError   Redis
            ├── RegistryUnavailableError      the model registry, or the place of its artifacts
            ├── SchemaRegistryUnavailableError  the schema registry
            ├── SourceUnavailableError        a source of `headrace ingest`, such as Postgres
            └── OfflineStoreUnavailableError  Delta
                ├── LogDamagedError           a file of the event log cannot be read: `headrace repair` mends it
                └── NotInLogYetError          the event log lacks a table or a column, which a worker makes

A message says where it happened, what came, what was wanted and what to do. ``except TransientError`` is the place for
a retry.
"""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType


class HeadraceError(Exception):
    """Any error that headrace raises on purpose.

    >>> from headrace import Gate, HeadraceError
    >>> try:
    ...     Gate("auc", holdout="7d")
    ... except HeadraceError as error:
    ...     print(error)
    gate: holdout='7d' must be 14 or more whole days, because days are resampled
    """


class TerminalError(HeadraceError):
    """The same call fails again: something has to change first.

    >>> import headrace
    >>> with headrace.connect() as hr:
    ...     try:
    ...         hr.features().get("delays", {"origin": "JFK"})
    ...     except headrace.TerminalError as error:
    ...         print(error)
    no feature service 'delays' in the online store: has a worker with this definition been started? ...
    """


class TransientError(HeadraceError):
    """The same call may succeed later, unchanged.

    >>> import headrace
    >>> with headrace.connect() as hr:
    ...     try:
    ...         hr.predictor("punctuality").predict({"flight_id": 7})
    ...     except headrace.TransientError as error:
    ...         print(f"try again later: {type(error).__name__}")
    try again later: NoModelError
    """


class DefinitionError(TerminalError):
    """A definition says something impossible; the message names the object, the field and the choices."""


class FeaturesUnknownError(DefinitionError):
    """A look-up names a service, view or feature that the online store does not know."""


class EntityKeyError(DefinitionError):
    """A join key of a look-up does not have the type of its entity, or has no bytes."""


class RequestValueError(DefinitionError):
    """A look-up lacks a value of the request that an on-demand feature uses, or the value has the wrong type.

    Also raised if the time of a look-up is out of the calendar.
    """


class ProjectError(TerminalError):
    """`headrace.toml`, or a module that it names, does not load."""


class SettingsError(TerminalError):
    """A setting is unknown, malformed or contradicts another one."""


class MissingExtraError(TerminalError, ImportError):
    """A part of headrace is used whose extra is not installed. The message has the command that installs it.

    >>> from headrace.errors import missing_extra
    >>> print(missing_extra("polars", "worker"))
    the package 'polars' is not installed; ...: pip install "headrace[worker]"
    """


class DataFolderInUseError(TerminalError):
    """Another process runs its local services on the same data folder."""


class OtherLogError(TerminalError):
    """The namespace has another event log than this process. The message names both places."""


class DownloadError(TerminalError):
    """Something has to be downloaded once, and the download fails."""


class CodecError(TerminalError):
    """The bytes are not in their format."""


class NewerFormatError(CodecError):
    """A message has the format of a later release. An upgraded reader can read it."""


class RefusedError(TerminalError):
    """The broker refuses records because of their content.

    ``records`` are these records, each a ``ProducerRecord``. The producer does not send them again. ``lacks_right``:
    Kafka's user may not write to the topic, so it is not the content.
    """

    def __init__(self, message: str, records: Sequence[Any], *, lacks_right: bool = False) -> None:
        super().__init__(message)
        self.records, self.lacks_right = records, lacks_right


class DataLossError(TerminalError):
    """The topic starts beyond what the event log holds; an operator accepts the gap or restores the data."""


class FencedError(TerminalError):
    """Another owner writes here now; this writer drops its memory and acquires again."""


class FitError(TerminalError):
    """The user's train function raised, ended without a result, or took too long."""


class PredictionError(TerminalError):
    """An estimator cannot predict a row: it raises, or gives no number. Other rows are not concerned."""


class UnknownVersionError(TerminalError):
    """The registry has no such version of a model."""

    def __init__(self, name: str, version: int) -> None:
        super().__init__(f"the registry has no version {version} of model {name!r}; `headrace models list` shows them")


class NotMeasuredError(TerminalError):
    """A recorded decision has no inputs for a rule that was added or changed since."""


class ArtifactError(TerminalError):
    """The bytes, digest or types of a model are not those of its event."""


class ServiceStartError(TransientError):
    """A local service did not start in time; the message names its log."""


class ProcessDiedError(TransientError):
    """A process of the demo ended while it was needed; the message names its log."""


class BarrierError(TransientError):
    """A process of the demo did not reach a point in time; the message says which process waits for what."""


class NoModelError(TransientError):
    """No version of the model is live yet, and the predictor has no ``fallback``.

    >>> import headrace
    >>> with headrace.connect() as hr:
    ...     try:
    ...         hr.predictor("punctuality").predict({"flight_id": 7})
    ...     except headrace.NoModelError:
    ...         print(hr.predictor("punctuality", fallback=0.2).predict({"flight_id": 7}).value)
    0.2
    """


class UnavailableError(TransientError):
    """Kafka, Redis or the offline store does not answer.

    >>> import headrace
    >>> with headrace.connect(redis_url="redis://127.0.0.1:1") as hr:
    ...     try:
    ...         hr.features(retry="0s").get("delay", {"origin": "JFK"})
    ...     except headrace.UnavailableError as error:
    ...         print(type(error).__name__)
    OnlineStoreUnavailableError
    """


class StoppingError(UnavailableError):
    """This process was asked to stop, and ended work that is done again after a restart."""


class BusUnavailableError(UnavailableError):
    """Kafka does not answer."""


class TopicUnknownError(BusUnavailableError):
    """Kafka answers, but does not know the topic or partition: not yet, or not any more."""


class OnlineStoreUnavailableError(UnavailableError):
    """Redis does not answer."""


class RegistryUnavailableError(UnavailableError):
    """The model registry, or the place of its artifacts, does not answer."""


class SchemaRegistryUnavailableError(UnavailableError):
    """The schema registry does not answer, or not as it should."""


class SourceUnavailableError(UnavailableError):
    """What `headrace ingest` reads from does not answer, or does not let it in."""


class OfflineStoreUnavailableError(UnavailableError):
    """The event log's storage does not answer."""


class LogDamagedError(OfflineStoreUnavailableError):
    """A file of the event log cannot be read. The call succeeds after `headrace repair --restore`."""


class NotInLogYetError(OfflineStoreUnavailableError):
    """The event log lacks a table or a column. The call succeeds after a worker with this definition has started."""


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Put the place, such as ``view 'airport': feature 'mean_delay'``, before the message of a DefinitionError."""
    try:
        yield
    except DefinitionError as error:
        raise DefinitionError(f"{place}: {error}") from error


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, which the extra `extra` installs; without it MissingExtraError names the pip command.

    An ImportError from *inside* an installed module is not a missing extra and passes through.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise missing_extra(module, extra) from error


def missing_extra(module: str, extra: str) -> MissingExtraError:
    """The error for an absent `module` that the extra `extra` would install."""
    command = f'pip install "headrace[{extra}]"'
    return MissingExtraError(
        f"the package {module!r} is not installed; this part of headrace needs the extra {extra!r}: {command}",
        name=module,
    )
