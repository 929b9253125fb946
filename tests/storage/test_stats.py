import socket
from pathlib import Path

import numpy as np

from metrics.catalogue.storage import METRICS
from metrics.clock import ManualClock
from storage.stats import StorageCollector
from storage.store import Store
from storage.witness import CommitWitness
from tests.storage.conftest import OpenStore, frame, schema

HOST = schema("host", "a")


def test_every_figure_of_the_catalogue_is_known(store: Store, clock: ManualClock) -> None:
    store.live.append(frame(HOST, 1000, 1.0))
    store.archive.flush()
    collector = StorageCollector(store)
    taken = collector.collect(clock.now_ns())
    assert taken.schema is collector.describe()
    assert not np.isnan(taken.values).any()
    figures = {series.name: value for series, value in zip(taken.schema.series, taken.values, strict=True)}
    assert set(figures) == {metric.name for metric in METRICS}
    assert figures["deskvigil_storage_frames_total"] == 1
    assert figures["deskvigil_storage_series"] == 1
    assert figures["deskvigil_storage_degraded"] == 0
    assert figures["deskvigil_storage_database_bytes"] > 0


def test_the_witness_hears_of_every_committed_frame(open_store: OpenStore, tmp_path: Path) -> None:
    path = tmp_path / "witness"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as witness:
        witness.bind(str(path))
        witness.settimeout(10)
        store = open_store(commit_socket=str(path))
        store.live.append(frame(HOST, 1000, 1.0))
        store.archive.flush()
        assert witness.recv(100) == b"host 1000\n"


def test_a_witness_that_is_not_there_is_no_trouble(tmp_path: Path) -> None:
    witness = CommitWitness(str(tmp_path / "nobody"))
    witness([("host", 1000)])
    assert witness.unsent == 1
    witness.close()
