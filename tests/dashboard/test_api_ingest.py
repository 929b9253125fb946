import math
import shutil
import struct
import subprocess

import cramjam
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.api.options import IngestOptions
from dashboard.api.remote_write import RemoteWriteDecoder, TooLargeBlockError
from dashboard.api.samples import BadSampleError
from dashboard.api.text_format import read
from metrics.catalogue import CATALOGUE
from metrics.clock import SystemClock
from metrics.frame import Frame
from metrics.series import Schema
from query.values import STALE, is_stale
from tests.dashboard.api_server import by_series, serve
from tests.dashboard.test_api_exposition import example
from tests.query.engines import series

T0 = 1_700_000_000_000


@pytest.fixture
def server():
    with serve(ingest=IngestOptions(most_body_bytes=100_000, most_block_bytes=200_000)) as running:
        yield running


# The wire format, written by hand: the tests must not share the decoder's descriptors.


def varint(number):
    out = bytearray()
    number &= (1 << 64) - 1
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def part(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def label(name, value):
    return part(1, part(1, _bytes(name)) + part(2, _bytes(value)))


def _bytes(text):
    return text if isinstance(text, bytes) else text.encode()


def sample(t_ms, value):
    return part(2, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(t_ms))


def request(*timeseries):
    """A WriteRequest of (labels, samples) pairs."""
    return b"".join(
        part(1, b"".join(label(*pair) for pair in labels) + b"".join(sample(*one) for one in samples))
        for labels, samples in timeseries
    )


def block(content):
    return bytes(cramjam.snappy.compress_raw(content))


HEADERS = {"content-encoding": "snappy", "content-type": "application/x-protobuf"}


def write(server, content, **headers):
    return server.client.post("/api/v1/write", content=content, headers={**HEADERS, **headers})


def test_remote_write_stores_samples_and_queries_see_them(server):
    sent = request(
        ([("__name__", "x"), ("job", "a")], [(T0, 1.5), (T0 + 1000, 2.5)]), ([("__name__", "y")], [(T0, 7.0)])
    )
    assert write(server, block(sent)).status_code == 204
    t, v = server.source.column(series("x", job="a"))
    assert (t.tolist(), v.tolist()) == ([T0, T0 + 1000], [1.5, 2.5])
    answer = server.client.get("/api/v1/query", params={"query": "x + on () y", "time": "1700000001"}).json()
    assert answer["data"]["result"][0]["value"][1] == "9.5"


def test_stale_markers_keep_their_bits():
    decoder = RemoteWriteDecoder(IngestOptions(most_block_bytes=1_000_000))
    samples = decoder.decode(block(request(([("__name__", "x")], [(T0, 1.0), (T0 + 1, STALE), (T0 + 2, math.nan)]))))
    assert is_stale(samples.values).tolist() == [False, True, False]


def test_samples_come_in_any_order_and_the_last_of_equal_times_counts():
    decoder = RemoteWriteDecoder(IngestOptions(most_block_bytes=1_000_000))
    samples = decoder.decode(block(request(([("__name__", "x")], [(T0 + 5, 1.0), (T0, 2.0), (T0 + 5, 3.0)]))))
    assert by_series(samples) == {series("x"): ([T0, T0 + 5], [2.0, 3.0])}


def test_one_series_in_two_parts_is_one_series():
    decoder = RemoteWriteDecoder(IngestOptions(most_block_bytes=1_000_000))
    one, two = ([("__name__", "x"), ("a", "")], [(T0, 1.0)]), ([("__name__", "x")], [(T0 + 1, 2.0)])
    samples = decoder.decode(block(request(one, two)))
    assert by_series(samples) == {series("x"): ([T0, T0 + 1], [1.0, 2.0])}


def test_a_bomb_is_refused_before_it_is_decompressed(server):
    bomb = block(b"\0" * 50_000_000)
    assert len(bomb) > 100_000
    small = varint(1 << 31) + b"\x00"  # announces 2 GiB
    assert write(server, small).status_code == 413
    assert write(server, bomb).status_code == 413
    with pytest.raises(TooLargeBlockError):
        RemoteWriteDecoder(IngestOptions(most_block_bytes=1_000_000)).decode(bomb)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "snappy"),
        (b"not snappy at all", "snappy"),
        (block(b"\x0a\xff"), "protobuf"),
        (block(request(([("job", "a")], [(T0, 1.0)]))), "metric name"),
        (block(request(([("__name__", "bad-name")], [(T0, 1.0)]))), "metric name"),
        (block(request(([("__name__", "x"), ("bad-label", "a")], [(T0, 1.0)]))), "label name"),
        (block(request(([("__name__", "x"), ("a", "1"), ("a", "2")], [(T0, 1.0)]))), "twice"),
        (block(request(([("__name__", "x"), ("a", b"\xff\xfe")], [(T0, 1.0)]))), "protobuf"),
        (block(request(([("__name__", "x"), ("a", "v" * 5000)], [(T0, 1.0)]))), "longer"),
        (block(request(([("__name__", "x"), *((f"l{i}", "v") for i in range(70))], [(T0, 1.0)]))), "labels"),
        (block(request(([("__name__", "x")], [(-5, 1.0)]))), "timestamp"),
    ],
)
def test_what_is_malformed_is_400_and_nothing_is_stored(server, content, words):
    good = ([("__name__", "good")], [(T0, 1.0)])
    response = write(server, content)
    assert response.status_code == 400
    assert words in response.text
    mixed = request(good, ([("__name__", "bad-name")], [(T0, 1.0)]))
    assert write(server, block(mixed)).status_code == 400
    assert server.source.series() == []


