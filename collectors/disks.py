"""Disk sections of the host: whole disks, real filesystems, and the filesystem of our own data."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from collectors.section import NAN, ProcFile, ratio
from metrics.catalogue import series
from metrics.series import Series

SECTOR_BYTES = 512  # of /proc/diskstats, whatever the disk's own sector size
# Where there is no /sys to tell hardware from the rest: names of partitions and of disks made of nothing or of others.
NOT_WHOLE = re.compile(
    r"(loop|ram|zram|sr|fd|dm-|md)\d*$|([hsv]|xv)d[a-z]+\d+$|(nvme|mmcblk)\d+(n\d+)?(p|boot|rpmb)\d*$"
)
# Filesystems on a block device that are images, full by nature.
IMAGES = frozenset({"squashfs", "iso9660", "udf", "erofs", "cramfs"})
# Real, though not on one block device. Network filesystems are not here: statvfs on a dead server hangs for ever.
DEVICELESS = frozenset({"zfs", "bcachefs"})


class Disks:
    """/proc/diskstats, whole hardware disks only: partitions and devices made of others would count twice."""

    def __init__(self, proc: Path, sys: Path, max_disks: int) -> None:
        self._file = ProcFile(proc / "diskstats")
        self._sys_block = sys / "block"
        self._max_disks = max_disks
        self._whole: dict[str, bool] = {}
        self._names: tuple[str, ...] | None = None
        self._busy_ms: dict[str, int] = {}
        self.left_out = 0
        self.series: tuple[Series, ...] = ()

    def read(self, elapsed_s: float) -> list[float]:
        disks = self._disks()
        if tuple(disks) != self._names:
            self._names = tuple(disks)
            self.series = tuple(made for name in disks for made in _disk_series(name))
        values: list[float] = []
        for name, counts in disks.items():
            reads, _, read_sectors, read_ms, writes, _, written_sectors, write_ms, in_flight, busy_ms = counts
            spent_ms = busy_ms - self._busy_ms.get(name, busy_ms)
            values += (
                read_sectors * SECTOR_BYTES, written_sectors * SECTOR_BYTES, reads, writes,
                read_ms / 1e3, write_ms / 1e3, busy_ms / 1e3, ratio(spent_ms / 1e3, elapsed_s), in_flight,
            )  # fmt: skip
            self._busy_ms[name] = busy_ms
        return values

    def close(self) -> None:
        self._file.close()

    def _disks(self) -> dict[str, list[int]]:
        disks = {}
        lines = self._file.read().splitlines()
        if len(self._whole) > 4 * len(lines) + 64:  # names that come and go must not pile up
            self._whole.clear()
        for line in lines:
            fields = line.split(None, 13)
            name = fields[2].decode()
            if name not in self._whole:
                self._whole[name] = self._is_whole(name)
            if self._whole[name]:
                disks[name] = [int(field) for field in fields[3:13]]
        self.left_out = max(0, len(disks) - self._max_disks)
        self._busy_ms = {name: self._busy_ms[name] for name in disks if name in self._busy_ms}
        return dict(list(disks.items())[: self._max_disks])

    def _is_whole(self, name: str) -> bool:
        if NOT_WHOLE.match(name):
            return False
        if self._sys_block.is_dir():
            return (self._sys_block / name.replace("/", "!") / "device").exists()
        return True


def _disk_series(name: str) -> tuple[Series, ...]:
    return (
        series("deskvigil_host_disk_bytes_total", device=name, direction="read"),
        series("deskvigil_host_disk_bytes_total", device=name, direction="write"),
        series("deskvigil_host_disk_operations_total", device=name, direction="read"),
        series("deskvigil_host_disk_operations_total", device=name, direction="write"),
        series("deskvigil_host_disk_time_seconds_total", device=name, direction="read"),
        series("deskvigil_host_disk_time_seconds_total", device=name, direction="write"),
        series("deskvigil_host_disk_busy_seconds_total", device=name),
        series("deskvigil_host_disk_busy_ratio", device=name),
        series("deskvigil_host_disk_in_flight", device=name),
    )


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted filesystem; device is the kernel's major:minor, the same for each of its mountpoints."""

    device: str
    mountpoint: str
    fstype: str


