"""Children that do not answer as they should, and ports."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from driftline.core.error import BrokerError
from driftline.devbroker.node import HOST, PORTS, free_port, port_is_free, read_line, stop_process


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        stop_process(process, 5.0)


def child(children: list[subprocess.Popen[bytes]], code: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    children.append(process)
    return process


def test_a_line_that_comes_in_parts_is_read_whole(children: list[subprocess.Popen[bytes]]) -> None:
    code = "import os; os.write(1, b'{\"a\": '); os.write(1, b'1}\\n'); input()"
    assert read_line(child(children, code), 20.0) == {"a": 1}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("input()", "printed nothing"),
        ("raise SystemExit(5)", "status 5"),
        ("print('no json', flush=True); input()", "printed"),
        ("print('[1]', flush=True); input()", "printed"),
    ],
)
def test_a_child_that_does_not_answer_is_an_error(
    children: list[subprocess.Popen[bytes]], code: str, message: str
) -> None:
    with pytest.raises(BrokerError, match=message):
        read_line(child(children, code), 0.5 if code == "input()" else 20.0)


def test_a_port_that_is_listened_on_is_not_free() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        assert not port_is_free(port)
    assert port_is_free(port)


def test_free_ports_lie_below_those_of_outgoing_connections() -> None:
    port = free_port()
    assert port in PORTS
    assert port < 32_768
