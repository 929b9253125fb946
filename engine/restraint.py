"""Restraint: what keeps the engine from trading is put in force at once, then written down and told."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from typing import Any, Final

from engine.commandlog import CommandLog, CommandLogError
from engine.control import THROTTLE, Cause, StateFileError, TradingControl, key_of, scope_of
from engine.desk import TradingDesk
from engine.gates import TradingState
from engine.killswitch import Cancelled

LOG = logging.getLogger("deskvigil.engine")
ENGINE: Final = "engine"  # who acts where the engine does by itself


class Restraint:
    """Causes of restricted trading, in force on the desk, in the state file and in the command log.

    A file that cannot be written is said in the log; what it was to say is in force all the same.
    """

    def __init__(self, control: TradingControl, log: CommandLog, desk: TradingDesk) -> None:
        self.control = control
        self._log = log
        self._desk = desk

    def start(self) -> None:
        """Take up what was in force when the last engine ended."""
        self.control.recall(time.time_ns())
        for words in self._desk.limits.recall(self.control.limits):
            LOG.error("%s is not in force again", words)
        try:
            self._log.open()
        except CommandLogError as error:  # commands are carried out and answered with "logged": false
            LOG.error("%s", error)
        self.apply()

    def close(self) -> None:
        """Let go of the log."""
        self._log.close()

    def restrict(self, key: str, state: TradingState, who: str, reason: str) -> Cancelled | None:
        """Put a cause in force and say what it cancelled; None where it was in force already."""
        if not self.control.restrict(key, Cause(state, who, reason, time.time_ns())):
            return None
        LOG.warning("%s (%s) by %s: %s", state.name, scope_of(key), who, reason)
        cancelled = self.apply()
        if who == ENGINE:
            self.note("restrict", scope_of(key), who, reason, {"state": state.name, "cancelled": asdict(cancelled)})
        return cancelled

    def restrict_until_resumed(self, key: str, state: TradingState, reason: str) -> None:
        """Put a cause of the engine's own in force that stays, over a restart too, until a person lifts it."""
        if self.restrict(key, state, ENGINE, reason) is not None:
            self.keep()

    def restrict_throttled(self) -> None:
        """What the throttle has switched off stays off over a restart, and its working orders go."""
        for scope in self._desk.latched():
            words = f"more than {self._desk.limits.value('max_repeats'):g} orders for one intent at a time"
            self.restrict_until_resumed(key_of(THROTTLE, scope), TradingState.HALTED, words)

    def lift(self, key: str, words: str) -> None:
        """A cause of the engine's own is over; words are said where it was in force."""
        if self.control.lift(key):
            LOG.warning("%s", words)
            self.apply()

    def apply(self) -> Cancelled:
        """Put in force on the desk what is in force here."""
        return self._desk.apply(self.control)

    def keep(self) -> bool:
        """Make the trading state durable; False where that fails."""
        try:
            self.control.keep()
        except StateFileError as error:
            LOG.error("%s", error)
            return False
        return True

    def note(self, command: str, scope: str, who: str, reason: str, answer: dict[str, Any]) -> bool:
        """Write into the command log; False where that fails."""
        try:
            self._log.write(time.time_ns(), command, scope, who, reason, answer)
        except CommandLogError as error:
            LOG.error("%s", error)
            return False
        return True
