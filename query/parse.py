"""From text to promql-parser's tree, with the limits that the parser itself lacks."""

from __future__ import annotations

import re
from typing import Any

import promql_parser

from query.errors import bad_data
from query.options import QueryOptions

# Strings (all three kinds of quotes) and comments, in which brackets and operators mean nothing.
_OPAQUE = re.compile(
    r'"(?:[^"\\]|\\.)*(?:"|\Z)' r"|'(?:[^'\\]|\\.)*(?:'|\Z)" r"|`[^`]*(?:`|\Z)" r"|\#[^\n]*", re.DOTALL
)
_BRACKET = re.compile(r"[()\[\]{}]")
_OPERATOR = re.compile(r"[-+*/%^<>=!]|\b(?:and|or|unless|atan2)\b", re.IGNORECASE)
_RAW_BYTE = re.compile(r"(?<!\\)(?:\\\\)*\\(?:x[89a-fA-F]|[2-3][0-7]{2})")
_NEGATIVE_AT = re.compile(r"@\s*[-+]")
_ZERO_OFFSET = re.compile(r"\boffset\s+-?0(?:ms|s|m|h|d|w|y)?(?![\w.])", re.IGNORECASE)


def parse(text: str, options: QueryOptions) -> Any:
    """Return the syntax tree of `text`; QueryError(bad_data) says what is wrong."""
    plain = _checked(text, options)
    try:
        return promql_parser.parse(_without_zero_offsets(text, plain))
    except ValueError as error:
        raise bad_data(f"parse error: {error}") from None
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # pyo3's PanicException is no Exception
        raise bad_data(f"parse error: the parser gave up on this expression ({type(error).__name__})") from None


def _checked(text: str, options: QueryOptions) -> str:
    """Check the limits; return the text with strings and comments blanked, of the same length."""
    size = len(text.encode("utf-8", errors="surrogatepass"))
    if size > options.max_expression_bytes:
        raise bad_data(f"expression of {size} bytes is longer than the limit of {options.max_expression_bytes}")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise bad_data("expression is not valid UTF-8")
    plain = _OPAQUE.sub(lambda match: " " * len(match.group()), text)
    if any(_RAW_BYTE.search(match.group()) for match in _OPAQUE.finditer(text) if match.group()[0] in "\"'"):
        # The parser reads them as Latin-1 characters, Prometheus as bytes of UTF-8.
        raise bad_data("parse error: escapes of bytes above 0x7f are not supported, write the character itself")
    deepest = depth = 0
    for match in _BRACKET.finditer(plain):
        depth += 1 if match.group() in "([{" else -1
        deepest = max(deepest, depth)
    if deepest > options.max_nesting:
        raise bad_data(f"expression is nested {deepest} deep, the limit is {options.max_nesting}")
    operators = sum(1 for _ in _OPERATOR.finditer(plain))
    if operators > options.max_operators:
        raise bad_data(f"expression has {operators} operators, the limit is {options.max_operators}")
    if _NEGATIVE_AT.search(plain):
        # The parser panics on these or reads them as zero, depending on its version.
        raise bad_data("parse error: @ takes a timestamp without sign; times before 1970 are not stored")
    return plain


def _without_zero_offsets(text: str, plain: str) -> str:
    """The parser refuses `offset 0s`, which Prometheus accepts and which means nothing."""
    for match in reversed(list(_ZERO_OFFSET.finditer(plain))):
        text = text[: match.start()] + " " * (match.end() - match.start()) + text[match.end() :]
    return text
