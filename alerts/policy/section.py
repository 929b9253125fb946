"""Section: one mapping of the policy file, read key by key; what is wrong is said with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from alerts.durations import parse_duration_s
from alerts.yaml_block import Block
from metrics.errors import ConfigError
from metrics.severity import Severity

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}\Z")
MAX_ENTRIES = 1000


class Section:
    """A mapping and where it stands. Every reader raises ConfigError that names place, line and key."""

    def __init__(self, raw: Any, where: str, keys: tuple[str, ...] = ()) -> None:
        """keys: the ones allowed, any where none are given."""
        if not isinstance(raw, Block):
            raise ConfigError(f"{where}: must be a mapping")
        self._block = raw
        self.where = f"{where} (line {raw.line})"
        for key in raw:
            if keys and key not in keys:
                raise self.wrong(f"unknown key {key!r}; allowed are {', '.join(keys)}")

    def wrong(self, words: str) -> ConfigError:
        """An error at this place."""
        return ConfigError(f"{self.where}: {words}")

    def __contains__(self, key: str) -> bool:
        return key in self._block

    def text(self, key: str, default: str | None = None) -> str:
        """A text that is not empty; without a default it must be there."""
        raw = self._block.get(key, default)
        if not isinstance(raw, str) or not raw.strip():
            raise self.wrong(f"{key} is missing or no text")
        return raw.strip()

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; one text alone is a list of one, nothing an empty one."""
        raw = self._block.get(key, "")
        if isinstance(raw, str):
            raw = [raw] if raw.strip() else []
        if not isinstance(raw, list) or not all(isinstance(one, str) and one.strip() for one in raw):
            raise self.wrong(f"{key} must be a list of texts")
        if len(raw) > MAX_ENTRIES:
            raise self.wrong(f"{key} has more than {MAX_ENTRIES} entries")
        return tuple(one.strip() for one in raw)

    def number(self, key: str, default: int, least: int, most: int) -> int:
        """A whole number within bounds."""
        raw = self._block.get(key, str(default))
        if not isinstance(raw, str) or not raw.isdecimal() or not least <= int(raw) <= most:
            raise self.wrong(f"{key}: {raw!r} is not a whole number from {least} to {most}")
        return int(raw)

    def duration_ms(self, key: str, default: str, least_ms: int = 0) -> int:
        """A duration such as 5m, in milliseconds."""
        text = self.text(key, default)
        try:
            found = round(parse_duration_s(text) * 1000)
        except ValueError as error:
            raise self.wrong(f"{key}: {error}") from None
        if found < least_ms:
            raise self.wrong(f"{key}: {text} is less than {least_ms / 1000:g}s")
        return found

    def severity(self, key: str, default: Severity) -> Severity:
        """One of the four tiers."""
        try:
            return Severity.parse(self.text(key, default.label))
        except ValueError as error:
            raise self.wrong(f"{key}: {error}") from None

    def sections(self, key: str, keys: tuple[str, ...]) -> Iterator[Section]:
        """The mappings of a list that has at least one."""
        raw = self._block.get(key)
        if not isinstance(raw, list) or not raw:
            raise self.wrong(f"{key} must be a list with at least one entry")
        if len(raw) > MAX_ENTRIES:
            raise self.wrong(f"{key} has more than {MAX_ENTRIES} entries")
        for number, one in enumerate(raw, 1):
            yield Section(one, f"{self.where}: {key} {number}", keys)

    def named(self, keys: tuple[str, ...]) -> Iterator[tuple[str, Section]]:
        """The entries of a mapping from names to mappings."""
        if len(self._block) > MAX_ENTRIES:
            raise self.wrong(f"more than {MAX_ENTRIES} entries")
        for name, raw in self._block.items():
            if not NAME.match(name):
                raise self.wrong(f"{name!r} is no name: at most 40 letters, digits, '.', '_' and '-'")
            yield name, Section(raw, f"{self.where}: {name}", keys)

    def section(self, key: str, keys: tuple[str, ...] = ()) -> Section:
        """The mapping under a key, which must be there."""
        return Section(self._block.get(key), f"{self.where}: {key}", keys)

    def keys(self) -> tuple[str, ...]:
        """The keys, in the file's order."""
        return tuple(self._block)
