"""The compose file says nothing that is not so: what can be checked of it without a container engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from driftline.cli import main
from driftline.config import load_pipeline, load_settings
from driftline.devbroker.java import kafka_version
from driftline.kafka.topic_rule import names

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.kafka.yml"


def with_defaults(text: str) -> str:
    """`${NAME:-default}` as it is where NAME is not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(with_defaults(COMPOSE.read_text("utf-8")))["services"]
    return found


def ours(services: dict[str, Any]) -> dict[str, Any]:
    """The services built from our Dockerfile."""
    return {name: service for name, service in services.items() if "build" in service}


def test_a_single_node_topics_a_worker_prometheus_and_grafana(services: dict[str, Any]) -> None:
    assert list(services) == ["kafka", "topics", "worker", "prometheus", "grafana"]
    assert services["kafka"]["image"] == f"apache/kafka:{kafka_version()}"
    assert "healthcheck" in services["kafka"]


def test_every_file_that_is_mounted_exists(services: dict[str, Any]) -> None:
    mounted = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())]
    files = [path for path in mounted if path.startswith(".")]
    assert len(files) == 6
    assert all((ROOT / path).exists() for path in files)


def test_every_command_exists_and_takes_its_arguments(services: dict[str, Any]) -> None:
    assert set(ours(services)) == {"topics", "worker"}
    for service in ours(services).values():
        command: click.Command = main
        arguments = list(service["command"])
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), arguments.pop(0))
            assert found is not None
            command = found
        command.make_context(command.name, arguments)  # fails where an argument is wrong or missing


def test_every_setting_is_one_and_the_pipeline_is_right(services: dict[str, Any]) -> None:
    for service in ours(services).values():
        environment = {name: str(value) for name, value in service["environment"].items()}
        settings = load_settings(environment)
        for name, value in environment.items():
            assert str(getattr(settings, name.removeprefix("DRIFTLINE_").lower())) == value
        targets = {volume.split(":")[1]: volume.split(":")[0] for volume in service["volumes"]}
        pipeline = load_pipeline(ROOT / targets[str(settings.pipeline)])
        assert len(names(pipeline)) == 9


def test_services_reach_kafka_inside_and_users_outside(services: dict[str, Any]) -> None:
    kafka = services["kafka"]["environment"]
    advertised = dict(one.split("://") for one in kafka["KAFKA_ADVERTISED_LISTENERS"].split(","))
    listeners = dict(one.split("://") for one in kafka["KAFKA_LISTENERS"].split(","))
    inside = {service["environment"]["DRIFTLINE_BOOTSTRAP"] for service in ours(services).values()}
    assert inside == {advertised["INSIDE"]}
    port = advertised["OUTSIDE"].rpartition(":")[2]
    assert services["kafka"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    for name, address in advertised.items():
        assert listeners[name].rpartition(":")[2] == address.rpartition(":")[2]
    assert set(kafka["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")) == {f"{name}:PLAINTEXT" for name in listeners}


def test_each_waits_for_what_it_needs(services: dict[str, Any]) -> None:
    assert services["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert services["worker"]["depends_on"] == {"topics": {"condition": "service_completed_successfully"}}


def test_nothing_is_open_to_the_network(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_prometheus_scrapes_the_worker_where_it_serves(services: dict[str, Any]) -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text("utf-8"))
    (job,) = config["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    port = services["worker"]["environment"]["DRIFTLINE_WEB_PORT"]
    assert (found["names"], found["port"], job["metrics_path"]) == (["worker"], port, "/metrics")
    assert services["worker"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"127.0.0.1:{port}/health/live" in " ".join(services["worker"]["healthcheck"]["test"])


def test_the_image_is_built_from_files_that_are_sent_to_it() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ")]
    copied = [part for parts in copies if not parts[0].startswith("--from=") for part in parts]
    stages = {line.split(" AS ")[1] for line in lines if line.startswith("FROM ") and " AS " in line}
    assert {parts[0].removeprefix("--from=") for parts in copies if parts[0].startswith("--from=")} <= stages
    sent = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert copied
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}" in sent
    assert any(line.startswith("USER ") and line != "USER root" for line in lines)


def test_the_image_has_a_python_that_the_project_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = re.fullmatch(r">=3\.(\d+)", project["requires-python"])
    base = re.search(r"^FROM python:3\.(\d+)\.\d+-slim$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert wanted is not None
    assert base is not None
    assert int(base[1]) >= int(wanted[1])


def test_docker_itself_takes_the_file() -> None:
    ways = [
        [found, *more] for name, *more in (("docker", "compose"), ("docker-compose",)) if (found := shutil.which(name))
    ]
    here = [way for way in ways if not subprocess.run([*way, "version"], capture_output=True, check=False).returncode]
    if not here:
        pytest.skip("`docker compose` is not here; install Docker with its compose plugin, or Compose by itself")
    command = [*here[0], "-f", str(COMPOSE), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
