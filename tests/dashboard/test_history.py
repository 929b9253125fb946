from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.state import AlertState
from dashboard.history.answer import Answer, Curve, Part, ask
from dashboard.history.comparison import session_starts
from dashboard.history.figure import figure, place, shortened
from dashboard.history.files import to_csv
from dashboard.history.marks import marks
from dashboard.history.payload import payload
from dashboard.history.question import Question
from dashboard.history.statistics import statistics
from dashboard.history.unit import Unit
from dashboard.services import Annotation
from dashboard.timerange import RangeError, TimeRange
from metrics.frame import FloatArray
from metrics.series import Series, make_labels
from metrics.severity import Severity
from tests.dashboard.demo_services import Desk, serving, wait_until

HOUR_MS = 3_600_000
SPAN = TimeRange(1_795_000_000_000, 1_795_000_010_000)
STEPS = np.arange(SPAN.start_ms, SPAN.end_ms + 1, 1000)
SLIPPAGE = "deskvigil_kpi_slippage_bps"


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk with two days of one sample a minute from outside, and some frames of its own, whose engine is silent."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.script.silent = True
    desk.start()
    now_ms = desk.clock.now_ns() // 1_000_000
    t_ms = np.arange(now_ms - 49 * HOUR_MS, now_ms - 60_000, 60_000)
    rows = {
        Series("load", make_labels({"desk": name})): (t_ms, np.where(t_ms < now_ms - 24 * HOUR_MS, 1.0, 3.0) * scale)
        for name, scale in (("a", 1.0), ("b", 10.0))
    }
    started = Series("deskvigil_engine_session_start_time_seconds")
    first, second = now_ms - 30 * HOUR_MS, now_ms - 2 * HOUR_MS
    rows[started] = (t_ms, np.where(t_ms < second, first, second) / 1000.0)
    desk.store.ingest(list(rows), [t for t, _ in rows.values()], [v for _, v in rows.values()])
    for _ in range(3):
        desk.append_now()
    yield desk
    desk.stop()


@pytest.fixture(scope="module")
def served(past: Desk) -> Iterator[str]:
    """Address of its web server."""
    with serving(past.services) as url:
        yield url


def _asked(desk: Desk, *expressions: str, preset: str = "15m", **more: Any) -> dict[str, Any]:
    return payload(desk.services, Question(expressions, preset, **more))


def _curve(values: list[float], **labels: str) -> Curve:
    array: FloatArray = np.asarray(values, np.float64)
    return Curve(labels, array, ~np.isnan(array))


# --- no data says why ---


@pytest.mark.parametrize(
    ("expression", "words", "similar"),
    [
        ("deskvigil_kpi_slipage_bps", "Nothing called deskvigil_kpi_slipage_bps", SLIPPAGE),
        ('load{desk="c"}', 'No load with desk="c": its values are a, b.', ""),
        ('load{host="a"}', "load has no label host: it has desk.", "desk"),
        ('deskvigil_kpi_order_to_fill_seconds{quantile="0.98"}', "its values are 0.5, 0.95, 0.99", "0.99"),
        ("deskvigil_gpu_utilisation_ratio", "No NVIDIA driver on this host.", ""),
        ("deskvigil_engine_order_to_fill_seconds", "known, but nothing has been stored", ""),
        ("load > 1e9", "no sample of it fits this expression", ""),
        ("vector(1) > 2", "gives no series", ""),
    ],
)
def test_a_question_without_an_answer_says_why(past: Desk, expression: str, words: str, similar: str) -> None:
    (part,) = ask(past.services, Question((expression,), "1h")).parts
    assert part.absence is not None
    assert words in part.absence.text
    assert similar in ("", *part.absence.similar)


def test_a_time_without_data_says_when_there_are_some(past: Desk) -> None:
    now_ms = past.clock.now_ns() // 1_000_000
    long_ago = Question(("load",), "", "2020-01-01 00:00:00", "2020-01-01 01:00:00")
    (part,) = ask(past.services, long_ago).parts
    assert part.absence is not None
    assert part.absence.data_from_ms is not None
    assert part.absence.data_to_ms is not None
    assert "kept for 30 days" in part.absence.text
    # Found to the block that holds them: never later than the first sample, never before the last.
    assert part.absence.data_from_ms <= now_ms - 48 * HOUR_MS
    assert part.absence.data_to_ms >= now_ms - 2 * HOUR_MS


