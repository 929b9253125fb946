"""ITCH: NASDAQ TotalView-ITCH 5.0 off the disk, as a tape and as a replay.

Files are messages behind their length in two bytes, as NASDAQ publishes its sample days, or pcap captures of
MoldUDP64 packets; plain, .gz, .xz, or a .tar.xz of either, whose members are read as one stream in the
archive's order. What is malformed is counted and skipped with its position.
"""

from __future__ import annotations

import io
import logging
import tarfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from engine.book import apply_all, counters, make_books
from engine.events import EventArray, Instrument, Tape, empty_events, empty_fills
from engine.feeds import itchparse as p
from engine.feeds import parsewords
from engine.feeds.files import MAX_BYTES, Opening, read_limited, read_start, read_unpacked
from engine.feeds.itchpackets import Unwrapped, is_pcap, unwrap_pcap
from engine.feeds.itchtable import MESSAGES
from engine.feeds.ordertable import renew
from engine.feeds.result import Result
from engine.feeds.scan import ByteArray
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

log = logging.getLogger(__name__)

PRICE_UNIT_USD: Final = 1e-4
TAPE_INSTRUMENTS: Final = 64  # a tape holds the most active ones
REPLAY_INSTRUMENTS: Final = 1024
TAPE_EVENTS: Final = 1 << 26  # and no more events than memory takes: 40 bytes each
BLOCK_EVENTS: Final = 1 << 15  # what stays in the cache between parsing and applying
REPLAY_ORDERS: Final = 1 << 20
START_BYTES: Final = 512
MAX_MEMBERS: Final = 10_000
TAR_MAGIC_AT: Final = 257


@dataclass(frozen=True, eq=False, slots=True)
class ItchFile:
    """A file's messages and what a look over all of them gave.

    data: framed messages, uint8 (n,); packets: what unwrapping each capture gave, with the position in `data` at which its
    messages start; locates: stock locates, busiest first; symbols, ticks (1e-4 dollars) and busy (events at most) in
    the same order; counts: messages by type; messages: how many are well formed.
    """

    name: str
    data: ByteArray
    packets: tuple[tuple[int, Unwrapped], ...]
    locates: IntArray
    symbols: tuple[str, ...]
    ticks: IntArray
    busy: IntArray
    counts: dict[str, int]
    messages: int

    @property
    def gaps(self) -> int:
        """Breaks in the packets' sequence numbers."""
        return sum(capture.gaps for _, capture in self.packets)

    @property
    def damaged_packets(self) -> int:
        return sum(capture.damaged for _, capture in self.packets)

    def position(self, at: int) -> str:
        """Where a message that starts at `at` of `data` lies in the file, in words."""
        for start, capture in reversed(self.packets):
            if at >= start and len(capture.origins):
                row = int(np.searchsorted(capture.origins[:, 0], at - start, side="right")) - 1
                return f"packet at byte {int(capture.origins[max(row, 0), 1])}"
        return f"byte {at}"


@dataclass(frozen=True, eq=False, slots=True)
class Parsed:
    """How a parse ended: skipped: malformed messages; contradictions: messages that do not fit those before, by what is
    wrong; late: messages with a time before the one above; crosses: cross trades with shares."""

    skipped: int
    contradictions: dict[str, int]
    late: int
    crosses: int
    broken_trades: int
    where: tuple[str, ...]


def is_itch(start: bytes) -> bool:
    """Whether a file that starts so, unpacked, is one of ours: 512 bytes tell most, a few do where it is short."""
    if is_pcap(start) or start[TAR_MAGIC_AT : TAR_MAGIC_AT + 5] == b"ustar":
        return True
    at = found = 0
    while at + 3 <= len(start):
        layout = MESSAGES.get(chr(start[at + 2]))
        if layout is None or layout.length != int.from_bytes(start[at : at + 2], "big"):
            return False
        at += 2 + layout.length
        found += 1
    return found > 0


