"""A command of ours in a process of its own: what reads much takes no time from scoring."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from driftline.config import Settings, dump_pipeline
from driftline.core.error import InputFileError
from driftline.core.pipeline import Pipeline

NICE = 15
LEFT_OUT = ("DRIFTLINE_WEB_TOKEN", "DRIFTLINE_PIPELINE", "DRIFTLINE_NOTIFY")
PROGRAM = (sys.executable, "-m", "driftline")


async def output_of(
    pipeline: Pipeline, settings: Settings, words: Sequence[str], timeout_s: float, program: Sequence[str] = PROGRAM
) -> bytes:
    """What a command prints about a pipeline, whose file has the pipeline's name.

    Args:
        words: the command and its options, without -p and --bootstrap.

    Raises:
        InputFileError: it failed, or took too long.
    """
    folder = Path(settings.data_dir) / "apart" / f"{os.getpid()}-{words[0]}"
    folder.mkdir(parents=True, exist_ok=True)
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
            out, problems = await process.communicate()
    except TimeoutError as error:
        raise InputFileError(f"not done in {timeout_s:g} s") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        shutil.rmtree(folder, ignore_errors=True)
    if process.returncode:
        raise InputFileError(problems[-2_000:].decode("utf-8", "replace").strip() or "it failed without a word")
    return out
