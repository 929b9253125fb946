"""Runner: the engine process. One loop, paced to the clock, with nothing slow in it."""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from engine.breaker import DECISIONS, MARKET_DATA, BreakerState, Transition
from engine.breaker import ORDERS as ORDER_PATH
from engine.breaker import RISK as RISK_BREAKER
from engine.commandlog import CommandLog
from engine.commands import ALL, CommandName, CommandServer
from engine.consolewatch import ConsoleWatch
from engine.control import CONSOLE, JOURNAL, RECOVERY, RISK, THROTTLE, TradingControl
from engine.degraded import PUBLISH_FACTOR, DegradedMode, Mode, program_names, program_pressure
from engine.desk import TradingDesk
from engine.fusebox import FuseBox
from engine.gates import TradingState
from engine.gateway import Gateway
from engine.journalkeeper import JournalKeeper
from engine.livemarket import LiveMarket
from engine.market import Market, open_market
from engine.operators import Operators
from engine.options import EngineOptions
from engine.publisher import Gauges, Publisher
from engine.restraint import ENGINE, Restraint
from engine.settlement import SettlementError, SettlementFile
from engine.sleeper import Sleeper
from engine.varlimit import VarLimit
from engine.watch import Watch
from metrics.errors import DeskvigilError
from metrics.paths import RuntimePaths
from resources.process import end_with_parent, sleep_exactly
from resources.relief import relieve

