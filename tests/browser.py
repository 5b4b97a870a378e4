"""A headless Chromium that is spoken to over a pipe (DevTools protocol), for tests of pages."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Navigated(RuntimeError):
    """The page went away under a question."""


class Browser:
    """One page. events: what it has said so far, DevTools events in order."""

    def __init__(self, program: str, profile: Path) -> None:
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        # The protocol lives on descriptors 3 and 4.
        script = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            [
                *("bash", "-c", script, "bash", program, "--headless=new", "--no-sandbox"),
                *("--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
                *("--no-first-run", f"--user-data-dir={profile}", "--remote-debugging-pipe"),
                "about:blank",
            ],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        os.set_blocking(self._in, False)
        self._rest, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda m: m.get("id") == self._number)
        if "error" in answer:
            gone = "navigated" in answer["error"]["message"]
            raise (Navigated if gone else RuntimeError)(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, place: Path | str) -> None:
        """Load a file or an address; returns when it has loaded."""
        self.events.clear()
        self.call("Page.navigate", url=place.as_uri() if isinstance(place, Path) else place)
        if not any(e["method"] == "Page.loadEventFired" for e in self.events):
            self._until(lambda m: m.get("method") == "Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """The JSON-able value of an expression in the page."""
        done = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in done:
            raise RuntimeError(json.dumps(done["exceptionDetails"]))
        return done["result"].get("value")

    def until(self, expression: str, seconds: float = 20) -> None:
        """Wait until an expression in the page is true."""
        end = time.monotonic() + seconds
        while not self._holds(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"not true in {seconds} s: {expression}")
            time.sleep(0.05)

    def _holds(self, expression: str) -> bool:
        """Whether it is true; not yet, where the page is loaded anew while it is asked."""
        try:
            return bool(self.evaluate(expression))
        except Navigated:
            return False

    def press(self, key: str) -> None:
        """A key as a person presses it: Tab moves the focus."""
        for kind in ("keyDown", "keyUp"):
            code = {"Tab": 9, "Enter": 13}.get(key, 0)
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text
            )

    def size(self, width: int, height: int = 900, scale: float = 1.0) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def prefer(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, file: Path, *, top: float, height: float, width: int) -> None:
        clip = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _until(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 60) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            while b"\0" in self._rest:
                line, self._rest = self._rest.split(b"\0", 1)
                message = json.loads(line)
                if "method" in message:
                    self.events.append(message)
                if wanted(message):
                    return message
            try:
                data = os.read(self._in, 1 << 20)
            except BlockingIOError:
                time.sleep(0.02)
                continue
            if not data:
                raise RuntimeError("the browser has gone")
            self._rest += data
        raise TimeoutError("no answer from the browser")


#: Class or tag of each of the elements `SELECTOR` names whose text is less than 4.5 to 1 from its
#: ground (WCAG AA), with its ratio.
FAINT = """((selector) => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (c) => { const [r, g, b] = c.map(v => (v /= 255) <= .04045 ? v / 12.92
    : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b };
  const ground = (e) => { for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > 0) return c.slice(0, 3) } return [255, 255, 255] };
  const found = {};
  for (const e of document.querySelectorAll(selector)) {
    const style = getComputedStyle(e);
    const ink = rgb(e instanceof SVGElement ? style.fill : style.color).slice(0, 3);
    const [a, b] = [light(ink), light(ground(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) found[e.getAttribute('class') || e.tagName] = ratio;
  }
  return found })"""
