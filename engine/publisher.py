"""Publisher: the engine's telemetry block, what is in it and how the engine's state gets there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine import account as acc
from engine.algos.finished import FINISHED
from engine.algos.finished import KEPT as PARENTS_KEPT
from engine.breaker import BREAKERS
from engine.commands import CommandName
from engine.control import MAX_WORDS, Cause
from engine.counters import COUNT_SERIES, HISTOGRAMS, STAGES, SUM_SERIES
from engine.events import Instrument
from engine.gates import STRATEGIES
from engine.orderboard import OrderBoard
from engine.recorder import LONGEST, SLOWEST, SLOWEST_KEPT, STAGE_ROWS, begin_window, cost_s
from engine.telemetry import BlockSpec, BlockWriter, TableSpec
from metrics.catalogue import series
from metrics.frame import FloatArray, IntArray
from metrics.series import Series

FILLS_KEPT = 64
SLOWEST_WINDOW_NS = 60_000_000_000
# One own fill: wall-clock time, engine time, own order id (negative), instrument index, +1 bought or
# -1 sold, 1 where we were the aggressor, 0 maker, 1 parent order or 2 client, USD a unit, units.
FILLS = np.dtype(
    [
        ("t_ns", np.int64),
        ("engine_ns", np.int64),
        ("order_id", np.int64),
        ("price_usd", np.float64),
        ("qty", np.float64),
        ("instrument", np.int32),
        ("side", np.int8),
        ("taker", np.uint8),
        ("strategy", np.uint16),
    ]
)
# One instrument's position: index, signed units, mid in USD (NaN before the first), average price in USD.
POSITIONS = np.dtype([("instrument", np.int32), ("qty", np.float64), ("mark_usd", np.float64), ("avg_usd", np.float64)])

# One cause that restricts trading (see `engine.control`): key, state, since when (wall clock), who and why, in UTF-8.
CAUSES_KEPT = 32
CAUSES = np.dtype(
    [
        ("since_ns", np.int64),
        ("state", np.int64),
        ("key", f"S{MAX_WORDS}"),
        ("who", f"S{MAX_WORDS}"),
        ("reason", f"S{MAX_WORDS}"),
    ]
)


class Gauges(NamedTuple):
    """Numbers of now that are neither counted nor per instrument; each field is `deskvigil_engine_<field>`."""

    session_total: float
    session_start_time_seconds: float
    session_clock_seconds: float
    feed_age_seconds: float
    event_lag_seconds: float
    working_orders: float
    exposure_gross_usd: float
    exposure_working_usd: float
    exposure_worst_usd: float
    exposure_net_usd: float
    pnl_realised_usd: float
    pnl_unrealised_usd: float
    fees_usd: float
    pnl_usd: float
    drawdown_usd: float
    settled_pnl_usd: float
    account_error_usd: float
    executions_unrecorded_total: float
    trading_state: float
    halted_instruments: float
    halted_strategies: float
    halted_clients: float
    throttled: float
    limits_changed: float
    console_seen: float
    commands_refused_total: float
    client_sessions: float
    journal_records_total: float
    journal_undurable_records: float
    journal_lost_records_total: float
    journal_full: float
    journal_snapshot_age_seconds: float
    recovered_records: float
    recovered_parents_closed: float
    recovered_poison_record: float
    recovered_damaged_records: float
    recovery_seconds: float
    poison_total: float
    events_ahead: float
    client_requests_waiting: float
    client_answers_waiting: float
    degraded: float
    pressure_cpu_ratio: float
    pressure_core_ratio: float
    pressure_memory_ratio: float


# Of each circuit breaker, and of each strategy: see engine/fusebox.py and gates.
_PER_BREAKER = ("breaker_state", "breaker_trips_total", "breaker_open_seconds")
_PER_STRATEGY = ("message_tokens", "strategy_state")
_PER_SYMBOL = (
    "position", "mid_usd", "spread_bps", "symbol_pnl_usd", "filled_quantity_total", "market_volume_total", "symbol_state",
)  # fmt: skip


def engine_block_spec(instruments: tuple[Instrument, ...], info: Mapping[str, Any]) -> BlockSpec:
    """The spec of the engine's block: counters, sums, gauges, commands, then each per-symbol metric."""
    scalars: list[Series] = [name for name, _ in (*COUNT_SERIES, *SUM_SERIES)]
    scalars += [series(f"deskvigil_engine_{field}") for field in Gauges._fields]
    scalars += [series("deskvigil_engine_commands_total", command=name.value) for name in CommandName]
    scalars += [series("deskvigil_engine_recorder_cost_seconds", part=part) for part in ("record", "clock")]
    scalars += [series("deskvigil_engine_latency_max_seconds", stage=stage) for stage in STAGES]
    for what in _PER_BREAKER:
        scalars += [series(f"deskvigil_engine_{what}", breaker=name) for name in BREAKERS]
    for what in _PER_STRATEGY:
        scalars += [series(f"deskvigil_engine_{what}", strategy=name) for name in STRATEGIES]
    for what in _PER_SYMBOL:
        scalars += [series(f"deskvigil_engine_{what}", symbol=instrument.symbol) for instrument in instruments]
    return BlockSpec(
        "engine",
        tuple(scalars),
        HISTOGRAMS,
        {
            "fills": TableSpec(FILLS.descr, FILLS_KEPT),
            "positions": TableSpec(POSITIONS.descr, len(instruments)),
            "slowest": TableSpec(SLOWEST.descr, 2 * SLOWEST_KEPT),
            "parents": TableSpec(FINISHED.descr, PARENTS_KEPT),
            "causes": TableSpec(CAUSES.descr, CAUSES_KEPT),
        },
        {"instruments": [instrument.symbol for instrument in instruments], **info},
    )


