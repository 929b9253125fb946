"""One rule and its alerts: identity, tiers, missing data, limits."""

import math

import pytest

from alerts.evaluate import EvaluationError, RuleRun, occurrences
from alerts.options import AlertOptions
from alerts.rules import parse_rules
from alerts.state import AlertState, Instant, Reason
from metrics.severity import Severity

OPTIONS = AlertOptions(repeat_interval_s=0, tier_fall_after_s=5, persist_pending_after_s=5)


def at(seconds: float) -> Instant:
    return Instant(1_700_000_000_000 + round(seconds * 1000), round(seconds * 1000))


def run_of(expr: str = "x > 1", extension: str = "", limit: int = 0, **keys: str) -> RuleRun:
    text = f"groups:\n- name: g\n  rules:\n  - alert: A\n    expr: {expr}\n"
    text += "".join(f"    {key}: {value}\n" for key, value in keys.items())
    if extension:
        text += "    annotations:\n      summary: '{{ $labels.host }} at {{ $value }}'\n      deskvigil: |\n"
        text += "".join(f"        {line}\n" for line in extension.splitlines())
    return RuleRun(parse_rules(text, "t.yml")[0].rules[0], 0, limit, OPTIONS)


def reasons(changes) -> list[Reason]:
    return [change.reason for change in changes]


def test_each_label_set_is_an_alert_of_its_own():
    run = run_of()
    changes = run.evaluate([({"host": "a"}, 2.0), ({"host": "b"}, 3.0), ({"host": "c"}, 0.0)], at(0), grace=False)
    assert reasons(changes) == [Reason.FIRST, Reason.FIRST]
    assert sorted(tracked.labels["host"] for tracked in run.alerts.values()) == ["a", "b"]
    again = run.evaluate([({"host": "a"}, 2.0), ({"host": "b"}, 0.5)], at(1), grace=False)
    assert [(change.tracked.labels["host"], change.reason) for change in again] == [("b", Reason.RESOLVED)]


def test_the_metric_name_is_not_part_of_an_alert():
    run = run_of(labels="{severity: critical, team: desk}")
    run.evaluate([({"__name__": "x", "host": "a"}, 2.0)], at(0), grace=False)
    (tracked,) = run.alerts.values()
    assert run.view(tracked).labels == {"alertname": "A", "host": "a", "team": "desk", "severity": "critical"}


def test_a_value_beyond_a_tier_fires_at_that_tier_and_identity_stays():
    run = run_of(extension="tiers: {critical: 2, emergency: 3}")
    first = run.evaluate([({}, 1.5)], at(0), grace=False)
    second = run.evaluate([({}, 3.5)], at(1), grace=False)
    assert (reasons(first), reasons(second)) == ([Reason.FIRST], [Reason.ESCALATED])
    assert first[0].tracked.alert_id == second[0].tracked.alert_id
    view = run.view(second[0].tracked)
    assert (view.severity, view.threshold, view.comparison) == (Severity.EMERGENCY, 3.0, "> 3")
    assert view.labels["severity"] == "emergency"
    assert reasons(run.evaluate([({}, 2.5)], at(2), grace=False)) == []
    assert reasons(run.evaluate([({}, 2.5)], at(7), grace=False)) == [Reason.TIER_FELL]


def test_annotations_show_the_value_of_the_moment_and_not_the_extension():
    run = run_of(extension="tiers: {critical: 2}")
    (change,) = run.evaluate([({"host": "a"}, 1.5)], at(0), grace=False)
    assert change.annotations == {"summary": "a at 1.5"}


def test_a_recovery_threshold_keeps_an_alert_and_never_begins_one():
    run = run_of(extension="recovery: 0.5")
    assert run.evaluate([({}, 0.8)], at(0), grace=False) == []
    run.evaluate([({}, 1.2)], at(1), grace=False)
    assert run.evaluate([({}, 0.8)], at(2), grace=False) == []
    assert reasons(run.evaluate([({}, 0.5)], at(3), grace=False)) == [Reason.RESOLVED]


def test_missing_data_resolve_by_default_and_keep_where_told():
    run = run_of()
    run.evaluate([({}, 2.0)], at(0), grace=False)
    assert reasons(run.evaluate([], at(1), grace=False)) == [Reason.RESOLVED]
    kept = run_of(extension="no_data: keep")
    kept.evaluate([({}, 2.0)], at(0), grace=False)
    assert kept.evaluate([], at(1000), grace=False) == []
    assert len(kept.alerts) == 1


