"""Words: numbers and durations as the Latency and the Engine page write them."""

from __future__ import annotations

import math

MINUS = "\N{MINUS SIGN}"
NONE = "no data"
_UNITS = ((1e-6, 1e9, "ns"), (1e-3, 1e6, "µs"), (1.0, 1e3, "ms"))


def count(value: float, unit: str = "") -> str:
    """A whole number with separators, or "no data"."""
    return _with(f"{value:,.0f}".replace("-", MINUS), unit) if math.isfinite(value) else NONE


def number(value: float, decimals: int, unit: str = "", *, signed: bool = False) -> str:
    """A number with fixed decimals; "no data" where there is none."""
    if not math.isfinite(value):
        return NONE
    text = f"{value:+,.{decimals}f}" if signed else f"{value:,.{decimals}f}"
    return _with(text.replace("-", MINUS), unit)


def plain(value: float, most: int) -> str:
    """A number with as many decimals as it has, `most` of them at most: "33", "0.0125"."""
    text = number(value, most)
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(value: float, decimals: int = 1) -> str:
    return number(value * 100, decimals, "%")


def seconds(value: float) -> str:
    """A short duration with three significant digits and its unit: "812 ns", "4.21 µs", "12.0 ms", "3.40 s"."""
    if not math.isfinite(value):
        return NONE
    if value == 0.0:
        return "0 s"
    for below, scale, unit in _UNITS:
        if abs(value) < below:
            return f"{_three(value * scale)} {unit}"
    return f"{_three(value)} s" if abs(value) < 60 else span(value)


def span(value: float) -> str:
    """How long something has lasted: "12 s", "3 m 06 s", "2 h 10 m"."""
    if not math.isfinite(value):
        return NONE
    whole = max(round(value), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} m {whole % 60:02d} s"
    if whole < 172_800:
        return f"{whole // 3_600} h {whole % 3_600 // 60:02d} m"
    return f"{whole // 86_400} d {whole % 86_400 // 3_600:02d} h"


def size(value: float) -> str:
    """Bytes in binary units."""
    if not math.isfinite(value):
        return NONE
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"


def _three(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def _with(text: str, unit: str) -> str:
    return f"{text} {unit}" if unit else text
