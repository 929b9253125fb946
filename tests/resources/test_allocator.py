"""The allocator's settings are taken, and free memory goes back."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from resources.allocator import heap, trim

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc only")

PROGRAM = """
import re, sys, threading
sys.path.insert(0, ".")
from resources.allocator import few_arenas
if sys.argv[1] == "few":
    assert few_arenas()
kept, gate = [], threading.Barrier(13)
def work():
    kept.append([bytes(40_000) for _ in range(20)])
    gate.wait()
threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads: thread.start()
gate.wait()
heads = [line for line in open("/proc/self/maps") if re.match(r"[0-9a-f]+(0000000|4000000|8000000|c000000)-[0-9a-f]+ rw-p 00000000 00:00 0", line)]
print(len(heads))
"""


def test_threads_share_few_arenas() -> None:
    def arenas(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert arenas("few") < arenas("many")


def test_trimming_says_whether_it_gave_something_back() -> None:
    assert trim() in (True, False)


KEEPING = """
import resource, sys
sys.path.insert(0, ".")
import numpy as np
from resources.allocator import heap, keep_freed
if sys.argv[1] == "keep":
    assert keep_freed()
def run():
    held = [np.ones(100_000) for _ in range(6)]  # as an expression with several temporaries
for _ in range(5): run()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(30): run()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_temporaries_cost_no_page_faults_where_freed_blocks_are_kept() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", KEEPING, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("keep") < 100 < 10_000 < faults("default")


def test_the_heap_says_what_is_handed_out() -> None:
    before = heap()
    kept = [bytes(4_000) for _ in range(2_000)]
    after = heap()
    assert before is not None
    assert after is not None
    assert len(kept) == 2_000
    assert after.in_use - before.in_use >= 8_000_000
    assert 0.0 <= after.fragmentation < 1.0
