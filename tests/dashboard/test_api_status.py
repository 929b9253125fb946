"""The endpoints that a Prometheus client, Grafana above all, asks besides queries."""

import shutil
import subprocess
from dataclasses import dataclass, field

import numpy as np
import pytest

from dashboard.api.names import unescaped
from metrics.clock import SystemClock
from metrics.frame import Frame
from metrics.series import Schema
from tests.dashboard.api_server import serve
from tests.query.engines import series

T0 = 1_700_000_000


@dataclass
class Target:
    pool: str = "engines"
    url: str = "http://10.0.0.1:9100/metrics"
    labels: dict = field(default_factory=lambda: {"job": "engines", "instance": "10.0.0.1:9100"})
    discovered: dict = field(default_factory=lambda: {"__address__": "10.0.0.1:9100"})
    health: str = "up"
    last_error: str = ""
    last_scrape_ns: int = T0 * 10**9
    last_duration_s: float = 0.25
    interval_s: float = 5.0
    timeout_s: float = 2.5


class Scrapes:
    def targets(self):
        return [Target()]

    def dropped(self):
        return [{"__address__": "10.0.0.2:9100"}]

    def metadata(self):
        return {"engine_orders": [("counter", "Orders.", ""), ("gauge", "Another's orders.", "")]}


@pytest.fixture(scope="module")
def server():
    with serve(scrapes=Scrapes()) as running:
        t_ms = [T0 * 1000 + i * 1000 for i in range(61)]
        for job, slope in (("a", 1.0), ("b", 2.0)):
            running.source.put(series("work_total", job=job), t_ms, [slope * i for i in range(61)])
        running.source.put(series("engine_orders_total", job="engines"), t_ms, [1.0] * 61)
        running.source.put(series("deskvigil_query_seconds_count"), t_ms, [1.0] * 61)
        yield running


def get(server, path, **parameters):
    return server.client.get(f"/api/v1/{path}", params=parameters)


def data(server, path, **parameters):
    response = get(server, path, **parameters)
    assert response.status_code == 200, response.text
    return response.json()["data"]


def test_a_grafana_data_source_finds_what_it_asks_for(server):
    """Its health check, then what a dashboard and the query builder send."""
    client = server.client
    form = {"content-type": "application/x-www-form-urlencoded"}
    health = client.post("/api/v1/query", content="query=1%2B1&time=1700000000.123", headers=form)
    assert health.json()["data"] == {"resultType": "scalar", "result": [1700000000.123, "2"]}
    assert data(server, "status/buildinfo")["version"].startswith("3.")
    span = {"start": str(T0), "end": str(T0 + 60)}
    labels = client.post("/api/v1/labels", data={**span, "match[]": "work_total"}).json()
    assert labels["data"] == ["__name__", "job"]
    assert data(server, "label/job/values", **span, **{"match[]": "work_total"}) == ["a", "b"]
    found = client.post("/api/v1/series", data={**span, "match[]": 'work_total{job="a"}'}).json()["data"]
    assert found == [{"__name__": "work_total", "job": "a"}]
    odd = {"query": "rate(work_total[30s])", "start": f"{T0 + 30}.5", "end": f"{T0 + 60}.75", "step": "7.25"}
    answer = client.post("/api/v1/query_range", data=odd)
    times = [t for t, _ in answer.json()["data"]["result"][0]["values"]]
    assert times == [T0 + 30.5 + 7.25 * i for i in range(5)]
    assert b"[1700000030.500," in answer.content
    assert data(server, "rules")["groups"] == []
    assert data(server, "metadata", metric="engine_orders")["engine_orders"][0]["type"] == "counter"
    assert data(server, "query_exemplars", query="work_total", **span) == []
    assert data(server, "alertmanagers") == {"activeAlertmanagers": [], "droppedAlertmanagers": []}


