import json
import math
import shutil
import subprocess
import threading

import anyio
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.api import answers
from dashboard.api.answers import number
from dashboard.api.gate import BusyError, Gate
from dashboard.api.meter import ApiMeter
from metrics.clock import SystemClock
from metrics.frame import Frame
from metrics.series import Schema
from query.options import QueryOptions
from query.result import Result
from tests.dashboard.api_server import serve
from tests.query.engines import series

T0 = 1_700_000_000


@pytest.fixture(scope="module")
def server():
    with serve() as running:
        t_ms = [T0 * 1000 + i * 1000 for i in range(61)]
        for job, slope in (("a", 1.0), ("b", 2.0)):
            running.source.put(series("work_total", job=job), t_ms, [slope * i for i in range(61)])
        running.source.put(series("odd", kind="nan"), t_ms, [math.nan] * 61)
        running.source.put(series("odd", kind="inf"), t_ms, [math.inf] * 61)
        yield running


def get(server, path, **parameters):
    return server.client.get(f"/api/v1/{path}", params=parameters)


def data(server, path, **parameters):
    response = get(server, path, **parameters)
    assert response.status_code == 200, response.text
    assert response.json()["status"] == "success"
    return response.json()["data"]


def test_an_instant_query_answers_as_prometheus_does(server):
    assert data(server, "query", query='work_total{job="a"}', time=str(T0 + 60)) == {
        "resultType": "vector",
        "result": [{"metric": {"__name__": "work_total", "job": "a"}, "value": [T0 + 60, "60"]}],
    }
    assert data(server, "query", query="1/3", time=f"{T0}.5") == {
        "resultType": "scalar",
        "result": [T0 + 0.5, "0.3333333333333333"],
    }
    assert data(server, "query", query="'text'", time=str(T0)) == {"resultType": "string", "result": [T0, "text"]}


def test_special_values_are_strings(server):
    result = data(server, "query", query="sort(odd)", time=str(T0))["result"]
    assert [one["value"][1] for one in result] == ["+Inf", "NaN"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e20, "100000000000000000000"), (1e21, "1e+21"), (1e-6, "0.000001"), (1e-7, "1e-07"), (0.5, "0.5"), (-3.0, "-3")],
)
def test_numbers_get_exponents_where_prometheus_gives_them(value, text):
    assert number(value) == text


def test_a_range_query_takes_any_form_of_times_and_steps(server):
    expected = [{"metric": {}, "values": [[T0 + 30, "90"], [T0 + 60, "180"]]}]
    for start, end, step in (
        (str(T0 + 30), str(T0 + 60), "30"),
        (f"{T0 + 30}.0", f"{T0 + 60}", "30s"),
        ("2023-11-14T22:13:50Z", "2023-11-14T22:14:20Z", "0.5m"),
    ):
        response = get(server, "query_range", query="sum(work_total)", start=start, end=end, step=step)
        if step == "0.5m":
            assert response.status_code == 400
        else:
            assert response.json()["data"] == {"resultType": "matrix", "result": expected}


def test_a_post_with_a_form_is_the_same_as_a_get(server):
    response = server.client.post("/api/v1/query", data={"query": "count(work_total)", "time": str(T0)})
    assert response.json()["data"]["result"][0]["value"] == [T0, "2"]
    response = server.client.post("/api/v1/series", data={"match[]": ["work_total{job='a'}", "odd{kind='inf'}"]})
    assert [one["__name__"] for one in response.json()["data"]] == ["odd", "work_total"]


@pytest.mark.parametrize(
    ("path", "parameters", "code", "kind"),
    [
        ("query", {}, 400, "bad_data"),
        ("query", {"query": "sum("}, 400, "bad_data"),
        ("query", {"query": "up", "time": "tomorrow"}, 400, "bad_data"),
        ("query_range", {"query": "up", "start": "1", "end": "2"}, 400, "bad_data"),
        ("query_range", {"query": "up", "start": "2", "end": "1", "step": "1"}, 400, "bad_data"),
        ("query_range", {"query": "up", "start": "1", "end": "2", "step": "0"}, 400, "bad_data"),
        ("query_range", {"query": "up", "start": "0", "end": "1000000", "step": "1"}, 400, "bad_data"),
        ("query", {"query": "work_total * on () work_total", "time": str(T0)}, 422, "execution"),
        ("series", {}, 400, "bad_data"),
        ("series", {"match[]": "rate(x[5m])"}, 400, "bad_data"),
        ("labels", {"limit": "many"}, 400, "bad_data"),
        ("rules", {"type": "nonsense"}, 400, "bad_data"),
    ],
)
def test_errors_have_prometheus_form(server, path, parameters, code, kind):
    response = get(server, path, **parameters)
    assert response.status_code == code
    assert response.json()["status"] == "error"
    assert response.json()["errorType"] == kind
    assert response.json()["error"]


def test_a_timeout_answers_503():
    with serve(options=QueryOptions(timeout_s=1e-9)) as running:
        running.source.put(series("x"), [0, 1000], [1.0, 2.0])
        response = get(running, "query_range", query="rate(x[1m])", start="0", end="10", step="1")
        assert (response.status_code, response.json()["errorType"]) == (503, "timeout")


