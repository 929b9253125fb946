from __future__ import annotations

import inspect
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.components.graph import CONFIG, asked_graph
from dashboard.judge import HOLD_S, KpiJudge
from dashboard.pages import PAGES
from dashboard.selection import is_live, shown_on
from dashboard.sentence import compose
from dashboard.server import build_server
from dashboard.services import EngineInfo, Health, ProcessInfo
from dashboard.theme import stylesheet
from dashboard.timerange import PRESETS, RangeError, parse_time, show_time, time_range
from metrics.catalogue import series
from metrics.kpi import KPIS
from metrics.severity import MARKS, Severity
from tests.dashboard.demo_services import Desk

NOW_MS = 1_795_000_000_000
S = 1_000_000_000
LATENCY = next(kpi for kpi in KPIS if kpi.key == "order_to_fill_p99")
VAR = next(kpi for kpi in KPIS if kpi.key == "var")
WELL = EngineInfo("ACTIVE", "synthetic market", simulated_market=True)


# --- Dash ---


def test_no_callback_is_sync(desk: Desk) -> None:
    callbacks = build_server(desk.services).state.dash.callback_map
    assert len(callbacks) >= 2
    for name, callback in callbacks.items():
        assert inspect.iscoroutinefunction(callback["callback"]), f"{name} would stall the event loop"


def test_graphs_offer_no_cloud() -> None:
    assert CONFIG["showSendToCloud"] is False
    assert CONFIG["plotlyServerURL"] == ""
    asked = json.loads(getattr(asked_graph("x", "an answer"), "data-config"))
    assert asked == CONFIG


def test_the_style_sheet_has_the_measured_severity_colours() -> None:
    css = stylesheet()
    for severity, mark in MARKS.items():
        assert f"--{severity.label}:{mark.dark}" in css
        assert f"--{severity.label}:{mark.light}" in css


def test_every_page_has_its_own_address() -> None:
    assert len({page.path for page in PAGES}) == len(PAGES)


def test_every_figure_of_a_tile_is_in_the_stream() -> None:
    assert all(is_live(kpi.series) and shown_on("desk", kpi.series) for kpi in KPIS)


# --- verdicts ---


def test_a_figure_is_off_target_only_after_it_stayed_there_and_since_the_first_crossing() -> None:
    judge = KpiJudge(LATENCY)
    judge.update(300e-6, 1_000, 0)
    assert judge.update(600e-6, 2_000, 1 * S).met is True
    verdict = judge.update(600e-6, 5_000, 1 * S + round(HOLD_S * S))
    assert (verdict.met, verdict.since_ms, verdict.severity) == (False, 2_000, Severity.WARNING)


def test_a_figure_that_dances_around_its_target_does_not_change_the_verdict() -> None:
    judge = KpiJudge(LATENCY)
    for tick in range(100):
        verdict = judge.update(600e-6 if tick % 2 else 300e-6, tick * 1_000, tick * S)
        assert verdict.met is True


def test_the_shown_value_is_always_the_newest_one() -> None:
    judge = KpiJudge(LATENCY)
    judge.update(300e-6, 0, 0)
    assert judge.update(600e-6, 100, 100).value == pytest.approx(600.0)


def test_a_missing_figure_is_neither_met_nor_missed() -> None:
    verdict = KpiJudge(LATENCY).update(math.nan, 0, 0)
    assert (verdict.met, verdict.severity) == (None, None)


def test_a_limit_is_worse_than_a_target() -> None:
    assert KpiJudge(VAR).update(500_000.0, 0, 0).severity is Severity.CRITICAL


