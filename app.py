"""Deskvigil's command line and composition root: read this file and you know the program.

`run` is a small supervisor over three children: engine (trades), risk (prices), console (collects,
stores, alerts, serves pages); a live market has a fourth, feed. Imports are local to the commands because children import this module
again and must start fast.
"""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import Command, add_commands, log_to_stderr, settings_of
from metrics.errors import ConfigError, DeskvigilError
from metrics.version import VERSION

if TYPE_CHECKING:
    from metrics.paths import RuntimePaths
    from settings import Settings

CONSOLE_HANGS_AFTER_S = 30.0

log = logging.getLogger("deskvigil")


def run(args: argparse.Namespace) -> int:
    """Start everything and serve until stopped."""
    started = time.monotonic()
    early = [_ConsoleProcess()]  # it has most to import, so it begins while the settings are still being read

    from engine.telemetry import BlockReader, starting_note
    from metrics.paths import RuntimePaths
    from resources.instance import listen, only_one, own_memory
    from resources.standby import Standby
    from resources.supervisor import ChildSpec, Supervisor

    settings = settings_of(args)
    paths = RuntimePaths(settings.data_dir.resolve())
    # The forkserver loads the compiled kernels once; a restarted engine is a fork of it.
    kernels = multiprocessing.get_context("forkserver")
    kernels.set_forkserver_preload(["engine.preload"])
    os.environ["DESKVIGIL_STARTING"] = str(starting_note(paths.engine_block))
    engines = Standby(partial(_engine, settings, paths), "engine")

    def console() -> _ConsoleProcess:
        process = early.pop() if early else _ConsoleProcess()
        process.order(settings, paths, listener)
        return process

    with ExitStack() as cleanup:
        cleanup.enter_context(only_one(paths.data_dir))
        listener = cleanup.enter_context(listen(settings.web.host, settings.web.port))
        cleanup.enter_context(own_memory(paths.block_dir))
        cleanup.callback(engines.close)
        if args.fresh:
            paths.journal.mkdir(exist_ok=True, mode=0o700)
            (paths.journal / "fresh").touch()
        children = [
            ChildSpec(
                "console",
                console,
                lambda: _heartbeat(paths.console_heartbeat),
                hang_after_s=CONSOLE_HANGS_AFTER_S,
            ),
            ChildSpec(
                "engine",
                engines.make,
                BlockReader(paths.engine_block).heartbeat,
                hang_after_s=settings.engine.hang_after_s,
            ),
            ChildSpec(
                "risk",
                lambda: kernels.Process(target=_risk, args=(settings, paths), name="risk"),
                BlockReader(paths.risk_block).heartbeat,
                hang_after_s=settings.risk.hang_after_s,
            ),
        ]
        if settings.engine.live.venue:
            children.insert(
                1,
                ChildSpec(
                    "feed",
                    lambda: kernels.Process(target=_feed, args=(settings, paths), name="feed"),
                    BlockReader(paths.feed_block).heartbeat,
                    hang_after_s=settings.engine.hang_after_s,
                ),
            )
        _announce_when_ready(listener, started)
        supervisor = Supervisor(children, paths.supervisor_status, on_poll=engines.refill)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: supervisor.request_stop())
        return supervisor.run()


def serve(args: argparse.Namespace) -> int:
    """Serve store, query, API and pages only: no engine, no collectors, no rules, no retention."""
    from metrics.paths import RuntimePaths
    from resources.instance import listen, only_one

    settings = settings_of(args)
    paths = RuntimePaths(settings.data_dir.resolve())
    with only_one(paths.data_dir), listen(settings.web.host, settings.web.port) as listener:
        _announce_when_ready(listener, time.monotonic())
        from console.wiring import run_console

        run_console(settings, paths, listener, VERSION, live=False)
        return 0


# --- the children ---------------------------------------------------------------------------------


def _engine(settings: Settings, paths: RuntimePaths, wait: Callable[[], None]) -> None:
    from engine.runner import run_engine
    from resources.garbage import settle

    log_to_stderr(settings)

    with ExitStack() as reporting:

        def take_turn() -> None:  # a spare has nothing to report
            wait()
            reporting.enter_context(_reporting(settings, paths, "engine"))

        _or_exit(lambda: run_engine(settings.engine, paths, take_turn, partial(settle, settings.memory)))


def _risk(settings: Settings, paths: RuntimePaths) -> None:
    from engine.riskrunner import run_risk
    from resources.allocator import keep_freed
    from resources.garbage import settle

    log_to_stderr(settings)
    if settings.memory.keep_freed:
        keep_freed()
    settle(settings.memory)
    with _reporting(settings, paths, "risk"):
        _or_exit(lambda: run_risk(settings.risk, paths))


def _feed(settings: Settings, paths: RuntimePaths) -> None:
    from engine.live.feedrunner import run_feed

    log_to_stderr(settings)
    with _reporting(settings, paths, "feed"):
        _or_exit(lambda: run_feed(settings.engine.live, paths))


