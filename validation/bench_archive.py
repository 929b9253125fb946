"""The archive's figures: bytes on disk, ingest, queries over many days, restart, and what a commit waits for."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from validation.archive_density import density
from validation.archive_speed import hundred_thousand_series, ingest, long_queries, restart, stalls
from validation.figure import Figure, machine, table
from validation.stores.generated import Shape

NAME = "archive"
SHARED = "../shared/metricsdata/host-1s.parquet"


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveBench:
    """What is measured: the capture, and how large the generated store is. keep: where it is kept for the next time."""

    capture: Path
    shape: Shape
    keep: Path | None = None


def measure(say: Callable[[str], None] = print) -> list[Figure]:
    """Measure with what the environment says.

    DESKVIGIL_METRICSDATA: another capture. DESKVIGIL_BENCH_DAYS, DESKVIGIL_BENCH_SERIES: a smaller store.
    DESKVIGIL_BENCH_DIR: where the generated store is kept; without it it is made anew, which takes minutes.
    """
    keep = os.environ.get("DESKVIGIL_BENCH_DIR")
    return run(
        ArchiveBench(
            capture=Path(os.environ.get("DESKVIGIL_METRICSDATA", SHARED)),
            shape=Shape(
                int(os.environ.get("DESKVIGIL_BENCH_DAYS", "30")), int(os.environ.get("DESKVIGIL_BENCH_SERIES", "1000"))
            ),
            keep=Path(keep) if keep else None,
        ),
        say,
    )


def run(what: ArchiveBench, say: Callable[[str], None]) -> list[Figure]:
    """Everything, one after the other."""
    with tempfile.TemporaryDirectory(prefix="deskvigil-bench-") as name:
        folder = Path(name)
        return [
            *density(what.capture, folder, say),
            *ingest(folder, say),
            *stalls(folder, say),
            *restart(folder, say),
            *hundred_thousand_series(folder, say),
            *long_queries(what.keep or folder, what.shape, say),
        ]


def main() -> None:
    """`python -m validation.bench_archive`: the same with arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capture", type=Path, default=Path(SHARED), help="Parquet file: series, ts_ms, value")
    parser.add_argument("--days", type=int, default=30, help="of the generated store")
    parser.add_argument("--series", type=int, default=1_000, help="of the generated store, 600 or more")
    parser.add_argument("--keep", type=Path, help="folder in which the generated store stays for the next time")
    args = parser.parse_args()
    what = ArchiveBench(capture=args.capture, shape=Shape(args.days, args.series), keep=args.keep)
    print(machine(), flush=True)
    print("\n" + table(run(what, lambda line: print(line, flush=True))))


if __name__ == "__main__":
    main()
