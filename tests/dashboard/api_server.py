"""A real server with the API's routers on a free port, for the API's tests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2
import numpy as np
import uvicorn
from fastapi import FastAPI

from dashboard.api.admin import SeriesDeleter
from dashboard.api.exposition import exposition_router
from dashboard.api.gate import Gate
from dashboard.api.ingest import ingest_router
from dashboard.api.meter import ApiMeter
from dashboard.api.options import IngestOptions
from dashboard.api.prometheus import BuildInfo, ScrapeView, StatusInfo, prometheus_router
from dashboard.api.samples import Samples
from dashboard.options import WebOptions
from dashboard.server import uvicorn_options
from metrics.clock import Clock, SystemClock
from metrics.errors import TransientError
from metrics.frame import FloatArray, Frame, IntArray
from metrics.series import Schema, Series
from query.engine import QueryEngine, QueryOptions
from query.source import MemorySource
from storage.keys import SeriesKey


@dataclass
class Rules:
    """What an alert service would tell."""

    groups: Sequence[Mapping[str, object]] = ()
    active: Sequence[Mapping[str, object]] = ()

    def rules(self) -> Sequence[Mapping[str, object]]:
        return self.groups

    def alerts(self) -> Sequence[Mapping[str, object]]:
        return self.active


@dataclass
class Live:
    """Newest frames by collector."""

    frames: dict[str, Frame] = field(default_factory=dict)

    @property
    def schemas(self) -> Mapping[str, Schema]:
        return {name: frame.schema for name, frame in self.frames.items()}

    def last_frame(self, collector: str) -> Frame | None:
        return self.frames.get(collector)


def by_series(samples: Samples) -> dict[Series, tuple[list[int], list[float]]]:
    """Times ascending and values of each series; of samples at one time the last."""
    points: dict[Series, dict[int, float]] = {}
    owners = np.repeat(np.arange(len(samples.keys)), samples.counts).tolist()
    for owner, t, v in zip(owners, samples.t_ms.tolist(), samples.values.tolist(), strict=True):
        points.setdefault(samples.keys[owner].series, {})[t] = v
    return {
        series: (sorted(found), [found[t] for t in sorted(found)]) for series, found in sorted(points.items(), key=str)
    }


@dataclass(frozen=True)
class Stored:
    accepted: int
    rejected: int
    reason: str = ""


@dataclass
class MemoryStore:
    """Takes samples into the source that the queries read; can be told to refuse or to be down."""

    source: MemorySource
    reject: int = 0
    down: bool = False
    stored: threading.Condition = field(default_factory=threading.Condition)

    def ingest_columns(self, keys: Sequence[SeriesKey], counts: IntArray, t_ms: IntArray, values: FloatArray) -> Stored:
        if self.down:
            raise TransientError("disk full")
        with self.stored:
            for one, (t, v) in by_series(Samples(list(keys), counts, t_ms, values)).items():
                self.source.put(one, t, v)
            self.stored.notify_all()
        return Stored(len(t_ms) - self.reject, self.reject, "too old" if self.reject else "")

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until samples have arrived that make the condition true."""
        with self.stored:
            return self.stored.wait_for(condition, timeout_s)


@dataclass
class Server:
    url: str
    source: MemorySource
    store: MemoryStore
    rules: Rules
    live: Live
    meter: ApiMeter
    client: httpx2.Client


@contextmanager
def serve(
    *,
    clock: Clock | None = None,
    options: QueryOptions | None = None,
    ingest: IngestOptions | None = None,
    scrapes: ScrapeView | None = None,
    deleter: SeriesDeleter | None = None,
    web: WebOptions | None = None,
) -> Iterator[Server]:
    """Serve the API on 127.0.0.1 until the block ends."""
    clock = clock or SystemClock()
    source, rules, live = MemorySource(), Rules(), Live()
    store = MemoryStore(source)
    meter = ApiMeter(clock)
    gate = Gate(meter)
    app = FastAPI(openapi_url=None)
    engine = QueryEngine(source, options or QueryOptions(), clock)
    status = StatusInfo(config=lambda: "web: {}\n", flags={"web.enable-admin-api": "false"}, retention="30d")
    app.include_router(
        prometheus_router(
            engine,
            rules,
            live,
            clock,
            gate=gate,
            meter=meter,
            build=BuildInfo(version="0.1.0"),
            scrapes=scrapes,
            status=status,
            deleter=deleter,
        )
    )
    app.include_router(ingest_router(store, clock, gate=gate, meter=meter, options=ingest))
    app.include_router(exposition_router(live, clock, gate=gate, meter=meter))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    started = threading.Event()

    class Announced(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started.set()

    protocol = uvicorn_options(web or WebOptions())["http"]
    server = Announced(uvicorn.Config(app, log_level="error", lifespan="off", http=protocol))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert started.wait(30)
        with httpx2.Client(base_url=url, timeout=30) as client:
            yield Server(url, source, store, rules, live, meter, client)
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