class Publisher:
    """Copies the engine's state into its block.

    The latency histograms (`latencies`, `latency_sums_ns`), the ring of fills (`fills`) and its
    count (`fills_written`, shape (1,)), the same of finished parents (`parents`, `parents_written`) and
    the slowest orders (`slowest`, int64, two windows of SLOWEST_KEPT rows) are the block's own working
    arrays: kernels write them directly, and so they do `stages` (see recorder). What the loop writes before
    `publish`: `breakers` (rows: state, trips, seconds not closed; fusebox), `strategies` (rows: message
    tokens, trading state), `states` (trading state of each instrument).
    The longest time of a
    stage is that of the running second and the one before it, so that no reader who looks once a
    second misses one. `orders` is the block of the Orders page, beside this one.
    """

    def __init__(
        self, path: Path, instruments: tuple[Instrument, ...], info: Mapping[str, Any], hidden: bool = False
    ) -> None:
        """hidden: both blocks take their places with the first `publish`."""
        self._block = BlockWriter(path, engine_block_spec(instruments, info), hidden)
        self.orders = OrderBoard(path.with_suffix(".orders"), instruments, info, hidden)
        self._tick_usd = np.array([instrument.tick_size_usd for instrument in instruments])
        self._lot = np.array([instrument.lot_size for instrument in instruments])
        self._counts_at = np.array([position for _, position in COUNT_SERIES])
        self._sums_at = np.array([position for _, position in SUM_SERIES])
        scalars = self._block.scalars
        breakers, strategies = (len(_PER_BREAKER), len(BREAKERS)), (len(_PER_STRATEGY), len(STRATEGIES))
        sizes = [len(COUNT_SERIES), len(SUM_SERIES), len(Gauges._fields), len(CommandName), 2, len(STAGES)]
        parts = np.split(scalars, np.cumsum([*sizes, int(np.prod(breakers)), int(np.prod(strategies))]))
        self._counts, self._sums, self._gauges, self._commands, recorder_cost, self._longest, *by_name, symbols = parts
        self.breakers: FloatArray = by_name[0].reshape(breakers)
        self.strategies: FloatArray = by_name[1].reshape(strategies)
        recorder_cost[:] = cost_s()
        self._symbols = symbols.reshape(len(_PER_SYMBOL), len(instruments))
        self.states: FloatArray = self._symbols[6]
        self.latencies: IntArray = self._block.counts
        self.latency_sums_ns: FloatArray = self._block.sums_ns
        self.fills: npt.NDArray[Any] = self._block.tables["fills"].view(FILLS)
        self.fills_written: IntArray = self._block.written[:1]
        self._positions: npt.NDArray[Any] = self._block.tables["positions"].view(POSITIONS)
        self._positions["instrument"] = np.arange(len(instruments))
        self._block.written[1] = len(instruments)
        words = self._block.tables["slowest"].view(np.int64)
        self.slowest: IntArray = words.reshape(2 * SLOWEST_KEPT, len(SLOWEST.names or ()))
        self._block.written[2] = 2 * SLOWEST_KEPT
        self.stages: IntArray = np.zeros((STAGE_ROWS, len(HISTOGRAMS)), dtype=np.int64)
        self._longest_before_ns: IntArray = np.zeros(len(HISTOGRAMS), dtype=np.int64)
        self._second = self._window = 0
        begin_window(self.slowest, self.stages)
        self.parents: npt.NDArray[Any] = self._block.tables["parents"].view(FINISHED)
        self.parents_written: IntArray = self._block.written[3:4]
        self._causes: npt.NDArray[Any] = self._block.tables["causes"].view(CAUSES)
        self._causes_written: IntArray = self._block.written[4:5]
        self._causes_shown: Mapping[str, Cause] = {}

    def touch(self) -> None:
        """Have both blocks in memory."""
        self._block.touch()
        self.orders.touch()

    def show_causes(self, causes: Mapping[str, Cause]) -> None:
        """Put the causes in force into the block with the next `publish`: the strictest, up to CAUSES_KEPT."""
        if causes == self._causes_shown:
            return
        self._causes_shown = dict(causes)
        strictest = sorted(causes.items(), key=lambda item: (-item[1].state, item[1].since_ns))[:CAUSES_KEPT]
        self._causes[:] = 0
        for row, (key, cause) in zip(self._causes, strictest, strict=False):
            words = (_cut(word) for word in (key, cause.who, cause.reason))
            row["since_ns"], row["state"] = cause.since_ns, cause.state
            row["key"], row["who"], row["reason"] = words
        self._causes_written[0] = len(strictest)

    def publish(
        self,
        now_ns: int,
        counts: IntArray,
        sums: FloatArray,
        gauges: Gauges,
        commands: tuple[int, ...],
        rows: FloatArray,
        spread_ticks: FloatArray,
        volumes_lots: FloatArray,
    ) -> None:
        """Make the state of now visible; `now_ns` (wall clock) is the heartbeat.

        rows: the account's, (instruments, COLUMNS); spread_ticks float64 (instruments,), NaN where a side
        is empty; volumes_lots float64 (2, instruments): own filled, and traded between others.
        """
        self._publish_stages(now_ns)
        self._counts[:] = counts[self._counts_at]
        self._sums[:] = sums[self._sums_at]
        self._gauges[:] = gauges
        self._commands[:] = commands
        held, mark, average = rows[:, acc.POSITION], rows[:, acc.MARK], rows[:, acc.AVERAGE]
        unrealised = np.where(held == 0.0, 0.0, held * (mark - average) * rows[:, acc.USD])
        view = self._symbols
        view[0] = held * self._lot
        view[1] = mark * self._tick_usd
        view[2] = spread_ticks / mark * 1e4
        view[3] = rows[:, acc.REALISED] + unrealised - rows[:, acc.FEES]
        view[4:6] = volumes_lots * self._lot
        self._positions["qty"] = view[0]
        self._positions["mark_usd"] = view[1]
        self._positions["avg_usd"] = average * self._tick_usd
        self._block.publish(now_ns)

    def _publish_stages(self, now_ns: int) -> None:
        longest_ns = self.stages[LONGEST]
        second, window = now_ns // 1_000_000_000, now_ns // SLOWEST_WINDOW_NS
        if second != self._second:
            self._second = second
            self._longest_before_ns[:] = longest_ns
            longest_ns[:] = 0
        self._longest[:] = np.maximum(longest_ns, self._longest_before_ns) / 1e9
        if window != self._window:
            if self._window:
                begin_window(self.slowest, self.stages)
            self._window = window


def _cut(words: str) -> bytes:
    """UTF-8 of at most MAX_WORDS bytes, cut between characters."""
    return words.encode()[:MAX_WORDS].decode(errors="ignore").encode()
