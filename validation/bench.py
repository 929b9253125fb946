"""The benchmarks by name, and one table of what they gave on this machine."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from metrics.errors import ConfigError
from validation.figure import Figure, machine, table

# Each module has `measure(say) -> list[Figure]`. They are imported when asked for: compiling takes seconds.
BENCHMARKS = {
    "book": "validation.bench_book",
    "execution": "validation.execution",
    "gates": "validation.bench_gates",
    "halt": "validation.bench_halt",
    "knight": "validation.knight",
    "feeds": "validation.bench_feeds",
    "path": "validation.bench_path",
    "montecarlo": "validation.bench_montecarlo",
    "gpu": "validation.bench_gpu",
    "host": "validation.bench_host",
    "scrape": "validation.bench_scrape",
    "alert-latency": "validation.bench_alert_latency",
    "detectors": "validation.bench_detectors",
    "archive": "validation.bench_archive",
    "cost": "validation.bench_cost",
    "query": "validation.bench_query",
    "backtest": "validation.bench_backtest",
    "start": "validation.bench_start",
    "profiler": "validation.bench_profiler",
    "bottlenecks": "validation.bottlenecks",
    "recovery": "validation.bench_recovery",
    "browser": "validation.bench_browser",
    "ingest": "validation.bench_http",
    "forward": "validation.bench_forward",
    "leaks": "validation.bench_leaks",
    "optimisers": "validation.bench_optimisers",
}


def run_benchmarks(names: Sequence[str], data_dir: Path | None = None) -> int:
    """Run the named benchmarks (all where none is named) and print their table.

    data_dir: where to write the table too, as benchmarks.txt. Returns 1 where a limit is missed or a
    benchmark could not run, else 0. ConfigError where a name is unknown.
    """
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        raise ConfigError(f"no benchmark is named {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    print(machine(), flush=True)
    figures: list[Figure] = []
    failures: list[str] = []
    for name in names or BENCHMARKS:
        try:
            figures += importlib.import_module(BENCHMARKS[name]).measure(_say)
        except Exception as error:  # one benchmark that cannot run must not hide the others' figures
            failures.append(f"{name} could not be measured: {type(error).__name__}: {error}")
    report = "\n".join([table(figures), *failures])
    print(f"\n{report}")
    if data_dir is not None:
        data_dir.mkdir(parents=True, exist_ok=True)
        (data_dir / "benchmarks.txt").write_text(f"{machine()}\n{report}\n")
    return 1 if failures or not all(figure.kept for figure in figures) else 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(run_benchmarks(sys.argv[1:]))
