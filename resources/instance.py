"""One instance: its data folder is locked, its folder in memory is its own, its port is held; failures are told in words."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import logging
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from metrics.errors import DeskvigilError

log = logging.getLogger("deskvigil.supervisor")


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Create the data folder and hold its lock; DeskvigilError where it cannot be written or is in use."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DeskvigilError(
            f"data folder {data_dir} cannot be written: {error.strerror}. "
            "Choose another with --data-dir DIR, or make it writable for this user"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise DeskvigilError(f"data folder {data_dir} cannot be locked: {error.strerror}") from None
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            raise DeskvigilError(
                f"data folder {data_dir} is in use by another Deskvigil"
                f"{f' (pid {holder})' if holder else ''}. Stop it, or choose another folder with --data-dir DIR"
            ) from None
        with suppress(OSError):  # a full disk: the lock holds without the number in it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def own_memory(folder: Path) -> Iterator[None]:
    """Hold a folder of shared memory and remove it at the end; first remove those whose holders were killed.

    folder: .../PROGRAM-USER-NAME; others of the same program and user are its neighbours. A folder is dead
    where nobody holds the lock in it; one without a lock is left alone, nobody knows whose it is.
    """
    descriptor = _lock_in(folder)
    try:
        for neighbour in folder.parent.glob(f"{folder.name.rpartition('-')[0]}-*"):
            if neighbour != folder and not neighbour.is_symlink():
                _remove_dead(neighbour)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _lock_in(folder: Path) -> int:
    """Make a folder with a lock and hold it. Who looks for dead ones may take it away before it is locked: then again."""
    while True:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _remove_dead(folder: Path) -> None:
    """Remove a folder whose lock nobody holds."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # no lock, or not ours
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink == 0:  # its holder removed it just now, and may be making it anew
            return
        shutil.rmtree(folder)
        log.warning("removed %s: a Deskvigil that was killed left it behind", folder)
    except OSError:  # it is in use
        return
    finally:
        os.close(descriptor)


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Hold a listening TCP socket on a loopback address.

    It stays open while the console restarts, so that browsers wait instead of failing.
    DeskvigilError where the address is not loopback, not of this machine, or taken.
    """
    address = _loopback_address(host)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((str(address), port))
            listener.listen(2048)
        except PermissionError:
            raise DeskvigilError(f"port {port} needs privileges; choose one from 1024 on with --port") from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise DeskvigilError(
                    f"port {port} on {host} is taken by another program; choose another with --port, for example --port {_next(port)}"
                ) from None
            raise DeskvigilError(f"cannot listen on {host} port {port}: {error.strerror}") from None
        yield listener
    finally:
        listener.close()


def _loopback_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise DeskvigilError(f"host {host!r} is not an IP address; use 127.0.0.1, ::1 or localhost") from None
    if not address.is_loopback:
        raise DeskvigilError(
            f"host {host} can be reached from other machines, and this version has no users yet: whoever reaches the "
            "port could halt trading. Serve on 127.0.0.1 and put a proxy with authentication in front"
        )
    return address


def _next(port: int) -> int:
    return port + 1 if port < 65535 else 8050
