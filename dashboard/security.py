"""Security: who may ask (Host), who may act (Origin), and what a page may load (CSP).

One ASGI middleware around everything, outermost, because Dash's own hooks cannot deny a request
and do not see WebSockets. A page of another site can make a browser send requests here; it cannot
set the Host header to ours without DNS rebinding, nor hide its Origin. Programs that are no
browser (curl, promtool, Prometheus) send no Origin and carry no ambient credentials: they may post.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.options import WebOptions

ACTION_HEADER = "x-deskvigil-action"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Dash's own WebSocket callbacks are never used here (they leak): what is not needed is not reachable.
_CLOSED_PATHS = frozenset({"/_dash-ws-callback", "/_reload-hash"})


def content_security_policy(script_hashes: Iterable[str]) -> str:
    """The policy of every page: only our own files, and the inline scripts with these hashes."""
    return "; ".join(
        (
            "default-src 'none'",
            " ".join(("script-src 'self'", *script_hashes)),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def hostname_of(host: str) -> str:
    """The name in a Host header, lower case, without port and brackets; "" where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class HostPolicy:
    """Which Host and Origin headers are welcome."""

    def __init__(self, options: WebOptions) -> None:
        names = {"localhost", options.host, *options.allowed_hosts}
        origins = set(options.allowed_origins)
        if options.external_url is not None:
            outside = urlsplit(options.external_url)
            names.add(outside.hostname or "")
            origins.add(f"{outside.scheme}://{outside.netloc}")
        self._names = {name.lower() for name in names if name}
        self._origins = {origin.rstrip("/").lower() for origin in origins}

    def host_allowed(self, host: str) -> bool:
        """True for loopback, our own and configured names, and any plain address."""
        name = hostname_of(host)
        return name in self._names or _is_address(name)

    def origin_allowed(self, origin: str, host: str) -> bool:
        """True where the page that asks comes from the host that it asks, or is listed."""
        if origin.rstrip("/").lower() in self._origins:
            return True
        parts = urlsplit(origin)
        return parts.scheme in {"http", "https"} and parts.netloc.lower() == host.lower()


class SecurityMiddleware:
    """Refuses foreign hosts and origins, and adds the protective headers to every answer."""

    def __init__(self, app: ASGIApp, policy: HostPolicy, csp: str) -> None:
        self._app = app
        self._policy = policy
        self._headers = {
            "Content-Security-Policy": csp,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await self._refuse(scope, receive, send, *refusal)
            return
        await self._app(scope, receive, self._with_headers(send))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason where the request must not reach the application."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if scope["path"] in _CLOSED_PATHS:
            return 404, "not found"
        if not self._policy.host_allowed(host):
            return 400, f"host {hostname_of(host)!r} is not known here; add it to web.allowed_hosts"
        origin = headers.get("origin")
        is_socket = scope["type"] == "websocket"
        if is_socket and origin is None:
            return 403, "a WebSocket needs an Origin header"
        acts = is_socket or scope["method"] not in _SAFE_METHODS
        if acts and origin is not None and not self._policy.origin_allowed(origin, host):
            return 403, f"pages of {origin} may not act here"
        if acts and headers.get("sec-fetch-site") in {"cross-site", "same-site"} and origin is None:
            return 403, "pages of other sites may not act here"
        return None

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, status: int, reason: str) -> None:
        if scope["type"] == "websocket":
            await receive()
            # Closing before accepting is how ASGI refuses a handshake: the client sees HTTP 403.
            await send({"type": "websocket.close", "code": 4003, "reason": reason})
            return
        body = orjson.dumps({"status": "error", "errorType": "forbidden", "error": reason})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        out = self._with_headers(send)
        await out({"type": "http.response.start", "status": status, "headers": headers})
        await out({"type": "http.response.body", "body": body})

    def _with_headers(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        return sending
