"""From text to tokens, in one pass; its time is linear in the length of the text."""

from __future__ import annotations

import re
from typing import NamedTuple

from query.errors import QueryError, bad_data
from query.syntax import place

AGGREGATORS = frozenset(
    [
        "sum",
        "avg",
        "count",
        "min",
        "max",
        "group",
        "stddev",
        "stdvar",
        "topk",
        "bottomk",
        "count_values",
        "quantile",
        "limitk",
        "limit_ratio",
    ]
)
WORD_OPERATORS = frozenset(("and", "or", "unless", "atan2"))
KEYWORDS = frozenset(
    [
        "offset",
        "smoothed",
        "anchored",
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "fill",
        "fill_left",
        "fill_right",
        "bool",
        "start",
        "end",
        "step",
        "range",
        "max_of",
        "min_of",
    ]
)
# Keywords that cannot be a metric's name.
RESERVED = frozenset(("on", "ignoring", "group_left", "group_right", "bool", "atan2"))

_SPACE = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)+")
_NUMBER = re.compile(
    r"(?:0[xX]_?[0-9a-fA-F](?:_?[0-9a-fA-F])*|(?:\d(?:_?\d)*(?:\.(?:\d(?:_?\d)*)?)?|\.\d(?:_?\d)*)(?:[eE][+-]?\d(?:_?\d)*)?)(?![\w.])",
    re.ASCII,
)
_DURATION = re.compile(r"(?:\d+(?:ms|[smhdwy]))+(?!\w)", re.ASCII)
_WORD = re.compile(r"[A-Za-z_:][\w:]*", re.ASCII)
_LABEL = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_OPERATOR = re.compile(r"==|!=|=~|!~|<=|>=|[-+*/%^<>=]")
_QUOTED = {
    '"': re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    "'": re.compile(r"'(?:[^'\\\n]|\\.)*'"),
    "`": re.compile(r"`[^`]*`"),
}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL)
_SINGLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


class Token(NamedTuple):
    """kind: word, number, duration, string, operator (symbols and and/or/unless/atan2), end, or a bracket or comma itself."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def word(self) -> str:
        """The text in lower case, for keywords; "" of anything but a word."""
        return self.text.lower() if self.kind in ("word", "operator") else ""

    def described(self) -> str:
        """As Prometheus's error messages have it."""
        if self.kind == "end":
            return "end of input"
        if self.kind == "operator":
            return f"<op:{self.text}>"
        if self.kind == "word":
            if self.word in AGGREGATORS:
                return f"<aggr:{self.text}>"
            if self.word in KEYWORDS:
                return f"<{self.text}>"
            return f"{'metric identifier' if ':' in self.text else 'identifier'} {_go_quoted(self.text)}"
        shown = _go_quoted(self.text[:10]) + "..." if len(self.text) > 10 else _go_quoted(self.text)
        return f"{self.kind} {shown}" if self.kind in ("number", "duration", "string") else shown


def _go_quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def wrong(text: str, position: int, message: str) -> QueryError:
    """The error for a mistake at a position."""
    return bad_data(f"{place(text, position)}: parse error: {message}")


def tokens(text: str) -> list[Token]:
    """All tokens, the last of kind `end`; QueryError(bad_data) where a character fits nowhere."""
    found: list[Token] = []
    position, braces, brackets, parens = 0, False, False, 0
    while True:
        space = _SPACE.match(text, position)
        position = space.end() if space else position
        if position >= len(text):
            break
        token = _next(text, position, braces=braces, brackets=brackets)
        parens += {"(": 1, ")": -1}.get(token.kind, 0)
        if parens < 0:
            raise wrong(text, position, "unexpected right parenthesis ')'")
        if token.kind == "{":
            braces = True
        elif token.kind == "}":
            if not braces:
                raise wrong(text, position, "unexpected right brace '}'")
            braces = False
        elif token.kind == "[":
            if brackets:
                raise wrong(text, position, "unexpected left bracket '['")
            brackets = True
        elif token.kind == "]":
            if not brackets:
                raise wrong(text, position, "unexpected right bracket ']'")
            brackets = False
        found.append(token)
        position = token.end
    if braces:
        raise wrong(text, len(text), "unexpected end of input inside braces")
    if brackets:
        raise wrong(text, len(text), "unclosed left bracket")
    if parens:
        raise wrong(text, len(text), "unclosed left parenthesis")
    found.append(Token("end", "", len(text), len(text)))
    return found