def test_series_labels_and_values(server):
    assert data(server, "series", **{"match[]": "work_total"}) == [
        {"__name__": "work_total", "job": "a"},
        {"__name__": "work_total", "job": "b"},
    ]
    assert data(server, "series", **{"match[]": "work_total", "start": str(T0 + 100)}) == []
    assert data(server, "labels") == ["__name__", "job", "kind"]
    assert data(server, "labels", **{"match[]": "odd"}) == ["__name__", "kind"]
    assert data(server, "label/job/values") == ["a", "b"]
    assert data(server, "label/__name__/values", limit="1") == ["odd"]
    assert data(server, "label/job/values", **{"match[]": 'work_total{job!="a"}'}) == ["b"]


def test_metadata_comes_from_the_catalogue(server):
    found = data(server, "metadata", metric="deskvigil_kpi_fill_ratio")
    assert found["deskvigil_kpi_fill_ratio"][0]["type"] == "gauge"
    assert len(data(server, "metadata", limit="3")) == 3


def test_rules_and_alerts_are_passed_on_and_filtered(server):
    alerting = {"name": "High", "type": "alerting"}
    recording = {"name": "a:b", "type": "recording"}
    server.rules.groups = [{"name": "g", "file": "f", "rules": [alerting, recording]}]
    server.rules.active = [{"labels": {"alertname": "High"}, "state": "firing"}]
    assert data(server, "rules")["groups"][0]["rules"] == [alerting, recording]
    assert data(server, "rules", type="alert")["groups"][0]["rules"] == [alerting]
    assert data(server, "rules", **{"rule_name[]": "nope"})["groups"] == []
    assert data(server, "alerts") == {"alerts": [{"labels": {"alertname": "High"}, "state": "firing"}]}


def test_collectors_are_targets(server):
    frame = Frame(Schema("host", ()), SystemClock().now_ns(), np.empty(0))
    server.live.frames = {"host": frame, "gone": Frame(Schema("gone", ()), 0, frame.values)}
    targets = data(server, "targets")["activeTargets"]
    assert {one["scrapePool"]: one["health"] for one in targets} == {"gone": "down", "host": "up"}
    server.live.frames = {}


def test_build_and_formatting(server):
    assert data(server, "status/buildinfo")["applicationVersion"] == "0.1.0"
    assert data(server, "format_query", query="sum  by (a)(x)").startswith("sum by")


def test_warnings_are_told(server):
    response = get(server, "query", query="quantile(7, work_total)", time=str(T0))
    assert response.json()["warnings"]


def test_requests_and_query_times_are_counted(server):
    before = dict(zip(server.meter.describe().series, server.meter.collect(1).values, strict=True))
    data(server, "query", query="1")
    get(server, "query", query="(")
    after = dict(zip(server.meter.describe().series, server.meter.collect(1).values, strict=True))
    grown = {str(one): value - before.get(one, 0) for one, value in after.items() if value != before.get(one, 0)}
    assert grown['deskvigil_web_api_requests_total{code="200",handler="/query"}'] == 1
    assert grown['deskvigil_web_api_requests_total{code="400",handler="/query"}'] == 1
    assert grown["deskvigil_query_seconds_count"] == 2


def test_a_full_queue_refuses():
    meter = ApiMeter(SystemClock())

    async def crowd() -> list[object]:
        gate = Gate(meter, running=1, waiting=1)
        release = threading.Event()
        outcomes: list[object] = []

        async def one() -> None:
            try:
                outcomes.append(await gate.run(lambda: release.wait(20)))
            except BusyError as error:
                outcomes.append(error)
                release.set()

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(one)
        return outcomes

    outcomes = anyio.run(crowd)
    assert sum(isinstance(outcome, BusyError) for outcome in outcomes) == 1
    assert sum(outcome is True for outcome in outcomes) == 2


promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool: apt-get install prometheus")


def ask_promtool(*arguments):
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@promtool
def test_promtool_understands_our_answers(server):
    out = ask_promtool("query", "instant", "-o", "json", server.url, f"sum(rate(work_total[30s] @ {T0 + 60}))")
    assert float(json.loads(out)[0]["value"][1]) == pytest.approx(3)
    out = ask_promtool(
        "query", "range", f"--start={T0}", f"--end={T0 + 60}", "--step=30s", server.url, "work_total{job='b'}"
    )
    assert "60 @[" in out
    out = ask_promtool("query", "labels", f"--start={T0}", f"--end={T0 + 60}", server.url, "job")
    assert out.split() == ["a", "b"]
    out = ask_promtool("query", "series", "--match=odd", f"--start={T0}", f"--end={T0 + 60}", server.url)
    assert out.splitlines() == ['{__name__="odd", kind="inf"}', '{__name__="odd", kind="nan"}']


@promtool
def test_promtool_shows_our_errors(server):
    done = subprocess.run(
        ["promtool", "query", "instant", server.url, "sum("], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "parse error" in done.stderr + done.stdout


@given(
    st.lists(st.floats() | st.integers(-1000, 1000).map(float) | st.none(), min_size=1, max_size=30),
    st.integers(0, 2_000_000_000_000),
    st.integers(1, 100_000),
)
def test_points_made_from_arrays_are_the_points_made_one_by_one(values, start_ms, step_ms):
    present = np.array([[value is not None for value in values]])
    numbers = np.array([[0.0 if value is None else value for value in values]])
    t_ms = start_ms + step_ms * np.arange(len(values), dtype=np.int64)
    answer = Result("matrix", ({},), t_ms, numbers, present)
    written = orjson.loads(orjson.dumps(answers.result(answer)))["result"][0]["values"]
    one_by_one = [
        [answers.seconds(t), number(value)] for t, value in zip(t_ms.tolist(), values, strict=True) if value is not None
    ]
    assert written == orjson.loads(orjson.dumps(one_by_one))
