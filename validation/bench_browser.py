"""What a person's browser sees: from a sample to its pixel, and what pages and viewers cost.

A real Chromium looks at the running program on the default market. A tile's text is taken as
painted at the first animation frame after it changed; the sample's time is the newest in the stream
by then, so collecting, the hub, the wire and the drawing are all in the figure.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil

from engine.telemetry import BlockReader
from validation.console import scratch_paths
from validation.figure import Figure
from validation.program import START_S, Program, running_program

NAME = "browser"
SECONDS = 20.0
WARM_UP_S = 8.0
VIEWERS = (0, 1, 50)
LATENCY_PEERS = "dcc.Interval + extendData 198 / 325 at 10 Hz, native Dash WebSocket 393 / 497, own WebSocket + uPlot 7 / 11 (p50 / p99)"
SERVER_PEERS = "netdata 0.34 % and Glances 6.2 % of a core for each open page"
RENDERER_PEERS = "netdata 38 %, Glances 22 % of a core"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
WATCH = """
window.__bench = { newest: 0, latencies: [] };
const Plain = window.WebSocket;
window.WebSocket = class extends Plain {
  constructor(...args) {
    super(...args);
    this.addEventListener("message", (event) => {
      const message = JSON.parse(new TextDecoder().decode(event.data));
      if (message.k === "tick") for (const row of message.f) window.__bench.newest = Math.max(window.__bench.newest, row[1]);
    });
  }
};
"""
OBSERVE = """
() => {
  const bench = window.__bench;
  const seen = () => { const t = bench.newest; requestAnimationFrame(() => bench.latencies.push(Date.now() - t)); };
  const observer = new MutationObserver(seen);
  for (const value of document.querySelectorAll(".tile [data-value]")) observer.observe(value, { childList: true, characterData: true, subtree: true });
  bench.latencies.length = 0;
}
"""


def measure(say: Callable[[str], None] = print, *, seconds: float = SECONDS) -> list[Figure]:
    """Open pages in Chromium and return the figures; none, with a line that says why, where it is not installed."""
    chromium = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        say("browser: not measured: `make install-dev` installs playwright")
        return []
    if chromium is None:
        say("browser: not measured: there is no Chromium (Debian: apt-get install chromium)")
        return []
    with scratch_paths() as paths, running_program(paths) as program:
        program.until(BlockReader(paths.engine_block).heartbeat, "the engine's first publication", START_S)
        time.sleep(WARM_UP_S)
        figures = [_server(program, viewers, seconds, say) for viewers in VIEWERS]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
            try:
                _visit(browser, program)  # the server compresses each script after somebody has asked for it once
                say(f"browser: {seconds:g} s on the Desk page, {seconds:g} s on the Host page ...")
                figures = [*_desk(browser, program, seconds), _renderer(browser, program, "/host", seconds), *figures]
            finally:
                browser.close()
    return figures


def _visit(browser: Any, program: Program) -> None:
    page = browser.new_page()
    page.goto(f"{program.url}/")
    page.wait_for_timeout(WARM_UP_S * 1e3)
    page.close()


def _desk(browser: Any, program: Program, seconds: float) -> list[Figure]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.add_init_script(WATCH)
    page = context.new_page()
    wire = _Wire(context, page)
    page.goto(f"{program.url}/")
    page.wait_for_function("window.__bench.newest > 0")
    page.wait_for_timeout(WARM_UP_S * 1e3)
    page.evaluate(OBSERVE)
    cpu_s = _renderer_cpu_s()
    page.wait_for_timeout(seconds * 1e3)
    cpu_s = _renderer_cpu_s() - cpu_s
    latencies = np.array(page.evaluate("window.__bench.latencies"), float)
    context.close()
    p50, p99 = np.percentile(latencies, [50, 99])
    return [
        _figure(f"sample -> painted tile at 10 Hz, p50 (n = {len(latencies)})", p50, "ms", 0, LATENCY_PEERS),
        _figure("  p99", p99, "ms", 0),
        _figure("renderer, Desk page", 100 * cpu_s / seconds, "% of a core", 1, RENDERER_PEERS),
        _figure("first load of the Desk page, as sent", wire.received / 2**20, "MiB", 2, "netdata 2.1 MB"),
    ]


def _renderer(browser: Any, program: Program, path: str, seconds: float) -> Figure:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{program.url}{path}")
    page.wait_for_timeout(WARM_UP_S * 1e3)
    cpu_s = _renderer_cpu_s()
    page.wait_for_timeout(seconds * 1e3)
    cpu_s = _renderer_cpu_s() - cpu_s
    page.close()
    return _figure("renderer, Host page", 100 * cpu_s / seconds, "% of a core", 1)


class _Wire:
    """Bytes that the page's loading received, headers and compression as on the wire."""

    def __init__(self, context: Any, page: Any) -> None:
        self.received = 0.0
        session = context.new_cdp_session(page)
        session.on("Network.loadingFinished", self._finished)
        session.send("Network.enable")

    def _finished(self, event: dict[str, Any]) -> None:
        self.received += float(event["encodedDataLength"])


def _renderer_cpu_s() -> float:
    """CPU seconds of all pages' processes of the browsers that this process has started."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            if "--type=renderer" in " ".join(process.cmdline()):
                total += sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return total


def _server(program: Program, viewers: int, seconds: float, say: Callable[[str], None]) -> Figure:
    """The console's CPU while so many viewers take the live stream."""
    say(f"browser: {seconds:g} s with {viewers} viewers ...")
    context = multiprocessing.get_context("spawn")
    crowd = context.Process(target=_watch, args=(program.url, viewers), name="viewers", daemon=True)
    if viewers:
        crowd.start()
        time.sleep(WARM_UP_S)
    try:
        console = psutil.Process(program.child("console").pid)
        before = sum(console.cpu_times()[:2])
        began = time.monotonic()
        time.sleep(seconds)
        spent, elapsed = sum(console.cpu_times()[:2]) - before, time.monotonic() - began
        if viewers and not crowd.is_alive():
            raise RuntimeError("the viewers' process has ended")
    finally:
        if viewers:
            crowd.kill()
            crowd.join()
    peer = SERVER_PEERS if viewers == 1 else ""
    return _figure(f"console with {viewers} viewers", 100 * spent / elapsed, "% of a core", 2, peer)


def _watch(url: str, viewers: int) -> None:
    """Take the stream as so many pages do; ends when it is killed."""
    from websockets.asyncio.client import connect

    async def one() -> None:
        address = url.replace("http", "ws", 1) + "/ws/live"
        async with connect(address, origin=url, max_size=None) as socket:  # type: ignore[arg-type]
            await socket.send('{"k":"hello","epoch":"","seq":-1}')
            async for _ in socket:
                pass

    async def everybody() -> None:
        await asyncio.gather(*(one() for _ in range(viewers)))

    asyncio.run(everybody())


def _figure(what: str, value: float, unit: str, decimals: int, peer: str = "") -> Figure:
    return Figure(benchmark=NAME, what=what, value=float(value), unit=unit, decimals=decimals, peer=peer)
