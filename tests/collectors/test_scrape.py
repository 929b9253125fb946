from __future__ import annotations

import asyncio
import math
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from collectors.options import CollectorOptions
from collectors.scrape.aside import Aside
from collectors.scrape.columns import NORMAL_NAN, STALE_NAN, SeriesBudget
from collectors.scrape.fetch import TlsContexts
from collectors.scrape.options import ScrapeJob
from collectors.scrape.scraper import Scraper
from collectors.scrape.service import ScrapeService
from collectors.scrape.state import Counts
from collectors.scrape.targets import targets_of
from metrics.clock import ManualClock, SystemClock
from metrics.frame import Frame
from metrics.series import Series, make_labels
from tests.collectors.scrape_server import OPEN, PageServer, Reply, raw_server
from tests.ports import free_port


def job(address: str | list[str], /, **how: Any) -> ScrapeJob:
    targets = [address] if isinstance(address, str) else address
    return TypeAdapter(ScrapeJob).validate_python({"job_name": "desk", "static_configs": [{"targets": targets}], **how})


class Desk:
    """One target, scraped when told to, and what came of it."""

    def __init__(self, one: ScrapeJob, clock: Any = None, budget: int = 1_000_000) -> None:
        self.clock = clock or ManualClock()
        self.frames: list[Frame] = []
        self.stored: list[tuple[Series, list[int], list[float]]] = []
        self.counts = Counts()
        self.aside = Aside(self._store, self.counts)
        (target,), _ = targets_of([one])
        self.target = target
        self.scraper = Scraper(
            target, TlsContexts(one.tls_config), self.clock, self.frames.append, self.aside, SeriesBudget(budget),
            self.counts, "1.0",
        )  # fmt: skip
        self._runner = asyncio.Runner()

    def _store(self, series: Any, t_ms: Any, values: Any) -> None:
        self.stored += [(s, t.tolist(), v.tolist()) for s, t, v in zip(series, t_ms, values, strict=True)]

    def scrape(self) -> dict[str, float]:
        """Scrape once; values by series, without target labels, absent readings left out."""
        self._runner.run(self.scraper.scrape())
        self.clock.advance(1_000_000_000)
        return values_of(self.frames[-1])

    def late(self) -> dict[str, list[float]]:
        self.stored.clear()
        self.aside.flush()
        return {short(series): values for series, _, values in self.stored}

    @property
    def state(self) -> Any:
        return self.scraper.state

    def close(self) -> None:
        self.scraper._fetcher.close()
        self._runner.close()


def short(series: Series) -> str:
    labels = {name: value for name, value in series.labels if name not in ("job", "instance")}
    return str(Series(series.name, make_labels(labels)))


def values_of(frame: Frame, *, whole: bool = False) -> dict[str, float]:
    bits = frame.values.view(np.uint64)
    normal = np.float64(NORMAL_NAN).view(np.uint64)
    return {
        str(series) if whole else short(series): float(value)
        for series, value, bit in zip(frame.schema.series, frame.values, bits, strict=True)
        if not math.isnan(value) or bit == normal
    }


@pytest.fixture
def server() -> Iterator[PageServer]:
    made = PageServer()
    yield made
    made.close()


@pytest.fixture
def desk(request: pytest.FixtureRequest) -> Any:
    def make(one: ScrapeJob, **how: Any) -> Desk:
        made = Desk(one, **how)
        request.addfinalizer(made.close)
        return made

    return make


def test_a_page_becomes_a_frame_with_the_targets_labels(server: PageServer, desk: Any) -> None:
    server.page('orders_total{venue="x"} 12\n# TYPE depth gauge\ndepth 3.5\n')
    one = desk(job(server.address))
    found = one.scrape()
    assert found.pop("scrape_duration_seconds") >= 0
    assert found == {
        "up": 1.0, "scrape_samples_scraped": 2.0, "scrape_samples_post_metric_relabeling": 2.0, "scrape_series_added": 2.0,
        'orders_total{venue="x"}': 12.0, "depth": 3.5,
    }  # fmt: skip
    series = next(s for s in one.frames[-1].schema.series if s.name == "orders_total")
    assert dict(series.labels) == {"venue": "x", "job": "desk", "instance": server.address}
    assert one.scraper.metadata == {"depth": {"TYPE": "gauge"}}
    assert one.frames[-1].schema.collector == f"scrape/desk/{server.address}"


