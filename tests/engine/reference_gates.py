"""SlowGates: every gate as a plain list of what was seen, to compare the compiled ones with."""

from __future__ import annotations

import math

from engine.gates import HOUSE, Reason, TradingState
from engine.options import GateOptions
from engine.windows import BUCKETS

NS = 1_000_000_000


class SlowGates:
    """Remembers everything that happened and asks the rules in order."""

    def __init__(self, options: GateOptions, instruments: int) -> None:
        self.options = options
        self.mids: dict[int, list[tuple[int, float]]] = {i: [] for i in range(instruments)}
        self.sent: dict[int, list[tuple[int, int, float]]] = {i: [] for i in range(instruments)}
        self.identical: dict[tuple, list[int]] = {}  # since, count
        self.intents: dict[tuple, list[int]] = {}
        self.off: set[tuple] = set()
        self.tokens: dict[int, tuple[float, float]] = {}
        self.exposure = dict.fromkeys(range(instruments), (0.0, 0.0))

    def totals(self) -> list[float]:
        return [sum(pair[k] for pair in self.exposure.values()) for k in (0, 1)]

    def check(
        self, now, *, i, side, ticks, lots, strategy, client, intent, mid, usd, position, buying, selling, age, state
    ):
        o = self.options
        same = buying if side > 0 else selling
        after = position + side * (same + lots)
        reduces = position != 0 and (position > 0) != (side > 0) and same + lots <= abs(position)
        limits = (
            o.collar_ratio, o.period_collar_ratio, o.max_order_usd, o.max_order_qty, o.max_position_usd, o.max_working_usd,
            o.max_period_usd, o.max_period_qty, o.stale_after_s, o.max_working_total_usd, o.max_gross_usd,
            o.max_identical, o.max_repeats, o.max_messages_per_s, o.message_burst,
        )  # fmt: skip
        if state == TradingState.HALTED:
            return Reason.HALTED
        if ("strategy", strategy) in self.off or ("client", client) in self.off:
            return Reason.REPEATED_EXECUTION
        if state == TradingState.REDUCING and not reduces:
            return Reason.REDUCE_ONLY
        if 0 in limits:
            return Reason.MISSING_LIMIT
        if self._count(self.intents, (strategy, client, intent), now, o.repeat_within_s) + 1 > o.max_repeats:
            self.off.add(("strategy", strategy) if client == HOUSE else ("client", client))
            return Reason.REPEATED_EXECUTION
        self.intents[strategy, client, intent][1] += 1
        value, lot = lots * ticks * usd, mid * usd
        rules = [
            (age < 0 or age > o.stale_after_s * 1e9 or mid <= 0, Reason.STALE_DATA),
            (abs(ticks - mid) > o.collar_ratio * mid, Reason.PRICE_COLLAR),
            (lots <= 0 or lots > o.max_order_qty, Reason.ORDER_QUANTITY),
            (value > o.max_order_usd, Reason.ORDER_VALUE),
            (abs(after) > abs(position) and abs(after) * lot > o.max_position_usd, Reason.POSITION),
        ]
        refused = next((reason for broken, reason in rules if broken), None)
        if refused is not None:
            return refused
        self.mids[i] = [*self._within(self.mids[i], now, o.collar_period_s), (now, mid)]
        self.sent[i] = self._within(self.sent[i], now, o.volume_period_s)
        self.exposure[i] = self._exposure(position, buying, selling, lot)
        low, high = min(m for _, m in self.mids[i]), max(m for _, m in self.mids[i])
        reach = o.period_collar_ratio
        booked = (buying + lots, selling) if side > 0 else (buying, selling + lots)
        new = self._exposure(position, *booked, lot)
        working, gross = self.totals()
        grown = new[1] - self.exposure[i][1]
        key = (strategy, client, i, side, ticks, lots)
        rules = [
            (ticks > low * (1 + reach) if side > 0 else ticks < high * (1 - reach), Reason.PERIOD_COLLAR),
            (sum(row[1] for row in self.sent[i]) + lots > o.max_period_qty, Reason.PERIOD_VOLUME),
            (sum(row[2] for row in self.sent[i]) + value > o.max_period_usd, Reason.PERIOD_VOLUME),
            (new[0] > o.max_working_usd or working + lots * lot > o.max_working_total_usd, Reason.WORKING_EXPOSURE),
            (grown > 0 and gross + grown > o.max_gross_usd, Reason.GROSS_EXPOSURE),
        ]
        refused = next((reason for broken, reason in rules if broken), None)
        if refused is None and self._count(self.identical, key, now, o.identical_within_s) >= o.max_identical:
            refused = Reason.DUPLICATE
        if refused is None and not self._token(strategy, now):
            refused = Reason.MESSAGE_RATE
        if refused is not None:
            return refused
        self.identical[key][1] += 1
        self.sent[i].append((now, lots, value))
        self.exposure[i] = new
        return Reason.ACCEPTED

    @staticmethod
    def _exposure(position: float, buying: int, selling: int, lot: float) -> tuple[float, float]:
        return (buying + selling) * lot, max(abs(position + buying), abs(position - selling)) * lot

    @staticmethod
    def _within(rows: list, now: int, period_s: float) -> list:
        """What lies in the running bucket or the ones before it that still count; nothing from the future."""
        width = round(period_s * NS / (BUCKETS - 1))
        return [row for row in rows if 0 <= now // width - row[0] // width < BUCKETS]

    @staticmethod
    def _count(counted: dict[tuple, list[int]], key: tuple, now: int, within_s: float) -> int:
        since, _ = counted.setdefault(key, [now, 0])
        if not 0 <= now - since < within_s * NS:
            counted[key] = [now, 0]
        return counted[key][1]

    def _token(self, strategy: int, now: int) -> bool:
        tokens, since = self.tokens.get(strategy, (float(self.options.message_burst), 0.0))
        if now > since:
            tokens = min(self.options.message_burst, tokens + (now - since) * (self.options.max_messages_per_s / 1e9))
            since = float(now)
        taken = tokens >= 1.0
        self.tokens[strategy] = (tokens - 1.0 if taken else tokens, since)
        assert not math.isnan(tokens)
        return taken