def _next(text: str, position: int, *, braces: bool, brackets: bool) -> Token:
    char = text[position]
    if char in _QUOTED:
        match = _QUOTED[char].match(text, position)
        if match is None:
            kind = "raw" if char == "`" else "quoted"
            raise wrong(text, position, f"unterminated {kind} string")
        return Token("string", match.group(), position, match.end())
    if braces:
        return _in_braces(text, position, char)
    if char.isdigit() or (char == "." and text[position + 1 : position + 2].isdigit()):
        for kind, pattern in (("number", _NUMBER), ("duration", _DURATION)):
            match = pattern.match(text, position)
            if match is not None:
                return Token(kind, match.group(), position, match.end())
        until = re.compile(r"[\w.]+").match(text, position)
        shown = until.group() if until else char
        raise wrong(text, position, f"bad number or duration syntax: {_go_quoted(shown)}")
    if brackets and char == ":":
        return Token(":", ":", position, position + 1)
    match = (_LABEL if brackets else _WORD).match(text, position)
    if match is not None:
        word = match.group()
        kind = "word"
        if word.lower() in WORD_OPERATORS:
            kind = "operator"
        elif word.lower() in ("inf", "nan"):
            kind = "number"
        return Token(kind, word, position, match.end())
    if char in "()[]{},@":
        return Token(char, char, position, position + 1)
    match = _OPERATOR.match(text, position)
    if match is None or (match.group() == "=" and not brackets):
        if char in "=!":
            after = text[position + 1 : position + 2]
            raise wrong(text, position, f"unexpected character after '{char}': {_rune(after)}")
        where = " in duration expression" if brackets else ""
        raise wrong(text, position, f"unexpected character{where}: {_rune(char)}")
    return Token("operator", match.group(), position, match.end())


def _in_braces(text: str, position: int, char: str) -> Token:
    match = _LABEL.match(text, position)
    if match is not None:
        return Token("word", match.group(), position, match.end())
    if char in ",}":
        return Token(char, char, position, position + 1)
    if char == "{":
        raise wrong(text, position, "unexpected left brace '{'")
    match = re.compile(r"=~|!~|!=|=").match(text, position)
    if match is None:
        if char == "!":
            after = text[position + 1 : position + 2]
            raise wrong(text, position, f"unexpected character after '!' inside braces: {_rune(after)}")
        raise wrong(text, position, f"unexpected character inside braces: {_rune(char)}")
    return Token("operator", match.group(), position, match.end())


def _rune(char: str) -> str:
    return f"'{char}'" if char else "'\\x00'"


def unquoted(text: str, token: Token) -> str:
    """A string token's value, with Go's escapes; bytes that are no UTF-8 become U+FFFD."""
    raw, quote = token.text[1:-1], token.text[0]
    if quote == "`" or "\\" not in raw:
        return raw
    out, last = bytearray(), 0
    for match in _ESCAPE.finditer(raw):
        out += raw[last : match.start()].encode()
        last = match.end()
        byte, short, long, octal, single = match.groups()
        if byte or octal:
            number = int(byte, 16) if byte else int(octal, 8)
            if number > 255:
                raise wrong(text, token.start, "escape sequence is an invalid Unicode code point")
            out.append(number)
        elif short or long:
            number = int(short or long, 16)
            if number > 0x10FFFF or 0xD800 <= number < 0xE000:
                raise wrong(text, token.start, "escape sequence is an invalid Unicode code point")
            out += chr(number).encode()
        elif single in _SINGLE or single == quote:
            out += _SINGLE.get(single, single).encode()
        else:
            raise wrong(text, token.start, f"unknown escape sequence U+{ord(single):04X} '{single}'")
    out += raw[last:].encode()
    return out.decode(errors="replace")
