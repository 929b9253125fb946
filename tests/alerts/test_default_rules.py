"""The shipped rules: valid for Prometheus, about metrics that exist, and cheap."""

import shutil
import subprocess
import threading
import time
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from alerts.check import check_rules
from alerts.evaluate import RuleRun, occurrences
from alerts.options import DEFAULT_RULES, AlertOptions
from alerts.rules import load_rules
from alerts.state import Reason
from alerts.watch import Watch
from engine.riskblock import RiskState
from metrics.catalogue import metric_of
from metrics.clock import SystemClock
from metrics.frame import Frame
from metrics.paths import RuntimePaths
from metrics.series import Schema, Series, make_labels
from query.engine import QueryEngine
from query.options import QueryOptions
from storage.options import StorageOptions
from storage.store import Store
from tests.alerts.test_evaluate import at

ROOT = Path(__file__).parents[2]
RULES = [rule for group in load_rules(DEFAULT_RULES) for rule in group.rules]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory):
    opened = Store.open(StorageOptions(), RuntimePaths(tmp_path_factory.mktemp("rules")), SystemClock())
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def query(store: Store) -> QueryEngine:
    return QueryEngine(store.reader, QueryOptions(), SystemClock())


def test_promtool_accepts_them():
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on this machine: apt-get install prometheus")
    result = subprocess.run([promtool, "check", "rules", str(DEFAULT_RULES)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(RULES)} rules found" in result.stdout


def test_promtool_runs_their_unit_tests():
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on this machine: apt-get install prometheus")
    tests = DEFAULT_RULES.with_name("default.tests.yml")
    result = subprocess.run([promtool, "test", "rules", str(tests)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "SUCCESS" in result.stdout


def test_check_rules_finds_nothing_to_say(query: QueryEngine):
    assert [str(problem) for problem in check_rules(DEFAULT_RULES, query)] == []


def test_every_metric_is_in_the_catalogue(query: QueryEngine):
    for rule in RULES:
        names = query.prepare(rule.expression.text).metric_names()
        assert names, rule.name
        unknown = [name for name in names if metric_of(name) is None]
        assert unknown == [], rule.name


def test_every_rule_has_a_summary_a_tier_and_its_own_name():
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.annotation_texts["summary"]
        assert "severity" in rule.label_texts


def test_check_rules_names_what_is_wrong_or_doubtful(tmp_path: Path, query: QueryEngine):
    path = tmp_path / "r.yml"
    path.write_text(
        "groups:\n- name: g\n  rules:\n"
        "  - {alert: A, expr: deskvigil_nonsense > 1, labels: {severity: info}, annotations: {summary: '{{ query `x` }}'}}\n"
        "  - {alert: B, expr: deskvigil_engine_up == 0}\n"
        "  - {alert: B, expr: deskvigil_engine_up == 0}\n"
    )
    said = [str(problem) for problem in check_rules(path, query)]
    for words in (
        "{{ query `x` }} is not known",
        "no metric deskvigil_nonsense",
        "no severity label",
        "is there already",
    ):
        assert any(words in line for line in said), words
    assert all(line.startswith("warning") for line in said)
    path.write_text("groups:\n- name: g\n  rules:\n  - {alert: A, expr: nosuchfunction(x)}\n")
    (problem,) = check_rules(path, query)
    assert problem.level == "error"
    assert "rule 'A'" in str(problem)


# What a shipped rule makes of one series: (second, value) and the changes that are expected, by second.
COURSES = {
    "ValueAtRiskHigh": (
        [(0, 399e3), (1, 401e3), (2, 390e3), (3, 405e3), (4, 520e3), (5, 381e3), (6, 379e3)],
        {1: Reason.FIRST, 4: Reason.ESCALATED, 6: Reason.RESOLVED},
    ),
    "RiskFiguresStale": (
        [(0, 1.5), (1, 0.2), (2, 1.5), (4.1, 1.6), (6, 0.7), (20, 0.7), (21, 0.1), (25, 0.1), (32, 0.1)],
        {4.1: Reason.FIRST, 32: Reason.RESOLVED},
    ),
    "MemoryNearLimit": (
        [(0, 0.92), (5, 0.8), (6, 0.93), (17, 0.94), (30, 0.88), (90, 0.88), (100, 0.98), (150, 0.84), (200, 0.84)],
        {17: Reason.FIRST, 100: Reason.ESCALATED, 200: Reason.RESOLVED},
    ),
    "MemoryLeak": ([(0, 1), (60, 2), (120, 3), (180, 2), (600, 3), (700, 1), (1_700, 1)], {120: Reason.FIRST, 1_700: Reason.RESOLVED}),
    "RiskBlind": ([(0, 1), (3, 0), (4, 1), (9.5, 1), (10, 0)], {9.5: Reason.FIRST, 10: Reason.RESOLVED}),
}  # fmt: skip


@pytest.mark.parametrize("name", COURSES)
def test_rules_of_memory_and_risk_begin_and_end_where_they_say(name: str):
    rule = next(rule for rule in RULES if rule.name == name)
    course, expected = COURSES[name]
    run = RuleRun(rule, 0, 0, AlertOptions(repeat_interval_s=0, tier_fall_after_s=5, persist_pending_after_s=600))
    told = {
        second: change.reason
        for second, value in course
        for change in run.evaluate([({"process": "risk"}, value)], at(second), grace=False)
        if change.reason is not Reason.TIER_FELL
    }
    assert told == expected


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if "runbook_url" in rule.annotation_texts], ids=lambda rule: rule.name
)
def test_a_runbook_is_a_heading_that_is_there(rule):
    file, _, anchor = rule.annotation_texts["runbook_url"].partition("#")
    headings = [
        line.lstrip("# ").strip().lower() for line in (ROOT / file).read_text().splitlines() if line.startswith("#")
    ]
    assert anchor in {
        "".join(sign for sign in heading if sign.isalnum() or sign in " -").replace(" ", "-") for heading in headings
    }


def test_positions_without_a_value_at_risk_are_told_whatever_the_reason(query: QueryEngine, store: Store):
    (rule,) = [rule for rule in RULES if rule.name == "RiskBlind"]
    plan = query.prepare(rule.expression.text)
    states = [state.value for state in RiskState]
    schema = Schema("risk", tuple(Series("deskvigil_risk_state", make_labels({"state": state})) for state in states))
    told = {}
    for n, state in enumerate(states):
        t_ms = 1_600_000_000_000 + 100 * n
        store.live.append(Frame(schema, t_ms * 1_000_000, np.array([float(one == state) for one in states])))
        told[state] = {labels["state"] for labels, _ in plan.instant(t_ms).samples()}
    silent = {"ok": set(), "no_engine": set()}
    assert told == silent | {state: {state} for state in states if state not in silent}


def shipped_runs(interval_s: float = 0.0) -> list[RuleRun]:
    options = AlertOptions(interval_s=0.01)
    return [RuleRun(rule, n, 0, options) for rule, n in zip(RULES, occurrences(RULES), strict=True)]


NUMBERS = st.one_of(st.floats(-4, 4), st.sampled_from([-1.0, 0.0, 1.0, 2.0, np.nan, np.inf, -np.inf]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    op=st.sampled_from([">", ">=", "<", "<=", "==", "!="]),
    threshold=st.sampled_from([-1.0, 0.0, 1.0]),
    columns=st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=5),
)
def test_reading_a_frame_directly_gives_what_promql_gives(tmp_path_factory, query, store, op, threshold, columns):
    """The short cut of plain rules against the query engine, over random values."""
    from alerts.rules import parse_rules

    rule = parse_rules(f"groups: [{{name: g, rules: [{{alert: A, expr: 'plain {op} {threshold}'}}]}}]", "t")[0].rules[0]
    assert rule.expression.plain
    series = tuple(Series("plain", make_labels({"n": str(n)})) for n in range(3))
    schema = Schema("plain", series)
    run = RuleRun(rule, 0, 0, AlertOptions(interval_s=0.01, slow_tick_s=300, repeat_interval_s=0))
    watch = Watch([run], store.live, query, AlertOptions(interval_s=0.01, slow_tick_s=300))
    plan = query.prepare(rule.expression.text)
    for column in columns:
        test_reading_a_frame_directly_gives_what_promql_gives.tick += 1
        t_ms = 1_700_000_000_000 + 100 * test_reading_a_frame_directly_gives_what_promql_gives.tick
        frame = Frame(schema, t_ms * 1_000_000, np.array(column))
        store.live.append(frame)
        watch.look([frame], at((t_ms - 1_700_000_000_000) / 1000), grace=False)
        firing = {tracked.labels["n"] for tracked in run.alerts.values()}
        assert firing == {labels["n"] for labels, _ in plan.instant(t_ms).samples()}


test_reading_a_frame_directly_gives_what_promql_gives.tick = 0  # time only goes forward in one store


def test_evaluating_the_shipped_rules_costs_little(store: Store, query: QueryEngine):
    """A bound generous enough for a busy test machine; the true figure is printed by `make bench`."""
    runs = shipped_runs()
    watch = Watch(runs, store.live, query, AlertOptions())
    names = sorted(
        {
            name
            for rule in RULES
            if rule.expression.plain
            for name in query.prepare(rule.expression.value_text).metric_names()
        }
    )
    schema = Schema(
        "everything", tuple(Series(name, make_labels({"quantile": "0.99", "confidence": "0.99"})) for name in names)
    )
    frames = [Frame(schema, time.time_ns(), np.full(len(names), 0.4)) for _ in range(3)]
    store.live.append(frames[0])
    watch.look(frames[:1], at(0), grace=True)
    best = min(_timed(lambda n=n: watch.look(frames[1:2], at(1 + n * 0.1), grace=True)) for n in range(20))
    assert best < 0.003


def _timed(work) -> float:
    began = time.thread_time()  # what else the machine does is no cost of the watch
    work()
    return time.thread_time() - began


def test_the_watch_is_owned_by_one_thread_and_needs_no_lock_of_the_store(store: Store, query: QueryEngine):
    watch = Watch(shipped_runs(), store.live, query, AlertOptions())
    done = threading.Event()
    thread = threading.Thread(target=lambda: (watch.look([], at(0), grace=True), done.set()))
    thread.start()
    assert done.wait(60)
    thread.join()
