"""Drives a real headless Chromium over its DevTools protocol; every wait is bounded."""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

START = 120.0
"""Seconds for the browser to start, on a machine that is busy."""
ANSWER = 60.0
"""Seconds for an answer, or for a condition to become true."""
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-default-apps"),
    *("--disable-dev-shm-usage", "--remote-debugging-port=0"),
)


def executable() -> str | None:
    """Return the browser of `$BOLID_CHROMIUM`, else the first that is installed, else None."""
    names = [os.environ.get("BOLID_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


class Page:
    """One tab: its errors, the addresses that it asked for, and what its scripts say."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listening = asyncio.create_task(self._listen())
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.failures: list[str] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        answer = await asyncio.wait_for(self._answers[number], ANSWER)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    async def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, of a promise when it is one."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, (expression, found["exceptionDetails"])
        return found["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + ANSWER
        while not await self.value(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            await asyncio.sleep(0.05)

    async def open(self, address: str) -> None:
        """Go to an address and wait until the page is loaded."""
        await self.call("Page.navigate", url=address)
        await self.until(f"location.href.startsWith({address!r}) && document.readyState === 'complete'")

    async def press(self, key: str) -> None:
        """Press a named key (ArrowRight, Enter, Tab …)."""
        codes = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        common = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        await self.call("Input.dispatchKeyEvent", type="rawKeyDown", **common)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    async def move(self, x: float, y: float) -> None:
        """Move the mouse to a place of the window, CSS px."""
        await self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    async def close(self) -> None:
        """Stop listening."""
        self._listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._listening

    async def _listen(self) -> None:
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told)
                continue
            params = told.get("params", {})
            if told["method"] == "Runtime.exceptionThrown":
                self.errors.append(str(params["exceptionDetails"]))
            elif told["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert", "warning"):
                self.errors.append(str(params["args"]))
            elif told["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                self.errors.append(params["entry"]["text"])
            elif told["method"] == "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            elif told["method"] == "Network.loadingFailed":
                self.failures.append(params["errorText"])


@contextlib.asynccontextmanager
async def browser(program: str, folder: Path) -> AsyncIterator[Callable[[], Awaitable[Page]]]:
    """Start a browser with a new profile in `folder`; yields a function that connects to its one tab."""
    process = subprocess.Popen(
        [program, *OPTIONS, f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    pages: list[Page] = []
    try:
        port = await _port(folder / "DevToolsActivePort", process)
        async with aiohttp.ClientSession() as session:

            async def connect() -> Page:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    tab = next(each for each in await answer.json() if each["type"] == "page")
                page = Page(await session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0))
                pages.append(page)
                for domain in ("Runtime", "Log", "Network", "Page"):
                    await page.call(f"{domain}.enable")
                await page.call("Emulation.setFocusEmulationEnabled", enabled=True)
                return page

            yield connect
            for page in pages:
                await page.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its own group: started above in a new session
        process.wait(ANSWER)


async def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + START
    while time.monotonic() < end:
        assert process.poll() is None, "the browser ended at once"
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            return int(file.read_text().splitlines()[0])
        await asyncio.sleep(0.05)
    raise AssertionError("the browser did not start")
