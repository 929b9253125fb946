"""The console, built in one straight line: collectors, store, query, rules and pages."""

from __future__ import annotations

import asyncio
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from alerts.acklinks import AckLinks, load_key
from alerts.detectors.anomaly import AnomalyCollector
from alerts.detectors.predictive import PredictiveCollector
from alerts.detectors.record import Predictions
from alerts.service import AlertService
from alerts.stats import AlertsCollector
from collectors.collector import Collector
from collectors.engine import EngineCollector
from collectors.events import EventWatcher
from collectors.gpu import GpuCollector
from collectors.host import HostCollector
from collectors.process import ProcessCollector
from collectors.runner import CollectorThread
from console.bottlenecks import BottleneckCollector
from console.cpuplans import CpuPlans, cpu_plans
from console.engineroom import engine_room
from console.memory import MemoryWatch
from console.orderboard import OrderBoardCollector
from console.orders import CommandCopier, order
from console.profiling import Profiling
from console.readings import Readings
from console.reconciliation import Reconciliation
from console.relief import Relief
from console.resourceroom import resource_room
from console.riskroom import risk_device, risk_room
from console.schedule import schedule
from console.silences import PageSilences
from console.views import Checks, child_status, engine_info, process_info, remote_state, status_info, store_health
from console.web import serve
from dashboard.api.acknowledge import acknowledge_router
from dashboard.api.alertmanager import alertmanager_router
from dashboard.api.exposition import exposition_router
from dashboard.api.gate import Gate
from dashboard.api.ingest import ingest_router
from dashboard.api.meter import ApiMeter
from dashboard.api.prometheus import BuildInfo, prometheus_router
from dashboard.server import build_server
from dashboard.services import (
    Annotation,
    NoProfiles,
    Services,
)
from dashboard.stats import LiveCollector
from engine.commands import CommandClient
from metrics.clock import Clock, SystemClock
from metrics.paths import RuntimePaths
from query.engine import QueryEngine
from resources.process import end_with_parent
from resources.sampler import Sampler
from resources.supervisor import ChildState, read_status
from resources.topology import read_topology
from settings import Settings
from storage.stats import StorageCollector
from storage.store import Store

if TYPE_CHECKING:
    from collectors.scrape.service import ScrapeService


