"""Alertmanager's HTTP API v2 under /api/v2: alerts, groups, silences, receivers, status. `amtool` works unchanged.

Alerts that a Prometheus sends here are alerts like our own. docs/API.md says what is otherwise than in Alertmanager.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import anyio
import orjson
from fastapi import APIRouter, Request, Response

from alerts.errors import SilenceError, UnknownSilenceError
from alerts.external import Sent
from alerts.policy.decide import Routing
from alerts.policy.decision import Why
from alerts.policy.matchers import Matchers, matcher_json, matcher_of_json, matches_all, parse_matchers
from alerts.policy.silences import Silence, Silences
from alerts.state import AlertState
from alerts.views import AlertView, rfc3339
from dashboard.api.gate import BusyError, Gate
from dashboard.api.meter import ApiMeter
from dashboard.api.parameters import RECEIVE_S, TooLargeError, body
from metrics.clock import Clock
from metrics.errors import DeskvigilError
from query import matchers as promql
from query.errors import QueryError

MOST_BODY_BYTES = 4 << 20
MOST_ALERTS = 2000  # in one request; Prometheus sends 64 at most
MOST_FILTERS = 64
_YEAR_0 = "0001-01-01"  # how Go writes a time that is not set


class AlertRoom(Protocol):
    """The alert service, as far as this API uses it."""

    @property
    def silences(self) -> Silences: ...
    @property
    def routing(self) -> Routing: ...
    def active(self) -> Sequence[AlertView]: ...
    def receive(self, alerts: Sequence[Sent], sender: str) -> list[str]: ...


class BadRequestError(ValueError):
    """What the client asks cannot be; the message says why."""


Handler = Callable[["Question"], object]


class Question:
    """One request as a handler sees it: parameters of the address, the body as JSON, who asks."""

    def __init__(self, request: Request, content: bytes) -> None:
        self._query = request.query_params
        self._content = content
        self.path = request.path_params
        self.client = request.client.host if request.client is not None else "unknown"

    def flag(self, name: str) -> bool:
        """A boolean, true where it is absent."""
        text = self._query.get(name, "true").lower()
        if text not in ("true", "false", "1", "0"):
            raise BadRequestError(f"parameter {name}: {text[:40]!r} is neither true nor false")
        return text in ("true", "1")

    def filters(self) -> Matchers:
        """All `filter` parameters together."""
        texts = self._query.getlist("filter")
        if len(texts) > MOST_FILTERS:
            raise BadRequestError(f"more than {MOST_FILTERS} filters")
        try:
            return tuple(one for text in texts for one in parse_matchers(text))
        except ValueError as error:
            raise BadRequestError(f"bad matcher format: {error}") from None

    def receiver(self) -> Callable[[str], bool]:
        """The test of a receiver's name."""
        pattern = self._query.get("receiver", "")
        try:
            return promql.predicate(promql.Matcher("receiver", "=~", pattern)) if pattern else lambda name: True
        except QueryError as error:
            raise BadRequestError(f"failed to parse receiver param: {error}") from None

    def json(self) -> Any:
        """The body."""
        try:
            return orjson.loads(self._content)
        except orjson.JSONDecodeError as error:
            raise BadRequestError(f"parsing body body from {self.client!r} failed: {error}") from None


def alertmanager_router(room: AlertRoom, clock: Clock, *, gate: Gate, meter: ApiMeter, version: str) -> APIRouter:
    """The routes."""
    api = AlertmanagerApi(room, clock, version)
    router = APIRouter()
    routes: tuple[tuple[str, dict[str, Handler]], ...] = (
        ("/status", {"GET": api.status}),
        ("/receivers", {"GET": api.receivers}),
        ("/alerts", {"GET": api.alerts, "POST": api.receive}),
        ("/alerts/groups", {"GET": api.groups}),
        ("/silences", {"GET": api.silences, "POST": api.add_silence}),
        ("/silence/{silence_id}", {"GET": api.silence, "DELETE": api.expire_silence}),
    )
    for path, handlers in routes:
        endpoint = _endpoint(path, handlers, gate, meter)
        router.add_route(f"/api/v2{path}", endpoint, methods=list(handlers), include_in_schema=False)
    return router


def _endpoint(path: str, handlers: Mapping[str, Handler], gate: Gate, meter: ApiMeter) -> Any:
    async def endpoint(request: Request) -> Response:
        handler = handlers["GET" if request.method == "HEAD" else request.method]
        response = await _answer(request, handler, gate)
        meter.count_request(f"/api/v2{path}", response.status_code)
        return response

    return endpoint


