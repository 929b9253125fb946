"""What the program tells of itself: /status/*."""

from __future__ import annotations

import os
import platform
import socket
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dashboard.api import answers
from dashboard.api.endpoint import Call
from dashboard.api.parameters import Parameters
from dashboard.api.targets import rfc3339
from metrics.clock import Clock
from query.engine import QueryEngine
from query.labels import labels_of

TSDB_LIMIT = 10
TSDB_MOST = 10_000


@dataclass(frozen=True, kw_only=True)
class BuildInfo:
    """What /api/v1/status/buildinfo says. Clients read `version` as Prometheus's, so it names the API we follow."""

    version: str
    revision: str = ""
    compatible_with: str = "3.0.0"


@dataclass(frozen=True, kw_only=True)
class StatusInfo:
    """What the composition root knows: the settings as YAML with secrets masked, flags, retention in words."""

    config: Callable[[], str] = lambda: ""
    flags: Mapping[str, str] = field(default_factory=dict)
    retention: str = ""


class StatusApi:
    """One method per endpoint: parameters in, JSON bytes out."""

    def __init__(self, query: QueryEngine, build: BuildInfo, info: StatusInfo, clock: Clock) -> None:
        self._query = query
        self._build = build
        self._info = info
        self._clock = clock
        self._started_ns = clock.now_ns()

    def buildinfo(self, _parameters: Parameters, _: Call) -> bytes:
        """Version of the API that we follow, and ours."""
        return answers.success(
            {
                "application": "Deskvigil",
                "applicationVersion": self._build.version,
                "version": self._build.compatible_with,
                "revision": self._build.revision,
                "branch": "",
                "buildUser": "",
                "buildDate": "",
                "goVersion": "",
                "pythonVersion": platform.python_version(),
            }
        )

    def runtimeinfo(self, _parameters: Parameters, _: Call) -> bytes:
        """Since when it runs and on what; what is Go's own is its nearest relative here."""
        return answers.success(
            {
                "startTime": rfc3339(self._started_ns),
                "serverTime": rfc3339(self._clock.now_ns()),
                "CWD": "",
                "hostname": socket.gethostname(),
                "reloadConfigSuccess": True,
                "lastConfigTime": rfc3339(self._started_ns),
                "corruptionCount": 0,
                "goroutineCount": threading.active_count(),
                "GOMAXPROCS": len(os.sched_getaffinity(0)),
                "GOMEMLIMIT": 0,
                "GOGC": "",
                "GODEBUG": "",
                "storageRetention": self._info.retention,
            }
        )

    def config(self, _parameters: Parameters, _: Call) -> bytes:
        """The effective settings, secrets masked."""
        return answers.success({"yaml": self._info.config()})

    def flags(self, _parameters: Parameters, _: Call) -> bytes:
        """Prometheus's flags that have a counterpart here, with its values."""
        return answers.success(dict(self._info.flags))

    def walreplay(self, _parameters: Parameters, _: Call) -> bytes:
        """Who can ask is served: what was not sealed has been read back before."""
        return answers.success({"min": 0, "max": 0, "current": 0, "state": "done"})

    def tsdb(self, parameters: Parameters, _: Call) -> bytes:
        """limit: which metrics, labels and pairs have the most series."""
        limit = min(parameters.limit() or TSDB_LIMIT, TSDB_MOST)
        by_metric: Counter[str] = Counter()
        by_pair: Counter[str] = Counter()
        values: defaultdict[str, set[str]] = defaultdict(set)
        count = 0
        for series in self._query.source.series():
            count += 1
            by_metric[series.name] += 1
            for name, value in labels_of(series):
                by_pair[f"{name}={value}"] += 1
                values[name].add(value)
        sizes = Counter({name: sum(len(value.encode()) for value in some) for name, some in values.items()})
        lengths = Counter({name: len(some) for name, some in values.items()})
        return answers.success(
            {
                "headStats": {
                    "numSeries": count,
                    "numLabelPairs": len(by_pair),
                    "chunkCount": 0,
                    "minTime": 0,
                    "maxTime": self._clock.now_ns() // 1_000_000,
                },
                "seriesCountByMetricName": _most(by_metric, limit),
                "labelValueCountByLabelName": _most(lengths, limit),
                "memoryInBytesByLabelName": _most(sizes, limit),
                "seriesCountByLabelValuePair": _most(by_pair, limit),
            }
        )


def _most(counts: Counter[str], limit: int) -> list[dict[str, object]]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"name": name, "value": value} for name, value in ranked[:limit]]
