"""`driftline worker`, where it ends before it reads anything."""

from __future__ import annotations

import socket

import pytest

from driftline.cli.worker import check_port
from driftline.core.error import SettingsError


def test_a_port_that_is_taken_is_told_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"127\.0\.0\.1:{port}: Address already in use.*--web-port"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_a_host_that_is_not_ours_is_told() -> None:
    with pytest.raises(SettingsError, match="--web-host"):
        check_port("192.0.2.1", 0)
