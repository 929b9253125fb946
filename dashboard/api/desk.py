"""The console's own small API: halt, resume, cancel, acknowledge alerts, explain and close breaks.

Actions are POST with a JSON body, an Origin of ours and a header that a page of another site cannot
set without being asked first (CORS preflight), so no other page can make a browser act here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from dashboard.security import ACTION_HEADER
from dashboard.services import Break, Breaks, Services
from metrics.errors import DeskvigilError

MAX_BODY = 8_192
MAX_TEXT = 1_000


def desk_router(services: Services) -> APIRouter:
    """The routes under /api/desk; Host and Origin have been checked before."""
    router = APIRouter(prefix="/api/desk")

    @router.post("/halt")
    async def halt(request: Request) -> Response:
        return await act(request, lambda who, said: services.halt(who, *_order(said)))

    @router.post("/resume")
    async def resume(request: Request) -> Response:
        return await act(request, lambda who, said: services.resume(who, *_order(said)))

    @router.post("/cancel")
    async def cancel(request: Request) -> Response:
        return await act(request, lambda who, said: services.cancel(who, *_order(said)))

    @router.post("/alerts/{alert_id}/acknowledge")
    async def acknowledge(alert_id: str, request: Request) -> Response:
        def note(who: str, said: dict[str, Any]) -> str:
            return f"{services.alerts.acknowledge(alert_id, who, said_text(said, 'comment')).name} is acknowledged"

        return await act(request, note)

    @router.post("/notifications/{outbox_id}/replay")
    async def replay(outbox_id: int, request: Request) -> Response:
        return await act(request, lambda who, _said: services.alerts.replay(outbox_id, who))

    @router.post("/channels/{name}/test")
    async def try_channel(name: str, request: Request) -> Response:
        return await act(request, lambda who, _said: services.alerts.try_channel(name, who))

    @router.post("/breaks/{break_id}/explain")
    async def explain(break_id: int, request: Request) -> Response:
        return await act(request, lambda who, said: _words(breaks().explain(break_id, who, said_text(said, "comment"))))

    @router.post("/breaks/{break_id}/close")
    async def close(break_id: int, request: Request) -> Response:
        return await act(request, lambda who, said: _words(breaks().close(break_id, who, said_text(said, "comment"))))

    def breaks() -> Breaks:
        if services.breaks is None:
            raise DeskvigilError("this console keeps no breaks")
        return services.breaks

    return router


async def act(request: Request, action: Callable[[str, dict[str, Any]], str], *, most: int = MAX_BODY) -> Response:
    """Check the request's form, act in a worker thread, and answer with a sentence; most: bytes of the body."""
    refusal = _refusal(request)
    if refusal:
        return _answer(403, error=refusal)
    body = await _body(request, most)
    if body is None:
        return _answer(400, error=f"the body must be a JSON object of at most {most >> 10} KiB")
    try:
        return _answer(200, message=await asyncio.to_thread(action, _who(request), body))
    except DeskvigilError as error:
        return _answer(409 if error.permanent else 503, error=str(error))


def _words(found: Break) -> str:
    return f"break {found.id} is {found.state}"


def _order(said: dict[str, Any]) -> tuple[str, str]:
    """Reason and scope of an order to the engine; where nothing is said, it is for everything."""
    return said_text(said, "reason") or "by the console", said_text(said, "scope") or "all"


def _refusal(request: Request) -> str:
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        return "actions are posted as application/json"
    if ACTION_HEADER not in request.headers:
        return f"actions need the header {ACTION_HEADER}"
    # Whether it is one of ours was checked by the middleware; here it must not be missing.
    return "" if "origin" in request.headers else "actions need an Origin header"


async def _body(request: Request, most: int) -> dict[str, Any] | None:
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > most:
            return None
    try:
        said = orjson.loads(content or b"{}")
    except orjson.JSONDecodeError:
        return None
    return said if isinstance(said, dict) else None


def _who(request: Request) -> str:
    """Who acts: there are no users on a loopback console, so where from is what is known."""
    return f"operator at {request.client.host if request.client is not None else 'unknown'}"


def said_text(said: dict[str, Any], key: str) -> str:
    """One text of an action's body, shortened; "" where it has none."""
    return str(said.get(key) or "")[:MAX_TEXT].strip()


def _answer(status: int, **body: str) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
