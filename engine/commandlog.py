"""Command log: what was ordered of the engine and what it answered, durable before the answer is sent.

One JSON object a line. The first line names the log ({"log": "..."}), every further one is an entry:
seq (1, 2, ...), t_ns (wall clock), command, scope, who, reason, answer. The console copies entries
into the audit, later if it was down; a half-written last line (a crash) is cut off at the next start.
"""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metrics.errors import DeskvigilError

LOG = logging.getLogger("deskvigil.engine")


class CommandLogError(DeskvigilError):
    """The log cannot be written or read; what was ordered is in force all the same."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One order and its answer; who "engine" is a limit that the engine put in force by itself."""

    seq: int
    t_ns: int
    command: str
    scope: str
    who: str
    reason: str
    answer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """What was read of a log: its name, and entries in order."""

    log: str
    entries: tuple[Entry, ...]


class CommandLog:
    """The engine's end: appends. `open` before the first command; one writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._seq = 0

    def open(self) -> None:
        """Make the log or go on with it, cutting off a line that a crash left unfinished."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            content = self._path.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                os.ftruncate(self._file, whole)
            found = self._kept(content[:whole])
            if found is None:
                self._append({"log": uuid.uuid4().hex})
            self._seq = found.entries[-1].seq if found and found.entries else 0
        except OSError as error:
            raise CommandLogError(f"the command log {self._path} cannot be opened: {error}") from error

    def write(self, t_ns: int, command: str, scope: str, who: str, reason: str, answer: Mapping[str, Any]) -> None:
        """Append an entry, durable on return; CommandLogError where that fails."""
        entry = Entry(self._seq + 1, t_ns, command, scope, who, reason, dict(answer))
        try:
            self._append(asdict(entry))
        except OSError as error:
            raise CommandLogError(f"{command} by {who} is not in the command log {self._path}: {error}") from error
        self._seq = entry.seq

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _kept(self, content: bytes) -> Found | None:
        """What the log holds; a damaged one is put aside, for a person to look at, and a new one begun."""
        try:
            return _parse(self._path, content)
        except CommandLogError as error:
            aside = self._path.with_suffix(f".damaged-{time.time_ns()}")
            LOG.error("%s; it is kept as %s", error, aside.name)
            self._path.rename(aside)
            self.close()
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            return None

    def _append(self, line: Mapping[str, Any]) -> None:
        if self._file is None:
            raise OSError("it is not open")
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        end = os.fstat(self._file).st_size
        try:
            if os.write(self._file, data) != len(data):
                raise OSError("the disk is full")
            os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, end)  # half a line would spoil the next one
            raise


def read_log(path: Path, log: str = "", after_seq: int = 0) -> Found | None:
    """Return the entries after `after_seq`, or all where the log is not the one named; None where there is no log.

    A line that is being written is left for the next time. CommandLogError for an unreadable file.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandLogError(f"the command log {path} cannot be read: {error}") from error
    found = _parse(path, content[: content.rfind(b"\n") + 1])
    if found is None or found.log != log:
        return found
    return Found(found.log, tuple(entry for entry in found.entries if entry.seq > after_seq))


def _parse(path: Path, content: bytes) -> Found | None:
    lines = content.splitlines()
    if not lines:
        return None
    try:
        name = str(json.loads(lines[0])["log"])
        return Found(name, tuple(Entry(**json.loads(line)) for line in lines[1:]))
    except (ValueError, KeyError, TypeError) as error:
        raise CommandLogError(f"the command log {path} is damaged: {error}") from error
