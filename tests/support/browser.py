"""A headless Chromium, driven over its DevTools protocol: what a person would see of a page.

No driver and no library of its own: the protocol is JSON over a WebSocket, which aiohttp speaks.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
START_S = 60.0
ANSWER_S = 60.0
LOOK_EVERY_S = 0.1


class Page:
    """One tab.

    Attributes:
        complaints: errors of its scripts, and what its security policy refused.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.complaints: list[str] = []
        self._socket = socket
        self._number = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listening = asyncio.create_task(self._listen())

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """One call of the protocol."""
        self._number += 1
        answer = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        return await asyncio.wait_for(answer, ANSWER_S)

    async def _listen(self) -> None:
        async for message in self._socket:
            found = message.json()
            if (waiting := self._waiting.pop(found.get("id", 0), None)) is not None:
                waiting.set_result(found.get("result", {}))
            elif found.get("method") == "Runtime.exceptionThrown":
                details = found["params"]["exceptionDetails"]
                self.complaints.append(str(details.get("exception", {}).get("description", details["text"])))
            elif found.get("method") == "Log.entryAdded" and found["params"]["entry"]["source"] == "security":
                self.complaints.append(found["params"]["entry"]["text"])

    async def show(self, url: str, width: int = 1366, height: int = 900, *, dark: bool = False) -> None:
        """Open an address."""
        for domain in ("Page", "Runtime", "Log"):
            await self.ask(f"{domain}.enable")
        await self.resize(width, height, dark=dark)
        await self.ask("Page.navigate", url=url)

    async def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """Give it the size of a screen, and a light or dark theme."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.ask("Emulation.setEmulatedMedia", features=[scheme])

    async def value(self, script: str) -> Any:
        """What an expression gives there."""
        found = await self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return found.get("result", {}).get("value")

    async def until(self, script: str, within_s: float = 60.0) -> Any:
        """The value of an expression, once it is true.

        Raises:
            AssertionError: it is not in time.
        """
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s:
            if found := await self.value(script):
                return found
            await asyncio.sleep(LOOK_EVERY_S)
        text = await self.value("document.body.innerText")
        raise AssertionError(f"not in {within_s:g} s: {script}; the page says:\n{text}\n{self.complaints}")

    async def press(self, key: str) -> None:
        """A key."""
        code = {"Tab": 9, "Enter": 13, " ": 32, "ArrowLeft": 37, "ArrowRight": 39}[key]
        text = {"text": "\r" if key == "Enter" else " "} if key in ("Enter", " ") else {}
        for kind in ("keyDown", "keyUp"):
            await self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    async def picture(self, file: Path, *, whole: bool = True) -> None:
        """Save what is seen."""
        found = await self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))

    async def close(self) -> None:
        await self._socket.close()
        self._listening.cancel()
        await asyncio.wait({self._listening})


@asynccontextmanager
async def browser() -> AsyncIterator[Page]:
    """A browser with one tab, gone at the end."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(prefix="driftline-browser-", ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",  # of a root user, as in containers; it opens our own page only
            "--disable-gpu",
            "--hide-scrollbars",
            "--no-first-run",
            "--remote-debugging-port=0",
            f"--user-data-dir={folder}",
            "about:blank",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            port = await _port(Path(folder) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    (tab, *_) = [one for one in await answer.json() if one["type"] == "page"]
                page = Page(await session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0))
                try:
                    yield page
                finally:
                    await page.close()
        finally:
            process.terminate()
            await process.wait()


async def _port(file: Path) -> str:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        if file.exists() and (content := file.read_text()):
            return content.split()[0]
        await asyncio.sleep(LOOK_EVERY_S)
    raise AssertionError(f"Chromium did not start within {START_S:g} s")
