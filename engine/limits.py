"""Limits: what the gates' limits are, where each comes from, and who changed one while the engine ran.

Configured values come first, those of one symbol next, then what a person has set. A person may
lower any limit at once, and raise one to `raise_ratio` times what is configured: beyond that a
limit is changed in the configuration, where a second pair of eyes sees it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from engine.gates import (
    BUCKET_RATE,
    BUCKET_SIZE,
    BUCKET_TIME_NS,
    BUCKET_TOKENS,
    COMPLETE,
    FIRM_LIMITS,
    LIMIT_LOTS,
    LIMIT_PERIOD_LOTS,
    LIMIT_STALE_NS,
    MAX_STRATEGIES,
    STRATEGIES,
    Gates,
)
from engine.options import INSTRUMENT_LIMITS, GateOptions
from metrics.errors import ConfigError, DeskvigilError

ALL = "all"
STRATEGY = "strategy:"
STRATEGY_LIMITS = ("max_messages_per_s", "message_burst")
WATCH_LIMITS = ("max_loss_usd", "max_drawdown_usd", "max_reject_ratio", "max_output_ratio")
RISK_LIMITS = ("max_var_usd",)
NAMES = (*INSTRUMENT_LIMITS, *FIRM_LIMITS, *STRATEGY_LIMITS, *WATCH_LIMITS, *RISK_LIMITS)


class LimitRefusedError(DeskvigilError):
    """A limit that does not exist, does not apply to its scope, or goes beyond what is configured."""


@dataclass(frozen=True, slots=True)
class Change:
    """One limit set by a person. scope: ALL, a symbol or strategy:NAME; since_ns: wall clock."""

    name: str
    scope: str
    value: float
    who: str
    reason: str
    since_ns: int


class Limits:
    """The limits in force, written into the gates' arrays with every change.

    lot_sizes: units (shares, contracts, coins) in a lot of each instrument: people set quantities in
    units, the gates count lots. ConfigError where an override names an instrument that the market does not have.
    """

    def __init__(
        self, options: GateOptions, symbols: tuple[str, ...], lot_sizes: Sequence[float], gates: Gates
    ) -> None:
        unknown = sorted(set(options.symbols) - set(symbols))
        if unknown:
            raise ConfigError(f"engine.gates.symbols.{unknown[0]}: the market has {', '.join(symbols)}")
        self._options = options
        self._symbols = symbols
        self._lot_sizes = lot_sizes
        self._gates = gates
        self._changes: dict[tuple[str, str], Change] = {}
        self._write()

    @property
    def changes(self) -> tuple[Change, ...]:
        """What people have set, one for each name and scope, oldest first."""
        return tuple(sorted(self._changes.values(), key=lambda change: change.since_ns))

    def value(self, name: str, scope: str = ALL) -> float:
        """A limit in force: the scope's own, or that of all."""
        change = self._changes.get((name, scope)) or self._changes.get((name, ALL))
        configured = self._configured(name, scope)
        if change is None:
            return configured
        # What was set for all does not loosen what is configured for one.
        is_own = change.scope != scope and name in self._options.symbols.get(scope, {})
        return min(change.value, configured) if is_own else change.value

    def set(self, change: Change) -> float:
        """Put a change in force, return the value before; LimitRefusedError where it must not be."""
        self._refuse(change)
        before = self.value(change.name, change.scope)
        self._changes[change.name, change.scope] = change
        self._write()
        return before

    def recall(self, raw: Iterable[Mapping[str, Any]]) -> list[str]:
        """Put kept changes back in force; returns in words those that are not: their limits are as configured.

        A limit that is now above what may be set comes back as the most that may.
        """
        left_out = []
        for row in raw:
            try:
                change = Change(
                    str(row["name"]), str(row["scope"]), float(row["value"]), str(row["who"]), str(row["reason"]),
                    int(row["since_ns"]),
                )  # fmt: skip
                if change.name in NAMES and change.value > self.most(change.name, change.scope):
                    most = self.most(change.name, change.scope)
                    change = Change(change.name, change.scope, most, change.who, change.reason, change.since_ns)
                self._refuse(change)
            except (KeyError, TypeError, ValueError, LimitRefusedError) as error:
                left_out.append(f"the limit {dict(row)!r}: {error}")
            else:
                self._changes[change.name, change.scope] = change
        self._write()
        return left_out

    def kept(self) -> list[dict[str, Any]]:
        """The changes as plain values, for `recall`."""
        return [asdict(change) for change in self.changes]

    def most(self, name: str, scope: str = ALL) -> float:
        """The hard maximum: a limit cannot be set above it while the engine runs."""
        if name in RISK_LIMITS and self._configured(name, scope) == 0.0:
            return math.inf  # none is configured: whatever a person sets is stricter
        most = self._configured(name, scope) * self._options.raise_ratio
        return min(most, 1.0) if name.endswith("_ratio") and name != "max_output_ratio" else most

    def _refuse(self, change: Change) -> None:
        name, scope, value = change.name, change.scope, change.value
        if name not in NAMES:
            raise LimitRefusedError(f"{name!r} is not one of {', '.join(NAMES)}")
        scopes = {ALL}
        if name in INSTRUMENT_LIMITS:
            scopes |= set(self._symbols)
        elif name in STRATEGY_LIMITS:
            scopes |= {STRATEGY + strategy for strategy in STRATEGIES}
        if scope not in scopes:
            raise LimitRefusedError(f"{name} has the scopes {', '.join(sorted(scopes))}, not {scope!r}")
        if name in RISK_LIMITS and value == 0.0:
            raise LimitRefusedError(f"{name} cannot be switched off at run time: set it above 0")
        if not (math.isfinite(value) and value >= 0.0):
            raise LimitRefusedError(f"{name} must be a number not below 0, it is {value}")
        if value > self.most(name, scope):
            raise LimitRefusedError(
                f"{name} may be at most {self.most(name, scope):g} for {scope!r}, the configured value times "
                f"raise_ratio; {value:g} is above it"
            )

    def _configured(self, name: str, scope: str) -> float:
        own = self._options.symbols.get(scope, {})
        return float(own[name] if name in own else getattr(self._options, name))

    def _write(self) -> None:
        """Everything into the gates' arrays; a limit of 0 is missing and becomes NaN."""
        gates = self._gates
        for column, name in enumerate(FIRM_LIMITS):
            gates.firm[column] = _present(self.value(name))
        for i, symbol in enumerate(self._symbols):
            gates.limits[i, :COMPLETE] = [_present(self.value(name, symbol)) for name in INSTRUMENT_LIMITS]
            for column in (LIMIT_LOTS, LIMIT_PERIOD_LOTS):
                gates.limits[i, column] = _in_lots(gates.limits[i, column], self._lot_sizes[i])
        gates.limits[:, LIMIT_STALE_NS] *= 1e9
        whole = np.isfinite(gates.limits[:, :COMPLETE]).all(axis=1) & np.isfinite(gates.firm).all()
        gates.limits[:, COMPLETE] = whole
        for s in range(MAX_STRATEGIES):
            scope = STRATEGY + STRATEGIES[s] if s < len(STRATEGIES) else ALL
            self._write_bucket(s, self.value("max_messages_per_s", scope), self.value("message_burst", scope))

    def _write_bucket(self, s: int, rate: float, size: float) -> None:
        """A bucket begins full; one that is changed keeps what it has, cut to its new size."""
        bucket = self._gates.buckets[s]
        if rate == 0.0 or size == 0.0:
            bucket[:] = np.nan
            return
        if math.isnan(bucket[BUCKET_SIZE]):
            bucket[BUCKET_TOKENS], bucket[BUCKET_TIME_NS] = size, 0.0
        bucket[BUCKET_TOKENS] = min(bucket[BUCKET_TOKENS], size)
        bucket[BUCKET_RATE], bucket[BUCKET_SIZE] = rate / 1e9, size


def _present(value: float) -> float:
    return value if value > 0.0 else math.nan


def _in_lots(qty: float, lot_size: float) -> float:
    """Units as lots; 0.3 coins in lots of 0.1 are 3, which plain division makes a little less of."""
    return round(qty / lot_size, 6)
