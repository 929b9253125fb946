"""LiveHub: from frames in collector threads to the same bytes in every browser.

Each message of the stream carries a sequence number and is serialised once. A viewer has a bounded
queue; one that cannot keep up loses the queue and gets a snapshot instead. One that reconnects
says the last number it saw and is sent what it missed, or a snapshot where that is no longer kept.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from dashboard.backfill import Backfill
from dashboard.desk import DeskWords
from dashboard.judge import KpiJudge
from dashboard.selection import select
from dashboard.services import Services
from metrics.frame import Frame, IntArray
from metrics.kpi import KPIS
from metrics.series import Schema, Series

log = logging.getLogger(__name__)

STATE_EVERY_S = 0.5
STATE_EVERY_UNSEEN_S = 2.0  # while nobody looks, the words only have to be fresh enough for a newcomer
ALERT_VALUES_EVERY_S = 2.0
BEAT_EVERY_S = 1.0
_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


@dataclass
class LiveStats:
    """Counters since the start."""

    messages: int = 0
    bytes_sent: int = 0
    snapshots: int = 0
    dropped: int = 0
    refused: int = 0
    state_failures: int = 0


@dataclass(eq=False)
class _Channel:
    """The live series of one collector: where they lie in its frames, and the newest frame."""

    schema: Schema
    series: tuple[Series, ...]
    positions: IntArray
    frame: Frame | None = None
    arrived_ns: int = 0


@dataclass(eq=False)
class Viewer:
    """One connected page. `lagging` means: forget the queue, a snapshot is due."""

    queue: deque[bytes]
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    lagging: bool = False
    question: dict[str, Any] | None = None  # of the Orders page, while it is open
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, message: bytes) -> bool:
        """Queue a message; False where the viewer has fallen behind and was cut off."""
        fits = not self.lagging and len(self.queue) < (self.queue.maxlen or 1)
        if fits:
            self.queue.append(message)
        else:
            self.queue.clear()
            self.lagging = True
        self.wake.set()
        return fits


class LiveHub:
    """Takes frames in from any thread, keeps what pages need, and feeds viewers from the event loop.

    Viewers, messages and snapshots belong to the loop's thread; only `_on_frame` and
    `_alerts_changed` run elsewhere.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._options = services.options
        self._clock = services.clock
        self.stats = LiveStats()
        self.epoch = secrets.token_hex(6)
        self.backfill = Backfill(services.reader, services.clock, self.live_series)
        self._sequence = 0
        self._replay: deque[tuple[int, bytes]] = deque(maxlen=self._options.live_replay)
        self._viewers: set[Viewer] = set()
        self._lock = threading.Lock()
        self._channels: dict[str, _Channel] = {}
        self._pending: dict[str, _Channel] = {}
        self._relaid: set[str] = set()
        self._judges = {kpi.key: KpiJudge(kpi) for kpi in KPIS}
        self._words = DeskWords(services)
        self._state: dict[str, Any] = {}
        self._alerts: dict[str, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._frames_wait = asyncio.Event()
        self._alerts_wait = asyncio.Event()
        self._state_wait = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._unsubscribe: list[Any] = []

    # --- life ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Subscribe and begin; does nothing where it runs already."""
        if self._tasks:
            return
        self._loop = asyncio.get_running_loop()
        self._unsubscribe = [
            self._services.live.subscribe(self._on_frame),
            self._services.alerts.on_change(self._alerts_changed),
        ]
        self._alerts_wait.set()
        self._tasks = [
            self._loop.create_task(loop_(), name=name)
            for name, loop_ in (("ticks", self._ticks), ("state", self._states), ("alerts", self._alert_changes))
        ]

    async def stop(self) -> None:
        """End the tasks and let go of the sources; may be called twice."""
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._unsubscribe = []
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    # --- viewers ------------------------------------------------------------------------------

    @property
    def viewers(self) -> int:
        return len(self._viewers)

    def join(self, epoch: str, sequence: int) -> Viewer | None:
        """Admit a viewer that saw `epoch` up to `sequence`; None where the house is full."""
        if len(self._viewers) >= self._options.max_viewers:
            self.stats.refused += 1
            return None
        viewer = Viewer(deque(maxlen=self._options.live_queue))
        missed = self._missed(epoch, sequence)
        if missed is None or len(missed) >= self._options.live_queue:
            viewer.lagging = True
        else:
            viewer.queue.extend(missed)
        viewer.wake.set()
        self._viewers.add(viewer)
        self._state_wait.set()
        return viewer

    def leave(self, viewer: Viewer) -> None:
        self._viewers.discard(viewer)

    def snapshot(self) -> bytes:
        """Everything a page needs to stand where the stream is now, charts' history excepted."""
        self.stats.snapshots += 1
        with self._lock:
            channels = dict(self._channels)
        return orjson.dumps(
            {
                "k": "snapshot",
                "epoch": self.epoch,
                "seq": self._sequence,
                "now": self._now_ms(),
                "layouts": {name: [str(one) for one in channel.series] for name, channel in channels.items()},
                "frames": [self._row(name, channel) for name, channel in channels.items() if channel.frame is not None],
                "state": self._state,
                "alerts": self._alerts,
            },
            option=_JSON,
        )

    def live_series(self) -> list[Series]:
        """Every series that the stream carries now."""
        with self._lock:
            return [one for channel in self._channels.values() for one in channel.series]

    def _missed(self, epoch: str, sequence: int) -> list[bytes] | None:
        """Messages after `sequence`, or None where they are not all kept."""
        if epoch != self.epoch or sequence > self._sequence:
            return None
        if sequence == self._sequence:
            return []
        if not self._replay or self._replay[0][0] > sequence + 1:
            return None
        return [message for number, message in self._replay if number > sequence]

    # --- the stream ---------------------------------------------------------------------------

    def _publish(self, body: dict[str, Any]) -> None:
        """Number a message, serialise it once, and queue the same bytes for everybody."""
        self._sequence += 1
        message = orjson.dumps({**body, "seq": self._sequence, "now": self._now_ms()}, option=_JSON)
        self._replay.append((self._sequence, message))
        self.stats.messages += 1
        for viewer in self._viewers:
            self.stats.dropped += not viewer.offer(message)

    def _on_frame(self, frame: Frame) -> None:
        """Take a frame, in its collector's thread; a newer one replaces one not yet sent."""
        name = frame.schema.collector
        with self._lock:
            channel = self._channels.get(name)
            if channel is None or channel.schema is not frame.schema:
                channel = self._lay_out(frame.schema)
            channel.frame, channel.arrived_ns = frame, self._clock.monotonic_ns()
            if len(channel.series) == 0:
                return
            self._pending[name] = channel
        loop = self._loop
        if loop is not None and not self._frames_wait.is_set():
            with suppress(RuntimeError):  # the loop is closed: the program is ending
                loop.call_soon_threadsafe(self._frames_wait.set)

    def _lay_out(self, schema: Schema) -> _Channel:
        """Note where a schema's live series lie; called with the lock held."""
        positions = select(schema.series)
        series = tuple(schema.series[position] for position in positions)
        known = self._channels.get(schema.collector)
        if known is None or known.series != series:
            self._relaid.add(schema.collector)
        channel = _Channel(schema, series, np.array(positions, np.int64))
        self._channels[schema.collector] = channel
        return channel

    async def _ticks(self) -> None:
        """Send what has arrived, at once, but not more often than every `live_gap_ms`."""
        gap_s = self._options.live_gap_ms / 1000
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._frames_wait.wait(), BEAT_EVERY_S)
            self._frames_wait.clear()
            self._tick()
            await asyncio.sleep(gap_s)

    def _tick(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
            relaid, self._relaid = self._relaid, set()
            layouts = {name: [str(one) for one in self._channels[name].series] for name in relaid}
        body: dict[str, Any] = {"k": "tick", "f": [self._row(name, channel) for name, channel in pending.items()]}
        if layouts:
            body["layouts"] = layouts
        for channel in pending.values():
            self._judge(channel)
        self._publish(body)

    def _row(self, name: str, channel: _Channel) -> list[Any]:
        """Collector, sample time, age in ms by the monotonic clock, values in the layout's order."""
        frame = channel.frame
        if frame is None or frame.schema is not channel.schema:
            return [name, 0, 0, []]
        age_ms = (self._clock.monotonic_ns() - channel.arrived_ns) // 1_000_000
        return [name, frame.t_ms, age_ms, frame.values[channel.positions]]

    def _judge(self, channel: _Channel) -> None:
        frame = channel.frame
        if frame is None:
            return
        for kpi in KPIS:
            if kpi.collector == frame.schema.collector:
                position = frame.schema.index.get(kpi.series)
                value = float("nan") if position is None else float(frame.values[position])
                self._judges[kpi.key].update(value, frame.t_ms, channel.arrived_ns)

    # --- words --------------------------------------------------------------------------------

    def _alerts_changed(self, *_: object) -> None:
        """Called by the alert service, in any thread."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._alerts_wait.set)

    async def _alert_changes(self) -> None:
        """Push alerts when they change; their values, which move all the time, every two seconds."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._alerts_wait.wait(), ALERT_VALUES_EVERY_S)
            changed = self._alerts_wait.is_set()
            self._alerts_wait.clear()
            message = await self._asked(self._words.alerts, changed)
            if message is not None and message != self._alerts:
                self._alerts = message
                self._publish(message)
                await self._say()

    async def _states(self) -> None:
        while True:
            await self._say()
            self._state_wait.clear()
            with suppress(TimeoutError):
                every_s = STATE_EVERY_S if self._viewers else STATE_EVERY_UNSEEN_S
                await asyncio.wait_for(self._state_wait.wait(), every_s)

    async def _say(self) -> None:
        """Push state and sentence where they have changed."""
        verdicts = [judge.verdict for judge in self._judges.values()]
        message = await self._asked(self._words.state, verdicts)
        if message is not None and message != self._state:
            self._state = message
            self._publish(message)

    async def _asked(self, question: Any, *arguments: Any) -> dict[str, Any] | None:
        """Ask in a worker thread; None where it failed, which is logged once in a row."""
        try:
            answer: dict[str, Any] = await asyncio.to_thread(question, *arguments)
        except Exception:  # one failing source must not stop the stream
            self.stats.state_failures += 1
            if self.stats.state_failures & (self.stats.state_failures - 1) == 0:
                log.exception("the state of the desk cannot be told (%d times)", self.stats.state_failures)
            return None
        return answer

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000
