"""How long from a threshold crossed in the engine to a webhook received, at the shipped rates and rules.

The processes of the product: a live engine, the console's parts (engine collector at 10 Hz, storage,
rules, outbox), and here the webhook's receiver. A crossing is an instrument halted by command: the time
begins before the command is sent. Measured with the engine left alone, and while a client sends it
50,000 orders a second. Beside it, where they are installed, Prometheus and Alertmanager at 1 s.
"""

from __future__ import annotations

import multiprocessing
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import yaml

from alerts.options import DEFAULT_RULES, AlertOptions, WebhookOptions
from engine.commands import CommandClient
from engine.telemetry import BlockReader
from metrics.catalogue import series
from metrics.paths import RuntimePaths
from validation import alertpeers
from validation.console import running_console, scratch_paths
from validation.figure import Figure
from validation.flood import paced
from validation.liveengine import live_engine
from validation.receiver import Received, receiver

NAME = "alert-latency"
SAMPLES = 200
PEER_SAMPLES = 60
P50_MS, P99_MS, MAX_MS = 150.0, 500.0, 5_000.0
ORDERS_PER_S = 50_000
PEERS = "netdata 1,000 / 1,500 ms (p50 / p95), Alertmanager's default group_wait 30,800 ms"
STATE = "deskvigil_engine_symbol_state"
REQUESTS = series("deskvigil_engine_client_requests_total")
ALERT = "DeskvigilBenchCrossing"
QUIET_S = (0.2, 0.6)
TIMEOUT_S = 15.0
SPAWN = multiprocessing.get_context("spawn")


def measure(say: Callable[[str], None] = print, *, samples: int = SAMPLES, seed: int = 1) -> list[Figure]:
    """Let the value cross `samples` times, engine alone and under load; p50, p99 and the longest of each."""
    figures: list[Figure] = []
    chance = random.Random(seed)
    with scratch_paths() as paths, live_engine(paths) as (_, symbol, price), receiver(ALERT) as (port, received):
        reader = BlockReader(paths.engine_block)
        halted = reader.read().spec.info["instruments"][-1]
        rules = paths.data_dir / "bench.rules.yml"
        rules.write_text(crossing_rule(halted))
        with _process(_console, paths, rules, port, halted):
            for load in (0, ORDERS_PER_S):
                say(f"alert-latency: {samples} crossings at {load} orders/s, about {samples * 1.2:.0f} s ...")
                with _process(paced, paths, symbol, price, load) if load else _nothing():
                    before, began = reader.read().scalar(REQUESTS), time.monotonic()
                    latencies = list(_crossings(CommandClient(paths.engine_socket), halted, received, samples, chance))
                    rate = (reader.read().scalar(REQUESTS) - before) / (time.monotonic() - began)
                figures += _figures(latencies, f"engine at {rate:,.0f} orders/s" if load else "engine left alone")
    if alertpeers.installed():
        many = min(samples, PEER_SAMPLES)
        say(f"alert-latency: {many} crossings of Prometheus and Alertmanager, about {many * 2} s ...")
        with scratch_paths() as paths:
            taken = 1e3 * np.array(alertpeers.crossings(paths.data_dir, many, chance))
        figures += [
            Figure(
                benchmark=NAME, what=f"Prometheus + Alertmanager, every 1 s, no wait, {label} (n = {many})",
                value=float(np.percentile(taken, q)), unit="ms", decimals=0,
            )
            for q, label in ((50, "p50"), (99, "p99"), (100, "max"))
        ]  # fmt: skip
    else:
        say("alert-latency: Prometheus or Alertmanager is not installed (Debian: prometheus, prometheus-alertmanager)")
    return figures


def _crossings(
    engine: CommandClient, symbol: str, received: queue.Queue[Received], samples: int, chance: random.Random
) -> Iterator[float]:
    """Milliseconds from each crossing to its webhook; in between the alert is let to resolve."""
    words = {"scope": symbol, "who": "bench", "reason": "crossing"}
    for _ in range(samples):
        time.sleep(chance.uniform(*QUIET_S))
        crossed_s = time.monotonic()
        _do(engine, {"command": "halt", **words})
        yield 1e3 * (_next(received, "firing") - crossed_s)
        _do(engine, {"command": "resume", **words})
        _next(received, "resolved")


