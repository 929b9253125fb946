"""A client and a live engine process: answers, halts, an engine that stops or dies, and the example in the docs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.mailbox import What
from engine.options import EngineOptions, GateOptions
from engine.session import Answer, OrderSession, SessionError
from metrics.paths import RuntimePaths
from tests.engine.house import House
from tests.engine.test_runner import HALT, Probe, running, wait_for

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = EngineOptions(gates=GateOptions(max_messages_per_s=1e6, message_burst=100_000))


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile what an engine's first order would wait for: a client's patience is shorter than that."""
    house = House(tmp_path_factory.mktemp("warm"))
    house.serve_one()
    house.close()


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[RuntimePaths]:
    paths = RuntimePaths(tmp_path)
    yield paths
    for file in paths.block_dir.glob("*"):
        file.unlink()
    paths.block_dir.rmdir()


def opened(paths: RuntimePaths, probe: Probe, client: str = "desk-a") -> tuple[OrderSession, str, float]:
    """A session, an instrument that trades, and a price far below its mid."""
    wait_for(lambda: probe.total("events_total") > 1000)
    session = OrderSession.open(paths, client)
    instrument = session.instruments[0]
    mid = probe.value("mid_usd", symbol=instrument.symbol)
    return session, instrument.symbol, round(mid * 0.98 / instrument.tick_size_usd) * instrument.tick_size_usd


def until(session: OrderSession, what: What, order: int) -> list[Answer]:
    """Everything up to an answer."""
    got: list[Answer] = []
    while not any(a.what is what and a.order == order for a in got):
        some = session.wait(20.0)
        assert some, f"no {what.name}; there were {got}"
        got += some
    return got


def test_orders_of_a_client_are_worked_counted_and_halted(paths: RuntimePaths) -> None:
    with running(OPTIONS, paths) as (probe, _):
        session, symbol, low = opened(paths, probe)
        with session:
            order = session.send(symbol, "buy", 1, low)
            until(session, What.ACK, order)
            bought = session.send(symbol, "buy", 2, kind="market")
            got = until(session, What.FILL, bought)
            assert all(a.price_usd > low for a in got if a.what is What.FILL)
            wait_for(lambda: probe.value("orders_submitted_total", strategy="client") == 2.0)
            assert probe.value("client_sessions") == 1.0
            snapshot = probe.snapshot()
            assert snapshot is not None
            fills = snapshot.tables["fills"]
            assert 2 in fills["strategy"]
            assert probe.client.send(HALT)["ok"]
            (cancel,) = [a for a in until(session, What.CANCEL, order) if a.what is What.CANCEL]
            assert cancel.reason == "trading_state"
            late = session.send(symbol, "buy", 1, low)
            (reject,) = until(session, What.REJECT, late)
            assert reject.reason == "halted"
        wait_for(lambda: probe.value("client_sessions") == 0.0)


def test_an_engine_that_stops_cancels_and_says_so(paths: RuntimePaths) -> None:
    with running(OPTIONS, paths) as (probe, process):
        session, symbol, low = opened(paths, probe)
        order = session.send(symbol, "buy", 1, low)
        until(session, What.ACK, order)
        os.kill(process.pid, signal.SIGTERM)
        (cancel,) = until(session, What.CANCEL, order)
        assert cancel.reason == "shutdown"
        with pytest.raises(SessionError, match="ended"):
            session.wait(20.0)
        process.join(60)
        assert process.exitcode == 0
        session.close()
        assert not paths.order_socket.exists()


def test_an_engine_that_is_killed_is_noticed_and_its_successor_takes_the_client_back(paths: RuntimePaths) -> None:
    with running(OPTIONS, paths) as (probe, process):
        session, symbol, low = opened(paths, probe)
        until(session, What.ACK, session.send(symbol, "buy", 1, low))
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(SessionError, match="ended"):
            session.wait(20.0)
        session.close()
    with running(OPTIONS, paths) as (probe, _):
        session, symbol, low = opened(paths, probe)
        with session:
            until(session, What.ACK, session.send(symbol, "buy", 1, low))


def test_threads_share_a_session_with_a_live_engine(paths: RuntimePaths) -> None:
    with running(OPTIONS, paths) as (probe, _):
        session, symbol, low = opened(paths, probe)
        with session:
            sent: list[int] = []

            def send() -> None:
                for _ in range(50):
                    sent.append(session.send(symbol, "buy", 1, low))

            threads = [threading.Thread(target=send) for _ in range(64)]
            for thread in threads:
                thread.start()
            told: list[int] = []
            while len(told) < 64 * 50:
                some = session.wait(20.0)
                assert some
                told += [a.order for a in some if a.what in (What.ACK, What.REJECT)]
            for thread in threads:
                thread.join()
            assert sorted(told) == sorted(sent) == list(range(1, 64 * 50 + 1))
        wait_for(lambda: probe.value("client_sessions") == 0.0)


def test_the_example_in_the_documents_runs(paths: RuntimePaths) -> None:
    text = (ROOT / "docs" / "ENGINE.md").read_text()
    match = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert match is not None
    code = match[1].replace('Path("var")', f"Path({str(paths.data_dir)!r})")
    assert code != match[1]
    with running(OPTIONS, paths) as (probe, _):
        wait_for(lambda: probe.total("events_total") > 1000)
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        said = done.stdout.split("\n")
        assert said[0].startswith("ACK 10.0")
        assert said[1].startswith("FILL")
