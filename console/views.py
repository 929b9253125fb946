"""What the pages are told: the rooms' own states in the dashboard's words."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from typing import Any

from collectors.engine import EngineCollector
from collectors.process import ChildStatus
from console.breakview import break_view
from dashboard.api.prometheus import StatusInfo
from dashboard.services import EngineInfo, Fill, Health, ProcessInfo, RemoteState, TradingState
from metrics.catalogue import series
from metrics.clock import Clock
from metrics.errors import DeskvigilError
from resources.supervisor import ChildState
from settings import Settings, describe
from storage.breaks import CLOSED, EXPLAINED, OPEN
from storage.store import Store

STATES: tuple[TradingState, ...] = ("ACTIVE", "REDUCING", "HALTED")  # by deskvigil_engine_trading_state
CHECK_GAUGES = ("open_breaks", "executions_equal_total", "executions_broken_total", "lag_seconds")
CHECKS_EVERY_NS = 2_000_000_000
MOST_BREAKS = {OPEN: 50, EXPLAINED: 20, CLOSED: 10}  # newest of each state; the open ones are counted in full
ENGINE_GAUGES = ("trading_state", "session_start_time_seconds")


class Checks:
    """What the reconciliation says, for the Orders page; asks the database every two seconds, and when somebody changed a break."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._due_ns = self._changes = 0
        self._breaks: list[dict[str, Any]] = []
        self._why = ""

    def __call__(self) -> dict[str, Any]:
        now_ns, changes = self._clock.monotonic_ns(), self._store.breaks.changes
        if now_ns >= self._due_ns or changes != self._changes:
            self._due_ns, self._changes = now_ns + CHECKS_EVERY_NS, changes
            try:
                found = [self._store.breaks.list(state, most) for state, most in MOST_BREAKS.items()]
                self._breaks = [break_view(row) for rows in found for row in rows]
                self._why = ""
            except DeskvigilError as error:
                self._why = str(error)
        gauges = {name: self._store.live.latest(series(f"deskvigil_reconciliation_{name}")) for name in CHECK_GAUGES}
        figures = {name: None if found is None or isnan(found[1]) else found[1] for name, found in gauges.items()}
        lag = gauges["lag_seconds"]
        age = None if lag is None else (self._clock.now_ns() / 1e6 - lag[0]) / 1e3 + lag[1]
        return {"breaks": self._breaks, "why": self._why, **figures, "age": age}


def store_health(store: Store) -> Health:
    """Whether all is stored; where it is only the database server that is away, numbers still are."""
    health = store.health()
    if health.ok or not store.numbers_health().ok:
        return Health(health.ok, health.reason)
    return Health(False, health.reason, "Alerts, audit and jobs wait for their database")


def remote_state(store: Store) -> RemoteState | None:
    """How forwarding goes, for the status bar; None where there is nothing to forward to."""
    if store.remote is None:
        return None
    status = store.remote.status()
    return RemoteState(status.ok, status.reason, status.queue.samples, status.queue.age_s, status.queue.lost)


def status_info(settings: Settings) -> StatusInfo:
    """What Prometheus's status pages are told: the settings, and those that Prometheus has as flags."""
    flags = {
        "query.lookback-delta": f"{settings.query.lookback_s:g}s",
        "query.max-samples": str(settings.query.max_samples),
        "query.timeout": f"{settings.query.timeout_s:g}s",
        "storage.tsdb.path": "deskvigil.sqlite",
        "storage.tsdb.retention.time": f"{settings.storage.raw_days}d",
        "web.enable-admin-api": str(settings.web.enable_admin_api).lower(),
        "web.enable-remote-write-receiver": "true",
        "web.external-url": settings.web.external_url or "",
        "web.listen-address": f"{settings.web.host}:{settings.web.port}",
        "web.max-connections": str(settings.web.max_connections),
    }
    return StatusInfo(config=lambda: describe(settings), flags=flags, retention=f"{settings.storage.raw_days}d")


def engine_info(engine: EngineCollector, store: Store) -> EngineInfo:
    """What the engine says of itself, for the status bar."""
    info = engine.info()
    now = {name: store.live.latest(series(f"deskvigil_engine_{name}")) for name in ENGINE_GAUGES}
    value = {name: nan if sample is None else sample[1] for name, sample in now.items()}
    state: TradingState = "DOWN"
    if not engine.absence and not isnan(value["trading_state"]):
        state = STATES[int(value["trading_state"])]
    symbols = info.get("instruments", ())
    return EngineInfo(
        state=state,
        reason=engine.absence,
        source=str(info.get("source", "")),
        simulated_market=bool(info.get("simulated_market", True)),
        session_started_ms=None if isnan(started := value["session_start_time_seconds"]) else round(started * 1e3),
        fills=tuple(_fill(row, symbols) for row in engine.last_fills()[::-1]),
    )


def _fill(row: Any, symbols: Sequence[str]) -> Fill:
    return Fill(
        t_ms=int(row["t_ns"]) // 1_000_000,
        symbol=symbols[row["instrument"]] if row["instrument"] < len(symbols) else "?",
        side="buy" if row["side"] > 0 else "sell",
        quantity=float(row["qty"]),
        price=float(row["price_usd"]),
        liquidity="taker" if row["taker"] else "maker",
    )


def child_status(child: ChildState) -> ChildStatus:
    """A child as the process collector takes it."""
    return ChildStatus(child.name, child.pid, child.restarts, child.started_ns, child.last_exit)


def process_info(child: ChildState) -> ProcessInfo:
    """A child as the pages show it."""
    return ProcessInfo(child.name, "running" if child.pid else "restarting", child.pid or None, child.restarts)
