"""`driftline explain` for the page, in a process of its own: to derive a score takes a recovery of its shard.

One at a time, at a low priority, for a bounded time: the worker goes on scoring.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from driftline.config import Settings, dump_pipeline
from driftline.core.error import InputFileError
from driftline.core.pipeline import Pipeline

TIMEOUT_S = 120.0
TEXT_MAX = 40_000  # bytes
NICE = 15
LEFT_OUT = ("DRIFTLINE_WEB_TOKEN", "DRIFTLINE_PIPELINE")


class Explainer:
    """See the module.

    Args:
        program: what is run, before its arguments.
    """

    def __init__(self, pipeline: Pipeline, settings: Settings, program: Sequence[str] = ()) -> None:
        self._pipeline, self._settings = pipeline, settings
        self._program = program or (sys.executable, "-m", "driftline")
        self._busy = False

    async def explain(self, event_id: str) -> str:
        """What `driftline explain` prints.

        Raises:
            InputFileError: it cannot be, or another one is being explained; the message says which.
        """
        if self._busy:
            raise InputFileError("another score is being explained; try again when it is done")
        self._busy = True
        try:
            return await self._run(event_id)
        finally:
            self._busy = False

    async def _run(self, event_id: str) -> str:
        folder = self._settings.data_dir / "page"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self._pipeline.name}-{os.getpid()}.yaml"
        file.write_text(dump_pipeline(self._pipeline), "utf-8")
        arguments = ["explain", "-p", str(file), "--bootstrap", self._settings.bootstrap, f"--event={event_id}"]
        environ = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
        process = await asyncio.create_subprocess_exec(
            *self._program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environ,
            start_new_session=True,
        )
        try:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
            async with asyncio.timeout(TIMEOUT_S):
                out, problems = await process.communicate()
        except TimeoutError as error:
            raise InputFileError(
                f"not done in {TIMEOUT_S:g} s; run `driftline explain` where it may take longer"
            ) from error
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            file.unlink(missing_ok=True)
        if not out:
            raise InputFileError(problems[-2_000:].decode("utf-8", "replace").strip() or "it failed without a word")
        return out[:TEXT_MAX].decode("utf-8", "replace")
