"""The policy file: Alertmanager's words for who is told, read strictly.

    route:
      receiver: desk
      routes:
        - {receiver: pager, matchers: [severity="emergency"], continue: true}
    receivers:
      - {name: desk, channels: [email]}
      - {name: pager, channels: [webhook], people: [ana], rotas: [primary]}

Where it differs from Alertmanager's: receivers name channels (configured under `alerts`) instead of holding
their settings, and the times' defaults are those of somebody who wants to know: no group_wait, half a minute
of group_interval.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from alerts.durations import parse_duration_s
from alerts.errors import PolicyError
from alerts.policy.inhibit import InhibitRule
from alerts.policy.intervals import TimeInterval, parse_interval
from alerts.policy.matchers import MAX_MATCHERS, Matcher, Matchers, parse_matchers
from alerts.policy.roster import Roster, parse
from alerts.policy.route import Route, path_of
from alerts.yaml_block import Block, YamlError, load_yaml
from metrics.errors import ConfigError

TOP = (
    "global", "route", "receivers", "inhibit_rules", "time_intervals", "mute_time_intervals",
    "people", "rotas", "escalations",
)  # fmt: skip
ROUTE = (
    "receiver", "matchers", "match", "match_re", "continue", "group_by", "group_wait", "group_interval",
    "repeat_interval", "mute_time_intervals", "active_time_intervals", "routes",
)  # fmt: skip
INHIBIT = (
    "source_matchers", "source_match", "source_match_re", "target_matchers", "target_match", "target_match_re", "equal",
)  # fmt: skip
RECEIVER = ("name", "channels", "people", "rotas")
GROUP_INTERVAL_MS = 30_000
RESOLVE_TIMEOUT_MS = 300_000
MAX_ROUTES = 2000
MAX_DEPTH = 32
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Receiver:
    """Whom a route leads to: channels as they are configured, people, and whoever has the duty of a rota."""

    name: str
    channels: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    rotas: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """What a policy file says. roster: its people, rotas and escalations."""

    route: Route
    receivers: Mapping[str, Receiver]
    inhibit_rules: tuple[InhibitRule, ...] = ()
    intervals: Mapping[str, tuple[TimeInterval, ...]] = field(default_factory=dict)
    resolve_timeout_ms: int = RESOLVE_TIMEOUT_MS
    roster: Roster = field(default_factory=Roster)
    text: str = ""


def default_policy(channels: Sequence[str], repeat_ms: int) -> PolicyFile:
    """What holds without a file: every channel is told of everything at once, each alert on its own."""
    return PolicyFile(Route("all", group_by=None, repeat_ms=repeat_ms), {"all": Receiver("all", tuple(channels))})


def load_policy(path: Path, channels: Collection[str], repeat_ms: int) -> PolicyFile:
    """Read a policy file. channels: the configured ones. repeat_ms: repeat_interval where the file names none."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PolicyError(f"{path}: is not UTF-8 text") from None
    return parse_policy(text, str(path), channels, repeat_ms)


def parse_policy(text: str, file: str, channels: Collection[str], repeat_ms: int) -> PolicyFile:
    """Read a policy from text; PolicyError names file and line. `file` is the name that messages give."""
    try:
        document = load_yaml(text)
    except YamlError as error:
        raise PolicyError(f"{file}: {error}") from None
    except RecursionError:
        raise PolicyError(f"{file}: is nested too deeply") from None
    return _Reader(file, channels, repeat_ms).policy(document, text)


