from __future__ import annotations

from alerts.rules import load_rules
from validation import bench_alert_latency as latency


def test_crossings_reach_the_receiver_through_the_shipped_rules_also_under_load() -> None:
    figures = latency.measure(lambda line: None, samples=3)
    ours = [figure.value for figure in figures if "crossing" in figure.what]
    for p50, p99, worst in (ours[:3], ours[3:]):
        assert 0 < p50 <= p99 <= worst < 1e3 * latency.TIMEOUT_S
    assert "engine at 0 " not in figures[3].what


def test_the_benchs_rule_keeps_the_pace_of_the_shipped_ones_on_the_engine(tmp_path) -> None:
    path = tmp_path / "bench.rules.yml"
    path.write_text(latency.crossing_rule("X"))
    (group,) = load_rules(path)
    shipped = {one.name: one for one in load_rules(latency.DEFAULT_RULES)}
    assert group.interval_s == shipped["engine"].interval_s
