"""How good predictions of breaches are, for each shipped rule that foretells: precision, recall and lead time.

    python -m validation.predictions

Each rule's own threshold and horizon, on generated histories of its series (`validation.breaches`) with seeds of
their own. A prediction counts as the program's own record counts it: a hit where the breach comes before the late end
of its interval, late where after it, false where not in twice that time. `threshold at 95 %` is the peer: an alarm
at 95 % of the threshold, right where the breach comes within the rule's horizon.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from alerts.detectors.trend import Trend
from alerts.durations import show_duration
from alerts.expression import Comparison
from alerts.options import DEFAULT_RULES
from alerts.rules import Rule, load_rules
from metrics.frame import FloatArray
from validation.breaches import KINDS, histories

EACH, SEED = 20, 7
LATEST = 2.0


@dataclass(slots=True)
class Count:
    """Outcomes of one rule, or one kind of history. leads_s: of hits and late ones."""

    hit: int = 0
    late: int = 0
    false: int = 0
    missed: int = 0
    leads_s: list[float] = field(default_factory=list)

    @property
    def precision(self) -> float:
        """Hits of all predictions."""
        made = self.hit + self.late + self.false
        return self.hit / made if made else math.nan

    @property
    def recall(self) -> float:
        """Breaches foretold of all breaches."""
        breaches = self.hit + self.late + self.missed
        return (self.hit + self.late) / breaches if breaches else math.nan

    @property
    def lead_s(self) -> float:
        """The median."""
        return median(self.leads_s) if self.leads_s else math.nan


def watch_trend(values: FloatArray, comparison: Comparison, within_s: float, count: Count) -> None:
    """Let a Trend foretell over one history, one prediction open at a time, as the collector does."""
    trend = Trend(comparison, within_s)
    open_: tuple[int, float] | None = None
    for at, value in enumerate(values.tolist()):
        ahead = trend.take(value)
        if comparison.holds(value):
            if open_ is None:
                count.missed += 1
            else:
                lead_s = (at - open_[0]) * trend.step_s
                count.leads_s.append(lead_s)
                if lead_s <= open_[1]:
                    count.hit += 1
                else:
                    count.late += 1
            return
        if open_ is not None and (at - open_[0]) * trend.step_s > LATEST * open_[1]:
            count.false += 1
            open_ = None
        if open_ is None and ahead is not None:
            open_ = at, max(ahead.high_s, ahead.eta_s)
    if open_ is not None:
        count.false += 1


def watch_margin(values: FloatArray, comparison: Comparison, within_s: float, count: Count) -> None:
    """The peer: an alarm where 95 % of the threshold is met."""
    step_s = Trend(comparison, within_s).step_s
    near = Comparison(comparison.op, 0.95 * comparison.threshold)
    open_: int | None = None
    for at, value in enumerate(values.tolist()):
        if comparison.holds(value):
            if open_ is None:
                count.missed += 1
            else:
                count.hit += 1
                count.leads_s.append((at - open_) * step_s)
            return
        if open_ is not None and (at - open_) * step_s > within_s:
            count.false += 1
            open_ = None
        if open_ is None and near.holds(value):
            open_ = at
    if open_ is not None:
        count.false += 1


Watcher = Callable[[FloatArray, Comparison, float, Count], None]


def foretelling() -> list[Rule]:
    """The shipped rules that foretell."""
    return [rule for group in load_rules(DEFAULT_RULES) for rule in group.rules if rule.extension.predict_s]


def score(rule: Rule, watch: Watcher, each: int = EACH, seed: int = SEED) -> dict[str, Count]:
    """The outcome by kind of history."""
    comparison, within_s = rule.extension.tiers[0].comparison, rule.extension.predict_s
    if comparison is None or not within_s:
        raise ValueError(f"rule {rule.key} does not foretell")
    counts = {kind: Count() for kind in KINDS}
    for history in histories(each, seed):
        watch(history.values * comparison.threshold, comparison, within_s, counts[history.kind])
    return counts


def whole(counts: Sequence[Count]) -> Count:
    """All kinds together."""
    return Count(
        sum(one.hit for one in counts),
        sum(one.late for one in counts),
        sum(one.false for one in counts),
        sum(one.missed for one in counts),
        [lead for one in counts for lead in one.leads_s],
    )


def row(name: str, one: Count) -> str:
    """One line of a Markdown table."""
    lead = "-" if math.isnan(one.lead_s) else show_duration(round(one.lead_s))
    return f"| {name} | {one.hit} | {one.late} | {one.false} | {one.missed} | {one.precision:.2f} | {one.recall:.2f} | {lead} |"


HEAD = "| {} | hit | late | false | missed | precision | recall | median lead |\n|---|---|---|---|---|---|---|---|"


def main() -> int:
    """Print the tables."""
    rules = foretelling()
    np.seterr(all="raise", under="ignore")
    print(HEAD.format("rule"))
    kinds: list[dict[str, Count]] = []
    for rule in rules:
        kinds.append(score(rule, watch_trend, seed=SEED + len(kinds)))
        print(row(f"{rule.name}, {show_duration(rule.extension.predict_s or 0)} ahead", whole([*kinds[-1].values()])))
    if rules:
        print(row("peer: threshold at 95 %", whole([*score(rules[0], watch_margin).values()])))
    print()
    print(HEAD.format("history"))
    for kind in KINDS:
        print(row(kind, whole([counts[kind] for counts in kinds])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
