"""FuseBox: the engine's four circuit breakers, what makes them open, and what is done while one is.

    breaker        failures                                               while it is open
    market_data    a book crossed for a second, most events refused,      every order refused (stale_data), quotes
                   gaps and bad checksums, a market that raises            withdrawn; marks stay, with their age
    decisions      prices or quantities that are not finite, a model's    quotes withdrawn, no new parents; parents
                   signal outside -1 .. 1, a decision that raises          at work end by their schedule
    orders         orders that the book could not take, records lost by   every order refused (breaker)
                   the journal, faults of order entry
    risk           no sign of life, or no figure for the positions        REDUCING

Compiled code counts, and this looks at the counters with every publication; failures within one look
are as many, a look with successes only ends their row. What raises in Python comes in by `failed`.
Cancels always pass.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engine import counters as at
from engine.blotter import FAULTS
from engine.breaker import BREAKERS, DECISIONS, MARKET_DATA, NS, ORDERS, RISK, Breaker, BreakerState, Transition
from engine.desk import TradingDesk
from engine.deskarrays import CROSSED_NS, LATEST_NS
from engine.events import KIND_NAMES
from engine.gates import BLOCK, HOLD, HOLD_PARENTS, HOLD_QUOTES, PROBE_DECISION, PROBES, Reason
from engine.options import BreakersOptions
from engine.riskwatch import RiskWatch
from metrics.frame import FloatArray

CROSSED_FOR_NS = NS  # engine time; a feed of price levels may cross for an event or two
MIN_REFUSED = 10  # events: a share of fewer says little
RISK_LOOK_NS = NS // 2


class FuseBox:
    """Looks at what a desk counted and switches its gates. Everything happens in the engine's thread.

    market_faults: gaps, bad checksums and damaged messages of the feed so far; tell: called with each
    change of a breaker's state. Times are monotonic.
    """

    def __init__(
        self,
        options: BreakersOptions,
        desk: TradingDesk,
        risk_block: Path,
        market_faults: Callable[[], int],
        tell: Callable[[Transition], None],
    ) -> None:
        self._desk = desk
        self._market_faults = market_faults
        self._risk = RiskWatch(risk_block)
        self.breakers = {name: Breaker(name, getattr(options, name), tell) for name in BREAKERS}
        self._before = self._counted(0)
        self._next_risk_ns = 0

    def failed(self, name: str, now_ns: int, words: str) -> None:
        """Something failed in Python that a breaker is for."""
        self.breakers[name].fail(now_ns, words)

    def look(self, now_ns: int, journal_lost: int = 0, hold: int = 0) -> None:
        """Look at what was counted since the last look, and switch the gates.

        journal_lost: records that the journal could not write so far; hold: bits of gates.HOLD_... that
        are to be in force anyhow.
        """
        before, self._before = self._before, self._counted(journal_lost)
        passed = {name: count - before[name] for name, count in self._before.items()}
        self._look_at_market(now_ns, passed)
        wrong = passed["decision_faults"] + self._wild_signals()
        words = f"{wrong} prices, quantities or signals were not finite or out of range"
        self._judge(DECISIONS, now_ns, wrong, words, passed["decisions"])
        wrong = passed["venue_faults"] + passed["entry_faults"] + min(passed["journal_lost"], 1)
        words = (
            f"{passed['venue_faults']} orders the book could not take, {passed['entry_faults']} faults of order "
            f"entry, {passed['journal_lost']} records lost by the journal"
        )
        self._judge(ORDERS, now_ns, wrong, words, passed["acked"])
        if now_ns >= self._next_risk_ns:
            self._next_risk_ns = now_ns + RISK_LOOK_NS
            problem = self._risk.look(now_ns)
            self._judge(RISK, now_ns, int(bool(problem)), problem or "", int(problem == ""))
        self._switch(now_ns, hold)

    def rows(self, now_ns: int) -> FloatArray:
        """float64 (3, breakers): state, trips, seconds since it was closed."""
        rows = [(float(b.state), float(b.trips), b.open_s(now_ns)) for b in self.breakers.values()]
        return np.array(rows).T

    def status(self, now_ns: int) -> dict[str, dict[str, Any]]:
        """Each breaker for the status answer; since_s: seconds since its state began, None from the start."""
        return {
            name: {
                "state": b.state.name,
                "trips": b.trips,
                "failures": b.failures,
                "since_s": None if b.since_ns is None else (now_ns - b.since_ns) / NS,
                "reason": b.reason,
            }
            for name, b in self.breakers.items()
        }

    def _counted(self, journal_lost: int) -> dict[str, int]:
        desk, _ = self._desk.arrays
        counts = desk.counts
        return {
            "events": int(counts[at.EVENT_OF_KIND : at.EVENT_OF_KIND + len(KIND_NAMES)].sum()),
            "refused": int(counts[at.EVENTS_REFUSED]),
            "feed_faults": self._market_faults(),
            "decisions": int(counts[at.DECISIONS]),
            "decision_faults": int(counts[at.DECISION_FAULTS]),
            "acked": int(counts[at.ACKED]),
            "venue_faults": int(counts[at.VENUE_FAULTS]),
            "entry_faults": int(desk.blotter[FAULTS]),
            "journal_lost": journal_lost,
        }

    def _look_at_market(self, now_ns: int, passed: dict[str, int]) -> None:
        desk, _ = self._desk.arrays
        since_ns = desk.status[:, CROSSED_NS]
        crossed = int(np.count_nonzero((since_ns > 0) & (desk.clockwork[LATEST_NS] - since_ns > CROSSED_FOR_NS)))
        poisoned = passed["refused"] >= MIN_REFUSED and 2 * passed["refused"] > passed["events"]
        wrong = min(crossed, 1) + passed["feed_faults"] + int(poisoned)
        words = (
            f"{crossed} books crossed, {passed['feed_faults']} gaps or damaged messages, "
            f"{passed['refused']} of {passed['events']} events refused by the books"
        )
        self._judge(MARKET_DATA, now_ns, wrong, words, passed["events"])

    def _wild_signals(self) -> int:
        desk, _ = self._desk.arrays
        return int(np.count_nonzero(np.abs(desk.signal) > 1.0))  # NaN: no view, which is none

    def _judge(self, name: str, now_ns: int, wrong: int, words: str, well: int) -> None:
        if wrong > 0:
            self.breakers[name].fail(now_ns, words, wrong)
        elif well > 0:
            self.breakers[name].succeed(now_ns)

    def _switch(self, now_ns: int, hold: int) -> None:
        """Put into the gates what the states demand. A half-open breaker's probe is let through here."""
        w = self._desk.arrays[0].gates.words
        market, decisions, orders = (self.breakers[name] for name in (MARKET_DATA, DECISIONS, ORDERS))
        self.breakers[RISK].passes(now_ns)  # its probe is the next look at the risk process
        if not market.passes(now_ns) or market.state is not BreakerState.CLOSED:
            w[BLOCK], w[PROBES] = int(Reason.STALE_DATA), 0
        elif orders.passes(now_ns):
            closed = orders.state is BreakerState.CLOSED
            w[BLOCK], w[PROBES] = (0, 0) if closed else (int(Reason.BREAKER), 1)
        else:
            w[BLOCK] = int(Reason.BREAKER)
            if orders.state is BreakerState.OPEN:
                w[PROBES] = 0
        stopped = HOLD_QUOTES | HOLD_PARENTS
        if market.state is not BreakerState.CLOSED:
            hold |= stopped
        if decisions.passes(now_ns):
            w[HOLD] = hold if decisions.state is BreakerState.CLOSED or hold & stopped else hold | PROBE_DECISION
        elif decisions.state is BreakerState.OPEN or not w[HOLD] & PROBE_DECISION:
            w[HOLD] = hold | stopped