def test_an_unchanged_set_keeps_its_schema_and_its_connection(server: PageServer, desk: Any) -> None:
    one = desk(job(server.address))
    for turn in range(5):
        server.page(f"a 1\nb {turn}\nc NaN\nd +Inf\n")
        found = one.scrape()
        assert (found["b"], found["d"]) == (turn, math.inf)
        assert math.isnan(found["c"])
    assert len({id(frame.schema) for frame in one.frames}) == 1
    assert server.connections == 1
    assert found["scrape_series_added"] == 0


def test_it_asks_for_openmetrics_and_reads_it(server: PageServer, desk: Any) -> None:
    page = (
        '# TYPE a counter\n# UNIT a_seconds seconds\n# HELP a_seconds Time \\"x\\".\n'
        'a_seconds_total{path="/"} 4.5 # {trace_id="77"} 0.5 1700000000.1\n'
        'a_seconds_created{path="/"} 1700000000\n# TYPE b info\nb_info{version="1"} 1\n# EOF\n'
    )
    server.page(page, content_type=OPEN)
    one = desk(job(server.address))
    found = one.scrape()
    assert found['a_seconds_total{path="/"}'] == 4.5
    assert found['b_info{version="1"}'] == 1
    assert one.scraper.metadata["a_seconds"] == {"UNIT": "seconds", "HELP": 'Time "x".'}
    headers = server.seen[0].headers
    assert headers["accept"].startswith("application/openmetrics-text;version=1.0.0")
    assert headers["x-prometheus-scrape-timeout-seconds"] == "1"
    server.page(page.replace('# {trace_id="77"} 0.5', '# {trace_id="78"} 0.7').replace("4.5", "5.5"), content_type=OPEN)
    assert one.scrape()['a_seconds_total{path="/"}'] == 5.5
    assert one.scraper._reader._plan is not None


def test_a_page_without_its_end_mark_is_cut_off_and_fails(server: PageServer, desk: Any) -> None:
    server.page("a 1\n", content_type=OPEN)
    one = desk(job(server.address))
    assert one.scrape()["up"] == 0
    assert "# EOF" in one.state.last_error


def test_gzip_is_unpacked(server: PageServer, desk: Any) -> None:
    server.page("a 1\n" * 1 + "b 2\n", gzipped=True)
    one = desk(job(server.address))
    assert one.scrape()["b"] == 2
    assert server.seen[0].headers["accept-encoding"] == "gzip"


def test_a_target_that_goes_away_ends_its_series_and_comes_back(server: PageServer, desk: Any) -> None:
    server.page("a 1\n")
    one = desk(job(server.address))
    assert one.scrape()["a"] == 1
    server.replies["/metrics"] = Reply("no", 500)
    found = one.scrape()
    assert found["up"] == 0
    assert "a" not in found
    assert found["scrape_samples_scraped"] == 0
    assert one.state.health == "down"
    assert "HTTP 500" in one.state.last_error
    server.page("a 2\n")
    found = one.scrape()
    assert (found["up"], found["a"], found["scrape_series_added"]) == (1, 2, 0)
    assert one.state.last_error == ""
    assert len({id(frame.schema) for frame in one.frames}) == 1


def test_a_server_that_restarts_is_asked_on_a_new_connection(desk: Any) -> None:
    first = PageServer()
    first.page("a 1\n")
    one = desk(job(first.address))
    assert one.scrape()["up"] == 1
    first.close()
    assert one.scrape()["up"] == 0
    assert "Connection refused" in one.state.last_error
    second = PageServer(port=first.port)
    second.page("a 2\n")
    assert one.scrape()["a"] == 2
    second.close()


def test_a_kept_connection_that_the_server_closed_costs_nothing(server: PageServer, desk: Any) -> None:
    served = 0

    def once(connection: socket.socket) -> None:
        nonlocal served
        served += 1
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n")

    with raw_server(once) as address:
        one = desk(job(address))
        assert [one.scrape()["up"] for _ in range(4)] == [1, 1, 1, 1]
    assert served == 4


