"""ITCH packets: MoldUDP64 out of a pcap capture, laid out as the plain file form (length, message, ...).

Link layer Ethernet with any VLAN tags, IPv4, UDP. Each session's sequence numbers are followed: what is
missing is a gap, what comes again is left out as a duplicate (two lines of the same feed in one capture
are thereby arbitrated). A sequence number of 0 is none, as in captures whose headers were blanked.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from engine.feeds.scan import ByteArray
from engine.jit import inline_kernel, kernel
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

I64: Any = np.int64  # what widens a byte in a kernel; NumPy's own type is no int to a type checker
MAGICS: Final = {  # first four bytes: whether the headers are big-endian
    b"\xd4\xc3\xb2\xa1": False, b"\xa1\xb2\xc3\xd4": True, b"\x4d\x3c\xb2\xa1": False, b"\xa1\xb2\x3c\x4d": True,
}  # fmt: skip
PCAPNG: Final = b"\x0a\x0d\x0d\x0a"
FILE_HEADER, PACKET_HEADER, MOLD_HEADER = 24, 16, 20
ETHERNET: Final = 1
MAX_SESSIONS: Final = 64
END_OF_SESSION: Final = 0xFFFF
# What `unwrap` counts.
GAPS, MISSING, DUPLICATES, FOREIGN, DAMAGED, PACKETS, SESSIONS, WRITTEN, FIRST_DAMAGED = range(9)
STATE_WORDS: Final = 9


class Unwrapped(NamedTuple):
    """The messages of a capture, framed: uint8 (n,); origins int64 (packets, 2): where in `data` each packet's messages
    start, and where the packet starts in the capture. gaps: breaks of the sequence, missing: messages lost in
    them; duplicates: messages that came again; foreign: packets of other protocols; damaged: packets cut short."""

    data: ByteArray
    origins: IntArray
    gaps: int
    missing: int
    duplicates: int
    foreign: int
    damaged: int
    first_damaged: int


@inline_kernel
def _word(data: ByteArray, at: int, size: int, big: bool) -> int:
    value: int = I64(0)
    for k in range(size):
        value = (value << 8) | I64(data[at + (k if big else size - 1 - k)])
    return value


@inline_kernel
def _payload(data: ByteArray, at: int, end: int) -> tuple[int, int]:
    """Where the UDP payload of an Ethernet frame lies; (-1, -1) where it has none."""
    kind_at = at + 12
    while kind_at + 2 <= end and _word(data, kind_at, 2, True) in (0x8100, 0x88A8, 0x9100):
        kind_at += 4
    ip = kind_at + 2
    if ip + 20 > end or _word(data, kind_at, 2, True) != 0x0800 or data[ip] >> 4 != 4:
        return -1, -1
    udp = ip + 4 * I64(data[ip] & 15)
    fragment = _word(data, ip + 6, 2, True) & 0x3FFF
    if udp < ip + 20 or udp + 8 > end or data[ip + 9] != 17 or fragment != 0:
        return -1, -1
    return udp + 8, udp + _word(data, udp + 4, 2, True)


@inline_kernel
def _session(data: ByteArray, at: int, sessions: IntArray, state: IntArray) -> int:
    """The row of a packet's session; -1 where there are too many."""
    first, second = _word(data, at, 8, True), _word(data, at + 8, 2, True)
    for row in range(state[SESSIONS]):
        if sessions[row, 0] == first and sessions[row, 1] == second:
            return row
    row = int(state[SESSIONS])
    if row == len(sessions):
        return -1
    sessions[row, 0], sessions[row, 1], sessions[row, 2] = first, second, 0
    state[SESSIONS] += 1
    return row


@kernel
def unwrap(data: ByteArray, big: bool, sessions: IntArray, out: ByteArray, origins: IntArray, state: IntArray) -> None:
    """Copy the messages of all packets to `out`, as long as `data`; origins: one row a packet, see `Unwrapped`."""
    at = FILE_HEADER
    while at < len(data):
        size = _word(data, at + 8, 4, big) if at + PACKET_HEADER <= len(data) else I64(-1)
        start = at + PACKET_HEADER
        if size < 0 or start + size > len(data):
            state[DAMAGED] += 1
            if state[FIRST_DAMAGED] < 0:
                state[FIRST_DAMAGED] = at
            return
        origin, at = at, start + size
        first, last = _payload(data, start, at)
        if first < 0 or last - first < MOLD_HEADER:
            state[FOREIGN] += 1
            continue
        damaged = last > at  # the capture kept less than was sent
        last = min(last, at)
        row = _session(data, first, sessions, state)
        count = _word(data, first + 18, 2, True)
        if row < 0 or last - first < MOLD_HEADER:
            state[FOREIGN] += 1
            continue
        sequence, expected = _word(data, first + 10, 8, True), sessions[row, 2]
        if count == END_OF_SESSION:
            count = 0
        if sequence > 0 and expected > 0 and sequence > expected:
            state[GAPS] += 1
            state[MISSING] += sequence - expected
        known = min(max(expected - sequence, 0), count) if sequence > 0 else 0
        state[DUPLICATES] += known
        if sequence > 0:
            sessions[row, 2] = max(expected, sequence + count)
        origins[state[PACKETS], 0], origins[state[PACKETS], 1] = state[WRITTEN], origin
        state[PACKETS] += 1
        block = first + MOLD_HEADER
        for k in range(count):
            length = _word(data, block, 2, True) if block + 2 <= last else I64(1 << 20)
            if block + 2 + length > last:
                damaged = True
                break
            if k >= known:
                for j in range(length + 2):
                    out[state[WRITTEN] + j] = data[block + j]
                state[WRITTEN] += length + 2
            block += length + 2
        if damaged:
            state[DAMAGED] += 1
            if state[FIRST_DAMAGED] < 0:
                state[FIRST_DAMAGED] = origin


def is_pcap(start: bytes) -> bool:
    """Whether a file that starts so is a capture of packets, readable or not."""
    return start[:4] in MAGICS or start[:4] == PCAPNG


def unwrap_pcap(data: bytes, name: str) -> Unwrapped:
    """The messages of a classic pcap capture (microseconds or nanoseconds, either byte order).

    DeskvigilError for pcapng and for link layers other than Ethernet.
    """
    if data[:4] not in MAGICS:
        raise DeskvigilError(f"{name}: expected a classic pcap file; turn pcapng into one with `editcap -F nsecpcap`")
    big = MAGICS[data[:4]]
    link = int.from_bytes(data[20:24], "big" if big else "little") & 0xFFFF if len(data) >= FILE_HEADER else -1
    if link != ETHERNET:
        raise DeskvigilError(f"{name}: link layer {link} in the capture's header, expected Ethernet (1)")
    raw = np.frombuffer(data, dtype=np.uint8)
    out = np.empty(len(raw), dtype=np.uint8)
    origins = np.zeros((len(raw) // PACKET_HEADER + 1, 2), dtype=np.int64)
    state = np.zeros(STATE_WORDS, dtype=np.int64)
    state[FIRST_DAMAGED] = -1
    unwrap(raw, big, np.zeros((MAX_SESSIONS, 3), dtype=np.int64), out, origins, state)
    return Unwrapped(
        out[: state[WRITTEN]], origins[: state[PACKETS]].copy(), int(state[GAPS]), int(state[MISSING]),
        int(state[DUPLICATES]), int(state[FOREIGN]), int(state[DAMAGED]), int(state[FIRST_DAMAGED]),
    )  # fmt: skip
