"""How long PromQL takes: every function, aggregation and operator over 100 series of a day at 1 s.

The samples are in memory, decoded, so that these are the evaluator's figures; the `archive` benchmark measures
queries with storage below them. `python -m validation.bench_query` prints every function's time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from metrics.clock import SystemClock
from metrics.frame import FloatArray, IntArray
from metrics.series import Series, make_labels
from query.engine import QueryEngine, QueryOptions
from query.functions.registry import CALENDAR, ELEMENTWISE, EXTENDED, RANGE
from query.matchers import Matcher
from query.source import Columns, MinuteColumns
from validation.figure import Figure

NAME = "query"
T0_MS = 1_780_272_000_000
DAY_S = 86_400
POINTS = 2_000
STEP_MS = DAY_S * 1_000 // POINTS
SLOW_MS = 1_000.0  # what no function may take


class _Held:
    """A cursor over one block of samples and one of minutes."""

    def __init__(self, block: Columns, minutes: MinuteColumns) -> None:
        self._block = block
        self._minutes = minutes

    def blocks(self, t0_ms: int, t1_ms: int, steps_ms: tuple[int, int] | None = None) -> Sequence[Columns]:
        a, b = np.searchsorted(self._block.t_ms, [t0_ms, t1_ms + 1])
        return [Columns(self._block.series, self._block.t_ms[a:b], self._block.values[:, a:b])] if b > a else []

    def last(self, t0_ms: int, t1_ms: int) -> Sequence[Columns]:
        return [Columns(one.series, one.t_ms[-1:], one.values[:, -1:]) for one in self.blocks(t0_ms, t1_ms)]

    def minutes(self, t0_ms: int, t1_ms: int, wanted: Sequence[int] = ()) -> Sequence[MinuteColumns]:
        a, b = np.searchsorted(self._minutes.t_ms, [t0_ms, t1_ms + 1])
        return [MinuteColumns(self._minutes.series, self._minutes.t_ms[a:b], self._minutes.columns[:, :, a:b])]

    def series(self) -> Sequence[Series]:
        return self._block.series


class _Source:
    """Metrics by name, each in one block."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    def put(self, series: tuple[Series, ...], t_ms: IntArray, values: FloatArray, minutes: MinuteColumns) -> None:
        self._held[series[0].name] = _Held(Columns(series, t_ms, values), minutes)

    def cursor(self, matchers: Sequence[Matcher]) -> _Held:
        return self._held[matchers[0].value]

    def series(
        self, matchers: Sequence[Matcher] = (), t0_ms: int | None = None, t1_ms: int | None = None
    ) -> list[Series]:
        return list(self.cursor(matchers).series())

    def label_names(self, matchers: Sequence[Matcher] = ()) -> list[str]:
        return sorted({name for one in self.series(matchers) for name, _ in one.labels})

    def label_values(self, name: str, matchers: Sequence[Matcher] = ()) -> list[str]:
        return sorted({value for one in self.series(matchers) for key, value in one.labels if key == name})


def source(days: int = 30) -> _Source:
    """A day of samples (gauge, counter, histogram of 100 series; one and 118 of others) and `days` of minutes."""
    rng = np.random.default_rng(5)
    t_ms = T0_MS + 1_000 * np.arange(DAY_S, dtype=np.int64)
    minute_t = T0_MS + DAY_S * 1_000 - 60_000 * np.arange(days * 1_440, 0, -1, dtype=np.int64)
    made = _Source()
    for name, rows in (("one", 1), ("one_total", 1), ("level", 100), ("work_total", 118), ("wait_bucket", 100)):
        values = rng.normal(0, 1, (rows, DAY_S)) + 50
        if name.endswith(("_total", "_bucket")):
            values = np.cumsum(rng.integers(0, 9, (rows, DAY_S)), axis=1).astype(np.float64)
        if name == "wait_bucket":
            values = np.cumsum(values.reshape(10, 10, DAY_S), axis=1).reshape(100, DAY_S)
        bounds = ("0.1", "0.2", "0.5", "1", "2", "5", "10", "20", "50", "+Inf")
        series = tuple(
            Series(
                name,
                make_labels({"host": f"h{row // 10}", "le" if name == "wait_bucket" else "item": bounds[row % 10]}),
            )
            if name == "wait_bucket"
            else Series(name, make_labels({"host": f"h{row // 10}", "item": str(row)}))
            for row in range(rows)
        )
        walk = np.cumsum(rng.integers(0, 100, (rows, len(minute_t))), axis=1).astype(np.float64)
        lowest = walk if name.endswith("_total") else walk - 1  # a counter does not fall below its last minute
        columns = np.stack([lowest, walk + 1, walk * 60, np.full(walk.shape, 60.0), walk])
        made.put(series, t_ms, values, MinuteColumns(series, minute_t, columns))
    return made


