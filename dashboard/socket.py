"""The WebSocket `/ws/live`: one viewer's conversation with the hub.

The page says hello with the last epoch and number it saw; afterwards it may ask for the history of
a page's charts, and the Orders page puts its question. Everything else comes from the hub.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import orjson
from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from dashboard.backfill import RANGES_S
from dashboard.live import LiveHub, Viewer
from dashboard.selection import PAGES
from dashboard.services import Services
from metrics.errors import DeskvigilError

HELLO_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 30.0
MAX_MESSAGE = 1_000
ORDERS_EVERY_S = 0.3
_CLOSE_BAD, _CLOSE_FULL = 1008, 1013


class BadMessageError(DeskvigilError):
    """A viewer said something that is not part of the conversation."""


def live_router(hub: LiveHub, services: Services) -> APIRouter:
    """The route `/ws/live`; Host and Origin have been checked before."""
    router = APIRouter()

    @router.websocket("/ws/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        try:
            hello = await asyncio.wait_for(_said(socket), HELLO_TIMEOUT_S)
            viewer = hub.join(str(hello.get("epoch", "")), _number(hello, "seq"))
            if viewer is None:
                await socket.close(_CLOSE_FULL, "too many viewers")
                return
            await _converse(hub, services, socket, viewer)
        except TimeoutError:
            await socket.close(_CLOSE_BAD, "no hello")
        except BadMessageError as error:
            await socket.close(_CLOSE_BAD, str(error))
        except WebSocketDisconnect:
            pass

    return router


async def _converse(hub: LiveHub, services: Services, socket: WebSocket, viewer: Viewer) -> None:
    """Send and listen until either ends, then end the other."""
    tasks = [
        asyncio.create_task(_send(hub, socket, viewer)),
        asyncio.create_task(_listen(hub, socket, viewer)),
        asyncio.create_task(_show_orders(services, socket, viewer)),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hub.leave(viewer)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _send(hub: LiveHub, socket: WebSocket, viewer: Viewer) -> None:
    while True:
        await viewer.wake.wait()
        viewer.wake.clear()
        while viewer.lagging or viewer.queue:
            if viewer.lagging:
                viewer.lagging = False
                message = hub.snapshot()
            else:
                message = viewer.queue.popleft()
            # A peer that takes nothing for this long is gone; TCP alone would keep it for hours.
            await asyncio.wait_for(socket.send_bytes(message), SEND_TIMEOUT_S)
            hub.stats.bytes_sent += len(message)


async def _show_orders(services: Services, socket: WebSocket, viewer: Viewer) -> None:
    """Answer the Orders page's question again whenever the answer has changed, a few times a second."""
    sent = b""
    while True:
        await viewer.asked.wait()
        viewer.asked.clear()
        while viewer.question is not None:
            try:
                answer = {"k": "orders", **await asyncio.to_thread(services.orders, viewer.question)}
            except DeskvigilError as error:
                answer = {"k": "orders", "error": str(error)}
            message = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
            if message != sent:
                await asyncio.wait_for(socket.send_bytes(message), SEND_TIMEOUT_S)
                sent = message
            with suppress(TimeoutError):  # a new question is answered at once
                await asyncio.wait_for(viewer.asked.wait(), ORDERS_EVERY_S)
            viewer.asked.clear()


async def _listen(hub: LiveHub, socket: WebSocket, viewer: Viewer) -> None:
    while True:
        said = await _said(socket)
        if said.get("k") == "orders":
            viewer.question = None if said.get("off") else said
            viewer.asked.set()
            continue
        page, span_s = said.get("page"), _number(said, "range")
        if said.get("k") != "history" or page not in PAGES or span_s not in RANGES_S:
            raise BadMessageError("only history of a known page and range can be asked for")
        try:
            message = await hub.backfill.message(page, span_s)
        except DeskvigilError as error:
            message = orjson.dumps({"k": "history", "page": page, "range": span_s, "error": str(error)})
        await socket.send_bytes(message)


async def _said(socket: WebSocket) -> dict[str, Any]:
    text = await socket.receive_text()
    if len(text) > MAX_MESSAGE:
        raise BadMessageError("message too long")
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise BadMessageError("not JSON") from None
    if not isinstance(said, dict):
        raise BadMessageError("not a JSON object")
    return said


def _number(said: dict[str, Any], key: str) -> int:
    value = said.get(key, -1)
    if not isinstance(value, int):
        raise BadMessageError(f"{key} is not a number")
    return value
