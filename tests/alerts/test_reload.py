"""Rule files are taken up when they change, refused where they are wrong, and rolled back."""

import logging
import os
from pathlib import Path

import pytest
from sqlalchemy import select

from alerts.errors import RuleError
from alerts.reload import versions
from alerts.state import Reason
from metrics.clock import SystemClock
from storage.tables import audit, file_version
from tests.alerts.desk import Desk, rules_file
from tests.alerts.receivers import wait_until

HIGH = "- {alert: High, expr: x > 1, labels: {severity: critical}}\n"
LOW = "- {alert: Low, expr: x < 5, labels: {severity: warning}}\n"
WRONG = "- {alert: High, expr: 'x >'}\n"


@pytest.fixture
def desk(tmp_path: Path):
    with Desk(tmp_path, rules_file(tmp_path, HIGH + LOW), channels=[], slow_tick_s=300) as desk:
        wait_until(lambda: versions(desk.store))  # the first look is on record
        yield desk


def write(desk: Desk, body: str) -> None:
    path = rules_file(Path(desk.options.rules[0]).parent, body)
    now = path.stat().st_mtime_ns
    os.utime(path, ns=(now + 1_000_000_000, now + 1_000_000_000))


def names(desk: Desk) -> list[str]:
    return [rule["name"] for group in desk.service.rules() for rule in group["rules"]]


def fire(desk: Desk) -> dict[str, str]:
    def both() -> bool:
        desk.frame("engine", {"x": 2.0})
        return len(desk.states()) == 2

    wait_until(both)
    return {view.name: view.alert_id for view in desk.service.active()}


def test_alerts_of_rules_that_are_still_there_live_on_and_the_others_end_with_their_rule(desk):
    before = fire(desk)
    write(desk, HIGH.replace("x > 1", "x > 1.5") + "- {alert: New, expr: x > 100}\n")
    (status,) = desk.service.reload()
    assert (status.error, status.rules, status.rolled_back) == ("", 2, False)
    assert names(desk) == ["High", "New"]
    assert {view.name: view.alert_id for view in desk.service.active()} == {"High": before["High"]}
    wait_until(lambda: desk.service.history())
    ended = [event for event in desk.service.history() if event.reason is Reason.RULE_GONE]
    assert [event.alert_id for event in ended] == [before["Low"]]
    wait_until(lambda: desk.frame("engine", {"x": 1.2}) or not desk.states())
    assert [event.reason for event in desk.service.history(1)] == [Reason.RESOLVED]


def test_a_wrong_file_changes_nothing_is_said_once_and_is_on_record(desk, caplog):
    before = fire(desk)
    write(desk, WRONG)
    with caplog.at_level(logging.ERROR, "alerts.reload"):
        for _ in range(3):
            (status,) = desk.service.reload()
    assert "rule 'High' (line 5): expr: cannot parse" in status.error
    assert len(caplog.records) == 1
    assert desk.service.stats().reload_failed
    assert names(desk) == ["High", "Low"]
    assert {view.name: view.alert_id for view in desk.service.active()} == before
    refused = versions(desk.store)[0]
    assert (refused.outcome, refused.who) == ("refused", "reload")
    assert "cannot parse" in refused.note
    write(desk, HIGH + LOW)
    assert not desk.service.reload()[0].error
    assert not desk.service.stats().reload_failed


def test_an_expression_that_cannot_be_planned_is_refused_too(desk):
    write(desk, "- {alert: High, expr: nosuch(x) > 1}\n")
    assert "nosuch" in desk.service.reload()[0].error
    write(desk, "- {record: r, expr: 'x[5m]'}\n")
    assert "cannot be recorded" in desk.service.reload()[0].error


def test_a_file_that_is_away_for_a_moment_is_no_loss(desk):
    path = Path(desk.options.rules[0])
    aside = path.rename(path.with_suffix(".aside"))
    assert "cannot be read" in desk.service.reload()[0].error
    assert names(desk) == ["High", "Low"]
    aside.rename(path)
    assert desk.service.reload()[0].error == ""


