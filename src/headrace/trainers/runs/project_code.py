"""The code that a model trains with: every module of the project that its train function reaches, by its content.

A module is of the project if its source is neither in the standard library, nor in an installed package, nor in
headrace. Installed packages are known by their versions instead.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import re
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from importlib.metadata import distributions
from pathlib import Path
from types import BuiltinFunctionType, CellType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.trainers.metrics.named_metrics import METRICS
from headrace.trainers.train_function import EstimatorTraining, train_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from headrace.trainers.definitions import Model
    from headrace.trainers.metrics.metric import Metric
    from headrace.trainers.train_function import TrainFunction

_DEEPEST = 8
"""The levels of a bound argument that are looked at."""
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class TrainingCode:
    """The hashes of what a model trains with.

    ``function`` is that of the train function's own source, ``modules`` has one for each module of the project that it
    reaches, and ``bound`` is that of what is bound to it: the arguments of a partial, the attributes of a callable
    object, the parameters of an estimator. It is empty if nothing is bound.
    """

    function: str
    modules: dict[str, str]
    bound: str


def training_code(train: TrainFunction) -> TrainingCode:
    """Return the hashes of the code that ``train`` reaches, as its files are now."""
    bound = _bound(train)
    hashed = "" if bound is None else _sha(json.dumps(_described(bound), sort_keys=True))
    return TrainingCode(_function_hash(train), _modules(train), hashed)


def code_identity(model: Model, configuration: object = ()) -> str:
    """Return ``sha256:…`` of everything that decides how a run of ``model`` goes, beside its data.

    It covers the definition, the code that trains, the metric that decides with its direction and the code of a
    function of the user's own, the packages that were installed when this process first asked, and ``configuration``,
    plain settings such as the trusted types. It is cheap, as unchanged files are not read again.
    """
    code, metric = training_code(model.train_function), model.gate.decides_by
    parts = [model.version, code.function, code.modules, code.bound, _installed(), _described(configuration)]
    if metric not in METRICS.values():
        parts += [_described(metric), _modules(metric)]
    return _sha(json.dumps(parts, sort_keys=True))


def short_identity(model: Model, trusted: Sequence[str] = ()) -> str:
    """Return sixteen digits of :func:`code_identity`, with the ``trusted`` types in any order."""
    return code_identity(model, sorted(trusted)).removeprefix("sha256:")[:16]


@cache
def _installed() -> str:
    return _sha("\n".join(sorted(f"{found.name} {found.version}" for found in distributions())))


def _function_hash(train: TrainFunction) -> str:
    of: Any = train
    while isinstance(of, partial):
        of = of.func
    if isinstance(of, EstimatorTraining) or not hasattr(of, "__qualname__"):
        of = type(getattr(of, "estimator", of))
    try:
        source = inspect.getsource(of)
    except (OSError, TypeError):
        source = f"{of.__module__}.{of.__qualname__}"
    return _sha(source)


def _bound(train: TrainFunction) -> Any:
    match train:
        case partial():
            return [_bound(train.func), list(train.args), dict(train.keywords)]
        case EstimatorTraining():
            return train.estimator
        case FunctionType() | BuiltinFunctionType():
            return None
        case MethodType():
            return train.__self__
    return train


# -- modules ----------------------------------------------------------------------------------------------------------


def _modules(train: TrainFunction | Metric) -> dict[str, str]:
    """Return the hash of every module of the project that is reached, by its name."""
    found: dict[str, str] = {}
    followed: set[str] = set()
    waiting = list(_named(train, 0))
    while waiting:
        name, path, whole = waiting.pop()
        if path is None or not _is_ours(name, path):
            continue
        read = _read(path, _stamp(path))
        found[name] = read.hash
        if whole and name not in followed:
            followed.add(name)
            waiting += _imported(name, path, read)
    return dict(sorted(found.items()))


def _named(value: Any, depth: int) -> Iterator[tuple[str, Path | None, bool]]:
    """Yield the modules of the functions and classes in a train function and in what is bound to it."""
    if depth > _DEEPEST or value is None or isinstance(value, str | int | float | bytes):
        return
    match value:
        case partial():
            parts: list[Any] = [value.func, *value.args, *value.keywords.values()]
        case EstimatorTraining():
            parts = [value.estimator]
        case FunctionType():
            yield _module_of(value.__module__, value.__globals__.get("__file__"))
            parts = _enclosed(value)
        case MethodType():
            parts = [value.__func__, value.__self__]
        case type():
            yield _module_of(value.__module__, None)
            return
        case dict():
            parts = [*value, *value.values()]
        case list() | tuple() | set() | frozenset():
            parts = list(value)
        case _:
            parts = [type(value), getattr(value, "__dict__", None)]
    for part in parts:
        yield from _named(part, depth + 1)


def _module_of(name: str, file: str | None) -> tuple[str, Path | None, bool]:
    path = _path_of(name)
    return name, Path(file) if path is None and file else path, True


def _path_of(name: str) -> Path | None:
    """Return the source file of a module, which need not be imported. Nothing is imported."""
    module = sys.modules.get(name)
    if module is not None:
        file = getattr(module, "__file__", None)
        return Path(file) if file else None
    parent, _, own = name.rpartition(".")
    folders = getattr(sys.modules.get(parent), "__path__", None) if parent else sys.path
    for folder in folders or ():
        for path in (Path(folder) / own / "__init__.py", Path(folder) / f"{own}.py"):
            if path.is_file():
                return path
    return None


def _imported(name: str, path: Path, read: _Source) -> Iterator[tuple[str, Path | None, bool]]:
    """Yield what a module imports. Its parents, whose code ran before it, are not followed further."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for base, taken in read.imports:
        try:
            module = importlib.util.resolve_name(base, package) if base.startswith(".") else base
        except ImportError:
            continue
        inner = f"{module}.{taken}"
        inner_path = _path_of(inner) if taken else None
        yield inner, inner_path, True
        yield module, _path_of(module), inner_path is None
    parts = name.split(".")
    for end in range(1, len(parts)):
        parent = ".".join(parts[:end])
        yield parent, _path_of(parent), False


