"""Attach: stacks of a running process by py-spy (processor) and memray (memory), from outside and for a bounded time.

py-spy reads another process's memory and leaves it running; samples that it reads askew are dropped.
memray is loaded into the process by a debugger, which stops it for about a second while it attaches.
Neither is a requirement (requirements-profile.txt); what is missing or forbidden is said in words.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from metrics.errors import DeskvigilError, TransientError
from resources.stacks import Stack, StacksError, parse

Kind = Literal["cpu", "memory"]
KINDS: Final[tuple[Kind, ...]] = ("cpu", "memory")
LEAST_S: Final = 1.0
MOST_S: Final = 60.0
CPU_HZ: Final = 50  # at 100 the watched process loses some hundredths of its speed
GRACE_S: Final = 30.0  # for attaching, letting go and writing the file
STOP_S: Final = 5.0  # for a debugger that is stopped, to let go of the process
LOOK_S: Final = 0.1
MOST_OUTPUT_BYTES: Final = 64 << 20
ROOT: Final = Path(__file__).resolve().parents[1]
YAMA: Final = Path("/proc/sys/kernel/yama/ptrace_scope")


class AttachError(DeskvigilError):
    """A process that cannot be profiled; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Stacks of one process. unit: what the weights count: samples (of running threads), or bytes still held at the end."""

    stacks: dict[Stack, int]
    unit: str


def absence(kind: Kind) -> str:
    """Why this kind cannot be taken here at all, in words; "" where it can."""
    if kind == "cpu":
        return "" if _py_spy() else "py-spy is not installed: pip install -r requirements-profile.txt"
    if importlib.util.find_spec("memray") is None:
        return "memray is not installed: pip install -r requirements-profile.txt"
    if not (shutil.which("gdb") or shutil.which("lldb")):
        return "memray needs a debugger to attach: neither gdb nor lldb is on this host"
    return ""


def take(pid: int, kind: Kind, seconds: float) -> Taken:
    """Watch a process for some seconds; blocks as long and a little longer.

    Raises AttachError where it is refused, fails, or the process ends before.
    """
    if not LEAST_S <= seconds <= MOST_S:
        raise AttachError(f"a profile takes {LEAST_S:g} to {MOST_S:g} seconds, not {seconds:g}")
    missing = absence(kind)
    if missing:
        raise AttachError(missing)
    if not _lives(pid):
        raise AttachError(f"there is no process {pid}")
    with tempfile.TemporaryDirectory(prefix="deskvigil-profile-") as folder:
        out = Path(folder) / "out"
        return _cpu(pid, seconds, out) if kind == "cpu" else _memory(pid, seconds, out)


def _cpu(pid: int, seconds: float, out: Path) -> Taken:
    line = [
        _py_spy(), "record", "--pid", str(pid), "--duration", f"{max(1, round(seconds))}", "--rate", str(CPU_HZ),
        "--format", "raw", "--threads", "--nonblocking", "--output", str(out),
    ]  # fmt: skip
    said = _run(line, seconds + GRACE_S)
    if "process exited" in said:  # then it has written what it had
        raise _ended(pid)
    if not out.exists():
        raise AttachError(_in_words(pid, said))
    return Taken(_read(out.read_text(errors="replace")), "samples")


def _memory(pid: int, seconds: float, out: Path) -> Taken:
    line = [
        sys.executable,
        "-m",
        "memray",
        "attach",
        "--aggregate",  # what is held by stack, not each allocation: a busy process would write gigabytes
        "--duration",
        f"{max(1, round(seconds))}",
        "-o",
        str(out),
        str(pid),
    ]
    said = _run(line, GRACE_S)
    end = time.monotonic() + seconds + GRACE_S
    # memray writes its file in the other process and says nothing at the end: when it lets go of the file, it is done.
    while not out.exists() or _has_open(pid, out):
        if not _lives(pid):
            break
        if not out.exists() and "tracking PID" not in said:
            raise AttachError(_in_words(pid, said))
        if time.monotonic() > end:
            raise AttachError(f"memray has not let go of process {pid} {GRACE_S:g} s after its time")
        time.sleep(LOOK_S)
    if not _lives(pid):  # what it wrote until then is whole for memray, but not for who asked
        raise _ended(pid)
    # Reading it takes seconds of processor time: in a process of its own, so that nobody here waits for Python's lock.
    text = _run([sys.executable, "-m", "resources.memraystacks", str(out)], GRACE_S)
    return Taken(_read(text), "bytes")


def _run(line: Sequence[str], timeout_s: float) -> str:
    """What a program says, both streams together; one that does not end is stopped with all that it has started."""
    try:
        process = subprocess.Popen(  # noqa: S603 - our own words and a number
            line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise TransientError(f"{line[0]} cannot be started: {error.strerror}") from None
    with process:
        try:
            said = process.communicate(timeout=timeout_s)[0]
        except subprocess.TimeoutExpired:
            _stop(process)
            raise AttachError(f"{Path(line[0]).name} did not end within {timeout_s:g} s and was stopped") from None
    return said[:MOST_OUTPUT_BYTES].decode(errors="replace")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a program and its debugger: that one, left alone, would go on holding the watched process still."""
    os.killpg(process.pid, signal.SIGTERM)  # gdb lets go of what it holds, and ends
    end = time.monotonic() + STOP_S
    while _group_lives(process) and time.monotonic() < end:
        time.sleep(LOOK_S)
    if _group_lives(process):
        os.killpg(process.pid, signal.SIGKILL)


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _read(text: str) -> dict[Stack, int]:
    try:
        return parse(text)
    except StacksError as error:
        raise AttachError(f"the profiler's output cannot be read: {error}") from None


def _ended(pid: int) -> AttachError:
    return AttachError(f"process {pid} ended while it was watched")


def _in_words(pid: int, said: str) -> str:
    """Why attaching failed: permission is what usually is missing, and there are three ways to miss it."""
    lower = said.lower()
    if not _lives(pid):
        return str(_ended(pid))
    if any(word in lower for word in ("permission denied", "operation not permitted", "ptrace", "eperm")):
        return f"not permitted to look into process {pid}: {_remedy()}"
    last = [line.strip() for line in said.splitlines() if line.strip()]
    return f"process {pid} could not be profiled: {last[-1][:300] if last else 'the profiler said nothing'}"


def _remedy() -> str:
    try:
        scope = YAMA.read_text().strip()
    except OSError:
        scope = "0"
    if scope == "3":
        return "kernel.yama.ptrace_scope is 3, no process may; only a restart of the machine changes that"
    if scope in ("1", "2"):
        return f"kernel.yama.ptrace_scope is {scope}; set it to 0, or run Deskvigil with the capability CAP_SYS_PTRACE"
    if os.geteuid() != 0:
        return "it belongs to another user, or a container withholds the capability CAP_SYS_PTRACE"
    return "a container withholds the capability CAP_SYS_PTRACE (docker run --cap-add SYS_PTRACE)"


def _lives(pid: int) -> bool:
    """False also where it has ended and nobody has asked yet how."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in (b"Z", b"X")


def _has_open(pid: int, path: Path) -> bool:
    try:
        return any(os.path.samefile(one, path) for one in Path(f"/proc/{pid}/fd").iterdir() if one.exists())
    except OSError:
        return _lives(pid)


def _py_spy() -> str:
    """Its path: beside this Python first, so that an environment that is not activated works."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy") or ""
