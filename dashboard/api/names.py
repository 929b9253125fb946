"""Label names in addresses: Prometheus 3 escapes what a path or an old client cannot carry as U__..._XX_."""

from __future__ import annotations

import re

_ESCAPED = re.compile(r"_([0-9a-fA-F]{1,6})_|__|_|[^_]+")


def unescaped(name: str) -> str:
    """The label name meant by a path segment; a name that is no valid escape means itself.

    `U__` in front; then `_HEX_` is a character by its code point and `__` an underscore.
    https://github.com/prometheus/proposals/blob/main/proposals/2023-08-21-utf8.md
    """
    if not name.startswith("U__"):
        return name
    parts: list[str] = []
    for match in _ESCAPED.finditer(name, 3):
        text, code = match.group(), match.group(1)
        if code is not None:
            point = int(code, 16)
            if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
                return name
            parts.append(chr(point))
        elif text == "_":
            return name
        else:
            parts.append("_" if text == "__" else text)
    return "".join(parts)
