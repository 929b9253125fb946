"""The policy in force: read at the start, and again whenever its file has changed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence

from sqlalchemy import insert, select

from alerts.ledger import Recipient
from alerts.options import AlertOptions
from alerts.policy.decide import Contacts, NoContacts, Routing
from alerts.policy.file import PolicyFile, default_policy, load_policy
from alerts.policy.silences import Silences
from alerts.source import Transactions
from alerts.state import Instant
from metrics.errors import ConfigError, DeskvigilError
from storage.tables import file_version

LOG = logging.getLogger(__name__)


class LoadedPolicy:
    """The routing in force. ConfigError (PolicyError) from the constructor where the file is wrong at the start.

    A file that is wrong later changes nothing: the one before goes on, `problem` says why. contacts: makes of a
    file's people and rotas how they are reached (ConfigError where these sections are wrong).
    """

    def __init__(
        self,
        store: Transactions,
        options: AlertOptions,
        recipients: Sequence[Recipient],
        silences: Silences,
        contacts: Callable[[PolicyFile], Contacts] = lambda file: NoContacts(),
    ) -> None:
        self._store = store
        self._path = options.policy
        self._every_ms = round(options.slow_tick_s * 1000)
        self._repeat_ms = round(options.repeat_interval_s * 1000)
        self._recipients = tuple(recipients)
        self._silences = silences
        self._contacts = contacts
        self._stamp = self._stamped()
        self._due_ms = 0
        self.problem = ""
        self.routing = self._routing(self._load())

    def note_start(self, now: Instant) -> None:
        """Put the version in force on record; StorageUnavailable where that cannot be."""
        if self._path is not None:
            self._record(self.routing.file.text, "start", "", now)

    def reloaded(self, now: Instant) -> Routing | None:
        """The new routing where the file has changed and is sound, else None. Looks once in a slow tick."""
        if self._path is None or now.mono_ms < self._due_ms:
            return None
        self._due_ms = now.mono_ms + self._every_ms
        stamp = self._stamped()
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            routing = self._routing(self._load())
        except ConfigError as error:
            if str(error) != self.problem:
                LOG.error("the policy file is refused, the one before stays in force: %s", error)
            self.problem = str(error)
            self._try_record(self._text(), str(error), now)
            return None
        self.problem = ""
        if routing.file.text == self.routing.file.text:
            return None
        self.routing = routing
        LOG.info("policy %s: a new version is in force", self._path)
        self._try_record(routing.file.text, "", now)
        return self.routing

    def _load(self) -> PolicyFile:
        channels = [one.name for one in self._recipients]
        if self._path is None:
            return default_policy(channels, self._repeat_ms)
        return load_policy(self._path, channels, self._repeat_ms)

    def _routing(self, file: PolicyFile) -> Routing:
        return Routing(file, self._recipients, self._silences, self._contacts(file))

    def _stamped(self) -> tuple[int, int, int] | None:
        """What changes with the file's content; None where it cannot be read."""
        try:
            found = self._path.stat() if self._path is not None else None
        except OSError:
            return None
        return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)

    def _text(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8", errors="replace") if self._path is not None else ""
        except OSError:
            return ""

    def _try_record(self, text: str, note: str, now: Instant) -> None:
        try:
            self._record(text, "reload", note, now)
        except DeskvigilError as error:
            LOG.warning("the policy's version cannot be put on record: %s", error)

    def _record(self, text: str, who: str, note: str, now: Instant) -> None:
        digest, name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), str(self._path)
        mine = (file_version.c.kind == "policy") & (file_version.c.name == name)
        with self._store.write() as connection:
            last = connection.execute(
                select(file_version.c.hash, file_version.c.note).where(mine).order_by(file_version.c.id.desc()).limit(1)
            ).first()
            if last is not None and (last.hash, last.note) == (digest, note):
                return
            row = {
                "kind": "policy",
                "name": name,
                "hash": digest,
                "text": text,
                "t_ms": now.wall_ms,
                "who": who,
                "outcome": "refused" if note else "loaded",
                "note": note,
            }
            connection.execute(insert(file_version), [row])
