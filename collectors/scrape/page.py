"""Page: the answer of one scrape, read with the help of the one before.

Most lines of most pages are what they were a second ago, and most of the others differ in the number only. So the
page is compared line by line with the last one; where a line differs, but not before its value, the value alone is
read; only where the lines themselves have changed is every line looked up, and only an unknown one is parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from sys import float_info

import numpy as np

from collectors.scrape.grammar import Format, FormatError, Meta, labels, meta, sample
from metrics.frame import FloatArray, IntArray
from metrics.series import Series

_DIGITS = b"0123456789.eE+-"
_LARGEST = float_info.max
MOST_METADATA = 20_000
MOST_HELP = 1_024


class PageError(Exception):
    """A page that cannot be used: the message names the line. scraped, kept: samples read before it."""

    def __init__(self, message: str, scraped: int = 0, kept: int = 0) -> None:
        super().__init__(message)
        self.scraped = scraped
        self.kept = kept


@dataclass(eq=False, slots=True)
class Entry:
    """One series as written on a page. series: None where relabelling dropped it.

    column: where frames of layout `version` hold it, -1 nowhere. Both belong to `columns.Columns`.
    """

    series: Series | None
    column: int = -1
    version: int = -1


@dataclass(frozen=True, slots=True)
class Timed:
    """A sample that brought its own time."""

    series: Series
    t_ms: int
    value: float


@dataclass(eq=False, slots=True)
class Page:
    """What a page says. entries and values [n] belong together; `same` says that entries are those of the page before.

    scraped: samples on the page; kept: those that relabelling left; added: series that the page before had not.
    """

    entries: list[Entry]
    values: FloatArray
    timed: list[Timed]
    scraped: int
    kept: int
    added: int
    same: bool


@dataclass(frozen=True, eq=False, slots=True)
class _Plan:
    """How the last page's lines were read.

    prefixes[i]: line i up to its value, None where more follows the value. odd: the series of such lines.
    rows: the lines of `entries`.
    """

    form: Format
    prefixes: list[bytes | None]
    odd: dict[int, bytes]
    rows: IntArray
    entries: list[Entry]
    scraped: int
    kept: int


class PageReader:
    """Reads the pages of one target. `resolve` turns labels as written into a series; None drops it.

    What it raises (PageError) fails the page.
    """

    def __init__(self, resolve: Callable[[dict[str, str]], Series | None], *, honor_timestamps: bool = True) -> None:
        self._resolve = resolve
        self._honor_timestamps = honor_timestamps
        self._lines: list[bytes] = []
        self._values: FloatArray = np.empty(0)
        self._plan: _Plan | None = None
        self._known: dict[bytes, Entry] = {}
        self._metadata: dict[str, dict[str, str]] = {}

    @property
    def metadata(self) -> Mapping[str, Mapping[str, str]]:
        """HELP, TYPE and UNIT by metric, as of the last page."""
        return self._metadata

    @property
    def known_bytes(self) -> int:
        """About how much memory the last page takes here."""
        return sum(map(len, self._lines)) + 200 * len(self._known)

    def read(self, body: bytes, form: Format) -> Page:
        """Read one page; PageError where it cannot be used, and then the page before stays the one to compare with."""
        lines = body.split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        plan = self._plan
        if plan is not None and plan.form == form and len(lines) == len(self._lines):
            values = self._values_only(lines, plan)
            if values is not None:
                self._lines, self._values = lines, values
                return Page(plan.entries, values[plan.rows], [], plan.scraped, plan.kept, 0, True)
        return self._whole(lines, form)

    def _values_only(self, lines: list[bytes], plan: _Plan) -> FloatArray | None:
        """The values by line, or None where more than numbers has changed."""
        rows, found = [], []
        prefixes = plan.prefixes
        for row, (line, before) in enumerate(zip(lines, self._lines, strict=True)):
            if line != before:
                prefix = prefixes[row]
                value = None if prefix is None else _last_word(line, prefix)
                if value is None and (value := _odd(line, prefix, plan.odd.get(row), plan.form)) is None:
                    return None
                rows.append(row)
                found.append(value)
        if not rows:
            return self._values
        values = self._values.copy()
        values[rows] = found
        return values

    def _whole(self, lines: list[bytes], form: Format) -> Page:
        """Look every line up, and parse the unknown ones."""
        work = _Work(self._known, self._resolve, form, self._honor_timestamps)
        ended = False
        for number, line in enumerate(lines, start=1):
            try:
                if ended:
                    raise FormatError("there is something after # EOF")
                ended = work.line(line)
            except (FormatError, PageError) as error:
                raise PageError(f"line {number}: {error}", work.scraped, work.kept) from None
        if form == "openmetrics" and not ended:
            raise PageError("the page does not end with # EOF", work.scraped, work.kept)
        self._lines, self._known, self._metadata = lines, work.used, work.metadata
        self._values = np.array(work.values)
        rows = np.array(work.rows, np.int64)
        scheme = _Plan(form, work.prefixes, work.odd, rows, work.entries, work.scraped, work.kept)
        self._plan = None if work.timed_lines else scheme
        return Page(work.entries, self._values[rows], work.timed, work.scraped, work.kept, work.added, False)


def _last_word(line: bytes, prefix: bytes) -> float | None:
    """The plain number that follows the prefix and ends the line; None where there is anything else."""
    if not line.startswith(prefix):
        return None
    token = line[len(prefix) :]
    if token.strip(_DIGITS):
        return None
    try:
        value = float(token)
    except ValueError:
        return None
    return value if -_LARGEST <= value <= _LARGEST else None


def _odd(line: bytes, prefix: bytes | None, series: bytes | None, form: Format) -> float | None:
    """The value of a line that ends in NaN, Inf or an exemplar, where its series is the expected one."""
    if prefix is None and series is None:
        return None
    try:
        found = sample(line, form)
    except FormatError:
        return None  # reading the whole page will find it again and say where
    known = found.series == series if prefix is None else found.alone and line[: found.value_at] == prefix
    return found.value if known and found.t_ms is None else None


class _Work:
    """Reading one page line by line."""

    def __init__(
        self,
        known: Mapping[bytes, Entry],
        resolve: Callable[[dict[str, str]], Series | None],
        form: Format,
        honor_timestamps: bool,
    ) -> None:
        self._known = known
        self._resolve = resolve
        self._form = form
        self._honor_timestamps = honor_timestamps
        self.used: dict[bytes, Entry] = {}
        self.prefixes: list[bytes | None] = []
        self.odd: dict[int, bytes] = {}
        self.values: list[float] = []
        self.rows: list[int] = []
        self.entries: list[Entry] = []
        self.timed: list[Timed] = []
        self.metadata: dict[str, dict[str, str]] = {}
        self.scraped = self.kept = self.added = 0
        self.timed_lines = False

    def line(self, line: bytes) -> bool:
        """Take one line in; True where it is the end mark."""
        prefix = line[: line.rfind(b" ") + 1]
        entry = self._known.get(prefix)
        if entry is not None:
            value = _last_word(line, prefix)
            if value is not None:
                self.scraped += 1
                self._take(prefix, entry, prefix, value)
                return False
        if not line.strip(b" \t"):
            if self._form == "openmetrics":
                raise FormatError("an empty line")
            self._other()
        elif line.lstrip(b" \t").startswith(b"#"):
            self._other()
            if self._form == "openmetrics" and line == b"# EOF":
                return True
            found = meta(line, self._form)
            if found is not None:
                self._note(found)
        else:
            self._parse(line)
        return False

    def _parse(self, line: bytes) -> None:
        found = sample(line, self._form)
        # A sample that does not end its line is known by its series, which no prefix equals: those end with a blank.
        bare = found.series.rstrip(b" \t")
        prefix = line[: found.value_at] if found.alone else None
        key, other = (bare, bare + b" ") if prefix is None else (prefix, bare)
        entry = self.used.get(key) or self._known.get(key) or self._known.get(other)
        if entry is None:
            written = labels(found.series, self._form)
            self.scraped += 1
            entry = Entry(self._resolve(written))
            self.added += entry.series is not None
        else:
            self.scraped += 1
        if found.t_ms is not None and self._honor_timestamps:
            self._take_timed(key, entry, found.t_ms, found.value)
            return
        if found.t_ms is not None:
            self.timed_lines = True
        elif prefix is None:
            self.odd[len(self.values)] = found.series
        self._take(key, entry, prefix, found.value)

    def _take(self, key: bytes, entry: Entry, prefix: bytes | None, value: float) -> None:
        self.used[key] = entry
        if entry.series is not None:
            self.kept += 1
            self.rows.append(len(self.values))
            self.entries.append(entry)
        self.prefixes.append(prefix)
        self.values.append(value)

    def _take_timed(self, key: bytes, entry: Entry, t_ms: int, value: float) -> None:
        self.used[key] = entry
        if entry.series is not None:
            self.kept += 1
            self.timed.append(Timed(entry.series, t_ms, value))
        self.timed_lines = True
        self._other()

    def _other(self) -> None:
        """A line without a sample for the frame."""
        self.prefixes.append(None)
        self.values.append(np.nan)

    def _note(self, found: Meta) -> None:
        of_metric = self.metadata.get(found.name)
        if of_metric is None:
            if len(self.metadata) >= MOST_METADATA:
                return
            of_metric = self.metadata[found.name] = {}
        of_metric[found.what] = found.text[:MOST_HELP]
