"""Desk memory: the arrays of a desk to which nothing has happened."""

from __future__ import annotations

import numpy as np

from engine import account as acc
from engine import counters as at
from engine import deskarrays, strategy
from engine.account import Account
from engine.blotter import make_blotter
from engine.book import Books
from engine.deskarrays import Desk
from engine.executions import Executions
from engine.figures import load_volume_curve
from engine.gates import make_gates
from engine.journal import no_journal
from engine.livemarket import LiveMarket
from engine.mailbox import make_sessions
from engine.market import Market
from engine.options import EngineOptions
from engine.publisher import Publisher
from metrics.frame import FloatArray

HOUR_NS = 3600 * 1_000_000_000


def units_of(market: Market) -> FloatArray:
    """Tick in USD and lot in units of each instrument, float64 (n, 2)."""
    return np.array([[row.tick_size_usd, row.lot_size] for row in market.instruments])


def make_desk(
    options: EngineOptions,
    market: Market,
    publisher: Publisher,
    account: Account,
    executions: Executions,
    books: Books,
) -> Desk:
    """Allocate a desk's arrays; what others own already (histograms, rings, account, records) is taken over."""
    n, units = len(market.instruments), units_of(market)
    words, head = no_journal()
    return Desk(
        own=np.zeros((n, deskarrays.PLACES, deskarrays.COLUMNS), dtype=np.int64),
        parents=np.zeros((n, strategy.PARENTS), dtype=np.int64),
        arrival=np.zeros(n),
        account=account.rows,
        maker_lots=np.zeros(n),
        status=np.zeros((n, 4), dtype=np.int64),
        spread=np.full(n, np.nan),
        gates=make_gates(options.gates, n),
        settings=strategy.settings_of(options, n),
        fees=acc.fees_of(
            units[:, 1],
            options.maker_fee_bps,
            options.taker_fee_bps,
            options.fee_per_unit_usd,
            options.fee_least_usd,
        ),
        units=units,
        counts=at.empty_counts(),
        sums=at.empty_sums(),
        latencies=publisher.latencies,
        latency_sums=publisher.latency_sums_ns,
        volumes=np.zeros((2, n)),
        fills=publisher.fills,
        fills_written=publisher.fills_written,
        clockwork=np.zeros(deskarrays.CLOCKWORK, dtype=np.int64),
        requests=np.zeros((deskarrays.MAX_REQUESTS, 6), dtype=np.int64),
        ledger=account.ledger,
        executions=executions.own.words,
        dropcopy=executions.copy.words,
        stages=publisher.stages,
        slowest=publisher.slowest,
        finished=publisher.parents,
        finished_written=publisher.parents_written,
        arrival_spread=np.full(n, np.nan),
        usual_spread=np.full(n, np.nan),
        signal=np.full(n, np.nan),
        volume_curve=load_volume_curve() if _is_a_day(market) else np.array([0.0, 1.0]),
        session=np.zeros(2, dtype=np.int64),
        blotter=make_blotter(n, 1 << (options.entry.max_orders - 1).bit_length()),
        working=np.zeros((n, 2), dtype=np.int64),
        sessions=make_sessions(),
        journal=words,
        journal_head=head,
        order_events=publisher.orders.events,
        order_events_written=publisher.orders.events_written,
        books=books,
    )


def _is_a_day(market: Market) -> bool:
    """Whether volume follows the day: in a tape of minutes and in a market that never closes any time is as likely."""
    return not isinstance(market, LiveMarket) and market.end_ns - market.start_ns >= HOUR_NS
