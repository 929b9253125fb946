"""The command log: durable, whole lines only, read from anywhere on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.commandlog import CommandLog, CommandLogError, read_log


def opened(path: Path) -> CommandLog:
    log = CommandLog(path)
    log.open()
    return log


def write(log: CommandLog, command: str, t_ns: int = 7) -> None:
    log.write(t_ns, command, "all", "anna", "a test", {"state": "HALTED"})


def test_entries_are_read_back_in_order_and_from_any_on(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    assert read_log(path) is None
    log = opened(path)
    for command in ("halt", "resume", "halt"):
        write(log, command)
    log.close()
    found = read_log(path)
    assert found is not None
    assert [(entry.seq, entry.command) for entry in found.entries] == [(1, "halt"), (2, "resume"), (3, "halt")]
    assert found.entries[0].answer == {"state": "HALTED"}
    rest = read_log(path, found.log, 2)
    assert rest is not None
    assert [entry.seq for entry in rest.entries] == [3]
    other = read_log(path, "another log", 2)
    assert other is not None
    assert len(other.entries) == 3
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_restart_goes_on_with_the_numbers(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    for command in ("halt", "resume"):
        log = opened(path)
        write(log, command)
        log.close()
    found = read_log(path)
    assert found is not None
    assert [entry.seq for entry in found.entries] == [1, 2]


@given(cut=st.integers(1, 400))
def test_a_crash_in_the_middle_of_a_line_loses_only_that_line(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("log") / "commands.jsonl"
    log = opened(path)
    write(log, "halt")
    write(log, "resume")
    log.close()
    content = path.read_bytes()
    whole = content[: max(len(content) - cut, 0)]
    path.write_bytes(whole)
    kept = max(whole.count(b"\n") - 1, 0)
    log = opened(path)
    write(log, "halt")
    log.close()
    found = read_log(path)
    assert found is not None
    assert [entry.seq for entry in found.entries] == list(range(1, kept + 2))
    assert found.entries[-1].command == "halt"


def test_a_line_that_is_being_written_is_left_for_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    log = opened(path)
    write(log, "halt")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"seq": 2, "t_ns')
    found = read_log(path)
    assert found is not None
    assert len(found.entries) == 1


def test_a_damaged_log_is_put_aside_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "commands.jsonl"
    path.write_bytes(b"not a log\n")
    with pytest.raises(CommandLogError, match="damaged"):
        read_log(path)
    log = opened(path)
    write(log, "halt")
    log.close()
    found = read_log(path)
    assert found is not None
    assert [entry.seq for entry in found.entries] == [1]
    assert "damaged" in caplog.text
    assert [other.read_bytes() for other in tmp_path.glob("commands.damaged-*")] == [b"not a log\n"]


def test_what_cannot_be_written_is_said_and_the_log_stays_whole(tmp_path: Path) -> None:
    log = CommandLog(tmp_path / "commands.jsonl")
    with pytest.raises(CommandLogError, match="halt by anna is not in the command log"):
        write(log, "halt")
    with pytest.raises(CommandLogError, match="cannot be opened"):
        CommandLog(Path("/proc/nowhere/commands.jsonl")).open()


def test_lines_are_json_for_others_to_read(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    log = opened(path)
    log.write(1, "halt", "all", 'an "odd"\nname ü', "why\0", {"ok": True})
    lines = path.read_text().splitlines()
    assert len(lines) == 2
    assert json.loads(lines[1])["who"] == 'an "odd"\nname ü'
