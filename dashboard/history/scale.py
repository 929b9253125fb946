"""Scale: in which words and by which factor values are shown, so that a reader sees 312 µs and not 0.000312."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboard.history.unit import Unit

_SECONDS = (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("h", 3_600.0), ("d", 86_400.0))
_BYTES = tuple((word, 1024.0**power) for power, word in enumerate(("B", "KiB", "MiB", "GiB", "TiB", "PiB")))
_HERTZ = (("Hz", 1.0), ("kHz", 1e3), ("MHz", 1e6), ("GHz", 1e9))
_LADDERS: Mapping[str, Sequence[tuple[str, float]]] = {"seconds": _SECONDS, "bytes": _BYTES, "hertz": _HERTZ}
_PLAIN = {"usd": "USD", "bps": "bp", "celsius": "°C", "watts": "W", "joules": "J", "timestamp": "s since 1970"}
# Minutes and hours only where seconds would have many digits.
_LEAST = {"min": 600.0, "h": 7_200.0, "d": 172_800.0}


@dataclass(frozen=True, slots=True)
class Scale:
    """Shown value = value * factor, in `words` ("" for a plain count, "no unit" where none is known)."""

    factor: float
    words: str


def scale_for(unit: Unit | None, largest: float) -> Scale:
    """The scale for values of at most `largest` in size."""
    if unit is None:
        return Scale(1.0, "no unit")
    if unit.fixed:
        return Scale(1.0, unit.fixed)
    per = "/s" if unit.per_second else ""
    if unit.base == "ratio":
        return Scale(100.0, "%" + per)
    ladder = _LADDERS.get(unit.base)
    if ladder is None:
        word = _PLAIN.get(unit.base, unit.base)
        return Scale(1.0, (word + per) if word or per else "")
    word, size = _step(ladder, largest)
    return Scale(1.0 / size, word + per)


def _step(ladder: Sequence[tuple[str, float]], largest: float) -> tuple[str, float]:
    fitting = [(word, size) for word, size in ladder if largest >= _LEAST.get(word, size)]
    if fitting:
        return fitting[-1]
    return next((one for one in ladder if one[1] == 1.0), ladder[0]) if largest == 0 else ladder[0]