def _reporting(settings: Settings, paths: RuntimePaths, process: str) -> AbstractContextManager[object]:
    """Let this process report its memory meanwhile."""
    from resources.memoryreport import MemoryReporter

    return MemoryReporter(paths.block_dir, process) if settings.memory.report else nullcontext()


class _ConsoleProcess(SpawnProcess):
    """The console's process: it imports what it needs from the moment it is made, and runs once started."""

    def __init__(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        super().__init__(target=_console, args=(theirs,), name="console", daemon=True)
        super().start()
        theirs.close()
        self._pipe = ours

    def order(self, settings: Settings, paths: RuntimePaths, listener: socket.socket) -> None:
        """Say what it will run on."""
        self._order, self._listener = (settings, paths), listener

    def start(self) -> None:
        """Let it run."""
        self._pipe.send(self._order)
        send_handle(self._pipe, self._listener.fileno(), self.pid)
        self._pipe.close()


def _console(pipe: Connection) -> None:
    # Importing makes a million objects that all stay: looking through them for garbage, now or ever,
    # costs half a second of the start and pauses of a tenth of a second later.
    gc.disable()
    from console.wiring import run_console
    from resources.allocator import few_arenas
    from resources.garbage import settle

    gc.freeze()
    gc.enable()
    try:
        settings, paths = pipe.recv()
        listener = socket.socket(fileno=recv_handle(pipe))
    except EOFError:  # the supervisor has ended, for a wrong setting perhaps
        return
    pipe.close()
    if settings.memory.few_arenas:
        few_arenas()
    settle(settings.memory)
    log_to_stderr(settings)
    with _reporting(settings, paths, "console"):
        _or_exit(lambda: run_console(settings, paths, listener, VERSION, live=True))


def _or_exit(child: Callable[[], None]) -> None:
    """Run a child; an expected failure is one line, and its exit status tells the supervisor whether to try again."""
    from resources.supervisor import EXIT_PERMANENT

    try:
        child()
    except DeskvigilError as error:
        log.error("%s", error)
        sys.exit(EXIT_PERMANENT if error.permanent else 1)


def _heartbeat(path: Path) -> int | None:
    """The console's last sign of life, None before the first."""
    try:
        return int.from_bytes(path.read_bytes()[:8], "little", signed=True)
    except OSError:
        return None


def _announce_when_ready(listener: socket.socket, started: float) -> None:
    """Print the URL once the page answers; waits in a thread of its own."""
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=60) as answer:  # noqa: S310 - our own address
                return bool(answer.status == 200)
        except OSError:
            return False

    def wait() -> None:
        pause = threading.Event()
        while not is_ready():
            pause.wait(0.05)
        print(f"Deskvigil is up: {url} ({time.monotonic() - started:.1f} s). Stop it with Ctrl-C.", flush=True)

    threading.Thread(target=wait, daemon=True, name="announce").start()


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, metavar="FILE", help="YAML file with settings")
    common.add_argument("--data-dir", type=Path, metavar="DIR", help="where everything durable lies (default: var)")
    common.add_argument("--host", help="address to serve on (default: 127.0.0.1)")
    common.add_argument("--port", type=int, help="port to serve on (default: 8050)")

    parser = argparse.ArgumentParser(prog="app.py", description="Deskvigil: the operations console of a trading desk.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, function: Command) -> argparse.ArgumentParser:
        words = (function.__doc__ or "").strip()
        command = commands.add_parser(name, help=words, description=words, parents=[common])
        command.set_defaults(function=function)
        return command

    add_run = add("run", run)
    add_run.add_argument(
        "--tape",
        type=Path,
        metavar="FILE",
        help="trade on a recording (its format is recognised: docs/FEEDS.md) instead of the synthetic market",
    )
    for flag, words in (
        (
            "--live",
            "trade (simulated orders) on a venue's public feed: kraken:BTC/USD,ETH/USD (or coinbase:, binance:)",
        ),
        ("--live-backup", "the feed that takes over while the first is not live; symbols may be left out"),
    ):
        add_run.add_argument(flag, metavar="VENUE:SYMBOLS", help=words)
    add_run.add_argument("--speed", type=float, metavar="N", help="how many times faster than recorded (default: 1)")
    add_run.add_argument("--seed", type=int, metavar="N", help="seed of the synthetic market and the strategy")
    add_run.add_argument(
        "--fresh", action="store_true", help="begin a fresh session even where the journal has one to go on with"
    )
    for command in (add_run, add("serve", serve)):
        command.add_argument(
            "--enable-admin-api", action="store_true", help="allow deleting series over HTTP (/api/v1/admin/tsdb/)"
        )
    add_commands(add)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; expected failures are one message on stderr and exit status 1 (2 for settings)."""
    args = _parser().parse_args(arguments)
    try:
        status: Any = args.function(args)
        return int(status)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except DeskvigilError as error:
        print(f"{args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # whoever read our output has seen enough
        sys.stderr.close()
        return 128 + signal.SIGPIPE


if __name__ == "__main__":
    sys.exit(main())
