"""Options of the web server and its pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le

from dashboard.api.options import IngestOptions


@dataclass(frozen=True, kw_only=True)
class WebOptions:
    """How the console is served.

    allowed_hosts: names under which browsers may ask besides loopback, `host` and plain addresses
    (an address cannot be re-bound by DNS, a name can). allowed_origins: further origins
    (`https://desk.example`) whose pages may act, for a proxy that changes the Host header.
    external_url: how people reach the console from outside; its host is allowed.
    live_gap_ms: frames that arrive closer together than this share one message.
    live_queue, live_replay: messages kept per viewer, and for viewers that reconnect.
    max_connections: HTTP and WebSocket connections at a time; more get 503. head_timeout_s: a connection on which no
    whole request head has arrived after this long is closed.
    enable_admin_api: serve /api/v1/admin/tsdb/delete_series (also `--enable-admin-api`).
    ingest: what programs may send.
    history_points, history_series: how much one answer of the History page may hold.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Ge(0), Le(65_535)] = 8050
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    external_url: str | None = None
    theme: Literal["system", "dark", "light"] = "system"
    live_gap_ms: Annotated[int, Ge(10), Le(1_000)] = 50
    live_queue: Annotated[int, Ge(4), Le(1_000)] = 40
    live_replay: Annotated[int, Ge(10), Le(10_000)] = 600
    max_connections: Annotated[int, Ge(8), Le(65_536)] = 1_000
    head_timeout_s: Annotated[float, Ge(1), Le(600)] = 10.0
    enable_admin_api: bool = False
    ingest: IngestOptions = field(default_factory=IngestOptions)
    max_viewers: Annotated[int, Ge(1), Le(10_000)] = 200
    history_points: Annotated[int, Ge(100), Le(11_000)] = 1_200
    history_series: Annotated[int, Ge(1), Le(500)] = 60
