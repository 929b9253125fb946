"""Profiles and bottlenecks: what the Profiler page asks, and the order to take a profile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from dashboard.api.desk import act, said_text
from dashboard.services import Services
from metrics.errors import DeskvigilError

USUAL_S = 10.0


def profiles_router(services: Services) -> APIRouter:
    """/api/desk/profiles (GET: list, POST: take one), /api/desk/profiles/NAME and .../NAME/collapsed."""
    router = APIRouter(prefix="/api/desk")
    profiles = services.profiles

    @router.get("/profiles")
    async def list_route() -> Response:
        return await _answer(profiles.list)

    @router.post("/profiles")
    async def start_route(request: Request) -> Response:
        def start(who: str, said: dict[str, Any]) -> str:
            process, kind = said_text(said, "process"), said_text(said, "kind") or "cpu"
            return profiles.start(who, process, kind, _seconds(said), said_text(said, "reason"))

        return await act(request, start)

    @router.get("/profiles/{name}")
    async def show_route(name: str) -> Response:
        return await _answer(lambda: profiles.show(name))

    @router.get("/profiles/{name}/collapsed")
    async def collapsed_route(name: str) -> Response:
        try:
            text = await asyncio.to_thread(profiles.collapsed, name)
        except DeskvigilError as error:
            return _error(error)
        # As a file, never as a page: names of functions are somebody else's words.
        headers = {"Content-Disposition": 'attachment; filename="profile.collapsed.txt"', "Cache-Control": "no-store"}
        return Response(text, 200, headers, media_type="text/plain; charset=utf-8")

    return router


def _seconds(said: Mapping[str, Any]) -> float:
    try:
        return float(said.get("seconds", USUAL_S))
    except (TypeError, ValueError):
        raise DeskvigilError(f"seconds must be a number, not {str(said.get('seconds'))[:40]!r}") from None


async def _answer(work: Callable[[], Mapping[str, Any]]) -> Response:
    try:
        body = orjson.dumps(await asyncio.to_thread(work))
    except DeskvigilError as error:
        return _error(error)
    return Response(body, 200, {"Cache-Control": "no-store"}, media_type="application/json")


def _error(error: DeskvigilError) -> Response:
    body = orjson.dumps({"error": str(error)})
    return Response(body, 404 if error.permanent else 503, {"Cache-Control": "no-store"}, media_type="application/json")
