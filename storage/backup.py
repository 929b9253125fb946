"""Backup: one file with everything durable of a data folder, taken while the program runs; and its way back.

A backup is the SQLite file as it was at one moment (SQLite's backup API inside one read transaction of a
read-only connection: the writer goes on, and nobody else checkpoints) with two more tables: `backup_about`
says what it is, `backup_file` holds the folder's other files. So `app.py fsck --file BACKUP` reads it like a store.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from metrics.clock import Clock
from metrics.errors import DeskvigilError
from metrics.paths import RuntimePaths
from storage.database import _lock_beside, explain
from storage.fsck import check_file
from storage.snapshot import open_readonly

Say = Callable[[str], None]

ASIDE = "replaced-"
"""What restore keeps aside lies in folders with this name in front; backups leave them out."""
_STAGING = ".restoring"
_PAGES_AT_ONCE = 4_096
_PART_BYTES = 16 << 20
_SIDES = ("-wal", "-shm", "-journal")
_PASSING = (".lock", ".partial", ".new", ".sock", ".pid")
_TABLES = (
    "CREATE TABLE backup_about (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE backup_file (name TEXT NOT NULL, part INTEGER NOT NULL, mode INTEGER NOT NULL, data BLOB NOT NULL, "
    "PRIMARY KEY (name, part))",
)


@dataclass(frozen=True, slots=True)
class BackupResult:
    """What a backup holds: bytes of its file, the other files' names, and the newest stored instant (None: no sample)."""

    path: Path
    bytes: int
    files: tuple[str, ...]
    newest_ms: int | None


def backup(paths: RuntimePaths, out: Path, clock: Clock, version: str, say: Say) -> BackupResult:
    """Back a data folder up into the new file `out`, beside a running program or without one.

    Everything whose commit had returned when it began is in it. DeskvigilError where `out` exists, either side's
    disk fails or is full, or the result does not pass the checks; nothing is left behind then.
    """
    if out.exists():
        raise DeskvigilError(f"{out} exists already; a backup overwrites nothing")
    partial = out.with_name(out.name + ".partial")
    with _explained(out), closing(open_readonly(paths.database)) as source:
        _check_room(source, out)
        with _removed_on_failure(partial):
            partial.unlink(missing_ok=True)
            descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            os.close(descriptor)
            newest = _copy(source, partial, say)
            files = _add_files(paths, partial, clock, version)
            say("checking the backup ...")
            report = check_file(partial, say=lambda _: None)
            if report.problems:
                first = report.problems[0]
                raise DeskvigilError(
                    f"the copy has {len(report.problems)} problem(s), the first: {first}. The store itself may be damaged: "
                    "run `app.py fsck`"
                )
            _sync(partial)
            os.link(partial, out)  # unlike rename it never replaces a file that came meanwhile
            partial.unlink()
            _sync(out.parent)
    return BackupResult(out, out.stat().st_size, files, newest)


def restore(file: Path, paths: RuntimePaths, clock: Clock, *, force: bool, say: Say) -> Path | None:
    """Put a backup into a data folder; returns where the files lie that were there, None where there were none.

    The folder must hold nothing durable, or `force` moves that aside within it. DeskvigilError where a program uses
    the folder, the backup is none or damaged, or the disk fails: the folder is as it was then.
    """
    _check_backup(file)
    say("checking the backup ...")
    report = check_file(file, say=lambda _: None)
    if report.problems:
        raise DeskvigilError(f"{file} is damaged: {len(report.problems)} problem(s), the first: {report.problems[0]}")
    old = [path for path in _durable(paths) if path != file.resolve()]
    if old and not force:
        raise DeskvigilError(
            f"{paths.data_dir} is not empty ({', '.join(path.name for path in old[:3])}"
            f"{', ...' if len(old) > 3 else ''}); --force keeps what is there aside and restores"
        )
    staging = paths.data_dir / _STAGING
    with closing(_lock_beside(paths.database)), _explained(paths.data_dir):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(mode=0o700)
        try:
            say("copying ...")
            names = _stage(file, staging, paths.database.name)
            aside = _move_aside(paths, old, clock) if old else None
            for name in names:
                target = paths.data_dir / name
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                (staging / name).rename(target)
            _sync(paths.data_dir)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return aside


