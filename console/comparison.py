"""Comparison: our own record of executions against the drop copy, one execution at a time, without any file or database.

An execution is known by run, session and the venue's identification. Seen in one stream it waits for
the other; what waits longer than the grace is a break, and so is whatever differs:

    missing_own    the drop copy has it, our record does not        duplicated  one stream has it twice
    missing_copy   our record has it, the drop copy does not        altered     a field differs
    late           it came after it had been reported missing       position    the positions after it differ
    damaged        a record's checksum is wrong                     gap         records of a stream are not there
    settlement     a session was settled on other sums than those of the drop copy
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from engine.recordtail import Reading
from engine.settlement import Settlement

OWN, COPY = "own", "copy"
KINDS = (
    "missing_own", "missing_copy", "duplicated", "altered", "late", "position", "damaged", "gap", "settlement",
)  # fmt: skip
COMPARED = ("order_id", "instrument", "side", "price", "qty", "liquidity", "engine_ns")
REMEMBERED = (
    4_096  # executions of each stream that a duplicate is recognised by one by one; all before them by their order
)
OVERDUE = 10_000  # missing executions whose late arrival is recognised
SESSIONS = 64  # sessions whose sums are kept for their settlement

Key = tuple[int, int, int]  # run, session, execution


class Execution(NamedTuple):
    """One record, in Python's numbers."""

    run: int
    session: int
    execution: int
    order_id: int
    instrument: int
    side: int
    price: int
    qty: int
    liquidity: int
    engine_ns: int
    wall_ns: int
    position: int
    place: int = 0  # in its stream; 0 where it was kept without

    @property
    def key(self) -> Key:
        return self.run, self.session, self.execution


def executions_of(reading: Reading) -> list[Execution]:
    """The records of a reading, in order."""
    columns = [reading.records[name].tolist() for name in Execution._fields[:-1]]
    return [Execution(*row) for row in zip(*columns, reading.places, strict=True)]


@dataclass(frozen=True, slots=True)
class Break:
    """Something that does not agree; detail: what is known, as JSON knows it.

    `key` is the same however often the same records are read, and another one where the same happens again.
    """

    kind: str
    key: str
    run_ns: int
    session: int
    execution: int
    instrument: int
    wall_ns: int
    detail: Mapping[str, Any]


@dataclass(slots=True)
class Sum:
    """What the drop copy adds up to for one instrument in one session: lots, tick-lots, executions."""

    position: int = 0
    cash: int = 0
    executions: int = 0


@dataclass(slots=True)
class _Stream:
    waiting: dict[Key, tuple[Execution, int]] = field(default_factory=dict)  # and since when (monotonic ns)
    seen: OrderedDict[Key, None] = field(default_factory=OrderedDict)
    high: Key = (0, 0, 0)  # the newest
    before: Key = (0, 0, 0)  # of its run, everything up to here is not in `seen` any more, or was in an earlier life