def test_a_limit_is_told(server):
    assert get(server, "query", query="work_total", time=str(T0), limit="1").json()["warnings"] == [
        "results truncated due to limit"
    ]
    answer = get(server, "series", **{"match[]": "work_total", "limit": "1"}).json()
    assert len(answer["data"]) == 1
    assert answer["warnings"]
    assert "warnings" not in get(server, "series", **{"match[]": "work_total", "limit": "2"}).json()
    assert get(server, "label/job/values", limit="2").json()["warnings"]


def test_the_time_of_a_query_can_be_shortened_and_its_lookback_set(server):
    assert get(server, "query", query="1", timeout="5s").status_code == 200
    response = get(server, "query_range", query="rate(work_total[30s])", start=T0, end=T0 + 60, step=1, timeout="1ns")
    assert response.status_code == 400
    assert get(server, "query", query="work_total", time=T0 + 90, lookback_delta="10s").json()["data"]["result"] == []
    assert (
        len(get(server, "query", query="work_total", time=T0 + 90, lookback_delta="1m").json()["data"]["result"]) == 2
    )
    stats = data(server, "query", query="1", stats="all")["stats"]
    assert stats["timings"]["execTotalTime"] >= 0


def test_time_ranges_without_end_are_what_go_sends_for_ever(server):
    span = {"start": "-292273086-05-16T16:47:06Z", "end": "292277025-08-18T07:12:54.999999999Z"}
    assert len(data(server, "series", **span, **{"match[]": "work_total"})) == 2
    assert data(server, "labels", start=str(T0 + 1000)) == []


@pytest.mark.parametrize(
    ("escaped", "name"),
    [
        ("job", "job"),
        ("U__job", "job"),
        ("U__http_2e_status:code", "http.status:code"),
        ("U__a__b", "a_b"),
        ("U__a_b", "U__a_b"),
        ("U___1F600_", "\U0001f600"),
        ("U___D800_", "U___D800_"),
    ],
)
def test_escaped_label_names_are_read(escaped, name):
    assert unescaped(escaped) == name


def test_escaped_names_work_in_addresses(server):
    assert data(server, "label/U__job/values") == ["a", "b", "engines"]


def test_metadata_says_unknown_where_nobody_told(server):
    found = data(server, "metadata")
    assert found["work_total"] == [{"type": "unknown", "unit": "", "help": ""}]
    assert "engine_orders_total" not in found  # its metric was described by its target
    assert "deskvigil_query_seconds_count" not in found
    assert len(data(server, "metadata", metric="engine_orders", limit_per_metric="1")["engine_orders"]) == 1
    assert data(server, "metadata", metric="nowhere") == {}


def test_targets_are_collectors_and_scraped_endpoints(server):
    now = SystemClock().now_ns()
    ours = Schema("host", (series("deskvigil_query_seconds_count"),))
    theirs = Schema("scrape/engines/10.0.0.1:9100", (series("engine_orders_total"),))
    server.live.frames = {one.collector: Frame(one, now, np.ones(1)) for one in (ours, theirs)}
    try:
        found = data(server, "targets")
        assert [one["scrapePool"] for one in found["activeTargets"]] == ["host", "engines"]
        assert found["activeTargets"][1]["scrapeInterval"] == "5s"
        assert found["droppedTargets"] == [{"discoveredLabels": {"__address__": "10.0.0.2:9100"}}]
        only = data(server, "targets", scrapePool="engines", state="active")
        assert [one["health"] for one in only["activeTargets"]] == ["up"]
        assert only["droppedTargets"] == []
        assert data(server, "scrape_pools") == {"scrapePools": ["engines", "host"]}
        told = data(server, "targets/metadata", match_target='{job="host"}')
        assert [one["metric"] for one in told] == ["deskvigil_query_seconds"]
        page = server.client.get("/metrics").text
        assert "deskvigil_query_seconds" in page
        assert "engine_orders" not in page  # a scraper of ours must not take others' series for ours
    finally:
        server.live.frames = {}


