"""The console finds out which process leaks, and where."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from console.memory import MemoryWatch
from metrics.catalogue import series
from metrics.clock import SystemClock
from metrics.frame import Frame
from resources.leaks import LeakVerdict
from resources.memoryoptions import MemoryOptions

FASTER = 600.0  # a second of the program is ten minutes of its trace
# An engine's process in small, with a leak of 1 MB a minute of trace: 10 MB a second.
PROGRAM = """
import sys, threading, time
from pathlib import Path
sys.path.insert(0, ".")
import numpy as np
from resources.memoryreport import MemoryReporter
FASTER = float(sys.argv[2])
kept, stop = [], threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
with MemoryReporter(Path(sys.argv[1]), "engine", 0.1, lambda: time.monotonic() * FASTER):
    print("up", flush=True)
    begun, leaked = time.monotonic(), 0
    while not stop.wait(0.002):
        orders = np.random.random(2000).cumsum()
        while leaked < (time.monotonic() - begun) * FASTER / 60 * 1e6:
            kept.append(np.ones(2500))  # the leak
            leaked += 20_000
"""
LEAK_LINE = next(i for i, line in enumerate(PROGRAM.splitlines(), 1) if "# the leak" in line)


class FastClock(SystemClock):
    def monotonic_ns(self) -> int:
        return int(time.monotonic_ns() * FASTER)


def value(frame: Frame, name: str, /, **labels: str) -> float:
    return float(frame.values[frame.schema.index[series(name, process="engine", **labels)]])


def test_a_leak_in_the_engines_process_is_named_with_its_line_within_two_hours_of_trace(tmp_path: Path) -> None:
    program, notes = tmp_path / "leaking.py", []
    program.write_text(PROGRAM)
    options = MemoryOptions(site_burst_s=1.0)
    process = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path), str(FASTER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"up\n"
        begun_s = time.monotonic()
        watch = MemoryWatch(FastClock(), options, tmp_path, ["engine", "risk"], notes.append, period_s=0.1 * FASTER)
        named_s = slope = math.nan
        frame = watch.collect(0)
        while not notes and time.monotonic() - begun_s < 60:
            threading.Event().wait(0.05)
            frame = watch.collect(0)
            if math.isnan(named_s) and value(frame, "deskvigil_resource_leak_verdict") == LeakVerdict.LEAK:
                named_s = time.monotonic() - begun_s
                slope = value(frame, "deskvigil_resource_leak_slope_bytes_per_second")
    finally:
        process.kill()
        process.communicate()
    assert named_s * FASTER <= 7_200
    assert slope == pytest.approx(1e6 / 60, rel=0.25)
    assert f"leaking.py:{LEAK_LINE} " in notes[0].split("grows at ")[1].split(",")[0]
    sites = [one for one in frame.schema.series if one.name == "deskvigil_resource_leak_site_bytes_per_second"]
    assert any(f"leaking.py:{LEAK_LINE}" in dict(one.labels)["site"] for one in sites)
    risk = [
        v for one, v in zip(frame.schema.series, frame.values, strict=True) if dict(one.labels)["process"] == "risk"
    ]
    assert np.isnan(risk).all()
