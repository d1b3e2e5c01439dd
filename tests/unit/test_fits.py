"""A fit may do what a process may, within its limits, and nothing of it is left behind."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from joblib import Parallel, delayed
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from headrace.errors import FitError
from headrace.models import artifact
from headrace.trainers.runs.fit_task import FitTask
from headrace.trainers.runs.fitting import FitLimits, FitPool, Fits, InlineFits
from headrace.trainers.runs.run_logs import RunLogs
from headrace.trainers.train_function import EstimatorTraining, Run
from tests.support.waiting import until

pytestmark = pytest.mark.slow  # each fit is a process

X = pd.DataFrame({"a": np.arange(200.0)})
Y = pd.Series(np.arange(200) % 2 == 1)
JANUARY = datetime(2013, 1, 1, tzinfo=UTC)
RUN = Run("m", "r", 7, JANUARY, JANUARY)


def task(train: Any, **changes: Any) -> FitTask:
    return FitTask(**{"fit": train, "frame": X, "label": Y, "run": RUN, **changes})


def fitted(*_: object) -> LogisticRegression:
    return LogisticRegression().fit(X, Y)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it ended before it was opened, or before it was read
        return False


def pids(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir()]


def sleep_here(folder: str) -> None:
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)


# -- what a train function may do --------------------------------------------------------------------------------------


def with_processes(x: Any, y: Any, run: Any) -> Any:
    with multiprocessing.Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
    child = multiprocessing.Process(target=print, args=("child",))
    child.start()
    child.join()
    assert child.exitcode == 0
    return LogisticRegression().fit(x, y)


def with_grid(x: Any, y: Any, run: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # joblib warns if it has to go on with one process
        assert len(set(Parallel(n_jobs=2)(delayed(worker_id)() for _ in range(8)))) == 2
        return GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, n_jobs=2, cv=2).fit(x, y).best_estimator_


PARALLEL = (with_processes, with_grid)


def worker_id() -> int:
    time.sleep(0.2)
    return os.getpid()


def with_threads(x: Any, y: Any, run: Any) -> Any:
    threading.Thread(target=time.sleep, args=(600,)).start()
    return LogisticRegression().fit(x, y)


@pytest.mark.parametrize("train", [*(pytest.param(each, marks=pytest.mark.long) for each in PARALLEL), with_threads])
def test_a_train_function_may_start_processes_and_threads(train: Any) -> None:
    assert FitPool().fit(task(train)).seconds < 300


def tuned(x: Any, y: Any, run: Any, c: float) -> Any:
    return LogisticRegression(C=c, random_state=run.seed).fit(x, y)


class Trains:
    def __init__(self, c: float) -> None:
        self.c = c

    def __call__(self, x: Any, y: Any, run: Any) -> Any:
        return tuned(x, y, run, self.c)


@pytest.mark.parametrize("kind", [InlineFits, FitPool])
def test_a_partial_a_callable_object_and_an_estimator_fit_the_same(kind: type[Fits]) -> None:
    fits = kind()
    ways = [partial(tuned, c=0.5), Trains(0.5), EstimatorTraining(LogisticRegression(C=0.5))]
    scores = [fits.fit(task(way, holdout=X)).scores.tolist() for way in ways]
    assert scores[0] == scores[1] == scores[2]
    assert scores[0] != fits.fit(task(Trains(5.0), holdout=X)).scores.tolist()


def test_an_estimator_is_cloned_and_each_of_its_random_states_comes_from_the_seed() -> None:
    made = make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=3))
    found = EstimatorTraining(made)(X, Y, RUN)
    assert found.get_params()["randomforestclassifier__random_state"] == RUN.seed
    assert made.get_params()["randomforestclassifier__random_state"] is None
    assert not hasattr(made[-1], "estimators_")
    of_the_user = EstimatorTraining(RandomForestClassifier(n_estimators=3, random_state=5))(X, Y, RUN)
    assert of_the_user.random_state == 5


def by_chance(x: Any, y: Any, run: Any) -> Any:
    return LogisticRegression(C=random.random() + np.random.random()).fit(x, y)  # noqa: NPY002


def test_random_choices_that_are_not_seeded_by_train_are_seeded_for_it() -> None:
    pool = FitPool()
    first, again = (pool.fit(task(by_chance, holdout=X)).scores.tolist() for _ in range(2))
    other = pool.fit(task(by_chance, holdout=X, run=Run("m", "r", 8, JANUARY, JANUARY)))
    assert first == again != other.scores.tolist()


# -- nothing is left behind --------------------------------------------------------------------------------------------


def leaves_children(x: Any, y: Any, run: Any, folder: str, then: str) -> Any:
    """A child, its child, and one in a session of its own whose parent is gone."""
    sleeper = f"import os, time; open(os.path.join({folder!r}, str(os.getpid())), 'w').close(); time.sleep(600)"
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {sleeper!r}], start_new_session=True)"
    multiprocessing.Process(target=sleep_here, args=(folder,)).start()
    multiprocessing.Process(target=subprocess.run, args=([sys.executable, "-c", sleeper],)).start()
    subprocess.run([sys.executable, "-c", orphan], check=True)
    until(lambda: len(pids(Path(folder))) == 3, 60)
    if then == "return":
        return LogisticRegression().fit(x, y)
    if then == "raise":
        raise ValueError("no")
    if then == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return time.sleep(600)


ENDS = {
    "return": None,
    "raise": "ValueError: no",
    "die": "its process died of SIGKILL: out of memory?",
    "hang": "it took longer than 20 s, the setting `trainer.fit_time`, and was stopped",
}


@pytest.mark.parametrize("then", ["return", "raise", "die", pytest.param("hang", marks=pytest.mark.long)])
def test_everything_that_a_fit_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pool = FitPool(FitLimits(seconds=20 if then == "hang" else 120))
    train = partial(leaves_children, folder=str(tmp_path), then=then)
    if ENDS[then] is None:
        pool.fit(task(train))
    else:
        with pytest.raises(FitError) as raised:
            pool.fit(task(train))
        assert str(ENDS[then]) in str(raised.value)
    assert len(pids(tmp_path)) == 3
    until(lambda: not any(map(alive, pids(tmp_path))), 10)


TRAINER = """
from functools import partial
from tests.unit.test_fits import *
if __name__ == "__main__":
    FitPool().fit(task(partial(leaves_children, folder=sys.argv[1], then="hang")))