async def _answer(request: Request, handler: Handler, gate: Gate) -> Response:
    """Expected failures are Alertmanager's: a JSON text with the status; anything else is a bug and stays an exception."""
    try:
        with anyio.fail_after(RECEIVE_S):
            content = await body(request, MOST_BODY_BYTES) if request.method == "POST" else b""
        question = Question(request, content)
        found = await gate.run(lambda: orjson.dumps(handler(question)))
    except (BadRequestError, SilenceError) as error:
        return _told(400, str(error))
    except UnknownSilenceError as error:
        return _told(404, str(error))
    except TooLargeError as error:
        return _told(413, str(error))
    except TimeoutError:
        return _told(408, f"the body did not arrive within {RECEIVE_S:g} s")
    except BusyError as error:
        return _told(503, str(error))
    except DeskvigilError as error:  # it could not be stored: nothing has changed, or it waits to be
        return _told(503, str(error))
    return Response(b"" if found == b"null" else found, media_type="application/json")


def _told(status: int, words: str) -> Response:
    response = Response(orjson.dumps(words[:2000]), status_code=status, media_type="application/json")
    if status == 503:
        response.headers["Retry-After"] = "1"
    return response


class AlertmanagerApi:
    """One method per endpoint: a question in, what is to be JSON out."""

    def __init__(self, room: AlertRoom, clock: Clock, version: str) -> None:
        self._room = room
        self._clock = clock
        self._version = version
        self._started_ms = self._now_ms()

    def status(self, _: Question) -> object:
        """No cluster, the policy file as it is in force, since when this runs."""
        file = self._room.routing.file
        names = ("branch", "buildDate", "buildUser", "goVersion", "revision")
        return {
            "cluster": {"name": "deskvigil", "status": "disabled", "peers": []},
            "versionInfo": {**dict.fromkeys(names, ""), "version": self._version},
            "config": {"original": file.text or "# no policy file: every channel is told of every alert\n"},
            "uptime": rfc3339(self._started_ms),
        }

    def receivers(self, _: Question) -> object:
        """The policy's receivers."""
        return [{"name": name} for name in self._room.routing.file.receivers]

    def alerts(self, question: Question) -> object:
        """filter, receiver, active, silenced, inhibited, unprocessed: the firing alerts."""
        question.flag("unprocessed")  # none is: an alert is processed when it becomes one
        return [one for _, one in self._wanted(question)]

    def groups(self, question: Question) -> object:
        """filter, receiver, active, silenced, inhibited: the firing alerts by group and receiver."""
        wants = question.receiver()
        root = self._room.routing.file.route
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for view, alert in self._wanted(question):
            for route in root.match(view.labels):
                if not wants(route.receiver):
                    continue
                labels = route.group_labels(view.labels)
                key = (route.path, route.group_key(labels))
                fresh = {"labels": labels, "receiver": {"name": route.receiver}, "alerts": []}
                found.setdefault(key, fresh)["alerts"].append(alert)
        return sorted(found.values(), key=lambda group: (sorted(group["labels"].items()), group["receiver"]["name"]))

    def receive(self, question: Question) -> object:
        """Alerts of another program."""
        raw = question.json()
        if not isinstance(raw, list):
            raise BadRequestError("the body must be a list of alerts")
        if len(raw) > MOST_ALERTS:
            raise BadRequestError(f"more than {MOST_ALERTS} alerts in one request")
        sent: list[Sent] = []
        problems: list[str] = []
        for one in raw:
            try:
                sent.append(_sent(one))
            except ValueError as error:
                problems.append(str(error))
        problems += self._room.receive(sent, question.client)
        if problems:
            more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
            raise BadRequestError("; ".join(problems[:5]) + more)
        return None

    def silences(self, question: Question) -> object:
        """filter: all silences, those of the last five days among them."""
        filters, now_ms = question.filters(), self._now_ms()
        return [
            _silence_json(one, now_ms)
            for one in self._room.silences.list()
            if matches_all(filters, {matcher.name: matcher.value for matcher in one.matchers})
        ]

    def silence(self, question: Question) -> object:
        """One silence."""
        return _silence_json(self._room.silences.get(question.path["silence_id"]), self._now_ms())

    def add_silence(self, question: Question) -> object:
        """Add one, or edit the one of an id."""
        raw = question.json()
        if not isinstance(raw, dict):
            raise BadRequestError("the body must be a silence")
        matchers = raw.get("matchers")
        if not isinstance(matchers, list):
            raise BadRequestError("matchers in body is required")
        try:
            parsed = tuple(matcher_of_json(one) for one in matchers)
            starts_ms, ends_ms = _time_ms(raw, "startsAt"), _time_ms(raw, "endsAt")
        except ValueError as error:
            raise BadRequestError(str(error)) from None
        if ends_ms is None:
            raise BadRequestError("endsAt in body is required")
        who, comment = _text(raw, "createdBy"), _text(raw, "comment")
        added = self._room.silences.add(parsed, ends_ms, who, comment, starts_ms, _text(raw, "id"))
        return {"silenceID": added.silence_id}

    def expire_silence(self, question: Question) -> object:
        """End one."""
        self._room.silences.expire(question.path["silence_id"], f"API at {question.client}")
        return None

    def _wanted(self, question: Question) -> list[tuple[AlertView, dict[str, Any]]]:
        filters, wants, now_ms = question.filters(), question.receiver(), self._now_ms()
        active, silenced, inhibited = (question.flag(name) for name in ("active", "silenced", "inhibited"))
        found = []
        for view in self._room.active():
            if view.state is not AlertState.FIRING or not matches_all(filters, view.labels):
                continue
            receivers = self._room.routing.receivers(view.labels)
            by = [one.silence_id for one in self._room.silences.matching(view.labels, now_ms)]
            causes = [one.by for one in view.suppressed if one.why is Why.INHIBITED]
            if (by and not silenced) or (causes and not inhibited) or (not by and not causes and not active):
                continue
            if any(wants(name) for name in receivers):
                found.append((view, self._alert_json(view, receivers, by, causes, now_ms)))
        return found

    def _alert_json(
        self, view: AlertView, receivers: Sequence[str], silenced: list[str], inhibited: list[str], now_ms: int
    ) -> dict[str, Any]:
        posted = view.posted
        ends_ms = now_ms + self._room.routing.file.resolve_timeout_ms if posted is None else posted.ends_ms
        return {
            "annotations": dict(view.annotations),
            "endsAt": rfc3339(ends_ms),
            "fingerprint": view.fingerprint,
            "receivers": [{"name": name} for name in receivers],
            "startsAt": rfc3339(view.active_since_ms),
            "status": {
                "inhibitedBy": inhibited,
                "silencedBy": silenced,
                "state": "suppressed" if silenced or inhibited else "active",
            },
            "updatedAt": rfc3339(now_ms),
            "generatorURL": posted.generator_url if posted is not None else "",
            "labels": dict(view.labels),
        }

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000


