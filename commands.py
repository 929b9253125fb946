"""The commands beside `run` and `serve`: orders to the engine, checks, replays, figures, and care of the stored data.

Imports are local to the commands: `app.py` is imported again by every child and must stay light.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from metrics.errors import ConfigError, DeskvigilError
from metrics.version import VERSION

if TYPE_CHECKING:
    from alerts.policy.file import PolicyFile
    from metrics.paths import RuntimePaths
    from settings import Settings

Command = Callable[[argparse.Namespace], int]
# As engine.feeds.tape.FORMATS, which a command line that is only being read need not load.
REPLAY_FORMATS = (
    "lobster", "itch", "dbn", "binance", "kraken", "coinbase", "bitstamp", "orders", "ticks", "journal",
)  # fmt: skip
EXPORT_FORMATS = ("csv", "parquet", "openmetrics", "prometheus")


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings that file, environment and command line come to; logging is set up as they say."""
    from settings import load_settings

    overrides = {
        "data_dir": args.data_dir,
        "web.host": args.host,
        "web.port": args.port,
        "web.enable_admin_api": True if getattr(args, "enable_admin_api", False) else None,
        "engine.tape": getattr(args, "tape", None),
        "engine.speed": getattr(args, "speed", None),
        "engine.seed": getattr(args, "seed", None),
        **_live(getattr(args, "live", None), "engine.live"),
        **_live(getattr(args, "live_backup", None), "engine.live.backup"),
    }
    settings = load_settings(args.config, overrides=overrides)
    log_to_stderr(settings)
    return settings


def _live(words: str | None, section: str) -> dict[str, object]:
    """A feed as the command line has it, `kraken:BTC/USD,ETH/USD`, as settings."""
    if words is None:
        return {}
    venue, _, symbols = words.partition(":")
    return {f"{section}.venue": venue, f"{section}.symbols": [symbol for symbol in symbols.split(",") if symbol]}


