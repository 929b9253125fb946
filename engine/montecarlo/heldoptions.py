"""HeldOptions: a file of option positions that the desk holds besides what its engine trades.

    {"format": 1, "positions": [
        {"symbol": "DV-ALPHA", "kind": "put", "quantity": 500, "strike": 210, "expires": "2027-01-15", "volatility": 0.28},
        {"symbol": "DV-BRAVO", "kind": "call", "quantity": -300, "strike": 280, "days": 30, "volatility": 0.31}]}

quantity is in units of the underlying (contracts times their multiplier), negative where sold. `expires` is a day
(its end, UTC) or a time in ISO 8601; `days` stands for an option that is always so many days from its expiry, for
books of a synthetic market that has no calendar. rate and dividend_yield are 0 where they are not given.
"""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from engine.montecarlo.book import SIGNS, Position
from metrics.errors import ConfigError

MOST_OPTIONS: Final = 1_000
MOST_BYTES: Final = 1 << 20  # a thousand positions take a quarter of it
YEAR_S: Final = 365.0 * 86_400.0
_NUMBERS: Final = ("quantity", "strike", "volatility", "rate", "dividend_yield")
_FIELDS: Final = {"symbol", "kind", "expires", "days", *_NUMBERS}


@dataclass(frozen=True)
class HeldOption:
    """One row of the file. expires_s: wall clock, or None where the position is always `years` from its expiry."""

    position: Position
    expires_s: float | None

    def at(self, now_s: float) -> Position | None:
        """The position as of now; None once it has expired, as it is settled then."""
        if self.expires_s is None:
            return self.position
        left_s = self.expires_s - now_s
        if left_s <= 0.0:
            return None
        given = self.position
        return Position(
            symbol=given.symbol, kind=given.kind, quantity=given.quantity, strike=given.strike, years=left_s / YEAR_S,
            volatility=given.volatility, rate=given.rate, dividend_yield=given.dividend_yield,
        )  # fmt: skip


class HeldOptions:
    """The file's positions, read again whenever it has changed; no path, no options."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._held: tuple[HeldOption, ...] = ()

    def at(self, now_ns: int) -> tuple[list[Position], int]:
        """Positions alive now, and how many have expired and are left out. ConfigError names file, row and field at fault."""
        if self._path is None:
            return [], 0
        try:
            found = self._path.stat()
        except OSError as error:
            self._seen = None
            raise ConfigError(f"the option book {self._path} cannot be read: {error.strerror}") from error
        # A file that another took the place of may have its size and its time of writing.
        seen = found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
        if self._seen != seen:
            self._held = load_options(self._path)
            self._seen = seen
        alive = [position for held in self._held if (position := held.at(now_ns / 1e9)) is not None]
        return alive, len(self._held) - len(alive)


def load_options(path: Path) -> tuple[HeldOption, ...]:
    """Read a file of option positions. ConfigError names file, row and field at fault."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
            raise ConfigError(f"the option book {path} is no file of at most {MOST_BYTES >> 20} MiB")
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"the option book {path} cannot be read: {error}") from error
    if not isinstance(raw, dict) or raw.get("format") != 1 or not isinstance(raw.get("positions"), list):
        raise ConfigError(f"{path} is not an option book of format 1, with a list of positions")
    if len(raw["positions"]) > MOST_OPTIONS:
        raise ConfigError(f"{path} has {len(raw['positions'])} positions, at most {MOST_OPTIONS} are priced")
    held = []
    for number, row in enumerate(raw["positions"]):
        try:
            held.append(_held(row))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            words = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            raise ConfigError(f"{path}: position {number}: {words}") from None
    return tuple(held)


def _held(row: dict[str, Any]) -> HeldOption:
    if not isinstance(row, dict) or set(row) - _FIELDS:
        raise ValueError(f"a position has no fields but {', '.join(sorted(_FIELDS))}")
    symbol, kind = row["symbol"], row["kind"]
    if not isinstance(symbol, str) or not symbol.isprintable() or kind not in SIGNS or kind == "stock":
        raise ValueError(f"it needs a symbol and a kind of call or put, not {symbol!r} and {kind!r}")
    number = {
        name: _number(row, name) for name in _NUMBERS if name in row or name in ("quantity", "strike", "volatility")
    }
    if ("expires" in row) == ("days" in row):
        raise ValueError("it needs either expires or days")
    days = _number(row, "days") if "days" in row else 0.0
    if days < 0.0:
        raise ValueError(f"days must not be negative, they are {days}")
    if number["strike"] <= 0.0 or number["volatility"] < 0.0:
        raise ValueError("the strike must be above 0 and the volatility not negative")
    expires_s = _end_of(row["expires"]) if "expires" in row else None
    return HeldOption(Position(symbol=symbol, kind=kind, years=days * 86_400.0 / YEAR_S, **number), expires_s)


def _number(row: dict[str, Any], name: str) -> float:
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        raise ValueError(f"{name} must be a finite number, it is {value!r}")
    return float(value)


def _end_of(text: Any) -> float:
    """A day's end, or a moment; without an offset it is UTC."""
    if not isinstance(text, str):
        raise ValueError(f"expires must be a day or a time, it is {text!r}")
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment + timedelta(days=1) if len(text) == 10 else moment).timestamp()
