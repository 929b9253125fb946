"""Desk state: the arrays of a desk, its books and account; settling them, noting them in a journal, keeping and restoring them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine import account as acc
from engine import deskarrays, layout
from engine.account import Account
from engine.blotter import TAKEN
from engine.book import Books, last_trade_price, make_books
from engine.deskarrays import Desk
from engine.deskmemory import make_desk, units_of
from engine.executions import Executions
from engine.gates import go_on
from engine.journal import CLOCK, DIGEST, FILLS, note
from engine.lend import lend
from engine.market import Market
from engine.marketmark import MarketMark
from engine.options import EngineOptions
from engine.pace import Pace
from engine.publisher import Publisher
from engine.settlement import Settlement, settle
from metrics.frame import IntArray

# What a snapshot leaves out: settings, what the process counts since its start, the writers of records, clients'
# orders (they are cancelled after a recovery: nobody is there to be told), and the journal itself.
_NOT_STATE = frozenset(
    ("gates", "settings", "fees", "units", "counts", "sums", "latencies", "latency_sums", "volumes", "fills",
     "fills_written", "requests", "journal", "journal_head", "executions", "dropcopy", "stages", "slowest", "finished",
     "finished_written", "signal", "volume_curve", "blotter", "working", "sessions", "books", "order_events",
     "order_events_written")
)  # fmt: skip
_MARKET = "market."


class DeskState:
    """What a desk consists of, and what of it a recovery needs.

    The publisher lends the arrays that kernels write directly (histograms, ring of fills).
    """

    def __init__(
        self, options: EngineOptions, market: Market, publisher: Publisher, executions_dir: Path | None = None
    ) -> None:
        """executions_dir: where fills are recorded from `begin_run` on; without it they are not kept."""
        self._market = market
        self._account = Account.empty(units_of(market).prod(axis=1))
        self._executions_dir = executions_dir
        self.executions = Executions(None, market.instruments, 0)
        self._books = make_books(len(market.instruments), max_orders=market.max_orders, level_book=market.level_book)
        self._copy: IntArray | None = None  # of the books' words, for snapshots
        self._mark: MarketMark | None = None
        self._desk = make_desk(options, market, publisher, self._account, self.executions, self._books)
        self._table = lend(self._desk)
        self._pace = Pace(market, options.speed, options.rebase_after_s)
        self._session_wall_ns = 0
        self._settled_usd = 0.0
        self.sessions = 0
        self.settlements: list[Settlement] = []
        self.settled_again: list[Settlement] = []  # by `replay`, oldest first: their lines may never have been written
        self.is_settled = False  # the session has been settled, and no other has begun

    @property
    def arrays(self) -> tuple[Desk, Books]:
        """What kernels work on: for those who send orders of their own through the gates."""
        return self._desk, self._books

    @property
    def counts(self) -> IntArray:
        """What the step kernel has counted, int64 (counters.COUNTS,): live, not a copy."""
        return self._desk.counts

    @property
    def pnl_usd(self) -> float:
        """P&L of the running session after fees, as of the last `gauges`."""
        return float(self._account.totals[acc.T_PNL])

    @property
    def drawdown_usd(self) -> float:
        """Distance of the session's P&L from its best, as of the last `gauges`."""
        return float(self._account.totals[acc.T_DRAWDOWN])

    def _settle(self, wall_ns: int) -> float:
        """Close all positions at the mark; returns the session's P&L in USD."""
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

    def drop_caches(self) -> None:
        """Let go of memory that can be made again."""
        self._copy = None

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
            self.sessions, self._session_wall_ns, self._pace.cursor, self._pace.known_until_ns, head[DIGEST], head[FILLS],
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
        self._desk.clockwork[deskarrays.STAGE :] = 0  # what was under way when the copy was made is not now
        go_on(self._desk.gates, state["gates"])
        self._books.words[:] = state["books"]
        self._account.totals[:] = state["totals"]
        numbers = map(int, state["numbers"])
        self.sessions, self._session_wall_ns, cursor, known_until_ns, digest, fills, run_ns, taken = numbers
        self._desk.blotter[TAKEN] = taken
        self.begin_run(run_ns)
        self.executions.copy.put_totals(state["venue"])
        self._settled_usd = float(state["settled"][0])
        self._desk.journal_head[DIGEST], self._desk.journal_head[FILLS] = digest, fills
        market = {name.removeprefix(_MARKET): array for name, array in state.items() if name.startswith(_MARKET)}
        self._pace.put(self._market.restore(market), cursor, known_until_ns)

    def market_state(self) -> dict[str, npt.NDArray[Any]]:
        """The market's own, see `Market.state`."""
        return self._market.state()

    def restore_market(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Put the market where it gave events none of which has been applied; ValueError where it is another's."""
        self._pace.put_new(self._market.restore(state))

    def _note(
        self, what: int, t_ns: int, order_id: int = 0, price: int = 0, qty: int = 0, instrument: int = 0, kind: int = 0
    ) -> None:
        note(self._desk.journal, self._desk.journal_head, what, t_ns, order_id, price, qty, instrument, kind, 0)

    @property
    def _latest_ns(self) -> int:
        return int(self._desk.clockwork[deskarrays.LATEST_NS])
