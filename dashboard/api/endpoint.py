"""Endpoint: from a request to an answer in Prometheus's form, with the work off the event loop.

A handler is a plain function of parameters; it runs in one of the gate's threads, together with the making and the
compressing of its JSON, so that an answer of ten megabytes does not hold up the live stream. When the client goes away
its `Call` says so, and a query stops at its next look at the clock.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from dashboard.api import answers
from dashboard.api.gate import BusyError, Gate
from dashboard.api.meter import ApiMeter
from dashboard.api.parameters import Parameters, TooLargeError
from metrics.clock import Clock
from metrics.errors import DeskvigilError, TransientError
from query.errors import QueryError

COMPRESS_FROM = 8_192  # bytes; smaller answers fit a few packets as they are
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
Handler = Callable[[Parameters, "Call"], bytes]


class Call:
    """One request that is being worked on."""

    def __init__(self) -> None:
        self.cancelled = False

    def clock(self, clock: Clock) -> Clock:
        """A clock on which every deadline has passed once the client has gone."""
        return _Hurried(clock, self)


class _Hurried:
    def __init__(self, clock: Clock, call: Call) -> None:
        self._clock = clock
        self._call = call

    def now_ns(self) -> int:
        return self._clock.now_ns()

    def monotonic_ns(self) -> int:
        return 1 << 62 if self._call.cancelled else self._clock.monotonic_ns()

    def wait(self, event: object, timeout_s: float) -> bool:
        return self._clock.wait(event, timeout_s)  # type: ignore[arg-type]


def add_endpoint(
    router: APIRouter, path: str, handler: Handler, methods: Sequence[str], *, gate: Gate, meter: ApiMeter
) -> None:
    """Serve a handler at /api/v1<path>; HEAD with every GET, OPTIONS always, 405 for the rest."""
    allowed = [*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"]

    async def endpoint(request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": ", ".join(allowed)})
        if request.method not in allowed:
            response = answers.failure("bad_data", f"{request.method} is not allowed here")
            response.status_code, response.headers["Allow"] = 405, ", ".join(allowed)
        else:
            response = await _answer(request, handler, gate)
        meter.count_request(path, response.status_code)
        return response

    # Plain routes: FastAPI's own would look for parameters to inject with every request.
    router.add_route(f"/api/v1{path}", endpoint, methods=list(_METHODS), include_in_schema=False)


async def _answer(request: Request, handler: Handler, gate: Gate) -> Response:
    """Expected failures become Prometheus's error answers; anything else is a bug and stays an exception."""
    call = Call()
    compress = "gzip" in _accepted(request.headers.get("accept-encoding", ""))
    try:
        parameters = await Parameters.of(request)
        watch = asyncio.ensure_future(_watch(request, call))
        try:
            content, encoding = await gate.run(lambda: _packed(handler(parameters, call), compress))
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
    except QueryError as error:
        if call.cancelled:
            return answers.failure("canceled", "the client has closed the connection")
        return answers.of_query_error(error)
    except ClientDisconnect:
        return answers.failure("canceled", "the client has closed the connection")
    except BusyError as error:
        response = answers.failure("unavailable", str(error))
        response.headers["Retry-After"] = "1"
        return response
    except TransientError as error:
        return answers.failure("unavailable", str(error))
    except DeskvigilError as error:  # storage's own limits, for example
        return answers.failure("execution", str(error))
    except TooLargeError as error:
        response = answers.failure("bad_data", str(error))
        response.status_code = 413
        return response
    if not content:
        return Response(status_code=204)
    response = Response(content, media_type="application/json")
    if len(content) >= COMPRESS_FROM or encoding:
        response.headers["Vary"] = "Accept-Encoding"
    if encoding:
        response.headers["Content-Encoding"] = encoding
    return response


async def _watch(request: Request, call: Call) -> None:
    """Wait until the client goes away; the body, if any, has been read before."""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            call.cancelled = True
            return


def _packed(content: bytes, compress: bool) -> tuple[bytes, str]:
    if not compress or len(content) < COMPRESS_FROM:
        return content, ""
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # the lock is released meanwhile
    return packer.compress(content) + packer.flush(), "gzip"


def _accepted(header: str) -> set[str]:
    """The encodings that a client takes; one with q=0 is one that it does not."""
    found = set()
    for offer in header.split(","):
        name, _, rest = offer.partition(";")
        weight = rest.replace(" ", "").removeprefix("q=")
        if weight.strip("0.") or not rest:
            found.add(name.strip().lower())
    return found
