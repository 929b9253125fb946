"""backup, restore, fsck and export as commands: what they print, their exit statuses, and that a program starts on what came back."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import app
from metrics.clock import ManualClock
from metrics.frame import Frame
from metrics.paths import RuntimePaths
from metrics.series import Schema, Series, make_labels
from storage.options import StorageOptions
from storage.store import Store
from tests.app.program import Program

START_S = 1_700_000_000
HOST = Schema("host", tuple(Series("cpu_ratio", make_labels({"core": str(i)})) for i in range(4)))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """The data folder of a store that is open, as a running program's is: 120 s of four series."""
    clock = ManualClock(START_S * 10**9)
    store = Store.open(StorageOptions(seal_minutes=1), RuntimePaths(tmp_path / "data"), clock)
    for second in range(120):
        store.live.append(Frame(HOST, clock.now_ns(), np.arange(4.0) + second))
        clock.advance(10**9)
        store.archive.tick(clock.now_ns())
    store.seal()
    yield tmp_path / "data"
    store.close()


def command(data: Path, *arguments: str) -> int:
    return app.main([arguments[0], "--data-dir", str(data), *arguments[1:]])


def test_backup_and_restore(running: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (running / "trading_state.json").write_text("{}")
    assert command(running, "backup", str(tmp_path / "b")) == 0
    out, progress = capsys.readouterr()
    assert "trading_state.json" in out
    assert "100 %" in progress
    assert command(running, "backup", str(tmp_path / "b")) == 1
    assert "overwrites nothing" in capsys.readouterr().err
    assert command(running, "restore", str(tmp_path / "b"), "--force") == 1
    assert "in use" in capsys.readouterr().err
    assert command(tmp_path / "new", "restore", str(tmp_path / "b")) == 0
    assert command(tmp_path / "new", "restore", str(tmp_path / "b")) == 1
    assert "--force" in capsys.readouterr().err
    assert command(tmp_path / "new", "restore", str(tmp_path / "b"), "--force") == 0
    assert "replaced-" in capsys.readouterr().out
    assert command(tmp_path / "new", "fsck", "--json") == 0
    assert json.loads(capsys.readouterr().out)["counts"]["series"] == 4


def test_fsck_tells_problems_by_exit_status_and_json(
    running: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(running, "backup", str(tmp_path / "b")) == 0
    assert command(tmp_path / "new", "restore", str(tmp_path / "b")) == 0
    with closing(sqlite3.connect(tmp_path / "new" / "deskvigil.sqlite")) as connection, connection:
        connection.execute("DELETE FROM block WHERE id = (SELECT min(id) FROM block)")
    capsys.readouterr()
    assert command(tmp_path / "new", "fsck") == 1
    assert "block that does not exist" in capsys.readouterr().out
    assert command(tmp_path / "new", "fsck", "--quick", "--json") == 1
    problem = json.loads(capsys.readouterr().out)["problems"][0]
    assert (problem["kind"], problem["repairable"]) == ("orphan", True)
    assert command(tmp_path / "new", "fsck", "--repair") == 0
    assert "mended" in capsys.readouterr().err
    assert command(running, "fsck") == 0
    assert command(tmp_path / "nowhere", "fsck") == 1
    assert "there is no database" in capsys.readouterr().err


def exported(capfdbinary: pytest.CaptureFixture[bytes], data: Path, *arguments: str) -> list[dict[str, str]]:
    assert command(data, "export", *arguments) == 0
    return list(csv.DictReader(io.StringIO(capfdbinary.readouterr().out.decode(), newline="")))


def test_export_of_a_selector_beside_a_running_store(running: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    rows = exported(
        capfdbinary, running, 'cpu_ratio{core=~"1|3"}', "--from", str(START_S + 10), "--to", str(START_S + 19)
    )
    assert [row["core"] for row in rows] == ["1"] * 10 + ["3"] * 10
    assert [float(row["value"]) for row in rows[:10]] == [11.0 + second for second in range(10)]


def test_export_of_an_expression_at_steps(running: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    rows = exported(
        capfdbinary, running, "sum(cpu_ratio) * 2", "--from", "2023-11-14T22:13:20Z", "--to", str(START_S + 90), "--step", "30s"
    )  # fmt: skip
    assert [float(row["value"]) for row in rows] == [2 * (6.0 + 4 * second) for second in (0, 30, 60, 90)]


def test_export_into_a_file_is_whole_or_not_there(
    running: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.parquet"
    arguments = ("export", "cpu_ratio", "--from", "2023-01-01", "--format", "parquet", "-o", str(out))
    assert command(running, *arguments) == 0
    assert out.read_bytes()[:4] == out.read_bytes()[-4:] == b"PAR1"
    assert command(running, *arguments) == 1
    assert "exists already" in capsys.readouterr().err
    nameless = ("export", "sum(cpu_ratio)", "--from", str(START_S), "--to", str(START_S + 9), "--step", "1")
    assert command(running, *nameless, "--format", "openmetrics", "-o", str(tmp_path / "y")) == 1
    assert "label_replace" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "x.parquet"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rate(cpu_ratio[1m])", "--from", "now-1h"), "--step"),
        (("cpu_ratio{", "--from", "now-1h"), "parse error"),
        (("cpu_ratio", "--from", "yesterday"), "no time"),
        (("cpu_ratio", "--from", "now", "--to", "now-1h"), "before the start"),
        (("cpu_ratio", "--from", "now-1h", "--step", "often"), "no duration"),
        (("cpu_ratio", "--from", "now-1h", "--step", "0s"), "positive"),
    ],
)
def test_what_is_wrong_with_an_export_is_told(
    running: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert command(running, "export", *arguments) == 1
    out, told = capsys.readouterr()
    assert words in told
    assert out == ""


@pytest.mark.prove
def test_a_backup_of_the_running_program_restores_to_one_that_starts(tmp_path: Path) -> None:
    ticks = 'count_over_time(deskvigil_collector_ticks_total{collector="host"}[1h])'
    with Program(tmp_path / "data") as program:
        program.wait_until_up()
        before = program.until(lambda: (n := program.value(ticks)) and n >= 5 and n, "five ticks")
        newest_ms = program.until(lambda: program.value("timestamp(deskvigil_host_cpus)"), "a newest tick")
        assert command(tmp_path / "data", "backup", str(tmp_path / "b")) == 0
        assert command(tmp_path / "data", "fsck") == 0
        assert command(tmp_path / "new", "restore", str(tmp_path / "b")) == 0
    with Program(tmp_path / "new") as program:
        program.wait_until_up()
        assert program.value(ticks) >= before - 2  # the newest two may not have been committed yet
        assert program.get("/api/v1/query", query="deskvigil_host_cpus", time=str(newest_ms))["data"]["result"]
