"""Parts of the storage tests: a clock that stands still, stores in fresh folders, small file systems."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

from metrics.clock import ManualClock
from metrics.frame import Frame
from metrics.paths import RuntimePaths
from metrics.series import Schema, Series, make_labels
from storage.options import DatabaseOptions, StorageOptions
from storage.store import Store

OpenStore = Callable[..., Store]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def open_store(tmp_path: Path, clock: ManualClock, empty_database: Path) -> Iterator[OpenStore]:
    """Opens the store of this test; opening again closes the one before."""
    opened: list[Store] = []

    def open_(*, database: DatabaseOptions | None = None, **options: object) -> Store:
        if opened:
            opened.pop().close()
        paths = RuntimePaths(tmp_path)
        if not paths.database.exists():
            shutil.copy(empty_database, paths.database)
        store = Store.open(StorageOptions(**options), paths, clock, database=database)  # type: ignore[arg-type]
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: OpenStore) -> Store:
    return open_store()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without rows, to be copied: migrating takes longer than most tests."""
    folder = tmp_path_factory.mktemp("empty")
    Store.open(StorageOptions(), RuntimePaths(folder), ManualClock()).close()
    return RuntimePaths(folder).database


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts small file systems in memory; skips where that is not permitted."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"tmpfs{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting a small file system needs root")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


@pytest.fixture
def own_postgresql_url(postgresql_url: str) -> Iterator[str]:
    """URL of a fresh PostgreSQL database that only this test uses."""
    name = f"test_{uuid.uuid4().hex}"
    server = create_engine(postgresql_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(postgresql_url).set(database=name).render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


def schema(collector: str, *names: str) -> Schema:
    return Schema(collector, tuple(Series(name, make_labels({"host": "a"})) for name in names))


def frame(of: Schema, t_ms: int, *values: float) -> Frame:
    return Frame(of, t_ms * 1_000_000, np.array(values, np.float64))


def samples(store: Store, name: str, t0_ms: int = -(2**60), t1_ms: int = 2**60) -> list[tuple[int, float]]:
    """All samples of the one series with this name."""
    found = store.reader.select([("__name__", "=", name)], t0_ms, t1_ms)
    assert len(found) <= 1
    return [pair for data in found for pair in zip(data.t_ms.tolist(), data.values.tolist(), strict=True)]
