"""A whole desk for the dashboard's tests: real store, queries, rules and web server, and a scripted engine.

Run as a program it serves until interrupted: `python -m tests.dashboard.demo_services [PORT]`.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import uvicorn

from alerts.options import AlertOptions
from alerts.service import AlertService
from collectors.host import HostCollector
from collectors.options import CollectorOptions
from collectors.process import ProcessCollector
from collectors.runner import CollectorThread
from dashboard.live import LiveHub
from dashboard.options import WebOptions
from dashboard.server import build_server, uvicorn_options
from dashboard.services import Annotation, EngineInfo, Fill, Health, ProcessInfo, Services
from metrics.clock import SystemClock
from metrics.frame import Frame
from metrics.kpi import KPIS
from metrics.paths import RuntimePaths
from metrics.series import Schema, Series, make_labels
from query.engine import QueryEngine
from query.options import QueryOptions
from storage.options import StorageOptions
from storage.store import Store

RULES = """
groups:
  - name: demo
    interval: 100ms
    rules:
      - alert: SlowFills
        expr: deskvigil_kpi_order_to_fill_seconds{quantile="0.99"} > 0.0005
        labels: {severity: warning}
        annotations: {summary: Order-to-fill p99 above 500 µs, description: Fills are slower than the desk's target.}
"""
LATENCY = "deskvigil_kpi_order_to_fill_seconds"


def _series(name: str, **labels: str) -> Series:
    return Series(name, make_labels(labels))


ENGINE = Schema(
    "engine",
    (
        *(kpi.series for kpi in KPIS if kpi.collector == "engine"),
        _series(LATENCY, quantile="0.5"),
        _series(LATENCY, quantile="0.95"),
        _series("deskvigil_kpi_drawdown_usd"),
        _series("deskvigil_engine_up"),
        _series("deskvigil_engine_feed_age_seconds"),
        _series("deskvigil_engine_trading_state"),
        _series("deskvigil_engine_orders_acked_total"),
    ),
)
RISK = Schema(
    "risk",
    (
        _series("deskvigil_risk_var_usd", confidence="0.99"),
        _series("deskvigil_risk_var_standard_error_usd"),
        _series("deskvigil_risk_up"),
        _series("deskvigil_risk_scenarios"),
        _series("deskvigil_risk_run_seconds_sum"),
        _series("deskvigil_risk_run_seconds_count"),
    ),
)


@dataclass
class Script:
    """What the scripted engine does; tests change it while it runs."""

    values: dict[str, float] = field(
        default_factory=lambda: {
            "fill_rate": 0.9997, "slippage": 0.82, "order_to_fill_p99": 310e-6, "impact": 0.31,
            "throughput": 15_200.0, "rejects": 0.00008, "pnl": 18_240.0, "var": 297_600.0,
        }
    )  # fmt: skip
    state: str = "ACTIVE"
    gpu: str = "No NVIDIA driver on this host"
    simulated_market: bool = True
    noise: float = 0.04
    silent: bool = False
    orders: list[tuple[str, str]] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)


class Desk:
    """Everything that the dashboard asks, alive."""

    def __init__(self, folder: Path, *, options: WebOptions | None = None, hz: float = 10.0) -> None:
        self.script = Script()
        self.clock = SystemClock()
        self.paths = RuntimePaths(folder)
        self.hz = hz
        rules = folder / "demo.rules.yml"
        rules.write_text(RULES)
        self.store = Store.open(StorageOptions(), self.paths, self.clock)
        self.query = QueryEngine(self.store.reader, QueryOptions(), self.clock)
        self.alerts = AlertService(self.store, self.query, AlertOptions(rules=(rules,)), self.clock)
        self.services = Services(
            options=options or WebOptions(port=0),
            version="0.1.0",
            clock=self.clock,
            live=self.store.live,
            reader=self.store.reader,
            query=self.query,
            alerts=self.alerts,
            engine=self._engine,
            gpu=lambda: self.script.gpu,
            halt=lambda who, reason, scope="all", /: self._order("HALTED", who, reason, scope),
            resume=lambda who, reason, scope="all", /: self._order("ACTIVE", who, reason, scope),
            annotations=lambda t0, t1: [
                Annotation(row.t_ms, row.title, row.kind, row.t_end_ms, row.text)
                for row in self.store.annotations.list(t0, t1)
            ],
            views=self.store.saved_views,
            breaks=self.store.breaks,
            raw_days=30,
            processes=lambda: [ProcessInfo("engine", "running", 1, 0), ProcessInfo("risk", "running", 2, 0)],
            store_health=lambda: Health(self.store.health().ok, self.store.health().reason),
        )
        self._random = np.random.default_rng(1)
        self._runs = 0
        self._stop = threading.Event()
        self._cleanup = ExitStack()

    def start(self, *, past_s: int = 0, collectors: bool = False) -> None:
        """Begin; `past_s` seconds of history are there already."""
        self._cleanup.callback(self.store.close)
        now_ns = self.clock.now_ns()
        self.store.start()
        for second in range(past_s, 1, -1):
            self._append(now_ns - second * 1_000_000_000)
        if past_s:
            self.store.annotations.add("config", "config v41, operator 2", t_ms=now_ns // 1_000_000 - past_s * 400)
        self.alerts.start()
        self._cleanup.callback(self.alerts.stop)
        if collectors:
            made = CollectorOptions()
            for collector in (
                HostCollector(self.clock, made, self.paths.data_dir),
                ProcessCollector(self.clock, made, list),
            ):
                thread = CollectorThread(collector, self.clock, self.store.live.append)
                thread.start()
                self._cleanup.callback(thread.stop)
        thread = threading.Thread(target=self._run, name="scripted engine", daemon=True)
        thread.start()
        self._cleanup.callback(thread.join, 5.0)
        self._cleanup.callback(self._stop.set)

    def stop(self) -> None:
        self._cleanup.close()

    def append_now(self) -> None:
        """One frame of engine and risk, by hand."""
        self._append(self.clock.now_ns())

    def _run(self) -> None:
        while not self._stop.wait(1 / self.hz):
            if not self.script.silent:
                self._append(self.clock.now_ns())

    def _append(self, t_ns: int) -> None:
        shown = {
            key: value * (1 + self.script.noise * self._random.standard_normal() * (0.002 if key == "fill_rate" else 1))
            for key, value in self.script.values.items()
        }
        shown["fill_rate"] = min(shown["fill_rate"], 1.0)
        p99 = shown["order_to_fill_p99"]
        state = {"ACTIVE": 0.0, "REDUCING": 1.0, "HALTED": 2.0}.get(self.script.state, 0.0)
        kpis = [shown[kpi.key] for kpi in KPIS if kpi.collector == "engine"]
        self._runs += 1
        engine = [*kpis, p99 * 0.45, p99 * 0.78, 3_100.0, 1.0, 0.02, state, float(self._runs)]
        risk = [shown["var"], 1_300.0, 1.0, 1_000.0, self._runs * 125e-6, float(self._runs)]
        self.store.live.append(Frame(ENGINE, t_ns, np.array(engine)))
        self.store.live.append(Frame(RISK, t_ns, np.array(risk)))

    def _engine(self) -> EngineInfo:
        now_ms = self.clock.now_ns() // 1_000_000
        fills = tuple(
            Fill(
                now_ms // 5_000 * 5_000 - 5_000 * age,
                "DV-ALPHA",
                "buy" if age % 2 else "sell",
                100.0,
                101.25 + age,
                "maker",
            )
            for age in range(6, 0, -1)
        )
        return EngineInfo(
            state=self.script.state,  # type: ignore[arg-type]
            source="synthetic market",
            simulated_market=self.script.simulated_market,
            session_ends_ms=now_ms // 60_000 * 60_000 + 5_240_000,
            fills=fills,
        )

    def _order(self, state: str, who: str, reason: str, scope: str) -> str:
        self.script.scopes.append(scope)
        if scope != "all":
            return f"{scope} by itself is {state}; the desk is {self.script.state}"
        self.script.orders.append((who, reason))
        self.script.state = state
        return f"trading is {state}, 5 orders cancelled"


@contextmanager
def running(services: Services) -> Iterator[tuple[str, LiveHub]]:
    """A real uvicorn on a free port in a thread; gives its URL and the live hub."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((services.options.host, services.options.port))
    application = build_server(services)
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", **uvicorn_options(services.options)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="web", daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, "the web server starts")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", application.state.hub
    finally:
        server.should_exit = True
        thread.join(15.0)
        listener.close()


@contextmanager
def serving(services: Services) -> Iterator[str]:
    """The same, where only the URL matters."""
    with running(services) as (url, _):
        yield url


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Return when the condition holds; AssertionError naming it where it does not come true in time."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        pause.wait(0.02)


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8051
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder), options=replace(WebOptions(), port=port))
        desk.start(past_s=900, collectors=True)
        try:
            with serving(desk.services) as url:
                print(url, flush=True)  # noqa: T201
                while True:
                    line = sys.stdin.readline()
                    if not line:
                        threading.Event().wait()
                    exec(line, {"desk": desk})
        except KeyboardInterrupt:
            pass
        finally:
            desk.stop()


if __name__ == "__main__":
    main()
