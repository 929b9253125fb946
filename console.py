"""The console's wiring: collectors, store, query, rules and pages, built in one straight line.

Apart from `app.py` because every child imports that one again, and the engine's children should
not carry a web server. Nobody but `app.py` imports this.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isnan, nan
from pathlib import Path
from typing import Any

import uvicorn
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import delete, insert, select

from alerts.service import AlertService
from alerts.stats import AlertsCollector
from collectors.collector import Collector
from collectors.engine import EngineCollector
from collectors.events import Event, EventWatcher
from collectors.gpu import GpuCollector
from collectors.host import HostCollector
from collectors.process import ChildStatus, ProcessCollector
from collectors.runner import CollectorThread
from dashboard.api.exposition import exposition_router
from dashboard.api.gate import Gate
from dashboard.api.ingest import ingest_router
from dashboard.api.meter import ApiMeter
from dashboard.api.prometheus import BuildInfo, prometheus_router
from dashboard.server import build_server, uvicorn_options
from dashboard.services import Annotation, EngineInfo, Fill, Health, ProcessInfo, Services, TradingState
from dashboard.stats import LiveCollector
from engine.commandlog import read_log
from engine.commands import CommandClient
from metrics.catalogue import series
from metrics.clock import Clock, SystemClock
from metrics.errors import DeskvigilError
from metrics.frame import Frame
from metrics.paths import RuntimePaths
from query.engine import QueryEngine
from resources.process import end_with_parent
from resources.supervisor import ChildState, read_status
from settings import Settings
from storage import jobs
from storage.audit import record
from storage.stats import StorageCollector
from storage.store import Store
from storage.tables import meta

log = logging.getLogger("deskvigil.console")

HEARTBEAT_S = 0.5
STATES: tuple[TradingState, ...] = ("ACTIVE", "REDUCING", "HALTED")  # by deskvigil_engine_trading_state
ENGINE_GAUGES = ("trading_state", "session_start_time_seconds")
SHUTDOWN_S = 2
COPIED = "engine_commands_copied"  # key in the table `meta`: name of the engine's log, and its last entry copied
SETTLE_S = 20.0  # what was missed while the program was down waits until it has settled


@dataclass(frozen=True)
class Job:
    """Recurring work on the archive: called with the store and the time in ms, answers in words."""

    name: str
    function: Callable[[Store, int], str]
    every_s: float


JOBS = (
    Job("rollup", jobs.rollup, 300.0),
    Job("retention", jobs.retention, 3600.0),
    Job("compact", lambda store, _: jobs.compact(store), 6 * 3600.0),
)


def run_console(settings: Settings, paths: RuntimePaths, listener: socket.socket, version: str, *, live: bool) -> None:
    """Build the console, serve until SIGTERM, and take it down in reverse.

    live False leaves out collectors, rules, jobs and the buttons: what `app.py serve` offers.
    """
    clock = SystemClock()
    with ExitStack() as cleanup:
        store = Store.open(settings.storage, paths, clock, database=settings.database)
        cleanup.callback(store.close)
        query = QueryEngine(store.reader, settings.query, clock)
        alerts = AlertService(store, query, settings.alerts, clock)
        engine = EngineCollector(paths.engine_block, "engine", clock, settings.collectors.engine_interval_s)
        risk = EngineCollector(paths.risk_block, "risk", clock, settings.collectors.engine_interval_s)
        gpu = GpuCollector(clock, settings.collectors)
        meter = ApiMeter(clock)
        gate = Gate(meter)

        def children() -> list[ChildState]:
            supervisor = ChildState("supervisor", os.getppid(), 0, 0, "")
            return [supervisor, *read_status(paths.supervisor_status)]

        collectors: list[Collector] = []
        notes = cleanup.enter_context(ThreadPoolExecutor(1, thread_name_prefix="records"))
        copier = CommandCopier(paths.command_log, store, notes)
        if live:
            end_with_parent()
            store.start()
            cleanup.callback(store.stop)
            cleanup.callback(store.live.subscribe(copier.observe))
            watcher = EventWatcher(
                lambda event: _note(notes, store, event),
                lambda process: next((child.last_exit for child in children() if child.name == process), ""),
            )
            cleanup.callback(store.live.subscribe(watcher.observe))
            alerts.start()
            cleanup.callback(alerts.stop)
            collectors = [
                HostCollector(clock, settings.collectors, paths.data_dir),
                ProcessCollector(clock, settings.collectors, lambda: [_status(child) for child in children()]),
                gpu,
                StorageCollector(store),
                AlertsCollector(alerts),
                meter,
                engine,
                risk,
            ]
            scheduler = _schedule(store, clock)
            cleanup.callback(scheduler.shutdown, wait=False)

        client = CommandClient(paths.engine_socket)
        services = Services(
            options=settings.web,
            version=version,
            clock=clock,
            live=store.live,
            reader=store.reader,
            query=query,
            alerts=alerts,
            engine=lambda: _engine_info(engine, store),
            gpu=lambda: gpu.absence,
            halt=lambda who, reason: _order(client, copier, "halt", who, reason),
            resume=lambda who, reason: _order(client, copier, "resume", who, reason),
            annotations=lambda t0_ms, t1_ms: [
                Annotation(row.t_ms, row.title) for row in store.annotations.list(t0_ms, t1_ms)
            ],
            processes=lambda: [_process(child) for child in children()],
            store_health=lambda: Health(store.health().ok, store.health().reason),
            routers=(
                prometheus_router(
                    query, alerts, store.live, clock, gate=gate, meter=meter, build=BuildInfo(version=version)
                ),
                ingest_router(store, clock, gate=gate, meter=meter),
                exposition_router(store.live, clock, gate=gate, meter=meter),
            ),
        )
        server = build_server(services)
        if live:
            for collector in (*collectors, LiveCollector(server.state.hub)):
                # All in the same phase: waking one core once for all of them is cheaper than spreading them out.
                thread = CollectorThread(collector, clock, store.live.append)
                thread.start()
                cleanup.callback(thread.stop)
        asyncio.run(_serve(server, settings, paths, listener))


async def _serve(server: Any, settings: Settings, paths: RuntimePaths, listener: socket.socket) -> None:
    """Serve until SIGTERM; the heartbeat is a task of the same loop, so it stops where the loop hangs."""
    config = uvicorn.Config(
        server,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        **uvicorn_options(settings.web),
    )
    web = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, web.stop)
    heartbeat = loop.create_task(_beat(paths.console_heartbeat))
    try:
        await web.serve(sockets=[listener])
    finally:
        heartbeat.cancel()


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the supervisor says when to stop."""

    def stop(self) -> None:
        self.should_exit = True

    def capture_signals(self) -> Any:
        return nullcontext()


