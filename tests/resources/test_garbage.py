"""Collections are set as the options say."""

import subprocess
import sys

import pytest

PROGRAM = """
import gc, sys
sys.path.insert(0, ".")
from resources.garbage import settle
from resources.memoryoptions import MemoryOptions
gc.freeze()
settle(MemoryOptions(freeze=sys.argv[1] == "True", gc_allocations=int(sys.argv[2])))
print(gc.get_freeze_count() > 0, gc.get_threshold()[0])
"""


@pytest.mark.parametrize(
    ("freeze", "allocations", "expected"), [(True, 0, "True 700"), (False, 0, "False 700"), (True, 5000, "True 5000")]
)
def test_a_process_settles_as_told(freeze: bool, allocations: int, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(freeze), str(allocations)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected
