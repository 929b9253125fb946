"""The auditor finds in the record what was not told or escalated, and puts it right."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, update

from alerts.auditor import KINDS
from alerts.errors import AuditError
from alerts.stats import AlertsCollector
from metrics.catalogue import metric_of
from storage.tables import alert_state, escalation, outbox, suppression
from tests.alerts.nightdesk import POLICY, NightDesk
from tests.alerts.test_escalations import CRITICAL


@pytest.fixture
def night(tmp_path: Path) -> Iterator[NightDesk]:
    desk = NightDesk(tmp_path)
    desk.x = CRITICAL
    desk.go()
    assert not desk.service.auditor.audit()
    yield desk
    desk.close()


def change(night: NightDesk, *statements) -> None:
    """What a fault of ours might leave behind."""
    with night.desk.store.write() as connection:
        for statement in statements:
            connection.execute(statement)


def found(night: NightDesk) -> dict[str, int]:
    counts = night.service.auditor.audit().counts()
    assert not night.service.auditor.audit(), "what was found is put right"
    return {kind: count for kind, count in counts.items() if count}


def test_nothing_is_found_where_all_is_well(night: NightDesk):
    night.go(60)
    assert found(night) == {}
    night.service.acknowledge(night.alert_id, "ana")
    assert found(night) == {}
    night.x = 0.0
    night.go()
    assert found(night) == {}
    assert night.service.auditor.stats.found == dict.fromkeys(KINDS, 0)


def test_an_escalation_that_was_never_started_is_started_and_counted(night: NightDesk):
    change(night, delete(escalation))
    night.service._escalations.restore(night.now())
    assert found(night) == {"unstarted": 1}
    night.go(60)
    assert night.steps() == ["step 1 of 2: ana"]


def test_one_that_memory_has_forgotten_is_taken_up_again(night: NightDesk):
    night.service._escalations._timers.clear()
    night.service._escalations._schedule()
    night.go(90)
    assert night.steps() == []
    assert found(night) == {"unscheduled": 1}
    night.go()
    assert night.steps() == ["step 1 of 2: ana"]


def test_a_step_that_should_have_run_long_ago_is_run(night: NightDesk):
    night.clock.advance(120 * 10**9)  # and the alert thread did nothing meanwhile
    assert night.service.unproven() == "rules were last looked at 120 s ago"
    night.service._passed_ms = night.now().mono_ms
    assert night.service.unproven() == "1 escalations are overdue"
    assert found(night) == {"overdue": 1}
    assert night.steps() == ["step 1 of 2: ana"]
    assert night.service.unproven() == ""


def test_what_is_acknowledged_and_escalates_by_the_record_is_stopped(night: NightDesk):
    change(night, update(alert_state).values(acked_by="ana", acked_at_ms=1))
    assert found(night) == {"contradictory": 1}
    assert night.rows(escalation)[0].state == "acknowledged"


def test_an_escalation_of_an_alert_that_is_over_is_ended(night: NightDesk):
    (row,) = night.rows(escalation)
    change(night, insert(escalation).values({**row._mapping, "alert_id": "gone"}))
    assert found(night) == {"contradictory": 1}
    assert [one.alert_id for one in night.rows(escalation)] == [night.alert_id]


def test_an_alert_that_nobody_was_told_of_is_told_late(night: NightDesk):
    change(night, delete(outbox))
    assert found(night) == {"untold": 1}
    assert night.told("untold") == [("mail", None), ("pager", None)]
    assert night.reasons()[-1] == "untold"
    assert len(night.rows(escalation)) == 1


def test_a_reason_for_telling_nobody_is_as_good_as_a_message(night: NightDesk):
    noted = {
        "t_ms": 1,
        "event_id": "e",
        "alert_id": night.alert_id,
        "fingerprint": "f",
        "kind": "silenced",
        "by": "s",
        "kept": [],
    }
    change(night, delete(outbox), insert(suppression).values(noted))
    assert found(night) == {}


def test_alerts_of_before_there_was_a_policy_have_missed_nothing_and_escalate_now(tmp_path: Path):
    night = NightDesk(tmp_path, policy="")
    night.x = CRITICAL
    night.go()
    assert not night.service.auditor.audit()
    night.policy.write_text(POLICY)
    night.restart()
    assert not night.service.auditor.audit()
    assert len(night.rows(escalation)) == 1
    night.go(60)
    assert night.steps() == ["step 1 of 2: ana"]
    night.close()


def test_a_policy_that_is_taken_up_while_alerts_fire_escalates_them_and_one_that_is_wrong_is_refused(tmp_path: Path):
    night = NightDesk(tmp_path, policy="")
    night.x = CRITICAL
    night.go()
    assert not night.service.auditor.audit()
    night.policy.write_text(POLICY.replace("people: [ana]", "people: [eve]"))
    night.go(60)
    assert "there is no person 'eve'" in night.service.policy_problem
    night.policy.write_text(POLICY)
    night.go()
    assert not night.service.policy_problem
    assert not night.service.auditor.audit()
    night.go(60)
    assert night.steps() == ["step 1 of 2: ana"]
    night.close()


def test_an_alert_thread_that_stands_still_makes_the_audit_fail(night: NightDesk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("alerts.service.TURN_TIMEOUT_S", 0.01)
    before = night.service.auditor.stats.audits
    with night.service._turn, pytest.raises(AuditError, match="the alert thread has not come to an end"):
        night.service.auditor.audit()
    assert night.service.auditor.stats.audits == before
    night.clock.advance(200 * 10**9)
    night.go()
    assert night.service.unproven() == "the last audit was 201 s ago"


def test_a_message_that_no_courier_tries_is_no_proof_and_a_channel_that_fails_is_known(night: NightDesk):
    assert night.service.unproven() == ""
    night.service.acknowledge(night.alert_id, "ana")
    for _ in range(6):
        night.go(60)
        night.service.auditor.audit()
    assert night.service.unproven() == "2 messages are due and were not tried for 300 s"
    later = night.now().wall_ms + 60_000
    failed = update(outbox).values(attempts=7, next_attempt_ms=later)
    change(night, failed.where(outbox.c.channel == "mail"), delete(outbox).where(outbox.c.channel == "pager"))
    assert night.service.unproven() == ""
    rows = [{**row._mapping, "id": row.id + 100, "channel": "pager"} for row in night.rows(outbox)]
    change(night, insert(outbox).values(rows))
    assert night.service.unproven() == "no channel has taken its messages for 300 s"


def test_its_figures_are_series_that_the_catalogue_knows(night: NightDesk):
    change(night, delete(outbox))
    night.service.auditor.audit()
    frame = AlertsCollector(night.service).collect(night.clock.now_ns())
    values = {str(series): value for series, value in zip(frame.schema.series, frame.values, strict=True)}
    assert values["deskvigil_alerts_audit_findings"] == 1
    assert values['deskvigil_alerts_audit_findings_total{kind="untold"}'] == 1
    assert values["deskvigil_alerts_escalations"] == 1
    assert values["deskvigil_alerts_audits_total"] == 2
    assert all(metric_of(series.name) for series in frame.schema.series)
