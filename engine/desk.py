"""TradingDesk: one market, its books, our orders and account; a plain object around the step kernel."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from engine import account as acc
from engine import counters as at
from engine import deskarrays, entry, killswitch, step, strategy
from engine.attendance import attend
from engine.blotter import FAULTS, live_orders
from engine.book import order_qty, reset
from engine.control import TradingControl
from engine.deskmemory import units_of
from engine.deskstate import DeskState
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
)
from engine.journal import BUSY, GAP, SEQUENCE, SESSION, SETTLE, STATES, JournalArray, as_words
from engine.killswitch import Cancelled
from engine.layout import CAPACITY
from engine.lend import lend
from engine.limits import Limits
from engine.mailbox import Why, depths
from engine.market import Market
from engine.options import EngineOptions
from engine.publisher import Gauges, Publisher
from engine.reapply import reapply
from engine.watch import Flow
from metrics.errors import DeskvigilError
from metrics.frame import IntArray
from resources.pages import touch

NS = 1_000_000_000
_COUNTED = (
    "counts", "sums", "latencies", "latency_sums", "volumes", "fills", "fills_written", "stages", "slowest", "finished",
    "finished_written", "order_events", "order_events_written",
)  # fmt: skip
STEPS = 2  # calls of the step kernel in one `step`: what is due, and what of the newly taken events is due


class TradingDesk(DeskState):
    """Trades on one market. Time is handed in: `now_ns` is monotonic, engine time follows at `speed`.

    The publisher lends the arrays that kernels write directly (histograms, ring of fills).
    """

    def __init__(
        self, options: EngineOptions, market: Market, publisher: Publisher, executions_dir: Path | None = None
    ) -> None:
        """executions_dir: where fills are recorded from `begin_run` on; without it they are not kept."""
        super().__init__(options, market, publisher, executions_dir)
        self._options = options
        self._symbols = tuple(row.symbol for row in market.instruments)
        self._clients = ["house"]
        self._client_states: dict[str, TradingState] = {}
        self._found = np.zeros((int(self._books.words[CAPACITY]), killswitch.FOUND), dtype=np.int64)
        self.limits = Limits(options.gates, self._symbols, units_of(market)[:, 1].tolist(), self._desk.gates)
        self._late_ns = round(options.late_after_s * NS)
        self._stumbled_at = (-1, -1)  # instrument and number of the parent whose timer raised last

    def touch(self) -> None:
        """Have the books and all other arrays in memory."""
        for array in (self._books.words, *self._desk):
            if isinstance(array, np.ndarray):
                touch(array)

    def start_session(self, now_ns: int, wall_ns: int) -> None:
        """Begin a session: its first instant is now, parents are planned anew; counters go on."""
        market, desk = self._market, self._desk
        if self._pace.live is not None:
            self._pace.live.begin(now_ns)
        self._note(SESSION, market.start_ns, self.sessions + 1, wall_ns)
        if market.starts_empty or self.sessions == 0:
            reset(self._books)
            desk.spread[:] = desk.account[:, acc.MARK] = np.nan
            desk.status[:, deskarrays.VENUE_HALTED] = 0
            desk.status[:, deskarrays.LAST_EVENT_NS] = -1
            desk.status[:, deskarrays.CROSSED_NS] = 0
        self.sessions += 1
        self.is_settled = False
        self.executions.begin_session(self.sessions)
        self._session_wall_ns = wall_ns
        self._pace.begin(now_ns)
        desk.session[:] = market.start_ns, market.end_ns
        desk.own[:, :, deskarrays.SENT_NS] = deskarrays.NO_ORDER_NS
        desk.parents[:] = strategy.schedule_parents(
            self._options, market.instruments, market.start_ns, self._options.seed + self.sessions
        )
        desk.maker_lots[:] = 0.0
        begin(desk.gates, market.start_ns)
        desk.clockwork[deskarrays.LATEST_NS] = market.start_ns

    def end_session(self, wall_ns: int = 0) -> float:
        """Cancel own orders, close all positions at the mark, settle; returns the session's P&L in USD.

        What each instrument came to lies in `settlements` until the next session ends.
        """
        self.cancel_all(Why.SESSION_END)
        self._note(SETTLE, self._latest_ns, self.sessions, wall_ns)
        return self._settle(wall_ns)

    def step(self, now_ns: int) -> int:
        """Do everything that is due; returns the monotonic time at which something is due again."""
        desk, pace, market = self._desk, self._pace, self._market
        desk.counts[at.WAKEUPS] += 1
        pace.rebase_if_far_behind(now_ns, desk)
        engine_ns = pace.engine_ns(now_ns)
        for _ in range(STEPS):  # in a rush too, commands, heartbeat and journal must get their turn
            if pace.is_through and pace.refill(now_ns) and self._mark is not None:
                self._mark.save(int(desk.journal_head[SEQUENCE]), market.state())
            # A timer must not run before events of the market that are earlier but not taken yet.
            until_ns = min(engine_ns, pace.known_until_ns)
            pace.cursor = step.step(
                self._table, pace.events, pace.cursor, pace.timeline, pace.speed, self._late_ns, until_ns
            )
            if self.executions.roll():
                self._exchange(executions=self.executions.own.words, dropcopy=self.executions.copy.words)
                desk = self._desk
            if not pace.is_through or until_ns == engine_ns or until_ns >= market.end_ns:
                break
        due_ns = int(desk.clockwork[deskarrays.NEXT_DUE_NS])
        if pace.is_through and pace.live is None:  # a live market rings
            due_ns = min(due_ns, pace.due_ns(min(pace.known_until_ns, market.end_ns)))
        return due_ns

    def stumbled(self, error: Exception) -> str:
        """`step` raised: go on behind what raised, and say in words what it was; raises `error` again where that cannot be.

        A decision that raised is left out: nothing of it had been sent. A parent order whose timer raises
        a second time is ended with what it has. Where the books themselves were being changed nobody
        knows what they hold: the engine ends, and comes back from its journal, which leaves a record out
        that did so twice.
        """
        clockwork = self._desk.clockwork
        stage, event, i = (int(clockwork[k]) for k in (deskarrays.STAGE, deskarrays.AT_EVENT, deskarrays.AT_INSTRUMENT))
        if stage != deskarrays.DECIDING:
            raise error
        clockwork[deskarrays.STAGE] = deskarrays.RESTING
        self._desk.journal_head[BUSY] = 0
        symbol = self._symbols[i]
        if event >= 0:
            self._pace.cursor = event + 1
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
        return int(self._desk.clockwork[deskarrays.STAGE]) == deskarrays.RESTING

    def withdraw_quotes(self) -> None:
        """Cancel the maker's quotes."""
        step.withdraw_quotes(self._table, self._latest_ns)

    def session_is_over(self, now_ns: int) -> bool:
        """Whether the market's session has ended and all of its events have been applied."""
        return self._pace.is_over(now_ns)

    def set_states(self, states: list[TradingState]) -> int:
        """Put each instrument's trading state in force; cancels what it does not allow and returns how many."""
        changed = np.flatnonzero(self._desk.status[:, deskarrays.STATE] != states)
        self._desk.status[:, deskarrays.STATE] = states
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
        return int(np.count_nonzero(self._desk.own[:, :, deskarrays.ID])) + live_orders(self._desk.blotter)

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
        behind = self._desk.clockwork[deskarrays.NEXT_DUE_NS] <= now_ns
        t_ns = max(self._latest_ns, self._pace.served_ns) if behind else engine_ns
        self._pace.served_ns = t_ns
        return int(
            entry.work(
                self._table, entry.SERVE, entry.NO_CLIENT, int(Why.REQUESTED), t_ns, engine_ns, entry.BATCH
            )
        )  # fmt: skip

    def attend(self, files: IntArray, bells: IntArray, until_ns: int, linger_ns: int) -> int:
        """Sleep, and take the requests that end it at once; see `engine.attendance.attend`."""
        pace = self._pace
        stamp = np.array([max(self._latest_ns, pace.served_ns)])
        woken = attend(self._table, pace.timeline, float(pace.speed), stamp, files, bells, until_ns, linger_ns)
        pace.served_ns = int(stamp[0])
        return int(woken)

    def forget_client(self, session: int, cancel: bool, lost: int) -> int:
        """A client has gone and lost so many answers: cancel its orders, or let them work on; returns how many."""
        self._desk.counts[at.ANSWERS_LOST] += lost
        if cancel:
            t_ns = max(self._latest_ns, self._pace.served_ns)
            why = int(Why.DISCONNECTED)
            return int(entry.work(self._table, entry.SWEEP, session, why, t_ns, t_ns, 0))
        return int(entry.disown_orders(self._desk.blotter, session))

    def resting_lots(self, i: int, order_id: int) -> int:
        """What the book says rests of one order: to reconcile our own view with."""
        return int(order_qty(self._books, i, order_id))

    def engine_ns(self, now_ns: int) -> int:
        """Engine time at a monotonic instant."""
        return self._pace.engine_ns(now_ns)

    def gauges(self, now_ns: int) -> dict[str, float]:
        """The desk's part of `Gauges`. The worst lag is that of the time since the last call."""
        desk, totals = self._desk, self._account.totals
        acc.total(self._account.rows, totals)
        engine_ns = self.engine_ns(now_ns)
        lag_ns, desk.clockwork[deskarrays.WORST_LAG_NS] = int(desk.clockwork[deskarrays.WORST_LAG_NS]), 0
        requests, answers = depths(desk.sessions)
        return {
            "session_total": float(self.sessions),
            "session_start_time_seconds": self._session_wall_ns / NS,
            "session_clock_seconds": (engine_ns - self._market.start_ns) / NS,
            "feed_age_seconds": max(engine_ns - self._latest_ns, 0) / NS,
            "event_lag_seconds": lag_ns / NS,
            "events_ahead": float(len(self._pace.events) - self._pace.cursor),
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
        publisher.states[:] = desk.status[:, deskarrays.STATE]
        publisher.publish(wall_ns, desk.counts, desk.sums, gauges, commands, desk.account, desk.spread, desk.volumes)
        # Ages go on while nothing happens; the timeline may be one that a test hands in.
        engine_ns = max(self._latest_ns, self.engine_ns(time.monotonic_ns()))
        publisher.orders.publish(wall_ns, engine_ns, desk, self._books, self._clients)

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
                if not self._pace.follow(records[at:stop]):
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
        self._pace.go_on(now_ns, self._latest_ns)
        at_work = np.flatnonzero(self._desk.parents[:, strategy.P_STATE] != strategy.IDLE)
        for i in at_work:
            step.close_parent(self._table, int(i), self._latest_ns)
        killswitch.cancel_own(self._table, killswitch.OF_CLIENTS, int(Why.DISCONNECTED), self._found)
        return len(at_work)