def expressions() -> dict[str, str]:
    """Every function, aggregation and kind of operator: name to expression over 100 series."""
    found: dict[str, str] = {}
    extra = {
        "quantile_over_time": ("0.9, ", ""),
        "predict_linear": ("", ", 600"),
        "double_exponential_smoothing": ("", ", 0.5, 0.5"),
        "holt_winters": ("", ", 0.5, 0.5"),
    }
    for name in RANGE:
        before, behind = extra.get(name, ("", ""))
        metric = "work_total" if RANGE[name].rollup == "counter" or name in ("irate", "resets") else "level"
        found[f"{name} [5m]"] = f"{name}({before}{metric}[5m]{behind})"
        if name != "mad_over_time":  # minutes, which docs/PERFORMANCE.md admits
            found[f"{name} [1h]"] = f"{name}({before}{metric}[1h]{behind})"
    found.update(
        {f"{name} {mode}": f"{name}(work_total[5m] {mode})" for mode, names in EXTENDED.items() for name in names}
    )
    scalars = {"clamp_min": ", 1", "clamp_max": ", 1"}
    found.update({name: f"{name}(level{scalars.get(name, '')})" for name in ELEMENTWISE})
    found.update({name: f"{name}(level)" for name in CALENDAR})
    for name in ("sum", "avg", "min", "max", "count", "stddev", "stdvar", "group"):
        found[f"{name} by"] = f"{name} by (host) (level)"
    for name, parameter in (
        ("quantile", "0.9"),
        ("topk", "3"),
        ("bottomk", "3"),
        ("limitk", "3"),
        ("limit_ratio", "0.5"),
    ):
        found[f"{name} by"] = f"{name} by (host) ({parameter}, level)"
    found["count_values"] = 'count_values("v", floor(level / 10))'
    found["absent"], found["absent_over_time"] = "absent(level)", "absent_over_time(level[5m])"
    found["histogram_quantile"] = "histogram_quantile(0.9, rate(wait_bucket[5m]))"
    found["histogram_quantiles"] = 'histogram_quantiles(rate(wait_bucket[5m]), "q", 0.5, 0.9)'
    found["histogram_fraction"] = "histogram_fraction(0, 1, rate(wait_bucket[5m]))"
    found["label_replace"] = 'label_replace(level, "to", "$1", "host", "(.*)")'
    found["label_join"] = 'label_join(level, "to", "-", "host", "item")'
    found["sort"], found["sort_by_label"] = "sort(level)", 'sort_by_label(level, "item")'
    found["timestamp"], found["scalar"] = "timestamp(level)", "scalar(level)"
    found["selector"], found["negation"], found["offset"], found["@"] = (
        "level",
        "-level",
        "level offset 1h",
        "level @ end()",
    )
    found["vector + scalar"], found["vector > scalar"] = "level + 1", "level > 50"
    found["vector / vector"], found["and"] = "level / level", "level and level > 50"
    found["or"], found["unless"] = "level or work_total", "level unless level > 50"
    found["group_left"] = "level * on (host) group_left () sum by (host) (level)"
    found["fill"] = "level + fill (0) (level > 50)"
    found["subquery"] = "max_over_time(rate(work_total[1m])[10m:30s])"
    found["subquery of a sum"] = "avg_over_time(sum(level)[1h:1m])"
    return found


