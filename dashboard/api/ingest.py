"""Samples sent to us: POST /api/v1/write (remote write 1.0) and /api/v1/import/prometheus (text).

Both store all samples of a request or, where any of them is malformed, none: a sender can correct
and repeat the whole. What storage or a source's series limit turns away is told and counted; the rest is stored.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

import anyio
from fastapi import APIRouter, Request, Response

from dashboard.api.gate import BusyError, Gate
from dashboard.api.meter import ApiMeter
from dashboard.api.options import MIB, IngestOptions
from dashboard.api.parameters import TooLargeError, body
from dashboard.api.quota import SourceQuota
from dashboard.api.remote_write import RemoteWriteDecoder, TooLargeBlockError
from dashboard.api.samples import BadSampleError, Samples
from dashboard.api.text_format import read
from metrics.clock import Clock
from metrics.errors import TransientError
from metrics.frame import FloatArray, IntArray
from storage.keys import SeriesKey, SeriesKeys

MOST_HELD_BYTES = 256 * MIB  # of bodies that are being received or wait for their turn, all together
_WRITE_HELP = "expected remote write 1.0: content-type application/x-protobuf, content-encoding snappy (block format)"


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

    def ingest_columns(
        self, keys: Sequence[SeriesKey], counts: IntArray, t_ms: IntArray, values: FloatArray
    ) -> IngestResult: ...


def ingest_router(
    store: IngestStore, clock: Clock, *, gate: Gate, meter: ApiMeter, options: IngestOptions | None = None
) -> APIRouter:
    """The two routes."""
    ingest = Ingest(store, clock, gate, meter, options or IngestOptions())
    router = APIRouter()  # plain routes: FastAPI's own would look for parameters to inject with every request
    router.add_route("/api/v1/write", ingest.write, methods=["POST"], include_in_schema=False)
    router.add_route("/api/v1/import/prometheus", ingest.text, methods=["POST", "PUT"], include_in_schema=False)
    return router


class Ingest:
    """The handlers."""

    def __init__(self, store: IngestStore, clock: Clock, gate: Gate, meter: ApiMeter, options: IngestOptions) -> None:
        self._store = store
        self._clock = clock
        self._gate = gate
        self._meter = meter
        self._options = options
        self._keys = SeriesKeys()
        self._decoder = RemoteWriteDecoder(options, self._keys)
        self._quota = SourceQuota(options.most_series_per_source, clock)
        self._held = 0

    async def write(self, request: Request) -> Response:
        """Remote write 1.0."""
        encoding = request.headers.get("content-encoding", "snappy").strip().lower()
        kind, _, parameters = request.headers.get("content-type", "application/x-protobuf").lower().partition(";")
        proto = parameters.strip().removeprefix("proto=")
        if kind.strip() != "application/x-protobuf" or proto not in ("", "prometheus.writerequest"):
            return self._told("/write", 415, f"{_WRITE_HELP}; this is {request.headers.get('content-type')}"[:500])
        if encoding != "snappy":
            return self._told("/write", 415, f"{_WRITE_HELP}; this is {encoding}"[:500])
        return await self._stored("/write", request, self._decoder.decode)

    async def text(self, request: Request) -> Response:
        """Text exposition with optional millisecond timestamps, plain or gzip."""
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "", "gzip"):
            return self._told("/import/prometheus", 415, f"expected text, plain or gzip; this is {encoding}"[:500])
        now_ms = self._clock.now_ns() // 1_000_000

        def parse(content: bytes) -> Samples:
            if encoding == "gzip":
                content = _gunzipped(content, self._options.most_block_bytes)
            try:
                return read(content.decode("utf-8"), now_ms, self._options, self._keys)
            except UnicodeDecodeError as error:
                raise BadSampleError(f"not UTF-8: {error.reason} at byte {error.start}") from None

        return await self._stored("/import/prometheus", request, parse)

    async def _stored(self, path: str, request: Request, parse: Callable[[bytes], Samples]) -> Response:
        client = request.client.host if request.client is not None else "unknown"
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            held += size
            self._held += size
            if self._held > MOST_HELD_BYTES:
                self._meter.count_refused()
                raise BusyError("too many bytes are being received already; try again")

        try:
            with anyio.fail_after(self._options.receive_timeout_s):
                content = await body(request, self._options.most_body_bytes, hold)
            accepted, refused, reason = await self._gate.run(lambda: self._store_parsed(client, parse(content)))
        except BadSampleError as error:
            return self._told(path, 400, str(error))
        except TimeoutError:
            response = self._told(path, 408, f"the body did not arrive within {self._options.receive_timeout_s:g} s")
            response.headers["Connection"] = "close"
            return response
        except (TooLargeError, TooLargeBlockError) as error:
            return self._told(path, 413, str(error))
        except (BusyError, TransientError) as error:
            response = self._told(path, 503, str(error))
            response.headers["Retry-After"] = "1"
            return response
        finally:
            self._held -= held
        if refused:
            return self._told(path, 400, f"{refused} samples rejected, {accepted} stored: {reason}")
        return self._told(path, 204, "")

    def _store_parsed(self, client: str, samples: Samples) -> tuple[int, int, str]:
        """Samples stored, samples refused, and why."""
        limited, reason = 0, ""
        kept, source, why = self._quota.admit(client, samples.keys)
        if kept is not None:
            admitted = samples.only(kept)
            limited, reason, samples = len(samples) - len(admitted), why, admitted
            self._meter.count_limited(source, limited)
        if not samples.keys:
            return 0, limited, reason
        result = self._store.ingest_columns(samples.keys, samples.counts, samples.t_ms, samples.values)
        self._meter.count_ingest(result.accepted, result.rejected + limited)
        reasons = [part for part in (reason, result.reason if result.rejected else "") if part]
        return result.accepted, result.rejected + limited, "; ".join(reasons)

    def _told(self, path: str, code: int, message: str) -> Response:
        self._meter.count_request(path, code)
        if code == 204:
            return Response(status_code=204)
        return Response(message + "\n", code, media_type="text/plain; charset=utf-8")


def _gunzipped(content: bytes, most: int) -> bytes:
    """Uncompress, all members of the file, never more than `most` bytes."""
    out: list[bytes] = []
    size = 0
    while content:
        stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            out.append(stream.decompress(content, most - size + 1))
        except zlib.error as error:
            raise BadSampleError(f"gzip: {error}") from None
        size += len(out[-1])
        if size > most:
            raise TooLargeBlockError(f"the text holds more than {most} bytes (web.ingest.most_block_bytes)")
        if not stream.eof:
            raise BadSampleError("gzip: the end is missing")
        content = stream.unused_data
    return b"".join(out)
