"""The examples in the docstrings of the public definitions run, and print what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = [
    "bus.event",
    "bus.formats.avro",
    "bus.formats.cloud_events",
    "bus.formats.debezium",
    "bus.formats.json_format",
    "bus.formats.json_schema",
    "bus.formats.protobuf",
    "bus.stream",
    "trainers.metrics.expected_cost",
    "trainers.metrics.named_metrics",
    "trainers.metrics.own_metric",
    "trainers.definitions",
    "trainers.gate_definition",
    "trainers.model_spec",
    "trainers.triggers.consecutive",
    "trainers.triggers.hysteresis",
    "trainers.triggers.rule_conformance",
    "trainers.triggers.rules",
    "features.definitions.aggregates",
    "features.definitions.entity",
    "features.definitions.expression",
    "features.definitions.service",
    "features.definitions.view",
    "features.definitions.windows",
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_print_what_its_docstrings_say(name: str) -> None:
    module = importlib.import_module(f"headrace.{name}")
    found = [test for test in doctest.DocTestFinder().find(module, globs={"__name__": "__main__"}) if test.examples]
    failures: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)  # else it takes pytest's -v for its own
    for test in found:
        runner.run(test, out=failures.append)
    assert found
    assert not failures, "\n".join(failures)
