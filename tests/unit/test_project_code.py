"""The code hash of a run covers what its train function reaches, and nothing else."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from headrace.trainers.definitions import Gate
from headrace.trainers.metrics.named_metrics import within_block
from headrace.trainers.metrics.own_metric import own_metric
from headrace.trainers.runs.fit_code import fit_code, git_state, imported_packages
from headrace.trainers.runs.project_code import code_identity, training_code
from headrace.trainers.runs.provenance import run_seed, short_seed
from headrace.trainers.train_function import EstimatorTraining
from tests.support.documents import ROOT
from tests.support.orders_model import fit, model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from headrace.trainers.runs.project_code import TrainingCode

FILES = {
    "shop/__init__.py": "from shop.other_model import *",
    "shop/model.py": "from shop.settings import DEPTH\nimport json, numpy\n\ndef train(X, y, run):\n    return DEPTH\n",
    "shop/settings.py": "from . import helpers\nDEPTH = 3\n",
    "shop/helpers/__init__.py": "def late():\n    import shop.lazy\n",
    "shop/lazy.py": "",
    "shop/other_model.py": "from shop.unrelated import *",
    "shop/unrelated.py": "",
    "notes.py": "",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()
    return tmp_path


def code() -> TrainingCode:
    return training_code(importlib.import_module("shop.model").train)


def test_the_code_hash_covers_each_module_that_train_reaches(project: Path) -> None:
    """Those that it imports, directly or not, also inside functions; and the packages that they are in."""
    assert [*code().modules] == ["shop", "shop.helpers", "shop.lazy", "shop.model", "shop.settings"]


@pytest.mark.parametrize("name", FILES)
def test_the_code_hash_changes_with_what_is_reached_and_with_nothing_else(project: Path, name: str) -> None:
    before = code()
    (project / name).write_text(FILES[name] + "\n# another constant, another helper\n")
    after = code()
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert {each for each in before.modules if before.modules[each] != after.modules[each]} == {module} & {
        *before.modules
    }


def loaded_from(path: Path, depth: int) -> Callable[..., Any]:
    path.write_text(f"DEPTH = {depth}\ndef train(X, y, run):\n    return make(DEPTH)\n")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[..., Any] = module.train
    return found


def test_two_constants_of_a_module_are_two_code_hashes(tmp_path: Path) -> None:
    small, large = (training_code(loaded_from(tmp_path / f"t{depth}.py", depth)) for depth in (3, 300))
    assert small.function == large.function
    assert [*small.modules.values()] != [*large.modules.values()]


def tuned(X: Any, y: Any, run: Any, c: Any = 1.0) -> Any:  # noqa: N803
    return LogisticRegression(C=c, random_state=run.seed).fit(X, y)


class Trains:
    def __init__(self, c: Any) -> None:
        self.c = c

    def __call__(self, X: Any, y: Any, run: Any) -> Any:  # noqa: N803
        return tuned(X, y, run, self.c)


PAIRS = [
    (partial(tuned, c=1), partial(tuned, c=2)),
    (partial(tuned, c={"a", "b"}), partial(tuned, c={"a", "c"})),
    (partial(tuned, c=np.arange(5)), partial(tuned, c=np.arange(6))),
    (Trains(1), Trains(2)),
    (Trains([Trains(1)]), Trains([Trains(2)])),
    (partial(Trains(1)), partial(Trains(2))),
    (EstimatorTraining(LogisticRegression(C=1)), EstimatorTraining(LogisticRegression(C=2))),
    (
        EstimatorTraining(make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=5))),
        EstimatorTraining(make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=6))),
    ),
]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=range(len(PAIRS)))
def test_arguments_bound_to_train_are_part_of_its_code(one: Any, other: Any) -> None:
    assert training_code(one).bound != training_code(other).bound
    assert training_code(one) == training_code(one)
    assert " at 0x" not in str(training_code(one))


def test_a_partial_of_a_function_has_that_functions_own_hash() -> None:
    assert training_code(partial(tuned, c=1)).function == training_code(tuned).function
    assert training_code(tuned).bound == ""


IDENTITY = """
import sys
from tests.support.orders_model import model
from headrace.trainers.runs.project_code import code_identity
print(code_identity(model, {"trusted": ["a", "b"]}))
"""


def test_the_identity_of_code_and_configuration_is_the_same_in_every_process() -> None:
    """It changes with the definition, the code and the configuration."""
    done = subprocess.run([sys.executable, "-c", IDENTITY], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == code_identity(model, {"trusted": ["a", "b"]})
    others = [
        code_identity(model, {"trusted": ["a"]}),
        code_identity(replace(model, first_after=3_000)),
        code_identity(replace(model, train=tuned)),
        code_identity(replace(model, train=partial(fit))),
        code_identity(replace(model, train=None, estimator=LogisticRegression())),
        code_identity(replace(model, train=None, estimator=LogisticRegression(C=2))),
    ]
    assert len({*others, code_identity(model), done.stdout.strip()}) == len(others) + 2


def scored(path: Path, weight: int) -> Callable[..., Any]:
    """A metric from a module of the project, as it is now."""
    path.write_text(f"def gained(truth, prediction):\n    return {weight} * (truth * prediction).mean()\n")
    spec = importlib.util.spec_from_file_location("own_score", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[..., Any] = module.gained
    return found


def weighted(weight: Any) -> Callable[..., Any]:
    return lambda truth, prediction: weight * (truth * prediction).mean()


def test_the_identity_covers_the_deciding_metric_its_direction_and_its_code(tmp_path: Path) -> None:
    """A run that failed because of its metric is done again when the metric has been corrected."""

    def of(function: Any, *, higher: bool = True, within: bool = False) -> str:
        metric = own_metric(function, higher_is_better=higher, name="own")
        return code_identity(replace(model, gate=Gate(within_block(metric) if within else metric)))

    function = scored(tmp_path / "own_score.py", 1)
    before = [of(function), of(function, higher=False), of(function, within=True)]
    assert before == [of(function), of(function, higher=False), of(function, within=True)]
    function = scored(tmp_path / "own_score.py", 22)
    after = [of(function), of(function, higher=False), of(function, within=True)]
    bound = [
        of(weighted(1)),
        of(weighted(2)),
        of(partial(weighted(1))),
        of(partial(max, key=len)),
        of(Trains(weighted(3))),
    ]
    assert of(weighted(2)) == bound[1]
    assert len({*before, *after, *bound}) == 11


# -- packages, git, seeds ----------------------------------------------------------------------------------------------


def test_every_imported_distribution_is_listed_with_its_version() -> None:
    found = imported_packages(["sklearn.linear_model", "scipy", "json", "tests.unit", "no_such_module"])
    assert found.keys() == {"scikit-learn", "scipy"}
    assert {"numpy", "pandas", "scikit-learn", "scipy", "msgspec"} <= fit_code(tuned).packages.keys()


def test_the_git_commit_says_whether_something_was_changed(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None

    def git(*arguments: str) -> None:
        names = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *names, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "model.py").write_text("C = 1\n")
    git("add", ".")
    git("commit", "-m", "one")
    clean = git_state(tmp_path)
    assert clean is not None
    assert (len(clean.commit), clean.diff) == (40, None)
    (tmp_path / "model.py").write_text("C = 2\n")
    dirty = git_state(tmp_path)
    assert dirty is not None
    assert dirty.commit == clean.commit
    assert dirty.diff is not None
    (tmp_path / "model.py").write_text("C = 3\n")
    assert git_state(tmp_path) not in {clean, dirty, None}


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**32, 2**32 + 7, 5_622_475_329, 2**200 + 3])
def test_the_seed_of_a_run_fits_into_32_bits_whatever_the_seed_of_the_trainer_is(seed: int) -> None:
    found = run_seed("delay-1", seed)
    assert 0 <= found < 2**32
    HistGradientBoostingClassifier(random_state=found, max_iter=1).fit(np.zeros((50, 1)), np.arange(50) % 2)
    assert short_seed(seed) == seed or seed >= 2**32
    assert run_seed("delay-1", seed) == run_seed("delay-1", short_seed(seed)) != run_seed("delay-2", seed)
