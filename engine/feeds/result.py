"""Result: what a replay of a recording found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class Result:
    """What a replay found; the fields are the keys of the JSON object that is printed.

    events: messages replayed; seconds: for the books alone, without reading the file; fills: trades in
    the recording, or given by matching (orders); what a format does not have is 0 or None.
    """

    events: int = 0
    seconds: float = 0.0
    events_per_second: float = 0.0
    fills: int = 0
    fills_crc32: int | None = None
    book_rows_checked: int = 0
    mismatches: int = 0
    levels_from_book: int = 0
    checksums_ok: int = 0
    checksums_bad: int = 0
    gaps: int = 0
    skipped_lines: int = 0
