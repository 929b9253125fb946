"""Progress: what a sweep tells the one who waits for it, the file with its figures, and how it is asked to stop."""

from __future__ import annotations

import csv
import io
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, Final, TextIO

from engine.montecarlo.sweep.job import Row
from engine.montecarlo.sweep.sweep import Progress

BAR: Final = 30


class Report:
    """A bar on a terminal, JSON lines where asked, else nothing until the end."""

    def __init__(self, *, as_json: bool, out: TextIO | None = None, terminal: TextIO | None = None) -> None:
        self._json, self._out, self._terminal = as_json, out or sys.stdout, terminal or sys.stderr
        self._bar = not as_json and self._terminal.isatty()

    def progress(self, progress: Progress) -> None:
        """How far it is."""
        if self._json:
            self._line(
                asdict(progress) | {"event": "progress", "samples_per_second": round(progress.samples_per_second)}
            )
        elif self._bar:
            filled = BAR * progress.finished // progress.blocks
            left = "" if progress.seconds_left is None else f", {progress.seconds_left:,.0f} s left"
            lost = f", {progress.workers_lost} workers lost" if progress.workers_lost else ""
            words = f"{progress.finished:,} of {progress.blocks:,} blocks, {progress.samples_per_second:,.0f} samples/s"
            self._terminal.write(f"\r\x1b[K[{'#' * filled}{'.' * (BAR - filled)}] {words}{left}{lost}")
            self._terminal.flush()

    def stopped(self, progress: Progress, state: Path) -> None:
        """It was asked to stop before the end."""
        self._end_bar()
        words = f"stopped with {progress.finished:,} of {progress.blocks:,} blocks in {state}; the same command goes on"
        if self._json:
            self._line({"event": "stopped", "state": str(state), "message": words} | asdict(progress))
        else:
            self._terminal.write(words + "\n")

    def finished(self, progress: Progress, rows: Sequence[Row], out: Path) -> None:
        """The figures."""
        self._end_bar()
        if self._json:
            shown = [{name: value for name, value in row.items() if value is not None} for row in rows]
            pace = round(progress.samples_per_second)
            self._line(
                {"event": "result", "file": str(out), "rows": shown, "samples_per_second": pace} | asdict(progress)
            )
            return
        for row in rows:
            words = (f"{name} {_shown(value)}" for name, value in row.items() if value is not None)
            self._out.write("  ".join(words) + "\n")
        lost = (
            f"; {progress.workers_lost} workers were lost and their blocks computed again"
            if progress.workers_lost
            else ""
        )
        self._out.write(
            f"{out}: {progress.samples:,} samples in {progress.seconds:.1f} s ({progress.samples_per_second:,.0f} a second), "
            f"{progress.resumed:,} of {progress.blocks:,} blocks from an earlier run{lost}\n"
        )

    def _line(self, said: dict[str, object]) -> None:
        self._out.write(json.dumps(said) + "\n")
        self._out.flush()

    def _end_bar(self) -> None:
        if self._bar:
            self._terminal.write("\n")


def _shown(value: float | int | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


def write_rows(rows: Sequence[Row], file: BinaryIO) -> None:
    """The figures as CSV, numbers with all their digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    file.write(text.getvalue().encode())


@contextmanager
def stop_signal() -> Iterator[Callable[[], bool]]:
    """A question whether Ctrl-C or SIGTERM has come; a block that is being added is finished first."""
    asked: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: asked.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
