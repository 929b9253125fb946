"""Rule files over HTTP: Prometheus's `POST /-/reload`, and rolling back to a version."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from dashboard.api.desk import act, said_text
from dashboard.services import Services
from metrics.errors import DeskvigilError


def rule_files_router(services: Services) -> APIRouter:
    """The routes; Host and Origin have been checked before."""
    router = APIRouter()

    @router.post("/-/reload")
    @router.put("/-/reload")
    async def reload() -> Response:
        try:
            files = await asyncio.to_thread(services.alerts.reload)
        except DeskvigilError as error:
            return Response(f"{error}\n", 500, media_type="text/plain")
        errors = [file.error for file in files if file.error]
        return Response("".join(f"{error}\n" for error in errors), 500 if errors else 200, media_type="text/plain")

    @router.post("/api/desk/rules/versions/{version_id}/rollback")
    async def roll_back(version_id: int, request: Request) -> Response:
        return await act(
            request,
            lambda who, said: (
                f"{services.alerts.roll_back(version_id, who, said_text(said, 'reason')).name}: "
                f"version {version_id} is in use until the file changes"
            ),
        )

    return router
