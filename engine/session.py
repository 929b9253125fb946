"""Session: how a program of the user's own sends orders into the running engine and hears back.

    with OrderSession.open(paths, client="desk-a") as session:
        order = session.send("AAPL", "buy", qty=100, price=150.25)
        for answer in session.wait(timeout_s=1.0): ...

An order is written into shared memory; a system call is made only where the engine sleeps and has to
be woken. Any number of threads may share a session: a lock makes them one producer. What is sent is
answered exactly once (docs/ENGINE.md), answers are handed out in the order in which things happened.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import numpy as np

from engine.descriptors import NS, readable
from engine.events import MAX_PRICE_TICKS, MAX_QTY_LOTS, Instrument
from engine.mailbox import (
    A_ID,
    A_LEFT,
    A_LOTS,
    A_ORDER,
    A_PACKED,
    A_PRICE,
    A_TIME_NS,
    CANCEL,
    FOK,
    IOC,
    NEW,
    POST_ONLY,
    REDUCE,
    REPLACE,
    What,
    reason_name,
)
from engine.parking import HUNG_UP, NOTHING, receive, send
from engine.ring import RECORD_WORDS, RingError, RingMemory, pull
from engine.sockets import address
from metrics.errors import DeskvigilError, TransientError
from metrics.frame import IntArray
from metrics.paths import RuntimePaths

SIDES: Final = {"buy": 1, "sell": -1}
KINDS: Final = {
    "limit": (NEW, 0),
    "post_only": (NEW, POST_ONLY),
    "ioc": (IOC, 0),
    "market": (IOC, 0),
    "fok": (IOC, FOK),
}
BATCH: Final = 1024
TOLERANCE: Final = 1e-6  # of a tick or lot: prices and quantities come as decimals
MAX_REPLY: Final = 1 << 20
_WHATS: Final = {int(what): what for what in What}  # faster than calling the enum
_SIDE_NAMES: Final = {1: "buy", 0xFF: "sell"}


class OrderError(DeskvigilError):
    """An order that cannot be sent as it is; the message names the field."""


class SessionError(TransientError):
    """No session: the engine is not there, has gone, refuses the client, or does not take what is sent."""


class Answer(NamedTuple):
    """What happened to an order.

    order: what `send` returned. price_usd, qty: of the fill, or the order's own; left: units still
    working. reason: why it was rejected, refused or cancelled, in words; empty otherwise. taker: a
    fill of an aggressor. engine_order: the id in the engine's books, negative; 0 where it never got there.
    t_ns: monotonic time at which the engine wrote this.
    """

    what: What
    order: int
    symbol: str
    side: str
    price_usd: float
    qty: float
    left: float
    reason: str
    taker: bool
    engine_order: int
    t_ns: int


class OrderSession:
    """A client's end of order entry; made by `open`. Closing it cancels its orders unless it asked otherwise."""

    def __init__(
        self,
        connection: socket.socket,
        memory: RingMemory,
        instruments: tuple[Instrument, ...],
        bell: int,
        wake: int,
        spin_ns: int = 0,
    ) -> None:
        self._connection = connection
        self._memory = memory
        self._requests, self._answers = memory.port(0), memory.port(1)
        self._bell, self._wake, self._spin_ns = bell, wake, spin_ns
        self._files = readable((wake, connection.fileno()))
        self.instruments = instruments
        self._units = [(row.symbol, row.tick_size_usd, row.lot_size) for row in instruments]
        self._index = {instrument.symbol: i for i, instrument in enumerate(instruments)}
        self._sending, self._reading = threading.Lock(), threading.Lock()
        self._record: IntArray = np.zeros(RECORD_WORDS, dtype=np.int64)
        self._batch: IntArray = np.zeros((BATCH, RECORD_WORDS), dtype=np.int64)
        self._last_id = 0
        self._closed = False

    @classmethod
    def open(
        cls,
        paths: RuntimePaths,
        client: str,
        *,
        cancel_on_disconnect: bool = True,
        spin_ns: int = 0,
        timeout_s: float = 5.0,
    ) -> Self:
        """Attach to the engine that runs on these files; SessionError says why that cannot be.

        client: this program's name, of which one is attached at a time. cancel_on_disconnect: whether its
        orders are cancelled when it closes the session or dies. spin_ns: how long `wait` looks before it
        sleeps; some 50,000 save a waking where a processor is free for it, and cost time where none is.
        """
        hello = json.dumps({"client": client, "cancel_on_disconnect": cancel_on_disconnect}).encode()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(timeout_s)
        descriptors: list[int] = []
        try:
            try:
                with address(paths.order_socket) as at:
                    connection.connect(at)
                connection.send(hello)
                said, descriptors, _flags, _from = socket.recv_fds(connection, MAX_REPLY, 3)
            except TimeoutError:
                raise SessionError(f"the engine did not answer within {timeout_s:g} s") from None
            except OSError as error:
                raise SessionError(f"no engine takes orders at {paths.order_socket}: {error}") from None
            reply: dict[str, Any] = json.loads(said) if said else {"ok": False, "error": "it hung up"}
            if not reply["ok"] or len(descriptors) != 3:
                raise SessionError(f"the engine refuses the session: {reply.get('error', 'no descriptors came')}")
            try:
                memory = RingMemory(descriptors[0], tuple(reply["rings"]))
                memory.check()
            except RingError as error:
                raise SessionError(str(error)) from None
            instruments = tuple(Instrument(symbol, tick, lot) for symbol, tick, lot in reply["instruments"])
            session = cls(connection, memory, instruments, descriptors[1], descriptors[2], spin_ns)
        except BaseException:
            connection.close()
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        os.close(descriptors[0])  # the mapping keeps the memory
        return session

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the session; what was answered before can no longer be read."""
        with self._sending, self._reading:
            if not self._closed:
                self._closed = True
                self._connection.close()
                os.close(self._bell)
                os.close(self._wake)

    def send(
        self,
        symbol: str,
        side: str,
        qty: float | Decimal,
        price: float | Decimal | None = None,
        kind: str = "limit",
        intended_ns: int = 0,
    ) -> int:
        """Send an order; returns the number by which its answers name it.

        side: buy or sell; qty in units, price in USD, both whole lots and ticks. kind: limit (rests with
        what does not match), post_only (rejected where it would match), ioc (what does not match lapses),
        fok (all of it or nothing), market (ioc without a price, no further than the collar allows).
        intended_ns: when it should have been sent (monotonic; now where left out): latency runs from there.
        OrderError where a field is wrong, SessionError where the engine has gone or takes nothing.
        """
        i = self._instrument(symbol)
        if side not in SIDES:
            raise OrderError(f"side {side!r} is neither buy nor sell")
        if kind not in KINDS:
            raise OrderError(f"kind {kind!r} is not one of {', '.join(KINDS)}")
        if (price is None) != (kind == "market"):
            raise OrderError("a market order has no price" if kind == "market" else f"a {kind} order needs a price")
        ticks = 0 if price is None else self._ticks(i, price)
        action, flags = KINDS[kind]
        packed = i | action << 32 | (SIDES[side] & 0xFF) << 40 | flags << 48
        return self._push(0, ticks, self._lots(i, qty), intended_ns, packed)

    def cancel(self, order: int) -> None:
        """Ask that an order be cancelled: answered by CANCEL, or by REFUSED where it has ended already."""
        self._push(order, 0, 0, 0, CANCEL << 32)

    def reduce(self, order: int, symbol: str, qty: float | Decimal) -> None:
        """Take qty units off an order, which keeps its place in the queue."""
        self._push(order, 0, self._lots(self._instrument(symbol), qty), 0, REDUCE << 32)

    def replace(self, order: int, symbol: str, qty: float | Decimal, price: float | Decimal) -> None:
        """Give an order another price and quantity left; the gates are asked again.

        It keeps its place in the queue only where the price stays and the quantity does not rise. REFUSED,
        by a gate or by the book: it stays as it was.
        """
        i = self._instrument(symbol)
        self._push(order, self._ticks(i, price), self._lots(i, qty), 0, REPLACE << 32)

    def poll(self) -> list[Answer]:
        """What has been answered and not been read yet; never waits. Empty while another thread waits."""
        if not self._reading.acquire(blocking=False):
            return []
        try:
            self._check_open()
            return self._told(pull(self._answers, self._batch, 0))
        finally:
            self._reading.release()

    def wait(self, timeout_s: float) -> list[Answer]:
        """The next answers, at least one, or none after timeout_s. SessionError where the engine has gone."""
        until_ns = time.monotonic_ns() + round(timeout_s * NS)
        if not self._reading.acquire(timeout=max(timeout_s, 0.0)):
            return []
        try:
            while True:
                self._check_open()
                count = receive(self._answers, self._batch, self._files, self._spin_ns, until_ns)
                if count == HUNG_UP:
                    raise SessionError("the engine has ended the session")
                if count != NOTHING or time.monotonic_ns() >= until_ns:
                    return self._told(count)
        finally:
            self._reading.release()

    def _push(self, target: int, ticks: int, lots: int, intended_ns: int, packed: int) -> int:
        record = self._record
        with self._sending:
            self._check_open()
            # In the order of engine.mailbox.R_*.
            record[1:7] = (
                self._last_id + 1, target, ticks, lots, intended_ns or time.monotonic_ns(),
                packed - (1 << 64) if packed >> 63 else packed,
            )  # fmt: skip
            if not send(self._requests, record, self._bell):
                raise SessionError("the engine takes no more: it is gone, busy, or waits for its answers to be read")
            self._last_id += 1
            return self._last_id

    def _check_open(self) -> None:
        if self._closed:
            raise SessionError("the session is closed")

    def _told(self, count: int) -> list[Answer]:
        return [self._answer(row) for row in self._batch[:count].tolist()]

    def _answer(self, row: list[int]) -> Answer:
        packed = row[A_PACKED]
        i = packed & 0xFFFFFFFF
        symbol, tick, lot = self._units[i] if i < len(self._units) else ("", 0.0, 0.0)
        return Answer(
            _WHATS[packed >> 32 & 0xFF],
            row[A_ID],
            symbol,
            _SIDE_NAMES.get(packed >> 40 & 0xFF, ""),
            row[A_PRICE] * tick,
            row[A_LOTS] * lot,
            row[A_LEFT] * lot,
            reason_name(packed >> 48 & 0xFF),
            bool(packed >> 56 & 0x7F),
            row[A_ORDER],
            row[A_TIME_NS],
        )

    def _instrument(self, symbol: str) -> int:
        i = self._index.get(symbol)
        if i is None:
            raise OrderError(f"symbol {symbol!r} is not one of {', '.join(self._index)}")
        return i

    def _ticks(self, i: int, price: float | Decimal) -> int:
        return _whole(float(price) / self.instruments[i].tick_size_usd, "price", price, "ticks", MAX_PRICE_TICKS)

    def _lots(self, i: int, qty: float | Decimal) -> int:
        return _whole(float(qty) / self.instruments[i].lot_size, "qty", qty, "lots", MAX_QTY_LOTS)


def _whole(value: float, field: str, given: float | Decimal, unit: str, most: int) -> int:
    """A quotient as the whole number that it is; OrderError where it is none or out of range."""
    if not 0.5 <= value <= most:
        raise OrderError(f"{field} {given} is not between 1 and {most} {unit}")
    whole = round(value)
    if abs(value - whole) > max(TOLERANCE, abs(value) * 1e-12):
        raise OrderError(f"{field} {given} is not a whole number of {unit} ({value:.6f})")
    return whole