def _members(path: Path) -> Iterator[tuple[str, bytes | ByteArray]]:
    """The files in an archive, or the one file that it is; a plain file is mapped, not read."""
    start = read_start(path, START_BYTES)
    if start[TAR_MAGIC_AT : TAR_MAGIC_AT + 5] == b"ustar":
        total = 0
        try:
            with tarfile.open(fileobj=io.BytesIO(read_unpacked(path))) as archive:
                for count, member in enumerate(archive):
                    if count >= MAX_MEMBERS:
                        raise DeskvigilError(f"{path.name}: more than {MAX_MEMBERS} members")
                    file = archive.extractfile(member) if member.isfile() else None
                    if file is not None:
                        data = read_limited(file, f"{member.name} in {path.name}", MAX_BYTES - total)
                        total += len(data)
                        yield f"{path.name}:{member.name}", data
        except (tarfile.TarError, EOFError) as error:
            raise DeskvigilError(f"{path.name} is damaged: {error}") from error
    elif is_pcap(start) or not start or _first_bytes(path) != start[:6]:
        yield path.name, read_unpacked(path)
    else:
        yield path.name, np.memmap(path, dtype=np.uint8, mode="r")


def _first_bytes(path: Path) -> bytes:
    """The first bytes as they lie on the disk: others than the unpacked ones where a file is packed."""
    with path.open("rb") as file:
        return file.read(6)


def read_itch(path: Path) -> ItchFile:
    """Read a file and look over it. DeskvigilError where it holds no well-formed message."""
    parts: list[ByteArray] = []
    packets: list[tuple[int, Unwrapped]] = []
    size = 0
    for name, content in _members(path):
        if is_pcap(bytes(content[:4])):
            capture = unwrap_pcap(bytes(content), name)
            packets.append((size, capture))
            part = capture.data
        else:
            part = content if isinstance(content, np.ndarray) else np.frombuffer(content, dtype=np.uint8)
        parts.append(part)
        size += len(part)
    return survey_itch(
        path.name, parts[0] if len(parts) == 1 else np.concatenate(parts or [np.empty(0, np.uint8)]), tuple(packets)
    )


