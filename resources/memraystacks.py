"""A memray file as collapsed stacks on standard output: `python -m resources.memraystacks FILE`.

Weights are the bytes that were allocated while it watched and are still held at its end.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from resources.stacks import Stack, collapsed


def held(path: Path) -> dict[Stack, int]:
    """Bytes by stack, the outermost frame first. Raises OSError where the file is not memray's."""
    import memray  # type: ignore[import-not-found, unused-ignore]

    found: dict[Stack, int] = {}
    with memray.FileReader(path) as reader:
        for record in reader.get_leaked_allocation_records(merge_threads=True):
            stack = _stack(record)
            found[stack] = found.get(stack, 0) + int(record.size)
    return found


def _stack(record: Any) -> Stack:
    frames = record.stack_trace()
    names = [f"{name} ({'/'.join(file.split('/')[-2:])}:{line})" for name, file, line in reversed(frames)]
    return tuple(names) or ("no Python frame",)


if __name__ == "__main__":
    sys.stdout.write(collapsed(held(Path(sys.argv[1]))))
