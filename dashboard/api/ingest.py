"""Samples sent to us: POST /api/v1/write (remote write 1.0) and /api/v1/import/prometheus (text).

Both store all samples of a request or, where any of them is malformed, none: a sender can correct
and repeat the whole. What storage itself turns away (too old, for example) is told and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from annotated_types import Ge
from fastapi import APIRouter, Request, Response

from dashboard.api.gate import BusyError, Gate
from dashboard.api.meter import ApiMeter
from dashboard.api.parameters import TooLargeError, body
from dashboard.api.remote_write import RemoteWriteDecoder, TooLargeBlockError
from dashboard.api.samples import BadSampleError, Samples
from dashboard.api.text_format import read
from metrics.clock import Clock
from metrics.errors import TransientError
from metrics.frame import FloatArray, IntArray
from metrics.series import Series


@dataclass(frozen=True, kw_only=True)
class IngestOptions:
    """Limits of one request, in bytes: as sent, and a snappy block's content."""

    most_body_bytes: Annotated[int, Ge(1_024)] = 16 * 1024 * 1024
    most_block_bytes: Annotated[int, Ge(1_024)] = 64 * 1024 * 1024


class IngestResult(Protocol):
    """What became of a request's samples."""

    @property
    def accepted(self) -> int: ...

    @property
    def rejected(self) -> int: ...

    @property
    def reason(self) -> str: ...


class IngestStore(Protocol):
    """Where samples go; durable when it returns, TransientError while it cannot store."""

    def ingest(
        self, series: Sequence[Series], t_ms: Sequence[IntArray], values: Sequence[FloatArray]
    ) -> IngestResult: ...


def ingest_router(
    store: IngestStore, clock: Clock, *, gate: Gate, meter: ApiMeter, options: IngestOptions | None = None
) -> APIRouter:
    """The two routes."""
    ingest = Ingest(store, clock, gate, meter, options or IngestOptions())
    router = APIRouter(prefix="/api/v1")
    router.add_api_route("/write", ingest.write, methods=["POST"], include_in_schema=False)
    router.add_api_route("/import/prometheus", ingest.text, methods=["POST"], include_in_schema=False)
    return router


class Ingest:
    """The handlers."""

    def __init__(self, store: IngestStore, clock: Clock, gate: Gate, meter: ApiMeter, options: IngestOptions) -> None:
        self._store = store
        self._clock = clock
        self._gate = gate
        self._meter = meter
        self._options = options
        self._decoder = RemoteWriteDecoder(options.most_block_bytes)

    async def write(self, request: Request) -> Response:
        """Remote write 1.0."""
        encoding = request.headers.get("content-encoding", "snappy").lower()
        kind = request.headers.get("content-type", "application/x-protobuf").lower()
        if encoding != "snappy" or not kind.startswith("application/x-protobuf") or "write.v2" in kind:
            return self._told("/write", 415, "expected remote write 1.0: application/x-protobuf, snappy block")
        return await self._stored("/write", request, self._decoder.decode)

    async def text(self, request: Request) -> Response:
        """Text exposition with optional millisecond timestamps."""
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            return self._told("/import/prometheus", 415, "expected plain text without content encoding")
        now_ms = self._clock.now_ns() // 1_000_000

        def parse(content: bytes) -> Samples:
            try:
                return read(content.decode("utf-8"), now_ms)
            except UnicodeDecodeError as error:
                raise BadSampleError(f"not UTF-8: {error.reason} at byte {error.start}") from None

        return await self._stored("/import/prometheus", request, parse)

    async def _stored(self, path: str, request: Request, parse: Callable[[bytes], Samples]) -> Response:
        try:
            content = await body(request, self._options.most_body_bytes)
            result = await self._gate.run(lambda: self._store_parsed(parse(content)))
        except BadSampleError as error:
            return self._told(path, 400, str(error))
        except (TooLargeError, TooLargeBlockError) as error:
            return self._told(path, 413, str(error))
        except (BusyError, TransientError) as error:
            response = self._told(path, 503, str(error))
            response.headers["Retry-After"] = "1"
            return response
        if result is not None and result.rejected:
            return self._told(
                path, 400, f"{result.rejected} samples rejected, {result.accepted} stored: {result.reason}"
            )
        return self._told(path, 204, "")

    def _store_parsed(self, samples: Samples) -> IngestResult | None:
        if not samples.series:
            return None
        result = self._store.ingest(samples.series, samples.t_ms, samples.values)
        self._meter.count_ingest(result.accepted, result.rejected)
        return result

    def _told(self, path: str, code: int, message: str) -> Response:
        self._meter.count_request(path, code)
        if code == 204:
            return Response(status_code=204)
        return Response(message + "\n", code, media_type="text/plain; charset=utf-8")
