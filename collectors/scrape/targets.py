"""Targets: what the configuration says is to be scraped, after relabelling."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from collectors.scrape.options import ScrapeJob
from collectors.scrape.quantities import seconds
from collectors.scrape.relabel import Relabelling
from metrics.errors import ConfigError

COLLECTOR_PREFIX = "scrape/"


@dataclass(frozen=True, eq=False)
class Target:
    """One endpoint. name: of its frames' collector; labels: what its series get; discovered: before relabelling.

    address: host:port as configured; path: with the query; interval_s and timeout_s: the job's, where relabelling
    has not changed them.
    """

    name: str
    job: ScrapeJob
    scheme: str
    address: str
    path: str
    labels: Mapping[str, str]
    discovered: Mapping[str, str]
    interval_s: float
    timeout_s: float

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}{self.path}"

    @property
    def key(self) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        """What tells it from all others of one configuration."""
        return self.job.job_name, self.url, tuple(self.labels.items())

    def equals(self, other: Target) -> bool:
        """Whether another configuration's target of the same key is scraped in just the same way."""
        times = (self.interval_s, self.timeout_s)
        mine, theirs = replace(self.job, static_configs=()), replace(other.job, static_configs=())
        return mine == theirs and times == (other.interval_s, other.timeout_s) and self.name == other.name

    def phase(self) -> float:
        """A fixed number in 0..1 that spreads targets over their interval."""
        return zlib.crc32(f"{self.url} {sorted(self.labels.items())}".encode()) / 2**32


def targets_of(jobs: Iterable[ScrapeJob]) -> tuple[list[Target], list[Mapping[str, str]]]:
    """All targets of some jobs, and the discovered labels of those that relabelling dropped.

    The same endpoint with the same labels is scraped once. ConfigError where relabelling leaves an address or a
    scheme that cannot be scraped.
    """
    targets: list[Target] = []
    dropped: list[Mapping[str, str]] = []
    known: set[tuple[str, str, tuple[tuple[str, str], ...]]] = set()
    names: set[str] = set()
    for job in jobs:
        relabelling = Relabelling(job.relabel_configs)
        for discovered in _discovered(job):
            labels = dict(discovered)
            if not relabelling.apply(labels):
                dropped.append(discovered)
                continue
            target = _target(job, labels, discovered, names)
            if target.key not in known:
                known.add(target.key)
                names.add(target.name)
                targets.append(target)
    return targets, dropped


def _discovered(job: ScrapeJob) -> Iterator[dict[str, str]]:
    """The labels that Prometheus puts on a target before relabelling."""
    common = {
        "job": job.job_name,
        "__scheme__": job.scheme,
        "__metrics_path__": job.metrics_path,
        "__scrape_interval__": duration(job.scrape_interval),
        "__scrape_timeout__": duration(job.timeout_s),
        **{f"__param_{name}": values[0] for name, values in job.params.items() if values},
    }
    for group in job.static_configs:
        for address in group.targets:
            yield {**common, **{k: v for k, v in group.labels.items() if v}, "__address__": address}


def _target(job: ScrapeJob, labels: dict[str, str], discovered: Mapping[str, str], names: set[str]) -> Target:
    address = labels.get("__address__", "")
    scheme = labels.get("__scheme__", "")
    path = labels.get("__metrics_path__", "")
    where = f"job {job.job_name}: the target {discovered['__address__']}"
    if not address or "/" in address or any(not "!" <= c <= "~" for c in address):
        raise ConfigError(f"{where} has the address {address!r} after relabelling, host:port is expected")
    if scheme not in ("http", "https"):
        raise ConfigError(f"{where} has the scheme {scheme!r} after relabelling, http or https is expected")
    if not path.startswith("/"):
        path = f"/{path}"
    if any(not "!" <= c <= "~" for c in path):
        raise ConfigError(f"{where} has the path {path!r} after relabelling, percent-encoded ASCII is expected")
    host_port(address, scheme, where)
    query = urlencode(_params(job, labels), doseq=True)
    path += ("&" if "?" in path else "?") + query if query else ""
    shown = {name: value for name, value in labels.items() if not name.startswith("__") and value}
    shown.setdefault("instance", address)
    name = unused = f"{COLLECTOR_PREFIX}{job.job_name}/{shown['instance']}"
    number = 1
    while unused in names:
        number += 1
        unused = f"{name}#{number}"
    interval_s, timeout_s = _times(labels, where)
    return Target(unused, job, scheme, address, path, dict(sorted(shown.items())), discovered, interval_s, timeout_s)


def _times(labels: Mapping[str, str], where: str) -> tuple[float, float]:
    """Interval and timeout after relabelling, seconds."""
    try:
        interval_s = float(seconds(labels.get("__scrape_interval__", "")))
        timeout_s = float(seconds(labels.get("__scrape_timeout__", "")))
    except ValueError as error:
        raise ConfigError(f"{where}: __scrape_interval__ or __scrape_timeout__ after relabelling: {error}") from None
    if interval_s < 1.0 or not 0.0 < timeout_s <= interval_s:
        raise ConfigError(
            f"{where} has an interval of {interval_s:g} s and a timeout of {timeout_s:g} s after relabelling; "
            "the interval is 1 s or more and the timeout no longer than it"
        )
    return interval_s, timeout_s


def _params(job: ScrapeJob, labels: Mapping[str, str]) -> dict[str, list[str]]:
    """The query's parameters; relabelling can change the first value of each."""
    params = {name: list(values) for name, values in job.params.items()}
    for label, value in labels.items():
        if label.startswith("__param_"):
            name = label.removeprefix("__param_")
            params[name] = [value, *params.get(name, [])[1:]]
    return dict(sorted(params.items()))


def host_port(address: str, scheme: str, where: str = "") -> tuple[str, int]:
    """Host and port of an address; the scheme's port where it names none."""
    host, port = address, ""
    if address.startswith("["):
        host, bracket, port = address[1:].partition("]")
        wrong = not bracket or (port != "" and not port.startswith(":"))
        port = port[1:]
    else:
        host, _, port = address.partition(":")
        wrong = ":" in port
    if wrong or not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536)):
        raise ConfigError(f"{where or 'the target'}: {address!r} is not host:port")
    return host, int(port) if port else (443 if scheme == "https" else 80)


def duration(seconds: float) -> str:
    """Seconds as Prometheus writes a duration."""
    milliseconds = round(seconds * 1000)
    parts = []
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")):
        amount, milliseconds = divmod(milliseconds, size)
        if amount:
            parts.append(f"{amount}{unit}")
    return "".join(parts) or "0s"