def test_combinations_that_do_not_exist_are_told_apart_from_values_that_do_not(past: Desk) -> None:
    rows = [Series("pair", make_labels({"a": a, "b": b})) for a, b in (("1", "2"), ("3", "4"))]
    now_ms = past.clock.now_ns() // 1_000_000
    past.store.ingest(rows, [np.array([now_ms])] * 2, [np.array([1.0])] * 2)
    (part,) = ask(past.services, Question(('pair{a="1",b="4"}',), "15m")).parts
    assert part.absence is not None
    assert "not together in one series" in part.absence.text


# --- mistakes ---


def test_a_mistake_in_one_query_leaves_the_others_alone(past: Desk) -> None:
    said = _asked(past, "load", "sum(", "(" * 12_000)
    good, bad, endless = said["parts"]
    assert good["problem"] is None
    assert good["series"] == 2
    assert (bad["problem"]["start"], bad["problem"]["end"]) == (3, 4)
    assert "longer than" in endless["problem"]["message"]
    assert {row["letter"] for row in said["series"]} == {"A"}


def test_a_range_that_is_none_is_refused(past: Desk) -> None:
    with pytest.raises(RangeError):
        _asked(past, "load", preset="fortnight")


# --- units and axes ---


def _part(letter: str, unit: Unit | None, *values: float) -> Part:
    return Part(letter, "x", [_curve(list(values) or [1.0] * len(STEPS))], [None], unit)


def test_the_first_unit_is_left_the_second_right_and_a_third_is_refused_in_words() -> None:
    units = (Unit("seconds"), Unit("ratio"), Unit("seconds"), Unit("bytes"), None)
    placed = place([_part(letter, unit) for letter, unit in zip("ABCDE", units, strict=True)])
    assert [one.axis for one in placed] == ["y", "y2", "y", "", ""]
    assert placed[3].refusal == "D is in B, and the chart's two axes are taken by s and %. Hide A, C or B to draw it."
    assert "E is in no unit" in placed[4].refusal


def test_both_curves_of_an_axis_share_one_scale_and_the_hover_says_the_unit() -> None:
    parts = [_part("A", Unit("seconds"), *[0.0005] * 11), _part("B", Unit("seconds"), *[0.25] * 11)]
    answer = Answer(SPAN, 1000, STEPS, parts)
    drawn = figure(answer, place(parts))
    assert [float(trace["y"][0]) for trace in drawn["data"]] == pytest.approx([0.5, 250.0])
    assert all(trace["hovertemplate"].endswith(" ms") for trace in drawn["data"])
    assert [note["text"] for note in drawn["layout"]["annotations"]] == ["ms"]


def test_missing_steps_are_gaps_and_a_lonely_point_is_seen() -> None:
    values = [1.0, 2.0, float("nan"), 3.0, float("nan"), float("inf"), 1.0, 1.0, 1.0, 1.0, 1.0]
    part = Part("A", "x", [_curve(values)], [None], Unit())
    (trace,) = figure(Answer(SPAN, 1000, STEPS, [part]), place([part]))["data"]
    assert np.isnan(trace["y"][[2, 4, 5]]).all()
    assert [i for i, size in enumerate(trace["marker"]["size"]) if size] == [3]
    assert (trace["x0"], trace["dx"], trace["connectgaps"]) == (SPAN.start_ms, 1000, False)


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=50))
def test_shortened_values_still_show_every_movement(values: list[float]) -> None:
    array = np.array(values)
    moves = array.max() - array.min()
    error = np.abs(shortened(array).astype(np.float64) - array).max()
    assert error <= max(moves, 1e-40) * 1e-3


# --- statistics ---


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_statistics_are_those_of_numpy(values: list[float]) -> None:
    found = statistics(_curve([*values, float("inf")]))
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-6)
    assert found.p95 == pytest.approx(np.percentile(values, 95), abs=1e-6)
    assert (found.min, found.max, found.last) == (min(values), max(values), values[-1])
    assert found.change == values[-1] - values[0]


