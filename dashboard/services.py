"""Services: everything the dashboard asks of the rest of the program, as one value.

`app.py` builds it. The dashboard looks nothing up and starts nothing of its own but the live hub;
each collaborator is a small Protocol, so that a test can hand in a real part or a stand-in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter

from alerts.backtest import Backtest
from alerts.reload import FileStatus, Version
from alerts.views import AlertEvent, AlertView, ChannelView, DeliveryView, EscalationView, NotificationView, RotaView
from dashboard.options import WebOptions
from dashboard.room.engineroom import EngineRoom
from dashboard.room.resourceroom import ResourceRoom
from dashboard.room.riskroom import RiskRoom
from metrics.clock import Clock
from metrics.errors import DeskvigilError
from metrics.frame import FloatArray, Frame, IntArray
from metrics.series import Schema, Series
from query.matchers import Matcher

TradingState = Literal["ACTIVE", "REDUCING", "HALTED", "DOWN"]


class LiveSource(Protocol):
    """The live ring: where frames arrive (`storage.live`)."""

    @property
    def schemas(self) -> Mapping[str, Schema]: ...

    def subscribe(self, callback: Callable[[Frame], None]) -> Callable[[], None]:
        """Call back for each frame, in the collector's thread; the result ends it."""
        ...


class SeriesValues(Protocol):
    """One series' samples: t_ms int64 (n,) ascending, values float64 (n,)."""

    @property
    def series(self) -> Series: ...
    @property
    def t_ms(self) -> IntArray: ...
    @property
    def values(self) -> FloatArray: ...


class Reader(Protocol):
    """One view over ring, frames and chunks (`storage.reader`)."""

    def select(self, matchers: Sequence[tuple[str, str, str]], t0_ms: int, t1_ms: int) -> Sequence[SeriesValues]: ...
    def series(
        self, matchers: Sequence[tuple[str, str, str]] = (), t0_ms: int | None = None, t1_ms: int | None = None
    ) -> Sequence[Series]: ...


class QueryResult(Protocol):
    """What a query gave: labels per series, values float64 (series, steps), present bool of the same shape."""

    @property
    def kind(self) -> str: ...
    @property
    def labels(self) -> Sequence[Mapping[str, str]]: ...
    @property
    def t_ms(self) -> IntArray: ...
    @property
    def values(self) -> FloatArray: ...
    @property
    def present(self) -> npt.NDArray[np.bool_]: ...
    @property
    def warnings(self) -> Sequence[str]: ...


class Prepared(Protocol):
    """A parsed expression."""

    @property
    def selectors(self) -> Sequence[tuple[Matcher, ...]]:
        """The matchers of each of its selectors, in reading order."""
        ...


class SeriesIndex(Protocol):
    """Which series there are, of a time range those that have data in it."""

    def series(
        self, matchers: Sequence[Matcher] = (), t0_ms: int | None = None, t1_ms: int | None = None
    ) -> Sequence[Series]: ...


class Query(Protocol):
    """PromQL; raises a DeskvigilError whose message says where and why."""

    @property
    def source(self) -> SeriesIndex:
        """Where its answers come from: the store here, or a remote one."""
        ...

    def prepare(self, expression: str) -> Prepared: ...

    def range(self, expr: str, start_ms: int, end_ms: int, step_ms: int) -> QueryResult: ...


class Alerts(Protocol):
    """The alert service, as far as the pages use it; everything may be called from any thread."""

    def active(self) -> Sequence[AlertView]: ...
    def history(self, limit: int = 200, before_ms: int | None = None) -> Sequence[AlertEvent]: ...
    def notifications(self, limit: int = 200, before_ms: int | None = None) -> Sequence[NotificationView]: ...
    def rules(self) -> Sequence[Mapping[str, Any]]: ...
    def escalations(self) -> Sequence[EscalationView]: ...
    def rule_files(self) -> Sequence[FileStatus]: ...
    def rule_versions(self, limit: int = 100) -> Sequence[Version]: ...
    def rule_text(self, name: str) -> str: ...
    def backtest(self, text: str, start_ms: int, end_ms: int) -> Backtest: ...
    def rule_version(self, version_id: int) -> Version: ...
    def reload(self) -> Sequence[FileStatus]: ...
    def roll_back(self, version_id: int, who: str, reason: str = "") -> Version: ...
    def acknowledge(self, alert_id: str, who: str, comment: str = "") -> AlertView: ...
    def acknowledge_all(self, alert_ids: Sequence[str], who: str, comment: str = "") -> Sequence[AlertView]: ...
    def unacknowledge(self, alert_id: str, who: str, comment: str = "") -> AlertView: ...
    def assign(self, alert_id: str, person: str, who: str, comment: str = "") -> AlertView: ...
    def channels(self) -> Sequence[ChannelView]: ...
    def deliveries(self, limit: int = 200, status: str = "") -> Sequence[DeliveryView]: ...
    def replay(self, outbox_id: int, who: str) -> str:
        """Send a dead letter again; the answer in words."""
        ...

    def try_channel(self, name: str, who: str) -> str:
        """Send a test message by one channel; the answer in words."""
        ...

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]: ...


