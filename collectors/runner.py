"""CollectorThread: asks one collector at a fixed rate and hands its frames on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from collectors.collector import Collector
from collectors.schedule import Schedule
from metrics.catalogue import series
from metrics.clock import Clock
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, Frame
from metrics.series import Schema

log = logging.getLogger(__name__)

OWN_METRICS = (
    "deskvigil_collector_up",
    "deskvigil_collector_collect_seconds",
    "deskvigil_collector_cpu_seconds_total",
    "deskvigil_collector_handover_cpu_seconds_total",
    "deskvigil_collector_ticks_total",
    "deskvigil_collector_late_ticks_total",
    "deskvigil_collector_errors_total",
)
MAX_REASONS = 32
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class CollectorState:
    """How a collector is doing: reason is "" while all is well, else the words of what failed last.

    cpu_s and handover_cpu_s are CPU seconds spent so far, collecting and handing frames on.
    """

    name: str
    interval_s: float
    up: bool
    reason: str
    ticks: int
    late_ticks: int
    errors: int
    cpu_s: float
    handover_cpu_s: float


class CollectorThread:
    """One thread that calls one collector in the slots of a Schedule and hands each frame to `sink`.

    A slot that has gone by while the collector was still busy is skipped and counted. A collector
    that raises is counted, logged once per reason, and asked again at the next slot; meanwhile its
    frames hold NaN, so what is known about the failure still reaches the archive. Every frame
    carries the collector's own cost (OWN_METRICS) after the collector's series.

    phase is the part of an interval by which ticks lie after the wall clock's boundary: a little, so
    that clock slew never puts two ticks into one second. Collectors that tick together cost less than
    ones spread out: the machine is woken once, and one pass of the rules takes all their frames.
    """

    def __init__(
        self, collector: Collector, clock: Clock, sink: Callable[[Frame], None], *, phase: float = 0.02
    ) -> None:
        self._collector = collector
        self._clock = clock
        self._sink = sink
        self._interval_ns = round(collector.interval_s * 1e9)
        self._schedule = Schedule(self._interval_ns, round(phase * self._interval_ns))
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._own = tuple(series(name, collector=collector.name) for name in OWN_METRICS)
        self._inner: Schema | None = None
        self._schema = Schema(collector.name, self._own)
        self._logged: dict[str, None] = {}
        self._reason = self._sink_reason = ""
        self._announced = False
        self._ticks = self._late = self._errors = 0
        self._cpu_ns = self._handover_ns = 0

    @property
    def name(self) -> str:
        """The collector's name."""
        return self._collector.name

    @property
    def state(self) -> CollectorState:
        """How the collector is doing; safe to read from any thread."""
        return CollectorState(
            self._collector.name,
            self._collector.interval_s,
            not self._reason,
            self._reason or self._sink_reason,
            self._ticks,
            self._late,
            self._errors,
            self._cpu_ns / 1e9,
            self._handover_ns / 1e9,
        )

    def start(self) -> None:
        """Begin ticking; a second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self.run, name=f"collector-{self._collector.name}", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread within STOP_SECONDS; a collector stuck in a driver is left behind with a warning."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(STOP_SECONDS)
            if self._thread.is_alive():
                log.warning("collector %s does not return from its source and is left behind", self._collector.name)

    def run(self) -> None:
        """The thread's body: tick in each slot until stopped, then close the collector."""
        clock = self._clock
        slot_ns = self._schedule.start(clock.monotonic_ns(), clock.now_ns())
        try:
            while not self._wait_until(slot_ns):
                self.tick(clock.now_ns())
                slot_ns, skipped = self._schedule.next(clock.monotonic_ns(), clock.now_ns())
                self._late += skipped
        finally:
            self._collector.close()

    def tick(self, now_ns: int) -> None:
        """Collect once and hand the frame on; never raises."""
        cpu_ns, began_ns = time.thread_time_ns(), self._clock.monotonic_ns()
        self._ticks += 1
        schema: Schema | None
        values: FloatArray | None
        try:
            frame = self._collector.collect(now_ns)
            schema, values, t_ns = frame.schema, frame.values, frame.t_ns
            self._recovered()
        except Exception as error:  # one failing source must not stop its own retries
            self._reason = self._failed("collect", error)
            schema, values, t_ns = self._last_schema(), None, now_ns
        took_s = (self._clock.monotonic_ns() - began_ns) / 1e9
        self._cpu_ns += time.thread_time_ns() - cpu_ns
        self._hand_over(self._wrap(schema, values, t_ns, took_s))

    def _wait_until(self, slot_ns: int) -> bool:
        """Wait for the slot; True where the thread is to end."""
        while (left_ns := slot_ns - self._clock.monotonic_ns()) > 0:
            if self._clock.wait(self._stop, left_ns / 1e9):
                return True
        return self._stop.is_set()

    def _wrap(self, inner: Schema | None, values: FloatArray | None, t_ns: int, took_s: float) -> Frame:
        if inner is not self._inner:
            self._inner = inner
            self._schema = Schema(self._collector.name, (inner.series if inner else ()) + self._own)
        whole = np.full(len(self._schema), np.nan)
        count = len(self._schema) - len(self._own)
        if values is not None:
            whole[:count] = values
        whole[count:] = (
            values is not None,
            took_s,
            self._cpu_ns / 1e9,
            self._handover_ns / 1e9,
            self._ticks,
            self._late,
            self._errors,
        )
        return Frame(self._schema, t_ns, whole)

    def _hand_over(self, frame: Frame) -> None:
        cpu_ns = time.thread_time_ns()
        try:
            self._sink(frame)
            self._sink_reason = ""
        except Exception as error:  # the ring's or a rule's trouble must not end the collecting
            self._sink_reason = self._failed("hand its frame over", error)
        self._handover_ns += time.thread_time_ns() - cpu_ns

    def _last_schema(self) -> Schema | None:
        """The series of the last good frame, or those that the collector can name without reading."""
        if self._inner is not None:
            return self._inner
        try:
            return self._collector.describe()
        except Exception:
            return None

    def _failed(self, what: str, error: Exception) -> str:
        """Count the failure, log it where its reason is new, and return the reason in words."""
        self._errors += 1
        expected = isinstance(error, DeskvigilError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        if reason not in self._logged:
            if len(self._logged) >= MAX_REASONS:
                self._logged.pop(next(iter(self._logged)))
            self._logged[reason] = None
            self._announced = True
            trace = None if expected else error
            log.warning("collector %s cannot %s: %s", self._collector.name, what, reason, exc_info=trace)
        return reason

    def _recovered(self) -> None:
        if self._reason and self._announced:  # a source that flaps is announced once, not at every turn
            log.info("collector %s is back after: %s", self._collector.name, self._reason)
            self._announced = False
        self._reason = ""
