import math
import shutil
import subprocess

import numpy as np
import pytest

from dashboard.api.exposition import current, expose
from dashboard.api.text_format import read
from metrics.catalogue import CATALOGUE, Metric
from metrics.clock import SystemClock
from metrics.frame import Frame
from metrics.series import Schema
from tests.dashboard.api_server import Live, serve
from tests.query.engines import series


def lines(samples, *, open_metrics=True):
    return expose(samples, open_metrics=open_metrics).decode().splitlines()


HISTOGRAM = [
    (series("deskvigil_query_seconds_count"), 3.0),
    (series("deskvigil_query_seconds_bucket", le="+Inf"), 3.0),
    (series("deskvigil_query_seconds_bucket", le="0.5"), 2.0),
    (series("deskvigil_query_seconds_sum"), 1.5),
    (series("deskvigil_query_seconds_bucket", le="0.025"), 1.0),
]


def test_histograms_are_assembled_in_order():
    assert lines(HISTOGRAM)[3:] == [
        'deskvigil_query_seconds_bucket{le="0.025"} 1',
        'deskvigil_query_seconds_bucket{le="0.5"} 2',
        'deskvigil_query_seconds_bucket{le="+Inf"} 3',
        "deskvigil_query_seconds_sum 1.5",
        "deskvigil_query_seconds_count 3",
        "# EOF",
    ]


def test_open_metrics_names_counters_without_total_and_gives_units():
    counter = [(series("deskvigil_web_api_refused_total"), 2.0)]
    assert lines(counter)[0] == "# TYPE deskvigil_web_api_refused counter"
    assert lines(counter)[-2:] == ["deskvigil_web_api_refused_total 2", "# EOF"]
    assert "# UNIT deskvigil_query_seconds seconds" in lines(HISTOGRAM)


def test_the_plain_format_names_counters_as_they_are():
    counter = [(series("deskvigil_web_api_refused_total"), 2.0)]
    assert lines(counter, open_metrics=False)[1] == "# TYPE deskvigil_web_api_refused_total counter"
    assert "# EOF" not in lines(counter, open_metrics=False)


def test_a_metric_of_several_collectors_is_one_family():
    page = lines(
        [
            (series("deskvigil_kpi_order_to_fill_seconds", quantile="0.99"), 2.0),
            (series("unknown_thing"), 1.0),
            (series("deskvigil_kpi_order_to_fill_seconds", quantile="0.5"), 1.0),
            (series("unknown_thing"), 9.0),
        ]
    )
    assert sum(line.startswith("# TYPE deskvigil_kpi_order_to_fill_seconds ") for line in page) == 1
    assert page[-3:] == ["# TYPE unknown_thing unknown", "unknown_thing 1", "# EOF"]


def test_missing_readings_and_old_frames_are_left_out():
    now = SystemClock().now_ns()
    schema = Schema("a", (series("x"), series("y")))
    live = Live(
        {
            "a": Frame(schema, now, np.array([1.0, math.nan])),
            "old": Frame(Schema("old", (series("z"),)), now - 120 * 10**9, np.array([1.0])),
        }
    )
    assert list(current(live, now)) == [(series("x"), 1.0)]


def test_what_is_exposed_can_be_imported():
    samples = read(expose(HISTOGRAM, open_metrics=True).decode(), 0)
    assert {key.series for key in samples.keys} == {one for one, _ in HISTOGRAM}


def test_the_page_is_served_in_the_format_that_is_asked_for():
    with serve() as server:
        frame = Frame(Schema("a", (series("x"),)), SystemClock().now_ns(), np.array([1.0]))
        server.live.frames = {"a": frame}
        plain = server.client.get("/metrics")
        assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert plain.text == "# TYPE x untyped\nx 1\n"
        is_open = server.client.get("/metrics", headers={"accept": "application/openmetrics-text;version=1.0.0"})
        assert is_open.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert is_open.text.endswith("# EOF\n")


def example(metric: Metric):
    labels = {name: "0.99" if name == "quantile" else "a" for name in metric.labels}
    if metric.kind != "histogram":
        return [(series(metric.name, **labels), 1.0)]
    buckets = [(series(f"{metric.name}_bucket", le=le, **labels), 1.0) for le in ("1", "+Inf")]
    return [*buckets, (series(f"{metric.name}_sum", **labels), 1.0), (series(f"{metric.name}_count", **labels), 1.0)]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool: apt-get install prometheus")
def test_promtool_finds_nothing_wrong_with_any_metric_of_the_catalogue():
    page = expose((one for metric in CATALOGUE.values() for one in example(metric)), open_metrics=False)
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()


def test_every_metric_of_the_catalogue_has_its_example_on_the_page():
    page = expose((one for metric in CATALOGUE.values() for one in example(metric)), open_metrics=True).decode()
    for metric in CATALOGUE.values():
        assert f"# TYPE {metric.name.removesuffix('_total') if metric.kind == 'counter' else metric.name} " in page
