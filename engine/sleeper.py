"""Sleeper: how the engine's loop sleeps until something is due, and what wakes it before that."""

from __future__ import annotations

import socket
import time

from engine.commands import CommandServer
from engine.gateway import Gateway
from engine.journalkeeper import JournalKeeper
from engine.livemarket import LiveMarket
from engine.parking import OTHERS, REQUESTS

# The loop sleeps until this long before something is due and spins for the rest: a sleep ends some
# tens of microseconds late, and an event must not wait for that.
SPIN_NS = 60_000
# After a request the engine looks this long for the next before it sleeps: a client that looks for its answer
# itself sends again within that time. One that slept gets the core instead: the system likes to put it on the
# engine's, where it would have to wait until the engine has done with looking.
LINGER_NS = 50_000


class Sleeper:
    """Sleeps for the loop. `wake` may be called from a signal handler or another thread, and is for good.

    Clients' requests that come in a sleep are served in it, so none of them waits for the loop.
    """

    def __init__(self, gateway: Gateway, server: CommandServer, keeper: JournalKeeper, live: LiveMarket | None) -> None:
        self._gateway, self._server, self._keeper, self._live = gateway, server, keeper, live
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)

    @property
    def wake_descriptor(self) -> int:
        """Writing to this descriptor ends the sleep (for `signal.set_wakeup_fd`)."""
        return self._waker.fileno()

    def wake(self) -> None:
        """End this sleep and all that follow."""
        try:
            self._waker.send(b"\0")
        except OSError:  # full: it is awake already; closed: it has ended
            return

    def sleep(self, due_ns: int) -> None:
        """Sleep until shortly before due_ns (monotonic), or until the market, a person or the system wants something.

        Commands are carried out before it returns.
        """
        live = self._live
        if live is not None and not live.park():
            return
        until_ns, linger_ns = due_ns - SPIN_NS, 0
        while time.monotonic_ns() < until_ns:
            self._keeper.make_room()
            woken = self._gateway.sleep(self._others(), until_ns, linger_ns)
            linger_ns = time.monotonic_ns() + LINGER_NS if woken == REQUESTS else 0
            if woken == OTHERS:
                self._gateway.poll()
                self._server.poll()
                break
        if live is not None:
            live.unpark()

    def _others(self) -> list[int]:
        """Descriptors that end the sleep, clients' aside."""
        others = [self._wake.fileno(), *(file.fileno() for file in self._server.files)]
        return others if self._live is None else [*others, self._live.bell]

    def close(self) -> None:
        """Let go of the descriptors."""
        self._wake.close()
        self._waker.close()
