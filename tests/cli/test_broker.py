"""`driftline broker`: its first line is the address, it stays, and it leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from driftline.devbroker.kafka import answers
from driftline.devbroker.node import HOST, free_port, wait_for
from tests.cli.command import line, run, run_process, start
from tests.devbroker.test_guard import runs

pytestmark = pytest.mark.slow


def children(pid: int) -> list[int]:
    """Process ids of the children of a process."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def first_line(process: subprocess.Popen[str]) -> str:
    return line(process, "stdout").strip()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for children in /proc, which only Linux has")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_embedded_runs_until_a_signal(started: list[subprocess.Popen[str]], number: signal.Signals) -> None:
    process = start("broker", "--kind", "embedded")
    started.append(process)
    host, _, port = first_line(process).partition(":")
    assert (host, answers(int(port))) == (HOST, True)
    (child,) = children(process.pid)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stdout) == (0, "")
    assert "5 MB per partition" in stderr  # its limits
    assert "Traceback" not in stderr
    assert not runs(child)


def test_embedded_makes_the_topics_of_a_pipeline(started: list[subprocess.Popen[str]], pipeline_file: Path) -> None:
    process = start("broker", "-p", pipeline_file, "--partitions", "1", "--json")
    started.append(process)
    shown = json.loads(first_line(process))
    assert shown["kind"] == "embedded"
    made = run("topics", "create", "-p", pipeline_file, "--bootstrap", shown["bootstrap"], "--json")
    topics = json.loads(made.stdout)["topics"]
    assert {(one["created"], one["partitions"]) for one in topics} == {(False, 1)}


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for children in /proc, which only Linux has")
def test_a_broker_that_ends_by_itself_is_an_error(started: list[subprocess.Popen[str]]) -> None:
    process = start("broker")
    started.append(process)
    first_line(process)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 3
    assert "stopped unexpectedly" in stderr


@pytest.mark.parametrize(
    "options", [("--port", "9092"), ("--data", "here"), ("--partitions", "1")], ids=lambda options: options[0]
)
def test_what_the_embedded_broker_cannot_do_is_wrong_usage(options: tuple[str, str]) -> None:
    done = run_process("broker", "--kind", "embedded", *options)
    assert done.returncode == 2
    assert "embedded broker" in done.stderr


def test_kafka_runs_until_sigterm_with_its_data_kept(
    kafka_needs: None, started: list[subprocess.Popen[str]], tmp_path: Path, pipeline_file: Path
) -> None:
    port = free_port()
    process = start("broker", "--kind", "kafka", "--port", str(port), "--data", tmp_path / "data", "-p", pipeline_file)
    started.append(process)
    assert first_line(process) == f"{HOST}:{port}"
    checked = run("topics", "check", "-p", pipeline_file, "--bootstrap", f"{HOST}:{port}")
    assert checked.returncode == 0, checked.stderr
    process.terminate()
    process.communicate(timeout=40)
    assert process.returncode == 0
    assert wait_for(lambda: not answers(port), 10)
    assert (tmp_path / "data" / "log" / "cards.journal-0").is_dir()


def test_a_port_that_is_taken_ends_in_3(kafka_needs: None, tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as server:
        port = str(server.getsockname()[1])
        done = run_process("broker", "--kind", "kafka", "--port", port, "--data", tmp_path)
    assert done.returncode == 3
    assert f"port {port}" in done.stderr
    assert done.stdout == ""


def test_no_java_ends_in_3_and_says_what_to_install(tmp_path: Path) -> None:
    done = run_process("broker", "--kind", "kafka", PATH=str(tmp_path), JAVA_HOME="")
    assert done.returncode == 3
    assert "Java 17 or later" in done.stderr
    assert "apt install" in done.stderr
