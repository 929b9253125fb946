"""Recording rules: results become series, in order, and end where there is no result."""

import numpy as np
import pytest

from alerts.recording import Recorder, recording_groups
from alerts.rules import parse_rules
from alerts.state import Instant
from metrics.frame import Frame
from metrics.series import Schema, Series, make_labels
from storage.stale import STALE_BITS
from tests.alerts.desk import Desk, rules_file

T0 = 1_700_000_000_000
X = Schema("engine", (Series("x", make_labels({"k": "a"})), Series("x", make_labels({"k": "b"}))))


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path, rules_file(tmp_path, "- {alert: Unused, expr: nothing > 0}"), channels=[])
    yield desk
    desk.store.close()


class Bench:
    """A recorder over a real store, told what time it is."""

    def __init__(self, desk: Desk, text: str) -> None:
        self.desk = desk
        self.recorder = Recorder(desk.store.live, desk.options, desk.clock)
        self.use(text)

    def use(self, text: str) -> None:
        groups = parse_rules(text, "t.yml")
        self.recorder.set(recording_groups(groups, self.desk.query, self.desk.options), running=False)

    def x(self, second: float, *values: float) -> None:
        self.desk.store.live.append(Frame(X, (T0 + round(1000 * second)) * 1_000_000, np.array(values)))

    def evaluate(self, second: float) -> None:
        ms = round(1000 * second)
        self.recorder.evaluate(Instant(T0 + ms, ms))

    def ask(self, expr: str, second: float) -> dict[tuple[tuple[str, str], ...], float]:
        found = self.desk.query.instant(expr, T0 + round(1000 * second)).samples()
        return {tuple(sorted((k, v) for k, v in labels.items() if k != "__name__")): value for labels, value in found}

    @property
    def errors(self) -> list[str]:
        return [one.error for group in self.recorder.groups for one in group.recordings]


def test_a_result_is_a_series_under_the_rules_name_and_labels(desk):
    bench = Bench(
        desk,
        "groups: [{name: g, interval: 1s, labels: {team: desk}, rules: ["
        "{record: 'x:double', expr: x * 2, labels: {k2: v, team: risk}}, {record: 'x:bare', expr: x, labels: {k: ''}}]}]",
    )
    bench.x(0, 1.0, np.nan)
    bench.evaluate(0.1)
    assert bench.errors == ["", ""]
    assert bench.ask("x:double", 0.2) == {(("k", "a"), ("k2", "v"), ("team", "risk")): 2.0}
    assert bench.ask("x:bare", 0.2) == {(("team", "desk"),): 1.0}


def test_a_later_rule_reads_what_an_earlier_one_of_its_group_recorded_in_the_same_evaluation(desk):
    bench = Bench(
        desk,
        "groups: [{name: g, interval: 1s, rules: [{record: one, expr: sum(x)}, {record: two, expr: one + 1},"
        " {record: three, expr: two + one}]}]",
    )
    bench.x(0, 1.0, 2.0)
    bench.evaluate(0.1)
    assert [list(bench.ask(name, 0.1).values()) for name in ("one", "two", "three")] == [[3.0], [4.0], [7.0]]


def test_a_series_that_vanishes_ends_with_a_stale_marker_at_once(desk):
    bench = Bench(desk, "groups: [{name: g, interval: 1s, rules: [{record: big, expr: x > 1}]}]")
    bench.x(0, 2.0, 3.0)
    bench.evaluate(0.1)
    assert len(bench.ask("big", 0.2)) == 2
    bench.x(1, 0.0, 3.0)
    bench.evaluate(1.1)
    assert list(bench.ask("big", 1.2)) == [(("k", "b"),)]
    _, values = desk.store.live.window(Series("big", make_labels({"k": "a"})), T0, T0 + 2_000)
    assert values.view(np.uint64).tolist()[1] == STALE_BITS


def test_a_value_that_is_not_a_number_is_a_value_and_no_gap(desk):
    bench = Bench(desk, "groups: [{name: g, interval: 1s, rules: [{record: nan, expr: sum(x) / 0 - 1 / 0}]}]")
    bench.x(0, 1.0, 2.0)
    bench.evaluate(0.1)
    (value,) = bench.ask("nan", 0.2).values()
    assert np.isnan(value)


def test_the_interval_limits_how_often_a_group_is_evaluated(desk):
    bench = Bench(desk, "groups: [{name: g, interval: 1s, rules: [{record: y, expr: sum(x)}]}]")
    for n in range(30):
        bench.x(n / 10, float(n), 0.0)
        bench.evaluate(n / 10)
    assert bench.recorder.evaluations == 3


def test_a_query_offset_looks_back_and_dates_back(desk):
    bench = Bench(desk, "groups: [{name: g, interval: 1s, query_offset: 5s, rules: [{record: y, expr: sum(x)}]}]")
    bench.x(0, 1.0, 0.0)
    bench.x(8, 2.0, 0.0)
    bench.evaluate(10)
    assert bench.ask("y", 5.0) == {(): 1.0}
    assert bench.ask("y", 4.9) == {}


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ("limit: 1, rules: [{record: y, expr: x}]", "2 series are more than the limit of 1"),
        ("rules: [{record: y, expr: x, labels: {k: ''}}]", "two series have the same labels"),
        ("rules: [{record: y, expr: sum(x)}, {record: y, expr: max(x)}]", "another rule of the group records"),
    ],
)
def test_what_cannot_be_recorded_is_an_error_of_that_rule_and_of_no_other(desk, rules, words):
    rules = rules.replace("]", ", {record: fine, expr: sum(x)}]") if "limit" not in rules else rules
    bench = Bench(desk, f"groups: [{{name: g, interval: 1s, {rules}}}]")
    bench.x(0, 1.0, 2.0)
    bench.evaluate(0.1)
    assert any(words in error for error in bench.errors)
    if "limit" not in rules:
        assert bench.ask("fine", 0.2) == {(): 3.0}
        assert bench.errors[-1] == ""
    assert bench.recorder.failures == 1


def test_series_of_a_rule_that_is_gone_end(desk):
    bench = Bench(desk, "groups: [{name: g, interval: 1s, rules: [{record: y, expr: sum(x)}]}]")
    bench.x(0, 1.0, 2.0)
    bench.evaluate(0.1)
    now_ms = desk.clock.now_ns() // 1_000_000
    bench.use("groups: []")
    _, values = desk.store.live.window(Series("y"), now_ms - 1000, now_ms + 60_000)
    assert values.view(np.uint64).tolist() == [STALE_BITS]


def test_an_alert_on_a_recorded_series_fires_by_itself(tmp_path):
    rules = rules_file(
        tmp_path, "- {record: 'x:sum', expr: sum(x)}\n- {alert: Much, expr: 'x:sum > 5', labels: {severity: info}}"
    )
    with Desk(tmp_path, rules, channels=[]) as desk:
        import threading

        changed = threading.Event()
        desk.service.on_change(changed.set)
        for _ in range(100):
            desk.frame("engine", {"x{k=a}": 3.0, "x{k=b}": 4.0})
            if changed.wait(0.1):
                break
        assert desk.states() == {"Much": "firing"}
        (group,) = desk.service.rules()
        assert [(rule["type"], rule["name"], rule["health"]) for rule in group["rules"]] == [
            ("recording", "x:sum", "ok"),
            ("alerting", "Much", "ok"),
        ]
        assert desk.service.stats().records == 1