class Comparison:
    """Takes executions of both streams in any interleaving; `breaks` are taken away with `found`.

    grace_ns: how long (monotonic) an execution may wait for its other half.
    """

    def __init__(self, grace_ns: int) -> None:
        self._grace_ns = grace_ns
        self._streams = {OWN: _Stream(), COPY: _Stream()}
        self._overdue: OrderedDict[Key, tuple[str, Execution]] = OrderedDict()  # and in which stream it is missing
        self._found: list[Break] = []
        self._sums: OrderedDict[tuple[int, int], dict[int, Sum]] = OrderedDict()
        self._partial: set[tuple[int, int]] = set()
        self.arrived: list[str] = []  # keys of breaks that a late arrival has explained
        self.equal = 0
        self.broken = 0
        self.disagreeing: set[tuple[int, int, int]] = set()  # run, session, instrument

    @property
    def waiting(self) -> int:
        """Executions that wait for their other half."""
        return sum(len(stream.waiting) for stream in self._streams.values())

    def found(self) -> list[Break]:
        """The breaks since the last call."""
        found, self._found = self._found, []
        return found

    def take(self, name: str, executions: Iterable[Execution], now_ns: int) -> None:
        """Take in what a stream has brought, in its order."""
        stream = self._streams[name]
        for execution in executions:
            if name == COPY:
                self._add(execution)
            self._take_one(name, stream, execution, now_ns)

    def note_damage(self, name: str, places: Sequence[tuple[int, int]], wall_ns: int) -> None:
        """Records of a stream whose checksum is wrong: place and run of each."""
        for place, run in places:
            self._report("damaged", f"damaged/{name}/{run}/{place}", None, wall_ns, {"stream": name, "place": place})

    def note_gap(self, name: str, run: int, first: int, count: int, wall_ns: int) -> None:
        """Records of a stream that are not there (any more): `count` from place `first` on; run: of what follows."""
        detail = {"stream": name, "first": first, "records": count}
        self._report("gap", f"gap/{name}/{run}/{first}", None, wall_ns, detail)
        self._partial.update(self._sums)

    def expire(self, now_ns: int) -> None:
        """Report as missing what has waited longer than the grace."""
        for name, missing_in in ((OWN, COPY), (COPY, OWN)):
            waiting = self._streams[name].waiting
            due = [key for key, (_, since) in waiting.items() if now_ns - since > self._grace_ns]
            for key in due:
                execution, _ = waiting.pop(key)
                self.expect_late(missing_in, execution)
                self.broken += 1
                kind = f"missing_{missing_in}"
                self._report(kind, missing_key(missing_in, key), execution, execution.wall_ns, execution._asdict())

    def expect_late(self, missing_in: str, execution: Execution) -> None:
        """An execution was reported as missing in a stream: should it come, it is late."""
        self._overdue[execution.key] = (missing_in, execution)
        while len(self._overdue) > OVERDUE:
            self._overdue.popitem(last=False)

    def check_settlement(self, settlement: Settlement) -> None:
        """Compare one instrument's settlement with the drop copy's sums; all of its executions must have been taken in."""
        key = settlement.run_ns, settlement.session
        if key in self._partial or (key not in self._sums and self._sums and key < min(self._sums)):
            return  # not all of that session is known here
        total = self._sums.get(key, {}).get(settlement.instrument, Sum())
        theirs = {"position": total.position, "cash": str(total.cash), "executions": total.executions}
        ours = {"position": settlement.position, "cash": str(settlement.cash), "executions": settlement.executions}
        if ours == theirs:
            return
        self._found.append(
            Break(
                "settlement",
                f"settlement/{settlement.run_ns}/{settlement.session}/{settlement.instrument}",
                settlement.run_ns,
                settlement.session,
                0,
                settlement.instrument,
                settlement.t_ns,
                {"settled": ours, "drop_copy": theirs},
            )
        )

    # A restart goes on from a point at which nothing waited.

    def state(self) -> dict[str, Any]:
        """What a later life needs to go on from here, as JSON knows it; only where nothing waits."""
        return {
            "before": {name: list(stream.high) for name, stream in self._streams.items()},
            "sums": [
                [*key, {str(i): [s.position, str(s.cash), s.executions] for i, s in sums.items()}]
                for key, sums in self._sums.items()
            ],
            "partial": [list(key) for key in self._partial if key in self._sums],
            "equal": self.equal,
            "broken": self.broken,
            "disagreeing": [list(key) for key in self.disagreeing],
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` told. KeyError, TypeError or ValueError where it is not that."""
        for name, stream in self._streams.items():
            run, session, execution = state["before"][name]
            stream.before = stream.high = (int(run), int(session), int(execution))
        for run, session, sums in state["sums"]:
            self._sums[run, session] = {int(i): Sum(p, int(c), n) for i, (p, c, n) in sums.items()}
        self._partial = {(run, session) for run, session in state["partial"]}
        self.equal, self.broken = int(state["equal"]), int(state["broken"])
        self.disagreeing = {(run, session, i) for run, session, i in state["disagreeing"]}

    def _take_one(self, name: str, stream: _Stream, execution: Execution, now_ns: int) -> None:
        key, other = execution.key, self._streams[COPY if name == OWN else OWN]
        expected = self._overdue.get(key)
        if expected is not None and expected[0] == name:
            del self._overdue[key]
            stream.high = max(stream.high, key)
            self._remember(stream, key)
            waited_s = (execution.wall_ns - expected[1].wall_ns) / 1e9
            self._report(
                "late",
                f"late/{name}/{_words(key)}",
                execution,
                execution.wall_ns,
                {"stream": name, "seconds": waited_s, "order_id": execution.order_id},
            )
            self.arrived.append(missing_key(name, key))
            self._match(name, execution, expected[1])
        elif self._had(stream, key):
            self.broken += 1
            detail = {"stream": name, **execution._asdict()}
            self._report(
                "duplicated", f"duplicated/{name}/{_words(key)}/{execution.place}", execution, execution.wall_ns, detail
            )
        else:
            stream.high = key
            self._remember(stream, key)
            waiting = other.waiting.pop(key, None)
            if waiting is None:
                stream.waiting[key] = execution, now_ns
            else:
                self._match(name, execution, waiting[0])

    def _match(self, name: str, execution: Execution, other: Execution) -> None:
        own, copy = (execution, other) if name == OWN else (other, execution)
        differing = {
            what: {"own": getattr(own, what), "copy": getattr(copy, what)}
            for what in COMPARED
            if getattr(own, what) != getattr(copy, what)
        }
        if differing:
            self.broken += 1
            self._report(
                "altered",
                f"altered/{_words(own.key)}",
                copy,
                copy.wall_ns,
                {"fields": differing, "order_id": copy.order_id},
            )
        else:
            self.equal += 1
        where = own.run, own.session, own.instrument
        if own.position == copy.position:
            self.disagreeing.discard(where)
        elif where not in self.disagreeing and not differing:
            self.disagreeing.add(where)
            detail = {"own": own.position, "copy": copy.position, "order_id": own.order_id}
            self._report("position", f"position/{_words(where)}/{own.execution}", own, own.wall_ns, detail)

    def _add(self, execution: Execution) -> None:
        if self._had(self._streams[COPY], execution.key):
            return
        sums = self._sums.setdefault((execution.run, execution.session), {})
        total = sums.setdefault(execution.instrument, Sum())
        total.position += execution.side * execution.qty
        total.cash -= execution.side * execution.qty * execution.price
        total.executions += 1
        while len(self._sums) > SESSIONS:
            key, _ = self._sums.popitem(last=False)
            self._partial.discard(key)

    def _report(
        self, kind: str, key: str, execution: Execution | None, wall_ns: int, detail: Mapping[str, Any]
    ) -> None:
        run, session, number = (0, 0, 0) if execution is None else execution.key
        instrument = -1 if execution is None else execution.instrument
        self._found.append(Break(kind, key, run, session, number, instrument, wall_ns, detail))

    @staticmethod
    def _remember(stream: _Stream, key: Key) -> None:
        stream.seen[key] = None
        if len(stream.seen) > REMEMBERED:
            stream.before, _ = stream.seen.popitem(last=False)

    @staticmethod
    def _had(stream: _Stream, key: Key) -> bool:
        return key in stream.seen or (key[0] == stream.before[0] and key <= stream.before)


def missing_key(stream: str, key: Key) -> str:
    """The key of the break that an execution is missing in a stream."""
    return f"missing_{stream}/{_words(key)}"


def _words(key: Sequence[int]) -> str:
    return "/".join(map(str, key))
