"""Runner: the engine process. One loop, paced to the clock, with nothing slow in it."""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from engine.breaker import DECISIONS, MARKET_DATA, BreakerState, Transition
from engine.breaker import ORDERS as ORDER_PATH
from engine.breaker import RISK as RISK_BREAKER
from engine.commandlog import CommandLog, CommandLogError
from engine.commands import ALL, Command, CommandName, CommandRefusedError, CommandServer
from engine.consolewatch import ConsoleWatch
from engine.control import (
    CONSOLE,
    JOURNAL,
    OPERATOR,
    RECOVERY,
    RISK,
    THROTTLE,
    Cause,
    StateFileError,
    TradingControl,
    key_of,
    scope_of,
)
from engine.degraded import PUBLISH_FACTOR, DegradedMode, Mode, program_pressure
from engine.desk import TradingDesk
from engine.fusebox import FuseBox
from engine.gates import STRATEGIES, TradingState
from engine.gateway import LINGER_NS, Gateway
from engine.journalkeeper import JournalKeeper
from engine.killswitch import Cancelled
from engine.limits import Change, LimitRefusedError
from engine.livemarket import LiveMarket
from engine.market import Market, open_market
from engine.options import EngineOptions
from engine.publisher import Gauges, Publisher
from engine.settlement import SettlementError, SettlementFile
from engine.watch import Watch
from metrics.errors import DeskvigilError
from metrics.paths import RuntimePaths
from resources.process import end_with_parent, sleep_exactly
from resources.relief import relieve

LOG = logging.getLogger("deskvigil.engine")
STATE_FILE = "trading_state.json"
ENGINE = "engine"  # who acts where the engine does by itself
# The loop sleeps until this long before something is due and spins for the rest: a sleep ends some
# tens of microseconds late, and an event must not wait for that.
SPIN_NS = 60_000
CONSOLE_LOOK_NS = 200_000_000
RETRY_NS = 50_000_000  # until a market that raised is asked again


