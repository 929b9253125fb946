"""Rule files while the program runs: read again when they change, kept as versions, rolled back.

What runs of a file is its text, unless somebody rolled it back: then the older version stands in for it
until the file itself changes. A file of a user's is never written to. A text with an error in it changes
nothing: the version before goes on, and the refusal is on record.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from alerts.check import check_text
from alerts.errors import RuleError
from alerts.rules import Group, parse_rules
from alerts.source import Querier, Transactions
from metrics.clock import Clock
from metrics.errors import DeskvigilError
from storage import audit
from storage.tables import file_version

LOG = logging.getLogger(__name__)
KIND = "rules"
START, RELOAD = "start", "reload"
MAX_VERSIONS = 1000
Signature = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a file, as on record. outcome: loaded or refused (then note says why); text is "" in lists.

    instead_of: hash of the file's own text that this one stands in for, "" where it is the file's own.
    """

    id: int
    name: str
    hash: str
    t_ms: int
    who: str
    outcome: str
    note: str
    instead_of: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class FileStatus:
    """A rule file now. hash: of what runs; file_hash: of what the file says; error: why that is refused, or ""."""

    name: str
    hash: str
    file_hash: str
    error: str
    rules: int

    @property
    def rolled_back(self) -> bool:
        """Whether an older version runs in place of the file's text."""
        return self.hash != self.file_hash and not self.error


@dataclass(slots=True)
class _File:
    """What is known of one file.

    pin: the newest version on record, where somebody rolled back. instead_of: hash of the file's text that is
    passed over for it, "" for none. refused: hash of the text that was refused last, so that it is said once.
    """

    path: Path
    signature: Signature | None = None
    file_text: str = ""
    file_hash: str = ""
    text: str = ""
    hash: str = ""
    instead_of: str = ""
    groups: tuple[Group, ...] = ()
    error: str = ""
    refused: str = ""
    pin: Row[Any] | None = None

    @property
    def name(self) -> str:
        return str(self.path)

    def choose(self) -> None:
        """Let run what the file says, or the version that stands in for just that."""
        if self.pin is not None and self.pin.instead_of == self.file_hash:
            self.text, self.hash, self.instead_of = self.pin.text, self.pin.hash, self.pin.instead_of
        else:
            self.text, self.hash, self.instead_of = self.file_text, self.file_hash, ""


class RuleFiles:
    """The rule files of one console. Not thread-safe: AlertService asks under a lock of its own.

    RuleError from the constructor where a file cannot be read: a console does not start on rules that are wrong.
    """

    def __init__(self, store: Transactions, paths: Sequence[Path], query: Querier, clock: Clock) -> None:
        self._store = store
        self._query = query
        self._clock = clock
        self._files = [_File(path) for path in paths]
        self._unrecorded: list[dict[str, Any]] = []
        self._newest = 0
        self.reloads = 0
        self._read_pins()
        for file in self._files:
            file.signature, file.file_text = _signature(file.path), _read(file.path)
            file.file_hash = _hash(file.file_text)
            file.choose()
            file.groups = parse_rules(file.text, file.name)
            self._note(file, file.text, START, "loaded", "")

    @property
    def groups(self) -> tuple[Group, ...]:
        """The rules that are to run, in the files' order."""
        return tuple(group for file in self._files for group in file.groups)

    @property
    def failed(self) -> bool:
        """Whether some file is not what runs because it is wrong."""
        return any(file.error for file in self._files)

    def status(self) -> list[FileStatus]:
        """Each file, in order."""
        return [
            FileStatus(
                file.name,
                file.hash,
                file.file_hash,
                file.error,
                sum(len(group.rules) + len(group.records) for group in file.groups),
            )
            for file in self._files
        ]

    def text(self, name: str) -> str:
        """What runs of a file; RuleError where there is no such file."""
        for file in self._files:
            if file.name == name:
                return file.text
        raise RuleError(f"{name} is none of the rule files")

    def poll(self, *, force: bool = False) -> bool:
        """Look at the files and at what was rolled back; True where `groups` are new."""
        asked = self._read_pins(force=force)
        changed = False
        for file in self._files:
            read = self._look(file, force)
            if read or (asked and read is not None):
                changed |= self._take(file)
        self.reloads += changed
        return changed

    def record(self) -> None:
        """Put what was read on record; what cannot be written now is with the next call."""
        if not self._unrecorded:
            return
        try:
            with self._store.write() as connection:
                for row in self._unrecorded:
                    if _latest(connection, row["name"]) != (row["hash"], row["outcome"], row["instead_of"]):
                        connection.execute(insert(file_version), [row])
        except DeskvigilError as error:
            LOG.warning("versions of rule files cannot be put on record now: %s", error)
            return
        self._unrecorded.clear()

    def roll_back(self, version_id: int, who: str, reason: str) -> Version:
        """Have an older version run from the next `poll` on; see `roll_back` of this module."""
        return roll_back(self._store, self._query, self._clock, version_id, who, reason)

    def _look(self, file: _File, force: bool) -> bool | None:
        """Read the file where it was touched; whether its text is another one than before, None where it cannot be read."""
        signature = _signature(file.path)
        if signature == file.signature and not force:
            return False
        try:
            text = _read(file.path)
        except RuleError as error:
            file.signature = None
            self._refuse(file, "", str(error))
            return None
        file.signature = signature
        if _hash(text) == file.file_hash and not file.error:
            return False
        file.file_text, file.file_hash = text, _hash(text)
        return True

    def _take(self, file: _File) -> bool:
        """Let what the file says run, or what stands in for it; whether that is something else than before."""
        before = (file.text, file.hash, file.instead_of)
        file.choose()
        if file.hash == before[1]:
            file.error = file.refused = ""
            return False
        groups, problems = check_text(file.text, file.name, self._query)
        errors = [problem.words for problem in problems if problem.level == "error"]
        if errors:
            text = file.text
            file.text, file.hash, file.instead_of = before
            self._refuse(file, text, "; ".join(errors))
            return False
        file.groups, file.error, file.refused = groups, "", ""
        file.pin = file.pin if file.instead_of else None  # what is on record from now on is this text
        self._note(file, file.text, RELOAD, "loaded", "")
        LOG.info("rule file %s is loaded anew", file.name)
        return True

    def _refuse(self, file: _File, text: str, error: str) -> None:
        refused = _hash(text) if text else error
        file.error = error
        if refused == file.refused:
            return
        file.refused = refused
        LOG.error("rule file %s is refused, what it said before goes on: %s", file.name, error)
        if text:
            self._note(file, text, RELOAD, "refused", error)

    def _note(self, file: _File, text: str, who: str, outcome: str, note: str) -> None:
        self._unrecorded.append(
            {
                "kind": KIND,
                "name": file.name,
                "hash": _hash(text),
                "text": text,
                "t_ms": self._clock.now_ns() // 1_000_000,
                "who": who,
                "outcome": outcome,
                "note": note,
                "instead_of": file.instead_of or None if outcome == "loaded" else None,
            }
        )

    def _read_pins(self, *, force: bool = False) -> bool:
        """Read what stands in for files, where there are new versions on record: by another process, perhaps."""
        try:
            with self._store.read() as connection:
                ours = select(func.max(file_version.c.id)).where(file_version.c.kind == KIND)
                newest = connection.execute(ours).scalar_one() or 0
                if newest == self._newest and not force:
                    return False
                rows = [_newest_loaded(connection, file.name) for file in self._files]
        except DeskvigilError as error:
            LOG.debug("versions of rule files cannot be read now: %s", error)
            return False
        self._newest = newest
        for file, row in zip(self._files, rows, strict=True):
            file.pin = row if row is not None and row.instead_of else None
        return True


