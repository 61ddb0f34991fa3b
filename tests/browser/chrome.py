"""Headless Chromium, driven over its pipe: pages opened, keys pressed, and what came of it looked at."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions"),
    *("--disable-dev-shm-usage", "--remote-debugging-pipe"),
)
_KEYS = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowUp": 38}


class Chrome:
    """One browser. Use as a context manager."""

    def __init__(self, profile: Path) -> None:
        to_read, self._to = os.pipe()
        self._from, from_write = os.pipe()
        words = [str(CHROMIUM), *_FLAGS, f"--user-data-dir={profile}"]
        # The pipe's ends are 3 and 4 to it, whatever they are here.
        command = f"exec {shlex.join(words)} 3<&{to_read} 4>&{from_write}"
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", command],
            pass_fds=(to_read, from_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(from_write)
        self._numbers = itertools.count(1)
        self._held = b""

    def __enter__(self) -> Chrome:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.send("Browser.close")
            self._process.wait(10)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def send(self, method: str, session: str | None = None, **params: Any) -> Any:
        """A command's result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + 60
        while time.monotonic() < until:
            reply = self._next(until)
            if reply.get("id") == number:
                assert "error" not in reply, reply["error"]
                return reply["result"]
        raise AssertionError(f"the browser did not answer {method}")

    def page(self, url: str, *, width: int = 1100, height: int = 800, dark: bool = False, scripts: bool = True) -> Page:
        """A tab of its own profile that opened `url`."""
        context = self.send("Target.createBrowserContext")["browserContextId"]
        target = self.send("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        phone = width < 600
        page.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        page.send("Emulation.setEmulatedMedia", features=scheme)
        if not scripts:
            page.send("Emulation.setScriptExecutionDisabled", value=True)
        page.send("Page.enable")
        page.open(url)
        return page

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            data = os.read(self._from, 1 << 16) if ready else b""
            assert data, "the browser is gone, or does not answer"
            self._held += data
        raw, _, self._held = self._held.partition(b"\0")
        found: dict[str, Any] = json.loads(raw)
        return found


class Page:
    """A tab."""

    def __init__(self, chrome: Chrome, session: str) -> None:
        self._chrome, self._session = chrome, session

    def send(self, method: str, **params: Any) -> Any:
        return self._chrome.send(method, self._session, **params)

    def open(self, url: str) -> None:
        """Go there; returns when it is loaded."""
        self.send("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, expression: str) -> Any:
        """What an expression (which may await) comes to, in the page."""
        done = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, expression: str) -> Any:
        """The same, once it comes to something, an element or a value. The limit is there so that a failing test
        ends."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            if found := self.js(f"((v) => (v instanceof Node ? true : v))({expression})"):
                return found
            time.sleep(0.02)
        body = self.js("document.body.innerText")
        raise AssertionError(f"waited in vain for {expression}; the page says:\n{body}")

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self.send("Input.insertText", text=text)

    def press(self, key: str, text: str | None = None) -> None:
        """A key: its name, or a character."""
        text = {"Enter": "\r"}.get(key) if len(key) > 1 else text or key
        code = _KEYS.get(key, ord(key[0].upper()))
        more = {"text": text} if text else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **more)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of the element."""
        place = f"document.querySelector({json.dumps(selector)})"
        self.js(f"{place}.scrollIntoView({{block: 'center'}})")
        box = self.js(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({place}.getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def text(self, selector: str) -> list[str]:
        """The text of elements as it is shown."""
        found: list[str] = self.js(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText)")
        return found

    def unnamed(self) -> list[str]:
        """Elements to act with that a screen reader has no name for."""
        nodes = self.send("Accessibility.getFullAXTree")["nodes"]
        roles = {"button", "link", "textbox", "checkbox", "dialog", "img", "region", "searchbox"}
        found = [n for n in nodes if not n.get("ignored") and n.get("role", {}).get("value") in roles]
        return [n["role"]["value"] for n in found if not n.get("name", {}).get("value", "").strip()]

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """A PNG of it; `whole`: beyond what is in view, too."""
        done = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(done["data"]))