def times(say: Callable[[str], None], repeats: int = 1) -> dict[str, float]:
    """Milliseconds of each, the best of some."""
    engine = QueryEngine(source(1), QueryOptions(max_samples=500_000_000, timeout_s=300.0), SystemClock())
    start, end = T0_MS, T0_MS + DAY_S * 1_000 - 1_000
    found = {}
    for name, expression in expressions().items():
        prepared = engine.prepare(expression)
        found[name] = min(_ms(lambda p=prepared: p.range(start, end, STEP_MS)) for _ in range(repeats))  # type: ignore[misc]
        say(f"query: {name:40s} {found[name]:9.1f} ms")
    return found


def _ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def _median(work: Callable[[], object], times: int = 9) -> float:
    return float(np.median([_ms(work) for _ in range(times)]))


def measure(say: Callable[[str], None]) -> list[Figure]:
    """The figures that were promised, and the slowest functions."""
    say("query: samples in memory ...")
    engine = QueryEngine(source(), QueryOptions(), SystemClock())
    start, end = T0_MS, T0_MS + DAY_S * 1_000 - 1_000
    month = (end - 30 * DAY_S * 1_000, end, 30 * DAY_S * 1_000 // POINTS)
    questions: list[tuple[str, str, tuple[int, int, int], float | None, str]] = [
        ("rate[5m], one series x 1 day", "rate(one_total[5m])", (start, end, STEP_MS), 5.4, "Prometheus over HTTP 5.4 ms, VictoriaMetrics 1.5"),
        ("avg_over_time[5m], one series x 1 day", "avg_over_time(one[5m])", (start, end, STEP_MS), 5.4, "Prometheus over HTTP 5.4 ms"),
        ("sum by, 118 series x 1 day", "sum by (host) (work_total)", (start, end, STEP_MS), 20.0, "Prometheus 347 ms, VictoriaMetrics 17.7"),
        ("sum by (rate[5m]), 118 series x 1 day", "sum by (host) (rate(work_total[5m]))", (start, end, STEP_MS), None, ""),
        ("100 series x 30 days, selector, by minutes", "level", month, 100.0, ""),
        ("100 series x 30 days, rate[30m], by minutes", "rate(work_total[30m])", month, 100.0, ""),
        ("100 series x 30 days, max_over_time[30m], by minutes", "max_over_time(level[30m])", month, 100.0, ""),
    ]  # fmt: skip
    figures = [
        Figure(benchmark=NAME, what=what, value=_median(lambda e=expression, t=span: engine.range(e, *t)),  # type: ignore[misc]
               unit="ms", decimals=1, limit=limit, peer=peer)
        for what, expression, span, limit, peer in questions
    ]  # fmt: skip
    at = T0_MS + DAY_S * 1_000 - 1_000
    for what, expression in (("x > 5", "one > 5"), ("rate[1m], one series", "rate(one_total[1m])")):
        prepared = engine.prepare(expression)
        value = _median(lambda p=prepared: p.instant(at), 200) * 1e3  # type: ignore[misc]
        figures.append(Figure(benchmark=NAME, what=f"{what}, one evaluation", value=value, unit="us", decimals=0))
    longest = "+".join(["a"] * 200)
    figures.append(Figure(benchmark=NAME, what="parse 200 operators", value=_median(lambda: _parse(longest)), unit="ms",
                          decimals=2, limit=20, peer="promql-parser (Rust) 30 ms, quadratic"))  # fmt: skip
    slow = times(say)
    for name in sorted(slow, key=slow.__getitem__, reverse=True)[:5]:
        figures.append(Figure(benchmark=NAME, what=f"{name}, 100 series x 1 day (slowest of {len(slow)})",
                              value=slow[name], unit="ms", decimals=0, limit=SLOW_MS))  # fmt: skip
    return figures


def _parse(text: str) -> None:
    from query.parse import parse

    parse(text, QueryOptions())


def main() -> int:
    """Print every function's time, slowest first."""
    found = times(lambda line: print(line, flush=True))
    print(f"\n{len(found)} expressions, slowest first:")
    for name in sorted(found, key=found.__getitem__, reverse=True)[:20]:
        print(f"{name:36s} {found[name]:9.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