def test_a_series_that_vanishes_is_absent_and_a_newcomer_goes_aside_until_the_set_is_made_anew(
    server: PageServer, desk: Any
) -> None:
    server.page("a 1\nb 1\nc 1\nd 1\ne 1\n")
    one = desk(job(server.address))
    one.scrape()
    schema = one.frames[-1].schema
    server.page("a 2\nnew 7\nc 2\nd 2\ne 2\n")
    found = one.scrape()
    assert "b" not in found
    assert found["a"] == 2
    assert found["scrape_series_added"] == 1
    assert one.frames[-1].schema is schema
    assert one.late() == {"new": [7.0]}
    one.scrape()
    assert one.late() == {"new": [7.0]}
    one.clock.advance(60_000_000_000)
    found = one.scrape()
    assert found["new"] == 7
    assert one.frames[-1].schema is not schema
    assert one.late() == {}


def test_a_newcomer_that_vanishes_before_it_has_a_column_ends_with_a_stale_marker(
    server: PageServer, desk: Any
) -> None:
    server.page("a 1\n")
    one = desk(job(server.address))
    one.scrape()
    server.page("a 1\nb 1\n")
    one.scrape()
    server.page("a 1\n")
    one.scrape()
    (values,) = one.late().values()
    assert values[0] == 1
    assert np.float64(values[1]).view(np.uint64) == np.float64(STALE_NAN).view(np.uint64)


def test_a_target_that_changes_all_the_time_makes_few_schemas(server: PageServer, desk: Any) -> None:
    one = desk(job(server.address))
    for turn in range(300):
        server.page(f'a 1\nrequest{{id="{turn}"}} {turn}\n')
        one.scrape()
    assert one.counts.layouts <= 6
    assert len({id(frame.schema) for frame in one.frames}) <= 7


def test_the_series_limit_refuses_newcomers_says_so_and_lets_the_known_ones_go_on(
    server: PageServer, desk: Any
) -> None:
    one = desk(job(server.address, series_limit=3))
    server.page("a 1\nb 1\n")
    one.scrape()
    server.page("a 2\n" + "".join(f'boom{{id="{n}"}} 1\n' for n in range(5)) + "b 2\n")
    found = one.scrape()
    assert (found["up"], found["a"], found["b"]) == (1, 2, 2)
    assert len(one.late()) == 1
    assert one.counts.refused == 4
    assert "series_limit" in one.state.warning


def test_all_targets_together_have_a_limit(server: PageServer, desk: Any) -> None:
    server.page("a 1\nb 1\nc 1\n")
    one = desk(job(server.address), budget=2)
    found = one.scrape()
    assert {"a", "b"} <= set(found)
    assert "c" not in found
    assert "collectors.scrape_max_series" in one.state.warning


def test_sample_limit_fails_the_scrape(server: PageServer, desk: Any) -> None:
    server.page("a 1\nb 1\nc 1\n")
    one = desk(job(server.address, sample_limit=2))
    found = one.scrape()
    assert (found["up"], found["scrape_samples_scraped"], found["scrape_samples_post_metric_relabeling"]) == (0, 3, 3)
    assert "sample_limit is 2" in one.state.last_error


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"label_limit": 3}, "label_limit"),
        ({"label_name_length_limit": 8}, "name is longer than 8"),
        ({"label_value_length_limit": 20}, "longer than 20"),
    ],
)
def test_label_limits_fail_the_scrape(server: PageServer, desk: Any, limits: dict[str, int], words: str) -> None:
    server.page(f'a{{long_name="{"v" * 21}"}} 1\n')
    one = desk(job(server.address, **limits))
    assert one.scrape()["up"] == 0
    assert words in one.state.last_error


def test_double_series_keep_their_first_value_and_are_counted(server: PageServer, desk: Any) -> None:
    server.page('a{x="1",y="2"} 1\na{y="2",x="1"} 2\nb 1\nb 5\n')
    one = desk(job(server.address))
    for _ in range(2):
        found = one.scrape()
        assert (found["up"], found['a{x="1",y="2"}'], found["b"]) == (1, 1, 1)
        assert "twice" in one.state.warning
    assert one.counts.duplicates == 4


