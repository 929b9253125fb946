"""Record tail: reads a stream of records from where one left off, while its writer writes."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.events import Instrument
from engine.recordfile import (
    FIRST,
    HEADER_WORDS,
    MAGIC,
    MAGIC_AT,
    RECORD,
    RECORD_WORDS,
    RECORDS_AT,
    RUN,
    TEXT_AT,
    TEXT_BYTES,
    WRITTEN,
    RecordArray,
    RecordFileError,
    checksums,
    segments_of,
)

_RECORD_BYTES = RECORD_WORDS * 8


@dataclass(frozen=True, eq=False, slots=True)
class Reading:
    """What came after `after` in a stream.

    records: whole ones, dtype RECORD, in order of their places; places: the place of each (its number
    by position, which is its sequence unless somebody altered the file); damaged: places whose checksum
    is wrong, each with its segment's run; missing: how many places before the first segment read are
    not there any more (older ones are deleted), and run: that segment's; upto: the last place read;
    instruments: of the newest segment read.
    """

    records: RecordArray
    places: list[int]
    damaged: list[tuple[int, int]]
    missing: int
    run: int
    upto: int
    instruments: tuple[Instrument, ...] = ()


@dataclass(eq=False, slots=True)
class _Segment:
    """The header of a segment: its run, first and written records, where they begin (bytes), and its instruments."""

    run: int
    first: int
    written: int
    offset: int
    instruments: tuple[Instrument, ...] = field(default=())


class RecordTail:
    """Reads one stream. It keeps no place of its own: the caller says after which record to go on.

    The newest record of a live segment is read only once its checksum holds; a wrong one anywhere
    else, or one that stays wrong from one reading to the next, is damage.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._doubted = -1  # the last place of the reading before, if its checksum was wrong

    def read(self, after: int, limit: int = 10_000) -> Reading:
        """The records after place `after`, `limit` at most. Raises RecordFileError where a file cannot be read."""
        segments = segments_of(self._folder)
        records: list[RecordArray] = []
        places: list[int] = []
        damaged: list[tuple[int, int]] = []
        instruments: tuple[Instrument, ...] = ()
        missing, run, upto = 0, 0, after
        for k, (_, path) in enumerate(segments):
            last = k == len(segments) - 1
            if not last and segments[k + 1][0] <= upto + 1:
                continue
            found = self._read_segment(path, upto, limit - len(places))
            if found is None:
                continue
            segment, whole = found
            instruments = segment.instruments
            run = run or segment.run
            start = max(upto + 1, segment.first)
            missing += start - (upto + 1)
            upto = start - 1
            good = checksums(whole) == whole["checksum"]
            for place, fine in zip(range(start, start + len(whole)), good.tolist(), strict=True):
                newest = last and place == segment.first + segment.written - 1
                if not fine and newest and self._doubted != place:
                    self._doubted = place
                    break
                if fine:
                    places.append(place)
                else:
                    damaged.append((place, segment.run))
                upto = place
            records.append(whole[: upto - start + 1][good[: upto - start + 1]])
            if len(places) + len(damaged) >= limit:
                break
        together = np.concatenate(records) if records else np.zeros(0, dtype=RECORD)
        return Reading(together, places, damaged, missing, run, upto, instruments)

    def end(self) -> int:
        """The place of the newest record; 0 where there is none."""
        segments = segments_of(self._folder)
        if not segments:
            return 0
        found = self._read_segment(segments[-1][1], 0, 0)
        return 0 if found is None else found[0].first + found[0].written - 1

    def _read_segment(self, path: Path, upto: int, limit: int) -> tuple[_Segment, RecordArray] | None:
        """The header of a segment and its records after `upto`; None where it is gone (deleted meanwhile)."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RecordFileError(f"the records {path} cannot be read: {error}") from error
        try:
            segment = _header(path, descriptor)
            start = max(upto + 1, segment.first)
            count = max(min(segment.first + segment.written - start, limit), 0)
            data = os.pread(descriptor, count * _RECORD_BYTES, segment.offset + (start - segment.first) * _RECORD_BYTES)
        except OSError as error:
            raise RecordFileError(f"the records {path} cannot be read: {error}") from error
        finally:
            os.close(descriptor)
        return segment, np.frombuffer(data[: len(data) // _RECORD_BYTES * _RECORD_BYTES], dtype=RECORD)


def _header(path: Path, descriptor: int) -> _Segment:
    raw = os.pread(descriptor, HEADER_WORDS * 8, 0)
    words = np.frombuffer(raw, dtype=np.int64) if len(raw) == HEADER_WORDS * 8 else np.zeros(1, dtype=np.int64)
    if words[MAGIC_AT] != MAGIC:
        raise RecordFileError(f"{path} is not a segment of records")
    text = os.pread(descriptor, int(words[TEXT_BYTES]), int(words[TEXT_AT]) * 8)
    try:
        instruments = tuple(Instrument(str(symbol), float(tick), float(lot)) for symbol, tick, lot in json.loads(text))
    except (ValueError, TypeError) as error:
        raise RecordFileError(f"{path}: its list of instruments is damaged: {error}") from error
    return _Segment(int(words[RUN]), int(words[FIRST]), int(words[WRITTEN]), int(words[RECORDS_AT]) * 8, instruments)