class Override(Protocol):
    """Somebody who stands in on a rota, from when to when, and who said so."""

    @property
    def id(self) -> int: ...
    @property
    def rota(self) -> str: ...
    @property
    def person(self) -> str: ...
    @property
    def starts_ms(self) -> int: ...
    @property
    def ends_ms(self) -> int: ...
    @property
    def created_by(self) -> str: ...
    @property
    def comment(self) -> str: ...


class OnCall(Protocol):
    """Who is on duty (`alerts.oncall`); raises a DeskvigilError whose message says what is wrong."""

    def rotas(self) -> Sequence[RotaView]: ...
    def people(self) -> Sequence[str]: ...
    def overrides(self) -> Sequence[Override]: ...
    def add(self, rota: str, person: str, starts_ms: int, ends_ms: int, who: str, comment: str) -> Override: ...
    def remove(self, override_id: int, who: str, comment: str = "") -> Override: ...


class Silence(Protocol):
    """Alerts that nobody is told of for a while; each matcher's text is as Alertmanager writes it."""

    @property
    def id(self) -> str: ...
    @property
    def matchers(self) -> Sequence[object]: ...
    @property
    def starts_ms(self) -> int: ...
    @property
    def ends_ms(self) -> int: ...
    @property
    def created_by(self) -> str: ...
    @property
    def comment(self) -> str: ...


class Silences(Protocol):
    """Silences that have not ended, audited; raises a DeskvigilError whose message says what is wrong."""

    def list(self) -> Sequence[Silence]: ...
    def add(self, matchers: Sequence[str], starts_ms: int, ends_ms: int, who: str, comment: str) -> Silence: ...
    def expire(self, silence_id: str, who: str) -> Silence: ...


@dataclass(frozen=True, slots=True)
class Annotation:
    """A mark in time: something that happened, in words; until end_ms where it lasted.

    kind is one word (restart, deploy, config, trading, session, tape, ...); href leads to its page.
    """

    t_ms: int
    text: str
    kind: str = ""
    end_ms: int | None = None
    detail: str = ""
    href: str = ""


class SavedView(Protocol):
    """A question somebody has given a name; search is the page's query string."""

    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def search(self) -> str: ...
    @property
    def created_by(self) -> str: ...
    @property
    def updated_ms(self) -> int: ...


class SavedViews(Protocol):
    """Named questions in the database; raises a DeskvigilError whose message says what is wrong."""

    def list(self, page: str) -> Sequence[SavedView]: ...
    def save(self, page: str, name: str, search: str, who: str) -> SavedView: ...
    def rename(self, view_id: int, name: str) -> SavedView: ...
    def delete(self, view_id: int) -> None: ...


class Break(Protocol):
    """A break of the reconciliation that somebody has explained or closed."""

    @property
    def id(self) -> int: ...
    @property
    def state(self) -> str: ...


class Breaks(Protocol):
    """What an operator does about breaks, audited; raises a DeskvigilError where it is not there, has ended or no words are given."""

    def explain(self, break_id: int, who: str, comment: str) -> Break: ...
    def close(self, break_id: int, who: str, comment: str) -> Break: ...


