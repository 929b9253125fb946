"""Vocabulary: what can be asked for: the metrics that are stored or known, and PromQL's words, each with its help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dashboard.history.words import AGGREGATIONS, FUNCTIONS, KEYWORDS
from dashboard.services import Reader
from metrics.catalogue import CATALOGUE, metric_of

ROOMS: Mapping[str, str] = {
    "kpi": "Key figures",
    "engine": "Engine",
    "risk": "Risk",
    "host": "Host",
    "gpu": "GPU",
    "process": "Processes",
    "alerts": "Alerts",
    "storage": "Storage",
    "query": "Queries",
    "web": "Web",
    "collector": "Collectors",
}
_PARTS = ("_bucket", "_sum", "_count")
_UNDESCRIBED = "Came in from outside; nobody has described it here."


@dataclass(frozen=True, slots=True)
class Term:
    """One metric as a person looks for it.

    series: how many are stored; 0 for one that is only in the catalogue. parts: the names under
    which a histogram's series are stored. question: what one usually asks of it.
    """

    name: str
    room: str
    unit: str
    kind: str
    help: str
    labels: tuple[str, ...]
    series: int
    parts: tuple[str, ...]
    question: str


def room_of(name: str) -> str:
    """The room that publishes a metric; the first word of a name that is not ours."""
    words = name.split("_")
    if words[0] == "deskvigil" and len(words) > 1:
        return ROOMS.get(words[1], words[1].capitalize())
    return words[0]


Described = Mapping[str, Sequence[tuple[str, str, str]]]
"""Metrics of scraped programs: family -> (type, help, unit), as they say of themselves."""


def vocabulary(reader: Reader, described: Described) -> dict[str, Any]:
    """{metrics: [Term...], functions, aggregations, keywords}; blocks."""
    return {
        "metrics": [asdict(term) for term in terms(reader, described)],
        "functions": [asdict(word) for word in FUNCTIONS],
        "aggregations": [asdict(word) for word in AGGREGATIONS],
        "keywords": [asdict(word) for word in KEYWORDS],
    }


def terms(reader: Reader, described: Described) -> Sequence[Term]:
    """Every metric that is stored or in the catalogue, by name."""
    stored = Counter(one.name for one in reader.series())
    whole: dict[str, list[str]] = {}
    for name in stored:
        metric = metric_of(name)
        whole.setdefault(_family(name, described) if metric is None else metric.name, []).append(name)
    return [_term(name, whole.get(name, []), stored, described) for name in sorted({*whole, *CATALOGUE})]


def _family(name: str, described: Described) -> str:
    """The histogram that a foreign series is a part of, else its own name."""
    for part in _PARTS:
        family = name.removesuffix(part)
        if family != name and any(kind == "histogram" for kind, _, _ in described.get(family, ())):
            return family
    return name


def _term(name: str, parts: list[str], stored: Counter[str], described: Described) -> Term:
    metric = CATALOGUE.get(name)
    # OpenMetrics names a counter's family without the suffix of its series.
    told = described.get(name) or described.get(name.removesuffix("_total")) or [("unknown", _UNDESCRIBED, "")]
    kind, words, unit = (metric.kind, metric.help, metric.unit) if metric is not None else told[0]
    return Term(
        name=name,
        room=room_of(name),
        unit=unit,
        kind=kind,
        help=words or _UNDESCRIBED,
        labels=metric.labels if metric is not None else (),
        series=sum(stored[part] for part in parts),
        parts=tuple(sorted(part for part in parts if part != name)),
        question=_question(name, "", kind),
    )


def expression_for(metric: str, labels: str) -> str:
    """The usual question about a metric: its value, a counter's rate, a histogram's 99th percentile."""
    known = CATALOGUE.get(metric)
    return _question(metric, labels, "unknown" if known is None else known.kind)


def _question(metric: str, labels: str, kind: str) -> str:
    inner = labels.strip().strip("{}")
    matchers = f"{{{inner}}}" if inner else ""
    if kind == "counter" or (kind == "unknown" and metric.endswith("_total")):
        return f"rate({metric}{matchers}[1m])"
    if kind == "histogram":
        return f"histogram_quantile(0.99, sum by (le) (rate({metric}_bucket{matchers}[5m])))"
    return f"{metric}{matchers}"
