"""From tokens to the syntax tree: recursive descent, with Prometheus's grammar and its words for mistakes."""

from __future__ import annotations

import math
import re
from typing import Literal

from query.errors import QueryError
from query.labels import NAME
from query.lexer import AGGREGATORS, RESERVED, Token, tokens, unquoted, wrong
from query.matchers import Matcher, full_regex
from query.signatures import SIGNATURES, WITH_PARAMETER
from query.syntax import (
    AggregateTree,
    BinaryTree,
    CallTree,
    Length,
    LengthTree,
    MatchTree,
    NumberTree,
    ParenTree,
    RangeTree,
    SelectorTree,
    StringTree,
    SubqueryTree,
    Tree,
    UnaryTree,
)

_LEVELS = (
    ("or",),
    ("and", "unless"),
    ("==", "!=", ">", "<", ">=", "<="),
    ("+", "-"),
    ("*", "/", "%", "atan2"),
    ("^",),
)
PRECEDENCE = {operator: level for level, operators in enumerate(_LEVELS, 1) for operator in operators}
_SIGN = PRECEDENCE["*"]  # what a sign binds as strongly as
_UNITS_S = {"y": 31_536_000, "w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1, "ms": 0.001}
_PART = re.compile(r"(\d+)(ms|[ywdhms])")
_LONGEST_S = 200 * 365 * 86_400  # keeps times in milliseconds far from the ends of int64


class Parser:
    """Reads one expression; QueryError(bad_data) names line and column of the first mistake."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._position = 0

    def whole(self) -> Tree:
        """The tree of the whole text."""
        if self._now.kind == "end":
            raise wrong(self._text, 0, "no expression found in input")
        tree = self._expression(1)
        if self._now.kind != "end":
            raise self._unexpected()
        return tree

    # Tokens

    @property
    def _now(self) -> Token:
        return self._tokens[self._position]

    @property
    def _after(self) -> Token:
        return self._tokens[min(self._position + 1, len(self._tokens) - 1)]

    def _take(self) -> Token:
        token = self._now
        self._position += 1
        return token

    def _taken(self, kind: str) -> bool:
        if self._now.kind == kind:
            self._position += 1
            return True
        return False

    def _unexpected(self, where: str = "", wanted: str = "") -> QueryError:
        message = f"unexpected {self._now.described()}"
        if where:
            message += f" in {where}"
        if wanted:
            message += f", expected {wanted}"
        return wrong(self._text, self._now.start, message)

    def _need(self, kind: str, where: str, wanted: str) -> Token:
        if self._now.kind != kind:
            raise self._unexpected(where, wanted)
        return self._take()

    # Operators

    def _expression(self, least: int) -> Tree:
        left = self._signed()
        while self._now.kind == "operator":
            operator = self._now.word if self._now.text[0].isalpha() else self._now.text
            level = PRECEDENCE.get(operator, 0)
            if level < least:
                break
            at = self._take().start
            match = self._match()
            right = self._expression(level if operator == "^" else level + 1)
            left = BinaryTree(operator, left, right, at, match, start=left.start, end=right.end)
        return left

    def _signed(self) -> Tree:
        if self._now.kind != "operator" or self._now.text not in "+-":
            return self._suffixed(self._primary())
        signs = [self._take()]
        while self._now.kind == "operator" and self._now.text in "+-":
            signs.append(self._take())
        tree = self._expression(_SIGN + 1)
        for sign in reversed(signs):
            if isinstance(tree, NumberTree):
                value = -tree.value if sign.text == "-" else tree.value
                tree = NumberTree(value, tree.duration, start=sign.start, end=tree.end)
            else:
                tree = UnaryTree(sign.text, tree, start=sign.start, end=tree.end)
        return tree

    def _match(self) -> MatchTree:
        match = MatchTree()
        if self._now.word == "bool":
            self._take()
            match.return_bool = True
        if self._now.word in ("on", "ignoring"):
            match.on = self._take().word == "on"
            match.labels = self._grouping()
            if self._now.word in ("group_left", "group_right"):
                match.group = "left" if self._take().word == "group_left" else "right"
                match.include = self._grouping() if self._now.kind == "(" else ()
        while self._now.word in ("fill", "fill_left", "fill_right") and self._after.kind == "(":
            word = self._take().word
            self._take()
            value = self._number()
            self._need(")", "fill modifier", '")"')
            if word in ("fill", "fill_left"):
                match.fill_left = value
            if word in ("fill", "fill_right"):
                match.fill_right = value
        return match

    def _grouping(self) -> tuple[str, ...]:
        self._need("(", "grouping opts", '"("')
        labels: list[str] = []
        while not self._taken(")"):
            if labels:
                self._need(",", "grouping opts", '"," or ")"')
                if self._taken(")"):
                    break
            if self._now.kind == "string":
                labels.append(unquoted(self._text, self._take()))
            elif self._now.kind in ("word", "operator") and self._now.word:
                if ":" in self._now.text:
                    raise wrong(self._text, self._now.start, f'invalid label name for grouping: "{self._now.text}"')
                labels.append(self._take().text)
            else:
                raise self._unexpected("grouping opts", "label")
        return tuple(labels)

    def _number(self) -> float:
        sign = 1.0
        if self._now.kind == "operator" and self._now.text in "+-":
            sign = -1.0 if self._take().text == "-" else 1.0
        if self._now.kind not in ("number", "duration"):
            raise self._unexpected()
        return sign * self._value(self._take())

    def _value(self, token: Token) -> float:
        return self._seconds(token) if token.kind == "duration" else number(token.text)

    def _seconds(self, token: Token) -> float:
        """A duration literal; its units come in order, each once."""
        parts = _PART.findall(token.text)
        units = list(_UNITS_S)
        order = [units.index(unit) for _, unit in parts]
        if order != sorted(set(order)):
            raise wrong(self._text, token.start, f'not a valid duration string: "{token.text}"')
        total = sum(int(count) * round(_UNITS_S[unit] * 1000) for count, unit in parts)
        if total > _LONGEST_S * 1000:
            raise wrong(self._text, token.start, "duration out of range")
        return total / 1000

    # What stands by itself

    def _primary(self) -> Tree:
        token = self._now
        if token.kind in ("number", "duration"):
            self._take()
            return NumberTree(self._value(token), token.kind == "duration", start=token.start, end=token.end)
        if token.kind == "string":
            self._take()
            return StringTree(unquoted(self._text, token), start=token.start, end=token.end)
        if token.kind == "(":
            self._take()
            inner = self._expression(1)
            close = self._need(")", "", "")
            return ParenTree(inner, start=token.start, end=close.end)
        if token.kind == "{":
            return self._selector("", token)
        if token.kind == "word" or (token.kind == "operator" and token.word in ("and", "or", "unless")):
            return self._named()
        raise self._unexpected()

    def _named(self) -> Tree:
        token = self._now
        word = token.word
        if word in AGGREGATORS and (self._after.kind == "(" or self._after.word in ("by", "without")):
            return self._aggregate()
        if self._after.kind == "(" and token.kind == "word" and word not in RESERVED:
            return self._call()
        if word in RESERVED:
            raise self._unexpected()
        self._take()
        return self._selector(token.text, token)

    def _aggregate(self) -> Tree:
        operator = self._take()
        labels: tuple[str, ...] = ()
        without = grouped = False
        if self._now.word in ("by", "without"):
            without, grouped = self._take().word == "without", True
            labels = self._grouping()
        if self._now.kind != "(":
            raise self._unexpected("aggregation")
        arguments, end = self._arguments()
        if not grouped and self._now.word in ("by", "without"):
            without = self._take().word == "without"
            labels = self._grouping()
            end = self._tokens[self._position - 1].end
        wanted = 2 if operator.word in WITH_PARAMETER else 1
        if not arguments:
            raise wrong(self._text, operator.start, "no arguments for aggregate expression provided")
        if len(arguments) != wanted:
            raise wrong(
                self._text,
                operator.start,
                f"wrong number of arguments for aggregate expression provided, expected {wanted}, got {len(arguments)}",
            )
        parameter = arguments[0] if wanted == 2 else None
        return AggregateTree(operator.word, arguments[-1], parameter, labels, without, start=operator.start, end=end)

    def _call(self) -> Tree:
        name = self._take()
        function = name.text if name.text in SIGNATURES else name.word
        if name.text not in SIGNATURES and name.word not in ("start", "end", "step", "range", "max_of", "min_of"):
            if ":" in name.text:
                raise self._unexpected()
            raise wrong(self._text, name.start, f'unknown function with name "{name.text}"')
        arguments, end = self._arguments()
        return CallTree(function, arguments, start=name.start, end=end)

    def _arguments(self) -> tuple[tuple[Tree, ...], int]:
        self._take()
        arguments: list[Tree] = []
        if self._now.kind == ")":
            return (), self._take().end
        while True:
            arguments.append(self._expression(1))
            if self._now.kind == ")":
                return tuple(arguments), self._take().end
            comma = self._need(",", "", "")
            if self._now.kind == ")":
                raise wrong(self._text, comma.start, "trailing commas not allowed in function call args")

    # Selectors

    def _selector(self, name: str, first: Token) -> SelectorTree:
        matchers: list[Matcher] = []
        end = first.end
        if self._now.kind == "{":
            matchers, end = self._matchers()
        if name:
            matchers.append(Matcher(NAME, "=", name))
        return SelectorTree(name, tuple(matchers), start=first.start, end=end)

    def _matchers(self) -> tuple[list[Matcher], int]:
        self._take()
        matchers: list[Matcher] = []
        while self._now.kind != "}":
            if matchers:
                self._need(",", "label matching", '"," or "}"')
                if self._now.kind == "}":
                    break
            matchers.append(self._matcher())
        return matchers, self._take().end

    def _matcher(self) -> Matcher:
        token = self._now
        if token.kind not in ("word", "string"):
            raise self._unexpected("label matching", 'identifier or "}"')
        self._take()
        name = unquoted(self._text, token) if token.kind == "string" else token.text
        if self._now.kind != "operator":
            if token.kind == "string":
                return Matcher(NAME, "=", name)
            raise self._unexpected("label matching", "label matching operator")
        operator = self._take()
        value = unquoted(self._text, self._need("string", "label matching", "string"))
        matcher = Matcher(name, operator.text, value)
        if matcher.op in ("=~", "!~"):
            try:
                full_regex(value)
            except QueryError as error:
                raise wrong(self._text, token.start, str(error)) from None
        return matcher

    # What may follow: [range], [range:step], offset, @, anchored, smoothed

    def _suffixed(self, tree: Tree) -> Tree:
        while True:
            if self._now.kind == "[":
                tree = self._bracket(tree)
            elif self._now.word == "offset" and self._now.kind == "word":
                self._offset(tree)
            elif self._now.kind == "@":
                self._at(tree)
            elif self._now.word in ("anchored", "smoothed") and self._now.kind == "word":
                self._extended(tree)
            else:
                return tree
            tree.end = self._tokens[self._position - 1].end

    def _bracket(self, tree: Tree) -> Tree:
        opening = self._take()
        if self._now.kind in ("]", ":", "end"):
            raise self._unexpected("subquery or range selector", "number, duration, step(), or range()")
        length = self._positive()
        if self._taken("]"):
            problem = ""
            if not isinstance(tree, SelectorTree):
                problem = "ranges only allowed for vector selectors"
            elif tree.has_offset:
                problem = "no offset modifiers allowed before range"
            elif tree.at is not None:
                problem = "no @ modifiers allowed before range"
            if problem or not isinstance(tree, SelectorTree):
                raise wrong(self._text, opening.start, problem)
            return RangeTree(tree, length, start=tree.start, end=tree.end)
        self._need(":", "subquery or range", '":" or "]"')
        step = None
        if self._now.kind != "]":
            step = self._positive()
        self._need("]", "subquery selector", '"]"')
        return SubqueryTree(tree, length, step, start=tree.start, end=tree.end)

    def _shiftable(self, tree: Tree, what: str) -> SelectorTree | SubqueryTree:
        if isinstance(tree, RangeTree):
            return tree.selector
        if isinstance(tree, SelectorTree | SubqueryTree):
            return tree
        raise wrong(
            self._text,
            tree.start,
            f"{what} modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        )

    def _offset(self, tree: Tree) -> None:
        self._take()
        sign = 1
        if self._now.kind == "operator" and self._now.text in "+-":
            sign = -1 if self._take().text == "-" else 1
        if self._now.kind not in ("number", "duration", "(") and self._now.word not in _LENGTH_WORDS:
            raise self._unexpected("offset", "number, duration, step(), or range()")
        length = self._length_primary()
        if sign < 0:
            length = LengthTree("-", None, length, start=length.start, end=length.end)
        shifted = self._shiftable(tree, "offset")
        if shifted.has_offset and shifted.offset != 0:
            raise wrong(self._text, tree.start, "offset may not be set multiple times")
        shifted.offset, shifted.has_offset = self._length(length), True

    def _at(self, tree: Tree) -> None:
        self._take()
        at: int | Literal["start", "end"]
        if self._now.word in ("start", "end") and self._after.kind == "(":
            at = "start" if self._take().word == "start" else "end"
            self._take()
            self._need(")", "@", "timestamp")
        else:
            sign = 1.0
            if self._now.kind == "operator" and self._now.text in "+-":
                sign = -1.0 if self._take().text == "-" else 1.0
            if self._now.kind not in ("number", "duration"):
                raise self._unexpected("@", "timestamp")
            seconds = sign * self._value(self._take())
            if not math.isfinite(seconds) or abs(seconds) >= 2**63 / 1000:
                shown = {math.inf: "+Inf", -math.inf: "-Inf"}.get(seconds, f"{seconds:f}".replace("nan", "NaN"))
                raise wrong(self._text, tree.start, f"timestamp out of bounds for @ modifier: {shown}")
            at = _half_away(seconds * 1000)
        shifted = self._shiftable(tree, "@")
        if shifted.at is not None:
            raise wrong(self._text, tree.start, "@ <timestamp> may not be set multiple times")
        shifted.at = at

    def _extended(self, tree: Tree) -> None:
        word = self._take().word
        if isinstance(tree, SubqueryTree):
            raise wrong(self._text, tree.start, f"{word} modifier is not supported for subqueries")
        selector = tree.selector if isinstance(tree, RangeTree) else tree
        if not isinstance(selector, SelectorTree):
            raise wrong(self._text, tree.start, f"{word} modifier not implemented")
        if selector.extended:
            raise wrong(self._text, tree.start, "anchored and smoothed modifiers cannot be used together")
        selector.extended = "anchored" if word == "anchored" else "smoothed"

    # Durations

    def _positive(self) -> Length:
        begin = self._now
        length = self._length(self._length_expression(1))
        if isinstance(length, int) and length <= 0:
            raise wrong(self._text, begin.start, "duration must be greater than 0")
        return length

    def _length(self, tree: Tree) -> Length:
        """Milliseconds where the duration is already known."""
        if isinstance(tree, NumberTree):
            return _half_away(tree.value * 1000)
        if isinstance(tree, LengthTree) and tree.operator == "-" and tree.left is None:
            inner = self._length(tree.right) if tree.right is not None else 0
            return -inner if isinstance(inner, int) else tree
        return tree

    def _length_expression(self, least: int) -> Tree:
        if self._now.kind == "operator" and self._now.text in "+-":
            sign = self._take()
            inner = self._length_expression(_SIGN + 1)
            left: Tree = LengthTree(sign.text, None, inner, start=sign.start, end=inner.end)
        else:
            left = self._length_primary()
        while self._now.kind == "operator" and self._now.text in "+-*/%^":
            operator = self._now.text
            level = PRECEDENCE[operator]
            if level < least:
                break
            at = self._take().start
            right = self._length_expression(level if operator == "^" else level + 1)
            if operator in "/%" and isinstance(right, NumberTree) and right.value == 0:
                raise wrong(self._text, at, "division by zero" if operator == "/" else "modulo by zero")
            left = LengthTree(operator, left, right, start=left.start, end=right.end)
        return left

    def _length_primary(self) -> Tree:
        token = self._now
        if token.kind in ("number", "duration"):
            self._take()
            value = self._value(token)
            if not abs(value) <= _LONGEST_S:
                raise wrong(self._text, token.start, "duration out of range")
            return NumberTree(value, token.kind == "duration", start=token.start, end=token.end)
        if token.kind == "(":
            self._take()
            inner = self._length_expression(1)
            close = self._need(")", "", "")
            return LengthTree("()", None, inner, start=token.start, end=close.end)
        if token.word in _LENGTH_WORDS:
            self._take()
            self._need("(", "subquery or range selector", "number, duration, step(), or range()")
            first = second = None
            if token.word in ("min_of", "max_of"):
                first = self._length_expression(1)
                self._need(",", "", "")
                second = self._length_expression(1)
            close = self._need(")", "", "")
            return LengthTree(token.word, first, second, start=token.start, end=close.end)
        raise self._unexpected("subquery or range selector", "number, duration, step(), or range()")


_LENGTH_WORDS = ("step", "range", "min_of", "max_of")


def number(text: str) -> float:
    """A number as Go reads it: decimal, 0x..., octal with a leading 0, Inf, NaN; underscores between digits."""
    plain = text.replace("_", "").lower()
    if plain.startswith("0x"):
        return float(int(plain, 16))
    if len(plain) > 1 and plain[0] == "0" and plain.isdigit() and not set(plain) & {"8", "9"}:
        return float(int(plain, 8))
    return float(plain)


def _half_away(value: float) -> int:
    """Round to the nearest whole number, halves away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))
