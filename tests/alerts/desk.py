"""A small desk for tests: a real store, a real query engine, the alert service, and frames by hand.

Run as a program (`python -m tests.alerts.desk FOLDER RULES URL VALUE...`) it is what the kill tests kill.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from alerts.channels.channel import Channel
from alerts.options import AlertOptions, OutboxOptions, WebhookOptions
from alerts.service import AlertService
from alerts.state import AlertState
from alerts.stats import AlertsCollector
from metrics.clock import Clock, ManualClock, SystemClock
from metrics.frame import Frame
from metrics.paths import RuntimePaths
from metrics.series import Schema, Series, make_labels
from query.engine import QueryEngine
from query.options import QueryOptions
from storage.options import DatabaseOptions, StorageOptions
from storage.store import Store

SHIPPED = AlertOptions()


def rules_file(folder: Path, body: str, interval: str = "100ms") -> Path:
    """Write rules given as the `rules` list of one group."""
    path = folder / "rules.yml"
    indented = "".join(f"      {line}\n" for line in body.strip("\n").splitlines())
    path.write_text(f"groups:\n  - name: g\n    interval: {interval}\n    rules:\n{indented}")
    return path


class StillClock(ManualClock):
    """Moves only when the test says so: threads that wait on it do not push it on."""

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        return event.wait(min(timeout_s, 0.05))


class Desk:
    """Everything between a frame and a message."""

    def __init__(
        self,
        folder: Path,
        rules: Path | None,
        channels: Sequence[Channel] | None = None,
        clock: Clock | None = None,
        database: str = "",
        **options: object,
    ) -> None:
        self.clock = clock or SystemClock()
        where = DatabaseOptions(url=database)
        self.store = Store.open(StorageOptions(), RuntimePaths(folder / "data"), self.clock, database=where)
        self.query = QueryEngine(self.store.reader, QueryOptions(), self.clock)
        keys = {
            "slow_tick_s": 0.2,
            "flapping_changes": 0,
            "outbox": OutboxOptions(retry_first_s=0.05, retry_max_s=1.0),
            **options,
        }
        self.options = AlertOptions(rules=(rules,) if rules else (), **keys)
        try:
            self.service = AlertService(self.store, self.query, self.options, self.clock, channels)
        except BaseException:
            self.store.close()
            raise
        self._schemas: dict[tuple[str, tuple[Series, ...]], Schema] = {}

    def start(self) -> Desk:
        self.store.start()
        self.service.start()
        return self

    def close(self) -> None:
        self.service.stop()
        self.store.close()

    def __enter__(self) -> Desk:
        return self.start()

    def __exit__(self, *args: object) -> None:
        self.close()

    def frame(self, collector: str, values: Mapping[str, float], at_ns: int | None = None) -> None:
        """Append one frame; names may carry labels: `name{label=value}`."""
        series = tuple(_series(text) for text in values)
        schema = self._schemas.setdefault((collector, series), Schema(collector, series))
        now_ns = self.clock.now_ns() if at_ns is None else at_ns
        self.store.live.append(Frame(schema, now_ns, np.array(list(values.values()), dtype=np.float64)))

    def states(self) -> dict[str, str]:
        """State of each alert by its name."""
        return {view.name: view.state.value for view in self.service.active()}

    def publish_own_figures(self) -> None:
        self.store.live.append(AlertsCollector(self.service).collect(self.clock.now_ns()))


def _series(text: str) -> Series:
    name, _, rest = text.partition("{")
    pairs = (pair.split("=", 1) for pair in rest.rstrip("}").split(",") if pair)
    return Series(name, make_labels(dict(pairs)))


def churn(folder: str, rules: str, url: str, seed: int, series: int) -> None:
    """Let alerts come and go fifty times a second until killed."""
    hook = WebhookOptions(url=url, allow=("127.0.0.1",), timeout_s=2.0, max_per_minute=0.0)
    chance = random.Random(seed)
    pause = threading.Event()
    with Desk(Path(folder), Path(rules), webhook=hook, restore_grace_s=0.0) as desk:
        while True:
            desk.frame("engine", {f"x{{i={n}}}": chance.choice((0.0, 2.0)) for n in range(series)})
            pause.wait(0.02)


def main(folder: str, rules: str, url: str, *values: str) -> None:
    """Append the values ten times a second, the last one for ever; say what state the alert is in."""
    hook = WebhookOptions(url=url, allow=("127.0.0.1",), timeout_s=2.0)
    with Desk(Path(folder), Path(rules), webhook=hook) as desk:
        said = ""
        collector = AlertsCollector(desk.service)
        pause = threading.Event()
        for tick in range(100_000):
            desk.frame("engine", {"x": float(values[min(tick, len(values) - 1)])})
            if tick % 5 == 0:
                desk.store.live.append(collector.collect(desk.clock.now_ns()))
            pause.wait(0.1)
            views = desk.service.active()
            now = ",".join(f"{view.state.value} {view.active_since_ms}" for view in views) or AlertState.INACTIVE.value
            sent = desk.service.stats().channels["webhook"].sent
            if (line := f"{now} sent={sent}") != said:
                said = line
                sys.stdout.write(f"{said}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
