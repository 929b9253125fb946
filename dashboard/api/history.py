"""The History page's API: a question's answer, as JSON for the page and as a file; vocabulary; saved views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from dashboard.api.desk import act, said_text
from dashboard.history.answer import ask
from dashboard.history.files import to_csv, to_parquet
from dashboard.history.payload import payload
from dashboard.history.question import MAX_SEARCH, Question
from dashboard.history.vocabulary import vocabulary
from dashboard.services import SavedView, SavedViews, Services
from metrics.errors import DeskvigilError

T = TypeVar("T")
_AT_ONCE = 4
_PAGE = "history"
_MAX_NAME = 120
_NO_STORE = {"Cache-Control": "no-store"}


def history_router(services: Services) -> APIRouter:
    """The routes under /api/desk that the History page asks; everything that computes runs in a few threads."""
    router = APIRouter(prefix="/api/desk")
    threads = _Threads()

    @router.get("/history")
    async def history(request: Request) -> Response:
        return await threads.json(lambda: payload(services, _question(request)))

    @router.get("/history.csv")
    async def history_csv(request: Request) -> Response:
        def work() -> Response:
            question = _question(request)
            answer = ask(services, question)
            headers = {**_NO_STORE, "Content-Disposition": 'attachment; filename="deskvigil.csv"'}
            return StreamingResponse(to_csv(answer, question), media_type="text/csv; charset=utf-8", headers=headers)

        return await threads.response(work)

    @router.get("/history.parquet")
    async def history_parquet(request: Request) -> Response:
        def work() -> Response:
            question = _question(request)
            body = to_parquet(ask(services, question), question)
            headers = {**_NO_STORE, "Content-Disposition": 'attachment; filename="deskvigil.parquet"'}
            return Response(body, media_type="application/vnd.apache.parquet", headers=headers)

        return await threads.response(work)

    @router.get("/vocabulary")
    async def words(request: Request) -> Response:
        return await threads.json(lambda: vocabulary(services.reader, services.described()))

    @router.get("/views")
    async def views(request: Request) -> Response:
        def work() -> dict[str, Any]:
            return {"views": [_view(one) for one in _views(services).list(_PAGE)]}

        return await threads.json(work)

    @router.post("/views")
    async def save(request: Request) -> Response:
        def work(who: str, said: dict[str, Any]) -> str:
            search = str(said.get("search") or "")
            if not search or len(search) > MAX_SEARCH:
                raise DeskvigilError("a view needs a question")
            view = _views(services).save(_PAGE, _name(said), Question.from_search(search).to_search(), who)
            return f"{view.name} is saved"

        return await act(request, work, most=2 * MAX_SEARCH)

    @router.post("/views/{view_id}/rename")
    async def rename(view_id: int, request: Request) -> Response:
        def work(_who: str, said: dict[str, Any]) -> str:
            return f"the view is called {_views(services).rename(view_id, _name(said)).name}"

        return await act(request, work)

    @router.post("/views/{view_id}/delete")
    async def delete(view_id: int, request: Request) -> Response:
        def work(_who: str, _said: dict[str, Any]) -> str:
            _views(services).delete(view_id)
            return "the view is deleted"

        return await act(request, work)

    return router


class _Threads:
    """Questions are answered a few at a time, off the event loop."""

    def __init__(self) -> None:
        self._limiter: anyio.CapacityLimiter | None = None

    async def run(self, work: Callable[[], T]) -> T:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(_AT_ONCE)
        return await anyio.to_thread.run_sync(work, limiter=self._limiter)

    async def json(self, work: Callable[[], Any]) -> Response:
        def answer() -> Response:
            body = orjson.dumps(work(), option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
            return Response(body, media_type="application/json", headers=_NO_STORE)

        return await self.response(answer)

    async def response(self, work: Callable[[], Response]) -> Response:
        try:
            return await self.run(work)
        except DeskvigilError as error:
            body = orjson.dumps({"error": str(error)})
            status = 400 if error.permanent else 503
            return Response(body, status, media_type="application/json", headers=_NO_STORE)


def _question(request: Request) -> Question:
    return Question.from_search(request.url.query)


def _views(services: Services) -> SavedViews:
    if services.views is None:
        raise DeskvigilError("this console keeps no saved views")
    return services.views


def _name(said: dict[str, Any]) -> str:
    name = " ".join(said_text(said, "name").split())
    if not name or len(name) > _MAX_NAME:
        raise DeskvigilError(f"a view needs a name of at most {_MAX_NAME} characters")
    return name


def _view(view: SavedView) -> dict[str, Any]:
    return {"id": view.id, "name": view.name, "search": view.search, "by": view.created_by, "t": view.updated_ms}
