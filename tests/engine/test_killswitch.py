"""The kill switch: each scope loses its own orders and nobody else's, and every one is accounted for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine import deskarrays
from engine.control import OPERATOR, THROTTLE, Cause, TradingControl, key_of
from engine.desk import TradingDesk
from engine.figures import load_market
from engine.gates import MAX_CLIENTS, STRATEGIES, TradingState
from engine.market import SyntheticFeed
from engine.options import EngineOptions, GateOptions, ParentOptions
from engine.publisher import Publisher
from engine.synthetic import SyntheticMarket
from metrics.errors import DeskvigilError

ORIGIN_NS = 1 << 60
SECOND = 1_000_000_000
OPTIONS = EngineOptions(parents=ParentOptions(shortest_s=1.0, longest_s=3.0, period_s=5.0))
HALT = Cause(TradingState.HALTED, "anna", "drill", 1)


class Bench:
    """A desk that has traded for a while, and its control."""

    def __init__(self, folder: Path, options: EngineOptions = OPTIONS) -> None:
        market = SyntheticFeed(SyntheticMarket(load_market(), seed=5))
        self.symbols = tuple(row.symbol for row in market.instruments)
        self.desk = TradingDesk(options, market, Publisher(folder / "engine.block", market.instruments, {}))
        self.control = TradingControl(folder / "state.json", self.symbols)
        self.desk.start_session(ORIGIN_NS, 0)
        self.now_ns = ORIGIN_NS

    def play(self, seconds: float) -> None:
        until_ns = self.now_ns + round(seconds * SECOND)
        while self.now_ns < until_ns:
            self.now_ns += SECOND // 10
            self.desk.step(self.now_ns)

    def halt(self, scope: str):
        self.control.restrict(key_of(OPERATOR, scope), HALT)
        return self.desk.apply(self.control)

    def resting(self) -> dict[str, int]:
        scopes = (*self.symbols, *(f"strategy:{name}" for name in STRATEGIES), "client:house", "all")
        return {scope: self.desk.resting_orders(scope) for scope in scopes}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    while bench.desk.resting_orders("strategy:parents") == 0:
        bench.play(0.1)
    return bench


def test_halting_everything_leaves_nothing_and_names_everybody(bench: Bench) -> None:
    before = bench.resting()
    done = bench.halt("all")
    assert done.orders == before["all"] == sum(done.by_instrument.values()) > 10
    assert done.by_instrument == {symbol: before[symbol] for symbol in bench.symbols if before[symbol]}
    assert done.by_strategy == {"maker": before["strategy:maker"], "parents": before["strategy:parents"]}
    assert done.by_client == {"house": before["all"]}
    assert done.unattributed == 0
    assert set(bench.resting().values()) == {0}
    bench.play(2.0)
    assert bench.desk.resting_orders("all") == 0


@pytest.mark.parametrize(("name", "other"), [("maker", "parents"), ("parents", "maker")])
def test_one_strategy_is_halted_and_the_other_trades_on(bench: Bench, name: str, other: str) -> None:
    before = bench.resting()
    done = bench.halt(f"strategy:{name}")
    assert done.by_strategy == {name: before[f"strategy:{name}"]}
    after = bench.resting()
    assert after[f"strategy:{name}"] == 0
    assert after[f"strategy:{other}"] == before[f"strategy:{other}"] > 0
    rejected = bench.desk.flow().orders.sum()
    bench.play(6.0)
    assert bench.desk.resting_orders(f"strategy:{name}") == 0
    assert bench.desk.flow().orders.sum() > rejected, "the other one goes on"
    bench.control.resume(f"strategy:{name}")
    bench.desk.apply(bench.control)
    bench.play(6.0)
    assert bench.desk.resting_orders("strategy:maker") > 0


def test_one_instrument_is_halted_by_itself(bench: Bench) -> None:
    symbol = bench.symbols[3]
    before = bench.resting()
    done = bench.halt(symbol)
    assert done.by_instrument == {symbol: before[symbol]}
    assert bench.desk.resting_orders("all") == before["all"] - before[symbol]


def test_halting_the_houses_client_index_stops_its_own_strategies_only_by_that_name(bench: Bench) -> None:
    assert bench.halt("client:acme").orders == 0
    assert bench.desk.resting_orders("all") > 0
    assert bench.halt("client:house").unattributed == 0
    assert bench.desk.resting_orders("all") == 0


def test_a_client_that_was_halted_before_it_came_is_halted_when_it_comes(bench: Bench) -> None:
    bench.halt("client:acme")
    gates = bench.desk.arrays[0].gates
    acme, other = bench.desk.client("acme"), bench.desk.client("other")
    assert bench.desk.client("acme") == acme != other
    assert gates.states[1, [acme, other]].tolist() == [TradingState.HALTED, TradingState.ACTIVE]
    for number in range(MAX_CLIENTS - 3):
        bench.desk.client(f"client {number}")
    with pytest.raises(DeskvigilError, match="one too many"):
        bench.desk.client("the last straw")


def test_an_own_order_that_nobody_knows_any_more_is_found_cancelled_and_reported(bench: Bench) -> None:
    own = bench.desk.arrays[0].own
    i, place = (own[:, :, deskarrays.ID] != 0).nonzero()
    own[i[0], place[0], deskarrays.ID] = 0
    before = bench.desk.resting_orders("all")
    done = bench.halt("all")
    assert done.orders == before
    assert done.unattributed == 1
    assert sum(done.by_strategy.values()) == before - 1
    assert bench.desk.resting_orders("all") == 0


def test_a_strategy_that_repeats_itself_is_off_until_a_person_switches_it_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, replace(OPTIONS, gates=GateOptions(max_repeats=1)))
    while "strategy:parents" not in bench.desk.latched():
        bench.play(0.1)
    begun = bench.desk.flow().orders.copy()
    for scope in bench.desk.latched():
        bench.control.restrict(key_of(THROTTLE, scope), HALT)
    bench.desk.apply(bench.control)
    assert bench.desk.resting_orders("strategy:parents") == 0
    bench.play(10.0)
    assert bench.desk.flow().orders[1] == begun[1]
    bench.control.resume()
    bench.desk.unlatch(bench.desk.latched())
    bench.desk.apply(bench.control)
    bench.play(10.0)
    assert bench.desk.flow().orders[1] > begun[1]


def test_figures_of_exposure_follow_the_books(bench: Bench) -> None:
    bench.play(5.0)
    gauges = bench.desk.gauges(bench.now_ns)
    assert gauges["exposure_worst_usd"] >= gauges["exposure_gross_usd"] > 0
    assert gauges["exposure_working_usd"] > 0
