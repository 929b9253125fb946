"""Parts that tests of every room share: recorded data, a browser, a PostgreSQL server."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _shared(variable: str, folder: str) -> Path:
    path = Path(os.environ.get(variable) or ROOT.parent / "shared" / folder)
    if not path.is_dir():
        pytest.skip(f"no recorded data at {path}: set {variable} to their folder")
    return path


@pytest.fixture(scope="session")
def marketdata() -> Path:
    """Folder of recorded market data."""
    return _shared("DESKVIGIL_MARKETDATA", "marketdata")


@pytest.fixture(scope="session")
def promqltest() -> Path:
    """Folder of Prometheus's own PromQL cases."""
    return _shared("DESKVIGIL_PROMQLTEST", "promqltest")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium that tests may start."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium on this machine: apt-get install chromium")


def _postgresql_programs() -> Path | None:
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """URL of an empty database on a private PostgreSQL server of this test run."""
    programs = _postgresql_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server programs on this machine: apt-get install postgresql")
    # A folder of its own: pytest keeps its temporary folders closed to the user that the server runs as.
    folder = Path(tempfile.mkdtemp(prefix="deskvigil-postgresql-"))
    user = None
    if os.getuid() == 0:  # the server refuses to run as root
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            user = pwd.getpwnam("nobody")
        os.chown(folder, user.pw_uid, user.pw_gid)
    identity = {"user": user.pw_uid, "group": user.pw_gid} if user else {}

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=folder, timeout=60, **identity)

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    run(str(programs / "initdb"), "-D", str(data), "-U", "deskvigil", "-A", "trust", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    run(str(programs / "pg_ctl"), "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql+psycopg://deskvigil@127.0.0.1:{port}/postgres"
    finally:
        run(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)
