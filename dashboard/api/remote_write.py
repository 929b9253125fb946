"""Prometheus remote write 1.0: a snappy block holding one protobuf WriteRequest.

The message is described here field by field instead of by generated code; numbers and types are
those of prometheus/prompb (remote.proto, types.proto). Metadata, exemplars and native histograms are skipped.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import cramjam

from dashboard.api.samples import BadSampleError, Samples, checked_series, ordered
from metrics.series import Series

_FIELDS = {
    "Label": (("name", 1, "STRING"), ("value", 2, "STRING")),
    "Sample": (("value", 1, "DOUBLE"), ("timestamp", 2, "INT64")),
    "TimeSeries": (("labels", 1, "Label"), ("samples", 2, "Sample")),
    "WriteRequest": (("timeseries", 1, "TimeSeries"),),
}


class TooLargeBlockError(Exception):
    """The block announces more bytes than are accepted."""


def _write_request() -> Any:
    # Loaded with the first request: most desks never get one, and the console has to start quickly.
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="deskvigil/remote.proto", package="deskvigil", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for message_name, fields in _FIELDS.items():
        message = file.message_type.add(name=message_name)
        for name, number, kind in fields:
            nested = kind in _FIELDS
            field = message.field.add(name=name, number=number)
            field.label = kinds.LABEL_REPEATED if nested else kinds.LABEL_OPTIONAL
            field.type = kinds.TYPE_MESSAGE if nested else kinds.Type.Value(f"TYPE_{kind}")
            if nested:
                field.type_name = f".deskvigil.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("deskvigil.WriteRequest"))


class RemoteWriteDecoder:
    """Decodes request bodies; holds the message class, so one is enough for a program."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes

    @cached_property
    def _message(self) -> Any:
        return _write_request()

    def decode(self, body: bytes) -> Samples:
        """Return the samples of a body.

        TooLargeBlockError before anything is decompressed where the block's header announces more
        than `most_bytes`; BadSampleError where it is not what it should be.
        """
        try:
            size = cramjam.snappy.decompress_raw_len(body)
            if size > self._most_bytes:
                raise TooLargeBlockError(f"the block holds {size} bytes, the limit is {self._most_bytes}")
            raw = bytes(cramjam.snappy.decompress_raw(body))
        except cramjam.DecompressionError as error:
            raise BadSampleError(f"snappy: {error}") from None
        from google.protobuf.message import DecodeError

        request = self._message()
        try:
            request.ParseFromString(raw)
        except DecodeError as error:
            raise BadSampleError(f"protobuf: {error}") from None
        return _columns(request)


def _columns(request: Any) -> Samples:
    columns: dict[Series, tuple[list[int], list[float]]] = {}
    for one in request.timeseries:
        series = checked_series((label.name, label.value) for label in one.labels)
        times, values = columns.setdefault(series, ([], []))
        times.extend([sample.timestamp for sample in one.samples])
        values.extend([sample.value for sample in one.samples])
    return ordered(columns)
