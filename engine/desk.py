"""TradingDesk: one market, its books, our orders and account; a plain object around the step kernel."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine import account as acc
from engine import counters as at
from engine import entry, killswitch, layout, orders, step, strategy
from engine.account import Account
from engine.blotter import FAULTS, TAKEN, live_orders, make_blotter
from engine.book import Books, last_trade_price, make_books, order_qty, reset
from engine.control import TradingControl
from engine.events import EventArray, empty_events
from engine.executions import Executions
from engine.figures import load_volume_curve
from engine.gates import (
    BUCKET_TOKENS,
    CLIENT_SCOPE,
    GROSS_USD,
    MAX_CLIENTS,
    STRATEGIES,
    STRATEGY_SCOPE,
    WORKING_USD,
    TradingState,
    begin,
    go_on,
    make_gates,
)
from engine.histogram import BUCKETS, EDGES_NS, MAX_NS
from engine.journal import (
    BUSY,
    CLOCK,
    DIGEST,
    FILLS,
    GAP,
    MARKET,
    SEQUENCE,
    SESSION,
    SETTLE,
    STATES,
    JournalArray,
    as_words,
    no_journal,
    note,
)
from engine.killswitch import Cancelled
from engine.layout import CAPACITY
from engine.lend import lend
from engine.limits import Limits
from engine.livemarket import LiveMarket
from engine.mailbox import Why, depths, make_sessions
from engine.market import Market
from engine.marketmark import MarketMark
from engine.options import EngineOptions
from engine.orders import Desk
from engine.publisher import Gauges, Publisher
from engine.reapply import reapply
from engine.recorder import LONGEST
from engine.settlement import Settlement, settle
from engine.timeline import ORIGIN_ENGINE, ORIGIN_MONOTONIC
from engine.watch import Flow
from metrics.errors import DeskvigilError
from metrics.frame import IntArray
from resources.pages import touch

NS = 1_000_000_000
HOUR_NS = 3600 * NS
# What a snapshot leaves out: settings, what the process counts since its start, the writers of records, clients'
# orders (they are cancelled after a recovery: nobody is there to be told), and the journal itself.
_NOT_STATE = frozenset(
    ("gates", "settings", "fees", "units", "counts", "sums", "latencies", "latency_sums", "volumes", "fills",
     "fills_written", "requests", "journal", "journal_head", "executions", "dropcopy", "stages", "slowest", "finished",
     "finished_written", "signal", "volume_curve", "blotter", "working", "sessions", "books", "order_events",
     "order_events_written")
)  # fmt: skip
_COUNTED = (
    "counts", "sums", "latencies", "latency_sums", "volumes", "fills", "fills_written", "stages", "slowest", "finished",
    "finished_written", "order_events", "order_events_written",
)  # fmt: skip
_MARKET = "market."
STEPS = 2  # calls of the step kernel in one `step`: what is due, and what of the newly taken events is due
LOOKAHEAD_NS = NS // 4  # wall time for which events are generated ahead
_NO_EVENTS = empty_events(0)
_NO_EVENTS.flags.writeable = False


class TradingDesk:
    """Trades on one market. Time is handed in: `now_ns` is monotonic, engine time follows at `speed`.

    The publisher lends the arrays that kernels write directly (histograms, ring of fills).
    """

    def __init__(
        self, options: EngineOptions, market: Market, publisher: Publisher, executions_dir: Path | None = None
    ) -> None:
        """executions_dir: where fills are recorded from `begin_run` on; without it they are not kept."""
        n = len(market.instruments)
        units = np.array([[row.tick_size_usd, row.lot_size] for row in market.instruments])
        self._options = options
        self._market = market
        words, head = no_journal()
        self._live = market if isinstance(market, LiveMarket) else None
        self._account = Account.empty(units[:, 0] * units[:, 1])
        self._executions_dir = executions_dir
        self.executions = Executions(None, market.instruments, 0)
        self._books = make_books(n, max_orders=market.max_orders, level_book=market.level_book)
        self._copy: IntArray | None = None  # of the books' words, for snapshots
        self._mark: MarketMark | None = None
        self._desk = Desk(
            own=np.zeros((n, orders.PLACES, orders.COLUMNS), dtype=np.int64),
            parents=np.zeros((n, strategy.PARENTS), dtype=np.int64),
            arrival=np.zeros(n),
            account=self._account.rows,
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
            clockwork=np.zeros(orders.CLOCKWORK, dtype=np.int64),
            requests=np.zeros((orders.MAX_REQUESTS, 6), dtype=np.int64),
            ledger=self._account.ledger,
            executions=self.executions.own.words,
            dropcopy=self.executions.copy.words,
            stages=publisher.stages,
            slowest=publisher.slowest,
            finished=publisher.parents,
            finished_written=publisher.parents_written,
            arrival_spread=np.full(n, np.nan),
            usual_spread=np.full(n, np.nan),
            signal=np.full(n, np.nan),
            volume_curve=load_volume_curve() if self._is_a_day(market) else np.array([0.0, 1.0]),
            session=np.zeros(2, dtype=np.int64),
            blotter=make_blotter(n, 1 << (options.entry.max_orders - 1).bit_length()),
            working=np.zeros((n, 2), dtype=np.int64),
            sessions=make_sessions(),
            journal=words,
            journal_head=head,
            order_events=publisher.orders.events,
            order_events_written=publisher.orders.events_written,
            books=self._books,
        )
        self._table = lend(self._desk)
        self._symbols = tuple(row.symbol for row in market.instruments)
        self._clients = ["house"]
        self._client_states: dict[str, TradingState] = {}
        self._found = np.zeros((int(self._books.words[CAPACITY]), killswitch.FOUND), dtype=np.int64)
        self.limits = Limits(options.gates, self._symbols, units[:, 1].tolist(), self._desk.gates)
        self._timeline = np.zeros(2, dtype=np.int64)
        self._late_ns = round(options.late_after_s * NS)
        self._rebase_ns = round(options.rebase_after_s * NS)
        self._events = _NO_EVENTS
        self._cursor = 0
        self._known_until_ns = 0  # every event before this has been taken from the market
        self._session_wall_ns = 0
        self._settled_usd = 0.0
        self.settlements: list[Settlement] = []
        self.settled_again: list[Settlement] = []  # by `replay`, oldest first: their lines may never have been written
        self.is_settled = False  # the session has been settled, and no other has begun
        self._served_ns = 0  # engine time of the last request served: the books' time must not fall behind it
        self._stumbled_at = (-1, -1)  # instrument and number of the parent whose timer raised last
        self.sessions = 0

    @property
    def arrays(self) -> tuple[Desk, Books]:
        """What kernels work on: for those who send orders of their own through the gates."""
        return self._desk, self._books

    def touch(self) -> None:
        """Have the books and all other arrays in memory."""
        for array in (self._books.words, *self._desk):
            if isinstance(array, np.ndarray):
                touch(array)

    @property
    def pnl_usd(self) -> float:
        """P&L of the running session after fees, as of the last `gauges`."""
        return float(self._account.totals[acc.T_PNL])

    @property
    def counts(self) -> IntArray:
        """What the step kernel has counted, int64 (counters.COUNTS,): live, not a copy."""
        return self._desk.counts

    def _is_a_day(self, market: Market) -> bool:
        """Whether volume follows the day: in a tape of minutes and in a market that never closes any time is as likely."""
        return self._live is None and market.end_ns - market.start_ns >= HOUR_NS

    def start_session(self, now_ns: int, wall_ns: int) -> None:
        """Begin a session: its first instant is now, parents are planned anew; counters go on."""
        market, desk = self._market, self._desk
        if self._live is not None:
            self._live.begin(now_ns)
        self._note(SESSION, market.start_ns, self.sessions + 1, wall_ns)
        if market.starts_empty or self.sessions == 0:
            reset(self._books)
            desk.spread[:] = desk.account[:, acc.MARK] = np.nan
            desk.status[:, orders.VENUE_HALTED] = 0
            desk.status[:, orders.LAST_EVENT_NS] = -1
            desk.status[:, orders.CROSSED_NS] = 0
        self.sessions += 1
        self.is_settled = False
        self.executions.begin_session(self.sessions)
        self._session_wall_ns = wall_ns
        self._timeline[:] = now_ns, market.start_ns
        desk.session[:] = market.start_ns, market.end_ns
        self._events, self._cursor, self._known_until_ns = _NO_EVENTS, 0, market.start_ns
        self._served_ns = market.start_ns
        desk.own[:, :, orders.SENT_NS] = orders.NO_ORDER_NS
        desk.parents[:] = strategy.schedule_parents(
            self._options, market.instruments, market.start_ns, self._options.seed + self.sessions
        )
        desk.maker_lots[:] = 0.0
        begin(desk.gates, market.start_ns)
        desk.clockwork[orders.LATEST_NS] = market.start_ns

    def end_session(self, wall_ns: int = 0) -> float:
        """Cancel own orders, close all positions at the mark, settle; returns the session's P&L in USD.

        What each instrument came to lies in `settlements` until the next session ends.
        """
        self.cancel_all(Why.SESSION_END)
        self._note(SETTLE, self._latest_ns, self.sessions, wall_ns)
        return self._settle(wall_ns)

    def _settle(self, wall_ns: int) -> float:
        instruments, books = self._market.instruments, self._books
        self.settlements = settle(
            self._account,
            instruments,
            [not np.isnan(spread) for spread in self._desk.spread],
            [int(last_trade_price(books, i)) for i in range(len(instruments))],
            self.executions.copy.totals(),
            run_ns=self.executions.run_ns,
            session=self.sessions,
            t_ns=wall_ns,
            engine_ns=self._latest_ns,
        )
        self.is_settled = True
        settled_usd = sum(record.pnl_usd for record in self.settlements)
        self._settled_usd += settled_usd
        return settled_usd

    def step(self, now_ns: int) -> int:
        """Do everything that is due; returns the monotonic time at which something is due again."""
        desk = self._desk
        desk.counts[at.WAKEUPS] += 1
        self._rebase_if_far_behind(now_ns)
        engine_ns = self.engine_ns(now_ns)
        for _ in range(STEPS):  # in a rush too, commands, heartbeat and journal must get their turn
            if self._cursor == len(self._events):
                self._refill(now_ns)
            # A timer must not run before events of the market that are earlier but not taken yet.
            until_ns = min(engine_ns, self._known_until_ns)
            self._cursor = step.step(
                self._table,
                self._events,
                self._cursor,
                self._timeline,
                self._options.speed,
                self._late_ns,
                until_ns,
            )
            if self.executions.roll():
                self._exchange(executions=self.executions.own.words, dropcopy=self.executions.copy.words)
                desk = self._desk
            if self._cursor < len(self._events) or until_ns == engine_ns or until_ns >= self._market.end_ns:
                break
        due_ns = int(desk.clockwork[orders.NEXT_DUE_NS])
        if self._cursor == len(self._events) and self._live is None:  # a live market rings
            due_ns = min(due_ns, self._due_ns(min(self._known_until_ns, self._market.end_ns)))
        return due_ns

    def stumbled(self, error: Exception) -> str:
        """`step` raised: go on behind what raised, and say in words what it was; raises `error` again where that cannot be.

        A decision that raised is left out: nothing of it had been sent. A parent order whose timer raises
        a second time is ended with what it has. Where the books themselves were being changed nobody
        knows what they hold: the engine ends, and comes back from its journal, which leaves a record out
        that did so twice.
        """
        clockwork = self._desk.clockwork
        stage, event, i = (int(clockwork[k]) for k in (orders.STAGE, orders.AT_EVENT, orders.AT_INSTRUMENT))
        if stage != orders.DECIDING:
            raise error
        clockwork[orders.STAGE] = orders.RESTING
        self._desk.journal_head[BUSY] = 0
        symbol = self._symbols[i]
        if event >= 0:
            self._cursor = event + 1
            return f"the decision on event {event} of {symbol}: {error}"
        parent = self._desk.parents[i]
        number = int(parent[strategy.P_COUNT])
        if self._stumbled_at != (i, number):
            self._stumbled_at = i, number
            return f"the timer of parent {number} of {symbol}: {error}"
        if parent[strategy.P_STATE] != strategy.IDLE:
            step.close_parent(self._table, i, self._latest_ns)
        else:
            parent[strategy.P_NEXT_NS] += int(self._desk.settings[i, strategy.PARENT_PERIOD_NS])
        return f"parent {number} of {symbol} is ended, its timer raised twice: {error}"

    @property
    def is_resting(self) -> bool:
        """Whether no kernel was under way when something raised."""
        return int(self._desk.clockwork[orders.STAGE]) == orders.RESTING

    def withdraw_quotes(self) -> None:
        """Cancel the maker's quotes."""
        step.withdraw_quotes(self._table, self._latest_ns)

    def drop_caches(self) -> None:
        """Let go of memory that can be made again."""
        self._copy = None

    def session_is_over(self, now_ns: int) -> bool:
        """Whether the market's session has ended and all of its events have been applied."""
        over = self.engine_ns(now_ns) >= self._market.end_ns
        return over and self._cursor == len(self._events) and self._known_until_ns >= self._market.end_ns

    def set_states(self, states: list[TradingState]) -> int:
        """Put each instrument's trading state in force; cancels what it does not allow and returns how many."""
        changed = np.flatnonzero(self._desk.status[:, orders.STATE] != states)
        self._desk.status[:, orders.STATE] = states
        for i in changed:
            self._note(STATES, self._latest_ns, instrument=int(i), kind=int(states[i]))
        return killswitch.cancel_own(self._table, killswitch.NOT_ALLOWED, int(Why.TRADING_STATE), self._found)

    def apply(self, control: TradingControl) -> Cancelled:
        """Put the states of every scope in force; cancels what they do not allow, and says whose orders these were."""
        gates = self._desk.gates
        self._client_states = control.restricted("client")
        restricted = control.restricted("strategy")
        for s, name in enumerate(STRATEGIES):
            gates.states[STRATEGY_SCOPE, s] = restricted.get(name, TradingState.ACTIVE)
        for c, name in enumerate(self._clients):
            gates.states[CLIENT_SCOPE, c] = self._client_states.get(name, TradingState.ACTIVE)
        count = self.set_states(control.states())
        return killswitch.report(self._found[:count], self._symbols, self._clients)

    def client(self, name: str) -> int:
        """The index of a client, a new one where the name is new: its state holds from its first order on.

        DeskvigilError where there is no room for one more.
        """
        if name not in self._clients:
            if len(self._clients) == MAX_CLIENTS:
                raise DeskvigilError(f"client {name!r} is one too many: there may be {MAX_CLIENTS - 1}")
            state = self._client_states.get(name, TradingState.ACTIVE)
            self._desk.gates.states[CLIENT_SCOPE, len(self._clients)] = state
            self._clients.append(name)
        return self._clients.index(name)

    def latched(self) -> list[str]:
        """The scopes that the repeated-execution throttle has switched off."""
        latched = self._desk.gates.latched
        return [
            *(f"strategy:{name}" for s, name in enumerate(STRATEGIES) if latched[STRATEGY_SCOPE, s]),
            *(f"client:{name}" for c, name in enumerate(self._clients) if latched[CLIENT_SCOPE, c]),
        ]

    def unlatch(self, scopes: list[str]) -> None:
        """Switch scopes on again that the throttle has switched off: a person said so."""
        latched = self._desk.gates.latched
        for s, name in enumerate(STRATEGIES):
            if f"strategy:{name}" in scopes:
                latched[STRATEGY_SCOPE, s] = 0
        for c, name in enumerate(self._clients):
            if f"client:{name}" in scopes:
                latched[CLIENT_SCOPE, c] = 0

    def flow(self) -> Flow:
        """What was sent and refused so far, for `Watch`."""
        counts = self._desk.counts
        n = len(STRATEGIES)
        return Flow(
            orders=counts[at.MESSAGES_OF : at.MESSAGES_OF + n].copy(),
            refused=counts[at.REJECTED_OF : at.REJECTED_OF + n].copy(),
            intents=self._desk.gates.intents_begun[:n].copy(),
        )

    def cancel_all(self, why: Why = Why.SHUTDOWN) -> int:
        """Cancel every own order, clients' included; returns how many there were."""
        return killswitch.cancel_own(self._table, killswitch.EVERYTHING, int(why), self._found)

    def cancel_order(self, order_id: int) -> int:
        """Cancel one own order, by its (negative) id; returns 1, or 0 where the books hold none of that id."""
        return killswitch.cancel_own(self._table, order_id, int(Why.OPERATOR), self._found)

    def working_orders(self) -> int:
        """Own orders in the book, clients' included."""
        return int(np.count_nonzero(self._desk.own[:, :, orders.ID])) + live_orders(self._desk.blotter)

    def resting_orders(self, scope: str) -> int:
        """Own orders that the books themselves hold for a scope: what a halt must bring to 0."""
        count = killswitch.cancel_own(self._table, killswitch.NOTHING, 0, self._found)
        return killswitch.in_scope(self._found[:count], scope, self._symbols, self._clients)

    # Clients' orders (engine/entry.py): called by the gateway between two steps.

    @property
    def client_table(self) -> IntArray:
        """The table of clients' sessions (engine/mailbox.py)."""
        return self._desk.sessions

    def serve_clients(self, now_ns: int) -> int:
        """Take requests that wait, at most entry.BATCH; returns how many."""
        engine_ns = self.engine_ns(now_ns)
        # Behind time: an order joins the events where they stand, so that the books' time never falls.
        behind = self._desk.clockwork[orders.NEXT_DUE_NS] <= now_ns
        t_ns = max(self._latest_ns, self._served_ns) if behind else engine_ns
        self._served_ns = t_ns
        return int(
            entry.work(
                self._table, entry.SERVE, entry.NO_CLIENT, int(Why.REQUESTED), t_ns, engine_ns, entry.BATCH
            )
        )  # fmt: skip

    def forget_client(self, session: int, cancel: bool, lost: int) -> int:
        """A client has gone and lost so many answers: cancel its orders, or let them work on; returns how many."""
        self._desk.counts[at.ANSWERS_LOST] += lost
        if cancel:
            t_ns = max(self._latest_ns, self._served_ns)
            why = int(Why.DISCONNECTED)
            return int(entry.work(self._table, entry.SWEEP, session, why, t_ns, t_ns, 0))
        return int(entry.disown_orders(self._desk.blotter, session))

    def resting_lots(self, i: int, order_id: int) -> int:
        """What the book says rests of one order: to reconcile our own view with."""
        return int(order_qty(self._books, i, order_id))

    def engine_ns(self, now_ns: int) -> int:
        """Engine time at a monotonic instant."""
        origin = int(self._timeline[ORIGIN_ENGINE])
        return origin + int((now_ns - int(self._timeline[ORIGIN_MONOTONIC])) * self._options.speed)

    def gauges(self, now_ns: int) -> dict[str, float]:
        """The desk's part of `Gauges`. The worst lag is that of the time since the last call."""
        desk, totals = self._desk, self._account.totals
        acc.total(self._account.rows, totals)
        engine_ns = self.engine_ns(now_ns)
        lag_ns, desk.clockwork[orders.WORST_LAG_NS] = int(desk.clockwork[orders.WORST_LAG_NS]), 0
        requests, answers = depths(desk.sessions)
        return {
            "session_total": float(self.sessions),
            "session_start_time_seconds": self._session_wall_ns / NS,
            "session_clock_seconds": (engine_ns - self._market.start_ns) / NS,
            "feed_age_seconds": max(engine_ns - self._latest_ns, 0) / NS,
            "event_lag_seconds": lag_ns / NS,
            "events_ahead": float(len(self._events) - self._cursor),
            "client_requests_waiting": float(requests),
            "client_answers_waiting": float(answers),
            "working_orders": float(self.working_orders()),
            "exposure_gross_usd": float(totals[acc.T_GROSS]),
            "exposure_working_usd": float(desk.gates.total_exposure[WORKING_USD]),
            "exposure_worst_usd": float(desk.gates.total_exposure[GROSS_USD]),
            "exposure_net_usd": float(totals[acc.T_NET]),
            "pnl_realised_usd": float(totals[acc.T_REALISED]),
            "pnl_unrealised_usd": float(totals[acc.T_UNREALISED]),
            "fees_usd": float(totals[acc.T_FEES]),
            "pnl_usd": float(totals[acc.T_PNL]),
            "drawdown_usd": float(totals[acc.T_DRAWDOWN]),
            "settled_pnl_usd": self._settled_usd,
            "account_error_usd": self._account.error_usd(),
            "executions_unrecorded_total": float(self.executions.own.lost + self.executions.copy.lost),
        }

    def publish(self, publisher: Publisher, wall_ns: int, gauges: Gauges, commands: tuple[int, ...]) -> None:
        """Hand the desk's arrays to the publisher."""
        desk, gates = self._desk, self._desk.gates
        publisher.strategies[0] = gates.buckets[: len(STRATEGIES), BUCKET_TOKENS]
        publisher.strategies[1] = gates.states[STRATEGY_SCOPE, : len(STRATEGIES)]
        publisher.states[:] = desk.status[:, orders.STATE]
        publisher.publish(wall_ns, desk.counts, desk.sums, gauges, commands, desk.account, desk.spread, desk.volumes)
        # Ages go on while nothing happens; the timeline may be one that a test hands in.
        engine_ns = max(self._latest_ns, self.engine_ns(time.monotonic_ns()))
        publisher.orders.publish(wall_ns, engine_ns, desk, self._books, self._clients)

    @property
    def drawdown_usd(self) -> float:
        """Distance of the session's P&L from its best, as of the last `gauges`."""
        return float(self._account.totals[acc.T_DRAWDOWN])

    def status(self) -> dict[str, Any]:
        """Session, working orders and positions in words and plain numbers."""
        rows = self._account.rows
        lots = [row.lot_size for row in self._market.instruments]
        positions = {
            row.symbol: float(rows[i, acc.POSITION]) * lots[i] for i, row in enumerate(self._market.instruments)
        }
        return {
            "session": self.sessions,
            "working_orders": self.working_orders(),
            "positions": positions,
            "pnl_usd": self.pnl_usd,
            "settled": {record.symbol: record.pnl_usd for record in self.settlements},
        }

    # --- journal, snapshots, recovery ---------------------------------------------------------------

    def attach(self, words: IntArray, head: IntArray, mark: MarketMark | None = None) -> None:
        """Write what happens from now on into this journal; the running digest of fills goes on in its head."""
        self._mark = mark
        old = self._desk.journal_head
        if head is not old:
            head[DIGEST], head[FILLS] = old[DIGEST], old[FILLS]
        self._exchange(journal=words, journal_head=head)

    def _exchange(self, **arrays: Any) -> None:
        """Put other arrays in the place of some; kernels see them from the next call on."""
        self._desk = self._desk._replace(**arrays)
        lend(self._desk, self._table)

    def begin_run(self, run_ns: int) -> None:
        """A life of the books begins, or goes on: executions written from here on are of this run."""
        self.executions.close()
        self.executions = Executions(self._executions_dir, self._market.instruments, run_ns)
        self.executions.begin_session(self.sessions)
        own, copy = self.executions.own.words, self.executions.copy.words
        self._exchange(executions=own, dropcopy=copy)

    def note_clock(self, wall_ns: int) -> None:
        """Write the wall clock, the engine's clock and the digest of all fills into the journal."""
        head = self._desk.journal_head
        self._note(CLOCK, wall_ns, self._latest_ns, int(head[DIGEST]), int(head[FILLS]))

    def empty_books(self) -> IntArray:
        """The words of books like ours to which nothing has happened."""
        market = self._market
        return make_books(len(market.instruments), max_orders=market.max_orders, level_book=market.level_book).words

    def untouched_books(self) -> IntArray:
        """The words of our books themselves, before anything has happened to them; not to be written or kept."""
        if self._books.words[layout.SEQUENCE] != 0:
            raise ValueError("something has happened to these books")
        return self._books.words

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Everything that a recovery needs, copies; that of the books holds until the next call."""
        if self._copy is None:
            self._copy = np.empty_like(self._books.words)
        np.copyto(self._copy, self._books.words)
        head = self._desk.journal_head
        kept = {name: array.copy() for name, array in self._arrays().items()}
        kept |= {_MARKET + name: array for name, array in self._market.state().items()}
        numbers = (
            self.sessions, self._session_wall_ns, self._cursor, self._known_until_ns, head[DIGEST], head[FILLS],
            self.executions.run_ns, self._desk.blotter[TAKEN],
        )  # fmt: skip
        return kept | {
            "books": self._copy,
            "totals": self._account.totals.copy(),
            "venue": self.executions.copy.totals(),
            "numbers": np.array(numbers, dtype=np.int64),
            "settled": np.array([self._settled_usd]),
        }

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that make up the state, beside the books and the totals."""
        kept = {name: array for name, array in self._desk._asdict().items() if name not in _NOT_STATE}
        return kept | {"gates": self._desk.gates.words}

    def fits(self, state: Mapping[str, npt.NDArray[Any]]) -> bool:
        """Whether a `state` is of a desk of the same shape as this one."""
        mine = self._arrays() | {"books": self._books.words, "totals": self._account.totals}
        mine["venue"] = self.executions.copy.totals()
        return all(name in state and state[name].shape == array.shape for name, array in mine.items())

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go to a `state` that fits; time stands still until `go_on`."""
        for name, array in self._arrays().items():
            if name != "gates":
                array[...] = state[name]
        self._desk.clockwork[orders.STAGE :] = 0  # what was under way when the copy was made is not now
        go_on(self._desk.gates, state["gates"])
        self._books.words[:] = state["books"]
        self._account.totals[:] = state["totals"]
        numbers = map(int, state["numbers"])
        self.sessions, self._session_wall_ns, cursor, self._known_until_ns, digest, fills, run_ns, taken = numbers
        self._desk.blotter[TAKEN] = taken
        self.begin_run(run_ns)
        self.executions.copy.put_totals(state["venue"])
        self._settled_usd = float(state["settled"][0])
        self._desk.journal_head[DIGEST], self._desk.journal_head[FILLS] = digest, fills
        market = {name.removeprefix(_MARKET): array for name, array in state.items() if name.startswith(_MARKET)}
        self._events, self._cursor = _read_only(self._market.restore(market)), cursor

    def market_state(self) -> dict[str, npt.NDArray[Any]]:
        """The market's own, see `Market.state`."""
        return self._market.state()

    def restore_market(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Put the market where it gave events none of which has been applied; ValueError where it is another's."""
        self._events, self._cursor = _read_only(self._market.restore(state)), 0
        self._known_until_ns = int(self._events["t_ns"][-1]) if len(self._events) else self._market.start_ns

    def replay(self, records: JournalArray, skip: IntArray, head: IntArray, follow: bool = True) -> int:
        """Carry out journal records (dtype RECORD) without counting them; returns how many.

        Ends early before a GAP, or where the market's own next events are not those recorded; without
        `follow` the market stays where it is. skip, head: see `engine.reapply`.
        """
        desk = self._desk
        faults = int(desk.blotter[FAULTS])  # clients' orders are in no blotter any more
        # np.zeros and not zeros_like, which writes every page of arrays of which little is used.
        counted = {name: getattr(desk, name) for name in _COUNTED}
        scratch: dict[str, Any] = {name: np.zeros(array.shape, array.dtype) for name, array in counted.items()}
        table = lend(desk._replace(**scratch))
        words = as_words(records)
        words.flags.writeable = False
        at = 0
        while at < len(records):
            stop = len(records)
            if follow:
                what = records["what"][at:]
                ends = np.flatnonzero((what == SESSION) | (what == SETTLE) | (what == GAP))
                stop = at + int(ends[0]) if len(ends) else stop
                if not self._follow(records[at:stop]):
                    return at
            stop = reapply(table, words[:stop], at, skip, head)
            desk.blotter[FAULTS] = faults
            if stop == len(records) or records["what"][stop] == GAP:
                return stop
            record = records[stop]
            if record["what"] == SESSION:
                if self.sessions > 0:
                    self._market.restart()
                self.start_session(0, int(record["price"]))
            elif record["what"] == SETTLE:
                self._settle(int(record["price"]))
                self.settled_again += self.settlements
            at = stop + 1
        return at

    def go_on(self, now_ns: int) -> int:
        """After a recovery: let time run on from the last event, and close interrupted parent orders; returns how many.

        Clients' orders are cancelled: the processes that sent them have lost their sessions with the engine.
        """
        if self._live is not None:
            self._live.begin(now_ns)
        self._timeline[:] = now_ns, max(self._latest_ns, self._market.start_ns)
        at_work = np.flatnonzero(self._desk.parents[:, strategy.P_STATE] != strategy.IDLE)
        for i in at_work:
            step.close_parent(self._table, int(i), self._latest_ns)
        killswitch.cancel_own(self._table, killswitch.OF_CLIENTS, int(Why.DISCONNECTED), self._found)
        return len(at_work)

    def _follow(self, records: JournalArray) -> bool:
        """Move the market on by the market events among some records; False where it has others (a live one always)."""
        if self._live is not None:
            return True
        events = records[records["what"] == MARKET]
        done = 0
        while done < len(events):
            if self._cursor == len(self._events):
                self._events, self._cursor = _read_only(self._market.take(self._market.end_ns)), 0
                if not len(self._events):
                    return False
                self._known_until_ns = int(self._events["t_ns"][-1])
            count = min(len(events) - done, len(self._events) - self._cursor)
            ours, theirs = self._events[self._cursor : self._cursor + count], events[done : done + count]
            if any((ours[name] != theirs[name]).any() for name in ("t_ns", "order_id", "price", "qty")):
                return False
            self._cursor += count
            done += count
        return True

    def _note(
        self, what: int, t_ns: int, order_id: int = 0, price: int = 0, qty: int = 0, instrument: int = 0, kind: int = 0
    ) -> None:
        note(self._desk.journal, self._desk.journal_head, what, t_ns, order_id, price, qty, instrument, kind, 0)

    @property
    def _latest_ns(self) -> int:
        return int(self._desk.clockwork[orders.LATEST_NS])

    def _due_ns(self, engine_ns: int) -> int:
        distance = (engine_ns - int(self._timeline[ORIGIN_ENGINE])) / self._options.speed
        return int(self._timeline[ORIGIN_MONOTONIC]) + int(distance)

    def _refill(self, now_ns: int) -> None:
        """Take the market's next events: those of a little while ahead, or more where it has them."""
        until_ns = self.engine_ns(now_ns + (LOOKAHEAD_NS if self._live is None else 0))
        if self._known_until_ns < until_ns and self._known_until_ns < self._market.end_ns:
            events = self._market.take(until_ns)
            if self._live is not None:  # what came while the engine's time went on is taken as of now
                events["t_ns"] = np.maximum(events["t_ns"], max(self._known_until_ns, self._served_ns))
            events = _read_only(events)
            self._events, self._cursor = events, 0
            if self._mark is not None:
                self._mark.save(int(self._desk.journal_head[SEQUENCE]), self._market.state())
            self._known_until_ns = int(events["t_ns"][-1]) if len(events) else until_ns

    def _rebase_if_far_behind(self, now_ns: int) -> None:
        """After a standstill (a stopped process, a starved machine) go on from where we are, without a rush.

        The events that were due in it are due anew, but their wait so far is recorded: a standstill
        that moved the timeline and left no trace in the latencies would be coordinated omission.
        """
        if self._cursor == len(self._events) or self._live is not None:  # a live market waits for nobody
            return
        behind_ns = now_ns - self._due_ns(int(self._events["t_ns"][self._cursor]))
        if behind_ns > self._rebase_ns:
            self._record_standstill(now_ns, behind_ns)
            self._timeline[ORIGIN_MONOTONIC] += behind_ns
            self._desk.counts[at.REBASES] += 1

    def _record_standstill(self, now_ns: int, behind_ns: int) -> None:
        """Record how long each event that is due by now has waited already; the first one the whole standstill."""
        desk, options = self._desk, self._options
        due = self._events["t_ns"][self._cursor :]
        due = due[: max(int(np.searchsorted(due, self.engine_ns(now_ns), side="right")), 1)]
        waits_ns = np.maximum(behind_ns - ((due - due[0]) / options.speed).astype(np.int64), 0)
        which = at.LATENCY_MARKET_DATA
        bucket = np.searchsorted(EDGES_NS, np.minimum(waits_ns, MAX_NS), side="right") - 1
        desk.latencies[which] += np.bincount(bucket, minlength=BUCKETS)
        desk.latency_sums[which] += float(waits_ns.sum())
        desk.stages[LONGEST, which] = max(int(desk.stages[LONGEST, which]), behind_ns)
        desk.clockwork[orders.WORST_LAG_NS] = max(int(desk.clockwork[orders.WORST_LAG_NS]), behind_ns)


def _read_only(events: EventArray) -> EventArray:
    """As a tape's events are: kernels are compiled for one of the two."""
    view = events.view()
    view.flags.writeable = False
    return view
