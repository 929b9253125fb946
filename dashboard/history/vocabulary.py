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


def vocabulary(reader: Reader) -> dict[str, Any]:
    """{metrics: [Term...], functions, aggregations, keywords}; blocks."""
    return {
        "metrics": [asdict(term) for term in terms(reader)],
        "functions": [asdict(word) for word in FUNCTIONS],
        "aggregations": [asdict(word) for word in AGGREGATIONS],
        "keywords": [asdict(word) for word in KEYWORDS],
    }


def terms(reader: Reader) -> Sequence[Term]:
    """Every metric that is stored or in the catalogue, by name."""
    stored = Counter(one.name for one in reader.series())
    whole: dict[str, list[str]] = {}
    for name in stored:
        metric = metric_of(name)
        whole.setdefault(name if metric is None else metric.name, []).append(name)
    return [_term(name, whole.get(name, []), stored) for name in sorted({*whole, *CATALOGUE})]


def _term(name: str, parts: list[str], stored: Counter[str]) -> Term:
    metric = CATALOGUE.get(name)
    return Term(
        name=name,
        room=room_of(name),
        unit=metric.unit if metric is not None else "",
        kind=metric.kind if metric is not None else "unknown",
        help=metric.help if metric is not None else "Came in from outside; nobody has described it here.",
        labels=metric.labels if metric is not None else (),
        series=sum(stored[part] for part in parts),
        parts=tuple(sorted(part for part in parts if part != name)),
        question=expression_for(name, ""),
    )


def expression_for(metric: str, labels: str) -> str:
    """The usual question about a metric: its value, a counter's rate, a histogram's 99th percentile."""
    known = CATALOGUE.get(metric)
    inner = labels.strip().strip("{}")
    matchers = f"{{{inner}}}" if inner else ""
    if (known is not None and known.kind == "counter") or (known is None and metric.endswith("_total")):
        return f"rate({metric}{matchers}[1m])"
    if known is not None and known.kind == "histogram":
        return f"histogram_quantile(0.99, sum by (le) (rate({metric}_bucket{matchers}[5m])))"
    return f"{metric}{matchers}"
