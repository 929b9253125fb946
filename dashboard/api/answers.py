"""The JSON of Prometheus's HTTP API: envelopes, errors, and numbers as Prometheus prints them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import orjson
from fastapi import Response

from metrics.frame import FloatArray
from query.errors import ErrorKind, QueryError
from query.format import format_value
from query.result import Result
from query.values import BoolArray

CODES: dict[str, int] = {
    "bad_data": 400,
    "execution": 422,
    "timeout": 503,
    "canceled": 503,
    "unavailable": 503,
    "internal": 500,
    "not_found": 404,
}


def success(data: object, warnings: Sequence[str] = ()) -> bytes:
    """The envelope of an answer; warnings are split as Prometheus does, by their prefix."""
    body: dict[str, object] = {"status": "success", "data": data}
    told = [text for text in warnings if not text.startswith("PromQL info")]
    infos = [text for text in warnings if text.startswith("PromQL info")]
    if told:
        body["warnings"] = told
    if infos:
        body["infos"] = infos
    return orjson.dumps(body)


def failure(kind: ErrorKind | str, message: str) -> Response:
    """The answer to a request that failed."""
    body = orjson.dumps({"status": "error", "errorType": kind, "error": message})
    return Response(body, CODES[kind], media_type="application/json")


def of_query_error(error: QueryError) -> Response:
    return failure(error.kind, error.message)


def number(value: float) -> str:
    """A sample value as Prometheus's JSON has it: shortest digits, exponents below 1e-6 and from 1e21 on."""
    text = repr(value)
    if "e" in text:
        size = abs(value)
        return text if size < 1e-6 or size >= 1e21 else format_value(value)
    if text.endswith(".0"):
        return text[:-2]
    return text if math.isfinite(value) else format_value(value)


def seconds(t_ms: int) -> int | orjson.Fragment:
    """A time in seconds, with milliseconds (three digits) only where it has some."""
    whole, rest = divmod(abs(t_ms), 1000)
    if rest == 0:
        return t_ms // 1000
    return orjson.Fragment(f"{'-' if t_ms < 0 else ''}{whole}.{rest:03d}")


def result(answer: Result, limit: int | None = None) -> dict[str, object]:
    """resultType and result of a query; of a vector or matrix no more than `limit` series."""
    return {"resultType": answer.kind, "result": _result(answer, limit)}


def _result(answer: Result, limit: int | None) -> object:
    if answer.kind == "string":
        return [seconds(int(answer.t_ms[0])), answer.text]
    if answer.kind == "scalar":
        return [seconds(int(answer.t_ms[0])), number(float(answer.values[0, 0]))]
    if answer.kind == "vector":
        at = seconds(int(answer.t_ms[0]))
        return [{"metric": labels, "value": [at, number(value)]} for labels, value in answer.samples()[:limit]]
    openings = np.array([b'"],[%s,"' % orjson.dumps(seconds(t)) for t in answer.t_ms.tolist()], dtype=object)
    return [
        {"metric": labels, "values": _points(openings, answer.values[row], answer.present[row])}
        for row, labels in enumerate(answer.labels[:limit])
    ]


def _points(openings: npt.NDArray[np.object_], values: FloatArray, present: BoolArray) -> orjson.Fragment:
    """[[time, "value"], ...] as JSON text.

    Made from whole arrays, because a large answer has hundreds of thousands of points and would
    hold the interpreter for as long: orjson writes the numbers, and only those that it writes
    differently (exponents, NaN, infinities) go through `number` one by one.
    """
    if not present.all():
        openings, values = openings[present], values[present]
    if not len(values):
        return orjson.Fragment(b"[]")
    text = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
    numbers = (text + b",").replace(b".0,", b",")[:-1].split(b",")
    if b"e" in text or b"n" in text:
        for i, written in enumerate(numbers):
            if b"e" in written or b"n" in written:  # an exponent, or null for what is not finite
                numbers[i] = number(float(values[i])).encode()
    pieces: list[bytes] = [b""] * (2 * len(numbers))
    pieces[0::2] = openings.tolist()
    pieces[1::2] = numbers
    return orjson.Fragment(b"[" + b"".join(pieces)[3:] + b'"]]')
