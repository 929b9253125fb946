"""Question: what an address of the History page asks for. The address is the one truth of the page."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args
from urllib.parse import parse_qsl, urlencode

from dashboard.history.vocabulary import expression_for
from dashboard.timerange import DEFAULT
from metrics.errors import DeskvigilError

MAX_QUERIES = 8
MAX_EXPRESSION = 8_192
MAX_SEARCH = 32_768
MAX_LINES = 4
LETTERS = string.ascii_uppercase[:MAX_QUERIES]
Compare = Literal["", "day", "week", "session"]
COMPARE_WORDS: dict[Compare, str] = {
    "day": "the day before",
    "week": "the week before",
    "session": "the session before",
}
USUAL = 'deskvigil_kpi_order_to_fill_seconds{quantile="0.99"}'


@dataclass(frozen=True, slots=True)
class Question:
    """Queries A, B, C, ... over one range.

    expressions: by letter; an empty one is a row that nobody has filled yet. hidden: letters that
    are not evaluated. preset, start, end: as `dashboard.timerange.time_range` reads them. marks:
    kinds of annotations that are switched off. follow: the newest range is asked again and again.
    lines: levels drawn across the first query's axis, in its own unit (an alert's threshold).
    """

    expressions: tuple[str, ...]
    preset: str = ""
    start: str = ""
    end: str = ""
    hidden: frozenset[str] = frozenset()
    compare: Compare = ""
    without: frozenset[str] = frozenset()
    follow: bool = False
    lines: tuple[float, ...] = ()

    @classmethod
    def from_search(cls, search: str) -> Question:
        """Read an address's query string; what is missing is as usual. Raises DeskvigilError where it is none.

        Addresses of the first version (`expr` once, `metric` and `labels`) mean what they meant.
        """
        if len(search) > MAX_SEARCH:
            raise DeskvigilError(f"the address is longer than {MAX_SEARCH} characters")
        try:
            pairs = parse_qsl(search.lstrip("?"), keep_blank_values=True, max_num_fields=60)
        except ValueError as error:
            raise DeskvigilError(f"the address has too many parts: {error}") from None
        one = dict(pairs)
        expressions = [value.strip() for name, value in pairs if name == "expr"]
        while expressions and not expressions[-1]:
            expressions.pop()
        if not expressions and one.get("metric", "").strip():
            expressions = [expression_for(one["metric"].strip(), one.get("labels", ""))]
        if len(expressions) > MAX_QUERIES:
            raise DeskvigilError(f"{len(expressions)} queries are asked, the limit is {MAX_QUERIES}")
        compare = one.get("compare", "")
        if compare not in ("", *get_args(Compare)):
            raise DeskvigilError(f"compare={compare!r} is not one of day, week, session")
        start, end = one.get("start", "").strip(), one.get("end", "").strip()
        return cls(
            expressions=tuple(expressions) or (USUAL,),
            preset="" if start or end else one.get("range", "").strip() or DEFAULT,
            start=start,
            end=end,
            hidden=frozenset(one.get("hide", "").upper()) & frozenset(LETTERS),
            compare=cast(Compare, compare),
            without=frozenset(filter(None, one.get("without", "").split(","))),
            follow=one.get("follow") == "1" and not end,
            lines=_lines([value for name, value in pairs if name == "line"]),
        )

    def to_search(self) -> str:
        """The query string that `from_search` reads back."""
        pairs: list[tuple[str, str]] = [("expr", expression) for expression in self.expressions]
        pairs += [("start", self.start), ("end", self.end)] if self.start or self.end else [("range", self.preset)]
        pairs += [
            ("hide", "".join(sorted(self.hidden))),
            ("compare", self.compare),
            ("without", ",".join(sorted(self.without))),
            ("follow", "1" if self.follow else ""),
            *(("line", f"{level:.12g}") for level in self.lines),
        ]
        return "?" + urlencode([(name, value) for name, value in pairs if value or name == "expr"])

    def asked(self) -> Sequence[tuple[str, str]]:
        """Letter and expression of what is to be evaluated."""
        rows = zip(LETTERS, self.expressions, strict=False)
        return [(letter, text) for letter, text in rows if text and letter not in self.hidden]


def _lines(texts: Sequence[str]) -> tuple[float, ...]:
    try:
        levels = tuple(float(text) for text in texts if text.strip())
    except ValueError:
        raise DeskvigilError(f"line={next(iter(texts))!r} is not a number") from None
    if len(levels) > MAX_LINES or not all(math.isfinite(level) for level in levels):
        raise DeskvigilError(f"line: at most {MAX_LINES} finite numbers")
    return levels