def versions(store: Transactions, limit: int = 100, name: str | None = None) -> list[Version]:
    """The newest versions first, without their text; of one file where it is named."""
    columns = [column for column in file_version.c if column.name != "text"]
    query = select(*columns).where(file_version.c.kind == KIND).order_by(file_version.c.id.desc())
    if name is not None:
        query = query.where(file_version.c.name == name)
    with store.read() as connection:
        return [_version(row, "") for row in connection.execute(query.limit(max(1, min(limit, MAX_VERSIONS))))]


def version(store: Transactions, version_id: int) -> Version:
    """One version with its text; RuleError where there is none."""
    with store.read() as connection:
        row = connection.execute(
            select(file_version).where(file_version.c.id == version_id, file_version.c.kind == KIND)
        ).one_or_none()
    if row is None:
        raise RuleError(f"there is no version {version_id} of a rule file")
    return _version(row, row.text)


def roll_back(
    store: Transactions, query: Querier, clock: Clock, version_id: int, who: str, reason: str = ""
) -> Version:
    """Have a version run in place of what its file says now, until the file changes; audited.

    A running console takes it up within its slow tick. RuleError where there is no such version, its file
    cannot be read, or it does not hold any more (a function or a calendar is gone).
    """
    who = who.strip()
    if not who:
        raise RuleError("rolling back needs a name")
    old = version(store, version_id)
    _, problems = check_text(old.text, old.name, query)
    errors = [problem.words for problem in problems if problem.level == "error"]
    if errors:
        raise RuleError(f"version {version_id} cannot be used: {'; '.join(errors)}")
    file_hash = _hash(_read(Path(old.name)))
    t_ms = clock.now_ns() // 1_000_000
    row = {
        "kind": KIND,
        "name": old.name,
        "hash": old.hash,
        "text": old.text,
        "t_ms": t_ms,
        "who": who,
        "outcome": "loaded",
        "note": f"rolled back to version {version_id}" + (f": {reason.strip()}" if reason.strip() else ""),
        "instead_of": None if old.hash == file_hash else file_hash,
    }
    with store.write() as connection:
        found = connection.execute(insert(file_version).values(row).returning(*file_version.c)).one()
        detail = {"file": old.name, "version": version_id, "hash": old.hash, "reason": reason.strip()}
        audit.record(connection, t_ms=t_ms, who=who, action="rules.rollback", object_=old.name, detail=detail)
    return _version(found, old.text)


def _newest_loaded(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(
        select(file_version)
        .where(file_version.c.kind == KIND, file_version.c.name == name, file_version.c.outcome == "loaded")
        .order_by(file_version.c.id.desc())
        .limit(1)
    ).one_or_none()


def _latest(connection: Connection, name: str) -> tuple[str, str, str | None] | None:
    row = connection.execute(
        select(file_version.c.hash, file_version.c.outcome, file_version.c.instead_of)
        .where(file_version.c.kind == KIND, file_version.c.name == name)
        .order_by(file_version.c.id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else (row.hash, row.outcome, row.instead_of)


def _version(row: Any, text: str) -> Version:
    return Version(row.id, row.name, row.hash, row.t_ms, row.who, row.outcome, row.note, row.instead_of or "", text)


def _signature(path: Path) -> Signature | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RuleError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RuleError(f"{path}: is not UTF-8 text") from None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
