"""Scan: numbers out of raw bytes, compiled. Text never becomes Python strings on the way."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.jit import inline_kernel, kernel
from metrics.frame import IntArray

ByteArray = npt.NDArray[np.uint8]
NEWLINE, RETURN, COMMA, POINT, MINUS, PLUS, ZERO = 10, 13, 44, 46, 45, 43, 48
MAX_DIGITS = 18
TEXT = -1  # in place of a column's decimals: a word
LOG = logging.getLogger("deskvigil.engine.feeds")


@inline_kernel
def read_decimal(text: ByteArray, at: int, end: int, decimals: int) -> tuple[int, int]:
    """Read a decimal number as an integer in units of 10**-decimals, further digits rounded.

    Returns (value, position after it); the position is -1 where there is no such number at `at` or it
    has more than 18 digits that count.
    """
    negative = at < end and text[at] == MINUS
    k = at + 1 if negative else at
    value, digits, after_point, carry = 0, 0, -1, 0
    while k < end:
        c = text[k] - ZERO
        if 0 <= c <= 9:
            if after_point < decimals:
                value = value * 10 + c
                digits += 1
                if after_point >= 0:
                    after_point += 1
            elif after_point == decimals:
                carry = 1 if c >= 5 else 0
                after_point += 1
        elif text[k] == POINT and after_point < 0 and decimals > 0 and digits > 0:
            after_point = 0
        else:
            break
        k += 1
    if digits == 0 or digits > MAX_DIGITS:
        return 0, -1
    for _ in range(decimals - max(after_point, 0)):
        value *= 10
    value += carry
    return (-value if negative else value), k


@kernel
def scan_table(text: ByteArray, decimals: IntArray, out: IntArray, lines: IntArray, bad: IntArray) -> tuple[int, int]:
    """Read lines of comma-separated columns into `out`, int64, shape (lines, columns).

    decimals: per column, see `read_decimal`; TEXT for words, which become 0. A line that is not as
    expected is left out. lines: the 0-based line of each row; bad: of each line left out. Empty lines are
    neither. Returns (rows, lines left out).
    """
    at, row, left_out, line, end = 0, 0, 0, 0, len(text)
    while at < end:
        if text[at] == NEWLINE or text[at] == RETURN:
            line += text[at] == NEWLINE
            at += 1
            continue
        sound = True
        for column in range(len(decimals)):
            value = 0
            if decimals[column] == TEXT:
                while at < end and text[at] != COMMA and text[at] != NEWLINE and text[at] != RETURN:
                    at += 1
            else:
                value, after = read_decimal(text, at, end, decimals[column])
                sound = after >= 0
                at = after if sound else at
            if column < len(decimals) - 1:
                sound = sound and at < end and text[at] == COMMA
                at += 1 if sound else 0
            if not sound:
                break
            out[row, column] = value
        if sound and (at >= end or text[at] == NEWLINE or text[at] == RETURN):
            lines[row] = line
            row += 1
        else:
            bad[left_out] = line
            left_out += 1
            while at < end and text[at] != NEWLINE:
                at += 1
    return row, left_out


@dataclass(frozen=True, eq=False, slots=True)
class Table:
    """Numbers of a CSV: rows int64 (n, columns), lines (n,): their 0-based lines; bad: the lines left out."""

    rows: IntArray
    lines: IntArray
    bad: IntArray


def read_table(data: bytes, name: str, decimals: tuple[int, ...]) -> Table:
    """Read a CSV without a header; decimals: see `scan_table`. Lines left out are logged, under `name`."""
    text = np.frombuffer(data, dtype=np.uint8)
    most = int(np.count_nonzero(text == NEWLINE)) + 1
    rows = np.empty((most, len(decimals)), dtype=np.int64)
    lines, bad = np.empty(most, dtype=np.int64), np.empty(most, dtype=np.int64)
    count, left_out = scan_table(text, np.asarray(decimals, dtype=np.int64), rows, lines, bad)
    if left_out:
        first = int(bad[0])
        LOG.warning("%s: %d lines skipped, the first: line %d: %r", name, left_out, first + 1, line_text(data, first))
    return Table(rows[:count], lines[:count], bad[:left_out])


def line_text(data: bytes, line: int) -> str:
    """One line (0-based) for a message, cut short."""
    start = 0
    for _ in range(line):
        start = data.index(b"\n", start) + 1
    return data[start : start + 120].split(b"\n")[0].decode("ascii", "replace").rstrip("\r")
