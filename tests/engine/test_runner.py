"""The engine as a process of its own: it trades, obeys, survives, and stops cleanly."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from collectors.engine import EngineCollector
from engine.commandlog import read_log
from engine.commands import CommandClient, CommandError
from engine.executions import DROP_COPY_FOLDER, OWN_FOLDER
from engine.options import EngineOptions, ParentOptions
from engine.recordtail import RecordTail
from engine.runner import run_engine
from engine.telemetry import BlockReader, Snapshot
from metrics.catalogue import series
from metrics.errors import TransientError
from metrics.paths import RuntimePaths

OPTIONS = EngineOptions(speed=4.0, parents=ParentOptions(shortest_s=1.0, longest_s=2.0, period_s=4.0))
HALT = {"command": "halt", "scope": "all", "who": "anna", "reason": "drill"}
RESUME = {"command": "resume", "who": "anna", "reason": "drill over"}
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["engine.preload"])  # as the supervisor does: kernels are loaded once
TINY_TAPE = b"ts_ns,order_id,kind,side,price,qty\n" + b"".join(
    b"%d,%d,limit,%s,%d,100\n" % (1_000_000_000 + k * 20_000_000, k + 1, side, price)
    for k, (side, price) in enumerate(
        [(b"buy", 1_000_000 - 100 * k) if k % 2 else (b"sell", 1_000_200 + 100 * k) for k in range(40)]
    )
)


def run_grandchild(options: EngineOptions, paths: RuntimePaths) -> None:
    child = multiprocessing.get_context("fork").Process(target=run_engine, args=(options, paths))
    child.start()
    child.join()


def wait_for(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Look until something is so; the engine is another process, there is nothing to wait on."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)


class Probe:
    """Looks at a running engine from outside."""

    def __init__(self, paths: RuntimePaths) -> None:
        self.reader = BlockReader(paths.engine_block)
        self.client = CommandClient(paths.engine_socket, timeout_s=10.0)

    def snapshot(self) -> Snapshot | None:
        try:
            return self.reader.read()
        except TransientError:
            return None

    def value(self, name: str, **labels: str) -> float:
        snapshot = self.snapshot()
        return float("nan") if snapshot is None else snapshot.scalar(series(f"deskvigil_engine_{name}", **labels))

    def total(self, name: str) -> float:
        snapshot = self.snapshot()
        if snapshot is None:
            return float("nan")
        at = [i for i, s in enumerate(snapshot.spec.scalars) if s.name == f"deskvigil_engine_{name}"]
        return float(snapshot.scalars[at].sum())


@contextmanager
def running(options: EngineOptions, paths: RuntimePaths, target=run_engine) -> Iterator[tuple[Probe, object]]:
    """An engine process; killed at the end where it still runs."""
    before = BlockReader(paths.engine_block).heartbeat()
    process = FORKSERVER.Process(target=target, args=(options, paths))
    process.start()
    probe = Probe(paths)
    try:
        wait_for(lambda: probe.reader.heartbeat() not in (None, before) or not process.is_alive(), 150.0)
        yield probe, process
    finally:
        process.kill()
        process.join(60)


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[RuntimePaths]:
    paths = RuntimePaths(tmp_path)
    yield paths
    for file in paths.block_dir.glob("*"):
        file.unlink()
    paths.block_dir.rmdir()


def test_it_trades_quotes_and_finishes_parents_within_bounds(paths: RuntimePaths) -> None:
    with running(OPTIONS, paths) as (probe, _):
        wait_for(lambda: probe.total("parents_finished_total") >= 5 and probe.total("fills_total") >= 5)
        assert probe.value("working_orders") > 0
        assert probe.value("up") != 0
        assert probe.value("trading_state") == 0.0
        assert probe.total("fills_lost_total") == 0
        assert (
            0 < probe.value("parent_filled_value_usd_total") <= probe.value("parent_ordered_value_usd_total") * 1.0001
        )
        assert abs(probe.value("exposure_gross_usd")) < 10 * 75_000
        snapshot = probe.snapshot()
        assert snapshot is not None
        assert len(snapshot.tables["fills"]) >= 5
        assert snapshot.tables["positions"]["instrument"].tolist() == list(
            range(len(snapshot.spec.info["instruments"]))
        )
        assert snapshot.spec.info["simulated_market"] is True


def test_every_key_figure_has_a_value_after_a_few_seconds(paths: RuntimePaths) -> None:
    with running(OPTIONS, paths) as (_, __):
        collector = EngineCollector(paths.engine_block, "engine")

        def missing() -> list[str]:
            frame = collector.collect(time.time_ns())
            return [
                str(s)
                for s, v in zip(frame.schema.series, frame.values, strict=True)
                if s.name.startswith("deskvigil_kpi")
                and np.isnan(v)
                and "client_order" not in str(s)  # no client is there
            ]

        wait_for(lambda: not missing())


def test_a_halt_cancels_every_own_order_before_it_is_acknowledged(paths: RuntimePaths) -> None:
    with running(OPTIONS, paths) as (probe, _):
        wait_for(lambda: probe.value("working_orders") > 4)
        answer = probe.client.send(HALT)
        assert answer["ok"], answer
        assert answer["state"] == "HALTED"
        assert answer["cancelled"] > 0
        assert answer["durable"]
        assert probe.value("working_orders") == 0.0
        assert probe.value("trading_state") == 2.0
        acked = probe.total("orders_acked_total")
        before = probe.value("session_clock_seconds")
        wait_for(lambda: probe.value("session_clock_seconds") > before + 2.0)
        assert probe.total("orders_acked_total") == acked
        assert probe.client.send({"command": "status"})["causes"]["operator"]["who"] == "anna"
        assert probe.client.send(RESUME)["state"] == "ACTIVE"
        wait_for(lambda: probe.value("working_orders") > 4)


def test_one_instrument_may_be_halted_by_itself(paths: RuntimePaths) -> None:
    with running(OPTIONS, paths) as (probe, _):
        wait_for(lambda: probe.value("working_orders") > 10)
        snapshot = probe.snapshot()
        assert snapshot is not None
        symbol = snapshot.spec.info["instruments"][0]
        assert probe.client.send(HALT | {"scope": "NOBODY"})["ok"] is False
        answer = probe.client.send(HALT | {"scope": symbol})
        assert answer["ok"], answer
        assert answer["state"] == "ACTIVE"
        assert answer["cancelled"] in (1, 2, 3)
        assert probe.value("halted_instruments") == 1.0
        assert probe.client.send(RESUME | {"scope": symbol})["lifted"] == [f"operator:{symbol}"]


def test_an_engine_killed_while_halted_comes_back_halted(paths: RuntimePaths) -> None:
    with running(OPTIONS, paths) as (probe, process):
        wait_for(lambda: probe.value("working_orders") > 0)
        probe.client.send(HALT)
        os.kill(process.pid, signal.SIGKILL)
        process.join(60)
        with pytest.raises(CommandError):
            probe.client.send({"command": "ping"})
    with running(OPTIONS, paths) as (probe, _):
        assert probe.client.send({"command": "ping"})["state"] == "HALTED"
        assert probe.value("session_total") == 1.0
        assert probe.total("orders_submitted_total") == 0.0
        assert probe.client.send(RESUME)["state"] == "ACTIVE"


def test_sigterm_cancels_own_orders_publishes_and_ends_well(paths: RuntimePaths) -> None:
    with running(OPTIONS, paths) as (probe, process):
        wait_for(lambda: probe.value("working_orders") > 0)
        os.kill(process.pid, signal.SIGTERM)
        process.join(60)
        assert process.exitcode == 0
        assert probe.value("working_orders") == 0.0
        assert not paths.engine_socket.exists()


def test_without_the_console_it_only_reduces_until_the_console_is_back(paths: RuntimePaths) -> None:
    options = replace(OPTIONS, console_timeout_s=0.5)

    def beat() -> None:
        paths.console_heartbeat.write_bytes(time.time_ns().to_bytes(8, "little"))

    with running(options, paths) as (probe, _):
        assert probe.value("console_seen") == -1.0

        def seen() -> bool:
            beat()
            return probe.value("console_seen") == 1.0

        wait_for(seen)
        wait_for(lambda: probe.value("trading_state") == 1.0)
        assert probe.value("console_seen") == 0.0
        assert probe.client.send({"command": "status"})["causes"]["console"]["who"] == "engine"

        def active() -> bool:
            beat()
            return probe.value("trading_state") == 0.0

        wait_for(active)


def test_it_ends_with_its_parent(paths: RuntimePaths) -> None:
    with running(OPTIONS, paths, target=run_grandchild) as (probe, parent):
        snapshot = probe.snapshot()
        assert snapshot is not None
        assert snapshot.pid != parent.pid
        os.kill(parent.pid, signal.SIGKILL)
        wait_for(lambda: not paths.engine_socket.exists())
        assert probe.value("working_orders") == 0.0


def test_a_recording_is_played_in_a_loop_and_each_session_is_settled(paths: RuntimePaths, tmp_path: Path) -> None:
    tape = tmp_path / "tiny.csv"
    tape.write_bytes(TINY_TAPE)
    with running(replace(OPTIONS, tape=tape, speed=2.0), paths) as (probe, _):
        wait_for(lambda: probe.value("session_total") >= 3.0)
        snapshot = probe.snapshot()
        assert snapshot is not None
        assert snapshot.spec.info["tape"] == "tiny.csv"
        assert probe.value("events_total", kind="limit") >= 80.0
        assert probe.value("session_clock_seconds") < 10.0


def test_a_killed_engine_is_soon_replaced(paths: RuntimePaths) -> None:
    with running(OPTIONS, paths) as (probe, process):
        wait_for(lambda: probe.value("working_orders") > 0)
        os.kill(process.pid, signal.SIGKILL)
        process.join(60)
    with running(OPTIONS, paths) as (probe, _):
        wait_for(lambda: probe.value("working_orders") > 0)
        assert probe.client.send({"command": "ping"})["ok"]


def test_a_killed_engine_leaves_both_records_of_its_fills_whole_and_the_next_goes_on(paths: RuntimePaths) -> None:
    tails = [RecordTail(paths.executions_dir / name) for name in (OWN_FOLDER, DROP_COPY_FOLDER)]
    for life in (1, 2):
        with running(OPTIONS, paths) as (_, process):
            wait_for(lambda: tails[0].end() > 10 * life)  # noqa: B023
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        own, copy = (tail.read(0) for tail in tails)
        fields = [name for name in own.records.dtype.names if name not in ("wall_ns", "checksum")]
        np.testing.assert_array_equal(own.records[fields], copy.records[fields])
        assert own.damaged == copy.damaged == []
        assert len(np.unique(own.records["run"])) == 1  # the recovered engine goes on with the books' life
        np.testing.assert_array_equal(own.records["sequence"], np.arange(1, len(own.records) + 1))
        assert len(np.unique(own.records["execution"])) == len(own.records) >= 10 * life


def test_a_strategy_is_halted_by_its_name_and_stays_so_over_a_restart(paths: RuntimePaths) -> None:
    with running(OPTIONS, paths) as (probe, process):
        wait_for(lambda: probe.value("working_orders") > 10)
        assert probe.client.send(HALT | {"scope": "strategy:nobody"})["ok"] is False
        answer = probe.client.send(HALT | {"scope": "strategy:maker"})
        assert answer["ok"], answer
        assert (answer["state"], answer["scope_state"]) == ("ACTIVE", "HALTED")
        assert answer["by_strategy"] == {"maker": answer["cancelled"]}
        assert answer["by_client"] == {"house": answer["cancelled"]}
        assert (answer["remaining"], answer["unattributed"]) == (0, 0)
        assert probe.value("halted_strategies") == 1.0
        os.kill(process.pid, signal.SIGKILL)
        process.join(60)
    with running(OPTIONS, paths) as (probe, _):
        assert probe.value("halted_strategies") == 1.0
        assert probe.client.send(RESUME | {"who": "engine"})["ok"] is False
        assert probe.client.send(RESUME | {"scope": "strategy:maker"})["lifted"] == ["operator:strategy:maker"]
        wait_for(lambda: probe.value("working_orders") > 10)


def test_a_limit_set_at_run_time_counts_at_once_is_logged_and_survives(paths: RuntimePaths) -> None:
    limit = {"command": "limit", "name": "max_order_usd", "value": 1.0, "who": "anna", "reason": "drill"}
    with running(OPTIONS, paths) as (probe, process):
        wait_for(lambda: probe.value("working_orders") > 0)
        assert "at most" in probe.client.send(limit | {"value": 1e9})["error"]
        answer = probe.client.send(limit)
        assert answer["ok"], answer
        assert (answer["before"], answer["value"]) == (OPTIONS.gates.max_order_usd, 1.0)
        before = probe.value("orders_rejected_total", reason="order_value")
        wait_for(lambda: probe.value("orders_rejected_total", reason="order_value") > before)
        os.kill(process.pid, signal.SIGKILL)
        process.join(60)
    log = read_log(paths.command_log)
    assert log is not None
    assert [(entry.command, entry.who, entry.answer["value"]) for entry in log.entries if entry.command == "limit"] == [
        ("limit", "anna", 1.0)
    ]
    with running(OPTIONS, paths) as (probe, _):
        assert probe.value("limits_changed") == 1.0
        assert probe.client.send({"command": "status"})["limits"][0]["who"] == "anna"
        wait_for(lambda: probe.value("orders_rejected_total", reason="order_value") > 0)
        assert probe.total("orders_acked_total") == 0.0
