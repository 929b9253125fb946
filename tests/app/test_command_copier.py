"""Orders to the engine reach the audit once each, also those given while the console was down."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from console.orders import CommandCopier
from engine.commandlog import CommandLog
from metrics.clock import SystemClock
from metrics.paths import RuntimePaths
from storage.options import StorageOptions
from storage.store import Store


def test_each_order_is_copied_once_over_restarts_and_a_new_log(tmp_path: Path) -> None:
    paths = RuntimePaths(tmp_path)

    def ordered(command: str) -> None:
        log = CommandLog(paths.command_log)
        log.open()
        log.write(1_700_000_000_000_000_000, command, "all", "anna", "a test", {"state": "HALTED"})
        log.close()

    def copied() -> int:
        store = Store.open(StorageOptions(), paths, SystemClock())
        try:
            with ThreadPoolExecutor(1) as pool:
                copier = CommandCopier(paths.command_log, store, pool)
                copier.look()
                copier.look()
            assert store.audit.verify().ok
            assert copier.copy() == 0
            entries = store.audit.list()
            assert all(entry.t_ms == 1_700_000_000_000 and entry.who == "anna" for entry in entries)
            assert all(entry.detail["answer"] == {"state": "HALTED"} for entry in entries)
            return len(entries)
        finally:
            store.close()

    assert copied() == 0
    ordered("halt")
    assert copied() == 1
    ordered("resume")
    ordered("halt")
    assert copied() == 3
    paths.command_log.unlink()  # somebody cleared the folder: the next log begins at 1 again
    ordered("resume")
    assert copied() == 4
