"""The console's sign of life: changes count, clocks do not."""

from __future__ import annotations

from pathlib import Path

from engine.consolewatch import ConsoleWatch

SECOND = 1_000_000_000


def write(path: Path, value: int) -> None:
    path.write_bytes(value.to_bytes(8, "little", signed=True))


def test_a_console_never_seen_is_not_missing(tmp_path: Path) -> None:
    watch = ConsoleWatch(tmp_path / "heartbeat", 5.0)
    for second in range(20):
        watch.look(second * SECOND)
    assert not watch.is_missing(20 * SECOND)
    assert watch.gauge(20 * SECOND) == -1.0


def test_what_a_dead_console_left_behind_is_no_sign_of_life(tmp_path: Path) -> None:
    write(tmp_path / "heartbeat", 123)
    watch = ConsoleWatch(tmp_path / "heartbeat", 5.0)
    for second in range(20):
        watch.look(second * SECOND)
    assert watch.gauge(20 * SECOND) == -1.0


def test_silence_longer_than_the_timeout_is_missing_and_ends_with_the_next_change(tmp_path: Path) -> None:
    watch = ConsoleWatch(tmp_path / "heartbeat", 5.0)
    write(tmp_path / "heartbeat", 1)
    watch.look(0)
    write(tmp_path / "heartbeat", 2)
    watch.look(SECOND)
    assert watch.gauge(SECOND) == 1.0
    watch.look(6 * SECOND)
    assert not watch.is_missing(6 * SECOND)
    assert watch.is_missing(6 * SECOND + 1)
    write(tmp_path / "heartbeat", -3_600_000_000_000)  # the wall clock was set back: it moved all the same
    watch.look(7 * SECOND)
    assert not watch.is_missing(7 * SECOND)


def test_a_file_that_vanishes_is_silence(tmp_path: Path) -> None:
    watch = ConsoleWatch(tmp_path / "heartbeat", 5.0)
    for value in (1, 2):
        write(tmp_path / "heartbeat", value)
        watch.look(value * SECOND)
    (tmp_path / "heartbeat").unlink()
    watch.look(9 * SECOND)
    assert watch.is_missing(9 * SECOND)
