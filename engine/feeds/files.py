"""Files: recorded data off the disk, whatever they are packed in, with errors that name the file."""

from __future__ import annotations

import gzip
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from metrics.errors import DeskvigilError

MAX_BYTES = 4 << 30  # unpacked: a file that claims more is refused rather than filling the memory
# What zipfile raises on damage, by its place: in a directory, a member's offset, its method, its name or its bytes.
DAMAGED_ZIP = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError, RuntimeError, ValueError, struct.error,
)  # fmt: skip


class Readable(Protocol):
    """Something that gives at most `size` bytes at a time."""

    def read(self, size: int, /) -> bytes: ...


class Opening(NamedTuple):
    """How a recording begins: its first bytes, unpacked; of a zip or a folder also the names in it."""

    head: bytes
    members: tuple[str, ...]

    @property
    def line(self) -> bytes:
        """The first line, without its end."""
        return self.head.split(b"\n", 1)[0].strip()


def read_limited(stream: Readable, name: str, limit: int = MAX_BYTES) -> bytes:
    """All bytes of a stream; DeskvigilError where there are more than `limit`."""
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise DeskvigilError(f"{name} unpacks to more than {limit >> 20} MiB")
    return data


def _read(path: Path, take: Callable[[Readable], bytes]) -> bytes:
    try:
        with path.open("rb") as file:
            magic = file.read(6)
            file.seek(0)
            if magic.startswith(b"\x1f\x8b"):
                with gzip.open(file) as unpacked:
                    return take(unpacked)
            if magic == b"\xfd7zXZ\x00":
                with lzma.open(file) as unpacked:
                    return take(unpacked)
            return take(file)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DeskvigilError(f"{path.name} is damaged: {error}") from error
    except OSError as error:
        raise DeskvigilError(f"cannot read {path}: {error.strerror or error}") from error


def read_unpacked(path: Path) -> bytes:
    """The bytes of a plain, .gz or .xz file; DeskvigilError where it cannot be read or is damaged."""
    return _read(path, lambda stream: read_limited(stream, path.name))


def read_start(path: Path, size: int) -> bytes:
    """The first `size` bytes of a plain, .gz or .xz file; errors as `read_unpacked`."""
    return _read(path, lambda stream: stream.read(size))


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip archive; DeskvigilError where it is not one."""
    try:
        return zipfile.ZipFile(path)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise DeskvigilError(f"cannot read {path}: {error.strerror or error}") from error
    except DAMAGED_ZIP as error:
        raise DeskvigilError(f"{path.name} is not a zip archive, or a damaged one: {error}") from error


def read_member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """One file of an archive; DeskvigilError where it is damaged or larger than `MAX_BYTES`."""
    try:
        with archive.open(name) as member:
            return read_limited(member, f"{name} in {path.name}")
    except DAMAGED_ZIP as error:
        raise DeskvigilError(f"{name} in {path.name} is damaged: {error}") from error
