"""Backtests say what live rules would have said; suggested thresholds fire as often as they claim."""

import json

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from alerts import simulation
from alerts.backtest import backtest
from alerts.evaluate import RuleRun
from alerts.expression import Comparison
from alerts.options import AlertOptions
from alerts.rules import parse_rules
from alerts.simulation import History, simulate
from alerts.thresholds import held, poisson_interval, rises, suggest
from metrics.clock import SystemClock
from metrics.errors import DeskvigilError
from metrics.paths import RuntimePaths
from metrics.series import Series, make_labels
from metrics.severity import Severity
from query.engine import QueryEngine
from query.options import QueryOptions
from storage.options import StorageOptions
from storage.store import Store

T0 = 1_780_272_000_000
BLOCKS = [
    "",
    "tiers: {critical: 2, emergency: 3}",
    "tiers: {critical: 2}\nrecovery: 0.5",
    "recovery: 0\nno_data: keep",
    "tiers: {emergency: 3}\nno_data: alert",
    "recovery: 0.5\nactive: {days: [mon-sun], from: '00:00', to: '00:01', zone: UTC}",
    "no_data: alert\nactive: {days: [mon], from: '00:00:', to: '00:01', zone: UTC}".replace("00:00:", "00:00"),
]


def rule_of(block: str = "", expr: str = "x > 1", **keys: str):
    lines = [f"  - alert: A\n    expr: {expr}\n    labels: {{severity: warning}}"]
    lines += [f"    {key}: {value}" for key, value in keys.items()]
    if block:
        lines.append(
            "    annotations:\n      deskvigil: |\n" + "\n".join(f"        {one}" for one in block.splitlines())
        )
    return parse_rules("groups:\n- name: g\n  interval: 1s\n  rules:\n" + "\n".join(lines), "t")[0].rules[0]


@settings(max_examples=300, deadline=None)
@given(
    block=st.sampled_from(BLOCKS),
    for_s=st.sampled_from(["0s", "3s", "10s"]),
    keep_s=st.sampled_from(["0s", "4s"]),
    limit=st.sampled_from([0, 1]),
    fall_s=st.sampled_from([0.0, 5.0]),
    data=st.lists(
        st.lists(st.sampled_from([None, -1.0, 0.2, 0.7, 1.5, 2.5, 3.5, np.nan]), min_size=2, max_size=2),
        min_size=1,
        max_size=60,
    ),
    runs=st.lists(st.integers(1, 8), min_size=60, max_size=60),
    same=st.booleans(),
)
def test_a_backtest_is_what_a_live_rule_fed_sample_by_sample_would_have_done(
    block, for_s, keep_s, limit, fall_s, data, runs, same
):
    rule = rule_of(block, **{"for": for_s, "keep_firing_for": keep_s})
    options = AlertOptions(tier_fall_after_s=fall_s, repeat_interval_s=0)
    rows = np.repeat(np.array(data, dtype=float).T, runs[: len(data)], axis=1)
    absent = np.repeat(np.array([[one is None for one in pair] for pair in data]).T, runs[: len(data)], axis=1)
    labels = [{"k": "a"}, {"k": "a" if same else "b"}]
    history = History(labels, T0 + 1000 * np.arange(rows.shape[1], dtype=np.int64), rows, ~absent)
    fast = simulate(rule, limit, history, options)
    slow = simulation._one_by_one(RuleRun(rule, 0, limit, options), history)

    def told(episodes):
        return sorted((one.start_ms, one.end_ms or 0, one.worst, one.changes, str(one.labels)) for one in episodes)

    assert told(fast) == told(slow)


