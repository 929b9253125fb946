"""Active hours by a market's calendar, against what the exchanges published."""

import builtins
from datetime import datetime

import pytest

from alerts.errors import RuleError
from alerts.hours import ActiveHours, parse_days, parse_time, parse_zone
from alerts.rules import parse_rules


def ms(text: str) -> int:
    return round(datetime.fromisoformat(f"{text}+00:00").timestamp() * 1000)


def rule(active: str):
    text = f"groups: [{{name: g, rules: [{{alert: A, expr: x > 1, annotations: {{deskvigil: 'active: {active}'}}}}]}}]"
    return parse_rules(text, "t")[0].rules[0].extension.active


@pytest.fixture
def market():
    pytest.importorskip("exchange_calendars", reason="pip install -r requirements-calendar.txt")
    return rule


@pytest.mark.parametrize(
    ("calendar", "inside", "outside"),
    [
        ("XNYS", ["2026-11-25T14:30", "2026-11-25T20:59"], ["2026-11-25T14:29", "2026-11-25T21:00"]),
        ("XNYS", ["2026-11-27T17:59"], ["2026-11-27T18:00", "2026-11-26T15:00"]),  # the day after, and Thanksgiving
        ("XNYS", ["2026-03-06T14:30", "2026-03-09T13:30"], ["2026-03-06T13:30", "2026-03-09T20:00"]),  # clocks go forward
        ("XLON", ["2026-12-24T12:29"], ["2026-12-24T12:30", "2026-12-25T10:00", "2026-12-28T10:00"]),
        ("XHKG", ["2026-11-23T03:59", "2026-11-23T05:00"], ["2026-11-23T04:30", "2026-11-23T08:00"]),  # lunch
        ("CMES", ["2026-11-22T23:00", "2026-11-24T05:00", "2026-11-24T23:00"], ["2026-11-22T22:59", "2026-11-26T20:00", "2026-11-28T12:00"]),
    ],
)  # fmt: skip
def test_sessions_half_days_holidays_and_breaks_are_the_exchanges(market, calendar, inside, outside):
    hours = market(f"{{calendar: {calendar}}}")
    for text in inside:
        assert hours.contains(ms(text)), text
    for text in outside:
        assert not hours.contains(ms(text)), text


def test_offsets_widen_a_session_at_both_ends(market):
    hours = market("{calendar: XNYS, session: regular, before_open: 30m, after_close: 15m}")
    assert [hours.contains(ms(f"2026-11-27T{clock}")) for clock in ("13:59", "14:00", "18:14", "18:15")] == [
        False,
        True,
        True,
        False,
    ]
    assert str(hours) == "sessions of XNYS, from 1800 s before the open, until 900 s after the close"


def test_spans_agree_with_the_instants_and_a_far_away_year_is_read_when_asked_for(market):
    hours = market("{calendar: XNYS}")
    assert hours.span(ms("2026-11-25T15:00")) == (True, ms("2026-11-25T21:00"))
    assert hours.span(ms("2026-11-25T21:00")) == (False, ms("2026-11-27T14:30"))
    assert hours.contains(ms("2019-07-03T16:59"))
    assert not hours.contains(ms("2019-07-03T17:00"))
    assert hours.contains(ms("2026-11-25T15:00"))


@pytest.mark.parametrize(
    ("active", "words"),
    [
        ("{calendar: XNOPE}", "'XNOPE' is no calendar"),
        ("{calendar: XNYS, session: night}", "active.session: "),
        ("{calendar: XNYS, before_open: soon}", "active.before_open: "),
        ("{calendar: XNYS, from: \"09:00\"}", "unknown key"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(market, active, words):
    with pytest.raises(RuleError, match=words):
        market(active)


def test_without_the_package_the_rule_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "exchange_calendars":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RuleError, match=r"pip install -r requirements-calendar\.txt"):
        rule("{calendar: XNYS}")


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Europe/London"])
@pytest.mark.parametrize(("begin", "end"), [("09:30", "16:00"), ("22:00", "02:30"), ("00:00", "24:00")])
def test_spans_of_weekly_hours_agree_with_every_instant_through_both_clock_changes(zone, begin, end):
    hours = ActiveHours(parse_days(["mon-fri", "sun"]), parse_time(begin), parse_time(end), parse_zone(zone))
    for start in ("2026-03-06T00:00", "2026-03-27T00:00", "2026-10-23T00:00", "2026-10-30T00:00"):
        at, last = ms(start), ms(start) + 4 * 86_400_000
        while at < last:
            state, until = hours.span(at)
            assert until > at
            for inside in (at, (at + until) // 2, until - 1):
                assert hours.contains(inside) is state, (zone, inside)
            at = until
