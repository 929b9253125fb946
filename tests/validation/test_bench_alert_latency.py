from __future__ import annotations

from alerts.rules import load_rules
from validation import bench_alert_latency as latency


def test_crossings_reach_the_receiver_through_the_shipped_rules() -> None:
    figures = latency.measure(lambda line: None, samples=3)
    p50, p95, worst = (figure.value for figure in figures)
    assert 0 < p50 <= p95 <= worst
    assert worst < 1e3 * latency.TIMEOUT_S


def test_the_benchs_rule_keeps_the_pace_of_the_shipped_ones_on_the_engine(tmp_path) -> None:
    path = tmp_path / "bench.rules.yml"
    path.write_text(latency._test_rule())
    (group,) = load_rules(path)
    shipped = {one.name: one for one in load_rules(latency.DEFAULT_RULES)}
    assert group.interval_s == shipped["engine"].interval_s
