"""Export: a selector's raw samples or an expression evaluated at steps, from a data file into one of four formats.

Works beside a running program: it reads the file as it is at one moment and asks nothing of the other process.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np

from metrics.clock import SystemClock
from metrics.errors import DeskvigilError
from query.engine import QueryEngine
from query.errors import QueryError, bad_data
from query.matchers import Matcher, check
from query.options import QueryOptions
from query.parse import parse
from query.syntax import SelectorTree, unwrapped
from storage import export_source
from storage.export import BinaryFile, ColumnBlock, CsvWriter, Writer, Written, label_names, write_all
from storage.export_openmetrics import OpenMetricsWriter, PrometheusTextWriter
from storage.export_parquet import ParquetSamples
from storage.snapshot import Snapshot

Format = Literal["csv", "parquet", "openmetrics", "prometheus"]
FORMATS: tuple[Format, ...] = ("csv", "parquet", "openmetrics", "prometheus")

_STEPS_AT_ONCE = 2_000
_FEWEST_STEPS = 10
HELD_VALUES = 16_000_000
"""Values of a result that are held in memory to be put in order."""


@dataclass(frozen=True, slots=True)
class Export:
    """What to write: a selector's samples with start <= t <= end, or, with step_ms, an expression's values."""

    expression: str
    start_ms: int
    end_ms: int
    step_ms: int | None
    format: Format


def export(database: Path, what: Export, file: BinaryFile, options: QueryOptions | None = None) -> Written:
    """Write an export. DeskvigilError where the file cannot be read or the expression is wrong, before anything is written."""
    options = options or QueryOptions()
    if what.end_ms < what.start_ms:
        raise bad_data("the end is before the start")
    if what.step_ms is not None and what.step_ms <= 0:
        raise bad_data("the step must be positive")
    matchers = selector(what.expression, options) if what.step_ms is None else ()
    with Snapshot.open(database) as snapshot:
        if what.step_ms is None:
            series = export_source.matching(snapshot, matchers)
            names = label_names(export_source.labels_of(one) for _, one in series)
            blocks: Iterable[ColumnBlock] = export_source.samples(snapshot, series, what.start_ms, what.end_ms)
        else:
            engine = QueryEngine(snapshot.store.reader, options, SystemClock())
            step_ms = what.step_ms
            names, blocks = _result(
                lambda: evaluated(engine, what.expression, what.start_ms, what.end_ms, step_ms),
                ordered=what.format in ("openmetrics", "prometheus"),
            )
        return write_all(blocks, _writer(what, file, names))


def _writer(what: Export, file: BinaryFile, names: Sequence[str]) -> Writer:
    if what.format == "openmetrics":
        return OpenMetricsWriter(file)
    if what.format == "prometheus":
        return PrometheusTextWriter(file)
    if what.format == "parquet":
        about = {"expression": what.expression, "start_ms": str(what.start_ms), "end_ms": str(what.end_ms)}
        return ParquetSamples(file, names, about if what.step_ms is None else {**about, "step_ms": str(what.step_ms)})
    return CsvWriter(file, names)


def _result(evaluate: Callable[[], Iterator[ColumnBlock]], *, ordered: bool) -> tuple[list[str], Iterable[ColumnBlock]]:
    """Label names and blocks of a result: held where it is of moderate size, else evaluated twice."""
    held: list[ColumnBlock] = []
    values = 0
    blocks = evaluate()
    for block in blocks:
        held.append(block)
        values += block.values.size
        if values > HELD_VALUES:
            break
    else:
        return label_names(itertools.chain.from_iterable(b.labels for b in held)), in_order(held) if ordered else held
    if ordered:
        raise DeskvigilError(
            f"the result has more than {HELD_VALUES:,} values, which this format needs in order: write CSV or Parquet, "
            "or take a longer step or a shorter range"
        )
    names = set(label_names(itertools.chain.from_iterable(block.labels for block in held)))
    held.clear()
    for block in blocks:
        names.update(label_names(block.labels))
    return sorted(names), evaluate()


_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}


def read_duration(text: str) -> int:
    """Milliseconds of 30s, 1h30m, 2d or a plain number of seconds. DeskvigilError for anything else."""
    if re.fullmatch(r"(\d+(ms|[smhdwy]))+", text):
        return sum(int(n) * _UNITS_MS[unit] for n, unit in re.findall(r"(\d+)(ms|[smhdwy])", text))
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return round(float(text) * 1_000)
    raise DeskvigilError(f"{text!r} is no duration: 30s, 5m, 1h30m or 2d is expected")


def read_time(text: str, now_ms: int) -> int:
    """Milliseconds of `now`, `now-6h`, seconds since 1970, or a date (UTC where it names no zone)."""
    if text == "now":
        return now_ms
    if text.startswith("now-"):
        return now_ms - read_duration(text.removeprefix("now-"))
    if re.fullmatch(r"\d{5,}(\.\d+)?", text):
        return round(float(text) * 1_000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise DeskvigilError(
            f"{text!r} is no time: 2026-11-23, 2026-11-23T09:30:00Z, now, now-6h or seconds since 1970 is expected"
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)


def selector(text: str, options: QueryOptions) -> tuple[Matcher, ...]:
    """The matchers of a plain selector. QueryError for anything else: an expression needs a step."""
    tree = unwrapped(parse(text, options))
    if not isinstance(tree, SelectorTree) or tree.has_offset or tree.at is not None or tree.extended:
        raise bad_data("raw samples are exported of a plain selector only; give --step to evaluate an expression")
    check(tree.matchers)
    return tree.matchers


def evaluated(engine: QueryEngine, text: str, start_ms: int, end_ms: int, step_ms: int) -> Iterator[ColumnBlock]:
    """An expression at start, start + step, ... up to end, in windows of steps: each window a block, ascending.

    A window that is too large for the limits of one query is made smaller, down to 10 steps.
    """
    prepared = engine.prepare(text)
    at_once = min(_STEPS_AT_ONCE, engine.options.max_steps)
    at_ms = start_ms
    while at_ms <= end_ms:
        last_ms = min(at_ms + (at_once - 1) * step_ms, end_ms)
        try:
            result = prepared.range(at_ms, last_ms, step_ms)
        except QueryError as error:
            if error.kind == "bad_data" or at_once <= _FEWEST_STEPS:
                raise
            at_once //= 2
            continue
        if len(result):
            yield ColumnBlock(result.labels, result.t_ms, result.values, result.present)
        at_ms += at_once * step_ms


def in_order(blocks: Sequence[ColumnBlock]) -> Iterator[ColumnBlock]:
    """The same samples series by series, sorted by name and labels: what OpenMetrics wants."""
    rows: dict[tuple[tuple[str, str], ...], list[tuple[ColumnBlock, int]]] = {}
    for block in blocks:
        for row, labels in enumerate(block.labels):
            rows.setdefault(tuple(sorted(labels.items())), []).append((block, row))
    for key in sorted(rows, key=lambda key: (dict(key).get("__name__", ""), key)):
        parts = rows[key]
        present = [np.ones(len(b.t_ms), bool) if b.present is None else b.present[row] for b, row in parts]
        yield ColumnBlock(
            [dict(key)],
            np.concatenate([block.t_ms for block, _ in parts]),
            np.concatenate([block.values[row] for block, row in parts])[None, :],
            np.concatenate(present)[None, :],
        )