def test_rules_are_filtered_and_paged(server):
    rule = {"name": "High", "type": "alerting", "labels": {"team": "desk"}, "alerts": [{"state": "firing"}]}
    server.rules.groups = [{"name": f"g{i}", "file": f"f{i}", "rules": [rule]} for i in range(3)]
    try:
        assert [group["name"] for group in data(server, "rules", **{"file[]": "f1"})["groups"]] == ["g1"]
        assert data(server, "rules", **{"match[]": '{team="other"}'})["groups"] == []
        assert len(data(server, "rules", **{"match[]": '{team=~"d.*"}'})["groups"]) == 3
        assert "alerts" not in data(server, "rules", exclude_alerts="true")["groups"][0]["rules"][0]
        first = data(server, "rules", group_limit="2")
        assert len(first["groups"]) == 2
        last = data(server, "rules", group_limit="2", group_next_token=first["groupNextToken"])
        assert [group["name"] for group in last["groups"]] == ["g2"]
        assert "groupNextToken" not in last
        assert get(server, "rules", group_limit="2", group_next_token="stale").status_code == 400
        assert get(server, "rules", exclude_alerts="perhaps").status_code == 400
    finally:
        server.rules.groups = []


def test_status_pages(server):
    assert data(server, "status/config") == {"yaml": "web: {}\n"}
    assert data(server, "status/flags")["web.enable-admin-api"] == "false"
    assert data(server, "status/runtimeinfo")["storageRetention"] == "30d"
    assert data(server, "status/walreplay")["state"] == "done"
    found = data(server, "status/tsdb", limit="1")
    assert found["headStats"]["numSeries"] == 4
    assert found["seriesCountByMetricName"] == [{"name": "work_total", "value": 2}]


def test_other_methods_are_405_and_options_tell_which_there_are(server):
    response = server.client.delete("/api/v1/query")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, POST, HEAD, OPTIONS"
    response = server.client.options("/api/v1/labels")
    assert (response.status_code, response.headers["allow"]) == (204, "GET, POST, HEAD, OPTIONS")
    response = server.client.head("/api/v1/status/buildinfo")
    assert (response.status_code, response.content) == (200, b"")
    assert server.client.post("/api/v1/rules").status_code == 405


def test_large_answers_are_compressed_where_the_client_takes_it(server):
    parameters = {"query": "work_total", "start": T0, "end": T0 + 60, "step": "0.1"}
    plain = server.client.get("/api/v1/query_range", params=parameters, headers={"accept-encoding": "identity"})
    packed = server.client.get("/api/v1/query_range", params=parameters, headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) * 2 < int(plain.headers["content-length"])
    assert packed.json() == plain.json()
    refused = server.client.get("/api/v1/query_range", params=parameters, headers={"accept-encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers


def test_the_admin_api_is_off_unless_it_is_enabled(server):
    response = server.client.post("/api/v1/admin/tsdb/delete_series", params={"match[]": "work_total"})
    assert response.status_code == 503
    assert response.json() == {"status": "error", "errorType": "unavailable", "error": "admin APIs disabled"}


def test_an_enabled_admin_api_deletes_what_it_is_told_to():
    told = []

    def deleter(matchers, t0_ms, t1_ms, who):
        told.append((matchers, t0_ms, t1_ms, who))
        return 1

    with serve(deleter=deleter) as running:
        put = running.client.put
        answer = put(
            "/api/v1/admin/tsdb/delete_series", params={"match[]": ['x{a="1"}', "y"], "start": "1.5", "end": "2"}
        )
        assert (answer.status_code, answer.content) == (204, b"")
        assert [(one[1], one[2]) for one in told] == [(1_500, 2_000)] * 2
        assert sorted(told[0][0]) == [("__name__", "=", "x"), ("a", "=", "1")]
        assert told[0][3] == "127.0.0.1"
        assert put("/api/v1/admin/tsdb/delete_series").status_code == 400
        assert put("/api/v1/admin/tsdb/clean_tombstones").status_code == 204
        assert "app.py backup" in put("/api/v1/admin/tsdb/snapshot").json()["error"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool: apt-get install prometheus")
def test_promtool_finds_everything_without_a_time_range(server):
    command = ["promtool", "query", "series", "--match=work_total", "--start=0", f"--end={T0 + 60}", server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ['{__name__="work_total", job="a"}', '{__name__="work_total", job="b"}']
