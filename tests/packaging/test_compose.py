"""docker-compose.yml against the Compose specification; no engine is needed, and none is promised to have run it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from compose_spec import PyCompose

from headrace.app.cli import build
from headrace.app.project.settings_sources import load_settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ROLES = ("worker", "trainer", "application", "serve")
SERVERS = ("kafka", "redis", "registry-database", "mlflow", "prometheus")


def test_compose_file_follows_the_specification() -> None:
    parsed = PyCompose.from_yaml(yaml.safe_dump(COMPOSE))
    parsed.validate()
    assert set(parsed.service_names()) == {*SERVERS, *ROLES}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check_and_keeps_its_data(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    for place, *_, mode in (volume.split(":") for volume in service["volumes"]):
        assert place in COMPOSE["volumes"] or ((ROOT / place).is_dir() and mode == "ro")


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_right_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert (service["init"], service["read_only"], service["cap_drop"]) == (True, True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    user, _, group = service["user"].partition(":")
    assert int(user) > 0, "a number: a runtime that refuses root cannot look a name up"
    assert int(group) > 0
    assert any(place.startswith("/tmp") for place in service["tmpfs"])
    assert "privileged" not in service
    assert "cap_add" not in service


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    users = re.findall(r"^USER (.*)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert users == [SERVICES["worker"]["user"]]


def test_hadolint_finds_nothing_in_the_image() -> None:
    found = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "--no-color", str(DOCKERFILE)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stdout) == (0, "")


def test_the_image_installs_with_the_uv_of_the_makefile() -> None:
    wanted = re.findall(r"^UV_VERSION := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r'pip install "uv==(.*?)"', DOCKERFILE.read_text()) == wanted


def test_the_image_has_extras_that_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (told,) = re.findall(r"^ARG EXTRAS=(.*)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert set(told.split(",")) <= set(extras)


@pytest.mark.parametrize("name", ROLES)
def test_a_role_waits_for_healthy_servers(name: str) -> None:
    conditions = SERVICES[name]["depends_on"]
    assert conditions == {server: {"condition": "service_healthy"} for server in ("kafka", "redis", "mlflow")}


@pytest.mark.parametrize("name", ROLES)
def test_a_role_is_a_command_and_its_environment_settings(name: str, tmp_path: Path) -> None:
    commands = typer.main.get_group(build()).commands
    assert SERVICES[name]["command"][0] in commands
    probe = SERVICES[name]["healthcheck"]["test"]
    assert probe[1:] == ["headrace", "ping"] or "/readyz" in probe[-1]
    settings = load_settings(environ=SERVICES[name]["environment"], folder=tmp_path)
    assert settings.bootstrap_servers == "kafka:19092"


def test_prometheus_reads_the_roles_at_the_ports_that_they_serve() -> None:
    told = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    places = {job["job_name"]: job["dns_sd_configs"][0] for job in told["scrape_configs"]}
    environment = SERVICES["worker"]["environment"]
    assert {name: (place["names"], place["port"]) for name, place in places.items()} == {
        "worker": (["worker"], int(environment["HEADRACE_METRICS_PORT"])),
        "trainer": (["trainer"], int(environment["HEADRACE_TRAINER_METRICS_PORT"])),
        "serve": (["serve"], 8080),
    }


def test_compose_file_has_no_secret_and_opens_no_port_to_the_world() -> None:
    assert not re.search(r"(?i)password|secret:|token|api_key", TEXT)
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_the_image_copies_only_what_exists() -> None:
    for line in DOCKERFILE.read_text().splitlines():
        words = line.split()
        if words[:1] == ["COPY"] and not words[1].startswith("--"):
            for source in words[1:-1]:
                assert (ROOT / source).exists(), line
