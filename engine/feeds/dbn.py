"""DBN: Databento's binary encoding, market-by-order (MBO) and market-by-price (MBP-1, MBP-10), as a tape and as a replay.

The header is read by Databento's own package; the records are laid out alike in all its versions and go
through `engine.feeds.dbnwalk`, and then `dbnorders` or `dbnlevels`. Plain or .zst. What is malformed is counted and skipped with its position.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from engine.book import Books, apply, best_price, best_qty, counters, make_books
from engine.events import EventArray, Instrument, Tape, empty_events
from engine.feeds import dbnwords as p
from engine.feeds import parsewords
from engine.feeds.dbnlevels import LEVEL_EVENTS, parse_levels
from engine.feeds.dbnorders import parse_orders
from engine.feeds.dbnphase import OPEN
from engine.feeds.dbnwalk import find_steps, walk
from engine.feeds.files import MAX_BYTES, Opening, read_start, read_unpacked
from engine.feeds.ordertable import renew
from engine.feeds.result import Result
from engine.feeds.scan import ByteArray
from engine.jit import kernel
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

log = logging.getLogger(__name__)

MAGIC: Final = b"DBN"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
MBO_RECORD: Final = 4 * p.MBO_UNITS  # bytes
PREFIX: Final = 8  # magic, version, length of the header that follows
MAX_HEADER: Final = 64 << 20
MAX_VERSION: Final = 3
PRICE_UNIT: Final = 1e-9
MAX_UNPACKING: Final = 512  # times the packed size
MAX_MAPPINGS: Final = 100_000
INSTRUMENTS: Final = 64  # a tape and a replay hold the most active ones
TAPE_EVENTS: Final = 1 << 26
BLOCK_EVENTS: Final = 1 << 14
REPLAY_ORDERS: Final = 1 << 20
BLANK: Final = b"\x00"


@dataclass(frozen=True, eq=False, slots=True)
class DbnFile:
    """A file's records. data: uint8 (n,); where int64 (records, 2) and instrument int64 (records,), -1 for an instrument that is
    not among the chosen ones: see `dbnwalk.walk`; symbols and ticks (1e-9): of the chosen, the most active first; left_out:
    how many others there are; by_order: market-by-order or price levels; counts: records by type; skipped, skips: malformed ones."""

    name: str
    dataset: str
    data: ByteArray
    where: IntArray
    instrument: IntArray
    symbols: tuple[str, ...]
    ticks: IntArray
    left_out: int
    by_order: bool
    counts: dict[int, int]
    skipped: int
    skips: tuple[str, ...]

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        return tuple(
            Instrument(symbol, int(tick) * PRICE_UNIT) for symbol, tick in zip(self.symbols, self.ticks, strict=True)
        )


@dataclass(frozen=True, eq=False, slots=True)
class Parsed:
    """How a parse ended. skipped: malformed records; contradictions: by what does not fit the records before; trades: T
    records, sideless of them without an aggressor; unseen_fills and unseen_lots: fills of orders that were never shown; late:
    records with a time before the one above."""

    skipped: int
    contradictions: dict[str, int]
    trades: int
    sideless: int
    unseen_fills: int
    unseen_lots: int
    late: int
    where: tuple[str, ...]


def is_dbn(start: bytes) -> bool:
    """Whether a file that starts so is one of ours; every .zst is taken to be, and read or refused then."""
    return start.startswith((MAGIC, ZSTD_MAGIC))


def _unpack(path: Path) -> ByteArray:
    """What a .zst file holds; what follows a cut in it is zeros, which are no record.

    DeskvigilError where it is damaged from its start, or holds more than MAX_BYTES.
    """
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise DeskvigilError(f"cannot read {path}: {error.strerror or error}") from error
    room = np.zeros(min(MAX_BYTES, MAX_UNPACKING * len(packed) + (1 << 16)), dtype=np.uint8)  # pages come when written
    try:
        import cramjam  # here: an engine on another market does not load it

        return room[: cramjam.zstd.decompress_into(packed, cast(Any, room))]
    except Exception as error:  # the package's own and OSError
        if room[-1] or not room[:PREFIX].any():
            raise DeskvigilError(
                f"{path.name} is damaged, or unpacks to more than {len(room) >> 20} MiB: {error}"
            ) from error
        log.warning("%s is damaged: %s", path.name, error)
        return room


def read_dbn(path: Path, instruments: int = INSTRUMENTS) -> DbnFile:
    """Read a file's records of its `instruments` most active instruments.

    DeskvigilError where it is no DBN, of a version that is not known, or has no record of orders or levels.
    """
    packed = read_start(path, PREFIX).startswith(ZSTD_MAGIC)
    data = _unpack(path) if packed else np.frombuffer(read_unpacked(path), dtype=np.uint8)
    return records_of(path.name, data, instruments)


def records_of(name: str, data: ByteArray, instruments: int = INSTRUMENTS) -> DbnFile:
    """The records of a plain file's bytes; see `read_dbn`."""
    metadata, start = _header(name, data)
    w = p.make_words(np.zeros(0, dtype=np.int64))
    where = np.empty(((len(data) - start) // 16 + 1, 2), dtype=np.int64)
    where = where[: walk(data, start, w, where)]
    kinds = data[where[:, p.OFFSET] + 1]
    mapped = where[kinds == p.SYMBOL_MAPPING]
    by_order = bool((kinds == p.MBO).any())
    used = (kinds == p.MBO) if by_order else (kinds == p.MBP_1) | (kinds == p.MBP_10)
    if not used.any():
        raise DeskvigilError(
            f"{name}: expected MBO, MBP-1 or MBP-10 records, found none among {int(w[parsewords.COUNTS : parsewords.SKIPS].sum())}"
        )
    where = where[used | (kinds == p.STATUS)]
    used = used[used | (kinds == p.STATUS)]
    keys, index, activity = np.unique(where[:, p.KEY], return_inverse=True, return_counts=True)
    activity = np.bincount(index, used, len(keys))
    order = np.argsort(-activity, kind="stable")[: min(instruments, int(np.count_nonzero(activity)))]
    place = np.full(len(keys), -1, dtype=np.int64)
    place[order] = np.arange(len(order))
    instrument = place[index]
    steps = np.zeros(len(order), dtype=np.int64)
    find_steps(data, where, instrument, steps)
    return DbnFile(
        name, metadata.dataset, data, where, instrument, _names(metadata, data, mapped, keys[order]),
        np.maximum(steps, 1), int(np.count_nonzero(activity)) - len(order), by_order,
        {int(kind): int(w[parsewords.COUNTS + kind]) for kind in np.flatnonzero(w[parsewords.COUNTS : parsewords.SKIPS])},
        sum(int(w[k]) for k in p.SKIP_NAMES), _skips(w),
    )  # fmt: skip


def _header(name: str, data: ByteArray) -> tuple[Any, int]:
    """The file's metadata as Databento's package reads them, and where its records start."""
    from databento_dbn import Metadata  # here, since the package takes a moment to load and few runs need it

    start = bytes(data[:PREFIX])
    size = int.from_bytes(start[4:], "little")
    if not start.startswith(MAGIC) or len(start) < PREFIX:
        raise DeskvigilError(f"{name}, byte 0: expected a DBN file, found {start!r}")
    if not 1 <= start[3] <= MAX_VERSION:
        raise DeskvigilError(f"{name}, byte 3: DBN version {start[3]}, expected 1 to {MAX_VERSION}")
    if size > MAX_HEADER or PREFIX + size > len(data):
        raise DeskvigilError(f"{name}, byte 4: a header of {size} bytes in a file of {len(data)}")
    try:
        return Metadata.decode(bytes(data[: PREFIX + size])), PREFIX + size
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in the package is no Exception
        raise DeskvigilError(f"{name}: its header cannot be read: {error}") from None


def _skips(w: IntArray) -> tuple[str, ...]:
    return parsewords.skipped(w, p.SKIP_NAMES, lambda at: f"byte {at}")


def _names(metadata: Any, data: ByteArray, mapped: IntArray, keys: IntArray) -> tuple[str, ...]:
    """A symbol for each key: as the header or a mapping record says, else the instrument's number; with the publisher where
    two of them have the same."""
    names: dict[str, str] = {}
    for symbol, intervals in metadata.mappings.items():
        for interval in intervals[:1]:
            names.setdefault(str(interval["symbol"]), str(symbol))
    for at, key in mapped[:MAX_MAPPINGS]:
        record = bytes(data[int(at) : int(at) + 4 * int(data[int(at)])])
        old = len(record) < 160  # version 1 has names of 22 bytes, without their kind before them
        names[str(int(key) & 0xFFFFFFFF)] = (
            (record[38:60] if old else record[89:160]).split(BLANK)[0].decode("ascii", "replace")
        )
    plain = [names.get(str(int(key) & 0xFFFFFFFF)) or str(int(key) & 0xFFFFFFFF) for key in keys]
    return tuple(
        symbol if plain.count(symbol) == 1 else f"{symbol}.{int(key) >> 32}"
        for symbol, key in zip(plain, keys, strict=True)
    )


class DbnReader:
    """Reads the events of a file block by block. seconds: time spent in the parser so far."""

    def __init__(self, file: DbnFile, block: int = BLOCK_EVENTS) -> None:
        if block < LEVEL_EVENTS:
            raise ValueError(f"a reader needs room for {LEVEL_EVENTS} events")
        self._file = file
        self._words = p.make_words(file.ticks)
        self._out = empty_events(block)
        self._marks = np.zeros((block, p.MARK_COLUMNS), dtype=np.int64)
        self.seconds = 0.0

    def blocks(self) -> Iterator[tuple[EventArray, IntArray]]:
        """Events in order, and the marks among them (see `dbnwords.MARK_COLUMNS`); overwritten by the next block."""
        file = self._file
        parse = parse_orders if file.by_order else parse_levels
        status = parsewords.OUT_FULL
        while status != parsewords.DONE:
            began = time.perf_counter()
            status = parse(file.data, file.where, file.instrument, self._words, self._out, self._marks)
            written, marked = int(self._words[parsewords.WRITTEN]), int(self._words[p.MARKED])
            self.seconds += time.perf_counter() - began
            if written or marked:
                yield self._out[:written], self._marks[:marked]
            if status == parsewords.TABLE_FULL:
                self._words = renew(self._words)

    def parsed(self) -> Parsed:
        """What has been found on the way."""
        w = self._words
        return Parsed(
            self._file.skipped + sum(int(w[k]) for k in p.SKIP_NAMES),
            {name: int(w[k]) for k, name in p.CONTRADICTION_NAMES.items() if w[k]},
            int(w[p.TRADES]), int(w[p.SIDELESS]), int(w[p.UNSEEN_FILLS]), int(w[p.UNSEEN_LOTS]), int(w[parsewords.LATE]), self._file.skips + _skips(w),
        )  # fmt: skip


def _tell(file: DbnFile, parsed: Parsed) -> None:
    """Log what was not as it should be."""
    if parsed.skipped:
        log.warning("%s: %d records skipped, the first at %s", file.name, parsed.skipped, parsed.where[0])
    for what, count in parsed.contradictions.items():
        log.warning("%s: %d records contradict those before: %s", file.name, count, what)
    if file.left_out:
        log.warning("%s: the %d most active instruments, %d left out", file.name, len(file.symbols), file.left_out)


def dbn_tape(path: Path) -> Tape:
    """A file as a tape of orders or of levels: the most active instruments, at most INSTRUMENTS.

    DeskvigilError where its records give no event, or more than TAPE_EVENTS.
    """
    file = read_dbn(path)
    reader = DbnReader(file)
    blocks: list[EventArray] = []
    total = 0
    for events, _ in reader.blocks():
        blocks.append(events.copy())
        total += len(events)
        if total > TAPE_EVENTS:
            raise DeskvigilError(f"{path.name}: more than {TAPE_EVENTS} events, which is the most that a tape holds")
    _tell(file, reader.parsed())
    if not total:
        raise DeskvigilError(f"{path.name}: its {len(file.where)} records give no event")
    tape = np.concatenate(blocks)
    return Tape(
        instruments=file.instruments, events=tape, simulated_market=False, source="dbn", start_ns=int(tape["t_ns"][0]),
        end_ns=int(tape["t_ns"][-1]), level_book=not file.by_order,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class DbnReplay:
    """What a replay through the books found; the first names are those of `engine.replay.Result`. events: records;
    book_rows_checked: ends of a venue's event at which a book was looked at;
    mismatches: crossed books outside the pre-open, best prices and sizes unlike a record's, records that contradict those before,
    and refused events; crossed_pre_open, crossed_open: spans of crossed books by phase."""

    events: int
    seconds: float
    fills: int
    book_rows_checked: int
    mismatches: int
    skipped_lines: int
    crossed_pre_open: int
    crossed_open: int
    contradictions: dict[str, int]


FILLS, WRONG, SPANS, SPANS_OPEN, FOUND_WORDS = range(5)


@kernel
def check(
    books: Books, events: EventArray, marks: IntArray, by_order: bool, crossed: IntArray, found: IntArray
) -> None:
    """Apply a block and look at the books at each mark: by order, whether they cross; by level, whether the best prices and
    sizes are the record's. crossed int64 (instruments,): whether each crosses now; found int64 (FOUND_WORDS,)."""
    at = 0
    for k in range(len(marks) + 1):
        until = marks[k, p.MARK_EVENTS] if k < len(marks) else len(events)
        while at < until:
            event = events[at]
            count = apply(
                books, event.t_ns, event.order_id, event.price, event.qty, event.instrument + 0, event.kind + 0, event.side + 0,
                event.flags + 0,
            )  # fmt: skip
            found[FILLS] += max(count, 0)
            at += 1
        if k == len(marks):
            break
        i = marks[k, p.MARK_INSTRUMENT]
        bid, ask = best_price(books, i, 1), best_price(books, i, -1)
        if not by_order:
            same = bid == marks[k, p.MARK_BID] and best_qty(books, i, 1) == marks[k, p.MARK_BID + 1]
            same = same and ask == marks[k, p.MARK_BID + 2] and best_qty(books, i, -1) == marks[k, p.MARK_BID + 3]
            found[WRONG] += not same
            continue
        crosses = bid > 0 and ask > 0 and bid >= ask
        is_open = marks[k, p.MARK_PHASE] == OPEN
        if crosses:
            found[WRONG] += is_open
            if crossed[i] == 0 or (is_open and crossed[i] == 1):
                found[SPANS_OPEN if is_open else SPANS] += 1
            crossed[i] = 2 if is_open else 1
        else:
            crossed[i] = 0


def replay_dbn(path: Path) -> DbnReplay:
    """Parse a file, apply its events to books and look at these at the end of each of the venue's events."""
    file = read_dbn(path)
    reader = DbnReader(file)
    for warm in DbnReader(file, LEVEL_EVENTS).blocks():  # compiles, unmeasured
        del warm
        break
    n = len(file.symbols)
    books = make_books(n, max_orders=REPLAY_ORDERS, level_book=not file.by_order)
    crossed, found = np.zeros(n, dtype=np.int64), np.zeros(FOUND_WORDS, dtype=np.int64)
    check(
        books, empty_events(0), np.zeros((0, p.MARK_COLUMNS), dtype=np.int64), file.by_order, crossed, found
    )  # compiles
    rows, seconds = 0, 0.0
    for events, marks in reader.blocks():
        began = time.perf_counter()
        check(books, events, marks, file.by_order, crossed, found)
        seconds += time.perf_counter() - began
        rows += len(marks)
    parsed = reader.parsed()
    _tell(file, parsed)
    refused = sum(count for name, count in counters(books).items() if name.startswith("refused_"))
    return DbnReplay(
        len(file.where), reader.seconds + seconds, int(found[FILLS]) if file.by_order else parsed.trades, rows,
        int(found[WRONG]) + refused + sum(parsed.contradictions.values()), parsed.skipped, int(found[SPANS]),
        int(found[SPANS_OPEN]), parsed.contradictions,
    )  # fmt: skip


def is_recording(opening: Opening) -> bool:
    """Whether a recording that opens so is DBN."""
    return is_dbn(opening.head)


def prove(path: Path, _: Path | None = None) -> Result:
    """Replay a recording unpaced; see `DbnReplay`."""
    found = replay_dbn(path)
    return Result(
        events=found.events, seconds=found.seconds, fills=found.fills, book_rows_checked=found.book_rows_checked,
        mismatches=found.mismatches, skipped_lines=found.skipped_lines,
    )  # fmt: skip
