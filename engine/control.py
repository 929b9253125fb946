"""Trading state: what the engine may do, why, and since when; survives the engine.

The state is the strictest of its causes. A cause has a key:

    operator, operator:SYMBOL   HALTED    a person's command; only a person resumes
    loss                        REDUCING  the session lost more than its limit; only a person resumes
    console                     REDUCING  no sign of life from the console; goes by itself when it is back
    journal                     HALTED    the journal cannot be written; goes by itself when it can
    recovery                    REDUCING  the engine came back from a damaged journal or past a poison record

What a person must resume is kept in a small file, replaced atomically and synced, so that an
engine that is killed while halted comes back halted.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.gates import TradingState
from metrics.errors import DeskvigilError

OPERATOR, LOSS, CONSOLE = "operator", "loss", "console"
JOURNAL, RECOVERY = "journal", "recovery"
_BY_ITSELF = frozenset({CONSOLE, JOURNAL})
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


class TradingControl:
    """The causes in force. `file` is where those that a person must lift are kept."""

    def __init__(self, file: Path, symbols: tuple[str, ...]) -> None:
        self._file = file
        self._symbols = symbols
        self._causes: dict[str, Cause] = {}

    @property
    def causes(self) -> dict[str, Cause]:
        """The causes in force by key, a copy."""
        return dict(self._causes)

    @property
    def state(self) -> TradingState:
        """The state of the whole engine: its strictest cause, instruments halted by themselves left out."""
        return max(
            (cause.state for key, cause in self._causes.items() if not key.startswith(f"{OPERATOR}:")),
            default=TradingState.ACTIVE,
        )

    def states(self) -> list[TradingState]:
        """The state of each instrument, in the order of the symbols."""
        whole = self.state
        halted = TradingState.HALTED
        return [halted if f"{OPERATOR}:{symbol}" in self._causes else whole for symbol in self._symbols]

    def restrict(self, key: str, cause: Cause) -> bool:
        """Put a cause in force; False where it was already (the first one's words stay)."""
        if key in self._causes:
            return False
        self._causes[key] = cause
        return True

    def lift(self, key: str) -> bool:
        """Take a cause away; False where there was none."""
        return self._causes.pop(key, None) is not None

    def resume(self, symbol: str | None = None) -> list[str]:
        """Take away what a person may lift (for one instrument: its own halt); returns the keys."""
        keys = [
            key
            for key in self._causes
            if key not in _BY_ITSELF and (symbol is None or key == f"{OPERATOR}:{symbol}")
        ]  # fmt: skip
        for key in keys:
            del self._causes[key]
        return keys

    def keep(self) -> None:
        """Write the lasting causes to the file, durable on return; StateFileError where that fails."""
        lasting = {key: asdict(cause) for key, cause in self._causes.items() if key not in _BY_ITSELF}
        temporary = self._file.with_suffix(f".{os.getpid()}.new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w") as file:
                json.dump(lasting, file, indent=1)
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
        """Read the lasting causes back. A file that cannot be read halts: nobody knows what was in it."""
        try:
            raw = json.loads(self._file.read_text())
            for key, cause in raw.items():
                self._causes[str(key)] = Cause(
                    TradingState(int(cause["state"])),
                    str(cause["who"])[:MAX_WORDS],
                    str(cause["reason"])[:MAX_WORDS],
                    int(cause["since_ns"]),
                )
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._causes[OPERATOR] = Cause(
                TradingState.HALTED, "engine", f"{self._file.name} could not be read: {error}"[:MAX_WORDS], now_ns
            )
