"""One instance: its folder's lock and its port, and what is said where they are not to be had."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from metrics.errors import DeskvigilError
from resources.instance import listen, only_one, own_memory


def test_a_folder_in_use_is_refused_with_the_holders_pid(tmp_path: Path) -> None:
    refused = pytest.raises(DeskvigilError, match=rf"in use by another Deskvigil \(pid {os.getpid()}\)")
    with only_one(tmp_path / "data"), refused, only_one(tmp_path / "data"):
        pass
    with only_one(tmp_path / "data"):
        pass


def test_a_read_only_folder_is_named_with_the_way_out(tmp_path: Path) -> None:
    folder = tmp_path / "readonly"
    folder.mkdir()
    if os.getuid() == 0:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=64k", "none", folder], capture_output=True)
        if mounted.returncode:
            pytest.skip("root writes everywhere and may not mount a read-only file system here")
    else:
        folder.chmod(0o500)
    try:
        with pytest.raises(DeskvigilError, match=r"cannot be written.*--data-dir"), only_one(folder / "data"):
            pass
    finally:
        if os.getuid() == 0:
            subprocess.run(["umount", folder], check=True)


def test_a_taken_port_is_named_with_another() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(DeskvigilError, match=f"port {port} on 127.0.0.1 is taken.*--port"),
            listen("127.0.0.1", port),
        ):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5"])
def test_an_address_that_others_reach_is_refused_without_users(host: str) -> None:
    with pytest.raises(DeskvigilError, match="no users yet"), listen(host, 0):
        pass


def test_a_host_name_is_refused_in_words() -> None:
    with pytest.raises(DeskvigilError, match="not an IP address"), listen("desk.example", 0):
        pass


def test_localhost_is_the_loopback_address() -> None:
    with listen("localhost", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


HOLDER = """
import sys
from pathlib import Path
from resources.instance import own_memory
with own_memory(Path(sys.argv[1])):
    (Path(sys.argv[1]) / "engine.block").write_bytes(bytes(1000))
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a folder; killed at the end."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_what_a_killed_one_left_in_memory_goes_with_the_next_start_and_nothing_else(tmp_path: Path) -> None:
    dead, live, mine, unknown = (tmp_path / f"deskvigil-7-{name}" for name in ("dead", "live", "mine", "unknown"))
    other_user = tmp_path / "deskvigil-77-dead"
    with holder(dead), holder(other_user):
        pass
    unknown.mkdir()
    (tmp_path / "deskvigil-7-link").symlink_to(other_user)
    assert (dead / "engine.block").exists()
    with holder(live) as process:
        with own_memory(mine):
            assert sorted(path.name for path in tmp_path.iterdir()) == [
                "deskvigil-7-link", "deskvigil-7-live", "deskvigil-7-mine", "deskvigil-7-unknown", "deskvigil-77-dead",
            ]  # fmt: skip
            assert (live / "engine.block").exists()
            assert process.poll() is None
        assert not mine.exists()


def test_a_start_finds_its_own_folder_as_a_killed_one_left_it(tmp_path: Path) -> None:
    mine = tmp_path / "deskvigil-7-mine"
    with holder(mine):
        pass
    with own_memory(mine):
        assert (mine / "engine.block").exists()
    assert not mine.exists()


def test_starts_and_ends_at_the_same_time_never_take_each_others_folders(tmp_path: Path) -> None:
    def live(name: int) -> None:
        folder = tmp_path / f"deskvigil-7-{name}"
        for _ in range(50):
            with own_memory(folder):
                (folder / "block").write_bytes(b"1")
                assert (folder / "block").read_bytes() == b"1"

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(live, range(4)))
    assert list(tmp_path.iterdir()) == []