"""


@pytest.mark.long
def test_everything_that_a_fit_started_ends_with_a_killed_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    script, folder = tmp_path / "trainer.py", tmp_path / "pids"
    script.write_text(TRAINER)
    folder.mkdir()
    trainer = subprocess.Popen([sys.executable, str(script), str(folder)])
    try:
        until(lambda: len(pids(folder)) == 3, 120)
    finally:
        trainer.kill()
        trainer.wait()
    until(lambda: not any(map(alive, pids(folder))), 10)


# -- limits ------------------------------------------------------------------------------------------------------------


def takes_memory(x: Any, y: Any, run: Any, mebibytes: int, children: int) -> Any:
    started = [
        multiprocessing.Process(target=hold, args=(mebibytes // (children + 1),), daemon=True) for _ in range(children)
    ]
    for child in started:
        child.start()
    hold(mebibytes // (children + 1), 5)
    return LogisticRegression().fit(x, y)


def hold(mebibytes: int, seconds: float = 600) -> None:
    held = np.random.default_rng(0).bytes(mebibytes << 20)
    time.sleep(seconds)
    del held


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere each process has the limit for itself")
@pytest.mark.long
@pytest.mark.parametrize("children", [0, 2])
def test_the_memory_of_a_fit_is_that_of_all_its_processes(children: int) -> None:
    pool = FitPool(FitLimits(memory=900 << 20))
    with pytest.raises(FitError, match=r"processes, the setting `trainer.fit_memory` allows 900"):
        pool.fit(task(partial(takes_memory, mebibytes=1_000, children=children)))
    pool.fit(task(partial(takes_memory, mebibytes=200, children=children)))


# -- the log of a run --------------------------------------------------------------------------------------------------


def talks(x: Any, y: Any, run: Any) -> Any:
    print("a print")  # noqa: T201
    warnings.warn("a warning", stacklevel=1)
    logging.getLogger("mine").info("a log line")
    subprocess.run(["sh", "-c", "echo a child; echo an error >&2"], check=True)
    raise KeyError("the last column")


def test_the_log_of_a_run_has_what_train_prints_warns_and_logs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logs = RunLogs(tmp_path / "runs")
    with pytest.raises(FitError) as raised:
        FitPool().fit(task(talks, log=logs.path("r")))
    reason = str(raised.value)
    assert reason == (
        "the fit of 'm' failed: KeyError: 'the last column'; the traceback is in the run's log: headrace runs log r"
    )
    found = (logs.find("r") or b"").decode()
    for line in ("a print", "UserWarning: a warning", "INFO mine: a log line", "a child", "an error"):
        assert line in found
    assert "Traceback (most recent call last)" in found
    assert "a print" not in capfd.readouterr().out


def floods(x: Any, y: Any, run: Any) -> Any:
    print("the beginning")  # noqa: T201
    for _ in range(4_000):
        print("x" * 1_000)  # noqa: T201
    print("the end")  # noqa: T201
    return fitted()


@pytest.mark.long
def test_the_log_of_a_run_has_a_bound_and_keeps_the_beginning_and_the_end(tmp_path: Path) -> None:
    logs = RunLogs(tmp_path)
    for _ in range(6):
        FitPool().fit(task(floods, log=logs.path("r")))
        found = logs.find("r") or b""
        assert len(found) < (4 << 20) + 1_000
    assert found.startswith(b"the beginning\n")
    assert found.splitlines()[-2] == b"the end"
    assert b" bytes are left out " in found


# -- causes in plain words ---------------------------------------------------------------------------------------------


def one_class(x: Any, y: Any, run: Any) -> Any:
    from sklearn.dummy import DummyClassifier

    return DummyClassifier().fit(x, [0] * len(y))


def no_module(x: Any, y: Any, run: Any) -> Any:
    import_module("no_such_package")


def leaves(x: Any, y: Any, run: Any) -> Any:
    sys.exit(3)


def returns_nothing(x: Any, y: Any, run: Any) -> None:
    pass


CAUSES: dict[str, tuple[dict[str, Any], str]] = {
    "a label of one class": (
        {"label": pd.Series([True] * 200)},
        "the label has one class only in the 200 rows to fit on: every label is True",
    ),
    "one class by train": (
        {"fit": one_class},
        "the label has one class only in the rows that DummyClassifier was fitted on: 0; the 200 rows given to train",
    ),
    "no rows": ({"frame": X[:0], "label": Y[:0]}, "there are no rows to fit on"),
    "an import": ({"fit": no_module}, "No module named 'no_such_package'; install it where the trainer runs"),
    "no estimator": ({"fit": returns_nothing}, "train returned NoneType, which has no predict_proba"),
    "an exit": ({"fit": leaves}, "its process ended without a result (exit code 3)"),
    "a lambda": ({"fit": lambda x, y, run: fitted()}, "cannot be sent to the process that fits"),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_a_failed_fit_says_its_cause_in_plain_words(tmp_path: Path, cause: str) -> None:
    changes, said = CAUSES[cause]
    with pytest.raises(FitError) as raised:
        FitPool().fit(task(**{"train": fitted, "log": tmp_path / "r.log", **changes}))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


# -- the trial with a few rows -----------------------------------------------------------------------------------------


def doubled(x: Any) -> Any:
    return x * 2


def foreign(x: Any, y: Any, run: Any) -> Any:
    assert len(x) <= 40, "the long fit was begun"
    return make_pipeline(FunctionTransformer(doubled), LogisticRegression()).fit(x, y)


def picky(x: Any, y: Any, run: Any) -> Any:
    if len(x) <= 40:
        raise ValueError("n_splits=100 cannot be greater than the number of members in each class.")
    return fitted()


def test_types_that_are_not_trusted_are_found_out_before_the_long_fit() -> None:
    with pytest.raises(FitError) as raised:
        FitPool().fit(task(foreign, is_tried=True, trusted=["mine.Own"]))
    assert str(raised.value) == (
        f"the fit of 'm' failed: the artifact holds types that this deployment does not trust: {__name__}.doubled; if "
        "you reviewed them, add this line to headrace.toml, above its first table, and start the process again: "
        f'trusted_types = ["mine.Own", "{__name__}.doubled"]'
    )


def test_a_trial_with_too_few_rows_for_train_fails_no_fit(tmp_path: Path) -> None:
    logs = RunLogs(tmp_path)
    found = FitPool().fit(task(picky, is_tried=True, log=logs.path("r")))
    artifact.load(found.artifact.data, [])
    said = (logs.find("r") or b"").decode().splitlines()
    assert said[0] == (
        "headrace: the trial before the fit could not fit its 40 rows (ValueError: n_splits=100 cannot be greater than "
        "the number of members in each class.). That is no error if `train` needs more rows. "
        f"The fit of all {len(Y):,} rows begins"
    )
    assert re.fullmatch(rf"headrace: the fit of {len(Y):,} rows succeeded in \d+\.\d s", said[1])
    assert len(said) == 2, "no traceback"


def never(x: Any, y: Any, run: Any) -> Any:
    raise ValueError(f"no column 'fare' in {len(x)} rows")


def test_a_fit_that_fails_after_its_trial_has_one_traceback_in_its_log(tmp_path: Path) -> None:
    logs = RunLogs(tmp_path)
    with pytest.raises(FitError):
        FitPool().fit(task(never, is_tried=True, log=logs.path("r")))
    said = (logs.find("r") or b"").decode()
    assert (said.count("Traceback"), "succeeded" in said) == (1, False)
