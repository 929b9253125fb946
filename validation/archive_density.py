"""Bytes on disk of one capture: ours and the peers'."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from metrics.clock import SystemClock
from metrics.paths import RuntimePaths
from storage import jobs
from storage.options import StorageOptions
from storage.store import Store
from validation.figure import Figure
from validation.stores.capture import Capture, read_capture
from validation.stores.peers import PEERS

NAME = "archive"
_LIMITS = {"all series": 0.48, "only varying series": 1.26}


def density(capture: Path, folder: Path, say: Callable[[str], None]) -> list[Figure]:
    """The whole database file after sealing, checkpoint and vacuum, per sample; everything in it counts."""
    whole = read_capture(capture)
    figures = []
    for what, some in (("all series", whole), ("only varying series", whole.varying())):
        say(f"archive: {capture.name}, {what}: {len(some.series)} series, {some.samples:,} samples ...")
        place = folder / what.replace(" ", "-")
        beside = []
        for peer in PEERS:
            if not peer.installed():
                beside.append(f"{peer.name} not installed")
                continue
            with peer(place / peer.program) as running:
                running.write(some)
                beside.append(f"{peer.name} here {running.bytes_on_disk() / some.samples:.2f}")
        figures.append(
            Figure(
                benchmark=NAME, what=f"database file, {what}", value=file_bytes(some, place / "ours") / some.samples,
                unit="B/sample", decimals=3, limit=_LIMITS[what], peer=", ".join(beside),
            )
        )  # fmt: skip
    return figures


def file_bytes(capture: Capture, folder: Path) -> int:
    """Size of the database file that holds the capture and nothing else, one block to a time axis."""
    folder.mkdir(parents=True)
    most = max(capture.samples + 1, 4_000_000)
    options = StorageOptions(ingest_max_samples=most, ingest_seal_samples=most, max_series=10_000_000)
    store = Store.open(options, RuntimePaths(folder), SystemClock())
    try:
        store.ingest(capture.series, capture.t_ms, capture.values)
        store.seal(everything=True)
        jobs.compact(store)
        path = store.series_database.path
    finally:
        store.close()
    return path.stat().st_size
