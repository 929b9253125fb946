"""The parser, its shortcut between pages, and relabelling."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.scrape.grammar import FormatError, labels, meta, sample
from collectors.scrape.options import RelabelOptions
from collectors.scrape.page import Page, PageError, PageReader
from collectors.scrape.quantities import seconds, size_bytes
from collectors.scrape.relabel import Relabelling
from collectors.scrape.targets import duration, host_port
from metrics.errors import ConfigError
from metrics.series import Series, make_labels


def resolve(written: dict[str, str]) -> Series | None:
    inner = dict(written)
    return Series(inner.pop("__name__"), make_labels(inner))


def read(reader: PageReader, body: bytes, form: Any = "text") -> dict[str, float]:
    page = reader.read(body, form)
    return values(page)


def values(page: Page) -> dict[str, float]:
    found: dict[str, float] = {}
    for entry, value in zip(page.entries, page.values.tolist(), strict=True):
        found.setdefault(str(entry.series), value)
    return found


@pytest.mark.parametrize(
    ("line", "name", "value", "t_ms"),
    [
        (b"a 1", {"__name__": "a"}, 1.0, None),
        (b" \ta \t1.5e3\t1234 ", {"__name__": "a"}, 1500.0, 1234),
        (b'a{ b = "c" , } 1', {"__name__": "a", "b": "c"}, 1.0, None),
        (b'a{b="\\\\ \\" \\n \\d {}"}1', {"__name__": "a", "b": '\\ " \n \\d {}'}, 1.0, None),
        (b'{"my.metric","a b"="\xc3\xa9"} -Inf', {"__name__": "my.metric", "a b": "é"}, -math.inf, None),
        (b"a:b_c +infinity", {"__name__": "a:b_c"}, math.inf, None),
    ],
)
def test_lines_of_the_text_format(line: bytes, name: dict[str, str], value: float, t_ms: int | None) -> None:
    found = sample(line, "text")
    assert (labels(found.series, "text"), found.value, found.t_ms) == (name, value, t_ms)


@pytest.mark.parametrize(
    "line", [b"a", b"a1", b"a{", b'a{b="c} 1', b"a 1 2 3", b"a 0x1p3", b"1a 2", b"a +NaN", b"a 1 1.5"]
)
def test_lines_that_are_none_in_the_text_format(line: bytes) -> None:
    with pytest.raises(FormatError):
        labels(sample(line, "text").series, "text")


@pytest.mark.parametrize(
    "line", [b"a  1", b" a 1", b'a {b="c"} 1', b'a{b="c",} 1', b"a 1 NaN", b"a 1 ", b'a 1 # {b="c"}', b"a 1 # {b} 2"]
)
def test_openmetrics_is_stricter(line: bytes) -> None:
    with pytest.raises(FormatError):
        labels(sample(line, "openmetrics").series, "openmetrics")


def test_openmetrics_lines() -> None:
    found = sample(b'a_bucket{le="1.0"} 3 12.5 # {id="x"} 0.7 11.9', "openmetrics")
    assert (found.value, found.t_ms, found.alone) == (3.0, 12_500, False)


def test_metadata_is_unescaped_and_checked() -> None:
    found = meta(b"# HELP a line\\nbreak \\\\ ", "text")
    assert found is not None
    assert found.text == "line\nbreak \\ "
    assert meta(b"# just words", "text") is None
    assert meta(b"#HELP a b", "text") is None
    with pytest.raises(FormatError, match="suffix"):
        meta(b"# UNIT a seconds", "openmetrics")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                b"a",
                b" ",
                b"{",
                b"}",
                b'"',
                b"\\",
                b"=",
                b",",
                b"#",
                b"1",
                b".",
                b"\xff",
                b"\n",
                b"\t",
                b"# TYPE a ",
                b"e",
            ]
        ),
        max_size=40,
    ),
    st.sampled_from(["text", "openmetrics"]),
)
def test_any_bytes_are_read_or_refused_in_words(parts: list[bytes], form: Any) -> None:
    reader = PageReader(resolve)
    for _ in range(2):
        try:
            page = reader.read(b"".join(parts), form)
        except PageError:
            continue
        assert page.scraped >= len(page.entries)


NAMES = st.from_regex(r"\A[a-zA-Z_:][a-zA-Z0-9_:]{0,8}\Z")
LABELS = st.dictionaries(
    st.from_regex(r"\A[a-zA-Z_][a-zA-Z0-9_]{0,6}\Z"),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12),
    max_size=4,
)
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


def written(name: str, pairs: dict[str, str], value: float) -> str:
    def escape(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    inner = ",".join(f'{key}="{escape(text)}"' for key, text in pairs.items())
    shown = "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf") if math.isinf(value) else repr(value)
    return f"{name}{{{inner}}} {shown}"


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(NAMES, LABELS), min_size=1, max_size=6, unique_by=lambda one: (one[0], tuple(sorted(one[1].items())))
    ),
    st.data(),
)
def test_a_reader_that_knows_the_page_before_reads_what_a_fresh_one_reads(
    series: list[tuple[str, dict[str, str]]], data: st.DataObject
) -> None:
    warm = PageReader(resolve)
    form = data.draw(st.sampled_from(["text", "openmetrics"]))
    for _ in range(4):
        here = data.draw(st.permutations(series)) if data.draw(st.booleans()) else series
        here = here[: data.draw(st.integers(1, len(here)))]
        lines = [written(name, pairs, data.draw(NUMBERS)) for name, pairs in here]
        if form == "openmetrics":
            lines = [line + data.draw(st.sampled_from(["", "", ' # {id="a"} 1.5'])) for line in lines] + ["# EOF"]
        body = ("\n".join(lines) + "\n").encode()
        fresh = PageReader(resolve)
        one, other = warm.read(body, form), fresh.read(body, form)
        assert [entry.series for entry in one.entries] == [entry.series for entry in other.entries]
        np.testing.assert_array_equal(one.values, other.values)
        assert (one.scraped, one.kept, len(one.timed)) == (other.scraped, other.kept, len(other.timed))
        for (name, pairs), entry in zip(here, one.entries, strict=True):
            assert entry.series == Series(name, make_labels(pairs))


@pytest.mark.parametrize("token", [b"1_0", b" 5", b"1e999", b"0x1", b"+NaN", b"", b"--1", b"1.2.3"])
def test_the_shortcut_accepts_no_number_that_the_grammar_refuses(token: bytes) -> None:
    reader = PageReader(resolve)
    reader.read(b"a 1\nb 2\n", "text")
    if token == b" 5":  # white space is allowed there
        assert read(reader, b"a  5\nb 2\n")["a"] == 5
        return
    with pytest.raises(PageError, match="line 1"):
        reader.read(b"a " + token + b"\nb 2\n", "text")
    assert read(reader, b"a 7\nb 2\n") == {"a": 7, "b": 2}


def test_a_number_that_becomes_nan_or_gets_an_exemplar_is_still_known() -> None:
    reader = PageReader(resolve)
    first = reader.read(b'a 1\nb 2 # {x="1"} 1\n# EOF\n', "openmetrics")
    again = reader.read(b'a NaN\nb 3 # {x="2"} 4\n# EOF\n', "openmetrics")
    assert again.same
    assert again.entries is first.entries
    assert again.values[1] == 3
    third = reader.read(b'a 1 # {x="1"} 1\nb 4\n# EOF\n', "openmetrics")
    assert third.added == 0
    assert [entry.series for entry in third.entries] == [Series("a"), Series("b")]


@pytest.mark.parametrize(
    "line",
    [
        b"a" + b" " * 60_000 + b"{",
        b'a{b="' + b'\\"' * 30_000,
        b"a{" + b'b="c",' * 10_000,
        b"a" * 60_000,
        b"a 1" + b" " * 60_000 + b"x",
        b"# HELP a" + b" " * 60_000,
    ],
)
def test_no_line_takes_long(line: bytes) -> None:
    began = time.process_time()
    for form in ("text", "openmetrics"):
        try:
            PageReader(resolve).read(line, form)  # type: ignore[arg-type]
        except PageError:
            continue
    assert time.process_time() - began < 5  # quadratic time would be minutes


def relabelled(found: dict[str, str], *rules: dict[str, Any]) -> dict[str, str] | None:
    result = dict(found)
    steps = [RelabelOptions(**rule) for rule in rules]
    return result if Relabelling(steps).apply(result) else None


SET = {"__name__": "a_total", "job": "Desk", "host": "h1:9100", "meta_x": "1"}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"source_labels": ("job", "host"), "target_label": "new"}, {**SET, "new": "Desk;h1:9100"}),
        ({"source_labels": ("host",), "regex": "(.*):(?P<port>.*)", "replacement": "${1}-$port$$", "target_label": "new"}, {**SET, "new": "h1-9100$"}),
        ({"source_labels": ("host",), "regex": "h", "replacement": "x", "target_label": "new"}, SET),
        ({"source_labels": ("nothing",), "replacement": "", "target_label": "job"}, {k: v for k, v in SET.items() if k != "job"}),
        ({"source_labels": ("job",), "regex": "(.*)", "replacement": "1", "target_label": "l_$1"}, {**SET, "l_Desk": "1"}),
        ({"source_labels": ("job",), "replacement": "$1x", "target_label": "new"}, SET),
        ({"source_labels": ("job",), "action": "lowercase", "target_label": "job"}, {**SET, "job": "desk"}),
        ({"source_labels": ("job",), "action": "uppercase", "target_label": "job"}, {**SET, "job": "DESK"}),
        ({"source_labels": ("job",), "regex": "D.*", "action": "keep"}, SET),
        ({"source_labels": ("job",), "regex": "D", "action": "keep"}, None),
        ({"source_labels": ("job",), "regex": "D.*", "action": "drop"}, None),
        ({"source_labels": ("job",), "target_label": "meta_x", "action": "keepequal"}, None),
        ({"source_labels": ("job",), "target_label": "meta_x", "action": "dropequal"}, SET),
        ({"regex": "meta_(.*)", "action": "labelmap"}, {**SET, "x": "1"}),
        ({"regex": "meta_.*|host", "action": "labeldrop"}, {"__name__": "a_total", "job": "Desk"}),
        ({"regex": "__name__|job", "action": "labelkeep"}, {"__name__": "a_total", "job": "Desk"}),
        ({"source_labels": ("host",), "modulus": 8, "target_label": "shard", "action": "hashmod"}, {**SET, "shard": "4"}),
    ],
)  # fmt: skip
def test_relabelling_actions(rule: dict[str, Any], expected: dict[str, str] | None) -> None:
    assert relabelled(SET, rule) == expected


@pytest.mark.parametrize(
    "rule",
    [
        {"action": "replace"},
        {"action": "hashmod", "target_label": "a"},
        {"regex": "("},
        {"target_label": "a-b"},
        {"action": "labeldrop", "regex": "a", "target_label": "b"},
        {"action": "keepequal", "source_labels": ("a",), "target_label": "b", "regex": "c"},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"regex|modulus|target_label|action|label name"):
        RelabelOptions(**rule)


def test_quantities() -> None:
    assert [seconds(one) for one in ("15s", "1m30s", "500ms", "2", 3)] == [15, 90, 0.5, 2.0, 3]
    assert [size_bytes(one) for one in ("10MB", "1KiB", "5", 7)] == [10 << 20, 1024, 5, 7]
    assert [duration(one) for one in (1, 90, 0.5, 86_400)] == ["1s", "1m30s", "500ms", "1d"]
    for wrong in ("", "1x", "s"):
        with pytest.raises(ValueError, match="expected"):
            seconds(wrong)


def test_addresses() -> None:
    assert host_port("a:1", "http") == ("a", 1)
    assert host_port("a", "https") == ("a", 443)
    assert host_port("[::1]:9100", "http") == ("::1", 9100)
    for wrong in ("", "a:b", "a:0", "a:70000", "::1", "[::1", ":9"):
        with pytest.raises(ConfigError, match="host:port"):
            host_port(wrong, "http")