class Engine:
    """The engine: market, desk, control, commands and telemetry, driven by `run`.

    Everything happens in the calling thread. `stop` may be called from a signal handler or another
    thread; `run` then cancels all own orders, publishes and returns.
    """

    def __init__(self, options: EngineOptions, paths: RuntimePaths, market: Market) -> None:
        symbols = tuple(instrument.symbol for instrument in market.instruments)
        self._options = options
        self._market = market
        self._live = market if isinstance(market, LiveMarket) else None
        info = {
            "source": market.source,
            "simulated_market": market.simulated,
            "tape": market.name,
            "speed": options.speed,
            "order_book": "levels" if market.level_book else "orders",
        }
        self._publisher = Publisher(paths.engine_block, market.instruments, info)
        self._desk = TradingDesk(options, market, self._publisher, paths.executions_dir)
        self._settlements = SettlementFile(paths.settlements)
        self._keeper = JournalKeeper(paths.journal, options.journal, self._desk, market, options.seed)
        self._control = TradingControl(paths.data_dir / STATE_FILE, symbols)
        self._log = CommandLog(paths.command_log)
        self._watch = Watch(self._desk.limits, options.gates.watch_s)
        self._console = ConsoleWatch(paths.console_heartbeat, options.console_timeout_s)
        self._server = CommandServer(paths.engine_socket, self._carry_out)
        entry = options.entry
        self._gateway = Gateway(
            paths.order_socket, market.instruments, self._desk, entry.max_orders_per_client, entry.enabled
        )
        self._fuses = FuseBox(options.breakers, self._desk, paths.risk_block, lambda: market.faults, self._say_breaker)
        pressure = program_pressure(options.pressure, paths.supervisor_status, os.getpid(), time.thread_time_ns)
        self._degraded = DegradedMode(options.pressure, pressure, lambda: relieve([self._desk.drop_caches]))
        self._poison = 0
        self._recovery_s = 0.0
        self._commands: Counter[CommandName] = Counter()
        self._stopping = False
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._next_look_ns = 0

    @property
    def wake_descriptor(self) -> int:
        """Writing to this descriptor ends the loop's sleep (for `signal.set_wakeup_fd`)."""
        return self._waker.fileno()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping = True
        try:
            self._waker.send(b"\0")
        except OSError:  # full: it is awake already; closed: it has ended
            return

    def run(self) -> None:
        """Trade until `stop`."""
        started_ns = time.monotonic_ns()
        goes_on = self._keeper.start(started_ns, time.time_ns())
        self._recovery_s = (time.monotonic_ns() - started_ns) / 1e9
        self._write_missing_settlements()
        self._control.recall(time.time_ns())
        for words in self._desk.limits.recall(self._control.limits):
            LOG.error("%s is not in force again", words)
        self._open_log()
        self._apply_state()
        self._say_recovered()
        self._server.start()
        self._gateway.start()
        interval_ns = round(1e9 / self._options.publish_hz)
        if goes_on and self._desk.is_settled:  # killed between two sessions
            self._market.restart()
        if not goes_on or self._desk.is_settled:
            self._desk.start_session(time.monotonic_ns(), time.time_ns())
        self._publish(time.monotonic_ns())
        next_publish_ns = time.monotonic_ns() + interval_ns
        while not self._stopping:
            self._keeper.make_room()
            due_ns = self._step()
            self._serve_clients()
            now_ns = time.monotonic_ns()
            if self._desk.session_is_over(now_ns):
                self._next_session(now_ns)
            if now_ns >= next_publish_ns:
                self._housekeeping(now_ns)
                factor = 1 if self._degraded.mode is Mode.NORMAL else PUBLISH_FACTOR
                next_publish_ns = max(next_publish_ns + factor * interval_ns, now_ns)
            self._sleep(min(due_ns, next_publish_ns))
        self._desk.cancel_all()
        self._keeper.end()
        self._gateway.tell()
        self._publish(time.monotonic_ns())

    def close(self) -> None:
        """Let go of the sockets, the journal and the log."""
        self._gateway.stop()
        self._server.stop()
        self._keeper.close()
        self._log.close()
        self._desk.executions.close()
        if self._live is not None:
            self._live.close()
        self._wake.close()
        self._waker.close()

    def _sleep(self, until_ns: int) -> None:
        """Sleep until shortly before something is due; clients' orders that come meanwhile are served at once."""
        gateway = self._gateway
        linger_ns = 0
        while (left_ns := until_ns - time.monotonic_ns() - SPIN_NS) > 0:
            if gateway.pending(linger_ns) or not gateway.park():
                self._serve_clients()
                linger_ns = time.monotonic_ns() + LINGER_NS
                continue
            files: list[Any] = [self._wake, *self._server.files, *gateway.files]
            if self._live is not None:
                if not self._live.park():
                    gateway.unpark([])
                    return
                files.append(self._live.bell)
            ready, _, _ = select.select(files, [], [], left_ns / 1e9)
            if self._live is not None:
                self._live.unpark()
            if gateway.unpark(ready):
                self._server.poll()
                return

    def _step(self) -> int:
        """One step of the desk; what raises is counted, told to its breaker, and left out where that is safe."""
        now_ns = time.monotonic_ns()
        try:
            return self._desk.step(now_ns)
        except Exception as error:
            if self._desk.is_resting:  # the market raised, not a kernel: it is asked again a little later
                if self._poison == 0:  # its breaker says the rest
                    LOG.exception("no market events could be taken")
                self._fuses.failed(MARKET_DATA, now_ns, f"no market events could be taken: {error}")
                self._poison += 1
                return now_ns + RETRY_NS
            words = self._desk.stumbled(error)
            LOG.error("poison, left out: %s", words, exc_info=self._poison == 0)
            self._poison += 1
            self._fuses.failed(DECISIONS, now_ns, words)
            return now_ns

    def _serve_clients(self) -> None:
        self._keeper.make_room()
        now_ns = time.monotonic_ns()
        try:
            self._gateway.serve(now_ns)
        except (DeskvigilError, OSError) as error:  # of a connection, not of the books
            LOG.error("clients' orders could not be served: %s", error)
            self._fuses.failed(ORDER_PATH, now_ns, f"clients' orders could not be served: {error}")

    def _say_breaker(self, change: Transition) -> None:
        """A breaker changed its state: say so, audit it, and do what cannot be left to the gates."""
        LOG.warning("breaker %s is %s: %s", change.breaker, change.after.name, change.reason)
        opened = change.after is BreakerState.OPEN
        if opened and change.breaker in (MARKET_DATA, DECISIONS):
            self._desk.withdraw_quotes()
        if opened and change.breaker == RISK_BREAKER:
            self._restrict(RISK, TradingState.REDUCING, ENGINE, change.reason)
        elif change.breaker == RISK_BREAKER and change.after is BreakerState.CLOSED and self._control.lift(RISK):
            self._apply_state()
        states = {"before": change.before.name, "state": change.after.name}
        self._note("breaker", change.breaker, ENGINE, change.reason, states)

    def _look_at_pressure(self, now_ns: int) -> None:
        if self._degraded.look(now_ns):
            mode, reason = self._degraded.mode, self._degraded.reason
            LOG.warning("mode %s: %s", mode.name, reason)
            self._note("degraded", ALL, ENGINE, reason, {"mode": mode.name})

    def _housekeeping(self, now_ns: int) -> None:
        """What is done with every publication: idle connections, the console's absence, what the engine watches."""
        self._server.poll()
        self._gateway.poll()
        if now_ns >= self._next_look_ns:
            self._next_look_ns = now_ns + CONSOLE_LOOK_NS
            self._console.look(now_ns)
        if self._console.is_missing(now_ns):
            words = f"no sign of life from the console for {self._console.timeout_s:g} s"
            self._restrict(CONSOLE, TradingState.REDUCING, ENGINE, words)
        elif self._control.lift(CONSOLE):
            LOG.warning("the console is back")
            self._apply_state()
        self._keeper.look(now_ns, time.time_ns())
        self._look_at_pressure(now_ns)
        self._fuses.look(now_ns, self._keeper.lost_records, self._degraded.hold)
        problem = self._keeper.problem
        if problem:
            self._restrict(JOURNAL, TradingState.HALTED, ENGINE, problem)
        elif self._control.lift(JOURNAL):
            LOG.warning("the journal can be written again")
            self._apply_state()
        self._publish(now_ns)
        for words, detail in self._live.news() if self._live is not None else ():
            LOG.warning("%s", words)
            self._note("feed", ALL, ENGINE, words, detail)
        self._restrict_throttled()
        found = self._watch.look_at_result(self._desk.pnl_usd, self._desk.drawdown_usd)
        for finding in (*found, *self._watch.look_at_flow(now_ns, self._desk.flow())):
            if self._restrict(finding.key, finding.state, ENGINE, finding.reason) is not None:
                self._keep()

    def _say_recovered(self) -> None:
        found = self._keeper.recovered
        if found.goes_on:
            LOG.info(
                "recovered: session %d goes on, %d journal records replayed, %d interrupted parent orders closed",
                self._desk.sessions, found.records, self._keeper.parents_closed,
            )  # fmt: skip
        if found.poison:
            words = f"journal record {found.poison} killed the engine twice and was left out"
        elif found.damaged:
            words = f"the journal is damaged after record {found.sequence}; {found.damaged} later ones were put aside"
        else:
            return
        if self._restrict(RECOVERY, TradingState.REDUCING, ENGINE, words) is not None:
            self._keep()

    def _restrict_throttled(self) -> None:
        """What the throttle has switched off stays off over a restart, and its working orders go."""
        for scope in self._desk.latched():
            words = f"more than {self._desk.limits.value('max_repeats'):g} orders for one intent at a time"
            if self._restrict(key_of(THROTTLE, scope), TradingState.HALTED, ENGINE, words) is not None:
                self._keep()

    def _restrict(self, key: str, state: TradingState, who: str, reason: str) -> Cancelled | None:
        """Put a cause in force and say what it cancelled; None where it was in force already."""
        if not self._control.restrict(key, Cause(state, who, reason, time.time_ns())):
            return None
        LOG.warning("%s (%s) by %s: %s", state.name, scope_of(key), who, reason)
        cancelled = self._apply_state()
        if who == ENGINE:
            self._note("restrict", scope_of(key), who, reason, {"state": state.name, "cancelled": asdict(cancelled)})
        return cancelled

    def _apply_state(self) -> Cancelled:
        return self._desk.apply(self._control)

    def _keep(self) -> bool:
        """Make the trading state durable; False (and a log line) where that fails: it is in force all the same."""
        try:
            self._control.keep()
        except StateFileError as error:
            LOG.error("%s", error)
            return False
        return True

    def _open_log(self) -> None:
        try:
            self._log.open()
        except CommandLogError as error:  # commands are carried out and answered with "logged": false
            LOG.error("%s", error)

    def _note(self, command: str, scope: str, who: str, reason: str, answer: dict[str, Any]) -> bool:
        """Write into the command log; False (and a log line) where that fails."""
        try:
            self._log.write(time.time_ns(), command, scope, who, reason, answer)
        except CommandLogError as error:
            LOG.error("%s", error)
            return False
        return True

    def _next_session(self, now_ns: int) -> None:
        settled_usd = self._desk.end_session(time.time_ns())
        self._settlements.write(self._desk.settlements)
        LOG.info("session %d settled at %.2f USD", self._desk.sessions, settled_usd)
        self._market.restart()
        self._desk.start_session(now_ns, time.time_ns())

    def _write_missing_settlements(self) -> None:
        try:
            self._settlements.write_missing(self._desk.settled_again)
        except SettlementError as error:
            LOG.error("%s", error)

    def _publish(self, now_ns: int) -> None:
        desk = self._desk
        session = desk.gauges(now_ns)
        states = self._control.states()
        whole = self._control.state
        halted = TradingState.HALTED
        own = states.count(halted) if whole is not halted else 0
        gauges = Gauges(
            **session,
            trading_state=float(whole),
            halted_instruments=float(own),
            halted_strategies=float(list(self._control.restricted("strategy").values()).count(halted)),
            halted_clients=float(list(self._control.restricted("client").values()).count(halted)),
            throttled=float(sum(key.startswith(f"{THROTTLE}:") for key in self._control.causes)),
            limits_changed=float(len(self._desk.limits.changes)),
            console_seen=self._console.gauge(now_ns),
            commands_refused_total=float(self._server.refused),
            client_sessions=float(len(self._gateway.clients)),
            recovery_seconds=self._recovery_s,
            poison_total=float(self._poison),
            **self._degraded.gauges(),
            **self._keeper.gauges(time.time_ns()),
        )
        self._publisher.breakers[:] = self._fuses.rows(now_ns)
        commands = tuple(self._commands[name] for name in CommandName)
        self._publisher.show_causes(self._control.causes)
        desk.publish(self._publisher, time.time_ns(), gauges, commands)

    # Commands: called by the server from within `_sleep` or `_housekeeping`, between two steps.

    def _carry_out(self, command: Command) -> dict[str, Any]:
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
        self._commands[command.name] += 1
        if carry_out is not None:
            logged = self._note(command.name.value, command.scope, command.who, command.reason, answer)
            return {**answer, "logged": logged}
        return self._status() if command.name is CommandName.STATUS else {"state": self._control.state.name}

    def _refuse_unknown_scope(self, scope: str) -> None:
        symbols = [instrument.symbol for instrument in self._market.instruments]
        strategies = [f"strategy:{name}" for name in STRATEGIES]
        # A client may be halted before it sends its first order.
        is_client = scope.startswith("client:") and scope != "client:"
        if scope not in (ALL, *symbols, *strategies) and not is_client:
            allowed = ", ".join((*strategies, "client:NAME", *symbols))
            raise CommandRefusedError(f"scope {scope!r} is neither {ALL!r} nor one of {allowed}")

    def _halt(self, command: Command) -> dict[str, Any]:
        key = key_of(OPERATOR, command.scope)
        cancelled = self._restrict(key, TradingState.HALTED, command.who, command.reason)
        changed = cancelled is not None
        if cancelled is None:
            cancelled = self._apply_state()
        durable = self._keep()
        self._publish(time.monotonic_ns())
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
        self._restrict_throttled()  # what was latched an instant ago is lifted too, or it would come back by itself
        lifted = self._control.resume(command.scope)
        self._desk.unlatch([scope_of(key) for key in lifted if key.startswith(f"{THROTTLE}:")])
        self._apply_state()
        LOG.warning("RESUME by %s: %s (lifted: %s)", command.who, command.reason, ", ".join(lifted) or "nothing")
        durable = self._keep()
        self._publish(time.monotonic_ns())
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
        self._publish(time.monotonic_ns())
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
        durable = self._keep()
        self._publish(time.monotonic_ns())
        most = limits.most(change.name, change.scope)
        return {"state": self._control.state.name, "scope": change.scope, "name": change.name, "value": change.value,
                "before": before, "most": most, "durable": durable}  # fmt: skip

    def _status(self) -> dict[str, Any]:
        causes = {
            key: {"state": cause.state.name, "who": cause.who, "reason": cause.reason, "since_ns": cause.since_ns}
            for key, cause in self._control.causes.items()
        }
        return {
            "state": self._control.state.name,
            "causes": causes,
            "limits": self._desk.limits.kept(),
            "breakers": self._fuses.status(time.monotonic_ns()),
            "degraded": self._degraded.status(),
            "recovery_s": self._recovery_s,
            "poison": self._poison,
            "source": self._market.source,
            "tape": self._market.name,
            "speed": self._options.speed,
            **self._desk.status(),
        }


def run_engine(
    options: EngineOptions,
    paths: RuntimePaths,
    market: Market | None = None,
    settled: Callable[[], None] = gc.freeze,
) -> None:
    """The engine process: trade until SIGTERM (or the parent's death), then cancel own orders and return.

    market: where it has been opened already. settled: called when all is built that lives on; by default it is left out
    of garbage collections. Raises DeskvigilError where the market cannot be opened.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the supervisor decides the order
    sleep_exactly()
    end_with_parent()  # also while a live market is waited for
    with ExitStack() as cleanup:
        engine = Engine(options, paths, market or open_market(options, paths))
        cleanup.callback(engine.close)
        signal.signal(signal.SIGTERM, lambda _number, _frame: engine.stop())
        signal.set_wakeup_fd(engine.wake_descriptor, warn_on_full_buffer=False)
        cleanup.callback(signal.set_wakeup_fd, -1)
        end_with_parent()
        settled()
        engine.run()
