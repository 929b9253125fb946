"""Rule files are read strictly and what Prometheus accepts is understood."""

from pathlib import Path

import pytest

from alerts.errors import RuleError
from alerts.extension import NoData
from alerts.rules import load_rules, parse_rules
from metrics.severity import Severity

ONE = """
groups:
  - name: host
    interval: 5s
    rules:
      - alert: Busy
        expr: busy_ratio > 0.8
        for: 1m30s
        keep_firing_for: 2m
        labels: {severity: warning, team: "{{ $labels.owner }}"}
        annotations:
          summary: "{{ $value | humanizePercentage }} busy"
          deskvigil: |
            tiers: {critical: 0.9, emergency: 0.97}
            recovery: 0.7
            no_data: keep
            active: {days: [mon-fri], from: "09:30", to: "16:00", zone: America/New_York}
"""


def only_rule(text: str):
    return parse_rules(text, "t.yml")[0].rules[0]


def test_a_rule_is_read_with_its_durations_tiers_and_policies():
    rule = only_rule(ONE)
    assert (rule.key, rule.interval_s, rule.for_s, rule.keep_firing_for_s) == ("host/Busy", 5.0, 90.0, 120.0)
    assert [(tier.severity, str(tier.comparison)) for tier in rule.extension.tiers] == [
        (Severity.WARNING, "> 0.8"),
        (Severity.CRITICAL, "> 0.9"),
        (Severity.EMERGENCY, "> 0.97"),
    ]
    assert str(rule.extension.recovery) == "> 0.7"
    assert rule.extension.no_data is NoData.KEEP
    assert str(rule.extension.active) == "mon,tue,wed,thu,fri 09:30-16:00 America/New_York"


def test_the_extension_is_taken_out_of_the_annotations():
    rule = only_rule(ONE)
    assert "deskvigil" not in rule.annotations
    assert "deskvigil" not in rule.annotation_texts


def test_a_rule_without_a_severity_label_is_a_warning():
    assert only_rule("groups: [{name: g, rules: [{alert: A, expr: up == 0}]}]").severity is Severity.WARNING


def test_group_labels_are_given_to_every_rule_and_the_rules_own_win():
    rule = only_rule(
        "groups: [{name: g, labels: {a: x, b: x}, rules: [{alert: A, expr: up == 0, labels: {b: y, severity: info}}]}]"
    )
    assert rule.label_texts == {"a": "x", "b": "y", "severity": "info"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("groups: [{name: g, rulez: []}]", "group 'g': unknown key 'rulez'"),
        ("groupz: []", "unknown key 'groupz'"),
        ("groups: [{name: g, rules: [{alert: A, expr: up == 0, fore: 1m}]}]", "rule 'A' (line 1): unknown key 'fore'"),
        ("groups: [{name: g, rules: [{alert: A, expr: 'up >'}]}]", "rule 'A' (line 1): expr: cannot parse 'up >'"),
        ("groups: [{name: g, rules: [{alert: A}]}]", "rule 'A' (line 1): expr: is missing"),
        ("groups: [{name: g, rules: [{expr: up}]}]", "group 'g', line 1: alert: is missing"),
        ("groups: [{name: g, rules: [{alert: A, expr: up, for: 5x}]}]", "for: '5x' is not a duration"),
        ("groups: [{name: g, rules: [{record: 'a b', expr: up}]}]", "record: 'a b' is no metric name"),
        ("groups: [{name: g, rules: [{record: a, expr: up, for: 1m}]}]", "rule 'a' (line 1): unknown key 'for'"),
        ("groups: [{name: g, rules: [{record: a, alert: B, expr: up}]}]", "either records or alerts, not both"),
        ("groups: [{name: g, rules: [{record: a, expr: 'up >'}]}]", "rule 'a' (line 1): expr: cannot parse"),
        ("groups: [{name: g, rules: [{record: a, expr: up, labels: {__name__: b}}]}]", "'__name__' is not allowed"),
        ("groups: [{name: g}, {name: g}]", "group 'g' is there twice"),
        ("groups: [{name: g, name: h}]", "line 1: key 'name' is there twice"),
        ("groups:\n- name: [", "line "),
        ("groups: [{name: g, rules: [{alert: A, expr: up, labels: {severity: awful}}]}]", "'awful' is not one of info"),
        ("groups: [{name: g, rules: [{alert: A, expr: up, labels: {1a: x}}]}]", "'1a' is not allowed as a name"),
        ("groups: [{name: g, rules: [{alert: A, expr: up, labels: {a: [x]}}]}]", "'a' must be text"),
        ("groups: [{name: g, interval: soon}]", "group 'g': interval: 'soon' is not a duration"),
        ("groups: [{name: g, query_offset: later}]", "group 'g': query_offset: 'later' is not a duration"),
        ("groups: nothing", "groups: must be a list"),
    ],
)
def test_what_is_wrong_is_named_with_file_group_and_rule(text, words):
    with pytest.raises(RuleError) as caught:
        parse_rules(text, "my.yml")
    assert words in str(caught.value)
    assert str(caught.value).startswith("my.yml")