def run_console(settings: Settings, paths: RuntimePaths, listener: socket.socket, version: str, *, live: bool) -> None:
    """Build the console, serve until SIGTERM, and take it down in reverse.

    live False leaves out collectors, rules, jobs and the buttons: what `app.py serve` offers.
    """
    clock = SystemClock()
    with ExitStack() as cleanup:
        topology = read_topology()
        helpers = topology.helpers(settings.resources.cpu.helpers)
        store = Store.open(settings.storage, paths, clock, database=settings.database, helpers=helpers)
        cleanup.callback(store.close)
        query = QueryEngine(store.reader, settings.query, clock)
        # Pages and the API ask the remote store where there is one; rules always ask the local one.
        asked = _remote_query(store, settings, clock, cleanup) or query
        links = AckLinks(load_key(paths.acknowledge_key), settings.alerts.external_url, clock)
        alerts = AlertService(store, query, settings.alerts, clock, links=links)
        engine = EngineCollector(paths.engine_block, "engine", clock, settings.collectors.engine_interval_s)
        risk = EngineCollector(paths.risk_block, "risk", clock, settings.collectors.engine_interval_s)
        live_feed = settings.engine.live.venue
        feed = (
            EngineCollector(paths.feed_block, "feed", clock, settings.collectors.engine_interval_s)
            if live_feed
            else None
        )
        board = OrderBoardCollector(paths.orders_block, paths.order_log, clock, Checks(store, clock))
        gpu = GpuCollector(clock, settings.collectors)
        scrape = _scraper(store, settings, clock, version) if live and settings.collectors.scrape else None
        meter = ApiMeter(clock)
        gate = Gate(meter)

        def children() -> list[ChildState]:
            supervisor = ChildState("supervisor", os.getppid(), 0, 0, "")
            return [supervisor, *read_status(paths.supervisor_status)]

        def pids() -> list[tuple[str, int]]:
            return [
                ("console", os.getpid()),
                *((child.name, child.pid) for child in children() if child.name != "console"),
            ]

        sampler = Sampler(settings.collectors.sampler_hz or 1.0)
        bottlenecks = BottleneckCollector(
            Readings(store.live, sampler, pids),
            sampler,
            lambda sentence, t_ms: store.annotations.note("bottleneck", sentence, t_ms=t_ms),
        )
        trades = partial(_trades, engine, store)
        looked = bottlenecks if live and settings.collectors.sampler_hz else None
        profiling = Profiling(
            store.profiles, sampler, bottlenecks, pids, trades, clock, bool(settings.collectors.sampler_hz)
        )
        collectors: list[Collector] = []
        plans: CpuPlans | None = None
        notes = cleanup.enter_context(ThreadPoolExecutor(1, thread_name_prefix="records"))
        copier = CommandCopier(paths.command_log, store, notes)
        store.start()  # `serve` takes samples too (remote write, import), and these want sealing
        cleanup.callback(store.stop)
        if live:
            end_with_parent()
            cleanup.callback(store.live.subscribe(copier.observe))
            watcher = EventWatcher(
                lambda event: store.annotations.note(event.kind, event.title, t_ms=event.t_ms),
                lambda process: next((child.last_exit for child in children() if child.name == process), ""),
            )
            cleanup.callback(store.live.subscribe(watcher.observe))
            cleanup.callback(store.live.subscribe(Relief(notes).observe))
            store.annotations.note("start", f"Deskvigil {version} started", t_ms=clock.now_ns() // 1_000_000)
            alerts.start()
            cleanup.callback(alerts.stop)
            plans = cpu_plans(settings.resources.cpu, topology, paths, store, pids, clock)
            collectors = [
                HostCollector(clock, settings.collectors, paths.data_dir),
                ProcessCollector(clock, settings.collectors, lambda: [child_status(child) for child in children()]),
                gpu,
                StorageCollector(store),
                AlertsCollector(alerts),
                meter,
                *([looked] if looked is not None else []),
                engine,
                risk,
                *([feed] if feed is not None else []),
                board,
                Reconciliation(paths, store, clock),
                plans,
                *([_memory(settings, paths, store, clock)] if settings.memory.report else []),
                *([scrape] if scrape is not None else []),
                *_detectors(settings, store, query, alerts, clock),
                *_forwarding(store),
            ]
            cleanup.callback(profiling.stop)
            if settings.collectors.sampler_hz:
                sampler.start()
                cleanup.callback(sampler.stop)
            scheduler = schedule(store, clock)
            cleanup.callback(scheduler.shutdown, wait=False)

        client = CommandClient(paths.engine_socket)
        services = Services(
            options=settings.web,
            version=version,
            clock=clock,
            live=store.live,
            reader=store.reader,
            query=asked,
            alerts=alerts,
            oncall=alerts.oncall,
            silences=PageSilences(alerts.silences, clock),
            engine=lambda: engine_info(engine, store),
            room=lambda: engine_room(engine),
            risk=lambda: risk_room(risk),
            risk_device=lambda: risk_device(risk),
            resources=lambda: resource_room(settings.memory, looked, plans),
            gpu=lambda: gpu.absence,
            halt=lambda who, reason, scope="all", /: order(client, copier, "halt", who, reason, scope),
            resume=lambda who, reason, scope="all", /: order(client, copier, "resume", who, reason, scope),
            cancel=lambda who, reason, scope="all", /: order(client, copier, "cancel", who, reason, scope),
            orders=board.view,
            breaks=store.breaks,
            annotations=lambda t0_ms, t1_ms: [
                Annotation(row.t_ms, row.title, row.kind, row.t_end_ms, row.text)
                for row in store.annotations.list(t0_ms, t1_ms)
            ],
            processes=lambda: [process_info(child) for child in children()],
            views=store.saved_views,
            profiles=profiling if live else NoProfiles(),
            raw_days=settings.storage.raw_days,
            described=dict if scrape is None else scrape.metadata,
            store_health=lambda: store_health(store),
            remote=lambda: remote_state(store),
            routers=(
                prometheus_router(
                    asked,
                    alerts,
                    store.live,
                    clock,
                    gate=gate,
                    meter=meter,
                    build=BuildInfo(version=version),
                    scrapes=scrape,
                    deleter=store.delete_series if settings.web.enable_admin_api else None,
                    status=status_info(settings),
                ),
                ingest_router(
                    store,
                    clock,
                    gate=Gate(meter, running=settings.web.ingest.running, waiting=settings.web.ingest.waiting),
                    meter=meter,
                    options=settings.web.ingest,
                ),
                exposition_router(store.live, clock, gate=gate, meter=meter),
                alertmanager_router(alerts, clock, gate=gate, meter=meter, version=version),
                acknowledge_router(links, alerts),
            ),
        )
        server = build_server(services)
        if live:
            for collector in (*collectors, LiveCollector(server.state.hub)):
                # All in the same phase: waking one core once for all of them is cheaper than spreading them out.
                thread = CollectorThread(collector, clock, store.live.append)
                thread.start()
                cleanup.callback(thread.stop)
            if scrape is not None:
                scrape.start()
                cleanup.callback(scrape.stop)
        asyncio.run(serve(server, settings.web, paths.console_heartbeat, listener))


def _memory(settings: Settings, paths: RuntimePaths, store: Store, clock: Clock) -> MemoryWatch:
    processes = ["console", "engine", "risk", *(["feed"] if settings.engine.live.venue else [])]

    def note(words: str) -> None:
        store.annotations.note("leak", words, t_ms=clock.now_ns() // 1_000_000)

    return MemoryWatch(clock, settings.memory, paths.block_dir, processes, note)


# What few desks have set up is imported where it is needed: each costs everybody's start some hundredths of a second.


def _trades(engine: EngineCollector, store: Store) -> bool:
    """Whether orders may be sent now: also where the engine lives and cannot be read."""
    return engine_info(engine, store).state != "HALTED"


def _scraper(store: Store, settings: Settings, clock: Clock, version: str) -> ScrapeService:
    from collectors.scrape.service import ScrapeService

    return ScrapeService(
        settings.collectors.scrape,
        clock,
        store.live.append,
        store.ingest,
        max_series=settings.collectors.scrape_max_series,
        version=version,
        refused=lambda: store.live.refused,
    )


def _detectors(
    settings: Settings, store: Store, query: QueryEngine, alerts: AlertService, clock: Clock
) -> list[Collector]:
    options = settings.alerts.detectors
    if not settings.alerts.enabled:
        return []
    predictive = PredictiveCollector(alerts.rule_list, query, Predictions(store), clock.monotonic_ns)
    if not options.anomaly:
        return [predictive]

    def note(words: str, t_ms: int) -> None:
        store.annotations.note("anomaly", words, t_ms=t_ms)

    return [
        predictive,
        AnomalyCollector(
            options.anomaly,
            store.live,
            store.reader,
            query,
            note,
            max_series=options.anomaly_max_series,
            history_days=options.history_days,
        ),
    ]


def _forwarding(store: Store) -> list[Collector]:
    if store.remote is None:
        return []
    from storage.remote.collector import RemoteCollector

    return [RemoteCollector(store.remote)]


def _remote_query(store: Store, settings: Settings, clock: Clock, cleanup: ExitStack) -> QueryEngine | None:
    """An engine over the remote store, where one is set."""
    options = settings.storage
    if not options.url:
        return None
    from query.remote import RemoteEngine, RemoteStore
    from storage.remote.client import RemoteClient
    from storage.remote.options import endpoint

    to = endpoint(options.url, options.write_url, options.password, options.bearer_token, options.headers)
    client = RemoteClient(to, options.remote_query_timeout_s, options.ca_file)
    cleanup.callback(client.close)
    return RemoteEngine(store.reader, RemoteStore(client, clock), settings.query, clock)