@given(st.lists(st.tuples(st.floats(0, 1e-3), st.integers(1, 3 * S)), max_size=60))
def test_a_verdict_holds_for_at_least_the_hold_time(samples: list[tuple[float, int]]) -> None:
    judge, now, changed, before = KpiJudge(LATENCY), 0, None, None
    for value, passed in samples:
        now += passed
        met = judge.update(value, now // 1_000_000, now).met
        if before is not None and met != before:
            assert changed is None or now - changed >= HOLD_S * S
            changed = now
        before = met


# --- the sentence ---


def _verdicts(**missed: float) -> list:
    values = {kpi.key: kpi.target for kpi in KPIS} | missed
    return [KpiJudge(kpi).update(values[kpi.key] / kpi.scale, NOW_MS, 0) for kpi in KPIS]


def test_the_sentence_of_a_good_day() -> None:
    sentence = compose(_verdicts(), (), WELL, (), Health(True))
    assert str(sentence).strip() == "8 of 8 targets met."
    assert sentence.severity is None


def test_the_sentence_names_what_is_off_target_and_since_when_and_leads_there() -> None:
    sentence = compose(_verdicts(order_to_fill_p99=612.0), (), WELL, (), Health(True))
    since = show_time(NOW_MS)[11:]
    assert str(sentence).strip() == f"7 of 8 targets met. Order-to-fill p99 is above 500 µs since {since}."
    assert "#kpi-order_to_fill_p99" in {word.href for word in sentence.words}
    assert sentence.severity is Severity.WARNING


def test_the_sentence_says_first_what_is_worst() -> None:
    sentence = compose(_verdicts(order_to_fill_p99=612.0, var=900_000.0), (), WELL, (), Health(True))
    assert str(sentence).index("VaR") < str(sentence).index("Order-to-fill")
    assert sentence.severity is Severity.CRITICAL


def test_the_sentence_says_that_trading_is_halted_and_why() -> None:
    sentence = compose(_verdicts(), (), replace(WELL, state="HALTED", reason="drill"), (), Health(True))
    assert str(sentence).startswith("Trading is halted: drill.")


def test_the_sentence_says_that_a_process_is_being_restarted_and_that_nothing_is_stored() -> None:
    processes = (ProcessInfo("engine", "restarting"), ProcessInfo("risk", "running"))
    said = str(compose(_verdicts(), (), replace(WELL, state="DOWN"), processes, Health(False, "the disk is full")))
    assert "The engine process is restarting." in said
    assert "Numbers are not being stored: the disk is full." in said


def test_the_sentence_counts_figures_without_data() -> None:
    verdicts = [*_verdicts()[:-1], KpiJudge(VAR).update(math.nan, NOW_MS, 0)]
    assert "7 of 8 targets met, 1 without data." in str(compose(verdicts, (), WELL, (), Health(True)))


# --- time ranges ---


def test_a_range_back_from_now_is_the_default() -> None:
    span = time_range("", "", "", NOW_MS)
    assert (span.end_ms, span.end_ms - span.start_ms) == (NOW_MS, 3_600_000)


@given(st.integers(0, 4_000_000_000))
def test_a_time_is_read_back_as_it_is_shown(seconds: int) -> None:
    assert parse_time(show_time(seconds * 1000), "start") == seconds * 1000


@pytest.mark.parametrize(
    ("preset", "start", "end", "words"),
    [
        ("2y", "", "", "2y"),
        ("", "yesterday", "", "start 'yesterday'"),
        ("", "", "soon", "end 'soon'"),
        ("", "2026-11-23 10:00", "2026-11-23 09:00", "not before"),
        ("", "2001-01-01", "2026-01-01", "longer than"),
    ],
)
def test_a_wrong_range_names_the_part_that_is_wrong(preset: str, start: str, end: str, words: str) -> None:
    with pytest.raises(RangeError, match=words):
        time_range(preset, start, end, NOW_MS)


@given(st.sampled_from(sorted(PRESETS)), st.integers(100, 5_000))
def test_a_step_is_whole_seconds_and_keeps_within_the_points(preset: str, points: int) -> None:
    span = time_range(preset, "", "", NOW_MS)
    step = span.step_ms(points)
    assert step % 1000 == 0
    assert (span.end_ms - span.start_ms) / step <= points


def test_the_live_pages_series_are_in_the_catalogue() -> None:
    for name in ("deskvigil_risk_run_seconds_sum", "deskvigil_host_cpu_core_busy_ratio", "deskvigil_risk_scenarios"):
        assert is_live(series(name))
