"""The policy file: matchers, routes, times, and what is said about a file that is wrong."""

import json
import shutil
import subprocess
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from hypothesis import given

from alerts.errors import PolicyError
from alerts.policy.file import parse_policy
from alerts.policy.inhibit import Inhibitor, InhibitRule
from alerts.policy.intervals import parse_interval
from alerts.policy.matchers import (
    Matcher,
    matcher_json,
    matcher_of_json,
    matches_all,
    parse_matcher,
    parse_matchers,
    show_matchers,
)
from alerts.yaml_block import load_yaml

TREE = """
route:
  receiver: desk
  group_by: [alertname]
  repeat_interval: 1h
  routes:
    - receiver: pager
      matchers: [severity=~"critical|emergency"]
      continue: true
      group_wait: 5s
    - matchers: ['team="risk"', desk!=""]
      receiver: risk
      group_by: ['...']
      routes:
        - {receiver: night, matchers: [shift="night"]}
    - {receiver: quiet, match: {team: ops}, match_re: {host: "db.*"}}
receivers:
  - {name: desk, channels: [email]}
  - {name: pager, channels: [hook]}
  - {name: risk, channels: [email, hook]}
  - {name: night}
  - {name: quiet}
"""
LABELS = (
    {},
    {"severity": "critical"},
    {"severity": "critical", "team": "risk", "desk": "fx"},
    {"severity": "criticality"},
    {"team": "risk"},
    {"team": "risk", "desk": "fx", "shift": "night"},
    {"team": "ops", "host": "db1"},
    {"team": "ops", "host": "adb1"},
    {"team": "ops", "host": "db1", "severity": "emergency"},
)


def policy(text: str = TREE):
    return parse_policy(text, "policy.yml", ["email", "hook"], 14_400_000)


def receivers(labels) -> list[str]:
    return [route.receiver for route in policy().route.match(labels)]


def test_alerts_go_where_the_tree_says():
    assert [receivers(labels) for labels in LABELS] == [
        ["desk"], ["pager"], ["pager", "risk"], ["desk"], ["desk"], ["night"], ["quiet"], ["desk"], ["pager", "quiet"],
    ]  # fmt: skip


@pytest.mark.skipif(shutil.which("amtool") is None, reason="amtool is not installed")
def test_alertmanagers_own_tool_routes_alike(tmp_path: Path):
    bare = TREE.replace(", channels: [email, hook]", "").replace(", channels: [email]", "")
    file = tmp_path / "am.yml"
    file.write_text(bare.replace(", channels: [hook]", ""))
    for labels in LABELS:
        pairs = [f"{name}={value}" for name, value in labels.items()]
        command = ["amtool", "config", "routes", "test", f"--config.file={file}", *pairs]
        told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        assert told.strip().split(",") == receivers(labels), labels


def test_a_child_has_what_it_does_not_say_from_its_parent():
    desk, pager, risk, night = list(policy().route.walk())[:4]
    assert (desk.group_wait_ms, desk.group_interval_ms, desk.repeat_ms) == (0, 30_000, 3_600_000)
    assert (pager.group_by, pager.group_wait_ms, pager.repeat_ms) == (("alertname",), 5000, 3_600_000)
    assert (risk.group_by, night.group_by, night.receiver) == (None, None, "night")


