"""The web server: FastAPI with Dash inside, the live stream, the APIs, and what guards them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from dash import Dash, Input, Output, State
from dash.backends._fastapi import reset_current_request, set_current_request
from fastapi import FastAPI, Request, Response
from starlette.types import Message

from dashboard.api.desk import desk_router
from dashboard.api.history import history_router
from dashboard.api.oncall import oncall_router
from dashboard.api.profiles import profiles_router
from dashboard.api.room import room_router
from dashboard.api.rulefiles import rule_files_router
from dashboard.components.markup import Component, html
from dashboard.components.shell import shell
from dashboard.compression import StaticCompressionMiddleware
from dashboard.connections import bounded_protocol
from dashboard.live import LiveHub
from dashboard.options import WebOptions
from dashboard.pages import PAGES
from dashboard.pages.history import parameters_of
from dashboard.security import HostPolicy, SecurityMiddleware, content_security_policy
from dashboard.services import Services
from dashboard.socket import live_router
from dashboard.theme import stylesheet

ASSETS = Path(__file__).parent / "assets"
MAX_SOCKET_MESSAGE = 4_096
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def uvicorn_options(options: WebOptions) -> dict[str, Any]:
    """Settings of uvicorn that the console relies on, for `uvicorn.Config(app, **...)`."""
    return {
        "host": options.host,
        "port": options.port,
        "lifespan": "on",
        # Compressing each tick for each viewer costs more processor than the bytes are worth.
        "ws_per_message_deflate": False,
        "ws_max_size": MAX_SOCKET_MESSAGE,
        "ws_ping_interval": 20.0,
        "ws_ping_timeout": 20.0,
        "server_header": False,
        "http": bounded_protocol(options.max_connections, options.head_timeout_s),
    }


def build_server(services: Services) -> FastAPI:
    """Build the whole web application; the live hub starts and stops with its lifespan.

    `app.state.hub` is the LiveHub, for its figures.
    """
    hub = LiveHub(services)
    server = FastAPI(
        title="Deskvigil", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_lifespan(hub), debug=False
    )
    server.state.hub = hub
    server.state.rendered = False
    for router in services.routers:
        server.include_router(router)
    server.include_router(desk_router(services))
    server.include_router(oncall_router(services))
    server.include_router(history_router(services))
    server.include_router(room_router(services))
    server.include_router(rule_files_router(services))
    server.include_router(profiles_router(services))
    server.include_router(live_router(hub, services))
    _add_health(server, services)
    dash = _dash(server, services)
    server.state.dash = dash
    _add_pages(server, dash)
    server.add_middleware(StaticCompressionMiddleware)
    csp = content_security_policy(dash.csp_hashes())
    server.add_middleware(SecurityMiddleware, policy=HostPolicy(services.options), csp=csp)
    return server


def _lifespan(hub: LiveHub) -> Any:
    @asynccontextmanager
    async def lifespan(server: FastAPI) -> AsyncIterator[None]:
        await hub.start()
        try:
            server.state.rendered = await _renders(server)
            yield
        finally:
            await hub.stop()

    return lifespan


async def _renders(server: FastAPI) -> bool:
    """Ask our own application for '/': what a first visitor would wait for is done before we are ready."""
    status = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "state": {},
    }
    await server(scope, receive, send)
    return status == 200


def _add_health(server: FastAPI, services: Services) -> None:
    """`/-/healthy`: the process answers. `/-/ready`: the first page has been rendered."""

    @server.get("/-/healthy")
    async def healthy() -> Response:
        return Response("Deskvigil is healthy.\n", media_type="text/plain")

    @server.get("/-/ready")
    async def ready() -> Response:
        if not server.state.rendered:
            return Response("Deskvigil is starting.\n", 503, media_type="text/plain")
        return Response("Deskvigil is ready.\n", media_type="text/plain")


def _dash(server: FastAPI, services: Services) -> Any:
    """Dash on our FastAPI application, with pages routed by one callback of ours.

    Dash's own page registry is global to the process; two servers in one (tests) would share it.
    """
    make: Any = Dash  # whose signature knows no FastAPI server
    dash = make(
        "dashboard",
        server=server,
        assets_folder=str(ASSETS),
        include_assets_files=False,
        use_pages=False,
        serve_locally=True,
        suppress_callback_exceptions=True,
        update_title="",
        title="Deskvigil",
        add_log_handler=False,
        index_string=_index(services.options),
    )
    # With this a page would open Dash's own socket, which is closed here.
    dash.backend.websocket_capability = False
    dash.enable_dev_tools(debug=False, dev_tools_disable_version_check=True)
    dash.layout = shell(services, PAGES)
    for page in PAGES:
        page.register(dash, services)
    by_path = {page.path: page for page in PAGES}

    @dash.callback(Output("content", "children"), Input("url", "pathname"), State("url", "search"))  # type: ignore[untyped-decorator]
    async def route(pathname: str | None, search: str | None) -> Component:
        page = by_path.get((pathname or "/").rstrip("/") or "/")
        if page is None:
            return html.P(f"There is no page {pathname}.", className="absence")
        return await page.layout(services, parameters_of(search))

    # The catch-all that Dash adds at start answers 200 to anything; ours says 404.
    dash.backend._setup_catchall = lambda: None
    # Without this a deep link that is the very first request gets a page without its scripts.
    dash._setup_server()
    return dash


def _add_pages(server: FastAPI, dash: Any) -> None:
    """A route per page ('/' is Dash's own), and 404 for everything else: JSON for programs, the shell for people."""

    async def page(request: Request) -> Response:
        return _rendered(dash, request, 200)

    for one in PAGES:
        if one.path != "/":
            server.add_api_route(one.path, page, methods=["GET"], include_in_schema=False)

    async def unknown_program(path: str) -> Response:
        body = {"status": "error", "errorType": "not_found", "error": "there is nothing at this address"}
        return Response(orjson.dumps(body), 404, media_type="application/json")

    async def unknown_page(request: Request) -> Response:
        return _rendered(dash, request, 404)

    for prefix in ("/api", "/ws", "/-"):
        server.add_api_route(f"{prefix}/{{path:path}}", unknown_program, methods=_METHODS, include_in_schema=False)
    server.add_api_route("/{path:path}", unknown_page, methods=["GET"], include_in_schema=False)


def _rendered(dash: Any, request: Request, status: int) -> Response:
    token = set_current_request(request)  # type: ignore[no-untyped-call]
    try:
        return Response(dash.index(), status, media_type="text/html", headers={"Cache-Control": "no-store"})
    finally:
        reset_current_request(token)  # type: ignore[no-untyped-call]


def _index(options: WebOptions) -> str:
    """The HTML document. boot.js sets the theme before anything is painted; live.js comes last."""
    return f"""<!DOCTYPE html>
<html lang="en" data-default-theme="{options.theme}">
  <head>
    {{%metas%}}
    <title>{{%title%}}</title>
    <link rel="icon" type="image/svg+xml" href="{_asset("favicon.svg")}">
    <script src="{_asset("boot.js")}"></script>
    <style>{stylesheet()}</style>
    <link rel="stylesheet" href="{_asset("desk.css")}">
    {{%css%}}
  </head>
  <body>
    {{%app_entry%}}
    <footer>{{%config%}}{{%scripts%}}{{%renderer%}}</footer>
    <script type="module" src="{_asset("live/main.js")}"></script>
    <script type="module" src="{_asset("history/main.js")}"></script>
    <script type="module" src="{_asset("room/main.js")}"></script>
    <script type="module" src="{_asset("profiler/main.js")}"></script>
    <script type="module" src="{_asset("oncall/main.js")}"></script>
  </body>
</html>
"""


def _asset(name: str) -> str:
    """An asset's address with its content's hash, so that a new version is never mistaken for an old one."""
    digest = hashlib.sha256((ASSETS / name).read_bytes()).hexdigest()[:10]
    return f"/assets/{name}?v={digest}"
