"""Is the bottleneck named right? The whole program runs, trouble of a known kind is put into its real processes, and what it says is counted.

`python -m validation.bottlenecks [--repeats N] [--calm SECONDS]` prints the confusion matrix: each kind N
times, in a shuffled order of a fixed seed, after three minutes of calm; and what was claimed in the calm
stretch at the end. Nothing else should run on the machine: another program's load is a bottleneck, too.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from metrics.paths import RuntimePaths
from validation.console import scratch_paths
from validation.figure import Figure, machine, table
from validation.program import Program, running_program

NAME = "bottlenecks"
KINDS = ("cpu_hog", "slow_disk", "gil_hog", "gc", "queue", "feed_stall")
INJECT = Path(__file__).with_name("inject")
REPEATS = 5
CALM_S = 600.0
TROUBLE_S = 25.0
REST_S = 40.0
LOOK_S = 1.0
READY_S = 400.0
LEAST_RIGHT = 0.9
NOTHING = "nothing"


def measure(
    say: Callable[[str], None] = print, *, repeats: int = REPEATS, calm_s: float = CALM_S, seed: int = 1
) -> list[Figure]:
    """Inject every kind `repeats` times; figures: how many were named right, claims in the calm stretch."""
    order = [kind for kind in KINDS for _ in range(repeats)]
    random.Random(seed).shuffle(order)
    said: list[tuple[str, str]] = []
    with scratch_paths() as paths, _injected(paths) as folder, running_program(paths, ["--fresh"]) as program:
        program.until(lambda: _bottleneck(program)["waits_s"] == 0, "a calm baseline", READY_S)
        claims = _claims(program, calm_s)
        say(f"{NAME}: {calm_s:g} calm seconds: {len(claims)} claims {dict(Counter(claims)) or ''}")
        for kind in order:
            named = _one(program, paths, folder, kind)
            said.append((kind, named))
            say(f"{NAME}: {kind} was named {named}")
    say(matrix(said))
    right = sum(kind == named for kind, named in said)
    return [
        Figure(
            benchmark=NAME, what=f"named right, of {len(said)} injected", value=right / max(len(said), 1), unit="ratio",
            limit=LEAST_RIGHT, at_most=False,
        ),
        Figure(
            benchmark=NAME, what=f"claims in {calm_s:g} calm seconds", value=len(claims), unit="claims", decimals=0, limit=0
        ),
    ]  # fmt: skip


def matrix(said: list[tuple[str, str]]) -> str:
    """The confusion matrix as text: a row for each kind that was injected, a column for each that was named."""
    counts = Counter(said)
    columns = [*KINDS, *sorted({named for _, named in said} - set(KINDS))]
    width = max(len(word) for word in (*KINDS, *columns)) + 2
    lines = ["injected".ljust(width) + "".join(word.rjust(width) for word in columns)]
    for kind in KINDS:
        lines.append(kind.ljust(width) + "".join(str(counts[kind, named] or ".").rjust(width) for named in columns))
    return "\n".join(lines)


def _one(program: Program, paths: RuntimePaths, folder: Path, kind: str) -> str:
    """Trouble for a while; the cause that was named longest, and then rest until it is calm again."""
    with _trouble(paths, folder, kind):
        seen = Counter(_claims(program, TROUBLE_S))
    _claims(program, REST_S)
    return seen.most_common(1)[0][0] if seen else NOTHING


def _claims(program: Program, seconds: float) -> list[str]:
    """The cause that is named, looked at once a second."""
    pause, end, seen = threading.Event(), time.monotonic() + seconds, []
    while time.monotonic() < end:
        pause.wait(LOOK_S)
        cause = _bottleneck(program)["cause"]
        if cause is not None:
            seen.append(str(cause))
    return seen


def _bottleneck(program: Program) -> dict[str, Any]:
    with urllib.request.urlopen(f"{program.url}/api/desk/profiles", timeout=60) as answer:  # noqa: S310 - our own address
        found: dict[str, Any] = json.loads(answer.read())["bottleneck"]
        return found


@contextmanager
def _injected(paths: RuntimePaths) -> Iterator[Path]:
    """An environment in which the program's processes do what the files in the yielded folder say."""
    folder = paths.data_dir / "inject"
    folder.mkdir()
    before = {key: os.environ.get(key) for key in ("PYTHONPATH", "BOTTLENECK_INJECT")}
    os.environ["BOTTLENECK_INJECT"] = str(folder)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(INJECT), before["PYTHONPATH"]]))
    try:
        yield folder
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key)
            else:
                os.environ[key] = value


@contextmanager
def _trouble(paths: RuntimePaths, folder: Path, kind: str) -> Iterator[None]:
    (folder / kind).touch()
    context = multiprocessing.get_context("spawn")
    helpers: list[BaseProcess] = []
    if kind == "cpu_hog":
        helpers = [context.Process(target=_spin, daemon=True) for _ in range(2 * (os.cpu_count() or 1))]
    elif kind == "queue":
        helpers = [context.Process(target=_flood, args=(paths,), daemon=True)]
    for helper in helpers:
        helper.start()
    try:
        yield
    finally:
        (folder / kind).unlink()
        for helper in helpers:
            helper.kill()
            helper.join()


def _spin() -> None:
    while True:
        sum(range(10_000))


def _flood(paths: RuntimePaths) -> None:
    from validation.flood import flood  # its kernel need not be loaded for the other kinds

    flood(paths)


def main() -> int:
    """Run it by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--calm", type=float, default=CALM_S)
    args = parser.parse_args()
    print(machine(), flush=True)
    figures = measure(lambda line: print(line, flush=True), repeats=args.repeats, calm_s=args.calm)
    print(table(figures))
    return 0 if all(figure.kept for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
