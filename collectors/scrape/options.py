"""What can be set about scraping: Prometheus's `scrape_configs`, its words and its meanings.

Left out on purpose: service discovery other than static targets, proxies, OAuth 2, HTTP/2, native histograms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import BeforeValidator

from collectors.scrape.quantities import seconds, size_bytes, text

Seconds = Annotated[float, BeforeValidator(seconds)]
Text = Annotated[str, BeforeValidator(text)]
Count = Annotated[int, Ge(0)]
Action = Literal[
    "replace", "keep", "drop", "keepequal", "dropequal", "hashmod", "labelmap", "labeldrop", "labelkeep", "lowercase",
    "uppercase",
]  # fmt: skip
LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_TARGET_LABEL = re.compile(r"(?:(?:[a-zA-Z_]|\$(?:\{\w+\}|\w+))+\w*)+\Z")
_NEEDS_TARGET = frozenset({"replace", "hashmod", "lowercase", "uppercase", "keepequal", "dropequal"})
MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class RelabelOptions:
    """One relabelling step; what each action does is Prometheus's documentation of `relabel_config`.

    regex is RE2 and matches the whole value.
    """

    source_labels: tuple[str, ...] = ()
    separator: Text = ";"
    regex: Text = "(.*)"
    modulus: Count = 0
    target_label: str = ""
    replacement: Text = "$1"
    action: Action = "replace"

    def __post_init__(self) -> None:
        from collectors.scrape.pattern import compiled  # only where relabelling is used: re2 takes time to import

        compiled(self.regex)
        if self.action in _NEEDS_TARGET:
            if not self.target_label:
                raise ValueError(f"the action {self.action} needs target_label")
            pattern = _TARGET_LABEL if self.action == "replace" else LABEL_NAME
            if not pattern.match(self.target_label):
                raise ValueError(f"target_label {self.target_label!r} is not a label name")
        if self.action == "hashmod" and not self.modulus:
            raise ValueError("the action hashmod needs a modulus above 0")
        if self.action in ("labeldrop", "labelkeep") and (self.source_labels or self.target_label):
            raise ValueError(f"the action {self.action} takes a regex and nothing else")
        if self.action in ("keepequal", "dropequal") and self.regex != "(.*)":
            raise ValueError(f"the action {self.action} takes source_labels and target_label and nothing else")


@dataclass(frozen=True, kw_only=True)
class StaticTargets:
    """Addresses `host:port` and the labels that all their series get."""

    targets: tuple[str, ...] = ()
    labels: Mapping[str, Text] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.labels:
            if not LABEL_NAME.match(name):
                raise ValueError(f"{name!r} in labels is not a label name")
        for target in self.targets:
            if not target or "/" in target or any(c.isspace() for c in target):
                raise ValueError(f"target {target!r} is not an address such as host:9100 (no scheme, no path)")


@dataclass(frozen=True, kw_only=True)
class Authorization:
    """The Authorization header: `type credentials`; credentials_file is read at each scrape, so it may be rotated."""

    type: str = "Bearer"
    credentials: str = field(default="", repr=False)
    credentials_file: Path | None = None

    def __post_init__(self) -> None:
        if self.credentials and self.credentials_file:
            raise ValueError("credentials and credentials_file exclude each other")
        if self.type.strip().lower() == "basic":
            raise ValueError("the type Basic is what basic_auth is for")
        if any(ord(c) < 32 or ord(c) > 126 for c in self.type + self.credentials):
            raise ValueError("type and credentials are printable ASCII on one line")


@dataclass(frozen=True, kw_only=True)
class BasicAuth:
    """User and password of HTTP basic authentication."""

    username: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None

    def __post_init__(self) -> None:
        if self.password and self.password_file:
            raise ValueError("password and password_file exclude each other")
        if ":" in self.username:
            raise ValueError("username cannot hold a colon")


@dataclass(frozen=True, kw_only=True)
class TlsOptions:
    """How the server is verified and what we show it; files are PEM."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""
    insecure_skip_verify: bool = False
    min_version: Literal["TLS12", "TLS13"] = "TLS12"

    def __post_init__(self) -> None:
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file come together")
        for name in ("ca_file", "cert_file", "key_file"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise ValueError(f"{name} {path} is not a file")


@dataclass(frozen=True, kw_only=True)
class ScrapeJob:
    """One job: how its targets are asked.

    scrape_timeout: None is the interval, at most 10 s. body_size_limit: of the answer, unpacked.
    sample_limit: more samples than this after metric relabelling fail the scrape, 0 is no limit; so the label limits.
    series_limit (ours): so many different series of one target in a day; what comes on top is refused and counted,
    while the known ones go on.
    """

    job_name: str
    static_configs: tuple[StaticTargets, ...] = ()
    scheme: Literal["http", "https"] = "http"
    metrics_path: str = "/metrics"
    params: Mapping[str, tuple[Text, ...]] = field(default_factory=dict)
    scrape_interval: Annotated[Seconds, Ge(1.0), Le(86_400.0)] = 1.0
    scrape_timeout: Annotated[Seconds, Ge(0.01), Le(86_400.0)] | None = None
    honor_labels: bool = False
    honor_timestamps: bool = True
    follow_redirects: bool = True
    authorization: Authorization | None = None
    basic_auth: BasicAuth | None = None
    tls_config: TlsOptions = field(default_factory=TlsOptions)
    relabel_configs: tuple[RelabelOptions, ...] = ()
    metric_relabel_configs: tuple[RelabelOptions, ...] = ()
    body_size_limit: Annotated[int, BeforeValidator(size_bytes), Ge(1), Le(1024 * MIB)] = 64 * MIB
    sample_limit: Count = 0
    label_limit: Count = 0
    label_name_length_limit: Count = 0
    label_value_length_limit: Count = 0
    series_limit: Annotated[int, Ge(1), Le(10_000_000)] = 50_000

    def __post_init__(self) -> None:
        if not self.job_name.strip():
            raise ValueError("job_name must not be empty")
        if not self.metrics_path.startswith("/"):
            raise ValueError(f"metrics_path {self.metrics_path!r} must begin with /")
        if any(not "!" <= c <= "~" for c in self.metrics_path):
            raise ValueError(f"metrics_path {self.metrics_path!r} must be percent-encoded ASCII")
        if self.scrape_timeout is not None and self.scrape_timeout > self.scrape_interval:
            raise ValueError(
                f"scrape_timeout ({self.scrape_timeout:g} s) is longer than scrape_interval ({self.scrape_interval:g} s)"
            )
        if self.authorization is not None and self.basic_auth is not None:
            raise ValueError("authorization and basic_auth exclude each other")

    @property
    def timeout_s(self) -> float:
        """Seconds that one scrape may take."""
        return min(10.0, self.scrape_interval) if self.scrape_timeout is None else self.scrape_timeout


NO_LABELS: Mapping[str, str] = MappingProxyType({})
