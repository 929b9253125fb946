"""The same pages scraped by Prometheus and by us, with the same configuration: the same series come of it."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from collectors.scrape.options import ScrapeJob
from tests.collectors.scrape_server import OPEN, PageServer, Reply
from tests.collectors.test_scrape import Desk, values_of
from tests.ports import free_port

PAGE = r"""
# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200",job="theirs"} 1027
http_requests_total{method="post",code="400",instance="x",exported_instance="y"} 3
escaped{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\"",odd="\d"} 1.458255915e9
no_labels 12.47
empty{a="",b="x"} 1
tabs	{ a = "b" , }	 -3.5e-2@
# TYPE latency histogram
latency_bucket{le="0.05"} 24054
latency_bucket{le="+Inf"} 144320
latency_sum 53423
latency_count 144320
# TYPE quantiles summary
quantiles{quantile="0.5"} NaN
quantiles_sum 0
largest +Inf
smallest -inf
twice{a="1",b="2"} 1
twice{b="2",a="1"} 2
twice{a="1",b="2"} 3
node:colon{mount="/é"} 7
meta_zone{meta_a="1",meta_b="2",Host="ABC:1"} 4
meta_zone{meta_a="1",meta_b="1",Host="xyz"} 5
go_goroutines 5
""".replace("@", " ")
OPEN_PAGE = """# TYPE a_seconds counter
# UNIT a_seconds seconds
# HELP a_seconds Time.
a_seconds_total{x="1"} 4.5 # {trace_id="77"} 0.5 1700000000.1
a_seconds_created{x="1"} 1.7e9
# TYPE h histogram
h_bucket{le="1.0"} 3 # {} 0.5
h_bucket{le="+Inf"} 4
h_count 4
h_sum 4.25
# TYPE v info
v_info{version="1.0"} 1
# TYPE s stateset
s{s="on"} 1
s{s="off"} 0
# EOF
"""
RULES = [
    {"source_labels": ["__name__"], "regex": "go_.*", "action": "drop"},
    {"source_labels": ["__name__", "code"], "separator": "@", "regex": "(.*)_total@(4)(..)", "target_label": "class", "replacement": "${2}xx-$3-$1x$$"},
    {"regex": "meta_(.+)", "action": "labelmap", "replacement": "was_$1"},
    {"regex": "meta_.*", "action": "labeldrop"},
    {"source_labels": ["Host"], "action": "lowercase", "target_label": "low"},
    {"source_labels": ["low"], "action": "uppercase", "target_label": "up_"},
    {"source_labels": ["__name__", "le"], "modulus": 17, "action": "hashmod", "target_label": "shard"},
    {"source_labels": ["was_a"], "target_label": "was_b", "action": "dropequal"},
    {"source_labels": ["quantile"], "regex": "0.5", "target_label": "quantile", "replacement": ""},
    {"source_labels": ["__name__"], "regex": "largest", "target_label": "__name__", "replacement": "big"},
    {"source_labels": ["nothing"], "regex": "()", "target_label": "job", "replacement": "other"},
]  # fmt: skip


def jobs(address: str) -> list[dict[str, Any]]:
    def one(name: str, path: str = "/page", **how: Any) -> dict[str, Any]:
        group = {"targets": [address], "labels": {"desk": "london", "__hidden": "x"}}
        return {"job_name": name, "scrape_interval": "1s", "metrics_path": path, "static_configs": [group], **how}

    return [
        one("plain"),
        one("honour", honor_labels=True),
        one("rules", metric_relabel_configs=RULES),
        one("keep", metric_relabel_configs=[{"source_labels": ["__name__"], "regex": "l.*", "action": "keep"}, {"regex": "__name__|le|job|instance", "action": "labelkeep"}]),
        one("target", relabel_configs=[
            {"source_labels": ["__address__", "__metrics_path__"], "target_label": "where"},
            {"source_labels": ["__hidden"], "target_label": "seen"},
            {"target_label": "instance", "replacement": "renamed:1"},
            {"target_label": "__param_q", "replacement": "a b"},
        ], params={"z": ["1"]}),
        one("open", "/open"),
        one("few", sample_limit=5),
        one("narrow", label_limit=4),
        one("long", label_value_length_limit=12),
        one("broken", "/broken"),
        one("cut", "/cut"),
        one("away", "/nothing"),
        one("empty", "/empty"),
        one("times", "/times", honor_timestamps=False),
        one("nameless", metric_relabel_configs=[{"regex": "__name__", "action": "labeldrop"}]),
    ]  # fmt: skip


@pytest.fixture
def server() -> Iterator[PageServer]:
    made = PageServer()
    made.replies = {
        "/page": Reply(PAGE),
        "/open": Reply(OPEN_PAGE, content_type=OPEN),
        "/broken": Reply("a 1\nb 2\nc{x=1} 3\n"),
        "/cut": Reply("a 1\n", content_type=OPEN),
        "/empty": Reply(""),
        "/times": Reply("a 1 1600000000000\nb 2\n"),
    }
    yield made
    made.close()


class Prometheus:
    """A real Prometheus in a folder of its own."""

    def __init__(self, folder: Path, scrape_configs: list[dict[str, Any]]) -> None:
        binary = shutil.which("prometheus")
        if binary is None:
            pytest.skip("prometheus is not installed: apt-get install prometheus")
        (folder / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": scrape_configs}))
        self._url = f"http://127.0.0.1:{free_port()}"
        self._process = subprocess.Popen(
            [
                binary, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={self._url.removeprefix('http://')}", "--log.level=error",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def query(self, expression: str) -> list[dict[str, Any]]:
        with urllib.request.urlopen(
            f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        ) as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return result

    def wait_for(self, expression: str, count: int) -> None:
        """Wait until an expression has so many results."""
        deadline = time.monotonic() + 60
        pause = 0.1
        while True:
            try:
                if len(self.query(expression)) >= count:
                    return
            except OSError:
                pass  # it is still starting
            assert time.monotonic() < deadline, f"{expression} never had {count} results"
            time.sleep(pause)  # it offers nothing to wait on

    def series(self) -> dict[str, float]:
        found = self.query('{__name__=~".+",__name__!="scrape_duration_seconds"}')
        return {json.dumps(one["metric"], sort_keys=True): float(one["value"][1]) for one in found}

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(60)


def ours(desks: list[Desk]) -> dict[str, float]:
    found: dict[str, float] = {}
    for desk in desks:
        frame = desk.frames[-1]
        there = values_of(frame, whole=True)
        for series in frame.schema.series:
            if str(series) in there and series.name != "scrape_duration_seconds":
                found[json.dumps({"__name__": series.name, **dict(series.labels)}, sort_keys=True)] = there[str(series)]
    return found


def differences(theirs: dict[str, float], mine: dict[str, float]) -> list[str]:
    def same(a: float, b: float) -> bool:
        return a == b or (math.isnan(a) and math.isnan(b))

    lines = [f"only Prometheus: {key} = {theirs[key]}" for key in sorted(theirs.keys() - mine.keys())]
    lines += [f"only we: {key} = {mine[key]}" for key in sorted(mine.keys() - theirs.keys())]
    both = sorted(theirs.keys() & mine.keys())
    return lines + [f"{key}: {theirs[key]} there, {mine[key]} here" for key in both if not same(theirs[key], mine[key])]


def test_prometheus_and_we_make_the_same_series_of_the_same_pages(server: PageServer, tmp_path: Path) -> None:
    configured = jobs(server.address)
    prometheus = Prometheus(tmp_path, configured)
    desks = [Desk(one) for one in TypeAdapter(list[ScrapeJob]).validate_python(configured)]
    try:
        for desk in desks:
            desk.scrape()
            desk.scrape()
        prometheus.wait_for("count_over_time(up[1m]) >= 2", len(configured))
        assert "\n".join(differences(prometheus.series(), ours(desks))) == ""
        assert len(ours(desks)) > 130

        server.replies["/page"] = Reply("".join(line for line in PAGE.splitlines(True) if "latency" not in line))
        before = len(prometheus.query("up"))
        changed = time.time()
        for desk in desks:
            desk.scrape()
            desk.scrape()
        # A target read more than two of its seconds later has been read twice since.
        prometheus.wait_for(f"scrape_series_added == 0 and timestamp(up) > {changed + 2:.3f}", before)
        assert len(prometheus.query("up")) == before
        assert prometheus.query("latency_sum") == []
        assert "\n".join(differences(prometheus.series(), ours(desks))) == ""
    finally:
        prometheus.close()
        for desk in desks:
            desk.close()