def _do(engine: CommandClient, command: dict[str, str]) -> None:
    answer = engine.send(command)
    if not answer.get("ok"):
        raise RuntimeError(f"the engine refused {command}: {answer.get('error')}")


def _next(received: queue.Queue[Received], status: str) -> float:
    """Monotonic time of the next webhook with this status; RuntimeError where none comes."""
    end = time.monotonic() + TIMEOUT_S
    while (left := end - time.monotonic()) > 0:
        try:
            at_s, seen = received.get(timeout=left)
        except queue.Empty:
            break
        if seen == status:
            return at_s
    raise RuntimeError(f"no webhook said {status!r} within {TIMEOUT_S:g} s")


def crossing_rule(symbol: str) -> str:
    """One rule on an instrument's state, at the pace of the shipped rules on the engine's series."""
    group: dict[str, object] = {
        "name": "bench",
        "rules": [
            {
                "alert": ALERT,
                "expr": f'{STATE}{{symbol="{symbol}"}} == 2',
                "labels": {"severity": "critical"},
                "annotations": {"summary": "The benchmark has halted {{ $labels.symbol }}."},
            }
        ],
    }
    if interval := _shipped_interval():
        group["interval"] = interval
    return yaml.safe_dump({"groups": [group]})


def _shipped_interval() -> str | None:
    """The interval of the shipped group with the most rules on the engine's series; None where it names none."""
    groups = yaml.safe_load(DEFAULT_RULES.read_text())["groups"]
    counts = [sum("deskvigil_engine_" in str(rule.get("expr", "")) for rule in group["rules"]) for group in groups]
    interval = groups[int(np.argmax(counts))].get("interval")
    return None if interval is None else str(interval)


def _console(paths: RuntimePaths, rules: Path, port: int, symbol: str, started: Connection) -> None:
    """The console's parts on the shipped rules and the test's one."""
    webhook = WebhookOptions(url=f"http://127.0.0.1:{port}/alerts", allow=("127.0.0.1",))
    # Two hundred crossings of one alert are flapping, which is told once: not what is measured.
    options = AlertOptions(rules=(DEFAULT_RULES, rules), webhook=webhook, flapping_changes=0)
    wanted = series(STATE, symbol=symbol)
    with running_console(paths, options, lambda: ()) as console:
        deadline = time.monotonic() + 30
        while wanted not in {one for schema in console.store.live.schemas.values() for one in schema.series}:
            if time.monotonic() > deadline:
                started.send("the engine's block was not read")
                return
            time.sleep(0.05)
        started.send("ready")
        threading.Event().wait()


@contextmanager
def _process(target: Callable[..., None], *arguments: object) -> Iterator[None]:
    """A process that says "ready" by the pipe it gets last, until it is ended; RuntimeError where it does not."""
    ready, started = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=target, args=(*arguments, started), daemon=True)
    process.start()
    started.close()  # so that a process that dies is seen as an end of file
    try:
        said = "nothing within a minute"
        try:
            if ready.poll(60):
                said = ready.recv()
        except EOFError:
            said = "nothing, it ended"
        if said != "ready":
            raise RuntimeError(f"{target.__name__} did not start: {said}")
        yield
    finally:
        _end(process)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _end(process: BaseProcess) -> None:
    if process.pid is not None and process.exitcode is None:
        process.terminate()
        process.join(10)
        if process.exitcode is None:
            process.kill()
            process.join(10)


def _figures(taken: list[float], how: str) -> list[Figure]:
    return [
        Figure(
            benchmark=NAME, what=f"crossing -> webhook, {how}, {label} (n = {len(taken)})",
            value=float(np.percentile(taken, q)), unit="ms", decimals=0, limit=limit, peer=PEERS if q == 50 else "",
        )
        for q, label, limit in ((50, "p50", P50_MS), (99, "p99", P99_MS), (100, "max", MAX_MS))
    ]  # fmt: skip


if __name__ == "__main__":
    from validation.figure import machine, table

    print(machine())
    print(table(measure()))
