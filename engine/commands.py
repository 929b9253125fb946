"""Commands: how the console and people reach the engine, by JSON lines over one Unix socket (mode 0600).

    {"command": "halt", "scope": SCOPE, "who": "...", "reason": "..."}
    {"command": "resume", "scope": SCOPE (left out: "all"), "who": "...", "reason": "..."}
    {"command": "limit", "name": "max_order_usd", "value": 1000, "scope": SCOPE (left out: "all"), "who": ..., "reason": ...}
    {"command": "cancel", "scope": "order:ID", "who": "...", "reason": "..."}
    {"command": "status"}      {"command": "ping"}

SCOPE is "all", a symbol, "strategy:NAME" or "client:NAME"; ID is an own order's (negative) number.

Each line gets one line back: {"ok": true, ...} or {"ok": false, "error": "..."}. The server has no
thread: the engine's loop waits on `files` and calls `poll`, so a command takes effect between two
events, and its acknowledgement is sent after it did.
"""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from engine.sockets import address, listen
from metrics.errors import DeskvigilError, TransientError

MAX_LINE = 4096
MAX_REPLY = 256 * 1024
MAX_CLIENTS = 8
MAX_IDLE_S = 30.0
MAX_WORDS = 200
ALL = "all"


class CommandName(Enum):
    """What can be asked."""

    HALT = "halt"
    RESUME = "resume"
    STATUS = "status"
    PING = "ping"
    LIMIT = "limit"
    CANCEL = "cancel"


class CommandRefusedError(DeskvigilError):
    """A command that is unknown, incomplete or too long; the message goes back to the sender."""


class CommandError(TransientError):
    """No acknowledgement came: the engine is not there, did not answer in time, or broke off."""


@dataclass(frozen=True, slots=True)
class Command:
    """One request, checked. scope is ALL, a symbol, strategy:NAME or client:NAME; who and reason are empty where not
    needed; limit and value: the limit to set and to what, where that is asked for."""

    name: CommandName
    scope: str = ALL
    who: str = ""
    reason: str = ""
    limit: str = ""
    value: float = math.nan


def parse_command(line: bytes) -> Command:
    """Read one line; CommandRefusedError names what is wrong."""
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        raise CommandRefusedError("a command is one line of JSON") from None
    if not isinstance(raw, dict):
        raise CommandRefusedError("a command is a JSON object")
    try:
        name = CommandName(raw.get("command"))
    except ValueError:
        allowed = ", ".join(command.value for command in CommandName)
        raise CommandRefusedError(f"command {str(raw.get('command'))[:40]!r} is not one of {allowed}") from None
    sets = name is CommandName.LIMIT
    unknown = sorted(set(raw) - {"command", "scope", "who", "reason"} - ({"name", "value"} if sets else set()))
    if unknown:
        raise CommandRefusedError(f"unknown key {unknown[0][:40]!r}")
    acts = name in (CommandName.HALT, CommandName.RESUME, CommandName.LIMIT, CommandName.CANCEL)
    return Command(
        name,
        _words(raw, "scope", required=name in (CommandName.HALT, CommandName.CANCEL)) or ALL,
        _words(raw, "who", required=acts),
        _words(raw, "reason", required=acts),
        _words(raw, "name", required=sets),
        _number(raw, "value") if sets else math.nan,
    )


def _words(raw: Mapping[str, Any], key: str, *, required: bool) -> str:
    value = raw.get(key, "")
    if not isinstance(value, str) or len(value) > MAX_WORDS:
        raise CommandRefusedError(f"{key} is text of at most {MAX_WORDS} characters")
    if required and not value.strip():
        raise CommandRefusedError(f"{key} is missing")
    return value.strip()


def _number(raw: Mapping[str, Any], key: str) -> float:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise CommandRefusedError(f"{key} is a number")
    return float(value)


class _Client:
    def __init__(self, connection: socket.socket, now_s: float) -> None:
        self.connection = connection
        self.received = b""
        self.active_s = now_s


