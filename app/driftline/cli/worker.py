"""`driftline worker`: one process that scores, learns and detects drift, until it is stopped."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path

import faust

from driftline.config import load_pipeline, load_settings
from driftline.core.error import DriftlineError, SettingsError, UnreachableError
from driftline.engine.trust import Unsigned
from driftline.kafka.topic import verify
from driftline.main import Host, start_of


def worker(
    pipeline: Path | None,
    bootstrap: str | None,
    overrides: tuple[str, ...],
    web_host: str | None,
    web_port: int | None,
    notify: Path | None,
    reset_state: bool,
    on_gap: str,
    unsigned: Unsigned,
    unsigned_models: bool | None,
    log_level: str | None,
) -> None:
    """What `driftline worker` does."""
    flags = {
        "pipeline": pipeline,
        "bootstrap": bootstrap,
        "web_host": web_host,
        "web_port": web_port,
        "notify": notify,
        "accept_unsigned_models": unsigned_models,
        "log_level": log_level,
    }
    settings = load_settings(flags=flags)
    if settings.pipeline is None:
        raise SettingsError("no pipeline: give its file with -p FILE, or set DRIFTLINE_PIPELINE")
    loaded = load_pipeline(settings.pipeline, overrides)
    check_port(settings.web_host, settings.web_port)
    with suppress(UnreachableError):  # the worker waits for it
        asyncio.run(verify(loaded, settings))  # here, so that a wrong topic or password is one clear message
    start = start_of(settings, reset_state=reset_state, gap_continue=on_gap == "continue", unsigned=unsigned)
    host = Host(loaded, settings, start)
    try:
        faust.Worker(
            host.app, loglevel=settings.log_level, quiet=True, redirect_stdouts=False
        ).execute_from_commandline()
    except SystemExit:
        failure = host.engine.failure if host.engine is not None else None
        if isinstance(failure, DriftlineError):
            raise failure from None
        raise


def check_port(host: str, port: int) -> None:
    """Whether pages can be served there: Faust says so with a traceback only.

    Raises:
        SettingsError: the port is taken, or the host is not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. Each worker on a machine needs its own port: "
            "--web-port (DRIFTLINE_WEB_PORT); --web-host (DRIFTLINE_WEB_HOST) must be an address of the machine"
        ) from error
