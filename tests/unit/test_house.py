"""Rules of the house about names, sizes and constructors. CONTRIBUTING.md tells the reasons."""

from __future__ import annotations

import ast
from collections import defaultdict
from fnmatch import fnmatch
from graphlib import TopologicalSorter
from pathlib import Path

import msgspec
import pytest

from headrace.bus import stream_spec
from headrace.features.definitions import feature_spec, service_spec, view_spec, windows
from tests.support.source_tree import SourceFile, python_files

ROOT = Path(__file__).parents[2]
SOURCE = python_files("src/headrace")
LEAST_LINES, MOST_LINES, MOST_PARAMETERS = 40, 400, 7

SAME_NAME: dict[str, str] = {}
"""Names that may be defined more than once, each with its reason."""

SMALL = {
    "*__init__.py": "the face of a package",
    "app/commands/*": "one command",
    "__main__.py": "what `python -m headrace` runs",
    "version.py": "one number",
    "app/doctor/finding.py": "the answer of every check of the doctor",
    "base/fork_server.py": "what a fork server imports first",
    "bus/control.py": "the messages of the demo's barriers: several rooms read them",
    "event_log/columns.py": "the columns and verdicts that every room knows",
    "features/kernel/sorting.py": "one order for the kernel and for what reads the log",
    "streams/deployments/kafka_deployment_log.py": "the adapter of a port",
    "streams/plane/plane_metrics.py": "a port, with nothing behind it",
}
"""Files that may be smaller, as patterns with their reasons. So may every file that defines ports alone."""

LARGE: dict[str, str] = {}
"""Files that may be larger, each with its reason."""

WIDE: dict[str, str] = {}
"""Classes whose constructors may take more, each with its reason."""

SPECS = (stream_spec, feature_spec, view_spec, service_spec, windows)
NO_SPEC: dict[str, str] = {
    "app/commands/config.py: row['value']": "a setting, for the terminal",
    "app/commands/audit.py: each['key']": "a vector, for the terminal",
    "app/demo/processes.py: self._ask({'event': event_id, 't_us': t_us})['version']": "the answer of another process",
    "app/commands/config.py: row['name']": "a setting, for the terminal",
    "features/definitions/spec.py: document['features']": "the order of the keys on the wire",
    "streams/deployments/deployment.py: plain['views']": "a deployment on the wire",
    "bus/formats/avro.py: each['name']": "a field of an Avro schema",
    "bus/schemas/readable_avro.py: schema['name']": "a record of an Avro schema",
    "bus/schemas/readable_avro.py: schema['fields']": "the fields of a record of an Avro schema",
    "bus/schemas/protobuf_values.py: field.message_type.fields_by_name['value']": "the value of a Protobuf map",
    "feast/source.py: found['format']": "the version of a message in Feast's registry",
    "features/kernel/field.py: records['clock']": "an array of numpy",
    "features/kernel/sketches.py: entries['value']": "an array of numpy",
    "app/model_versions.py: pin['topic']": "a description of a version, for the terminal",
    "trainers/triggers/performance_rule.py: inputs['value']": "the numbers of a decision",
}
"""Subscripts with a name that specs have too, each with what it reads instead."""


def test_a_class_or_alias_name_is_defined_once() -> None:
    places = defaultdict(list)
    for file in SOURCE:
        for name, line in [*((found.name, found.lineno) for found in file.classes), *file.aliases()]:
            places[name.lstrip("_")].append(f"{file.name}:{line}")
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert {name: found for name, found in twice.items() if name not in SAME_NAME} == {}
    assert SAME_NAME.keys() <= twice.keys(), "an exception that nothing needs"


@pytest.mark.parametrize("file", SOURCE, ids=repr)
def test_a_file_has_40_to_400_lines(file: SourceFile) -> None:
    may_be_small = any(fnmatch(file.name, pattern) for pattern in SMALL) or has_ports_alone(file)
    assert file.lines >= LEAST_LINES or may_be_small, f"{file.lines} lines: put it where it is used"
    assert file.lines <= MOST_LINES or file.name in LARGE, f"{file.lines} lines: it holds more than one thing"


@pytest.mark.parametrize("file", SOURCE, ids=repr)
def test_a_docstring_says_something_itself(file: SourceFile) -> None:
    documented = (node for node in ast.walk(file.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    assert [node.name for node in documented if (ast.get_docstring(node) or "").startswith("See ")] == []


def has_ports_alone(file: SourceFile) -> bool:
    """Whether every class of the file is a Protocol or an abstract class, and there is one."""
    bases = [{ast.unparse(base).partition("[")[0] for base in found.bases} for found in file.classes]
    return bool(bases) and all(of_one & {"Protocol", "ABC"} for of_one in bases)


def test_a_constructor_takes_at_most_seven_parameters() -> None:
    wide = {
        f"{file.name}:{found.name}": count
        for file in SOURCE
        for found in file.classes
        if (count := parameters(found)) > MOST_PARAMETERS
    }
    assert {name: count for name, count in wide.items() if name not in WIDE} == {}
    assert WIDE.keys() <= wide.keys(), "an exception that nothing needs"


def parameters(found: ast.ClassDef) -> int:
    """How many parameters the constructor has beside `self`; 0 if the class has none of its own."""
    made = [each for each in found.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
    return max((len(own.args.posonlyargs + own.args.args + own.args.kwonlyargs) - 1 for own in made), default=0)


@pytest.mark.parametrize("pattern", [*SMALL, *LARGE])
def test_an_exception_for_a_size_names_a_file(pattern: str) -> None:
    assert any(fnmatch(file.name, pattern) for file in SOURCE)


def test_a_spec_is_read_by_attribute_and_never_by_a_string() -> None:
    names = wire_names()
    assert {"entity", "windows", "features", "topic", "views", "aggregate"} <= names
    found = {
        f"{file.name}: {ast.unparse(node)}"
        for file in SOURCE
        for node in ast.walk(file.tree)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value in names
    }
    assert {each for each in found if each not in NO_SPEC} == set()
    assert NO_SPEC.keys() <= found, "an exception that nothing needs"


def wire_names() -> set[str]:
    """The names that the fields of specs have in JSON."""
    structs = [
        kind
        for module in SPECS
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
    ]
    tags = {kind.__struct_config__.tag_field for kind in structs}
    return {field.encode_name for kind in structs for field in msgspec.structs.fields(kind)} | {t for t in tags if t}


def test_a_virtual_environment_that_is_a_link_is_ignored_too() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert ".venv*" in ignored
    assert ".venv*/" not in ignored, "with a slash git ignores a folder, and not a link to one"


def test_no_file_imports_itself_by_way_of_others() -> None:
    known = {module_name(file): file for file in SOURCE}
    imports = {name: {found for found in imported(file) if found in known} - {name} for name, file in known.items()}
    assert imports["headrace.features.definitions.view"] >= {"headrace.features.definitions.view_spec"}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the files


def module_name(file: SourceFile) -> str:
    return "headrace." + file.name.removesuffix(".py").replace("/", ".")


def imported(file: SourceFile) -> set[str]:
    """The modules that a file imports, also those for type checkers alone and those inside functions."""
    found = [node for node in ast.walk(file.tree) if isinstance(node, ast.ImportFrom) and node.module]
    return {node.module or "" for node in found} | {
        f"{node.module}.{name.name}" for node in found for name in node.names
    }