class Filesystems:
    """Real filesystems of this host, each once however often it is mounted."""

    def __init__(self, proc: Path, max_filesystems: int) -> None:
        self._mountinfo = ProcFile(proc / "self" / "mountinfo")
        self._types = proc / "filesystems"
        self._max = max_filesystems
        self._text = b""
        self._mounts: list[Mount] = []
        self.left_out = 0
        self.series: tuple[Series, ...] = ()

    def read(self, elapsed_s: float) -> list[float]:
        text = self._mountinfo.read()
        if text != self._text:
            self._remount(text)
        return [value for mount in self._mounts for value in _usage(mount.mountpoint)]

    def close(self) -> None:
        self._mountinfo.close()

    def _remount(self, text: bytes) -> None:
        found = real_mounts(text.decode(errors="surrogateescape"), real_types(self._types.read_text()))
        mounts = found[: self._max]
        self.left_out = len(found) - len(mounts)
        if mounts != self._mounts:
            self._mounts = mounts
            self.series = tuple(made for mount in mounts for made in _mount_series(mount))
        self._text = text


def _mount_series(mount: Mount) -> tuple[Series, ...]:
    # A mountpoint need not be valid UTF-8, a label must be.
    labels = {
        "mountpoint": mount.mountpoint.encode(errors="surrogateescape").decode(errors="replace"),
        "fstype": mount.fstype,
    }
    return (
        series("deskvigil_host_filesystem_size_bytes", **labels),
        series("deskvigil_host_filesystem_available_bytes", **labels),
        series("deskvigil_host_filesystem_used_ratio", **labels),
        series("deskvigil_host_filesystem_inodes_used_ratio", **labels),
        series("deskvigil_host_filesystem_readonly", **labels),
    )


def _usage(path: str | Path) -> tuple[float, float, float, float, float]:
    """Size, available bytes, used ratio, inodes' used ratio, read-only; NaN where it cannot be asked."""
    try:
        found = os.statvfs(path)
    except OSError:
        return (NAN,) * 5
    block = found.f_frsize
    used = found.f_blocks - found.f_bfree
    return (
        float(found.f_blocks * block),
        float(found.f_bavail * block),
        ratio(used, used + found.f_bavail),
        ratio(found.f_files - found.f_ffree, found.f_files),
        float(bool(found.f_flag & os.ST_RDONLY)),
    )


def real_types(filesystems: str) -> frozenset[str]:
    """Types of /proc/filesystems that hold files on a disk of this host."""
    on_devices = {line.strip() for line in filesystems.splitlines() if not line.startswith("nodev")}
    return frozenset((on_devices | DEVICELESS) - IMAGES)


def real_mounts(mountinfo: str, types: frozenset[str]) -> list[Mount]:
    """Mounts of those types in /proc/self/mountinfo, one for each device: the one with the shortest path."""
    best: dict[str, Mount] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ", 1)[0]
        if kind not in types:
            continue
        mount = Mount(fields[2], _unescape(fields[4]), kind)
        other = best.get(mount.device)
        if other is None or len(mount.mountpoint) < len(other.mountpoint):
            best[mount.device] = mount
    return sorted(best.values(), key=lambda mount: mount.mountpoint)


def _unescape(text: str) -> str:
    """Undo the kernel's octal escapes of space, tab, newline and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


class DataFolder:
    """Space where our own data lie, whatever kind of filesystem that is: a full one ends the archive."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.series = (
            series("deskvigil_host_data_available_bytes"),
            series("deskvigil_host_data_used_ratio"),
            series("deskvigil_host_data_readonly"),
        )

    def read(self, elapsed_s: float) -> list[float]:
        _, available, used, _, readonly = _usage(self._path)
        return [available, used, readonly]

    def close(self) -> None:
        pass