async def _beat(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        with suppress(OSError):
            temporary = path.with_suffix(".new")
            temporary.write_bytes(struct.pack("<q", time.time_ns()))
            temporary.replace(path)
        await asyncio.sleep(HEARTBEAT_S)


def _schedule(store: Store, clock: Clock) -> BackgroundScheduler:
    """The recurring work on the archive; each run is a row, and a run missed while down happens soon after the start."""
    runs = store.job_runs
    runs.recover()
    scheduler = BackgroundScheduler(timezone="UTC")
    for job in JOBS:
        first_s = SETTLE_S if runs.missed(job.name, round(job.every_s * 1e3)) else job.every_s
        scheduler.add_job(
            _run_job,
            "interval",
            (job, store, clock),
            seconds=job.every_s,
            next_run_time=datetime.now(UTC) + timedelta(seconds=first_s),
            id=job.name,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )
    scheduler.start()
    return scheduler


def _run_job(job: Job, store: Store, clock: Clock) -> None:
    try:
        store.job_runs.run(job.name, lambda: job.function(store, clock.now_ns() // 1_000_000))
    except DeskvigilError as error:  # the database cannot be written: the next run tries again
        log.warning("job %s could not be recorded: %s", job.name, error)


def _note(pool: ThreadPoolExecutor, store: Store, event: Event) -> None:
    """Write an annotation in the notes thread: a collector's thread must not wait for the database."""

    def write() -> None:
        try:
            store.annotations.add(event.kind, event.title, t_ms=event.t_ms)
        except DeskvigilError as error:
            log.warning("annotation %r is not stored: %s", event.title, error)

    with suppress(RuntimeError):  # the pool is shut down: the program is ending
        pool.submit(write)


class CommandCopier:
    """Copies what was ordered of the engine, by button or command line, from the engine's log into the audit.

    Each entry comes once, also where the console was down when it was ordered: how far the copy has
    come is a row of the same transaction.
    """

    def __init__(self, path: Path, store: Store, pool: ThreadPoolExecutor) -> None:
        self._path = path
        self._store = store
        self._pool = pool
        self._copied_bytes = 0

    def observe(self, frame: Frame) -> None:
        """Look with each frame of one slow collector: once a second."""
        if frame.schema.collector == "process":
            self.look()

    def look(self) -> None:
        """Copy in the pool's thread if the log has grown."""
        try:
            size = self._path.stat().st_size
        except OSError:  # nothing was ever ordered
            return
        if size != self._copied_bytes:
            with suppress(RuntimeError):  # the pool is shut down: the program is ending
                self._pool.submit(self._copy, size)

    def _copy(self, size: int) -> None:
        try:
            self.copy()
        except DeskvigilError as error:
            log.warning("orders to the engine are not in the audit yet: %s", error)
        else:
            self._copied_bytes = size

    def copy(self) -> int:
        """Copy what is new; returns how many entries. Raises DeskvigilError, having copied nothing."""
        with self._store.write() as connection:
            mark = connection.execute(select(meta.c.value).where(meta.c.key == COPIED)).scalar()
            known, seq = json.loads(mark) if mark else ("", 0)
            found = read_log(self._path, known, seq)
            if found is None or not found.entries:
                return 0
            for entry in found.entries:
                detail = {"scope": entry.scope, "reason": entry.reason, "answer": entry.answer}
                record(
                    connection,
                    t_ms=entry.t_ns // 1_000_000,
                    who=entry.who,
                    action=entry.command,
                    object_="engine",
                    detail=detail,
                )
            connection.execute(delete(meta).where(meta.c.key == COPIED))
            value = json.dumps([found.log, found.entries[-1].seq])
            connection.execute(insert(meta).values(key=COPIED, value=value))
            return len(found.entries)


def _order(client: CommandClient, copier: CommandCopier, command: str, who: str, reason: str) -> str:
    """Give the engine an order; its log, and by that the audit, has it with the answer."""
    answer = client.send({"command": command, "scope": "all", "who": who, "reason": reason})
    copier.look()
    if not answer.get("ok"):
        raise DeskvigilError(f"the engine refuses to {command}: {answer.get('error', 'no reason given')}")
    return f"trading is {answer['state']}" + (
        f", {answer['cancelled']} orders cancelled" if "cancelled" in answer else ""
    )


def _engine_info(engine: EngineCollector, store: Store) -> EngineInfo:
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


def _status(child: ChildState) -> ChildStatus:
    return ChildStatus(child.name, child.pid, child.restarts, child.started_ns, child.last_exit)


def _process(child: ChildState) -> ProcessInfo:
    return ProcessInfo(child.name, "running" if child.pid else "restarting", child.pid or None, child.restarts)
