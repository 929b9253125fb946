"""Where a running Deskvigil keeps its files."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RuntimePaths:
    """Files of one instance: everything durable lies in `data_dir`, telemetry blocks in memory.

    The blocks' folder is derived from the data folder, so that a restarted program finds and
    replaces what a killed one left behind.
    """

    data_dir: Path

    @property
    def database(self) -> Path:
        return self.data_dir / "deskvigil.sqlite"

    @property
    def lock(self) -> Path:
        return self.data_dir / "lock"

    @property
    def acknowledge_key(self) -> Path:
        """The secret that signs acknowledge links in messages, mode 0600."""
        return self.data_dir / "acknowledge.key"

    @property
    def engine_socket(self) -> Path:
        """Unix socket, mode 0600, by which commands (halt, resume, ...) enter the engine."""
        return self.data_dir / "engine.sock"

    @property
    def order_socket(self) -> Path:
        """Unix socket, mode 0600, by which clients attach to order entry."""
        return self.data_dir / "orders.sock"

    @property
    def command_log(self) -> Path:
        """What was ordered of the engine and what it answered: JSON lines, copied into the audit by the console."""
        return self.data_dir / "commands.jsonl"

    @property
    def executions_dir(self) -> Path:
        """Folder of both streams of executions: our own record of fills and the drop copy."""
        return self.data_dir / "fills"

    @property
    def settlements(self) -> Path:
        """What each instrument came to at the end of each session: JSON lines, copied into its table by the console."""
        return self.data_dir / "settlements.jsonl"

    @property
    def journal(self) -> Path:
        """Folder of the engine's journal and snapshots."""
        return self.data_dir / "journal"

    @property
    def block_dir(self) -> Path:
        """Folder of the telemetry blocks: memory-backed where the system has /dev/shm."""
        digest = hashlib.sha256(str(self.data_dir.resolve()).encode()).hexdigest()[:12]
        shm = Path("/dev/shm")  # noqa: S108 - memory-backed on purpose; the folder below is 0700 and ours
        if shm.is_dir() and os.access(shm, os.W_OK):
            return shm / f"deskvigil-{os.getuid()}-{digest}"
        return self.data_dir / "run"

    @property
    def engine_block(self) -> Path:
        return self.block_dir / "engine.block"

    @property
    def orders_block(self) -> Path:
        """The Orders page's block, written by the engine beside its own."""
        return self.block_dir / "engine.orders"

    @property
    def order_log(self) -> Path:
        """The ring of what happened to own orders, beside the Orders page's block."""
        return self.block_dir / "engine.orderlog"

    @property
    def risk_block(self) -> Path:
        return self.block_dir / "risk.block"

    @property
    def feed_block(self) -> Path:
        return self.block_dir / "feed.block"

    @property
    def feed_ring(self) -> Path:
        """The live market's events on their way from the feed process to the engine."""
        return self.block_dir / "feed.ring"

    @property
    def feed_grid(self) -> Path:
        """JSON: the live market's instruments with their ticks and lots, and its clock."""
        return self.block_dir / "feed.json"

    @property
    def feed_bell(self) -> Path:
        """Named pipe by which the feed process wakes the engine."""
        return self.block_dir / "feed.bell"

    @property
    def console_heartbeat(self) -> Path:
        """Eight bytes, int64: wall-clock ns of the console's last sign of life."""
        return self.block_dir / "console.heartbeat"

    @property
    def cpu_plan(self) -> Path:
        """JSON: what each thread had before a plan for the processors was put in force; gone once that is undone."""
        return self.block_dir / "cpu.plan"

    @property
    def supervisor_status(self) -> Path:
        """JSON file, replaced atomically, with the state of each child process."""
        return self.block_dir / "supervisor.json"
