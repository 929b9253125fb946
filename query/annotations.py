"""What a query tells besides its answer: Prometheus's warnings and info annotations, in its words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

MOST = 10  # of each kind, in an answer

NOT_A_QUANTILE = "quantile value should be between 0 and 1"
NOT_A_RATIO = "ratio value should be between -1 and 1"
BAD_BUCKET = 'bucket label "le" is missing or has a malformed value'
NOT_MONOTONE = (
    "input to histogram_quantile needed to be fixed for monotonicity "
    "(see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
)
NO_COUNTER = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:"
NO_SORTING = "sort is ineffective for range queries since results are always ordered by labels"
COUNTER_SUFFIXES = ("_total", "_sum", "_count", "_bucket")


@dataclass(slots=True)
class Annotations:
    """Messages of one query; the same message at another place replaces the earlier one, as in Prometheus."""

    _warnings: dict[str, str] = field(default_factory=dict)
    _infos: dict[str, str] = field(default_factory=dict)

    def warn(self, message: str, where: str, detail: str = "") -> None:
        """`where` is line:column of the part of the expression that the message is about."""
        self._warnings[message] = f"PromQL warning: {message}{detail} ({where})"

    def info(self, message: str, where: str = "", detail: str = "") -> None:
        self._infos[message] = f"PromQL info: {message}{detail}" + (f" ({where})" if where else "")

    def texts(self) -> tuple[str, ...]:
        """All messages, warnings first; beyond MOST of a kind only how many more there are."""
        return (*_few(list(self._warnings.values()), "warning"), *_few(list(self._infos.values()), "info"))


def _few(texts: list[str], kind: str) -> list[str]:
    if len(texts) <= MOST:
        return texts
    more = f"{len(texts) - MOST} more {kind} annotations omitted"
    return [*texts[:MOST], more if kind == "warning" else f"PromQL info: {more}"]


def for_metric(message: str, name: str) -> str:
    return f'{message} for metric name "{name}"' if name else message


def go_g(value: float) -> str:
    """A number as Go's %g: the shortest digits that read back, an exponent below 1e-4 and from 1e21 on or past its digits."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    digits, _, exponent = f"{abs(value):.17e}".partition("e")
    for precision in range(17):
        digits, _, exponent = f"{abs(value):.{precision}e}".partition("e")
        if float(f"{digits}e{exponent}") == abs(value):
            break
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    if int(exponent) < -4 or int(exponent) >= 21:
        return f"{sign}{digits}e{exponent}"
    text = f"{abs(value):.{max(0, len(digits.replace('.', '')) - 1 - int(exponent))}f}"
    return sign + text