def test_samples_with_a_time_of_their_own_are_stored_once_at_that_time(server: PageServer, desk: Any) -> None:
    one = desk(job(server.address))
    now_ms = one.clock.now_ns() // 1_000_000
    server.page(f"a 1 {now_ms - 5000}\nb 2\nfuture 1 {now_ms + 3_600_000}\n")
    found = one.scrape()
    assert "a" not in found
    assert found["b"] == 2
    one.scrape()
    one.aside.flush()
    assert [(short(s), t, v) for s, t, v in one.stored] == [("a", [now_ms - 5000], [1.0])]
    assert "future" in one.state.warning
    assert one.counts.out_of_bounds == 2


def test_times_are_ignored_where_the_job_says_so(server: PageServer, desk: Any) -> None:
    server.page("a 1 1600000000000\n")
    one = desk(job(server.address, honor_timestamps=False))
    for _ in range(3):
        assert one.scrape()["a"] == 1
    assert one.late() == {}


BAD_PAGES = [
    (b"a 1\nb{x=\"\xff\"} 1\n", "UTF-8"),
    (b"a 1\n<html>\n", "line 2"),
    (b"a{x=1} 1\n", "line 1"),
    (b"a 1_000\n", "not a number"),
    (b"a 1e999\n", "range"),
    (b"# TYPE a bogus\na 1\n", "no type of metric"),
    (b"a{x=\"1\",x=\"2\"} 1\n", "twice"),
    (b"a{x=\"" + b"y" * 70_000 + b"\"} 1\n", "the limit is 65536"),
    (b"a{x=\"\x00\"} 1\n", "NUL"),
    (b"{x=\"1\"} 1\n", "no metric name"),
]  # fmt: skip


@pytest.mark.parametrize(("page", "words"), BAD_PAGES)
def test_a_broken_page_fails_the_scrape_and_says_where(server: PageServer, desk: Any, page: bytes, words: str) -> None:
    server.page(page)
    one = desk(job(server.address))
    found = one.scrape()
    assert found["up"] == 0
    assert words in one.state.last_error
    assert set(found) == {"up", *(name for name in found if name.startswith("scrape_"))}


def _endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(100_000):
        connection.sendall(b"1000\r\n" + b"a 1\n" * 1024 + b"\r\n")


def _bomb(connection: socket.socket) -> None:
    import gzip

    body = gzip.compress(b"a 1\n" * 5_000_000, 1)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def _sending(data: bytes) -> Any:
    return lambda connection: connection.sendall(data)