def test_every_version_is_kept_and_an_older_one_stands_in_until_the_file_changes(desk):
    write(desk, HIGH)
    desk.service.reload()
    newest, first = versions(desk.store)
    assert (first.who, newest.who) == ("start", "reload")
    text = Path(desk.options.rules[0]).read_text()

    done = desk.service.roll_back(first.id, "alice", "too quiet")
    assert names(desk) == ["High", "Low"]
    assert (done.who, done.hash, done.instead_of) == ("alice", first.hash, newest.hash)
    assert desk.service.rule_files()[0].rolled_back
    assert Path(desk.options.rules[0]).read_text() == text  # a user's file is not written to
    desk.service.reload()
    assert names(desk) == ["High", "Low"]
    with desk.store.read() as connection:
        (row,) = connection.execute(select(audit).where(audit.c.action == "rules.rollback")).all()
        assert connection.execute(select(file_version.c.id)).all()[-1].id == done.id
    assert row.who == "alice"

    write(desk, LOW)
    desk.service.reload()
    assert names(desk) == ["Low"]
    write(desk, HIGH)  # the text that was rolled back comes again on purpose: it counts
    desk.service.reload()
    assert names(desk) == ["High"]


def test_rolling_back_to_what_the_file_says_ends_a_roll_back(desk):
    (first,) = versions(desk.store)
    write(desk, HIGH)
    desk.service.reload()
    newest = versions(desk.store)[0]
    desk.service.roll_back(first.id, "alice")
    desk.service.roll_back(newest.id, "bob")
    assert names(desk) == ["High"]
    assert not desk.service.rule_files()[0].rolled_back


def test_a_roll_back_survives_a_restart(tmp_path):
    rules = rules_file(tmp_path, HIGH + LOW)
    with Desk(tmp_path, rules, channels=[], slow_tick_s=300) as desk:
        wait_until(lambda: versions(desk.store))
        write(desk, HIGH)
        desk.service.reload()
        desk.service.roll_back(versions(desk.store)[-1].id, "alice")
    with Desk(tmp_path, rules, channels=[], slow_tick_s=300) as desk:
        assert names(desk) == ["High", "Low"]
        wait_until(lambda: len(versions(desk.store)) == 3)


def test_a_roll_back_by_another_process_is_taken_up(desk, tmp_path):
    from alerts.reload import roll_back

    write(desk, HIGH)
    desk.service.reload()
    roll_back(desk.store, desk.query, SystemClock(), versions(desk.store)[-1].id, "console of another shell")
    desk.service.reload()
    assert names(desk) == ["High", "Low"]


@pytest.mark.parametrize(("version", "who", "words"), [(999, "alice", "no version 999"), (1, " ", "needs a name")])
def test_a_roll_back_that_makes_no_sense_is_refused(desk, version, who, words):
    with pytest.raises(RuleError, match=words):
        desk.service.roll_back(version, who)


def test_a_version_that_does_not_hold_is_not_rolled_back_to(desk):
    write(desk, WRONG)
    desk.service.reload()
    with pytest.raises(RuleError, match="cannot be used"):
        desk.service.roll_back(versions(desk.store)[0].id, "alice")


def test_a_change_is_noticed_by_itself(tmp_path):
    with Desk(tmp_path, rules_file(tmp_path, HIGH), channels=[], slow_tick_s=0.1) as desk:
        write(desk, HIGH + LOW)
        wait_until(lambda: names(desk) == ["High", "Low"])
        assert desk.service.stats().reloads == 1
        evaluations = desk.service.stats().evaluations
        desk.frame("engine", {"x": 0.0})
        wait_until(lambda: desk.service.stats().evaluations > evaluations)  # counters go on


def test_the_command_line_lists_versions_and_rolls_back(tmp_path, capsys):
    import app

    rules = rules_file(tmp_path, HIGH + LOW)
    command = ["--data-dir", str(tmp_path / "data")]
    assert app.main(["rules", "versions", *command]) == 1
    assert "nothing has run" in capsys.readouterr().err
    with Desk(tmp_path, rules, channels=[], slow_tick_s=300) as desk:
        wait_until(lambda: versions(desk.store))
        write(desk, HIGH)
        desk.service.reload()
        first = versions(desk.store)[-1].id
        assert app.main(["rules", "versions", *command]) == 1
        assert "the Rules page" in capsys.readouterr().err
    assert app.main(["rules", "rollback", str(first), *command]) == 1
    assert "--who" in capsys.readouterr().err
    assert app.main(["rules", "rollback", str(first), "--who", "alice", "--reason", "too quiet", *command]) == 0
    capsys.readouterr()
    assert app.main(["rules", "versions", *command]) == 0
    said = capsys.readouterr().out
    assert "in place of the file's text)  alice" in said
    assert "too quiet" in said
    with Desk(tmp_path, rules, channels=[], slow_tick_s=300) as desk:
        assert names(desk) == ["High", "Low"]
