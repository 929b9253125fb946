"""Operators: what a person's commands do to a running engine."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from engine.commands import ALL, Command, CommandName, CommandRefusedError
from engine.control import OPERATOR, THROTTLE, key_of, scope_of
from engine.desk import TradingDesk
from engine.gates import STRATEGIES, TradingState
from engine.limits import Change, LimitRefusedError
from engine.restraint import ENGINE, Restraint

LOG = logging.getLogger("deskvigil.engine")


class Operators:
    """Carries commands out, between two steps of the desk, and answers with what came of it.

    publish: shows the new state before it is acknowledged. status: what the command of that name answers.
    carried_out: commands so far, by name.
    """

    def __init__(
        self,
        desk: TradingDesk,
        restraint: Restraint,
        symbols: Sequence[str],
        publish: Callable[[], None],
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._desk = desk
        self._restraint = restraint
        self._control = restraint.control
        self._symbols = symbols
        self._publish = publish
        self._status = status
        self.carried_out: Counter[CommandName] = Counter()

    def carry_out(self, command: Command) -> dict[str, Any]:
        """Do what a command says; returns the answer's fields. CommandRefusedError where it cannot be done."""
        if command.name is not CommandName.CANCEL:  # its scope is an order
            self._refuse_unknown_scope(command.scope)
        act = {
            CommandName.HALT: self._halt,
            CommandName.RESUME: self._resume,
            CommandName.LIMIT: self._limit,
            CommandName.CANCEL: self._cancel,
        }
        carry_out = act.get(command.name)
        if carry_out is not None:
            answer = carry_out(command)
        self.carried_out[command.name] += 1
        if carry_out is not None:
            logged = self._restraint.note(command.name.value, command.scope, command.who, command.reason, answer)
            return {**answer, "logged": logged}
        return self._status() if command.name is CommandName.STATUS else {"state": self._control.state.name}

    def _refuse_unknown_scope(self, scope: str) -> None:
        strategies = [f"strategy:{name}" for name in STRATEGIES]
        # A client may be halted before it sends its first order.
        is_client = scope.startswith("client:") and scope != "client:"
        if scope not in (ALL, *self._symbols, *strategies) and not is_client:
            allowed = ", ".join((*strategies, "client:NAME", *self._symbols))
            raise CommandRefusedError(f"scope {scope!r} is neither {ALL!r} nor one of {allowed}")

    def _halt(self, command: Command) -> dict[str, Any]:
        key = key_of(OPERATOR, command.scope)
        cancelled = self._restraint.restrict(key, TradingState.HALTED, command.who, command.reason)
        changed = cancelled is not None
        if cancelled is None:
            cancelled = self._restraint.apply()
        durable = self._restraint.keep()
        self._publish()
        return {
            "state": self._control.state.name,
            "scope": command.scope,
            "scope_state": self._control.state_of(command.scope).name,
            "cancelled": cancelled.orders,
            "by_instrument": cancelled.by_instrument,
            "by_strategy": cancelled.by_strategy,
            "by_client": cancelled.by_client,
            "unattributed": cancelled.unattributed,
            "remaining": self._desk.resting_orders(command.scope),
            "changed": changed,
            "durable": durable,
        }

    def _resume(self, command: Command) -> dict[str, Any]:
        if command.who == ENGINE:
            raise CommandRefusedError(f"{ENGINE!r} is not a person: a named person resumes")
        # What was latched an instant ago is lifted too, or it would come back by itself.
        self._restraint.restrict_throttled()
        lifted = self._control.resume(command.scope)
        self._desk.unlatch([scope_of(key) for key in lifted if key.startswith(f"{THROTTLE}:")])
        self._restraint.apply()
        LOG.warning("RESUME by %s: %s (lifted: %s)", command.who, command.reason, ", ".join(lifted) or "nothing")
        durable = self._restraint.keep()
        self._publish()
        return {
            "state": self._control.state.name,
            "scope": command.scope,
            "scope_state": self._control.state_of(command.scope).name,
            "lifted": lifted,
            "durable": durable,
        }

    def _cancel(self, command: Command) -> dict[str, Any]:
        kind, _, number = command.scope.partition(":")
        if kind != "order" or not (number.startswith("-") and number[1:].isdecimal() and len(number) <= 19):
            raise CommandRefusedError(f"scope {command.scope!r} is not order:ID with the number of an own order")
        if not self._desk.cancel_order(int(number)):
            raise CommandRefusedError(f"order {number} does not work (any more)")
        LOG.warning("CANCEL of order %s by %s: %s", number, command.who, command.reason)
        self._publish()
        return {"state": self._control.state.name, "scope": command.scope, "cancelled": 1}

    def _limit(self, command: Command) -> dict[str, Any]:
        change = Change(command.limit, command.scope, command.value, command.who, command.reason, time.time_ns())
        limits = self._desk.limits
        try:
            before = limits.set(change)
        except LimitRefusedError as error:
            raise CommandRefusedError(str(error)) from None
        LOG.warning("LIMIT %s of %s: %g, was %g, by %s: %s", change.name, change.scope, change.value, before,
                    change.who, change.reason)  # fmt: skip
        self._control.limits = limits.kept()
        durable = self._restraint.keep()
        self._publish()
        most = limits.most(change.name, change.scope)
        return {"state": self._control.state.name, "scope": change.scope, "name": change.name, "value": change.value,
                "before": before, "most": most, "durable": durable}  # fmt: skip