def log_to_stderr(settings: Settings) -> None:
    """Log as the settings say."""
    form = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    logging.basicConfig(level=settings.log_level.upper(), format=form, stream=sys.stderr, force=True)
    for chatty in ("alembic", "apscheduler", "numba"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def halt(args: argparse.Namespace) -> int:
    """Halt trading: every working order is cancelled before the engine answers."""
    return _command(args, "halt")


def resume(args: argparse.Namespace) -> int:
    """Let a halted engine trade again."""
    return _command(args, "resume")


def limit(args: argparse.Namespace) -> int:
    """Set one of the gates' limits while the engine runs; it survives a restart and is in the audit."""
    return _command(args, "limit", name=args.name, value=args.value)


def _command(args: argparse.Namespace, command: str, **more: str | float) -> int:
    from engine.commands import CommandClient
    from metrics.paths import RuntimePaths

    paths = RuntimePaths(settings_of(args).data_dir)
    answer = CommandClient(paths.engine_socket).send(
        {"command": command, "scope": args.scope, "who": args.who, "reason": args.reason, **more}
    )
    print(json.dumps(answer))
    return 0 if answer.get("ok") else 1


def check_config(args: argparse.Namespace) -> int:
    """Check the configuration, with the policy file that it names, and print what it comes to, secrets masked."""
    from settings import describe

    settings = settings_of(args)
    if settings.alerts.policy is not None:
        _read_policy(settings, settings.alerts.policy)
    print(describe(settings), end="")
    return 0


def check_policy(args: argparse.Namespace) -> int:
    """Check a policy file against the configured channels; with --labels, say whom an alert with these labels reaches."""
    policy = _read_policy(settings_of(args), args.file)
    for pair in args.labels or ():
        if "=" not in pair:
            raise DeskvigilError(f"--labels: {pair!r} is not NAME=VALUE")
    if args.labels is None:
        routes, intervals = sum(1 for _ in policy.route.walk()), len(policy.intervals)
        print(f"{args.file}: sound: {routes} route(s), {len(policy.receivers)} receiver(s), {intervals} interval(s)")
        return 0
    labels = dict(pair.split("=", 1) for pair in args.labels)
    for route in policy.route.match(labels):
        receiver = policy.receivers[route.receiver]
        whom = ", ".join([*receiver.channels, *receiver.people, *(f"duty of {name}" for name in receiver.rotas)])
        print(f"{route.receiver}: {whom or 'nobody'} (line {route.line})")
    return 0


def _read_policy(settings: Settings, path: Path) -> PolicyFile:
    from alerts.channels.build import build_channels
    from alerts.policy.file import load_policy
    from metrics.clock import SystemClock

    channels = [channel.recipient.name for channel in build_channels(settings.alerts, SystemClock())]
    return load_policy(path, channels, round(1000 * settings.alerts.repeat_interval_s))


def check_rules(args: argparse.Namespace) -> int:
    """Check alert rule files; every problem is a line."""
    from alerts.check import check_rules as check

    problems = [problem for path in args.files for problem in check(path)]
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{len(args.files)} file(s) checked: no problems")
    return 1 if any(problem.level == "error" for problem in problems) else 0


def rules(args: argparse.Namespace) -> int:
    """List the versions of rule files, or have an older one run until its file changes (page Rules: while it runs)."""
    from alerts.reload import roll_back, versions
    from alerts.views import rfc3339
    from metrics.clock import SystemClock
    from query.engine import QueryEngine
    from query.source import MemorySource
    from storage.database import Database

    settings = settings_of(args)
    clock = SystemClock()
    where = settings.database
    path = _paths(settings).database
    if not where.url and not path.exists():
        raise DeskvigilError(f"{path} is not there: nothing has run in this folder yet")
    try:
        database = Database(where.url, where, clock) if where.url else Database.sqlite(path, where, clock)
    except DeskvigilError as error:
        raise DeskvigilError(f"{error}; while it runs, the Rules page shows versions and rolls back") from error
    with closing(database) as records:
        if args.action == "rollback":
            if args.id is None or not args.who:
                raise DeskvigilError("rollback needs the version's number and --who")
            query = QueryEngine(MemorySource(), settings.query, clock)
            done = roll_back(records, query, clock, args.id, args.who, args.reason)
            print(f"{done.name}: version {args.id} is in use until the file changes")
            return 0
        found = versions(records, 100)
    for one in found:
        stands = " (in place of the file's text)" if one.instead_of else ""
        print(
            f"{one.id:>6}  {rfc3339(one.t_ms)}  {one.outcome}{stands}  {one.who}  {one.name}  {one.note or one.hash[:8]}"
        )
    return 0


def backtest(args: argparse.Namespace) -> int:
    """Say how often, when and how long rules would have fired on stored history; beside a running program too."""
    from alerts.backtest import backtest as run_backtest
    from alerts.backtestreport import lines
    from alerts.rules import load_rules
    from metrics.clock import SystemClock
    from query.engine import QueryEngine
    from query.export import read_duration, read_time
    from storage.snapshot import Snapshot

    settings = settings_of(args)
    now_ms = time.time_ns() // 1_000_000
    groups = load_rules(args.rules)
    against = None if args.against is None else load_rules(args.against)
    step_ms = None if args.step is None else read_duration(args.step)
    with Snapshot.open(_paths(settings).database) as snapshot:
        result = run_backtest(
            groups,
            QueryEngine(snapshot.store.reader, settings.query, SystemClock()),
            settings.alerts,
            read_time(args.start, now_ms),
            read_time(args.end, now_ms),
            against=against,
            step_ms=step_ms,
            say=lambda line: None if args.json else _progress(line),
        )
    if args.json:
        print(json.dumps(result.to_json()))
    else:
        print("\n".join(lines(result)))
    return 1 if any(one.error for one in result.rules) else 0


def slo(args: argparse.Namespace) -> int:
    """Print the rules that the configured objectives (alerts.slos) come to, for a Prometheus to load."""
    from alerts.slo import objectives, slo_rules

    print(slo_rules(objectives(settings_of(args).alerts)), end="")
    return 0


def replay(args: argparse.Namespace) -> int:
    """Replay a recording through the book; the last line printed is one JSON object."""
    from engine.replay import replay as replay_file

    speed = None if args.speed in (None, "max") else float(args.speed)
    result = replay_file(args.format, args.file, fills_out=args.fills, speed=speed, verify=args.verify)
    if not args.json:
        for key, value in result.items():
            print(f"{key:>20}  {value}")
    print(json.dumps(result))
    return 1 if args.verify and (result["mismatches"] or result["checksums_bad"]) else 0


def sweep(args: argparse.Namespace) -> int:
    """Run a Monte-Carlo job of hundreds of millions of samples, or a grid of stress scenarios; it can be stopped and gone on with."""
    from engine.montecarlo.sweep.job import read_job
    from engine.montecarlo.sweep.progress import Report, stop_signal, write_rows
    from engine.montecarlo.sweep.sweep import sweep as run_sweep
    from engine.montecarlo.sweep.workers import LocalWorkers, RayWorkers
    from resources.topology import read_topology

    job = read_job(args.job, samples=args.samples, seed=args.seed)
    if args.out.exists() and not args.force:
        raise DeskvigilError(f"{args.out} exists already; --force overwrites it")
    if args.workers is not None and not 1 <= args.workers <= 1024:
        raise DeskvigilError(f"--workers must lie between 1 and 1024, not {args.workers}")
    state = args.state or args.out.with_name(args.out.name + ".state")
    local = args.ray is None
    workers = (
        LocalWorkers(args.workers or read_topology().usable) if local else RayWorkers(args.workers, args.ray or None)
    )
    report = Report(as_json=args.json)
    with stop_signal() as stop:
        progress, rows = run_sweep(job, workers, state, report.progress, stop)
    if not progress.complete:
        report.stopped(progress, state)
        return 128 + signal.SIGINT
    with _new_file(args.out, overwrite=True) as file:
        write_rows(rows, file)
    state.unlink()  # the result is there; a kill before this line only computes the figures again
    report.finished(progress, rows, args.out)
    return 0


def bench(args: argparse.Namespace) -> int:
    """Measure the published figures on this machine."""
    from validation.bench import run_benchmarks

    return run_benchmarks(args.names)


def backup(args: argparse.Namespace) -> int:
    """Back everything durable up into one new file, while the program runs or not."""
    from metrics.clock import SystemClock
    from storage.backup import backup as take

    settings = settings_of(args)
    result = take(_paths(settings), args.out, SystemClock(), VERSION, _progress)
    print(f"{result.path}: {result.bytes:,} bytes; besides the database: {', '.join(result.files) or 'nothing'}")
    if settings.database.url:
        print("Alerts, audit and annotations lie in PostgreSQL (database.url): back that up with pg_dump.")
    return 0


def restore(args: argparse.Namespace) -> int:
    """Put a backup into the data folder; refused while a program uses it."""
    from metrics.clock import SystemClock
    from resources.instance import only_one
    from storage.backup import restore as put_back

    paths = _paths(settings_of(args))
    with only_one(paths.data_dir):
        aside = put_back(args.file, paths, SystemClock(), force=args.force, say=_progress)
    print(f"{paths.data_dir} is restored from {args.file}{f'; what was there lies in {aside}' if aside else ''}")
    return 0


def fsck(args: argparse.Namespace) -> int:
    """Check the stored data, of a running program too; problems make the exit status 1."""
    from resources.instance import only_one
    from storage.fsck import check_file, repair

    settings = settings_of(args)
    paths = _paths(settings)
    path = args.file or paths.database
    say = (lambda line: None) if args.json else _progress
    with ExitStack() as cleanup:
        if args.repair:
            if args.file:
                raise ConfigError("fsck --repair mends the data folder's own file; it takes no --file")
            cleanup.enter_context(only_one(paths.data_dir))
        url = "" if args.file else settings.database.url
        report = check_file(path, say=say, samples=not args.quick, database_url=url)
        if args.repair and any(problem.fix for problem in report.problems):
            for problem in report.problems:
                lost = f" (lost: {problem.loses})" if problem.fix and problem.loses else ""
                print(f"{problem}{lost}", file=sys.stderr)
            print(f"{repair(path, report)} of {len(report.problems)} problems mended; checking again", file=sys.stderr)
            report = check_file(path, say=say, samples=not args.quick, database_url=url)
    if args.json:
        print(json.dumps(report.to_json()))
        return 1 if report.problems else 0
    for line in (*report.problems, *report.notes):
        print(line)
    counted = ", ".join(f"{number:,} {what}" for what, number in report.counts.items())
    print(f"{path}: {len(report.problems) or 'no'} problems; {counted}; {report.seconds:.1f} s")
    return 1 if report.problems else 0


def export(args: argparse.Namespace) -> int:
    """Write stored samples, or an expression's values at steps, as a file; beside a running program too."""
    from query.export import Export, read_duration, read_time
    from query.export import export as write

    settings = settings_of(args)
    now_ms = time.time_ns() // 1_000_000
    step_ms = None if args.step is None else read_duration(args.step)
    what = Export(args.expression, read_time(args.start, now_ms), read_time(args.end, now_ms), step_ms, args.format)
    with _new_file(args.out, overwrite=args.force) as file:
        written = write(_paths(settings).database, what, file, settings.query)
    print(f"{written.samples:,} samples of {written.series:,} series", file=sys.stderr)
    return 0


def warm(args: argparse.Namespace) -> int:
    """Compile the kernels; does nothing where that is done already."""
    from alerts.detectors.bank import warm as warm_detectors
    from engine.montecarlo.gpu.accelerator import warm_gpu
    from engine.warm import compile_apart

    compile_apart(lambda line: print(line, flush=True))
    warm_detectors()
    print(f"GPU: {warm_gpu()}")
    return 0


def version(args: argparse.Namespace) -> int:
    """Print the version."""
    print(f"deskvigil {VERSION}")
    return 0


def _paths(settings: Settings) -> RuntimePaths:
    from metrics.paths import RuntimePaths

    return RuntimePaths(settings.data_dir.resolve())


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _new_file(path: Path | None, *, overwrite: bool) -> Iterator[BinaryIO]:
    """A file that comes into being only when it is whole; None: standard output."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists() and not overwrite:
        raise DeskvigilError(f"{path} exists already; --force overwrites it")
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise DeskvigilError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def add_commands(add: Callable[[str, Command], argparse.ArgumentParser]) -> None:
    """Declare every command of this file with its arguments."""
    for name, function in (("halt", halt), ("resume", resume), ("limit", limit)):
        order = add(name, function)
        if name == "limit":
            order.add_argument("name", help="a limit of engine.gates, e.g. max_order_usd")
            order.add_argument("value", type=float, help="what it is to be; 0 blocks every order that it applies to")
        order.add_argument(
            "--scope", default="all", help="all (default), a symbol, strategy:NAME (maker, parents, ...) or client:NAME"
        )
        order.add_argument("--who", required=True, help="who gives the order (kept in the audit)")
        order.add_argument("--reason", required=True, help="why (kept in the audit)")
    add("check-config", check_config)
    add("slo", slo)
    add("check-rules", check_rules).add_argument("files", nargs="+", type=Path, metavar="FILE")
    add_policy = add("check-policy", check_policy)
    add_policy.add_argument("file", type=Path, metavar="FILE")
    add_policy.add_argument("--labels", nargs="*", metavar="NAME=VALUE", help="print the receivers of such an alert")
    add_rules = add("rules", rules)
    add_rules.add_argument("action", choices=("versions", "rollback"))
    add_rules.add_argument("id", nargs="?", type=int, metavar="ID", help="rollback: the version's number")
    add_rules.add_argument("--who", default="", help="rollback: who does it (kept in the audit)")
    add_rules.add_argument("--reason", default="", help="rollback: why (kept in the audit)")
    add_backtest = add("backtest", backtest)
    add_backtest.add_argument("rules", type=Path, metavar="RULES", help="a rule file")
    moments = "2026-11-23T09:30:00Z, 2026-11-23, now-30d, or seconds since 1970"
    add_backtest.add_argument(
        "--from", dest="start", default="now-30d", metavar="TIME", help=f"{moments} (default: now-30d)"
    )
    add_backtest.add_argument("--to", dest="end", default="now", metavar="TIME", help="the same (default: now)")
    add_backtest.add_argument("--against", type=Path, metavar="CURRENT", help="the rule file to compare with")
    add_backtest.add_argument(
        "--step", metavar="DURATION", help="evaluate every 15s, 1m, ... (default: fits the range)"
    )
    add_backtest.add_argument("--json", action="store_true", help="print one JSON object")
    add_replay = add("replay", replay)
    add_replay.add_argument("file", type=Path, metavar="FILE")
    add_replay.add_argument("--format", required=True, choices=REPLAY_FORMATS)
    add_replay.add_argument(
        "--verify",
        action="store_true",
        help="compare with the venue's own figures in the recording; differences make the exit status 1",
    )
    add_replay.add_argument("--fills", type=Path, metavar="OUT.csv", help="write the fills as CSV")
    add_replay.add_argument("--speed", metavar="N|max", help="pace against the recorded times (default: max)")
    add_replay.add_argument("--json", action="store_true", help="print the JSON line only")
    add("backup", backup).add_argument("out", type=Path, metavar="OUT", help="the new file")
    add_restore = add("restore", restore)
    add_restore.add_argument("file", type=Path, metavar="FILE", help="what `backup` wrote")
    add_restore.add_argument("--force", action="store_true", help="keep what is in the folder aside, and restore")
    add_fsck = add("fsck", fsck)
    add_fsck.add_argument("--file", type=Path, metavar="FILE", help="check this file or backup instead")
    add_fsck.add_argument("--quick", action="store_true", help="decode no samples")
    add_fsck.add_argument("--json", action="store_true", help="print one JSON object")
    add_fsck.add_argument("--repair", action="store_true", help="mend what can be mended; the program must be stopped")
    add_export = add("export", export)
    add_export.add_argument("expression", metavar="EXPR", help="a selector, or with --step any PromQL expression")
    times = "2026-11-23T09:30:00Z, 2026-11-23, now-6h, or seconds since 1970"
    add_export.add_argument("--from", dest="start", required=True, metavar="TIME", help=times)
    add_export.add_argument("--to", dest="end", default="now", metavar="TIME", help="the same (default: now)")
    add_export.add_argument("--step", metavar="DURATION", help="evaluate the expression every 30s, 5m, ...")
    add_export.add_argument("--format", choices=EXPORT_FORMATS, default="csv", help="default: csv")
    add_export.add_argument("-o", "--out", type=Path, metavar="FILE", help="default: standard output")
    add_export.add_argument("--force", action="store_true", help="overwrite FILE")
    add_sweep = add("sweep", sweep)
    add_sweep.add_argument("job", type=Path, metavar="JOB.yml", help="what to compute (docs/SCALING.md)")
    add_sweep.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.csv", help="where the figures go")
    add_sweep.add_argument(
        "--state",
        type=Path,
        metavar="FILE",
        help="how far it has come; the same again goes on (default: OUT.csv.state)",
    )
    add_sweep.add_argument(
        "--workers", type=int, metavar="N", help="default: one for each processor that we may use (affinity, quota)"
    )
    add_sweep.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="on a Ray cluster (auto, host:6379, ray://...); without ADDRESS, one of this machine",
    )
    add_sweep.add_argument("--samples", type=int, metavar="N", help="instead of the job's")
    add_sweep.add_argument("--seed", type=int, metavar="N", help="instead of the job's")
    add_sweep.add_argument("--force", action="store_true", help="overwrite OUT.csv")
    add_sweep.add_argument(
        "--json", action="store_true", help="print JSON lines: progress, and the result as the last one"
    )
    add("bench", bench).add_argument("names", nargs="*", metavar="NAME", help="which benchmarks (default: all)")
    add("warm", warm)
    add("version", version)
