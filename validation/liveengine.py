"""A live engine on the synthetic market, with limits so wide that a benchmark's orders run into none."""

from __future__ import annotations

import multiprocessing
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from engine.options import EngineOptions, GateOptions
from engine.runner import run_engine
from engine.telemetry import BlockReader
from metrics.catalogue import series
from metrics.errors import TransientError
from metrics.paths import RuntimePaths

START_S = 180.0


@contextmanager
def live_engine(paths: RuntimePaths) -> Iterator[tuple[RuntimePaths, str, float]]:
    """A live engine with wide limits; its files, a symbol, and a price of it that does not trade."""
    wide, many = 1e15, 10**12  # of what a flood of equal orders would run into
    gates = GateOptions(
        max_messages_per_s=1e6, message_burst=100_000, max_loss_usd=1e9, max_period_usd=wide, max_period_qty=many,
        max_identical=many, max_repeats=many,
    )  # fmt: skip
    options = EngineOptions(gates=gates)
    process = multiprocessing.get_context("spawn").Process(target=run_engine, args=(options, paths))
    process.start()
    reader, end = BlockReader(paths.engine_block), time.monotonic() + START_S
    symbol, mid = "", float("nan")
    try:
        while not mid > 0.0:
            if time.monotonic() > end or not process.is_alive():
                raise RuntimeError(f"the engine did not trade within {START_S:g} s")
            time.sleep(0.05)
            try:
                snapshot = reader.read()
            except TransientError:
                continue
            symbol = snapshot.spec.info["instruments"][0]
            mid = snapshot.scalar(series("deskvigil_engine_mid_usd", symbol=symbol))
        yield paths, symbol, round(mid * 97.0) / 100.0
    finally:
        process.kill()
        process.join(10)
        shutil.rmtree(paths.block_dir, ignore_errors=True)
