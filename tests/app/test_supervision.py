"""The engine of the running program dies, hangs, and dies of one record twice: each time it comes back, and the console tells."""

from __future__ import annotations

import os
import signal
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing

import pytest

from engine import journal
from resources.supervisor import ChildState
from tests.app.program import Program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with Program(tmp_path_factory.mktemp("supervision") / "data") as running:
        running.wait_until_up()
        yield running


def trades(program: Program) -> ChildState:
    """The engine, up and with orders in the market."""
    state: ChildState = program.until(
        lambda: (
            program.value("deskvigil_engine_up") == 1
            and (program.value("deskvigil_engine_working_orders") or 0) > 0
            and program.child("engine")
        ),
        "the engine trades",
    )
    return state


def is_told(program: Program, kind: str, words: str) -> None:
    """Wait until the console has noted it."""

    def noted() -> bool:
        with closing(sqlite3.connect(f"file:{program.paths.database}?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT title FROM annotation WHERE kind = ?", (kind,)).fetchall()
        return any(words in title for (title,) in rows)

    program.until(noted, f"the console notes {words!r}")


def recovered(program: Program, before: ChildState) -> None:
    """Wait until another engine has gone on from the journal."""
    program.until(lambda: program.child("engine").pid not in (0, before.pid), "the engine is replaced")
    program.until(
        lambda: (
            program.value("deskvigil_engine_up") == 1
            and program.value(f'deskvigil_process_restarts_total{{process="engine"}} > {before.restarts}') is not None
            and (program.value("deskvigil_engine_recovered_records") or 0) > 0
        ),
        "it has gone on from the journal",
    )


def test_a_killed_engine_goes_on_from_its_journal_and_the_console_tells(program: Program) -> None:
    before = trades(program)
    os.kill(before.pid, signal.SIGKILL)
    recovered(program, before)
    is_told(program, "restart", "engine restarted (signal SIGKILL)")
    assert (program.value("deskvigil_engine_recovery_seconds") or 0) > 0


def test_a_stopped_engine_is_replaced_and_the_console_tells(program: Program) -> None:
    before = trades(program)
    os.kill(before.pid, signal.SIGSTOP)
    recovered(program, before)
    is_told(program, "restart", "engine restarted (hung, killed)")


def die_at(program: Program, record: int | None) -> int:
    """Kill the engine as if it had been carrying out a record (the newest where none is given); returns which."""
    before = trades(program)
    os.kill(before.pid, signal.SIGSTOP)
    with (program.paths.journal / "head").open("r+b") as head:
        words = list(struct.unpack(f"<{journal.HEAD_WORDS}q", head.read(8 * journal.HEAD_WORDS)))
        record = words[journal.SEQUENCE] if record is None else record
        head.seek(8 * journal.BUSY)
        head.write(struct.pack("<q", record))
    os.kill(before.pid, signal.SIGKILL)
    recovered(program, before)
    return record


def test_a_record_that_kills_it_twice_is_left_out_and_trading_is_reduced_until_a_person_resumes(
    program: Program,
) -> None:
    poison = die_at(program, None)
    assert program.value("deskvigil_engine_recovered_poison_record") == 0
    die_at(program, poison)
    program.until(lambda: program.value("deskvigil_engine_recovered_poison_record") == poison, "the record is left out")
    program.until(lambda: program.value("deskvigil_engine_trading_state") == 1, "only what reduces is sent")
    is_told(program, "poison", f"journal record {poison} killed the engine twice")
    is_told(program, "trading", "trading REDUCING")