# --- taking it ------------------------------------------------------------------------------------


def _copy(source: sqlite3.Connection, partial: Path, say: Say) -> int | None:
    """Copy all pages as of now; returns the newest instant in them."""
    source.execute("BEGIN")  # the copy's steps all see this moment, and the writer does not make them start again
    try:
        newest = source.execute(
            "SELECT max(t) FROM (SELECT max(t_ms) AS t FROM frame UNION ALL SELECT max(t1_ms) FROM block)"
        ).fetchone()[0]
        with closing(sqlite3.connect(partial, isolation_level=None)) as target:
            target.execute("PRAGMA synchronous = OFF")  # it is synced as a whole at the end
            told = -1

            def progress(_status: int, remaining: int, total: int) -> None:
                nonlocal told
                percent = 100 * (total - remaining) // max(total, 1)
                if percent // 10 > told // 10 or percent == 100 != told:
                    told = percent
                    say(f"{percent:3d} % of {total:,} pages")

            source.backup(target, pages=_PAGES_AT_ONCE, progress=progress)
    finally:
        source.execute("ROLLBACK")
    return None if newest is None else int(newest)


def _add_files(paths: RuntimePaths, partial: Path, clock: Clock, version: str) -> tuple[str, ...]:
    """Add the folder's other files and what this is; the database's own log and locks are not among them."""
    own = {paths.database.resolve()}
    files = [path for path in _durable(paths) if path not in own and path != partial.resolve()]
    names = []
    with closing(sqlite3.connect(partial, isolation_level=None)) as target:
        target.execute("PRAGMA journal_mode = DELETE")
        target.execute("BEGIN")
        for statement in _TABLES:
            target.execute(statement)
        for path in files:
            name = path.relative_to(paths.data_dir.resolve()).as_posix()
            parts = _parts(path)
            if parts is None:
                continue
            names.append(name)
            mode = stat.S_IMODE(path.stat().st_mode)
            target.executemany(
                "INSERT INTO backup_file VALUES (?, ?, ?, ?)", ((name, i, mode, part) for i, part in enumerate(parts))
            )
        about = {"version": version, "taken_ms": str(clock.now_ns() // 1_000_000), "files": json.dumps(names)}
        target.executemany("INSERT INTO backup_about VALUES (?, ?)", about.items())
        target.execute("COMMIT")
    return tuple(names)


def _parts(path: Path) -> Iterator[bytes] | None:
    """A file's content in parts; a SQLite file as its own backup. None where it has gone meanwhile."""
    try:
        with path.open("rb") as file:
            is_database = file.read(16) == b"SQLite format 3\0"
    except FileNotFoundError:
        return None
    return _database_parts(path) if is_database else _file_parts(path)


def _file_parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield file.read(_PART_BYTES)
        while part := file.read(_PART_BYTES):
            yield part


def _database_parts(path: Path) -> Iterator[bytes]:
    with closing(open_readonly(path)) as source, closing(sqlite3.connect(":memory:")) as target:
        source.backup(target)
        content = target.serialize()
    for start in range(0, len(content), _PART_BYTES):
        yield content[start : start + _PART_BYTES]


def _durable(paths: RuntimePaths) -> list[Path]:
    """Every regular file of the data folder but locks, sockets, files in the making, what was kept aside, and the engine's journal.

    The journal is one running session: restored later it would bring orders and positions of another day back.
    """
    root = paths.data_dir.resolve()
    if not root.is_dir():
        return []
    found = []
    passing = (paths.block_dir.resolve(), paths.journal.resolve())
    for folder, folders, names in os.walk(root):
        inside = Path(folder)
        folders[:] = sorted(
            n for n in folders if not n.startswith(ASIDE) and n != _STAGING and inside / n not in passing
        )
        for name in sorted(names):
            path = inside / name
            if path == paths.lock.resolve() or name.endswith(_PASSING) or _is_side_file(path):
                continue
            with suppress(FileNotFoundError):
                is_file = stat.S_ISREG(path.lstat().st_mode)
                # Never the running store's file: closing a second descriptor would drop SQLite's locks on it.
                if is_file and (path == paths.database.resolve() or not _is_backup(path)):
                    found.append(path)
    return found


def _is_side_file(path: Path) -> bool:
    """Whether it is the log of a database beside it, which the copy of that database includes."""
    return any(path.name.endswith(side) and path.with_name(path.name.removesuffix(side)).exists() for side in _SIDES)


def _is_backup(path: Path) -> bool:
    """Whether somebody keeps backups in the data folder: they are not backed up again."""
    try:
        with path.open("rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                return False
        with closing(open_readonly(path)) as connection:
            return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'backup_about'").fetchone() is not None
    except (DeskvigilError, sqlite3.Error, OSError):
        return False


def _check_room(source: sqlite3.Connection, out: Path) -> None:
    pages = source.execute("PRAGMA page_count").fetchone()[0]
    needed = pages * source.execute("PRAGMA page_size").fetchone()[0]
    free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise DeskvigilError(f"{out.parent} has {free / 1e6:,.0f} MB free, the backup needs {needed / 1e6:,.0f} MB")


# --- putting it back ------------------------------------------------------------------------------


def _check_backup(file: Path) -> None:
    with closing(open_readonly(file)) as connection:
        try:
            found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'backup_about'").fetchone()
        except sqlite3.Error as error:
            raise DeskvigilError(f"{file} cannot be read: {explain(error) or error}") from error
    if found is None:
        raise DeskvigilError(f"{file} is no backup made by `app.py backup`")


def _stage(file: Path, staging: Path, database: str) -> list[str]:
    """Write and sync everything that a backup holds; returns the names, the database last: with it a folder is a whole one."""
    new = staging / database
    shutil.copyfile(file, new)
    new.chmod(0o600)
    names = []
    with closing(sqlite3.connect(new, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        for name, mode in connection.execute("SELECT DISTINCT name, mode FROM backup_file ORDER BY name").fetchall():
            parts = connection.execute("SELECT data FROM backup_file WHERE name = ? ORDER BY part", (name,))
            _write_file(staging / _inside(name), int(mode), (row[0] for row in parts))
            names.append(name)
        connection.execute("BEGIN")
        for table in ("backup_about", "backup_file"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("COMMIT")
    _sync(new)
    return [*names, database]


def _inside(name: str) -> str:
    """A name from a backup, which may come from anywhere: it must stay in the data folder."""
    path = Path(name)
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise DeskvigilError(f"the backup holds a file named {name!r}, which does not lie in a data folder")
    return name


def _move_aside(paths: RuntimePaths, old: list[Path], clock: Clock) -> Path:
    """Move files into a folder beside them; the database with its log, which belongs to it and to no other."""
    root = paths.data_dir.resolve()
    aside = root / f"{ASIDE}{clock.now_ns() // 1_000_000_000}"
    number = 1
    while aside.exists():
        number += 1
        aside = root / f"{ASIDE}{clock.now_ns() // 1_000_000_000}-{number}"
    moving = []
    for path in old:
        moving += [path, *(side for s in _SIDES if (side := path.with_name(path.name + s)).exists())]
    for path in dict.fromkeys(moving):
        target = aside / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.rename(target)
    return aside


def _write_file(path: Path, mode: int, parts: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("xb") as file:
        os.fchmod(file.fileno(), mode)
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


# --- both -----------------------------------------------------------------------------------------


@contextmanager
def _explained(place: Path) -> Iterator[None]:
    """Disk and database failures become one message that names the place."""
    try:
        yield
    except sqlite3.Error as error:
        raise DeskvigilError(f"{place}: {explain(error) or error}") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise DeskvigilError(f"{place}: {'the disk is full' if full else error.strerror or error}") from error


@contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for side in ("", *_SIDES):
            with suppress(OSError):
                path.with_name(path.name + side).unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