def test_the_short_cut_is_taken_where_series_are_alerts_of_their_own():
    t_ms = T0 + 1000 * np.arange(10, dtype=np.int64)
    two = np.ones((2, 10))
    history = History([{"k": "a"}, {"k": "b"}], t_ms, two, two > 0)
    active = np.ones(10, bool)
    options = AlertOptions()
    assert simulation._separable(rule_of(), RuleRun(rule_of(), 0, 0, options), 0, history, active)
    merged = rule_of(expr="x > 1")
    clash = History([{"k": "a"}, {"k": "a"}], t_ms, two, two > 0)
    assert not simulation._separable(merged, RuleRun(merged, 0, 0, options), 0, clash, active)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """Three days of one sample every 10 s: a level with an excursion of two minutes each noon, and a sine."""
    folder = tmp_path_factory.mktemp("history")
    store = Store.open(StorageOptions(), RuntimePaths(folder), SystemClock())
    t_ms = T0 + 10_000 * np.arange(3 * 8640, dtype=np.int64)
    second = (t_ms - T0) // 1000 % 86_400
    level = np.where((second >= 43_200) & (second < 43_320), 5.0, 0.5)
    level[3 * 8640 // 2 + 100] = 9.0  # one sample only
    wave = np.sin((t_ms - T0) / 3_600_000)
    gap = (second >= 3600) & (second < 7200)
    series = [Series("level", make_labels({"k": "a"})), Series("wave"), Series("holes")]
    store._ingest.store(series, [t_ms, t_ms, t_ms[~gap]], [level, wave, level[~gap]])
    yield QueryEngine(store.reader, QueryOptions(), SystemClock())
    store.close()


END = T0 + 3 * 86_400_000 - 10_000


def run(desk, rules: str, **more):
    groups = parse_rules(f"groups: [{{name: g, interval: 10s, rules: [{rules}]}}]", "t")
    return backtest(groups, desk, AlertOptions(), T0, END, **more)


def test_it_counts_how_often_when_and_how_long(desk):
    (one,) = run(desk, "{alert: A, expr: level > 1, for: 1m, labels: {severity: warning}}").rules
    assert (one.fired, one.step_s, one.series, one.worst_of_step) == (3, 10.0, 1, False)
    assert [episode.start_ms for episode in one.episodes] == [
        T0 + (43_200 + 60 + 86_400 * day) * 1000 for day in range(3)
    ]
    assert (one.firing_s, one.longest_s, one.median_s) == (180.0, 60.0, 60.0)
    assert one.covered == 1.0


def test_the_worst_of_a_step_shows_what_a_longer_step_would_miss(desk):
    rules = "{alert: A, expr: level > 8, labels: {severity: warning}}"
    (one,) = run(desk, rules, step_ms=600_000).rules
    assert (one.fired, one.worst_of_step) == (1, True)


def test_missing_data_count_as_the_rule_says(desk):
    rules = (
        "{alert: A, expr: holes > 100, labels: {severity: info}, annotations: {deskvigil: 'no_data: alert'}},"
        "{alert: B, expr: holes < 1, labels: {severity: info}, annotations: {deskvigil: 'no_data: keep'}}"
    )
    silent, kept = run(desk, rules).rules
    assert silent.fired == 3
    assert 3 * 3200 < silent.firing_s < 3 * 3400  # five minutes of lookback are no gap
    assert kept.fired == 5  # from the start, and after each excursion


def test_the_version_before_stands_beside_and_what_did_not_change_is_asked_once(desk):
    old = "{alert: A, expr: level > 1, labels: {severity: warning}}"
    new = old.replace("> 1", "> 8")
    asked = []
    before = parse_rules(f"groups: [{{name: g, interval: 10s, rules: [{old}, {{alert: B, expr: wave > 2}}]}}]", "t")
    result = run(desk, new + ", {alert: B, expr: wave > 2}", against=before, say=asked.append)
    assert [one.fired for one in result.rules] == [1, 0]
    assert [one.fired for one in result.before] == [4, 0]
    assert asked == ["g/A", "g/B", "g/A"]


def test_a_rule_that_cannot_be_asked_is_an_error_of_its_own(desk):
    several = "{__name__=~'level|holes'}"
    rules = f'{{alert: A, expr: "{several} + on() {several} > 1"}}, {{alert: B, expr: level > 1}}'
    bad, good = run(desk, rules).rules
    assert "many-to-many" in bad.error or "matching" in bad.error
    assert good.fired == 4


@pytest.mark.parametrize(
    ("start", "end", "step", "words"),
    [(T0, T0, None, "end is not after"), (T0, END, -5, "step must be"), (T0, END, 1, "steps: take a longer step")],
)
def test_ranges_and_steps_that_make_no_sense_are_refused(desk, start, end, step, words):
    with pytest.raises(DeskvigilError, match=words):
        backtest([], desk, AlertOptions(), start, end, step_ms=step)


def test_a_suggested_threshold_fires_as_often_as_it_says():
    random = np.random.default_rng(3)
    values = random.normal(size=(2, 30 * 1440))
    for op, sign in ((">", 1), ("<", -1)):
        found = suggest(Comparison(op, 0.0), sign * values, 0, 30, Severity.WARNING)
        assert [one.aim for one in found] == ["1 a day", "1 a week", "1 a month"]
        for one, most in zip(found, (30, 30 / 7, 1), strict=True):
            assert one.fired == rises(values, sign * one.threshold) <= most
            assert one.low <= one.fired <= one.high
        assert found[0].fired >= 15
        assert (found[0].sure, found[2].sure) == ("good", "weak")


def test_no_threshold_is_suggested_where_history_is_too_short_or_there_is_no_direction():
    values = np.random.default_rng(1).normal(size=(1, 1000))
    assert [one.aim for one in suggest(Comparison(">", 0), values, 0, 2, Severity.INFO)] == ["1 a day"]
    assert suggest(Comparison("==", 0), values, 0, 30, Severity.INFO) == []
    assert suggest(Comparison(">", 0), np.full((1, 10), np.nan), 0, 30, Severity.INFO) == []


@given(st.lists(st.floats(-5, 5) | st.just(float("nan")), min_size=1, max_size=40), st.integers(0, 50))
def test_what_was_held_is_the_least_of_the_window(values, steps):
    found = held(np.array([values]), steps)[0]
    for at in range(len(values)):
        window = values[at - steps : at + 1] if at >= steps else None
        expected = -np.inf if window is None or np.isnan(window).any() else min(window)
        assert found[at] == expected


def test_the_interval_of_a_count_is_near_the_exact_one():
    for n, low, high in ((0, 0.0, 2.996), (1, 0.051, 4.744), (10, 5.425, 16.96), (100, 84.1, 118.1)):
        assert poisson_interval(n) == pytest.approx((low, high), rel=0.03, abs=0.02)


def test_the_command_prints_words_and_json(tmp_path, capsys):
    import app

    paths = RuntimePaths(tmp_path / "var")
    store = Store.open(StorageOptions(), paths, SystemClock())
    t_ms = T0 + 10_000 * np.arange(2000, dtype=np.int64)
    store.ingest([Series("level")], [t_ms], [np.where(np.arange(2000) % 500 < 10, 5.0, 0.0)])
    store.close()
    rules, current = tmp_path / "new.yml", tmp_path / "old.yml"
    rules.write_text(
        "groups: [{name: g, interval: 10s, rules: [{alert: A, expr: level > 1}, {alert: B, expr: no > 1}]}]"
    )
    current.write_text("groups: [{name: g, interval: 10s, rules: [{alert: A, expr: level > 7}]}]")
    command = ["backtest", str(rules), "--data-dir", str(tmp_path / "var"), "--from", str(T0 // 1000)]
    command += ["--to", str((T0 + 20_000_000) // 1000), "--against", str(current)]
    assert app.main(command) == 0
    said = capsys.readouterr().out
    assert "fired 4 times" in said
    assert "now   never" in said
    assert "fired - no data" in said
    assert app.main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["fired"] for one in told["rules"]] == [4, 0]
    assert told["rules"][0]["episodes"][0]["worst"] == "warning"
