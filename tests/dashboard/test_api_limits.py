"""What strangers may send: layouts, limits, quotas, slow clients."""

import gzip
import math
import select
import socket
import struct
import threading
import time
from contextlib import ExitStack

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.api import endpoint, wire
from dashboard.api.options import IngestOptions
from dashboard.api.quota import WINDOW_S, SourceQuota
from dashboard.api.remote_write import RemoteWriteDecoder, TooLargeBlockError
from dashboard.api.samples import BadSampleError
from dashboard.api.text_format import read
from dashboard.options import WebOptions
from storage.keys import SeriesKeys
from tests.dashboard.api_server import by_series, serve
from tests.dashboard.test_api_ingest import HEADERS, T0, block, label, part, request, sample, varint, write
from tests.query.engines import series

LIMITS = IngestOptions()


def _oracle():
    """WriteRequest as protobuf's own library reads it."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="oracle.proto", package="oracle", syntax="proto3")
    for name, fields in (
        ("Label", (("name", 1, kinds.TYPE_STRING), ("value", 2, kinds.TYPE_STRING))),
        ("Sample", (("value", 1, kinds.TYPE_DOUBLE), ("timestamp", 2, kinds.TYPE_INT64))),
        ("TimeSeries", (("labels", 1, "Label"), ("samples", 2, "Sample"))),
        ("WriteRequest", (("timeseries", 1, "TimeSeries"),)),
    ):
        message = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            field = message.field.add(name=field_name, number=number)
            nested = isinstance(kind, str)
            field.label = kinds.LABEL_REPEATED if nested else kinds.LABEL_OPTIONAL
            field.type = kinds.TYPE_MESSAGE if nested else kind
            if nested:
                field.type_name = f".oracle.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("oracle.WriteRequest"))


ORACLE = _oracle()


def bits(samples):
    return {one: (t, [struct.pack("<d", value) for value in v]) for one, (t, v) in by_series(samples).items()}


def bits_of_oracle(raw):
    points = {}
    for one in ORACLE.FromString(raw).timeseries:
        labels = {pair.name: pair.value for pair in one.labels}
        found = points.setdefault(series(labels.pop("__name__"), **labels), {})
        found.update({sample.timestamp: struct.pack("<d", sample.value) for sample in one.samples})
    return {one: (sorted(found), [found[t] for t in sorted(found)]) for one, found in points.items() if found}


def zero_free(t_ms, value):
    """A sample as Go writes it: a value of 0 is not there at all."""
    return sample(t_ms, value) if value or math.isnan(value) else part(2, b"\x10" + varint(t_ms))


numbers = st.sampled_from([0.0, 1.0, -1.5, math.nan, math.inf, 1e300]) | st.floats()
times = st.integers(0, 253_402_300_799_999) | st.integers(1_600_000_000_000, 1_800_000_000_000)
one_series = st.tuples(
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["1", "2", "x" * 200]),
    st.lists(st.tuples(times, numbers), max_size=5),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(one_series, max_size=6), min_size=1, max_size=3), st.booleans(), st.booleans())
def test_every_layout_is_read_as_protobuf_reads_it(requests, go_zeros, odd_fields):
    """The same decoder over several requests, so that label sets are remembered from one to the next."""
    decoder = RemoteWriteDecoder(LIMITS)
    encode = zero_free if go_zeros else sample
    for content in requests:
        parts = []
        for name, job, samples in content:
            labels = label("__name__", name) + label("job", job)
            body = b"".join(encode(*one) for one in samples)
            extra = part(3, b"exemplar") + varint(9 << 3) + varint(7) if odd_fields else b""
            # Labels behind the samples are legal too, and so are fields that nobody knows.
            parts.append(part(1, body + labels + extra if odd_fields and len(samples) == 1 else labels + body + extra))
        raw = b"".join(parts) + (part(3, b"metadata") if odd_fields else b"")
        assert bits(decoder.decode(block(raw))) == bits_of_oracle(raw)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_request_is_refused_or_read_as_protobuf_reads_it(data):
    raw = bytearray(
        request(([("__name__", "x"), ("job", "a")], [(T0, 1.5), (T0 + 1, 0.0)]), ([("__name__", "y")], [(T0, 2.0)]))
    )
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    decoder = RemoteWriteDecoder(LIMITS)
    decoder.decode(block(request(([("__name__", "x"), ("job", "a")], [(T0, 1.5)]))))
    try:
        found = bits(decoder.decode(block(damaged)))
    except BadSampleError:
        return
    try:
        assert found == bits_of_oracle(damaged)
    except DecodeError as error:  # what we take, protobuf takes
        raise AssertionError(f"{damaged!r} is not protobuf") from error


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_a_clear_error(content):
    try:
        for _ in wire.fields(content, 0, len(content)):
            pass
    except BadSampleError as error:
        message = str(error)
    else:
        message = "protobuf: "
    assert message.startswith("protobuf: ")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\x0a\x85", "ends within a number"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "64 bits"),
        (b"\x0a\xff\xff\xff\x7f", "longer than its message"),
        (b"\x0b\x00", "wire type 3"),
        (b"\x02\x00", "no field number"),
    ],
)
def test_lying_lengths_and_overlong_numbers_are_named(raw, words):
    with pytest.raises(BadSampleError, match=words):
        RemoteWriteDecoder(LIMITS).decode(block(raw))


def test_many_samples_of_one_series_are_read_in_one_go():
    samples = [(T0 + i, float(i % 7)) for i in range(5_000)]
    for head in ([("__name__", "x")], [("__name__", "y"), ("job", "a")]):
        found = by_series(RemoteWriteDecoder(LIMITS).decode(block(request((head, samples)))))
        assert list(found.values()) == [([t for t, _ in samples], [v for _, v in samples])]


def test_a_decoder_forgets_rather_than_grow_without_end(monkeypatch):
    monkeypatch.setattr("dashboard.api.remote_write._CACHE_BYTES", 2_000)
    keys = SeriesKeys(most=5)
    decoder = RemoteWriteDecoder(LIMITS, keys)
    for i in range(50):
        raw = request(([("__name__", "x"), ("i", str(i))], [(T0, float(i))]), ([("__name__", "y")], [(T0, 1.0)]))
        assert bits(decoder.decode(block(raw))) == bits_of_oracle(raw)


def test_limits_of_series_are_options_and_their_names_are_told():
    tight = IngestOptions(most_labels=2, most_name_bytes=16, most_value_bytes=16)
    for text, option in (
        ('x{a="1",b="2",c="3"} 1', "most_labels"),
        ("x" * 17 + " 1", "most_name_bytes"),
        ('x{a="' + "ä" * 9 + '"} 1', "most_value_bytes"),
        ("x{" + "l" * 17 + '="1"} 1', "most_name_bytes"),
    ):
        with pytest.raises(BadSampleError, match=f"line 1: .*{option}|line 1: .*limit is 2"):
            read(text, 0, tight)


def test_text_comes_compressed_too_and_a_bomb_is_stopped():
    with serve(ingest=IngestOptions(most_block_bytes=10_000)) as server:
        post = server.client.post
        headers = {"content-encoding": "gzip"}
        assert (
            post("/api/v1/import/prometheus", content=gzip.compress(b"x 1 0\nx 2 5\n"), headers=headers).status_code
            == 204
        )
        assert server.source.column(series("x"))[0].tolist() == [0, 5]
        two = gzip.compress(b"y 1 0\n") + gzip.compress(b"y 2 5\n")
        assert post("/api/v1/import/prometheus", content=two, headers=headers).status_code == 204
        assert (
            post("/api/v1/import/prometheus", content=gzip.compress(b"#" * 10**7), headers=headers).status_code == 413
        )
        assert post("/api/v1/import/prometheus", content=gzip.compress(b"x 1")[:-4], headers=headers).status_code == 400
        assert post("/api/v1/import/prometheus", content=b"no gzip", headers=headers).status_code == 400


def test_a_source_with_too_many_series_is_refused_the_new_ones_only():
    with serve(ingest=IngestOptions(most_series_per_source=3)) as server:
        known = [([("__name__", "x"), ("i", str(i))], [(T0, 1.0)]) for i in range(3)]
        assert write(server, block(request(*known))).status_code == 204
        more = [([("__name__", "x"), ("i", str(i))], [(T0 + 1, 1.0), (T0 + 2, 2.0)]) for i in range(5)]
        response = write(server, block(request(*more)))
        assert response.status_code == 400
        assert "4 samples rejected, 6 stored: client 127.0.0.1 has 3 active series already" in response.text
        assert len(server.source.series()) == 3
        assert server.source.column(series("x", i="0"))[1].tolist()[-1] == 2.0
        assert write(server, block(request(*known))).status_code == 204
        frame = server.meter.collect(1)
        told = {str(one): value for one, value in zip(frame.schema.series, frame.values.tolist(), strict=True)}
        assert told['deskvigil_web_limited_samples_total{source="client 127.0.0.1"}'] == 4


class Hours:
    """A clock that a test moves."""

    def __init__(self):
        self.s = 0.0

    def now_ns(self):
        return int(self.s * 1e9)

    monotonic_ns = now_ns


def test_a_quota_counts_jobs_over_all_clients_and_forgets_what_comes_no_more(caplog):
    clock, keys = Hours(), SeriesKeys()
    quota = SourceQuota(2, clock)

    def admit(client, *names):
        kept, source, _ = quota.admit(client, [keys.of(series(name, job="j")) for name in names])
        return kept, source

    assert admit("a", "x") == (None, "")
    assert admit("b", "y") == (None, "")
    assert admit("b", "y", "z") == ([True, False], "job j")
    assert admit("c", "z") == ([False], "job j")
    assert len([record for record in caplog.records if "job j has 2 active series" in record.message]) == 1
    clock.s = WINDOW_S
    assert admit("b", "y", "z") == ([True, False], "job j")  # x is remembered for one window more
    clock.s = 2 * WINDOW_S
    assert admit("b", "z") == (None, "")
    assert quota.active("job j") == 2
    clock.s = 9 * WINDOW_S
    assert admit("b", "p", "q") == (None, "")


def connected(server):
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def test_a_connection_that_sends_no_whole_head_is_closed():
    with serve(web=WebOptions(head_timeout_s=1)) as server, ExitStack() as cleanup:
        slow = [cleanup.enter_context(connected(server)) for _ in range(3)]
        slow[1].sendall(b"GET /api/v1/query?query=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        slow[2].sendall(b"\r\n")
        for one in slow:
            assert one.recv(100).startswith(b"HTTP/1.1 408")
        kept = cleanup.enter_context(connected(server))
        kept.sendall(b"GET /api/v1/query?query=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert kept.recv(100).startswith(b"HTTP/1.1 200")


def test_a_head_without_end_and_connections_without_number_are_refused():
    with serve(web=WebOptions(max_connections=8)) as server, ExitStack() as cleanup:
        endless = cleanup.enter_context(connected(server))
        endless.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000)
        assert endless.recv(100).startswith(b"HTTP/1.1 431")
        many = [cleanup.enter_context(connected(server)) for _ in range(20)]
        answered = set()
        until = time.monotonic() + 60
        while len(answered) < 12:
            assert time.monotonic() < until, f"{len(answered)} of 20 connections were refused"
            answered.update(select.select([one for one in many if one not in answered], [], [], 1.0)[0])
        for one in answered:
            answer = one.recv(300)
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"retry-after: " in answer


def test_a_body_that_does_not_arrive_is_given_up():
    with serve(ingest=IngestOptions(receive_timeout_s=0.2)) as server, connected(server) as slow:
        head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        slow.sendall(f"POST /api/v1/write HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}Content-Length: 100\r\n\r\nabc".encode())
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_a_query_stops_when_its_client_goes_away(monkeypatch):
    """The query's own clock runs out: it ends at its next look at the time."""
    asked, released = threading.Event(), threading.Event()

    class Watched(endpoint.Call):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if value:
                released.set()

    monkeypatch.setattr(endpoint, "Call", Watched)
    with serve() as server:
        seen = []
        source = server.source
        original = source.cursor

        class Held:
            def __init__(self, matchers):
                self.inner = original(matchers)

            def blocks(self, t0_ms, t1_ms, steps_ms=None):
                asked.set()
                released.wait(30)
                return self.inner.blocks(t0_ms, t1_ms)

            last = blocks

        source.put(series("x"), [T0, T0 + 1000], [1.0, 2.0])
        source.cursor = Held
        with connected(server) as client:
            client.sendall(
                f"GET /api/v1/query_range?query=rate(x[1m])&start={T0 // 1000}&end={T0 // 1000 + 60}&step=1 HTTP/1.1\r\n"
                "Host: 127.0.0.1\r\n\r\n".encode()
            )
            assert asked.wait(30)
        source.cursor = original
        until = time.monotonic() + 30
        while time.monotonic() < until and not seen:
            frame = server.meter.collect(1)
            told = dict(zip(map(str, frame.schema.series), frame.values.tolist(), strict=True))
            seen = [
                code
                for code in ("200", "503")
                if told.get(f'deskvigil_web_api_requests_total{{code="{code}",handler="/query_range"}}')
            ]
            threading.Event().wait(0.01)
        assert seen == ["503"]


def test_a_lying_snappy_header_is_too_large():
    with pytest.raises(TooLargeBlockError):
        RemoteWriteDecoder(IngestOptions(most_block_bytes=2_000)).decode(varint(2_001) + b"\x00")
    with pytest.raises(BadSampleError):
        RemoteWriteDecoder(LIMITS).decode(varint(1_000) + b"\x00a")