def test_missing_data_are_themselves_an_alert_where_told():
    run = run_of(extension="no_data: alert", labels="{severity: critical}")
    assert run.evaluate([], at(0), grace=True) == []
    (change,) = run.evaluate([], at(1), grace=False)
    assert change.reason is Reason.FIRST
    assert math.isnan(change.value)
    assert change.live.severity is Severity.CRITICAL
    assert reasons(run.evaluate([({"host": "a"}, 0.0)], at(2), grace=False)) == [Reason.RESOLVED]


def test_an_alert_whose_series_went_silent_stays_beside_the_alert_about_silence():
    run = run_of(extension="no_data: alert")
    run.evaluate([({"host": "a"}, 2.0)], at(0), grace=False)
    assert reasons(run.evaluate([], at(1), grace=False)) == [Reason.FIRST]
    assert len(run.alerts) == 2


def test_a_pending_alert_is_recorded_only_once_it_has_lasted():
    run = run_of(**{"for": "10s"})
    assert run.evaluate([({}, 2.0)], at(0), grace=False) == []
    assert run.evaluate([({}, 0.0)], at(1), grace=False) == []
    assert run.evaluate([({}, 2.0)], at(2), grace=False) == []
    assert reasons(run.evaluate([({}, 2.0)], at(7), grace=False)) == [Reason.PENDING]
    assert reasons(run.evaluate([({}, 2.0)], at(12), grace=False)) == [Reason.FIRST]
    assert reasons(run.evaluate([({}, 0.0)], at(13), grace=False)) == [Reason.RESOLVED]


def test_a_recorded_pending_alert_that_is_withdrawn_is_recorded_too():
    run = run_of(**{"for": "10s"})
    run.evaluate([({}, 2.0)], at(0), grace=False)
    run.evaluate([({}, 2.0)], at(6), grace=False)
    assert reasons(run.evaluate([({}, 0.0)], at(7), grace=False)) == [Reason.WITHDRAWN]


def test_outside_its_active_hours_a_rule_neither_begins_nor_keeps_an_alert():
    run = run_of(extension='active: {from: "22:00", to: "22:30", zone: UTC}')
    inside, outside = at(0), at(1200)  # 22:13:20 and 22:33:20 UTC
    assert reasons(run.evaluate([({}, 2.0)], inside, grace=False)) == [Reason.FIRST]
    assert reasons(run.evaluate([({}, 2.0)], outside, grace=False)) == [Reason.RESOLVED]
    assert run.evaluate([({}, 2.0)], outside, grace=False) == []


def test_two_series_that_become_the_same_alert_are_an_error_and_change_nothing():
    run = run_of(labels="{host: same}")
    with pytest.raises(EvaluationError, match="same labels"):
        run.evaluate([({"host": "a"}, 2.0), ({"host": "b"}, 2.0)], at(0), grace=False)
    assert run.alerts == {}


def test_more_alerts_than_the_limit_are_an_error_and_change_nothing():
    run = run_of(limit=2)
    with pytest.raises(EvaluationError, match="3 alerts are more than the limit of 2"):
        run.evaluate([({"host": str(n)}, 2.0) for n in range(3)], at(0), grace=False)
    assert run.alerts == {}


def test_restored_alerts_outlive_missing_data_only_while_the_grace_lasts():
    run = run_of()
    (change,) = run.evaluate([({}, 2.0)], at(0), grace=False)
    change.tracked.restored = True
    assert run.evaluate([], at(1), grace=True) == []
    assert reasons(run.evaluate([], at(2), grace=False)) == [Reason.RESOLVED]


def test_a_rule_knows_its_own_alerts_again_after_a_restart():
    run, other = run_of(labels="{team: desk}"), run_of(labels="{severity: info}")
    (change,) = run.evaluate([({"host": "a"}, 2.0)], at(0), grace=False)
    assert run_of(labels="{team: desk}").owns(change.tracked)
    assert not other.owns(change.tracked)


def test_two_rules_of_one_name_keep_their_alerts_apart():
    text = "groups: [{name: g, rules: [{alert: A, expr: x > 1}, {alert: A, expr: x > 2}]}]"
    rules = parse_rules(text, "t.yml")[0].rules
    assert occurrences(rules) == [0, 1]
    first, second = (RuleRun(rule, n, 0, OPTIONS) for n, rule in enumerate(rules))
    assert first.identity({}).fingerprint != second.identity({}).fingerprint


def test_an_alert_with_a_new_episode_has_a_new_id_and_the_same_fingerprint():
    run = run_of()
    (one,) = run.evaluate([({}, 2.0)], at(0), grace=False)
    run.evaluate([({}, 0.0)], at(1), grace=False)
    (two,) = run.evaluate([({}, 2.0)], at(2), grace=False)
    assert one.tracked.fingerprint == two.tracked.fingerprint
    assert one.tracked.alert_id != two.tracked.alert_id
    assert two.live.state is AlertState.FIRING
