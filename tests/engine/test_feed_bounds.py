"""The binary feeds' kernels, compiled once more with every index checked, over flipped, cut and random bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import random
import numpy as np
from metrics.errors import DeskvigilError
from engine.feeds.dbn import DbnReader, records_of
from engine.feeds.itch import ItchReader, survey_itch
from engine.feeds.itchpackets import unwrap_pcap
from tests.engine.test_feed_dbn import header, orders
from tests.engine.test_feed_itch import add, capture, delete, encode, frame, head, packet

try:
    from engine.feeds.itchparse import _be8
    _be8(np.zeros(3, np.uint8), 0)
    raise SystemExit("indices are not checked")
except IndexError:
    pass

def itch(data):
    reader = ItchReader(survey_itch("x", np.frombuffer(data, dtype=np.uint8)), 2, 8)
    return sum(len(block) for block in reader.blocks())

def dbn(data):
    reader = DbnReader(records_of("x", np.frombuffer(data, dtype=np.uint8), 2), 64)
    return sum(len(events) for events, _ in reader.blocks())

draw = random.Random(1)
messages = [add(k, 1 + k % 3) for k in range(1, 60)] + [frame(delete(k)) for k in range(1, 60, 2)]
flow = b"".join(messages)
packets = capture([packet(b"S", 1 + 4 * k, [m[2:] for m in messages[4 * k : 4 * k + 4]]) for k in range(20)])
rows = [(draw.choice("AACCMMFTR"), draw.randrange(1, 9), draw.choice("AB"), draw.randrange(95, 105), draw.randrange(1, 9), 128)
        for _ in range(60)]
records = header() + orders(rows).tobytes()
start = len(header())
done = 0
for _ in range(1500):
    for what, data, keep in ((itch, flow, 0), (lambda raw: itch(bytes(unwrap_pcap(raw, "x").data)), packets, 24), (dbn, records, start)):
        raw = bytearray(data)
        for _ in range(draw.randrange(0, 8)):
            raw[draw.randrange(keep, len(raw))] = draw.choice((0, 255, draw.randrange(256)))
        raw = raw[: len(raw) - draw.randrange(0, 90)]
        try:
            done += what(bytes(raw))
        except DeskvigilError:
            pass
print("events", done)
"""


def test_no_kernel_reads_or_writes_outside_its_arrays(tmp_path) -> None:
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert int(found.stdout.split()[-1]) > 10_000
