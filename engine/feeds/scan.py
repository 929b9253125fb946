"""Scan: numbers out of raw bytes, compiled. Text never becomes Python strings on the way."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.jit import inline_kernel, kernel
from metrics.errors import DeskvigilError
from metrics.frame import IntArray

ByteArray = npt.NDArray[np.uint8]
NEWLINE, RETURN, COMMA, POINT, MINUS, PLUS, ZERO = 10, 13, 44, 46, 45, 43, 48
MAX_DIGITS = 18


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
def scan_table(text: ByteArray, decimals: IntArray, out: IntArray) -> tuple[int, int]:
    """Read lines of comma-separated numbers into `out`, int64, shape (lines, columns).

    decimals: per column, see `read_decimal`. Empty lines are left out. Returns (rows read, -1), or
    (0-based line, column) of the first thing that is not as expected: a column of len(decimals)
    stands for something after the last one.
    """
    at, row, line, end = 0, 0, 0, len(text)
    while at < end:
        if text[at] == NEWLINE or text[at] == RETURN:
            line += text[at] == NEWLINE
            at += 1
            continue
        for column in range(len(decimals)):
            value, at = read_decimal(text, at, end, decimals[column])
            if at < 0:
                return line, column
            out[row, column] = value
            if column < len(decimals) - 1:
                if at >= end or text[at] != COMMA:
                    return line, column
                at += 1
        if at < end and text[at] != NEWLINE and text[at] != RETURN:
            return line, len(decimals)
        row += 1
    return row, -1


def count_lines(text: ByteArray) -> int:
    """How many lines there are at most."""
    return int(np.count_nonzero(text == NEWLINE)) + 1


def read_table(data: bytes, name: str, columns: tuple[str, ...], decimals: tuple[int, ...]) -> IntArray:
    """Numbers of a CSV without a header, int64, shape (rows, columns), scaled by 10**decimals each.

    DeskvigilError names the file, the line and the column that is not a number as expected.
    """
    text = np.frombuffer(data, dtype=np.uint8)
    out = np.empty((count_lines(text), len(columns)), dtype=np.int64)
    row, column = scan_table(text, np.asarray(decimals, dtype=np.int64), out)
    if column >= 0:
        what = columns[column] if column < len(columns) else "the end of the line"
        found = line_text(data, row)
        raise DeskvigilError(
            f"{name}, line {row + 1}: expected {what} ({len(columns)} numbers in all), found {found!r}"
        )
    return out[:row]


def line_text(data: bytes, line: int) -> str:
    """One line (0-based) for an error message, cut short."""
    start = 0
    for _ in range(line):
        start = data.index(b"\n", start) + 1
    return data[start : start + 120].split(b"\n")[0].decode("ascii", "replace").rstrip("\r")
