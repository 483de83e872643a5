"""A command of ours in a process of its own: what reads much takes no time from scoring.

Its folder is locked for as long as its worker lives, so what a killed worker left behind is known by having no lock:
`sweep` removes it when a worker starts, and leaves alone what other workers on the same machine use.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from driftline.config import Settings, dump_pipeline
from driftline.core.error import InputFileError
from driftline.core.pipeline import Pipeline

NICE = 15
OUT_BYTES_MAX = 16 * 1024 * 1024  # that a command prints: the worker holds it
LEFT_OUT = ("DRIFTLINE_WEB_TOKEN", "DRIFTLINE_PIPELINE", "DRIFTLINE_NOTIFY")
PROGRAM = (sys.executable, "-m", "driftline")


async def output_of(
    pipeline: Pipeline, settings: Settings, words: Sequence[str], timeout_s: float,
    *, program: Sequence[str] = PROGRAM, codes: Container[int] = (0,),
) -> bytes:  # fmt: skip
    """What a command prints about a pipeline, whose file has the pipeline's name. Several may run at once.

    Args:
        words: the command and its options, without -p and --bootstrap.
        codes: exit codes after which what it printed is an answer.

    Raises:
        InputFileError: it failed, or took too long.
    """
    above = _above(settings)
    above.mkdir(parents=True, exist_ok=True)
    with _locked(above):  # no sweep sees the folder before it has its lock
        folder = Path(mkdtemp(prefix=f"{words[0]}-", dir=above))  # its own: another may run for the same worker
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        return await _output_of(pipeline, settings, words, timeout_s, folder, program, codes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(settings: Settings) -> int:
    """Remove the folders of workers that were killed; returns how many there were."""
    above, found = _above(settings), 0
    if not above.is_dir():
        return 0
    with _locked(above):
        for folder in above.iterdir():
            if folder.is_dir() and not _in_use(folder):
                shutil.rmtree(folder, ignore_errors=True)
                found += 1
    return found


def _above(settings: Settings) -> Path:
    return Path(settings.data_dir) / "apart"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _in_use(folder: Path) -> bool:
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(lock)


async def _output_of(
    pipeline: Pipeline, settings: Settings, words: Sequence[str], timeout_s: float, folder: Path,
    program: Sequence[str], codes: Container[int],
) -> bytes:  # fmt: skip
    file = folder / f"{pipeline.name}.yaml"
    file.write_text(dump_pipeline(pipeline), "utf-8")
    process = await asyncio.create_subprocess_exec(
        *program,
        words[0],
        *("-p", str(file), "--bootstrap", settings.bootstrap),
        *words[1:],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name not in LEFT_OUT},
        start_new_session=True,
    )
    try:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        async with asyncio.timeout(timeout_s):
            out, problems = await asyncio.gather(_all_of(process.stdout), _all_of(process.stderr))
            await process.wait()
    except TimeoutError as error:
        text = f"not done in {timeout_s:g} s; run `driftline {words[0]}` where it may take longer"
        raise InputFileError(text) from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if len(out) > OUT_BYTES_MAX:
        raise InputFileError(
            f"it printed more than {OUT_BYTES_MAX // 1024**2} MiB; run `driftline {words[0]}` by itself"
        )
    if process.returncode not in codes or (process.returncode and not out):
        raise InputFileError(problems[-2_000:].decode("utf-8", "replace").strip() or "it failed without a word")
    return out


async def _all_of(stream: asyncio.StreamReader | None) -> bytes:
    """All that comes; of more than `OUT_BYTES_MAX` the rest is read and forgotten."""
    parts, size = [], 0
    while stream is not None and (part := await stream.read(65_536)):
        if size <= OUT_BYTES_MAX:
            parts.append(part)
        size += len(part)
    return b"".join(parts)