def _silence_json(one: Silence, now_ms: int) -> dict[str, Any]:
    return {
        "id": one.silence_id,
        "status": {"state": one.state(now_ms).value},
        "updatedAt": rfc3339(one.updated_ms),
        "comment": one.comment,
        "createdBy": one.created_by,
        "endsAt": rfc3339(one.ends_ms),
        "startsAt": rfc3339(one.starts_ms),
        "matchers": [matcher_json(matcher) for matcher in one.matchers],
    }


def _sent(raw: Any) -> Sent:
    if not isinstance(raw, dict):
        raise ValueError("an alert must be an object")
    return Sent(
        labels=_texts(raw, "labels"),
        annotations=_texts(raw, "annotations"),
        starts_ms=_time_ms(raw, "startsAt"),
        ends_ms=_time_ms(raw, "endsAt"),
        generator_url=_text(raw, "generatorURL"),
    )


def _texts(raw: Mapping[str, Any], key: str) -> dict[str, str]:
    found = raw.get(key) or {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise BadRequestError(f"{key} must be texts by name")
    return found


def _text(raw: Mapping[str, Any], key: str) -> str:
    found = raw.get(key) or ""
    if not isinstance(found, str):
        raise BadRequestError(f"{key} must be a text")
    return found


def _time_ms(raw: Mapping[str, Any], key: str) -> int | None:
    """RFC 3339 with a zone and any number of decimals; None where it is absent or Go's zero."""
    text = raw.get(key)
    if text is None or text == "" or (isinstance(text, str) and text.startswith(_YEAR_0)):
        return None
    try:
        when = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise BadRequestError(f"{key}: {str(text)[:60]!r} is no time as RFC 3339 writes it") from None
    if when.tzinfo is None:
        raise BadRequestError(f"{key}: {text[:60]!r} has no time zone")
    return round((when - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
