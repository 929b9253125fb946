"""Alerts that other programs send: they begin, last, end and are told like our own, through restarts."""

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given
from sqlalchemy import select

from alerts.external import ExternalAlertError, Sent, check
from alerts.state import AlertState, Reason
from metrics.severity import Severity
from storage.tables import alert_state
from tests.alerts.desk import Desk, StillClock, rules_file
from tests.alerts.receivers import wait_until
from tests.alerts.test_outbox import Spy

LABELS = {"alertname": "Disk", "severity": "critical", "instance": "a:9100"}
NONE = "- alert: Never\n  expr: nothing > 1\n"


def told(spy: Spy) -> list[Reason]:
    return [one.reason for one in spy.taken]


def test_an_alert_that_is_sent_is_told_shown_and_ends_when_its_sender_says_so(tmp_path: Path):
    spy, clock = Spy(), StillClock()
    with Desk(tmp_path, rules_file(tmp_path, NONE), [spy], clock) as desk:
        now_ms = clock.now_ns() // 1_000_000
        sent = Sent(LABELS, {"summary": "Disk is full"}, now_ms - 60_000, None, "http://prometheus/graph")
        assert desk.service.receive([sent], "10.0.0.5") == []
        (view,) = desk.service.active()
        assert (view.name, view.summary, view.severity, view.state) == (
            "Disk", "Disk is full", Severity.CRITICAL, AlertState.FIRING,
        )  # fmt: skip
        assert view.posted is not None
        assert (view.posted.sender, view.posted.generator_url) == ("10.0.0.5", "http://prometheus/graph")
        assert view.active_since_ms == now_ms - 60_000
        wait_until(lambda: told(spy) == [Reason.FIRST])
        assert spy.taken[0].labels == LABELS
        desk.service.receive([sent], "10.0.0.5")
        desk.service.acknowledge(view.alert_id, "ana", "looking")
        desk.service.receive([Sent(LABELS, {}, now_ms - 60_000, now_ms)], "10.0.0.5")
        wait_until(lambda: told(spy) == [Reason.FIRST, Reason.RESOLVED])
        assert desk.service.active() == ()
        assert [event.reason for event in desk.service.history()] == [
            Reason.RESOLVED, Reason.ACKNOWLEDGED, Reason.FIRST,
        ]  # fmt: skip


def test_it_outlives_a_restart_and_ends_once_nobody_sends_it_again(tmp_path: Path):
    spy, clock, rules = Spy(), StillClock(), rules_file(tmp_path, NONE)
    with Desk(tmp_path, rules, [spy], clock) as desk:
        desk.service.receive([Sent(LABELS, {"summary": "full"})], "10.0.0.5")
        (before,) = desk.service.active()
        wait_until(lambda: told(spy) == [Reason.FIRST])
    clock.advance(3600 * 10**9)  # longer than the timeout: its sender could not reach us
    with Desk(tmp_path, rules, [spy], clock) as desk:
        (view,) = desk.service.active()
        assert (view.alert_id, view.labels, view.summary) == (before.alert_id, LABELS, "full")
        desk.service._pass()
        assert len(desk.service.active()) == 1
        desk.service.receive([Sent(LABELS, {"summary": "fuller"})], "10.0.0.5")
        with desk.store.read() as connection:
            row = connection.execute(select(alert_state)).one()
        assert row.posted["ends_ms"] == clock.now_ns() // 1_000_000 + 300_000
        assert row.annotations == {"summary": "fuller"}
        clock.advance(301 * 10**9)
        wait_until(lambda: told(spy) == [Reason.FIRST, Reason.RESOLVED])
        assert desk.service.active() == ()


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (Sent({}, {}), "at least one label"),
        (Sent({"a": ""}, {}), "at least one label"),
        (Sent({"a b": "1"}, {}), "no name of a label"),
        (Sent({"a": "x" * 5000}, {}), "longer than"),
        (Sent({f"a{n}": "1" for n in range(65)}, {}), "more than"),
        (Sent({"a": "1"}, {"b": "x" * 20_000}), "longer than"),
        (Sent({"a": "1"}, {}, 10, 5), "start time must be before"),
    ],
)
def test_what_is_no_alert_is_refused_with_the_reason(sent: Sent, words: str):
    with pytest.raises(ExternalAlertError, match=words):
        check(sent)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
def test_any_labels_make_an_alert_or_are_refused(labels):
    try:
        assert set(check(Sent(labels, {})).values()) <= set(labels.values())
    except ExternalAlertError as error:
        assert labels == {} or str(error)  # noqa: PT017 - either is right