def _reset(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na 1\n")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


WIRE = [
    (_endless, "body_size_limit"),
    (_bomb, "body_size_limit"),
    (_reset, "in the middle of the body"),
    (_sending(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na 1\n"), "in the middle of the body"),
    (_sending(b""), "ended before the answer"),
    (_sending(b"SSH-2.0-OpenSSH\r\n\r\n"), "not HTTP"),
    (_sending(b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"y" * 200_000), "head is longer"),
    (_sending(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\na 1\n"), "not gzip"),
    (_sending(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 4\r\n\r\na 1\n"), "not asked for"),
    (_sending(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), "without saying where to"),
    (_sending(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"), "not http or https"),
    (_sending(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n"), "more than 10 redirects"),
    (_sending(b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000), "head is longer"),
]


@pytest.mark.parametrize(("answer", "words"), WIRE)
def test_a_server_that_misbehaves_costs_one_scrape_and_is_named(desk: Any, answer: Any, words: str) -> None:
    with raw_server(answer) as address:
        one = desk(job(address, body_size_limit="2MB"))
        assert one.scrape()["up"] == 0
        assert words in one.state.last_error


def test_interim_answers_may_be_cut_anywhere(desk: Any) -> None:
    whole = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n"
    for cut in range(1, len(whole), 7):
        arrived = threading.Event()

        def answer(connection: socket.socket, cut: int = cut, arrived: threading.Event = arrived) -> None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(whole[:cut])
            arrived.wait(0.002)  # nobody sets it: only that the two parts are likely to be read one by one
            connection.sendall(whole[cut:])

        with raw_server(answer) as address:
            assert desk(job(address)).scrape()["a"] == 1


def test_a_body_without_length_ends_with_the_connection(desk: Any) -> None:
    with raw_server(_sending(b"HTTP/1.0 200 OK\r\n\r\na 1\n")) as address:
        one = desk(job(address))
        assert one.scrape()["a"] == 1


def test_a_slow_server_is_cut_off_at_the_timeout_and_the_message_says_what_was_waited_for(desk: Any) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        connection.recv(1)

    for answer, words in ((drip, "the body"), (lambda connection: connection.recv(1), "the answer")):
        with raw_server(answer) as address:
            one = desk(job(address, scrape_timeout="100ms"))
            assert one.scrape()["up"] == 0
            assert "within 0.1 s" in one.state.last_error
            assert words in one.state.last_error


def test_a_name_that_does_not_exist_is_named(desk: Any) -> None:
    one = desk(job("no-such-host.invalid:9100", scrape_interval="15s"))
    assert one.scrape()["up"] == 0
    assert "cannot look up no-such-host.invalid" in one.state.last_error


def test_redirects_are_followed_without_taking_the_credentials_elsewhere(server: PageServer, desk: Any) -> None:
    other = PageServer()
    other.page("a 1\n")
    server.replies["/metrics"] = Reply("", 302, headers={"Location": f"http://{other.address}/metrics"})
    one = desk(job(server.address, authorization={"credentials": "geheim"}))
    try:
        assert one.scrape()["a"] == 1
        assert server.seen[0].headers["authorization"] == "Bearer geheim"
        assert "authorization" not in other.seen[0].headers
        still = desk(job(server.address, follow_redirects=False))
        assert still.scrape()["up"] == 0
        assert "HTTP 302" in still.state.last_error
    finally:
        other.close()


def test_credentials_are_read_from_their_file_at_each_scrape(server: PageServer, desk: Any, tmp_path: Any) -> None:
    secret = tmp_path / "token"
    secret.write_text("first\n")
    server.page("a 1\n")
    one = desk(job(server.address, authorization={"credentials_file": str(secret)}))
    one.scrape()
    secret.write_text("second\n")
    one.scrape()
    secret.unlink()
    assert one.scrape()["up"] == 0
    assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer first", "Bearer second"]
    assert str(secret) in one.state.last_error


def test_basic_authentication_and_parameters(server: PageServer, desk: Any) -> None:
    server.page("a 1\n")
    one = desk(job(server.address, basic_auth={"username": "u", "password": "p"}, params={"m": ["a b", "c"]}))
    assert one.scrape()["up"] == 1
    assert server.seen[0].path == "/metrics?m=a+b&m=c"
    assert server.seen[0].headers["authorization"] == "Basic dTpw"


def test_conflicting_labels_are_exported_or_honoured(server: PageServer, desk: Any) -> None:
    server.page('a{job="theirs",exported_job="x",instance=""} 1\n')
    ours = desk(job(server.address))
    ours.scrape()
    labels = dict(next(s for s in ours.frames[-1].schema.series if s.name == "a").labels)
    assert labels == {"job": "desk", "instance": server.address, "exported_job": "x", "exported_exported_job": "theirs"}
    theirs = desk(job(server.address, honor_labels=True))
    theirs.scrape()
    labels = dict(next(s for s in theirs.frames[-1].schema.series if s.name == "a").labels)
    assert labels == {"job": "theirs", "exported_job": "x"}


def test_the_wall_clock_may_step_either_way(server: PageServer, desk: Any) -> None:
    server.page("a 1\n")
    one = desk(job(server.address))
    for step_s in (0, -3600, 7200):
        one.clock.step_wall(step_s * 1_000_000_000)
        expected = one.clock.now_ns()
        assert one.scrape()["up"] == 1
        assert one.frames[-1].t_ns == expected


class Sink:
    """Takes frames in from the service's thread; tests wait on it."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.frames: list[Frame] = []

    def __call__(self, frame: Frame) -> None:
        with self.condition:
            self.frames.append(frame)
            self.condition.notify_all()

    def wait(self, wanted: Any, timeout_s: float = 60.0) -> Frame:
        deadline = time.monotonic() + timeout_s
        with self.condition:
            while True:
                for frame in self.frames:
                    if wanted(frame):
                        return frame
                left = deadline - time.monotonic()
                assert left > 0, "no such frame came"
                self.condition.wait(left)


def service(jobs: list[ScrapeJob], sink: Any) -> ScrapeService:
    return ScrapeService(jobs, SystemClock(), sink, lambda *_: None, max_series=10_000, version="1.0")


def test_a_service_scrapes_all_its_targets_and_tells_of_them(server: PageServer) -> None:
    server.page("# HELP a Things.\n# TYPE a gauge\na 1\n")
    sink = Sink()
    dead = f"127.0.0.1:{free_port()}"
    one = service([job([server.address, dead])], sink)
    assert [state.health for state in one.targets()] == ["unknown", "unknown"]
    one.start()
    try:
        sink.wait(lambda frame: frame.schema.collector.endswith(server.address))
        sink.wait(lambda frame: frame.schema.collector.endswith(dead))
        up, down = one.targets()
        assert (up.health, down.health) == ("up", "down")
        assert up.url == f"http://{server.address}/metrics"
        assert up.labels == {"instance": server.address, "job": "desk"}
        assert up.discovered["__address__"] == server.address
        assert "refused" in down.last_error
        one._metadata = (float("-inf"), {})
        assert one.metadata() == {"a": (("gauge", "Things.", ""),)}
        values = {str(s): v for s, v in zip(one.describe().series, one.collect(1).values.tolist(), strict=True)}
        assert values['deskvigil_scrape_targets{health="up"}'] == 1
        assert values['deskvigil_scrape_targets{health="down"}'] == 1
        assert values["deskvigil_scrape_failures_total"] >= 1
    finally:
        one.stop()
        one.stop()


def test_a_removed_targets_series_end_and_the_others_go_on(server: PageServer) -> None:
    other = PageServer()
    sink = Sink()
    for each in (server, other):
        each.page("a 1\n")
    one = service([job([server.address, other.address])], sink)
    one.start()
    try:
        gone = f"scrape/desk/{other.address}"
        sink.wait(lambda frame: frame.schema.collector == gone and len(frame.schema) > 5)
        task = one._tasks[one._targets[0]]
        one.reconfigure([job([server.address, other.address]), job(server.address, job_name="second")])
        assert one._tasks[one._targets[0]] is task
        one.reconfigure(
            [job([server.address, other.address], scrape_interval="2s"), job(server.address, job_name="second")]
        )
        last = sink.wait(lambda frame: frame.schema.collector == gone and np.isnan(frame.values).all())
        assert "a" in {series.name for series in last.schema.series}
        one.reconfigure([])
        assert one.targets() == []
    finally:
        one.stop()
        other.close()


def test_a_service_without_targets_has_no_thread() -> None:
    one = service([], lambda frame: None)
    one.start()
    assert one._thread is None
    assert one.collect(1).values[0] == 0
    one.stop()


def test_a_sink_that_raises_is_counted_and_scraping_goes_on(server: PageServer) -> None:
    server.page("a 1\n")

    def broken(frame: Frame) -> None:
        raise RuntimeError("full")

    one = Desk(job(server.address))
    one.scraper._sink = broken
    asyncio.run(one.scraper.scrape())
    assert one.counts.sink_errors == 1
    assert one.state.health == "up"


def test_job_names_are_unique_and_relabelled_addresses_checked() -> None:
    adapter = TypeAdapter(CollectorOptions)
    with pytest.raises(ValueError, match="name of another job already"):
        adapter.validate_python({"scrape": [{"job_name": "a"}, {"job_name": "a"}]})
    with pytest.raises(ValueError, match="after relabelling"):
        adapter.validate_python(
            {
                "scrape": [
                    {
                        "job_name": "a",
                        "static_configs": [{"targets": ["x:1"]}],
                        "relabel_configs": [{"target_label": "__address__", "replacement": "a/b"}],
                    }
                ]
            }
        )
