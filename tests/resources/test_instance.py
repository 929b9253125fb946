"""One instance: its folder's lock and its port, and what is said where they are not to be had."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from metrics.errors import DeskvigilError
from resources.instance import listen, only_one


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
