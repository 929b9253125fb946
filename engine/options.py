"""Options of the engine process; the defaults are what ships."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from engine.live.options import LiveOptions

# The limits that each instrument has for itself, in the order of their columns (see engine.gates).
INSTRUMENT_LIMITS = (
    "collar_ratio", "period_collar_ratio", "max_order_qty", "max_order_usd", "max_position_usd", "max_working_usd",
    "max_period_qty", "max_period_usd", "stale_after_s",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """Limits checked before every order; 0 means "missing", and a missing limit blocks. docs/ENGINE.md explains each gate.

    Each instrument's: collar_ratio, largest distance of an order's price from mid;
    period_collar_ratio: how far above the lowest mid of the last collar_period_s a buy may be priced,
    or below the highest a sell; stale_after_s: market data older than this blocks; max_order_usd,
    max_order_qty; max_position_usd: the position plus the worst case of what already works;
    max_working_usd: buys and sells at work; max_period_usd, max_period_qty: sent within
    volume_period_s. Quantities are in units (shares, contracts, coins), whatever an instrument's lot
    is. symbols: other values for one instrument, by symbol and name of the limit.
    The book's: max_var_usd, the risk process's value at risk; above it, or while there is none or only one older than
    max_var_age_s, an order must reduce its position. 0 means no such limit here, the one limit that may be missing.
    The desk's: max_working_total_usd and max_gross_usd over all instruments; max_identical orders of
    the same terms within identical_within_s; max_repeats orders for the same parent order within
    repeat_within_s, one more latches its strategy off. Each strategy's: max_messages_per_s and
    message_burst, a token bucket over new orders; a cancel is never throttled.

    What the engine watches for itself, and is then REDUCING until somebody resumes it: a session
    that loses max_loss_usd or falls max_drawdown_usd below its best; of one strategy, more than
    max_reject_ratio of its orders of the last watch_s refused, or more than max_output_ratio sent for
    each parent order at work. raise_ratio: at run time a limit may be raised to this multiple of what is set here.
    """

    collar_ratio: Annotated[float, Ge(0), Le(1)] = 0.05
    period_collar_ratio: Annotated[float, Ge(0), Le(1)] = 0.05
    max_order_usd: Annotated[float, Ge(0)] = 250_000.0
    max_order_qty: Annotated[float, Ge(0)] = 100_000.0
    max_position_usd: Annotated[float, Ge(0)] = 1_000_000.0
    max_working_usd: Annotated[float, Ge(0)] = 500_000.0
    max_period_usd: Annotated[float, Ge(0)] = 2_000_000.0
    max_period_qty: Annotated[float, Ge(0)] = 2_000_000.0
    stale_after_s: Annotated[float, Ge(0), Le(3600)] = 60.0
    symbols: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    max_working_total_usd: Annotated[float, Ge(0)] = 5_000_000.0
    max_gross_usd: Annotated[float, Ge(0)] = 5_000_000.0
    max_var_usd: Annotated[float, Ge(0)] = 0.0
    max_var_age_s: Annotated[float, Gt(0), Le(3600)] = 2.0
    max_identical: Annotated[int, Ge(0)] = 5
    max_repeats: Annotated[int, Ge(0)] = 50
    max_messages_per_s: Annotated[float, Ge(0), Le(1e9)] = 100.0
    message_burst: Annotated[int, Ge(0), Le(1_000_000_000)] = 100
    collar_period_s: Annotated[float, Ge(1), Le(86_400)] = 300.0
    volume_period_s: Annotated[float, Ge(0.1), Le(86_400)] = 10.0
    identical_within_s: Annotated[float, Ge(0.001), Le(3600)] = 1.0
    repeat_within_s: Annotated[float, Ge(0.001), Le(3600)] = 1.0
    max_loss_usd: Annotated[float, Ge(0)] = 50_000.0
    max_drawdown_usd: Annotated[float, Ge(0)] = 50_000.0
    max_reject_ratio: Annotated[float, Ge(0), Le(1)] = 0.5
    max_output_ratio: Annotated[float, Ge(0)] = 20.0
    watch_s: Annotated[float, Ge(1), Le(3600)] = 10.0
    raise_ratio: Annotated[float, Ge(1), Le(1000)] = 2.0

    def __post_init__(self) -> None:
        for symbol, limits in self.symbols.items():
            for name, value in limits.items():
                if name not in INSTRUMENT_LIMITS:
                    raise ValueError(f"{symbol}: {name} is not one of {', '.join(INSTRUMENT_LIMITS)}")
                if not value >= 0.0:
                    raise ValueError(f"{symbol}: {name} must not be negative, it is {value}")


@dataclass(frozen=True, kw_only=True)
class MakerOptions:
    """The market maker: one bid and one ask per instrument, leaning against its own inventory.

    order_usd: value of one quote. max_inventory_usd: on this side of it no further quote is placed.
    skew_spreads: how far both quotes move at full inventory, in spreads (a tick at least);
    edge_ticks: how far behind the touch an unskewed quote stands. requote_s: at most one requote
    a side in this time.
    """

    enabled: bool = True
    order_usd: Annotated[float, Gt(0)] = 2_500.0
    max_inventory_usd: Annotated[float, Gt(0)] = 50_000.0
    skew_spreads: Annotated[float, Ge(0), Le(100)] = 1.0
    edge_ticks: Annotated[int, Ge(0), Le(1000)] = 0
    requote_s: Annotated[float, Ge(0), Le(60)] = 0.5


@dataclass(frozen=True, kw_only=True)
class ParentOptions:
    """Parent orders: buy or sell a quantity over a while, alternating per instrument.

    order_usd: value of one parent. Parents last from shortest_s (each instrument's first) to
    longest_s; every period_s each instrument gets one, buying and selling in turn. algo works them
    ("mix": each algorithm in turn); control_share of them are worked with plain market orders
    instead, as the control group that the algorithm is compared with. No parent trades beyond
    limit_ratio from its arrival mid.

    A resting child stands at the touch, or improve_ticks inside a spread that is more than twice as
    wide, and follows a better touch at most every follow_s. A crossing child goes no further than
    reach_ratio from mid. What is unfilled at the end crosses, again and again for grace_s.

    slices: of twap and vwap. look_s: how often pov and peg look. pov_rate: the share of the others'
    volume that pov keeps up with by crossing, pov_cap the one that it does not pass by resting.
    peg_patience, peg_urgency: what crossing may cost, in usual half-spreads, at the start, and how
    much more at the end; peg_hold: pressure its way at which the peg rests nothing;
    peg_negligible_bps: a half-spread that it always pays (engine/algos/peg.py).
    """

    enabled: bool = True
    order_usd: Annotated[float, Gt(0)] = 10_000.0
    shortest_s: Annotated[float, Ge(0.1), Le(3600)] = 8.0
    longest_s: Annotated[float, Ge(0.1), Le(3600)] = 30.0
    algo: Literal["peg", "twap", "vwap", "pov", "market", "mix"] = "peg"
    control_share: Annotated[float, Ge(0), Le(1)] = 0.1
    limit_ratio: Annotated[float, Gt(0), Le(1)] = 0.01
    slices: Annotated[int, Ge(1), Le(100)] = 2
    look_s: Annotated[float, Ge(0.01), Le(60)] = 0.5
    pov_rate: Annotated[float, Gt(0), Le(1)] = 0.1
    pov_cap: Annotated[float, Gt(0), Le(1)] = 0.3
    peg_patience: Annotated[float, Ge(0), Le(100)] = 0.05
    peg_urgency: Annotated[float, Ge(0), Le(100)] = 0.3
    peg_hold: Annotated[float, Ge(0), Le(1)] = 0.9
    peg_negligible_bps: Annotated[float, Ge(0), Le(100)] = 0.1
    improve_ticks: Annotated[int, Ge(0), Le(1000)] = 1
    follow_s: Annotated[float, Ge(0), Le(60)] = 0.2
    period_s: Annotated[float, Ge(0.1), Le(86_400)] = 32.0
    first_after_s: Annotated[float, Ge(0), Le(3600)] = 0.3
    reach_ratio: Annotated[float, Ge(0), Le(1)] = 0.01
    grace_s: Annotated[float, Ge(0), Le(60)] = 1.0


@dataclass(frozen=True, kw_only=True)
class EntryOptions:
    """Order entry for clients: other processes of this user that send orders (docs/ENGINE.md).

    max_orders: clients' orders that may be live at a time, of all; max_orders_per_client: of one.
    Both are refused beyond. enabled: False opens no door at all.
    """

    enabled: bool = True
    max_orders: Annotated[int, Ge(2), Le(1 << 20)] = 16_384
    max_orders_per_client: Annotated[int, Ge(1), Le(1 << 20)] = 4_096


@dataclass(frozen=True, kw_only=True)
class JournalOptions:
    """The journal of everything that changes books and orders, from which a killed engine comes back.

    A killed process loses nothing; a power failure loses at most the last `sync_s`. retain_mb bounds
    the whole journal (the default market writes about 2 GB a day, so this is half a day); with less
    than min_free_mb left on the disk no order is sent. A snapshot is taken every snapshot_s, or
    after snapshot_records: what lies behind it is replayed when the engine starts.
    """

    enabled: bool = True
    sync_s: Annotated[float, Ge(0.001), Le(10)] = 0.05
    segment_mb: Annotated[int, Ge(1), Le(1024)] = 16
    retain_mb: Annotated[int, Ge(32), Le(1 << 20)] = 1024
    min_free_mb: Annotated[int, Ge(0), Le(1 << 20)] = 64
    snapshot_s: Annotated[float, Ge(0.1), Le(86_400)] = 30.0
    snapshot_records: Annotated[int, Ge(1000), Le(100_000_000)] = 250_000


@dataclass(frozen=True, kw_only=True)
class BreakerOptions:
    """One circuit breaker: after `failures` in a row it is open for open_s, then one probe decides (docs/ENGINE.md)."""

    failures: Annotated[int, Ge(1), Le(1_000_000)] = 3
    open_s: Annotated[float, Ge(0.05), Le(86_400)] = 30.0


@dataclass(frozen=True, kw_only=True)
class BreakersOptions:
    """The engine's four circuit breakers: market data, decisions, the order path, risk."""

    market_data: BreakerOptions = field(default_factory=BreakerOptions)
    decisions: BreakerOptions = field(default_factory=BreakerOptions)
    orders: BreakerOptions = field(default_factory=lambda: BreakerOptions(failures=2, open_s=120.0))
    risk: BreakerOptions = field(default_factory=lambda: BreakerOptions(failures=3, open_s=10.0))


@dataclass(frozen=True, kw_only=True)
class PressureOptions:
    """When the engine enters DEGRADED, and leaves it (docs/ENGINE.md, "Degraded").

    enter_cpu_ratio, of the machine or of the engine's own core, as the mean of enter_s; or the memory of all our
    processes together at memory_limit_mb for memory_s. It leaves where CPU's mean of leave_s is below
    leave_cpu_ratio and memory has been below leave_memory_ratio of its limit as long. shed_after_s: still under
    pressure from its own core or memory this long after entering, it withdraws its quotes too.
    """

    enabled: bool = True
    enter_cpu_ratio: Annotated[float, Gt(0), Le(1)] = 0.9
    leave_cpu_ratio: Annotated[float, Gt(0), Le(1)] = 0.8
    enter_s: Annotated[float, Ge(0), Le(3600)] = 30.0
    leave_s: Annotated[float, Ge(0), Le(3600)] = 30.0
    memory_limit_mb: Annotated[int, Ge(1), Le(1 << 30)] = 8192
    memory_s: Annotated[float, Ge(0), Le(3600)] = 10.0
    leave_memory_ratio: Annotated[float, Gt(0), Le(1)] = 0.9
    shed_after_s: Annotated[float, Ge(0), Le(3600)] = 30.0


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What the engine trades on, and how.

    tape: a recording to play in a loop; live: a venue's public feed; neither means the synthetic market
    drawn from `seed`.
    speed: engine seconds per wall second. console_timeout_s: without a sign of life from the
    console for this long the engine goes to REDUCING. late_after_s: an event applied later than
    this after its due time counts as late; rebase_after_s: lag at which the timeline moves to now.
    hang_after_s: a heartbeat older than this makes the supervisor restart the engine.
    Fees of a fill: bps of its value (negative: a rebate) plus fee_per_unit_usd a share, coin or
    contract, at least fee_least_usd.
    """

    tape: Path | None = None
    speed: Annotated[float, Gt(0), Le(1000)] = 1.0
    seed: Annotated[int, Ge(0), Le(2**32 - 1)] = 1
    publish_hz: Annotated[float, Ge(20), Le(200)] = 25.0
    console_timeout_s: Annotated[float, Gt(0), Le(3600)] = 5.0
    late_after_s: Annotated[float, Gt(0), Le(60)] = 0.01
    rebase_after_s: Annotated[float, Gt(0), Le(600)] = 2.0
    hang_after_s: Annotated[float, Ge(0.2), Le(600)] = 0.7
    maker_fee_bps: Annotated[float, Ge(-100), Le(100)] = 0.0
    taker_fee_bps: Annotated[float, Ge(-100), Le(100)] = 0.0
    fee_per_unit_usd: Annotated[float, Ge(-1000), Le(1000)] = 0.0
    fee_least_usd: Annotated[float, Ge(0), Le(1e6)] = 0.0
    gates: GateOptions = field(default_factory=GateOptions)
    maker: MakerOptions = field(default_factory=MakerOptions)
    parents: ParentOptions = field(default_factory=ParentOptions)
    entry: EntryOptions = field(default_factory=EntryOptions)
    journal: JournalOptions = field(default_factory=JournalOptions)
    breakers: BreakersOptions = field(default_factory=BreakersOptions)
    pressure: PressureOptions = field(default_factory=PressureOptions)
    live: LiveOptions = field(default_factory=LiveOptions)

    def __post_init__(self) -> None:
        if self.live.venue and self.tape is not None:
            raise ValueError("either a recording (tape) or a live market (live), not both")
        if self.live.venue and self.speed != 1.0:
            raise ValueError(f"a live market has a speed of 1, not {self.speed:g}")
