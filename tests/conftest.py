"""Parts that tests of every room share: recorded data, a browser, a PostgreSQL server."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from multiprocessing import util
from pathlib import Path

import pytest
from hypothesis import settings

from metrics.paths import RuntimePaths
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
# A slow machine is no failure: how long an example takes is measured by benchmarks, not by tests.
settings.register_profile("deskvigil", deadline=None)
settings.load_profile("deskvigil")
# Dozens of tests start a Python of their own: with compiled sources it begins in half the time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_configure(config: pytest.Config) -> None:
    """One folder for all that the programs of this run leave in the system's temporary folder, killed ones too."""
    if hasattr(config, "workerinput"):
        return  # a worker of pytest-xdist is one of those programs
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # pytest keeps its own for who wants to look
    folder = tempfile.mkdtemp(prefix="deskvigil-tests-")
    os.chmod(folder, 0o711)  # the PostgreSQL server runs as another user
    os.environ["TMPDIR"] = folder
    tempfile.tempdir = None  # Python asks for it once, and may have
    # After multiprocessing's own folder in it (-100), which is removed when the process ends.
    util.Finalize(None, shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, exitpriority=-200)


@pytest.fixture(scope="session", autouse=True)
def blocks_in_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Telemetry blocks lie in /dev/shm, outside every temporary folder: those that killed programs left go with the run."""
    yield
    for folder, _, _ in os.walk(tmp_path_factory.getbasetemp()):
        shutil.rmtree(RuntimePaths(Path(folder)).block_dir, ignore_errors=True)


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


class PostgresqlServer:
    """A private server: its programs, its folder, and the user that it runs as."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._data = folder / "data"
        self._identity: dict[str, int] = {}
        if os.getuid() == 0:  # the server refuses to run as root
            try:
                user = pwd.getpwnam("postgres")
            except KeyError:
                user = pwd.getpwnam("nobody")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._identity = {"user": user.pw_uid, "group": user.pw_gid}
        self.port = free_port()
        self._run("initdb", "-D", str(self._data), "-U", "deskvigil", "-A", "trust", "--no-sync", "-E", "UTF8")

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://deskvigil@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._folder} -c fsync=off"
        self._run("pg_ctl", "-D", str(self._data), "-o", options, "-l", str(self._folder / "log"), "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", str(self._data), "-m", mode, "-w", "stop")

    def restart(self) -> None:
        self._run("pg_ctl", "-D", str(self._data), "-m", "fast", "-w", "restart", "-l", str(self._folder / "log"))

    def kill(self) -> None:
        """kill -9 of the postmaster; its children end when they notice, and the next start recovers."""
        postmaster = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder, timeout=60, **self._identity)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A private PostgreSQL server of this test run; a test that stops it starts it again."""
    programs = _postgresql_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server programs on this machine: apt-get install postgresql")
    # A folder of its own: pytest keeps its temporary folders closed to the user that the server runs as.
    folder = Path(tempfile.mkdtemp(prefix="deskvigil-postgresql-"))
    server = PostgresqlServer(programs, folder)
    server.start()
    try:
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql_url(postgresql_server: PostgresqlServer) -> str:
    """URL of an empty database on that server."""
    return postgresql_server.url
