from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resources import attach
from resources.attach import AttachError, Kind, absence, take

BUSY = """
import sys
print("ready", flush=True)
def inner():
    return sum(range(1000))
def outer():
    while True:
        inner()
outer()
"""
HOARDER = """
import time
print("ready", flush=True)
kept = []
def hoard():
    kept.append(bytearray(100_000))
while True:
    hoard()
    time.sleep(0.01)
    if len(kept) > 1000:
        time.sleep(60)
"""
AS_NOBODY = """
import os, sys
from metrics.errors import DeskvigilError
from resources.attach import take
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    take(int(sys.argv[1]), "cpu", 1.0)
except DeskvigilError as error:
    print(error)
"""


@contextmanager
def _python(text: str) -> Iterator[int]:
    """A Python process that runs `text`; yields its pid once it has said so."""
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_where_a_busy_process_spends_its_time_is_seen_from_outside() -> None:
    with _python(BUSY) as pid:
        taken = take(pid, "cpu", 1.0)
    assert taken.unit == "samples"
    assert sum(taken.stacks.values()) > 5
    assert any("outer (" in frame for stack in taken.stacks for frame in stack)
    assert any("inner (" in frame for stack in taken.stacks for frame in stack)


@pytest.mark.skipif(bool(absence("memory")), reason=absence("memory"))
def test_what_a_process_hoards_is_seen_with_its_place() -> None:
    with _python(HOARDER) as pid:
        taken = take(pid, "memory", 2.0)
    assert taken.unit == "bytes"
    heaviest = max(taken.stacks, key=lambda stack: taken.stacks[stack])
    assert heaviest[-1].startswith("hoard (")
    assert taken.stacks[heaviest] > 1_000_000


def test_what_cannot_be_is_refused_with_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(AttachError, match="a profile takes 1 to 60 seconds, not 600"):
        take(os.getpid(), "cpu", 600.0)
    with pytest.raises(AttachError, match="there is no process 4194999"):
        take(4_194_999, "cpu", 1.0)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AttachError, match=r"py-spy is not installed: pip install -r requirements-profile\.txt"):
        take(os.getpid(), "cpu", 1.0)


@pytest.mark.parametrize(
    "kind",
    ["cpu", pytest.param("memory", marks=pytest.mark.skipif(bool(absence("memory")), reason=absence("memory")))],
)
def test_a_process_that_ends_meanwhile_leaves_no_profile(kind: Kind) -> None:
    text = HOARDER.replace("import time", "import sys, threading, time, os").replace(
        "kept = []", "kept = []\nthreading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()"
    )
    process = subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        timer = threading.Timer(4.0, process.stdin.close)
        timer.start()
        try:
            with pytest.raises(AttachError, match=f"process {process.pid} ended while it was watched"):
                take(process.pid, kind, 60.0)
        finally:
            timer.cancel()
            process.kill()


def test_a_profiler_that_does_not_end_is_stopped_with_its_debugger(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    held = (
        f"import os, pathlib, signal, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(600)"
    )
    text = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {held!r}]); time.sleep(600)"
    with pytest.raises(AttachError, match="did not end within 10 s and was stopped"):
        attach._run([sys.executable, "-c", text], 10.0)
    assert note.exists(), "this machine needs more than 10 s to start two programs"
    assert not attach._lives(int(note.read_text()))


def test_a_process_that_is_no_python_says_so() -> None:
    process = subprocess.Popen(["sleep", "30"])
    try:
        with pytest.raises(AttachError, match=f"process {process.pid} could not be profiled: "):
            take(process.pid, "cpu", 1.0)
    finally:
        process.kill()
        process.wait()


def test_memray_without_a_debugger_or_at_all_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert absence("memory") == "memray needs a debugger to attach: neither gdb nor lldb is on this host"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert absence("memory").startswith("memray is not installed")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_process_of_somebody_else_is_refused_in_words() -> None:
    with _python(BUSY) as pid:
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(pid)], cwd=attach.ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "TMPDIR": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
    assert f"not permitted to look into process {pid}: " in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("scope", "words"),
    [("1", "set it to 0, or run Deskvigil with the capability"), ("3", "only a restart of the machine changes that")],
)
def test_the_kernels_switch_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scope: str, words: str) -> None:
    (tmp_path / "scope").write_text(f"{scope}\n")
    monkeypatch.setattr(attach, "YAMA", tmp_path / "scope")
    said = attach._in_words(os.getpid(), "Error: Permission Denied: Try running again with elevated permissions")
    assert f"kernel.yama.ptrace_scope is {scope}" in said
    assert words in said