LOG = logging.getLogger("deskvigil.engine")
STATE_FILE = "trading_state.json"
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
        self._publisher = Publisher(paths.engine_block, market.instruments, info, hidden=True)
        self._desk = TradingDesk(options, market, self._publisher, paths.executions_dir)
        self._settlements = SettlementFile(paths.settlements, grouped=options.journal.enabled)
        self._keeper = JournalKeeper(paths.journal, options.journal, self._desk, market, options.seed)
        # The thread writes snapshots after a commit: what a snapshot has behind it is on the disk.
        self._keeper.sync_too(lambda: self._desk.executions.sync(), self._settlements.sync)
        control = TradingControl(paths.data_dir / STATE_FILE, symbols)
        self._control = control
        self._restraint = Restraint(control, CommandLog(paths.command_log), self._desk)
        self._watch = Watch(self._desk.limits, options.gates.watch_s)
        self._console = ConsoleWatch(paths.console_heartbeat, options.console_timeout_s)
        self._operators = Operators(self._desk, self._restraint, symbols, self._publish, self._status)
        self._server = CommandServer(paths.engine_socket, self._operators.carry_out)
        entry = options.entry
        self._gateway = Gateway(
            paths.order_socket, market.instruments, self._desk, entry.max_orders_per_client, entry.enabled
        )
        self._fuses = FuseBox(options.breakers, self._desk, paths.risk_block, lambda: market.faults, self._say_breaker)
        self._var_limit = VarLimit(paths.risk_block, self._desk, options.gates.max_var_age_s)
        pressure = program_pressure(options.pressure, paths.supervisor_status, os.getpid(), time.thread_time_ns)
        names = program_names(paths.supervisor_status, os.getpid())
        self._degraded = DegradedMode(options.pressure, pressure, lambda: relieve([self._desk.drop_caches]), names)
        self._poison = 0
        self._recovery_s = 0.0
        self._sleeper = Sleeper(self._gateway, self._server, self._keeper, self._live)
        self._stopping = False
        self._next_look_ns = 0

    @property
    def wake_descriptor(self) -> int:
        """Writing to this descriptor ends the loop's sleep (for `signal.set_wakeup_fd`)."""
        return self._sleeper.wake_descriptor

    def touch(self) -> None:
        """Have all memory that a start needs, so that it need not wait for pages."""
        self._publisher.touch()
        self._desk.touch()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stopping = True
        self._sleeper.wake()

    def run(self) -> None:
        """Trade until `stop`."""
        started_ns = time.monotonic_ns()
        goes_on = self._keeper.start(started_ns, time.time_ns())
        self._recovery_s = (time.monotonic_ns() - started_ns) / 1e9
        self._write_missing_settlements()
        self._restraint.start()
        self._say_recovered()
        self._server.start()
        self._gateway.start()
        interval_ns = round(1e9 / self._options.publish_hz)
        if goes_on and self._desk.is_settled:  # killed between two sessions
            self._market.restart()
        if not goes_on or self._desk.is_settled:
            self._desk.start_session(time.monotonic_ns(), time.time_ns())
        self._var_limit.look(time.monotonic_ns())  # before the first order, not with the first publication
        self._publish()
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
            self._sleeper.sleep(min(due_ns, next_publish_ns))
        self._desk.cancel_all()
        self._keeper.end()
        self._gateway.tell()
        self._publish()

    def close(self) -> None:
        """Let go of the sockets, the journal and the log."""
        self._gateway.stop()
        self._server.stop()
        self._keeper.close()
        self._restraint.close()
        self._desk.executions.close()
        if self._live is not None:
            self._live.close()
        self._sleeper.close()

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
            self._restraint.restrict(RISK, TradingState.REDUCING, ENGINE, change.reason)
        elif change.breaker == RISK_BREAKER and change.after is BreakerState.CLOSED:
            self._restraint.lift(RISK, "positions and risk are looked at again")
        states = {"before": change.before.name, "state": change.after.name}
        self._restraint.note("breaker", change.breaker, ENGINE, change.reason, states)

    def _look_at_pressure(self, now_ns: int) -> None:
        if self._degraded.look(now_ns):
            mode, reason = self._degraded.mode, self._degraded.reason
            LOG.warning("mode %s: %s", mode.name, reason)
            self._restraint.note("degraded", ALL, ENGINE, reason, {"mode": mode.name})

    def _housekeeping(self, now_ns: int) -> None:
        """What is done with every publication: idle connections, the console's absence, what the engine watches."""
        self._server.poll()
        self._gateway.poll()
        if now_ns >= self._next_look_ns:
            self._next_look_ns = now_ns + CONSOLE_LOOK_NS
            self._console.look(now_ns)
        if self._console.is_missing(now_ns):
            words = f"no sign of life from the console for {self._console.timeout_s:g} s"
            self._restraint.restrict(CONSOLE, TradingState.REDUCING, ENGINE, words)
        else:
            self._restraint.lift(CONSOLE, "the console is back")
        self._keeper.look(now_ns, time.time_ns())
        self._look_at_pressure(now_ns)
        self._var_limit.look(now_ns)
        self._fuses.look(now_ns, self._keeper.lost_records, self._degraded.hold)
        problem = self._keeper.problem
        if problem:
            self._restraint.restrict(JOURNAL, TradingState.HALTED, ENGINE, problem)
        else:
            self._restraint.lift(JOURNAL, "the journal can be written again")
        self._publish()
        for words, detail in self._live.news() if self._live is not None else ():
            LOG.warning("%s", words)
            self._restraint.note("feed", ALL, ENGINE, words, detail)
        self._restraint.restrict_throttled()
        found = self._watch.look_at_result(self._desk.pnl_usd, self._desk.drawdown_usd)
        for finding in (*found, *self._watch.look_at_flow(now_ns, self._desk.flow())):
            self._restraint.restrict_until_resumed(finding.key, finding.state, finding.reason)

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
        self._restraint.restrict_until_resumed(RECOVERY, TradingState.REDUCING, words)

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

    def _publish(self) -> None:
        desk, now_ns = self._desk, time.monotonic_ns()
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
        commands = tuple(self._operators.carried_out[name] for name in CommandName)
        self._publisher.show_causes(self._control.causes)
        desk.publish(self._publisher, time.time_ns(), gauges, commands)

    def _status(self) -> dict[str, Any]:
        causes = {
            key: {"state": cause.state.name, "who": cause.who, "reason": cause.reason, "since_ns": cause.since_ns}
            for key, cause in self._control.causes.items()
        }
        return {
            "state": self._control.state.name,
            "causes": causes,
            "limits": self._desk.limits.kept(),
            "var_limit": self._var_limit.status(),
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
    wait: Callable[[], None] = lambda: None,
    settled: Callable[[], None] = gc.freeze,
) -> None:
    """The engine process: trade until SIGTERM (or the parent's death), then cancel own orders and return.

    wait: called with everything made that can be made while another engine trades, see `resources.standby`;
    a live market is opened after it, its feed is for one engine at a time. settled: called when all is built that
    lives on; by default it is left out of garbage collections. Raises DeskvigilError where the market cannot be opened.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the supervisor decides the order
    sleep_exactly()
    end_with_parent()  # also while a live market, or its turn, is waited for
    with ExitStack() as cleanup:
        if options.live.venue:
            wait()
        engine = Engine(options, paths, open_market(options, paths))
        cleanup.callback(engine.close)
        settled()  # before the turn comes: the start need not wait for a collection
        if not options.live.venue:
            engine.touch()
            wait()
        signal.signal(signal.SIGTERM, lambda _number, _frame: engine.stop())
        signal.set_wakeup_fd(engine.wake_descriptor, warn_on_full_buffer=False)
        cleanup.callback(signal.set_wakeup_fd, -1)
        end_with_parent()
        engine.run()