def test_groups_are_told_apart_by_route_and_labels():
    root = policy().route
    one, other = {"alertname": "A", "host": "a"}, {"alertname": "A", "host": "b"}
    assert root.group_labels(one) == {"alertname": "A"}
    assert root.group_key(root.group_labels(one)) == root.group_key(root.group_labels(other))
    risk = root.routes[1]
    assert risk.group_key(risk.group_labels(one)) != risk.group_key(risk.group_labels(other))
    assert root.group_key({"alertname": "A"}) != root.routes[0].group_key({"alertname": "A"})
    assert len(root.group_key({"alertname": "x" * 100_000})) < 500


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("receiver: desk\n", "receiver: dsk\n"), "line 3: there is no receiver 'dsk'; there are: desk, night"),
        (("channels: [hook]", "channels: [pigeon]"), "line 19: channels: there is no 'pigeon'; there are: email, hook"),
        (("continue: true", "continue: maybe"), "line 9: continue: 'maybe' is neither"),
        (("group_wait: 5s", "group_wait: soon"), "line 10: group_wait: 'soon' is not a duration"),
        (('severity=~"critical|emergency"', 'severity=~"crit("'), "line 8: matchers: invalid regular expression"),
        (("repeat_interval: 1h", "repeat_intervall: 1h"), "line 5: unknown key 'repeat_intervall'"),
        (("group_by: ['...']", "group_by: ['...', host]"), "line 13: group_by: '...' stands alone"),
        (("{name: night}", "{name: desk}"), "line 21: receiver 'desk' is there twice"),
        (("{name: night}", "{name: night, email_configs: []}"), "line 21: email_configs: channels are configured under"),
        (("{name: night}", "{name: night, people: [ana]}"), "line 21: people: there is no 'ana'; there are: none"),
        (("{receiver: night,", "{mute_time_intervals: [x],"), "line 15: mute_time_intervals: there is no 'x'"),
        (("route:\n", "routing:\n"), "line 2: unknown key 'routing'"),
        (("  receiver: desk\n", "  receiver: desk\n  matchers: [a=b]\n"), "line 4: the root route must not have matchers"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(change, words):
    assert TREE.count(change[0]) == 1
    with pytest.raises(PolicyError) as error:
        policy(TREE.replace(*change))
    assert str(error.value).startswith(f"policy.yml: {words}")


@given(st.text(max_size=80) | st.binary(max_size=40).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_a_policy_or_a_policy_error(text):
    with suppress(PolicyError):
        assert policy(text).route.receiver == "all"  # nothing that random text says


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
MATCHERS = st.lists(
    st.builds(Matcher, st.sampled_from(["a", "b", "_x"]), st.sampled_from(["=", "!="]), TEXT), min_size=1, max_size=4
)


@given(MATCHERS)
def test_what_is_shown_of_matchers_reads_back_the_same(matchers):
    assert parse_matchers(show_matchers(matchers)) == tuple(matchers)
    assert [matcher_of_json(json.loads(json.dumps(matcher_json(one)))) for one in matchers] == matchers


@given(TEXT)
def test_any_text_is_a_matcher_or_says_why_not(text):
    for read in (parse_matcher, parse_matchers):
        with suppress(ValueError):
            assert show_matchers([read(text)] if read is parse_matcher else read(text))


def test_a_missing_label_is_an_empty_one_and_expressions_match_whole_values():
    assert matches_all(parse_matchers('{a="",b!="x",c=~"|y",d!~"z.*"}'), {})
    assert not parse_matcher("a=~b").matches({"a": "abc"})
    assert parse_matcher('a="x,y}"').matches({"a": "x,y}"})
    assert parse_matchers("") == ()


@pytest.mark.parametrize("text", ["a", "=b", "{a=b", 'a="b', "a=~(", 'a="b"c', "1a=b"])
def test_a_text_that_is_no_matcher_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse_matchers(text)


def within(text: str, *when: str) -> list[bool]:
    interval = parse_interval(load_yaml(text))
    return [
        interval.contains(round(datetime.fromisoformat(one).replace(tzinfo=ZoneInfo("UTC")).timestamp() * 1000))
        for one in when
    ]


def test_intervals_hold_where_all_their_fields_do():
    office = (
        "{times: [{start_time: '09:00', end_time: '17:30'}], weekdays: ['monday:friday'], location: America/New_York}"
    )
    assert within(office, "2026-07-06T13:00", "2026-07-06T12:59", "2026-07-06T21:29", "2026-07-06T21:30") == [
        True, False, True, False,
    ]  # fmt: skip
    assert within(office, "2026-12-07T13:30", "2026-12-07T14:00", "2026-07-05T15:00") == [False, True, False]
    last = "{days_of_month: ['-2:-1'], months: [february, 'april:june']}"
    assert within(last, "2026-02-27T01:00", "2026-02-26T01:00", "2028-02-28T23:59", "2026-03-31T00:00") == [
        True, False, True, False,
    ]  # fmt: skip
    assert within("{days_of_month: ['30:31']}", "2026-02-28T00:00", "2026-04-30T00:00") == [False, True]
    assert within("{years: ['2026:2027']}", "2025-12-31T23:59", "2027-12-31T23:59") == [False, True]
    assert within("{times: [{start_time: '23:00', end_time: '24:00'}]}", "2026-01-01T23:59", "2026-01-01T00:00") == [
        True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "{weekdays: ['friday:monday']}",
        "{weekdays: [funday]}",
        "{months: ['13']}",
        "{days_of_month: ['0']}",
        "{days_of_month: ['-1:2']}",
        "{times: [{start_time: '9:00', end_time: '10:00'}]}",
        "{times: [{start_time: '10:00', end_time: '10:00'}]}",
        "{location: Mars/Olympus}",
        "{hours: [1]}",
        "[]",
    ],
)
def test_an_interval_that_cannot_be_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse_interval(load_yaml(text))


def test_an_alert_inhibits_what_follows_from_it_and_never_itself():
    rule = InhibitRule(parse_matchers('severity="critical"'), parse_matchers('severity=~"critical|warning"'), ("host",))
    inhibitor = Inhibitor([rule])
    critical, warning = {"severity": "critical", "host": "a"}, {"severity": "warning", "host": "a"}
    inhibitor.update("1", critical)
    assert inhibitor.inhibited_by("1", critical) is None
    assert inhibitor.inhibited_by("2", warning) == "1"
    assert inhibitor.inhibited_by("3", {**warning, "host": "b"}) is None
    inhibitor.update("4", critical)
    assert inhibitor.inhibited_by("4", critical) is None  # both are source and target
    inhibitor.update("1", None)
    assert inhibitor.inhibited_by("2", warning) == "4"
    inhibitor.update("4", warning)
    assert inhibitor.inhibited_by("2", warning) is None
    assert inhibitor._keys == {}


def test_a_missing_label_is_equal_to_an_empty_one():
    inhibitor = Inhibitor([InhibitRule(parse_matchers("a=1"), parse_matchers("b=1"), ("host",))])
    inhibitor.update("1", {"a": "1"})
    assert inhibitor.inhibited_by("2", {"b": "1", "host": ""}) == "1"