@pytest.mark.parametrize(
    ("expr", "block", "words"),
    [
        ("x > 1", "tears: {critical: 2}", "unknown key 'tears'"),
        ("x > 1", "tiers: {critical: 0.5}", "tiers.critical: > 0.5 is not beyond > 1 of warning"),
        ("x > 1", "tiers: {emergency: 2, critical: 3}", "tiers.emergency: > 2 is not beyond > 3 of critical"),
        ("x < 1", "tiers: {critical: 2}", "tiers.critical: < 2 is not beyond < 1 of warning"),
        ("x > 1", "tiers: {info: 2}", "tiers can only be worse"),
        ("x > 1", "tiers: {warning: 2}", "the expression says 1"),
        ("x > 1", "tiers: {terrible: 2}", "severity 'terrible' is not one of"),
        ("x > 1", "tiers: {critical: high}", "tiers.critical: 'high' is not a number"),
        ("x > 1", "op: '>'\ntiers: {critical: 2}", "op is not needed"),
        ("x and y", "tiers: {critical: 2}", "tiers need a direction"),
        ("x == 0", "tiers: {critical: 2}", "tiers need a direction"),
        ("x > 1", "recovery: 2", "recovery: 2 is on the bad side of > 1"),
        ("x < 1", "recovery: 0.5", "recovery: 0.5 is on the bad side of < 1"),
        ("x and y", "recovery: 2", "recovery needs an expression"),
        ("x > 1", "no_data: panic", "no_data: 'panic' is not one of resolve, keep, alert"),
        ("x and y", "no_data: keep", "no_data needs an expression"),
        ("x > 1", "active: {from: '09:00'}", "active needs to"),
        ("x > 1", "active: {days: [someday], from: '09:00', to: '10:00', zone: UTC}", "day 'someday' is not one of"),
        ("x > 1", "active: {from: '9 am', to: '10:00', zone: UTC}", "'9 am' is not a time of day"),
        ("x > 1", "active: {from: '09:00', to: '10:00', zone: Mars/North}", "time zone 'Mars/North' is not known"),
        ("x > 1", "just words", "the block must be a mapping"),
        ("x > 1", "tiers: {", "line "),
    ],
)
def test_a_wrong_extension_is_refused_with_the_key(expr, block, words):
    text = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: " + expr + "\n    annotations:\n      deskvigil: |\n"
    text += "".join(f"        {line}\n" for line in block.splitlines())
    with pytest.raises(RuleError) as caught:
        parse_rules(text, "my.yml")
    assert words in str(caught.value)
    assert "rule 'A' (line 4): annotation deskvigil" in str(caught.value)


def test_tiers_of_an_expression_that_is_no_comparison_need_and_take_an_op():
    rule = only_rule(
        "groups: [{name: g, rules: [{alert: A, expr: x and y, annotations: {deskvigil: '{op: \">\", tiers: {critical: 2}}'}}]}]"
    )
    assert rule.extension.tier_of(1.0).severity is Severity.WARNING
    assert rule.extension.tier_of(3.0).severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("text", "value_text", "comparison", "plain"),
    [
        ("a > 0.9", "a", "> 0.9", True),
        ("a{x='>1'} <= -(2)", "a{x='>1'}", "<= -2", True),
        ("a > 8 * 1024 * 1024", "a", "> 8.38861e+06", True),
        ('a{x="q\\"uo>te"} > 1 # > 3', 'a{x="q\\"uo>te"}', "> 1", True),
        ("rate(a[5m]) >= 1", "rate(a[5m])", ">= 1", False),
        ("a offset 5m > 1", "a offset 5m", "> 1", False),
        ("a > bool 1", "a > bool 1", "None", False),
        ("a > on() b", "a > on() b", "None", False),
        ("a and b > 1", "a and b > 1", "None", False),
        ("absent(a)", "absent(a)", "None", False),
    ],
)
def test_an_expression_is_split_into_value_and_threshold_where_it_can_be(text, value_text, comparison, plain):
    rule = only_rule(f"groups:\n- name: g\n  rules:\n  - alert: A\n    expr: |\n      {text}\n")
    expression = rule.expression
    assert (expression.value_text, str(expression.comparison), expression.plain) == (value_text, comparison, plain)


def test_expressions_too_long_or_too_deep_are_refused_before_parsing():
    for expr, words in (("(" * 200 + "a" + ")" * 200, "nested 200 deep"), ("a" * 9000, "longer than")):
        with pytest.raises(RuleError, match=words):
            parse_rules(f"groups: [{{name: g, rules: [{{alert: A, expr: '{expr}'}}]}}]", "my.yml")


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(RuleError, match=r"none\.yml: cannot be read"):
        load_rules(tmp_path / "none.yml")
