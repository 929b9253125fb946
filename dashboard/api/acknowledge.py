"""The page behind the acknowledge link of a message: plain HTML, so that it opens on any phone.

GET only shows: programs that look at links in mails change nothing. POST acknowledges; it needs an Origin,
which the middleware has compared with ours, and a name.
"""

from __future__ import annotations

import asyncio
import html
from typing import Protocol
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response

from alerts.views import AlertView, rfc3339
from dashboard.services import Alerts
from metrics.errors import DeskvigilError

MAX_BODY = 8_192
MAX_NAME = 100
MAX_COMMENT = 1_000
_STYLE = (
    "body{margin:0;padding:16px;background:#f6f7f9;color:#12181f;font:16px/1.5 system-ui,sans-serif}"
    "main{max-width:480px;margin:0 auto;background:#fff;border-radius:6px;padding:16px}"
    "h1{font-size:20px;margin:0 0 8px}label{display:block;margin:12px 0 4px}p{overflow-wrap:anywhere}"
    "input,textarea{width:100%;box-sizing:border-box;font:inherit;padding:8px;border:1px solid #8a97a5;"
    "border-radius:4px;background:inherit;color:inherit}"
    "button{margin-top:16px;width:100%;min-height:44px;font:inherit;font-weight:600;border:0;border-radius:4px;"
    "background:#1d5fd0;color:#fff}"
    "@media(prefers-color-scheme:dark){body{background:#0e1216;color:#e6ebf0}main{background:#171d23}}"
)


class Links(Protocol):
    """What makes of a link's last part the alert it stands for."""

    def read(self, token: str) -> str: ...


def acknowledge_router(links: Links, alerts: Alerts) -> APIRouter:
    """GET and POST /acknowledge/TOKEN."""
    router = APIRouter(prefix="/acknowledge")

    @router.get("/{token}")
    async def ask(token: str) -> Response:
        try:
            view = _find(alerts, links.read(token))
        except DeskvigilError as error:
            return _page(404, "This link cannot be used", f"<p>{html.escape(str(error))}</p>")
        return (
            _page(200, "Acknowledge this alert?", _form(view)) if view.acked_by is None else _page(200, *_taken(view))
        )

    @router.post("/{token}")
    async def acknowledge(token: str, request: Request) -> Response:
        if "origin" not in request.headers:
            return _page(403, "Not acknowledged", "<p>The form must be sent from its own page.</p>")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY:
                return _page(400, "Not acknowledged", "<p>That is too much text.</p>")
        said = parse_qs(body.decode("utf-8", "replace"), max_num_fields=10) if body.count(b"&") < 10 else {}
        name = said.get("name", [""])[0].strip()[:MAX_NAME]
        comment = said.get("comment", [""])[0].strip()[:MAX_COMMENT]
        if not name:
            return _page(400, "Not acknowledged", "<p>Please go back and say who you are.</p>")
        try:
            alert_id = links.read(token)
            view = _find(alerts, alert_id)
            if view.acked_by is not None:
                return _page(409, *_taken(view))
            view = await asyncio.to_thread(alerts.acknowledge, alert_id, name, comment)
        except DeskvigilError as error:
            status = 409 if error.permanent else 503
            return _page(status, "Not acknowledged", f"<p>{html.escape(str(error))}</p>")
        words = f"<p>{html.escape(view.summary)}</p><p>Acknowledged by {html.escape(name)}.</p>"
        return _page(200, "Acknowledged", words)

    return router


def _find(alerts: Alerts, alert_id: str) -> AlertView:
    for view in alerts.active():
        if view.alert_id == alert_id:
            return view
    raise DeskvigilError("This alert is over: it is resolved, and there is nothing left to acknowledge.")


def _taken(view: AlertView) -> tuple[str, str]:
    at = rfc3339(view.acked_at_ms or 0)
    comment = f"<p>{html.escape(view.ack_comment)}</p>" if view.ack_comment else ""
    return "Already acknowledged", f"<p>By {html.escape(view.acked_by or '')} at {at}.</p>{comment}"


def _form(view: AlertView) -> str:
    return (
        f"<p><b>{html.escape(view.severity.label)}</b>: {html.escape(view.summary)}</p>"
        f"<p>Firing since {rfc3339(view.fired_at_ms or view.active_since_ms)}.</p>"
        '<form method="post"><label for="name">Your name</label>'
        f'<input id="name" name="name" required maxlength="{MAX_NAME}" autocomplete="name">'
        '<label for="comment">What you are doing about it</label>'
        f'<textarea id="comment" name="comment" rows="3" maxlength="{MAX_COMMENT}"></textarea>'
        '<button type="submit">Acknowledge</button></form>'
    )


def _page(status: int, title: str, inner: str) -> Response:
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main><h1>{title}</h1>{inner}</main></body></html>"
    )
    return Response(text, status, media_type="text/html", headers={"Cache-Control": "no-store"})