class _Reader:
    """One reading of one file: what its parts refer to is known here."""

    def __init__(self, file: str, channels: Collection[str], repeat_ms: int) -> None:
        self._file = file
        self._channels = channels
        self._repeat_ms = repeat_ms
        self._people: Collection[str] = ()
        self._rotas: Collection[str] = ()
        self._receivers: dict[str, Receiver] = {}
        self._intervals: dict[str, tuple[TimeInterval, ...]] = {}
        self._routes = 0

    def policy(self, document: Any, text: str) -> PolicyFile:
        top = Block() if document in (None, "") else self._block(document, "the file", 1)
        self._only(top, TOP)
        roster = self._roster(top)
        self._people, self._rotas = roster.people, roster.rotas
        for key in ("time_intervals", "mute_time_intervals"):
            for raw in self._list(top, key):
                self._interval(raw, self._line(top, key))
        for raw in self._list(top, "receivers"):
            self._receiver(raw, self._line(top, "receivers"))
        root = self._root_of(top)
        rules = tuple(self._inhibit(raw, self._line(top, "inhibit_rules")) for raw in self._list(top, "inhibit_rules"))
        timeout_ms = self._global(top)
        return PolicyFile(root, self._receivers, rules, self._intervals, timeout_ms, roster, text)

    def _root_of(self, top: Block) -> Route:
        """The file's routes; one that says only who there is and how it escalates leaves the rest as it is without it."""
        if "route" in top:
            return self._root(top["route"], self._line(top, "route"))
        if self._receivers:
            raise self._wrong(1, "there is no route: nobody would be told of anything")
        usual = default_policy(tuple(self._channels), self._repeat_ms)
        self._receivers.update(usual.receivers)
        return usual.route

    def _roster(self, top: Block) -> Roster:
        try:
            roster = parse(top, self._file)
            roster.check(self._channels, self._file)
        except ConfigError as error:
            raise PolicyError(str(error)) from None
        return roster

    def _global(self, top: Block) -> int:
        if not top.get("global"):
            return RESOLVE_TIMEOUT_MS
        block = self._block(top["global"], "global", self._line(top, "global"))
        self._only(block, ("resolve_timeout",))
        timeout_ms = self._duration(block, "resolve_timeout", RESOLVE_TIMEOUT_MS)
        if timeout_ms <= 0:
            raise self._wrong(self._line(block, "resolve_timeout"), "resolve_timeout must be longer than 0")
        return timeout_ms

    def _receiver(self, raw: Any, line: int) -> None:
        block = self._block(raw, "a receiver", line)
        for key in block:
            if key.endswith("_configs"):
                raise self._wrong(
                    self._line(block, key),
                    f"{key}: channels are configured under `alerts` in the settings; name them here: "
                    "channels: [email, webhook]",
                )
        self._only(block, RECEIVER)
        name = self._text(block, "name")
        if name in self._receivers:
            raise self._wrong(block.line, f"receiver {name!r} is there twice")
        known = {"channels": self._channels, "people": self._people, "rotas": self._rotas}
        parts = {key: self._references(block, key, names) for key, names in known.items()}
        self._receivers[name] = Receiver(name, parts["channels"], parts["people"], parts["rotas"])

    def _references(self, block: Block, key: str, known: Collection[str]) -> tuple[str, ...]:
        names = self._texts(block, key)
        for name in names:
            if name not in known:
                there = ", ".join(sorted(known)) or "none"
                raise self._wrong(self._line(block, key), f"{key}: there is no {name!r}; there are: {there}")
        return names

    def _interval(self, raw: Any, line: int) -> None:
        block = self._block(raw, "a time interval", line)
        self._only(block, ("name", "time_intervals"))
        name = self._text(block, "name")
        if name in self._intervals:
            raise self._wrong(block.line, f"time interval {name!r} is there twice")
        found = []
        for one in self._list(block, "time_intervals"):
            at = one.line if isinstance(one, Block) else block.line
            found.append(self._with_line(at, partial(parse_interval, one)))
        self._intervals[name] = tuple(found)

    def _root(self, raw: Any, line: int) -> Route:
        block = self._block(raw, "route", line)
        for key in ("matchers", "match", "match_re", "continue", "mute_time_intervals", "active_time_intervals"):
            if block.get(key):
                raise self._wrong(self._line(block, key), f"the root route must not have {key}: it takes every alert")
        if not block.get("receiver"):
            raise self._wrong(block.line, "the root route needs a receiver")
        above = Route("", group_interval_ms=GROUP_INTERVAL_MS, repeat_ms=self._repeat_ms)
        return self._route(block, above, "{}", (), 0)

    def _route(self, block: Block, above: Route, path: str, matchers: Matchers, depth: int) -> Route:
        self._only(block, ROUTE)
        self._routes += 1
        if self._routes > MAX_ROUTES or depth > MAX_DEPTH:
            raise self._wrong(block.line, f"more than {MAX_ROUTES} routes, or nested deeper than {MAX_DEPTH}")
        receiver = self._text(block, "receiver") if block.get("receiver") else above.receiver
        if receiver not in self._receivers:
            there = ", ".join(sorted(self._receivers)) or "none"
            raise self._wrong(self._line(block, "receiver"), f"there is no receiver {receiver!r}; there are: {there}")
        here = Route(
            receiver=receiver,
            path=path,
            matchers=matchers,
            go_on=self._flag(block, "continue"),
            group_by=self._group_by(block, above.group_by),
            group_wait_ms=self._duration(block, "group_wait", above.group_wait_ms),
            group_interval_ms=self._duration(block, "group_interval", above.group_interval_ms),
            repeat_ms=self._duration(block, "repeat_interval", above.repeat_ms),
            mute=self._references(block, "mute_time_intervals", self._intervals),
            active=self._references(block, "active_time_intervals", self._intervals),
            line=block.line,
        )
        children = []
        for position, raw in enumerate(self._list(block, "routes")):
            child = self._block(raw, "a route", self._line(block, "routes"))
            wanted = self._matchers(child, "matchers", "match", "match_re")
            children.append(self._route(child, here, path_of(path, wanted, position), wanted, depth + 1))
        return replace(here, routes=tuple(children))

    def _group_by(self, block: Block, above: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if "group_by" not in block:
            return above
        names = self._texts(block, "group_by")
        if "..." in names:
            if len(names) > 1:
                raise self._wrong(self._line(block, "group_by"), "group_by: '...' stands alone: it is all labels")
            return None
        for name in names:
            if not _LABEL.match(name) or names.count(name) > 1:
                raise self._wrong(self._line(block, "group_by"), f"group_by: {name!r} is no label name, or there twice")
        return names

    def _inhibit(self, raw: Any, line: int) -> InhibitRule:
        block = self._block(raw, "an inhibit rule", line)
        self._only(block, INHIBIT)
        source = self._matchers(block, "source_matchers", "source_match", "source_match_re")
        target = self._matchers(block, "target_matchers", "target_match", "target_match_re")
        if not source or not target:
            raise self._wrong(block.line, "an inhibit rule needs source_matchers and target_matchers")
        return InhibitRule(source, target, self._texts(block, "equal"))

    def _matchers(self, block: Block, key: str, old: str, old_regex: str) -> Matchers:
        found: list[Matcher] = []
        raw = block.get(key) or []
        for text in [raw] if isinstance(raw, str) else self._list(block, key):
            if not isinstance(text, str):
                raise self._wrong(self._line(block, key), f'{key}: {text!r} is not a text such as severity="critical"')
            found += self._with_line(self._line(block, key), partial(parse_matchers, text), key)
        for other, op in ((old, "="), (old_regex, "=~")):
            if not block.get(other):
                continue
            at = self._line(block, other)
            pairs = self._block(block[other], other, at)
            for name, value in pairs.items():
                found.append(self._with_line(at, partial(Matcher, name, op, str(value)), other))
        if len(found) > MAX_MATCHERS:
            raise self._wrong(block.line, f"more than {MAX_MATCHERS} matchers")
        return tuple(found)

    def _block(self, raw: Any, what: str, line: int) -> Block:
        if not isinstance(raw, Block):
            raise self._wrong(line, f"{what} must be a mapping")
        return raw

    def _list(self, block: Block, key: str) -> list[Any]:
        raw = block.get(key)
        if raw is None or raw == "":
            return []
        if not isinstance(raw, list):
            raise self._wrong(self._line(block, key), f"{key} must be a list")
        return raw

    def _texts(self, block: Block, key: str) -> tuple[str, ...]:
        found = self._list(block, key)
        for one in found:
            if not isinstance(one, str) or not one:
                raise self._wrong(self._line(block, key), f"{key}: {one!r} is no text")
        return tuple(found)

    def _text(self, block: Block, key: str) -> str:
        raw = block.get(key)
        if not isinstance(raw, str) or not raw.strip():
            raise self._wrong(self._line(block, key), f"{key} is missing or no text")
        return raw.strip()

    def _flag(self, block: Block, key: str) -> bool:
        raw = block.get(key, "false")
        if raw not in ("true", "false"):
            raise self._wrong(self._line(block, key), f"{key}: {raw!r} is neither true nor false")
        return bool(raw == "true")

    def _duration(self, block: Block, key: str, default_ms: int) -> int:
        if not block.get(key):
            return default_ms
        return round(1000 * self._with_line(self._line(block, key), lambda: parse_duration_s(block[key]), key))

    def _only(self, block: Block, allowed: Sequence[str]) -> None:
        for key in block:
            if key not in allowed:
                raise self._wrong(self._line(block, key), f"unknown key {key!r}; allowed are {', '.join(allowed)}")

    def _with_line(self, line: int, make: Callable[[], T], key: str = "") -> T:
        try:
            return make()
        except (ValueError, AttributeError, TypeError) as error:
            raise self._wrong(line, f"{key}: {error}" if key else str(error)) from None

    def _line(self, block: Block, key: str) -> int:
        return block.lines.get(key, block.line)

    def _wrong(self, line: int, words: str) -> PolicyError:
        return PolicyError(f"{self._file}: line {line}: {words}")