def test_statistics_of_nothing_are_nothing() -> None:
    assert statistics(_curve([float("inf")])) == replace(statistics(_curve([float("inf")])), n=0, mean=None)


# --- comparison ---


def test_the_day_before_is_aligned_dashed_and_told_in_the_statistics(past: Desk) -> None:
    said = _asked(past, 'load{desk="a"}', preset="6h", compare="day")
    now, before = said["figure"]["data"]
    assert before["line"]["dash"] != "solid"
    assert before["name"].endswith("the day before")
    assert before["x0"] == now["x0"]
    (row,) = said["series"]
    assert row["statistics"]["mean"] == pytest.approx(3.0)
    assert row["statistics"]["before"] == pytest.approx(1.0)
    assert row["statistics"]["versus"] == pytest.approx(2.0)
    assert row["ratio"] == pytest.approx(2.0)


def test_a_week_without_data_is_said_and_not_drawn(past: Desk) -> None:
    said = _asked(past, 'load{desk="a"}', preset="6h", compare="week")
    assert len(said["figure"]["data"]) == 1
    assert said["series"][0]["missing"]


def test_the_session_before_begins_where_this_one_began(past: Desk) -> None:
    now_ms = past.clock.now_ns() // 1_000_000
    starts = session_starts(past.services, now_ms - 48 * HOUR_MS, now_ms)
    assert len(starts) == 2
    said = _asked(past, "load", preset="1h", compare="session")
    assert said["comparison"]["offset_ms"] == starts[1] - starts[0]
    assert [row["statistics"]["before"] for row in said["series"]] == pytest.approx([1.0, 10.0])


def test_without_an_earlier_session_the_reason_is_said(desk: Desk) -> None:
    said = payload(desk.services, Question((SLIPPAGE,), "1h", compare="session"))
    assert "no session" in said["comparison"]["words"]


# --- steps ---


def test_following_evaluates_the_same_instants_again(past: Desk) -> None:
    first = ask(past.services, Question(("load",), "1h", follow=True))
    again = ask(past.services, Question(("load",), "1h", follow=True))
    assert first.step_ms == again.step_ms
    assert (first.t_ms % first.step_ms == 0).all()
    assert (again.t_ms[-1] - first.t_ms[-1]) % first.step_ms == 0


def test_a_narrower_window_has_finer_steps(past: Desk) -> None:
    wide, narrow = (ask(past.services, Question(("load",), preset)).step_ms for preset in ("7d", "1h"))
    assert (wide, narrow) == (600_000, 5_000)


# --- annotations ---


def test_marks_say_what_happened_and_can_be_switched_off(past: Desk) -> None:
    now_ms = past.clock.now_ns() // 1_000_000
    noted = [
        Annotation(now_ms - 5_000, "engine restarted", "restart"),
        Annotation(now_ms - 4_000, "trading HALTED", "trading"),
        Annotation(now_ms - 3_000, "drill", "maintenance", now_ms - 1_000),
    ]
    services = replace(past.services, annotations=lambda t0, t1: noted)
    span = TimeRange(now_ms - 60_000, now_ms)
    found, left_out = marks(services, span, frozenset())
    assert [(mark.kind, mark.text, mark.is_span) for mark in found] == [
        ("deploy", "engine restarted", False),
        ("trading", "trading HALTED", False),
        ("other", "drill", True),
    ]
    assert left_out == 0
    kept, _ = marks(services, span, frozenset({"trading", "other"}))
    assert [mark.kind for mark in kept] == ["deploy"]


