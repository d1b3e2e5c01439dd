"""The Helm chart against Kubernetes' schemas; no cluster is needed, and none is promised to have run it."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer
import yaml

from headrace.app.cli import build
from headrace.app.project.settings_sources import load_settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "chart"
BESIDE_PYTHON = Path(sys.executable).with_name("helm")
HELM = str(BESIDE_PYTHON) if BESIDE_PYTHON.exists() else shutil.which("helm")
needs_helm = pytest.mark.skipif(HELM is None, reason="no helm: `make helm` builds it with Go")
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VERSIONS = ("1.25", "1.37")
PLACES = {
    "HEADRACE_BOOTSTRAP_SERVERS": "kafka:9092",
    "HEADRACE_EVENT_LOG": "s3://bucket/events",
    "HEADRACE_REGISTRY_URI": "http://mlflow:5000",
    "HEADRACE_ARTIFACTS": "s3://bucket/models",
}
LEAST: dict[str, Any] = {"settings": PLACES}
SCALED = {"keda": {"enabled": True, "topics": ["payments", "refunds"], "authenticationRef": "kafka"}}
MOST: dict[str, Any] = {
    "settings": PLACES | {"HEADRACE_NAMESPACE": "shop", "HEADRACE_BATCH_SIZE": 1000},
    "image": {"repository": "registry/project", "tag": "7", "pullSecrets": ["registry"]},
    "existingSecret": "headrace-secrets",
    "certificateSecrets": ["kafka-ca", "redis-ca"],
    "existingClaim": "events",
    "serviceAccount": {"name": "headrace", "mountToken": True},
    "podAnnotations": {"a": "b"}, "podLabels": {"team": "cards"}, "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "batch", "operator": "Exists"}],
    "worker": SCALED | {"arguments": ["--log-level", "debug"]},
    "applications": [{"name": "score-delay", "model": "delay", "replicas": 2}, {"name": "b", "model": "fraud"}],
    "process": {"enabled": True, "replicas": 3},
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
}  # fmt: skip
FEWEST: dict[str, Any] = {
    "settings": PLACES, "worker": {"disruptionBudget": False},
    "trainer": {"enabled": False}, "serve": {"enabled": False},
}  # fmt: skip
CASES = {"least": LEAST, "most": MOST, "fewest": FEWEST}
FIELDS_OF_OTHERS = {
    "ScaledObject": {
        "scaleTargetRef", "minReplicaCount", "maxReplicaCount", "idleReplicaCount", "cooldownPeriod",
        "initialCooldownPeriod", "pollingInterval", "triggers", "advanced", "fallback",
    },
    "PodMonitor": {"selector", "podMetricsEndpoints", "namespaceSelector", "jobLabel", "podTargetLabels"},
}  # fmt: skip


@functools.cache
def helm(*words: str, values: str) -> subprocess.CompletedProcess[str]:
    assert HELM is not None
    return subprocess.run([HELM, *words, "-f", "-"], input=values, capture_output=True, text=True, check=False)


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    done = helm("template", "prod", str(CHART), values=json.dumps(values))
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def pods(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = rendered(values)
    return {each["metadata"]["name"]: each for each in found if each["kind"] in {"Deployment", "StatefulSet"}}


def container(workload: dict[str, Any]) -> dict[str, Any]:
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(only)


@needs_helm
@pytest.mark.parametrize("name", CASES)
def test_helm_lint_has_no_word(name: str) -> None:
    done = helm("lint", "--strict", str(CHART), values=json.dumps(CASES[name]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout


@needs_helm
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", CASES)
def test_objects_follow_the_schemas_of_kubernetes(name: str, version: str) -> None:
    for each in rendered(CASES[name]):
        if each["kind"] in FIELDS_OF_OTHERS:
            assert set(each["spec"]) <= FIELDS_OF_OTHERS[each["kind"]]
        else:
            kubernetes_validate.validate(each, version, strict=True)


@needs_helm
def test_a_wrong_object_is_found_by_these_schemas() -> None:
    wrong = pods(LEAST)["prod-worker"] | {"spec": {"replicas": "two"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@needs_helm
@pytest.mark.parametrize("name", CASES)
def test_a_pod_has_no_right_that_it_does_not_need(name: str) -> None:
    for workload in pods(CASES[name]).values():
        pod, only = workload["spec"]["template"]["spec"], container(workload)
        assert pod["securityContext"]["runAsNonRoot"]
        assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == image_user()
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is (name == "most")
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} <= set(only["resources"])
        assert {mount["name"] for mount in only["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def image_user() -> str:
    (user,) = re.findall(r"^USER (.*)$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    return str(user)


@needs_helm
@pytest.mark.parametrize("name", CASES)
def test_each_role_is_a_command_with_options_that_exist(name: str) -> None:
    commands = typer.main.get_group(build()).commands
    for workload in pods(CASES[name]).values():
        command, *rest = container(workload)["args"]
        options = {option for parameter in commands[command].params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options


@needs_helm
@pytest.mark.parametrize("name", CASES)
def test_settings_are_read_by_headrace(name: str, tmp_path: Path) -> None:
    (told,) = [each["data"] for each in rendered(CASES[name]) if each["kind"] == "ConfigMap"]
    settings = load_settings(environ=told, folder=tmp_path)
    assert settings.bootstrap_servers == "kafka:9092"
    assert settings.metrics_host == "0.0.0.0"
    assert str(settings.event_log) == PLACES["HEADRACE_EVENT_LOG"]


@needs_helm
def test_probes_ask_the_port_that_the_role_serves() -> None:
    for name, workload in pods(MOST).items():
        only = container(workload)
        if "--application" in only["args"]:
            assert "livenessProbe" not in only
            continue
        (port,) = only["ports"]
        told = "--port" if name == "prod-serve" else "--metrics-port"
        assert only["args"][only["args"].index(told) + 1] == str(port["containerPort"])
        assert only["livenessProbe"]["httpGet"] == {"path": "/livez", "port": port["name"]}
        assert only["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}


@needs_helm
def test_keda_counts_the_lag_of_the_workers_group_and_owns_the_number_of_workers() -> None:
    found = rendered(MOST)
    assert "replicas" not in pods(MOST)["prod-worker"]["spec"]
    (scaled,) = [each for each in found if each["kind"] == "ScaledObject"]
    assert scaled["spec"]["scaleTargetRef"] == {"name": "prod-worker"}
    assert scaled["spec"]["minReplicaCount"] == 1
    first, second = (trigger["metadata"] for trigger in scaled["spec"]["triggers"])
    assert (first["topic"], second["topic"]) == ("payments", "refunds")
    assert first["consumerGroup"] == "shop-workers"
    assert first["lagThreshold"] == "50000"
    assert pods(LEAST)["prod-worker"]["spec"]["replicas"] == DEFAULTS["worker"]["replicas"]


@needs_helm
def test_selectors_choose_the_pods_of_one_component() -> None:
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in pods(MOST).values()]
    for each in rendered(MOST):
        chosen = each["spec"].get("selector", {}) if each["kind"] in {"Service", "PodDisruptionBudget"} else None
        if chosen is not None:
            wanted = chosen.get("matchLabels", chosen)
            assert sum(wanted.items() <= own.items() for own in labels) == 1


@needs_helm
def test_a_trainer_is_alone_and_processors_keep_their_names() -> None:
    trainer = pods(LEAST)["prod-trainer"]["spec"]
    assert (trainer["replicas"], trainer["strategy"]) == (1, {"type": "Recreate"})
    assert pods(MOST)["prod-process"]["kind"] == "StatefulSet"


@needs_helm
@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({}, "HEADRACE_BOOTSTRAP_SERVERS"),
        (LEAST | {"worker": {"keda": SCALED["keda"] | {"minReplicas": 0}}}, "minReplicas"),
        (LEAST | {"worker": {"keda": {"enabled": True}}}, "topics"),
        (LEAST | {"workers": {}}, "workers"),
        ({"settings": PLACES | {"HEADRACE_KAFKA__SASL_PASSWORD": "x"}}, "settings"),
        ({"settings": PLACES | {"headrace_namespace": "x"}}, "headrace_namespace"),
        (LEAST | {"applications": [{"name": "Score", "model": "delay"}]}, "applications"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], word: str) -> None:
    done = helm("template", "prod", str(CHART), values=json.dumps(values))
    assert done.returncode != 0
    assert word in done.stderr


def test_the_schema_knows_every_value() -> None:
    values = DEFAULTS | {"settings": PLACES}
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(values, SCHEMA)
    assert set(SCHEMA["properties"]) - {"global"} == set(DEFAULTS)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(DEFAULTS, SCHEMA)