def test_other_protocols_are_415(server):
    assert write(server, b"", **{"content-encoding": "zstd"}).status_code == 415
    v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
    assert write(server, b"", **{"content-type": v2}).status_code == 415
    assert "remote write 1.0" in write(server, b"", **{"content-type": v2}).text
    text = server.client.post("/api/v1/import/prometheus", content=b"", headers={"content-encoding": "zstd"})
    assert text.status_code == 415
    assert server.client.post("/api/v1/read", content=b"").status_code == 404


def test_a_store_that_is_down_answers_503_and_one_that_rejects_400(server):
    content = block(request(([("__name__", "x")], [(T0, 1.0), (T0 + 1, 2.0)])))
    server.store.down = True
    response = write(server, content)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    server.store.down, server.store.reject = False, 1
    response = write(server, content)
    assert response.status_code == 400
    assert "1 samples rejected, 1 stored: too old" in response.text


def test_bodies_are_limited(server):
    assert server.client.post("/api/v1/import/prometheus", content=b"x 1\n" * 30_000).status_code == 413
    chunks = (b"x 1\n" * 1_000 for _ in range(30))
    assert server.client.post("/api/v1/import/prometheus", content=chunks).status_code == 413


def test_text_is_imported_with_old_and_missing_timestamps(server):
    text = f'# HELP x words\n# TYPE x counter\nx_total{{a="1",b="2"}} 5 {T0 - 10**10}\n\ny 1e3\n# EOF\n'
    assert server.client.post("/api/v1/import/prometheus", content=text).status_code == 204
    t, v = server.source.column(series("x_total", a="1", b="2"))
    assert (t.tolist(), v.tolist()) == ([T0 - 10**10], [5.0])
    assert server.source.column(series("y"))[1].tolist() == [1000.0]


def test_a_bad_line_is_named_and_nothing_is_stored(server):
    response = server.client.post("/api/v1/import/prometheus", content="good 1\nworse one\n")
    assert response.status_code == 400
    assert "line 2" in response.text
    assert server.source.series() == []
    assert server.client.post("/api/v1/import/prometheus", content=b'x{a="\xff"} 1').status_code == 400


def test_text_with_every_odd_form():
    text = (
        'a{x="q\\"u\\\\o\\nte}",} +Inf\n  b  NaN   123\r\nc{} -.5e3 # {trace="1"} 1\nd {y = "z"} 0 5\n'
        'e{x="a b{c}"} 1 7\ne{x="a b{c}"} 2 8'
    )
    samples = read(text, 99)
    assert [str(key.series) for key in samples.keys] == [
        'a{x="q\\"u\\\\o\\nte}"}',
        "b",
        "c",
        'd{y="z"}',
        'e{x="a b{c}"}',
    ]
    assert samples.counts.tolist() == [1, 1, 1, 1, 2]
    assert samples.t_ms.tolist() == [99, 123, 99, 5, 7, 8]
    assert samples.values.tolist()[::2] == [math.inf, -500.0, 1.0]


@pytest.mark.parametrize(
    "line",
    [
        "x",
        "x one",
        "x 1 2 3",
        "x{a=1} 1",
        'x{a="1} 1',
        'x{a="1"',
        "1x 1",
        'x{a="1" b="2"} 1',
        "x 0x10",
        "{} 1",
        "x 1_0",
        "x 1 " + "9" * 30,
    ],
)
def test_lines_that_are_no_samples(line):
    with pytest.raises(BadSampleError, match="line 1"):
        read(line, 0)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    try:
        samples = read(text, 0)
    except BadSampleError:
        return
    assert samples.counts.sum() == len(samples.t_ms) == len(samples.values)


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(content):
    decoder = RemoteWriteDecoder(IngestOptions(most_block_bytes=10_000))
    for body in (content, block(content)):
        try:
            decoder.decode(body)
        except (BadSampleError, TooLargeBlockError):
            continue


@given(
    st.dictionaries(
        st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True),
        st.text(min_size=1, max_size=20).filter(lambda v: "\0" not in v and "\r" not in v),
        max_size=4,
    ),
    st.floats(),
)
def test_what_we_write_as_text_we_read_back(labels, value):
    labels.pop("__name__", None)
    one = series("x", **labels)
    if len(str(one).splitlines()) > 1:
        return
    samples = read(f"{one} {value!r} 5", 0)
    assert [key.series for key in samples.keys] == [one]
    assert samples.values[0] == value or (math.isnan(value) and math.isnan(samples.values[0]))


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus: apt-get install prometheus")
def test_a_real_prometheus_writes_to_us(server, tmp_path):
    """Prometheus scrapes our own page, in OpenMetrics, and sends what it read, its stale markers included."""
    exposed = [one for metric in CATALOGUE.values() for one in example(metric)]
    schema = Schema("everything", tuple(dict.fromkeys(one for one, _ in exposed)))
    server.live.frames = {"everything": Frame(schema, SystemClock().now_ns(), np.arange(float(len(schema))))}
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
        f"scrape_configs: [{{job_name: desk, static_configs: [{{targets: ['{server.url[7:]}']}}]}}]\n"
        f"remote_write: [{{url: '{server.url}/api/v1/write', queue_config: {{batch_send_deadline: 200ms}}}}]\n"
    )
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path}/data",
            "--web.listen-address=127.0.0.1:0",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        target = {"instance": server.url[7:], "job": "desk"}
        scraped = series("scrape_samples_scraped", **target)
        assert server.store.wait_for(
            lambda: server.source.has(series("up", **target)) and server.source.has(scraped), 60
        )
    finally:
        process.kill()
        process.wait(60)
    _, v = server.source.column(series("up", instance=server.url[7:], job="desk"))
    assert v.tolist()[0] == 1.0
    assert server.source.column(scraped)[1].tolist()[0] == len(schema)
