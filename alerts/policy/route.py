"""The route tree: which receivers an alert's labels lead to, and in which groups."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from alerts.policy.matchers import Matchers, matches_all, show_matchers

LONGEST_GROUP_KEY = 500


@dataclass(frozen=True, slots=True)
class Route:
    """One node; what its parents say is filled in. Times in milliseconds.

    group_by: labels by which alerts are put together (empty: all in one group; None, `...`: by all labels,
    each alert on its own). repeat_ms 0: never. go_on: `continue`. path: tells it from all others.
    """

    receiver: str
    path: str = "{}"
    matchers: Matchers = ()
    go_on: bool = False
    group_by: tuple[str, ...] | None = ()
    group_wait_ms: int = 0
    group_interval_ms: int = 0
    repeat_ms: int = 0
    mute: tuple[str, ...] = ()
    active: tuple[str, ...] = ()
    line: int = 0
    routes: tuple[Route, ...] = ()

    def match(self, labels: Mapping[str, str]) -> list[Route]:
        """The deepest nodes that match, the first of siblings unless it goes on; empty where this one does not."""
        if not matches_all(self.matchers, labels):
            return []
        found: list[Route] = []
        for child in self.routes:
            deeper = child.match(labels)
            found += deeper
            if deeper and not child.go_on:
                break
        return found or [self]

    def group_labels(self, labels: Mapping[str, str]) -> dict[str, str]:
        """The labels that an alert has in common with its group."""
        names = sorted(labels) if self.group_by is None else sorted(self.group_by)
        return {name: labels[name] for name in names if name in labels}

    def group_key(self, group_labels: Mapping[str, str]) -> str:
        """The group's name: of this route and these labels only; hashed where it would be long."""
        text = f"{self.path}:{{{','.join(f'{name}={value!r}' for name, value in group_labels.items())}}}"
        if len(text) <= LONGEST_GROUP_KEY:
            return text
        return f"{text[:100]}#{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"

    def walk(self) -> Iterator[Route]:
        """This node and all below it."""
        yield self
        for child in self.routes:
            yield from child.walk()


def path_of(parent: str, matchers: Matchers, position: int) -> str:
    """A node's path: siblings may have the same matchers, so its position is in it."""
    return f"{parent}/{position}{show_matchers(matchers)}"