def survey_itch(name: str, data: ByteArray, packets: tuple[tuple[int, Unwrapped], ...] = ()) -> ItchFile:
    """Look over framed messages; see `read_itch`."""
    w = p.make_words(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    busy, steps, symbols = (np.zeros(p.LOCATES, dtype=np.int64) for _ in range(3))
    p.survey(data, w, busy, steps, symbols)
    if w[p.MESSAGES_READ] == 0:
        raise DeskvigilError(
            f"{name}: expected ITCH 5.0 messages, each behind its length, found none in {len(data)} bytes"
        )
    order = np.argsort(-busy, kind="stable")
    locates = order[: int(np.count_nonzero(busy))]
    texts = (int(symbols[k]) & (2**64 - 1) for k in locates)
    names = (text.to_bytes(8, "big").decode("ascii", "replace").strip(" \x00") for text in texts)
    return ItchFile(
        name, data, packets, locates,
        tuple(symbol or f"locate {k}" for symbol, k in zip(names, locates, strict=True)),
        np.maximum(steps[locates], 1), busy[locates],
        {kind: int(w[parsewords.COUNTS + ord(kind)]) for kind in MESSAGES}, int(w[p.MESSAGES_READ]),
    )  # fmt: skip


class ItchReader:
    """Reads the events of a file's first `instruments` stocks, block by block.

    seconds: time spent in the parser so far.
    """

    def __init__(self, file: ItchFile, instruments: int, block: int = BLOCK_EVENTS) -> None:
        self._file = file
        self._chosen = min(instruments, len(file.locates))
        if instruments < 1 or block < max(2, self._chosen):
            raise ValueError(
                "a reader needs at least one instrument, and room for two events and for one of each instrument"
            )
        self._words = p.make_words(file.locates[: self._chosen], file.ticks[: self._chosen])
        self._out = empty_events(block)
        self.seconds = 0.0

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """What the events' instrument index means."""
        file = self._file
        return tuple(Instrument(file.symbols[k], int(file.ticks[k]) * PRICE_UNIT_USD) for k in range(self._chosen))

    def blocks(self) -> Iterator[EventArray]:
        """The events in order; each block is overwritten by the next."""
        status = parsewords.OUT_FULL
        while status != parsewords.DONE:
            began = time.perf_counter()
            status = p.parse(self._file.data, self._words, self._out)
            self.seconds += time.perf_counter() - began
            written = int(self._words[parsewords.WRITTEN])
            if written:
                yield self._out[:written]
            if status == parsewords.TABLE_FULL:
                began = time.perf_counter()
                self._words = renew(self._words)
                self.seconds += time.perf_counter() - began

    def parsed(self) -> Parsed:
        """What has been found on the way."""
        w = self._words
        return Parsed(
            sum(int(w[k]) for k in p.SKIP_NAMES),
            {name: int(w[k]) for k, name in p.CONTRADICTION_NAMES.items() if w[k]},
            int(w[parsewords.LATE]), int(w[p.CROSSES]), int(w[p.BROKEN]),
            parsewords.skipped(w, p.SKIP_NAMES, self._file.position),
        )  # fmt: skip


def _tell(file: ItchFile, parsed: Parsed) -> None:
    """Log what was not as it should be."""
    if parsed.skipped:
        log.warning("%s: %d messages skipped, the first at %s", file.name, parsed.skipped, parsed.where[0])
    for what, count in parsed.contradictions.items():
        log.warning("%s: %d messages contradict those before: %s", file.name, count, what)
    for _, capture in file.packets:
        if capture.gaps:
            log.warning("%s: %d gaps, %d messages missing", file.name, capture.gaps, capture.missing)
        if capture.damaged:
            log.warning(
                "%s: %d packets cut short, the first at byte %d", file.name, capture.damaged, capture.first_damaged
            )


def itch_tape(path: Path) -> Tape:
    """A file as a tape of orders: the most active stocks, at most TAPE_INSTRUMENTS with TAPE_EVENTS events together.

    DeskvigilError where no stock has an event.
    """
    file = read_itch(path)
    if not len(file.locates):
        raise DeskvigilError(f"{path.name}: {file.messages} messages, but none about an order, a trade or a halt")
    chosen = max(int(np.searchsorted(np.cumsum(file.busy[:TAPE_INSTRUMENTS]), TAPE_EVENTS, side="right")), 1)
    reader = ItchReader(file, chosen)
    blocks = [block.copy() for block in reader.blocks()]
    _tell(file, reader.parsed())
    if not blocks:
        raise DeskvigilError(f"{path.name}: no event: its messages are about orders from before its start")
    if chosen < len(file.locates):
        log.info("%s: the %d most active of %d stocks", path.name, chosen, len(file.locates))
    events = np.concatenate(blocks)
    return Tape(
        instruments=reader.instruments, events=events, simulated_market=False, source="itch",
        start_ns=int(events["t_ns"][0]), end_ns=int(events["t_ns"][-1]),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ItchReplay:
    """What a replay through the books found; the names are those of `engine.replay.Result`. events: messages; seconds: parsing
    and applying; mismatches: messages that contradict those before them, and events that the books refused. Without the
    day's start, or with messages missing, nothing contradicts: what would explain it may lie there."""

    events: int
    seconds: float
    fills: int
    mismatches: int
    gaps: int
    skipped_lines: int


def _is_whole(file: ItchFile) -> bool:
    """Whether a file begins with the start of messages (S, event O), and nothing is missing in it."""
    start = bytes(file.data[:14])
    return start[2:3] == b"S" and start[13:14] == b"O" and not file.gaps and not file.damaged_packets


def replay_itch(path: Path, instruments: int = REPLAY_INSTRUMENTS) -> ItchReplay:
    """Parse a file and apply its events to the books of its most active stocks, block by block."""
    file = read_itch(path)
    reader = ItchReader(file, instruments)
    books = make_books(max(len(reader.instruments), 1), max_orders=REPLAY_ORDERS)
    no_fills = empty_fills(0)
    p.parse(file.data[:0], p.make_words(file.locates[:0], file.ticks[:0]), empty_events(2))  # compiles, unmeasured
    fills, seconds = 0, 0.0
    for block in reader.blocks():
        began = time.perf_counter()
        fills += apply_all(books, block, no_fills)
        seconds += time.perf_counter() - began
    parsed = reader.parsed()
    _tell(file, parsed)
    refused = sum(count for name, count in counters(books).items() if name.startswith("refused_"))
    contradictions = sum(parsed.contradictions.values()) if _is_whole(file) else 0
    return ItchReplay(
        file.messages, reader.seconds + seconds, fills, contradictions + refused,
        file.gaps, parsed.skipped + file.damaged_packets,
    )  # fmt: skip


def is_recording(opening: Opening) -> bool:
    """Whether a recording that opens so is ITCH."""
    return is_itch(opening.head)


def prove(path: Path, _: Path | None = None) -> Result:
    """Replay a recording unpaced; see `ItchReplay`."""
    return Result(**asdict(replay_itch(path)))
