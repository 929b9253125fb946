"""Options of the engine process; the defaults are what ships."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt, Le


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """Limits checked before every order. Each one applies to every instrument; 0 means "missing", and a missing limit blocks.

    collar_ratio: largest distance of an order's price from mid. max_position_usd bounds the position
    plus the worst case of what already works. max_messages_per_s and burst: a token bucket over
    new orders; a cancel is never throttled. stale_after_s: market data older than this blocks.
    max_loss_usd: a session that loses this much is put into REDUCING until somebody resumes it.
    """

    collar_ratio: Annotated[float, Ge(0), Le(1)] = 0.05
    max_order_usd: Annotated[float, Ge(0)] = 250_000.0
    max_order_lots: Annotated[int, Ge(0)] = 100_000
    max_position_usd: Annotated[float, Ge(0)] = 1_000_000.0
    max_messages_per_s: Annotated[float, Ge(0), Le(1e6)] = 100.0
    message_burst: Annotated[int, Ge(0), Le(100_000)] = 100
    stale_after_s: Annotated[float, Ge(0), Le(3600)] = 60.0
    max_loss_usd: Annotated[float, Ge(0)] = 50_000.0


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
    """Parent orders: buy or sell a quantity over a short while, alternating per instrument.

    order_usd: value of one parent. Parents last from shortest_s (each instrument's first) to
    longest_s, cut into `slices`. A slice rests at the touch, or improve_ticks inside a spread that
    is more than twice as wide, follows a better touch at most every follow_s, and what is unfilled
    at its end crosses the spread, no further than reach_ratio from mid. Every period_s each
    instrument gets one, buying and selling in turn.
    """

    enabled: bool = True
    order_usd: Annotated[float, Gt(0)] = 10_000.0
    shortest_s: Annotated[float, Ge(0.1), Le(3600)] = 4.0
    longest_s: Annotated[float, Ge(0.1), Le(3600)] = 12.0
    slices: Annotated[int, Ge(1), Le(100)] = 2
    improve_ticks: Annotated[int, Ge(0), Le(1000)] = 1
    follow_s: Annotated[float, Ge(0), Le(60)] = 0.2
    period_s: Annotated[float, Ge(0.1), Le(86_400)] = 20.0
    first_after_s: Annotated[float, Ge(0), Le(3600)] = 0.3
    reach_ratio: Annotated[float, Ge(0), Le(1)] = 0.01


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
class EngineOptions:
    """What the engine trades on, and how.

    tape: a recording to play in a loop; none means the synthetic market drawn from `seed`.
    speed: engine seconds per wall second. console_timeout_s: without a sign of life from the
    console for this long the engine goes to REDUCING. late_after_s: an event applied later than
    this after its due time counts as late; rebase_after_s: lag at which the timeline moves to now.
    hang_after_s: a heartbeat older than this makes the supervisor restart the engine.
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
    gates: GateOptions = field(default_factory=GateOptions)
    maker: MakerOptions = field(default_factory=MakerOptions)
    parents: ParentOptions = field(default_factory=ParentOptions)
    journal: JournalOptions = field(default_factory=JournalOptions)
