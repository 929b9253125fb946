"""What a remote store must be told besides samples: names of this desk, credentials, headers."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a remote store is and who we are to it; addresses are without credentials."""

    base: str
    write: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return external labels; ValueError where one cannot be a label."""
    for name, value in labels.items():
        if not _LABEL.fullmatch(name) or name.startswith("__"):
            raise ValueError(f"{name!r} is no name for a label")
        if not value or len(value) > 1_024:
            raise ValueError(f"the value of {name!r} is empty or longer than 1,024 characters")
    return dict(labels)


def check_headers(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Return header lines; ValueError where one is not `Name: value`."""
    for line in lines:
        name, colon, _ = line.partition(":")
        if not colon or not name.strip() or not line.isascii() or any(mark in line for mark in "\r\n\0"):
            raise ValueError("a header must be `Name: value`")
    return lines


def endpoint(url: str, write_url: str, password: str, bearer_token: str, headers: tuple[str, ...]) -> Endpoint:
    """Build the endpoint of checked settings; `password` and `bearer_token` go before what the URL holds."""
    parts = urlsplit(url.removeprefix("prometheus+"))
    base = _bare(parts.geturl())
    lines = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in headers)]
    if bearer_token:
        lines.append(("Authorization", f"Bearer {bearer_token}"))
    elif parts.username:
        user = f"{unquote(parts.username)}:{password or unquote(parts.password or '')}"
        lines.append(("Authorization", f"Basic {b64encode(user.encode()).decode()}"))
    write = _bare(write_url.removeprefix("prometheus+")) if write_url else f"{base}/api/v1/write"
    return Endpoint(base, write, tuple(lines))


def _bare(url: str) -> str:
    """The URL without credentials and without a slash at the end."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
