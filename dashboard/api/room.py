"""What the Latency, the Engine, the Risk and the Resources page ask: present figures (made at most once a second for all viewers), and heatmaps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import orjson
from fastapi import APIRouter, Request, Response

from dashboard.room.heatmap import heatmap
from dashboard.room.machine import read_machine
from dashboard.room.panels import engine_panels
from dashboard.room.readings import GROWTH, read
from dashboard.room.resourcesview import resources_view
from dashboard.room.riskview import risk_view
from dashboard.room.stages import latency_now, limits
from dashboard.services import Services
from dashboard.timerange import DEFAULT
from metrics.clock import Clock
from metrics.errors import DeskvigilError

FRESH_NS = 900_000_000
_AT_ONCE = 2
_KEPT = 64
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


class _Shared:
    """The last answer to each question, made anew when it is older than FRESH_NS: any number of viewers cost one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._made: dict[str, tuple[int, bytes]] = {}

    def get(self, key: str, make: Callable[[], Any], fresh_ns: int = FRESH_NS) -> bytes:
        with self._lock:
            made = self._made.get(key)
            if made is None or self._clock.monotonic_ns() - made[0] > fresh_ns:
                body = orjson.dumps(make(), option=_OPTIONS)
                made = self._clock.monotonic_ns(), body
                if len(self._made) >= _KEPT:
                    self._made.clear()
                self._made[key] = made
            return made[1]


def room_router(services: Services) -> APIRouter:
    """/api/desk/engine, /api/desk/latency, /api/desk/risk, /api/desk/resources and /api/desk/latency/heatmap?stage=&range=."""
    router = APIRouter(prefix="/api/desk")
    now, maps = _Shared(services.clock), _Shared(services.clock)
    limiter: list[anyio.CapacityLimiter] = []

    def now_ms() -> int:
        return services.clock.now_ns() // 1_000_000

    def engine() -> dict[str, Any]:
        at = now_ms()
        readings = read(services, at, growth=tuple(GROWTH))
        return engine_panels(readings, services.room(), services.engine(), services.processes(), at)

    def latency() -> dict[str, Any]:
        return latency_now(read(services, now_ms()), services.room(), limits(services.alerts))

    def resources() -> dict[str, Any]:
        machine = read_machine(services, now_ms())
        return resources_view(machine, services.resources(), services.gpu(), services.risk_device())

    async def answer(work: Callable[[], bytes]) -> Response:
        if not limiter:
            limiter.append(anyio.CapacityLimiter(_AT_ONCE))
        try:
            body, status = await anyio.to_thread.run_sync(work, limiter=limiter[0]), 200
        except DeskvigilError as error:
            body, status = orjson.dumps({"error": str(error)}), 400 if error.permanent else 503
        return Response(body, status, media_type="application/json", headers={"Cache-Control": "no-store"})

    @router.get("/engine")
    async def engine_route() -> Response:
        return await answer(lambda: now.get("engine", engine))

    @router.get("/latency")
    async def latency_route() -> Response:
        return await answer(lambda: now.get("latency", latency))

    @router.get("/risk")
    async def risk_route() -> Response:
        return await answer(lambda: now.get("risk", lambda: risk_view(services.risk())))

    @router.get("/resources")
    async def resources_route() -> Response:
        return await answer(lambda: now.get("resources", resources))

    @router.get("/latency/heatmap")
    async def heatmap_route(request: Request) -> Response:
        stage = request.query_params.get("stage", "order_to_fill")
        preset = request.query_params.get("range", DEFAULT)
        return await answer(lambda: maps.get(f"{stage} {preset}", lambda: heatmap(services, stage, preset)))

    return router
