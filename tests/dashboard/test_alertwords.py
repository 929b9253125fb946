"""What the console says of an alert: value and threshold in one unit, and a chart that draws both."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from alerts.expression import parse_expression
from alerts.state import AlertState
from alerts.views import AlertView
from dashboard.alertwords import BEFORE_MS, chart_address, shown
from dashboard.history.question import Question
from metrics.severity import Severity
from query.options import QueryOptions
from query.parse import parse

ALERT = AlertView(
    alert_id="a-1", fingerprint="a", rule="g/r", labels={"alertname": "r"}, annotations={}, severity=Severity.WARNING,
    state=AlertState.FIRING, value=0.000612, threshold=0.0005, comparison="> 0.0005", active_since_ms=1_000_000_000_000,
    fired_at_ms=1_000_000_000_000, acked_by=None, acked_at_ms=None, ack_comment=None,
    expression='deskvigil_kpi_order_to_fill_seconds{quantile="0.99"}',
)  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "value", "threshold", "words"),
    [
        ('deskvigil_kpi_order_to_fill_seconds{quantile="0.99"}', 0.000612, 0.0005, ("612 µs", "> 500 µs")),
        ("deskvigil_host_cpu_busy_ratio", 0.934, 0.9, ("93.4 %", "> 90 %")),
        ("deskvigil_host_memory_available_bytes", 2.0**29, 2.0**30, ("0.5 GiB", "> 1 GiB")),
        ("nobody_knows_this", 12.0, 10.0, ("12", "> 10")),
        ("nobody_knows_this", math.nan, 10.0, ("", "> 10")),
    ],
)
def test_value_and_threshold_are_told_on_one_scale(
    expression: str, value: float, threshold: float, words: tuple[str, str]
) -> None:
    alert = replace(ALERT, expression=expression, value=value, threshold=threshold, comparison=f"> {threshold:g}")
    assert shown(alert) == words


def test_an_alert_without_a_threshold_tells_its_value_alone() -> None:
    assert shown(replace(ALERT, threshold=None, comparison="", value=3.0, expression="count(x)")) == ("3", "")


def test_its_chart_begins_before_it_and_has_its_threshold() -> None:
    address = chart_address(ALERT)
    question = Question.from_search(address.partition("?")[2])
    assert address.startswith("/history?")
    assert (question.expressions, question.lines, question.follow) == ((ALERT.expression,), (0.0005,), True)
    assert int(question.start) == ALERT.active_since_ms - BEFORE_MS
    assert chart_address(replace(ALERT, expression="")) == ""


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        ("up == 0", 'up{device="a\\"b", x="1"}'),
        ("up{} > 0", 'up{device="a\\"b", x="1"}'),
        ('up{job="j",} > 0', 'up{job="j", device="a\\"b", x="1"}'),
        ("sum by (x) (up) > 0", "sum by (x) (up)"),
        ("(up) > 0", "(up)"),
    ],
)
def test_a_plain_rule_is_asked_for_the_alerts_own_series(rule: str, asked: str) -> None:
    narrowed = parse_expression(rule).of({"x": "1", "device": 'a"b'})
    assert narrowed == asked
    parse(narrowed, QueryOptions())
