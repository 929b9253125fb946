"""What the page "Silences & on-call" asks and does, and what people do to alerts beyond acknowledging one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from dashboard.api.desk import act, said_text
from dashboard.services import OnCall, Services, Silences
from metrics.errors import DeskvigilError

MAX_MATCHERS = 50
MAX_BULK_BODY = 131_072


def oncall_router(services: Services) -> APIRouter:
    """/api/desk/oncall, its overrides and silences, and /api/desk/alerts/... for several, assigning and taking back."""
    router = APIRouter(prefix="/api/desk")

    @router.get("/oncall")
    async def shown(_request: Request) -> Response:
        try:
            body, status = await asyncio.to_thread(_shown, services), 200
        except DeskvigilError as error:
            body, status = {"error": str(error)}, 503
        return Response(
            orjson.dumps(body), status, media_type="application/json", headers={"Cache-Control": "no-store"}
        )

    @router.post("/alerts/acknowledge")
    async def acknowledge_all(request: Request) -> Response:
        def note(who: str, said: dict[str, Any]) -> str:
            found = services.alerts.acknowledge_all(_texts(said, "alerts"), who, said_text(said, "comment"))
            return f"{len(found)} alerts are acknowledged"

        return await act(request, note, most=MAX_BULK_BODY)

    @router.post("/alerts/{alert_id}/unacknowledge")
    async def unacknowledge(alert_id: str, request: Request) -> Response:
        def note(who: str, said: dict[str, Any]) -> str:
            name = services.alerts.unacknowledge(alert_id, who, said_text(said, "comment")).name
            return f"{name} is no longer acknowledged"

        return await act(request, note)

    @router.post("/alerts/{alert_id}/assign")
    async def assign(alert_id: str, request: Request) -> Response:
        def note(who: str, said: dict[str, Any]) -> str:
            person = said_text(said, "person")
            return f"{services.alerts.assign(alert_id, person, who, said_text(said, 'comment')).name} is {person}'s"

        return await act(request, note)

    @router.post("/oncall/overrides")
    async def override(request: Request) -> Response:
        def note(who: str, said: dict[str, Any]) -> str:
            rota, person = said_text(said, "rota"), said_text(said, "person")
            starts_ms, ends_ms = _instant(said, "starts"), _instant(said, "ends")
            _oncall(services).add(rota, person, starts_ms, ends_ms, _name(said, who), said_text(said, "comment"))
            return f"{person} stands in on rota {rota}"

        return await act(request, note)

    @router.post("/oncall/overrides/{override_id}/remove")
    async def remove(override_id: int, request: Request) -> Response:
        def note(who: str, said: dict[str, Any]) -> str:
            found = _oncall(services).remove(override_id, _name(said, who), said_text(said, "comment"))
            return f"{found.person} no longer stands in on rota {found.rota}"

        return await act(request, note)

    @router.post("/silences")
    async def silence(request: Request) -> Response:
        def note(who: str, said: dict[str, Any]) -> str:
            starts_ms, ends_ms = _instant(said, "starts"), _instant(said, "ends")
            made = _silences(services).add(
                _texts(said, "matchers"), starts_ms, ends_ms, _name(said, who), said_text(said, "comment")
            )
            return f"silence {made.id} is in place"

        return await act(request, note)

    @router.post("/silences/{silence_id}/expire")
    async def expire(silence_id: str, request: Request) -> Response:
        def note(who: str, said: dict[str, Any]) -> str:
            return f"silence {_silences(services).expire(silence_id, _name(said, who)).id} has ended"

        return await act(request, note)

    return router


def _shown(services: Services) -> dict[str, Any]:
    """Everything on the page; times are ms since the epoch."""
    active = {view.alert_id: view for view in services.alerts.active()}
    shown: dict[str, Any] = {
        "now": services.clock.now_ns() // 1_000_000,
        "rotas": [],
        "people": [],
        "overrides": [],
        "escalations": [],
        "silences": None,
    }
    for one in services.alerts.escalations():
        view = active.get(one.alert_id)
        if view is not None:
            row = {name: getattr(one, name) for name in ("alert_id", "policy", "state", "step", "steps", "round")}
            row |= {"words": one.words, "due": one.due_ms, "started": one.started_ms}
            row |= {"name": view.name, "summary": view.summary, "severity": view.severity.label}
            row |= {"acked_by": view.acked_by, "assigned_to": view.assigned_to, "lapses": view.ack_until_ms}
            shown["escalations"].append(row)
    if services.oncall is not None:
        shown["people"] = list(services.oncall.people())
        shown["rotas"] = [
            {
                "name": rota.name,
                "zone": rota.zone,
                "duties": [
                    {"person": one.person, "begins": one.begins_ms, "ends": one.ends_ms, "stands_in": one.stands_in}
                    for one in rota.duties
                ],
            }
            for rota in services.oncall.rotas()
        ]
        shown["overrides"] = [
            {
                "id": one.id,
                "rota": one.rota,
                "person": one.person,
                "starts": one.starts_ms,
                "ends": one.ends_ms,
                "by": one.created_by,
                "comment": one.comment,
            }
            for one in services.oncall.overrides()
        ]
    if services.silences is not None:
        shown["silences"] = [
            {
                "id": one.id,
                "matchers": [str(matcher) for matcher in one.matchers],
                "starts": one.starts_ms,
                "ends": one.ends_ms,
                "by": one.created_by,
                "comment": one.comment,
            }
            for one in services.silences.list()
        ]
    return shown


def _oncall(services: Services) -> OnCall:
    if services.oncall is None:
        raise DeskvigilError("this console has no rotas")
    return services.oncall


def _silences(services: Services) -> Silences:
    if services.silences is None:
        raise DeskvigilError("this console keeps no silences")
    return services.silences


def _name(said: dict[str, Any], who: str) -> str:
    """Who acts, with the name that was given: there are no users here, so both are kept."""
    name = said_text(said, "name")
    return f"{name} ({who})" if name else who


def _texts(said: dict[str, Any], key: str) -> Sequence[str]:
    found = said.get(key)
    if not isinstance(found, list) or not found or not all(isinstance(one, str) and one for one in found):
        raise DeskvigilError(f"{key} must be a list of texts that is not empty")
    if key == "matchers" and len(found) > MAX_MATCHERS:
        raise DeskvigilError(f"at most {MAX_MATCHERS} matchers")
    return found


def _instant(said: dict[str, Any], key: str) -> int:
    found = said.get(key)
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < 2**53:
        raise DeskvigilError(f"{key} must be an instant, in milliseconds since the epoch")
    return found