def test_an_alert_is_a_span_in_its_tier_from_firing_to_its_end(desk: Desk) -> None:
    desk.script.values["order_to_fill_p99"] = 900e-6

    def firing() -> bool:
        desk.append_now()
        return any(view.state == AlertState.FIRING for view in desk.alerts.active())

    wait_until(firing, "the alert fires")
    now_ms = desk.clock.now_ns() // 1_000_000
    span = TimeRange(now_ms - 60_000, now_ms)
    (mark,), _ = marks(desk.services, span, frozenset())
    assert (mark.kind, mark.severity, mark.end_ms, mark.is_span) == ("alert", Severity.WARNING, None, True)
    assert mark.href.startswith("/alerts?alert=")
    desk.script.values["order_to_fill_p99"] = 310e-6

    def over() -> bool:
        desk.append_now()
        found, _ = marks(desk.services, TimeRange(now_ms - 60_000, now_ms), frozenset())
        return any(one.end_ms is not None for one in found)

    wait_until(over, "the alert is over")
    ((ended,), _), began = marks(desk.services, span, frozenset()), mark.t_ms
    assert ended.t_ms == began
    assert marks(desk.services, TimeRange(began - 9_000, began - 8_000), frozenset())[0] == []
    assert marks(desk.services, span, frozenset({"alert"}))[0] == []


# --- files ---


def test_the_csv_has_every_point_the_question_and_no_formula(past: Desk) -> None:
    question = Question(("load", "-load"), "1h", compare="day")
    answer = ask(past.services, question)
    text = "".join(to_csv(answer, question))
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert "# query A: load" in head
    assert "# unit A: unknown" in head
    rows = list(csv.DictReader(io.StringIO("\n".join(line for line in text.splitlines() if not line.startswith("#")))))
    points = sum(int(curve.present.sum()) for part in answer.parts for curve in (*part.curves, *part.before) if curve)
    assert len(rows) == points
    assert {row["window"] for row in rows} == {"now", "before"}
    assert {row["query"] for row in rows} == {"A", "B"}
    assert not any(row["series"][0] in "=+-@" for row in rows)


def test_the_files_come_over_http_with_the_same_rows(past: Desk, served: str) -> None:
    arro3 = pytest.importorskip("arro3.io", reason="reading Parquet back needs arro3-io (requirements-dev.in)")
    now_ms = past.clock.now_ns() // 1_000_000
    asked = {"expr": "load", "start": str(now_ms - HOUR_MS), "end": str(now_ms)}
    text = httpx2.get(f"{served}/api/desk/history.csv", params=asked)
    assert "attachment" in text.headers["content-disposition"]
    packed = httpx2.get(f"{served}/api/desk/history.parquet", params=asked)
    bad = httpx2.get(f"{served}/api/desk/history.csv", params={"expr": "up", "range": "fortnight"})
    table = arro3.read_parquet(io.BytesIO(packed.content)).read_all()
    rows = list(csv.DictReader(line for line in text.text.splitlines() if not line.startswith("#")))
    assert table["value"].to_pylist() == [float(row["value"]) for row in rows]
    assert table["series"].to_pylist() == [row["series"] for row in rows]
    assert bad.status_code == 400
    assert "fortnight" in bad.json()["error"]


# --- the API ---


def test_vocabulary_and_views_come_over_http(served: str) -> None:
    act = {"X-Deskvigil-Action": "1"}
    act["Origin"] = served
    known = httpx2.get(f"{served}/api/desk/vocabulary").json()
    load = next(term for term in known["metrics"] if term["name"] == "load")
    assert (load["series"], load["room"], load["question"]) == (2, "load", "load")
    assert {"rate", "histogram_quantile"} <= {word["name"] for word in known["functions"]}
    saved = httpx2.post(f"{served}/api/desk/views", json={"name": " my  view ", "search": "?expr=load"}, headers=act)
    assert saved.json() == {"message": "my view is saved"}
    (view,) = httpx2.get(f"{served}/api/desk/views").json()["views"]
    assert (view["name"], view["search"]) == ("my view", "?expr=load&range=1h")
    nameless = httpx2.post(f"{served}/api/desk/views", json={"name": " ", "search": "?expr=load"}, headers=act)
    assert "needs a name" in nameless.json()["error"]
    foreign = httpx2.post(f"{served}/api/desk/views/{view['id']}/delete", json={}, headers={"Origin": "http://evil"})
    assert foreign.status_code == 403
    assert httpx2.post(f"{served}/api/desk/views/{view['id']}/delete", json={}, headers=act).status_code == 200
    assert httpx2.get(f"{served}/api/desk/views").json() == {"views": []}