class CommandServer:
    """The engine's end. `handle` carries a command out and returns the acknowledgement's fields.

    files: what to wait on for reading. refused: commands refused so far. At most MAX_CLIENTS are
    connected; one more, an idle one, or one that sends too long a line is disconnected.
    """

    def __init__(self, path: Path, handle: Callable[[Command], dict[str, Any]]) -> None:
        self._path = path
        self._handle = handle
        self._listener: socket.socket | None = None
        self._clients: list[_Client] = []
        self.refused = 0

    @property
    def files(self) -> list[socket.socket]:
        """The sockets to wait on; none before `start`."""
        waiting = [client.connection for client in self._clients]
        return waiting if self._listener is None else [self._listener, *waiting]

    def start(self) -> None:
        """Listen; takes the place of a socket that a killed engine left behind."""
        if self._listener is not None:
            return
        self._listener = listen(self._path, socket.SOCK_STREAM, MAX_CLIENTS)

    def stop(self) -> None:
        """Disconnect everybody and remove the socket."""
        for client in self._clients:
            client.connection.close()
        self._clients.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._path.unlink(missing_ok=True)

    def poll(self) -> None:
        """Accept who waits, carry out what arrived, answer; never blocks."""
        now_s = time.monotonic()
        self._accept(now_s)
        kept = [client for client in self._clients if self._serve(client, now_s)]
        for client in self._clients:
            if client not in kept:
                client.connection.close()
        self._clients = kept

    def _accept(self, now_s: float) -> None:
        if self._listener is None:
            return
        for _ in range(MAX_CLIENTS):
            try:
                connection, _address_of_peer = self._listener.accept()
            except OSError:  # nobody waits, or the caller has gone again
                return
            connection.setblocking(False)
            if len(self._clients) < MAX_CLIENTS:
                self._clients.append(_Client(connection, now_s))
            else:
                connection.close()

    def _serve(self, client: _Client, now_s: float) -> bool:
        """Read and answer one client; False where it is to be disconnected."""
        try:
            received = client.connection.recv(MAX_LINE)
        except BlockingIOError:
            return now_s - client.active_s < MAX_IDLE_S
        except OSError:
            return False
        client.active_s = now_s
        *lines, client.received = (client.received + received).split(b"\n")
        answers = b"".join(json.dumps(self._answer(line)).encode() + b"\n" for line in lines if line.strip())
        if len(client.received) > MAX_LINE:
            self.refused += 1
            return False
        try:
            # Answers are small against a socket's buffer; who does not take them is disconnected.
            return client.connection.send(answers) == len(answers) and bool(received)
        except OSError:
            return False

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return {"ok": True, **self._handle(parse_command(line))}
        except CommandRefusedError as error:
            self.refused += 1
            return {"ok": False, "error": str(error)}


class CommandClient:
    """The console's (or a person's) end: one connection for each command."""

    def __init__(self, path: Path, timeout_s: float = 2.0) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def send(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Send one command, return its acknowledgement (look at "ok"); CommandError where none came."""
        deadline_s = time.monotonic() + self._timeout_s
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(self._timeout_s)
            try:
                with address(self._path) as at:
                    connection.connect(at)
                connection.sendall(json.dumps(dict(command)).encode() + b"\n")
                line = self._receive(connection, deadline_s)
            except TimeoutError:
                raise CommandError(
                    f"the engine did not answer within {self._timeout_s:g} s; the command may still take effect"
                ) from None
            except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
                raise CommandError(f"no engine listens at {self._path}") from None
            except OSError as error:
                raise CommandError(f"the connection to the engine at {self._path} broke: {error}") from error
        return line

    def _receive(self, connection: socket.socket, deadline_s: float) -> dict[str, Any]:
        received = b""
        while b"\n" not in received:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            connection.settimeout(left_s)
            part = connection.recv(65536)
            if not part or len(received) > MAX_REPLY:
                raise CommandError(
                    "the engine broke off before it answered; the command may or may not have taken effect"
                )
            received += part
        try:
            answer: dict[str, Any] = json.loads(received.split(b"\n", 1)[0])
        except ValueError:
            raise CommandError("the engine's answer is not JSON") from None
        return answer