@lru_cache(maxsize=1)
def _foreign() -> tuple[Path, ...]:
    places = {
        path for key, path in sysconfig.get_paths().items() if key in {"stdlib", "platstdlib", "purelib", "platlib"}
    }
    return tuple(Path(place).resolve() for place in places)


@lru_cache(maxsize=4_096)
def _is_ours(name: str, path: Path) -> bool:
    if name.partition(".")[0] in {"headrace", *sys.stdlib_module_names} or path.suffix != ".py":
        return False
    whole = path.resolve()
    return not any(whole.is_relative_to(place) for place in _foreign()) and "site-packages" not in whole.parts


@dataclass(frozen=True)
class _Source:
    hash: str
    imports: tuple[tuple[str, str], ...]


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=4_096)
def _read(path: Path, _: tuple[int, int]) -> _Source:
    try:
        data = path.read_bytes()
        tree = ast.parse(data)
    except (OSError, SyntaxError, ValueError):
        return _Source(_sha(str(path)), ())
    return _Source("sha256:" + hashlib.sha256(data).hexdigest(), tuple(_imports(tree)))


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the imports, those inside functions too: a module, and the name that is taken from it or nothing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)


# -- bound values -----------------------------------------------------------------------------------------------------


def _described(value: Any, depth: int = 0) -> Any:
    """Return a value as plain data that is the same in every process: no addresses, sets in order."""
    if depth > _DEEPEST:
        return "…"
    match value:
        case None | bool() | int() | float() | str():
            return value
        case dict():
            return ["dict", sorted(_each(value.items(), depth), key=repr)]
        case list() | tuple():
            return _each(value, depth)
        case set() | frozenset():
            return ["set", sorted(_each(value, depth), key=repr)]
    return _described_object(value, depth)


def _described_object(value: Any, depth: int) -> Any:
    match value:
        case bytes():
            return ["bytes", hashlib.sha256(value).hexdigest()]
        case np.ndarray() if value.dtype != object:
            return ["array", str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
        case partial():
            return ["partial", *_each([value.func, value.args, value.keywords], depth)]
        case MethodType():
            return ["method", value.__func__.__qualname__, *_each([value.__self__], depth)]
        case FunctionType() | BuiltinFunctionType() | type():
            name, enclosed = f"{value.__module__}:{value.__qualname__}", _each(_enclosed(value), depth)
            return [name, *enclosed] if enclosed else name
    content = getattr(value, "__dict__", None)
    plain = _ADDRESS.sub("", repr(value)) if content is None else _described(content, depth + 1)
    return [train_name(type(value)), plain]


def _enclosed(function: Any) -> list[Any]:
    """Return the values that a function has from the function in which it was defined."""
    cells = getattr(function, "__closure__", None) or ()
    return [cell.cell_contents for cell in cells if cell != CellType()]  # an empty cell has no contents


def _each(values: Iterable[Any], depth: int) -> list[Any]:
    return [_described(part, depth + 1) for part in values]


def _sha(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
