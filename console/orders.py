"""Orders to the engine, and their way into the audit."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from sqlalchemy import delete, insert, select

from engine.commandlog import read_log
from engine.commands import CommandClient
from metrics.errors import DeskvigilError
from metrics.frame import Frame
from storage.audit import record
from storage.store import Store
from storage.tables import meta

log = logging.getLogger("deskvigil.console")

COPIED = "engine_commands_copied"  # key in the table `meta`: name of the engine's log, and its last entry copied


class CommandCopier:
    """Copies what was ordered of the engine, by button or command line, from the engine's log into the audit.

    Each entry comes once, also where the console was down when it was ordered: how far the copy has
    come is a row of the same transaction.
    """

    def __init__(self, path: Path, store: Store, pool: ThreadPoolExecutor) -> None:
        self._path = path
        self._store = store
        self._pool = pool
        self._copied_bytes = 0

    def observe(self, frame: Frame) -> None:
        """Look with each frame of one slow collector: once a second."""
        if frame.schema.collector == "process":
            self.look()

    def look(self) -> None:
        """Copy in the pool's thread if the log has grown."""
        try:
            size = self._path.stat().st_size
        except OSError:  # nothing was ever ordered
            return
        if size != self._copied_bytes:
            with suppress(RuntimeError):  # the pool is shut down: the program is ending
                self._pool.submit(self._copy, size)

    def _copy(self, size: int) -> None:
        try:
            self.copy()
        except DeskvigilError as error:
            log.warning("orders to the engine are not in the audit yet: %s", error)
        else:
            self._copied_bytes = size

    def copy(self) -> int:
        """Copy what is new; returns how many entries. Raises DeskvigilError, having copied nothing."""
        with self._store.write() as connection:
            mark = connection.execute(select(meta.c.value).where(meta.c.key == COPIED)).scalar()
            known, seq = json.loads(mark) if mark else ("", 0)
            found = read_log(self._path, known, seq)
            if found is None or not found.entries:
                return 0
            for entry in found.entries:
                detail = {"scope": entry.scope, "reason": entry.reason, "answer": entry.answer}
                record(
                    connection,
                    t_ms=entry.t_ns // 1_000_000,
                    who=entry.who,
                    action=entry.command,
                    object_="engine",
                    detail=detail,
                )
            connection.execute(delete(meta).where(meta.c.key == COPIED))
            value = json.dumps([found.log, found.entries[-1].seq])
            connection.execute(insert(meta).values(key=COPIED, value=value))
            return len(found.entries)


def order(client: CommandClient, copier: CommandCopier, command: str, who: str, reason: str, scope: str = "all") -> str:
    """Give the engine an order; its log, and by that the audit, has it with the answer."""
    answer = client.send({"command": command, "scope": scope, "who": who, "reason": reason})
    copier.look()
    if not answer.get("ok"):
        raise DeskvigilError(f"the engine refuses to {command}: {answer.get('error', 'no reason given')}")
    if command == "cancel":
        return f"{scope} is cancelled"
    what = "trading is" if scope == "all" else f"{scope} by itself is {answer['scope_state']}; the desk is"
    return f"{what} {answer['state']}" + (f", {answer['cancelled']} orders cancelled" if "cancelled" in answer else "")