@dataclass(frozen=True, slots=True)
class Fill:
    """One simulated fill of ours; price in USD, quantity in the instrument's units, liquidity "maker" or "taker"."""

    t_ms: int
    symbol: str
    side: Literal["buy", "sell"]
    quantity: float
    price: float
    liquidity: str = ""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the engine is and does, in words a status bar can show.

    reason says why it does not trade; source is the feed's name; session_ends_ms where a session
    has an end.
    """

    state: TradingState
    source: str
    simulated_market: bool
    reason: str = ""
    session_started_ms: int | None = None
    session_ends_ms: int | None = None
    fills: tuple[Fill, ...] = ()


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One child of the supervisor: state in one word ("running", "restarting", ...)."""

    name: str
    state: str
    pid: int | None = None
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a part is well, and in words why not; what: the consequence, where it is not."""

    ok: bool
    reason: str = ""
    what: str = "Numbers are not being stored"


@dataclass(frozen=True, slots=True)
class RemoteState:
    """How forwarding to a remote store goes: what waits, for how long, and what was lost to retention."""

    ok: bool
    reason: str
    samples_pending: int
    age_s: float
    lost: int = 0


class Profiles(Protocol):
    """Profiles of our processes and the bottleneck that is named (`console.profiling`); blocks, raises DeskvigilError."""

    def start(self, who: str, process: str, kind: str, seconds: float, reason: str) -> str: ...
    def list(self) -> Mapping[str, Any]: ...
    def show(self, name: str) -> Mapping[str, Any]: ...
    def collapsed(self, name: str) -> str: ...


class Action(Protocol):
    """Something an operator does to the engine; returns a sentence, raises a DeskvigilError where it failed."""

    def __call__(self, who: str, reason: str, scope: str = ..., /) -> str:
        """scope: "all" where it is left out, a symbol, strategy:NAME or client:NAME."""
        ...


class NoProfiles:
    """Of a console that watches nothing."""

    def start(self, who: str, process: str, kind: str, seconds: float, reason: str) -> str:
        raise DeskvigilError("this console takes no profiles")

    def list(self) -> Mapping[str, Any]:
        return {"error": "this console takes no profiles"}

    def show(self, name: str) -> Mapping[str, Any]:
        return self.list()

    def collapsed(self, name: str) -> str:
        raise DeskvigilError("this console takes no profiles")


def _no_annotations(_start_ms: int, _end_ms: int) -> Sequence[Annotation]:
    return ()


def _no_order(_who: str, _reason: str, _scope: str = "all", /) -> str:
    raise DeskvigilError("this console cannot cancel an order")


def _no_orders(_question: Mapping[str, Any], /) -> Mapping[str, Any]:
    return {}


def _no_processes() -> Sequence[ProcessInfo]:
    return ()


def _no_remote() -> RemoteState | None:
    return None


def _no_room() -> EngineRoom:
    return EngineRoom(absence="this console reads no engine")


def _no_risk() -> RiskRoom:
    return RiskRoom(absence="this console reads no risk process")


def _healthy() -> Health:
    return Health(True)


@dataclass(frozen=True, kw_only=True)
class Services:
    """Collaborators of the dashboard.

    engine, gpu, processes, store_health and annotations are asked from a worker thread about once a
    second. gpu answers in words why there is none, or "" where one is read. risk_device says what
    Monte-Carlo runs on ("CPU"). routers are further API parts, mounted as they are. views keeps the
    History page's named questions. raw_days: how long samples are kept (0: not told).
    cancel takes the scope order:ID. orders answers the Orders page (see console.orderboard), asked from a
    worker thread a few times a second; {} where there is none. breaks: its reconciliation breaks, to be explained and closed.
    described: what scraped programs say of their metrics, family -> (type, help, unit).
    room, risk: the record tables of the engine and of the risk process, asked from a worker thread.
    resources: what is set and said about resources, likewise.
    oncall, silences: rotas and silences, None where the console keeps none.
    """

    options: WebOptions
    version: str
    clock: Clock
    live: LiveSource
    reader: Reader
    query: Query
    alerts: Alerts
    engine: Callable[[], EngineInfo]
    gpu: Callable[[], str]
    halt: Action
    resume: Action
    annotations: Callable[[int, int], Sequence[Annotation]] = _no_annotations
    cancel: Action = _no_order
    orders: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _no_orders
    breaks: Breaks | None = None
    processes: Callable[[], Sequence[ProcessInfo]] = _no_processes
    store_health: Callable[[], Health] = _healthy
    remote: Callable[[], RemoteState | None] = _no_remote
    routers: tuple[APIRouter, ...] = ()
    views: SavedViews | None = None
    raw_days: int = 0
    described: Callable[[], Mapping[str, Sequence[tuple[str, str, str]]]] = dict
    risk_device: Callable[[], str] = lambda: "CPU"
    room: Callable[[], EngineRoom] = _no_room
    profiles: Profiles = field(default_factory=NoProfiles)
    risk: Callable[[], RiskRoom] = _no_risk
    resources: Callable[[], ResourceRoom] = ResourceRoom
    oncall: OnCall | None = None
    silences: Silences | None = None
