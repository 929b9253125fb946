"""Gateway: where clients attach to order entry, are woken, and are missed when they go.

A client connects to a Unix socket (mode 0600), sends one line of JSON with its name, and gets one back
with three descriptors: the shared memory of its two rings, the engine's eventfd and its own. From then
on the connection carries nothing; it is the lifeline. When it ends, or the process does (its pidfd
tells, also where a forked child still holds the connection), the session ends: its orders are cancelled
unless it asked otherwise, its memory goes with the last process that has it mapped.

Nothing but `sleep` blocks, and nothing here runs for an order: what ends the loop's sleep is served in
compiled code before Python hears of it. While the engine is awake, orders reach it without a system call.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from engine import mailbox
from engine.descriptors import NS, readable
from engine.events import Instrument
from engine.mailbox import (
    ANSWERS,
    MAX_SESSIONS,
    REQUESTS,
    S_ACTIVE,
    S_LIVE,
    S_LOST,
    S_MAX_LIVE,
    S_OWNER,
    S_TAKEN,
    SESSION_WORDS,
)
from engine.parking import DUE, OTHERS, receive, ring_clients, send
from engine.ring import PORT_WORDS, RECORD_WORDS, RingMemory, shared_memory
from engine.sockets import listen
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

LOG = logging.getLogger("deskvigil.engine")
REQUEST_RECORDS = 4096
ANSWER_RECORDS = 16_384
MAX_HELLO = 4096
MAX_NAME = 40
MAX_GREETING_S = 5.0  # who has not said its name by then is sent away
MAX_VISITORS = 16  # connections that have not said their name yet


class ClientDesk(Protocol):
    """What the gateway needs of the trading desk."""

    @property
    def client_table(self) -> IntArray: ...
    def client(self, name: str) -> int: ...
    def serve_clients(self, now_ns: int) -> int: ...
    def attend(self, files: IntArray, bells: IntArray, until_ns: int, linger_ns: int) -> int: ...
    def forget_client(self, session: int, cancel: bool, lost: int) -> int: ...


@dataclass(eq=False, slots=True)
class _Peer:
    """A connection; `session` -1 until it has said its name."""

    connection: socket.socket
    since_s: float
    session: int = -1
    name: str = ""
    pid: int = 0
    cancel: bool = True
    memory: RingMemory | None = None
    descriptors: list[int] = field(default_factory=list)  # closed with it


class Gateway:
    """The engine's end of order entry. Everything happens in the engine's thread.

    files: what to wait on for `poll` and `serve`.
    """

    def __init__(
        self, path: Path, instruments: Sequence[Instrument], desk: ClientDesk, max_live: int, enabled: bool = True
    ) -> None:
        self._path = path
        self._desk = desk
        self._max_live = max_live
        self._enabled = enabled and hasattr(os, "memfd_create") and hasattr(os, "pidfd_open")
        self._symbols = [[row.symbol, row.tick_size_usd, row.lot_size] for row in instruments]
        self._table = desk.client_table
        self._rows: Any = self._table.reshape(MAX_SESSIONS, SESSION_WORDS)
        self._bells = np.full(MAX_SESSIONS, -1, dtype=np.int64)  # the clients' eventfds
        self._listener: socket.socket | None = None
        self._peers: dict[int, _Peer] = {}  # by descriptor: of the connection and of the process
        self._sessions: dict[int, _Peer] = {}
        self._names: dict[int, str] = {}  # who had a session last: it gets the same again
        self._active = False

    @property
    def clients(self) -> dict[str, int]:
        """Names of the attached clients and their sessions (the client's index for gates and counters)."""
        return {peer.name: session for session, peer in self._sessions.items()}

    @property
    def files(self) -> list[int]:
        """Descriptors to wait on; none before `start`."""
        return [] if self._listener is None else [self._bell, self._epoll.fileno()]

    def start(self) -> None:
        """Open the door; takes the place of a socket that a killed engine left behind. Linux only."""
        if self._listener is not None or not self._enabled:
            return
        listener = listen(self._path, socket.SOCK_SEQPACKET, MAX_SESSIONS)
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._listener = listener

    def stop(self) -> None:
        """Send everybody away (their orders have been cancelled by then) and remove the socket."""
        if self._listener is None:
            return
        for peer in set(self._peers.values()):
            self._dismiss(peer)
        self._listener.close()
        self._listener = None
        self._epoll.close()
        os.close(self._bell)
        self._path.unlink(missing_ok=True)

    # On the way of an order.

    def pending(self) -> bool:
        """Whether a request waits."""
        return self._active and bool(mailbox.waiting(self._table, 0))

    def serve(self, now_ns: int) -> None:
        """Take what waits and tell the clients."""
        if self.pending():
            self._desk.serve_clients(now_ns)
        self.tell()

    def tell(self) -> None:
        """Wake the clients that have been told something and sleep."""
        if self._active:
            ring_clients(self._table, self._bells)

    def sleep(self, others: Sequence[int], until_ns: int, linger_ns: int = 0) -> int:
        """The loop's sleep, until until_ns at the latest; before it, requests are looked for until linger_ns (monotonic).

        others: descriptors that end it as well. Returns REQUESTS (some came and have been served), WOKEN (the same, and
        a client had to be woken), OTHERS (there is something to hear from one of others or for `poll`; requests have
        been served too) or DUE (also where a signal came).
        """
        if self._listener is None:  # no door: nobody to be quick for, and perhaps no Linux
            left_s = max(until_ns - time.monotonic_ns(), 0) / NS
            return OTHERS if select.select(others, [], [], left_s)[0] else DUE
        files = readable([self._bell, self._epoll.fileno(), *others])
        return self._desk.attend(files, self._bells, until_ns, linger_ns)

    # Coming and going.

    def poll(self) -> None:
        """Let clients in and out; never blocks. Also at leisure: it sends away who is silent or does not listen."""
        if self._listener is None:
            return
        now_s = time.monotonic()
        for descriptor, _events in self._epoll.poll(0):
            peer = self._peers.get(descriptor)
            if descriptor == self._listener.fileno():
                self._accept(now_s)
            elif peer is not None and not (descriptor == peer.connection.fileno() and self._hear(peer)):
                self._dismiss(peer)
        for peer in [p for p in set(self._peers.values()) if p.session < 0 and now_s - p.since_s > MAX_GREETING_S]:
            self._dismiss(peer)
        lost = mailbox.overrun(self._table) if self._active else 0
        for session in [k for k in range(MAX_SESSIONS) if lost >> k & 1]:
            LOG.warning("client %s does not read its answers", self._sessions[session].name)
            self._dismiss(self._sessions[session])

    def _accept(self, now_s: float) -> None:
        if self._listener is None:
            return
        with contextlib.suppress(OSError):  # nobody waits, or the caller has gone again
            while True:
                connection, _nowhere = self._listener.accept()
                connection.setblocking(False)
                if len(self._peers) - 2 * len(self._sessions) >= MAX_VISITORS:
                    connection.close()
                    continue
                self._peers[connection.fileno()] = _Peer(connection, now_s)
                self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _hear(self, peer: _Peer) -> bool:
        """Read what a connection says; False where it is to end."""
        try:
            said = peer.connection.recv(MAX_HELLO)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if peer.session >= 0 or not said:
            return False  # an attached client has nothing to say here
        try:
            self._attach(peer, said)
        except (ValueError, OSError, DeskvigilError) as error:
            with contextlib.suppress(OSError):
                peer.connection.send(json.dumps({"ok": False, "error": str(error)}).encode())
            return False
        return True

    def _attach(self, peer: _Peer, said: bytes) -> None:
        """Make a session of a connection; ValueError in words for the client where that cannot be."""
        peer.name, peer.cancel = _hello(said)
        if peer.name in self.clients:
            raise ValueError(f"client {peer.name!r} is attached already, by process {self._named(peer.name).pid}")
        session, owner = self._free_session(peer.name), self._desk.client(peer.name)
        memory = shared_memory((REQUEST_RECORDS, ANSWER_RECORDS))
        peer.descriptors.append(memory)
        peer.memory = RingMemory(memory, (REQUEST_RECORDS, ANSWER_RECORDS))
        peer.memory.format()
        wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        peer.descriptors.append(wake)
        peer.pid = _pid_of(peer.connection)
        watch = os.pidfd_open(peer.pid)
        peer.descriptors.append(watch)
        row = self._rows[session]
        row[:] = 0
        row[REQUESTS : REQUESTS + PORT_WORDS] = peer.memory.port(0)
        row[ANSWERS : ANSWERS + PORT_WORDS] = peer.memory.port(1)
        row[S_MAX_LIVE], row[S_OWNER] = self._max_live, owner
        reply = {
            "ok": True,
            "session": session,
            "rings": [REQUEST_RECORDS, ANSWER_RECORDS],
            "instruments": self._symbols,
        }
        socket.send_fds(peer.connection, [json.dumps(reply).encode()], [memory, self._bell, wake])
        self._bells[session] = wake
        row[S_ACTIVE] = 1
        peer.session = session
        self._sessions[session], self._names[session] = peer, peer.name
        self._peers[watch] = peer
        self._epoll.register(watch, select.EPOLLIN)
        self._active = True
        LOG.info("client %s (process %d) has session %d", peer.name, peer.pid, session)

    def _named(self, name: str) -> _Peer:
        return self._sessions[self.clients[name]]

    def _free_session(self, name: str) -> int:
        free = [k for k in range(MAX_SESSIONS) if k not in self._sessions]
        if not free:
            raise ValueError(f"{MAX_SESSIONS} clients are attached already")
        # The session it had before, one that nobody had, any.
        return min(free, key=lambda k: (self._names.get(k) != name, k in self._names, k))

    def _dismiss(self, peer: _Peer) -> None:
        """End a connection and its session."""
        session = peer.session
        if session >= 0:
            row = self._rows[session]
            lost, taken = int(row[S_LOST]), int(row[S_TAKEN])
            row[S_ACTIVE] = 0
            count = self._desk.forget_client(session, peer.cancel, lost)
            row[S_LIVE] = 0  # of the orders left working, too: they are nobody's now
            del self._sessions[session]
            self._active = bool(self._sessions)
            words = "cancelled" if peer.cancel else "left working"
            LOG.info("client %s has gone after %d requests, %d orders %s", peer.name, taken, count, words)
        for descriptor in [d for d, other in self._peers.items() if other is peer]:
            self._epoll.unregister(descriptor)
            del self._peers[descriptor]
        peer.connection.close()
        for descriptor in peer.descriptors:
            os.close(descriptor)
        peer.descriptors.clear()
        peer.memory = None


def _hello(said: bytes) -> tuple[str, bool]:
    """Name and cancel_on_disconnect of a client's first line; ValueError names what is wrong."""
    try:
        raw = json.loads(said)
    except (ValueError, RecursionError):
        raise ValueError("a client says its name in one line of JSON") from None
    if not isinstance(raw, dict) or set(raw) - {"client", "cancel_on_disconnect"}:
        raise ValueError("a client says client and cancel_on_disconnect, nothing else")
    name, cancel = raw.get("client"), raw.get("cancel_on_disconnect", True)
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise ValueError(f"client is a name of 1 to {MAX_NAME} printable characters")
    if not isinstance(cancel, bool):
        raise ValueError("cancel_on_disconnect is true or false")
    return name, cancel


def _pid_of(connection: socket.socket) -> int:
    """Process that connected, as the system knows it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], "little")


def warm() -> None:
    """Compile what runs at both ends of a session; the desk's own part is compiled with the desk."""
    if not hasattr(os, "memfd_create"):
        return
    table = mailbox.make_sessions()
    mailbox.waiting(table, 0)
    mailbox.overrun(table)
    ring_clients(table, np.full(MAX_SESSIONS, -1, dtype=np.int64))
    bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    descriptor = shared_memory((2,))
    try:
        memory = RingMemory(descriptor, (2,))
        memory.format()
        port, files = memory.port(0), readable([bell, bell])
        send(port, np.zeros(RECORD_WORDS, dtype=np.int64), bell)
        receive(port, np.zeros((2, RECORD_WORDS), dtype=np.int64), files, 0, 0)
    finally:
        os.close(descriptor)
        os.close(bell)
