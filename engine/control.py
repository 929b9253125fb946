"""Trading state: what the engine may do, why, and since when; survives the engine.

A cause restricts a scope: everything ("all"), one instrument (its symbol), strategy:NAME or
client:NAME. What is in force for an order is the strictest of the causes on its scopes. A cause's key
says what it is, and behind a colon its scope where that is not everything:

    operator, operator:SCOPE    HALTED    a person's command
    throttle:SCOPE              HALTED    the same parent order was executed again and again
    loss, drawdown              REDUCING  the session lost more than its limit, or fell further below its best
    rejects:SCOPE, output:SCOPE REDUCING  too many of a strategy's orders refused; too many sent for each parent order
    console                     REDUCING  no sign of life from the console; goes by itself when it is back
    journal                     HALTED    the journal cannot be written; goes by itself when it can
    risk                        REDUCING  the breaker of the risk process is open; goes by itself when it closes
    recovery                    REDUCING  the engine came back from a damaged journal or past a poison record

All but those that go by themselves are lifted by a named person only. They are kept in a small file, with the limits
that people have set, replaced atomically and synced: an engine that is killed while halted comes back
halted. Files of earlier versions, which held causes only, are read as well.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.gates import TradingState
from metrics.errors import DeskvigilError

OPERATOR, THROTTLE, LOSS, DRAWDOWN, REJECTS, OUTPUT, CONSOLE, JOURNAL, RECOVERY, RISK = (
    "operator", "throttle", "loss", "drawdown", "rejects", "output", "console", "journal", "recovery", "risk",
)  # fmt: skip
ALL = "all"
_BY_ITSELF = frozenset({CONSOLE, JOURNAL, RISK})
_FORMAT = 2
MAX_WORDS = 200


class StateFileError(DeskvigilError):
    """The trading state could not be kept or read; the engine goes on in the stricter state."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why trading is restricted: who asked (a person or a part), why, and since when (wall-clock ns)."""

    state: TradingState
    who: str
    reason: str
    since_ns: int


def key_of(what: str, scope: str = ALL) -> str:
    """The key of a cause: what it is, and its scope."""
    return what if scope == ALL else f"{what}:{scope}"


def scope_of(key: str) -> str:
    """What a cause restricts: ALL, a symbol, strategy:NAME or client:NAME."""
    return key.partition(":")[2] or ALL


class TradingControl:
    """The causes in force. `file` is where those that a person must lift are kept.

    limits: what people have set, as plain values of `engine.limits`, kept in the same file.
    """

    def __init__(self, file: Path, symbols: tuple[str, ...]) -> None:
        self._file = file
        self._symbols = symbols
        self._causes: dict[str, Cause] = {}
        self.limits: list[dict[str, Any]] = []

    @property
    def causes(self) -> dict[str, Cause]:
        """The causes in force by key, a copy."""
        return dict(self._causes)

    @property
    def state(self) -> TradingState:
        """The state of the whole engine: its strictest cause, those of one scope left out."""
        return self.state_of(ALL)

    def state_of(self, scope: str) -> TradingState:
        """The state of one scope by the causes on exactly that scope."""
        return max(
            (cause.state for key, cause in self._causes.items() if scope_of(key) == scope),
            default=TradingState.ACTIVE,
        )

    def states(self) -> list[TradingState]:
        """The state of each instrument, in the order of the symbols, the whole engine's in it."""
        whole = self.state
        return [max(whole, self.state_of(symbol)) for symbol in self._symbols]

    def restricted(self, kind: str) -> dict[str, TradingState]:
        """The strategies (kind "strategy") or clients ("client") with causes of their own, by name."""
        scopes = {scope_of(key) for key in self._causes}
        return {scope.partition(":")[2]: self.state_of(scope) for scope in scopes if scope.startswith(f"{kind}:")}

    def restrict(self, key: str, cause: Cause) -> bool:
        """Put a cause in force; False where it was already (the first one's words stay)."""
        if key in self._causes:
            return False
        self._causes[key] = cause
        return True

    def lift(self, key: str) -> bool:
        """Take a cause away; False where there was none."""
        return self._causes.pop(key, None) is not None

    def resume(self, scope: str = ALL) -> list[str]:
        """Take away what a person may lift: everything, or the causes of one scope; returns the keys."""
        keys = [key for key in self._causes if key not in _BY_ITSELF and (scope == ALL or scope_of(key) == scope)]
        for key in keys:
            del self._causes[key]
        return keys

    def keep(self) -> None:
        """Write the lasting causes and the limits to the file, durable on return; StateFileError where that fails."""
        causes = {key: asdict(cause) for key, cause in self._causes.items() if key not in _BY_ITSELF}
        temporary = self._file.with_suffix(f".{os.getpid()}.new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w") as file:
                json.dump({"format": _FORMAT, "causes": causes, "limits": self.limits}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._file)
            directory = os.open(self._file.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise StateFileError(f"trading state cannot be kept in {self._file}: {error}") from error

    def recall(self, now_ns: int) -> None:
        """Read causes and limits back. A file that cannot be read halts: nobody knows what was in it."""
        try:
            raw = json.loads(self._file.read_text())
            kept = raw if "format" in raw else {"causes": raw, "limits": []}
            if kept.get("format", _FORMAT) != _FORMAT:
                raise ValueError(f"format {kept['format']!r} is not {_FORMAT}")
            for key, cause in kept["causes"].items():
                self._causes[str(key)] = Cause(
                    TradingState(int(cause["state"])),
                    str(cause["who"])[:MAX_WORDS],
                    str(cause["reason"])[:MAX_WORDS],
                    int(cause["since_ns"]),
                )
            self.limits = [dict(row) for row in kept["limits"]]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._causes[OPERATOR] = Cause(
                TradingState.HALTED, "engine", f"{self._file.name} could not be read: {error}"[:MAX_WORDS], now_ns
            )
