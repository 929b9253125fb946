"""Regular expressions of relabelling: RE2, whole value, `$1` and `${name}` filled in as Go does."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import re2

_REFERENCE = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))", re.ASCII)


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> Any:
    """The compiled pattern; ValueError where it is none."""
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise ValueError(f"regex {pattern!r} is no regular expression (RE2): {reason}") from None


def expand(template: str, found: Any) -> str:
    """The template with its references replaced by what was found; unknown groups are empty, `$$` is a dollar."""
    if "$" not in template:
        return template
    names = found.re.groupindex
    count = found.re.groups

    def fill(reference: re.Match[str]) -> str:
        name = reference[1] or reference[2]
        if name is None:
            return "$"
        if name.isdigit():
            number = int(name)
            return (found.group(number) or "") if number <= count else ""
        return (found.group(name) or "") if name in names else ""

    return _REFERENCE.sub(fill, template)
