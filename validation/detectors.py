"""How good the anomaly detector is: on a public labelled benchmark, and on injected incidents, beside simple peers.

    python -m validation.detectors [NAB_FOLDER]

NAB_FOLDER is a clone of https://github.com/numenta/NAB (58 series, 116 labelled windows); it is not part of the
project, and without it only the injected incidents are scored. Every second series of each of NAB's folders was used
to choose the parameters; what is printed is of the others. A detection is the beginning of an incident. It is true where it
lies in a labelled window; a window counts once. The first 15 % of a series (750 samples at most) are not scored, as
NAB has it. `score` is NAB's standard profile with the threshold fixed beforehand (100: perfect, 0: nothing told).
The injected ones are of seeds that the choice has not seen. Every peer has the threshold that suits it best on the
half on which the parameters were chosen, and the same rule for when one incident ends.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from alerts.detectors.bank import Bank
from alerts.detectors.surprise import TUNING
from metrics.errors import ConfigError
from metrics.frame import FloatArray
from validation.incidents import INCIDENTS, cases

Scorer = Callable[[FloatArray, FloatArray], FloatArray]
FALSE_COST = 0.11  # NAB's standard profile
WARM = 1000  # samples of an injected case that are not scored
AFTER = 400  # samples after an injected incident in which its end may be told
CASES, SEED = 4, 1001
CHOSEN_CASES, CHOSEN_SEED = 1, 0


@dataclass(frozen=True, eq=False)
class Labelled:
    """One series with its windows: t_s and values (n,), windows as first and last sample; scored from `after` on."""

    name: str
    t_s: FloatArray
    values: FloatArray
    windows: tuple[tuple[int, int], ...]
    after: int
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a detector: counts, delays in samples (of found windows), and NAB's score."""

    found: int
    missed: int
    false: int
    delays: tuple[int, ...]
    score: float

    @property
    def precision(self) -> float:
        return self.found / max(self.found + self.false, 1)

    @property
    def recall(self) -> float:
        return self.found / max(self.found + self.missed, 1)

    @property
    def f1(self) -> float:
        return 2 * self.found / max(2 * self.found + self.false + self.missed, 1)

    @property
    def delay(self) -> float:
        return float(np.median(self.delays)) if self.delays else math.nan


# --- the detector and its peers -------------------------------------------------------------------


def ours(t_s: FloatArray, values: FloatArray) -> FloatArray:
    """Scores without the refractory rule, which `begins` applies to all alike."""
    bank = Bank(TUNING._replace(threshold=math.inf))
    bank.hold(1)
    return bank.replay(t_s, values, 0)[0]


def three_sigma(t_s: FloatArray, values: FloatArray) -> FloatArray:
    """Distance from the mean of all before, in its standard deviations."""
    x = _filled(values)
    n = np.arange(1, len(x) + 1)
    mean = np.cumsum(x) / n
    spread = np.sqrt(np.maximum(np.cumsum(x * x) / n - mean * mean, 0))
    return _ratio(x[1:] - mean[:-1], spread[:-1])


def ewma(t_s: FloatArray, values: FloatArray) -> FloatArray:
    """Distance from an exponentially weighted mean, in its exponentially weighted deviations (span 100)."""
    x, alpha = _filled(values), 2 / 101
    mean, square = np.empty(len(x)), np.empty(len(x))
    m, s = x[0], 0.0
    for at, value in enumerate(x.tolist()):
        mean[at], square[at] = m, s
        step = value - m
        m += alpha * step
        s = (1 - alpha) * (s + alpha * step * step)
    return _ratio(x[1:] - mean[1:], np.sqrt(square[1:]))


def seasonal_naive(t_s: FloatArray, values: FloatArray) -> FloatArray:
    """Distance from the same time of the day before, in the standard deviation of all such distances before."""
    x = _filled(values)
    step = float(np.median(np.diff(t_s)))
    lag = max(1, min(round(86_400 / step), len(x) // 3))
    gap = np.zeros(len(x))
    gap[lag:] = x[lag:] - x[:-lag]
    n = np.maximum(np.arange(1, len(x) + 1) - lag, 1)
    spread = np.sqrt(np.cumsum(gap * gap) / n)
    return _ratio(gap[1:], spread[:-1])


def _filled(values: FloatArray) -> FloatArray:
    """Missing readings hold the last one: what dashboards do."""
    known = np.isfinite(values)
    at = np.maximum.accumulate(np.where(known, np.arange(len(values)), 0))
    return values[at]


def _ratio(distance: FloatArray, spread: FloatArray) -> FloatArray:
    floor = 1e-9 * (1 + np.abs(distance))
    return np.concatenate([[0.0], np.abs(distance) / np.maximum(spread, floor)])


DETECTORS: dict[str, Scorer] = {
    "Deskvigil": ours,
    "3 sigma": three_sigma,
    "EWMA": ewma,
    "seasonal naive": seasonal_naive,
}


# --- scoring --------------------------------------------------------------------------------------


def begins(scores: FloatArray, threshold: float) -> list[int]:
    """Where incidents begin: one is over after `TUNING.calm` samples below 0.6 of the threshold."""
    found: list[int] = []
    last = -math.inf
    for at in np.flatnonzero(scores >= 0.6 * threshold).tolist():
        lasting = at - last <= TUNING.calm
        if lasting or scores[at] >= threshold:
            if not lasting:
                found.append(at)
            last = at
    return found


def judge(labelled: Sequence[Labelled], scores: Sequence[FloatArray], threshold: float, after: int = 0) -> Outcome:
    """Hold detections against the labels; `after`: samples behind a window in which they are not false."""
    found = missed = false = 0
    delays: list[int] = []
    score = 0.0
    for one, its in zip(labelled, scores, strict=True):
        told = [at for at in begins(its, threshold) if at >= one.after]
        for first, last in one.windows:
            inside = [at for at in told if first <= at <= last]
            if inside:
                found += 1
                delays.append(inside[0] - first)
                score += _sigmoid((inside[0] - last) / max(last - first, 1)) / _sigmoid(-1.0)
            else:
                missed += 1
                score -= 1.0
        for at in told:
            if not any(first <= at <= last + after for first, last in one.windows):
                false += 1
                behind = [(at - last) / max(last - first, 1) for first, last in one.windows if last < at]
                score += FALSE_COST * (max(_sigmoid(behind[-1]), -1.0) if behind else -1.0)
    windows = found + missed
    return Outcome(found, missed, false, tuple(delays), 50.0 * (score + windows) / max(windows, 1))


def _sigmoid(x: float) -> float:
    return 2.0 / (1.0 + math.exp(min(5.0 * x, 700.0))) - 1.0


def best_threshold(labelled: Sequence[Labelled], scores: Sequence[FloatArray], after: int = 0) -> float:
    """The threshold with the best F1 there is."""
    top = max(float(its.max()) for its in scores)
    candidates = np.geomspace(1.0, max(top, 2.0), 40)
    return float(max(candidates, key=lambda threshold: judge(labelled, scores, threshold, after).f1))


# --- data -----------------------------------------------------------------------------------------


def nab(folder: Path) -> tuple[list[Labelled], list[Labelled]]:
    """The half on which parameters were chosen, and the other; ConfigError where the folder is not NAB's."""
    try:
        windows = json.loads((folder / "labels" / "combined_windows.json").read_text())
        found = [_nab_series(folder, name, windows[name]) for name in sorted(windows)]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{folder} is no clone of https://github.com/numenta/NAB: {error}") from None
    halves: tuple[list[Labelled], list[Labelled]] = ([], [])
    counts: dict[str, int] = {}
    for one in found:
        part = one.name.partition("/")[0]
        halves[counts.get(part, 0) % 2].append(one)
        counts[part] = counts.get(part, 0) + 1
    return halves


def _nab_series(folder: Path, name: str, windows: Sequence[Sequence[str]]) -> Labelled:
    rows = [line.split(",") for line in (folder / "data" / name).read_text().splitlines()[1:] if line]
    t_s = np.array([_seconds(row[0]) for row in rows])
    spans = tuple(
        (int(np.searchsorted(t_s, _seconds(first))), int(np.searchsorted(t_s, _seconds(last), "right")) - 1)
        for first, last in windows
    )
    return Labelled(name, t_s, np.array([float(row[1]) for row in rows]), spans, min(int(0.15 * len(rows)), 750))


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text[:19]).replace(tzinfo=UTC).timestamp()


def injected(each: int, seed: int) -> list[Labelled]:
    """The injected incidents as labelled series."""
    return [
        Labelled(case.course, case.t_s, case.values, (case.incident,) if case.incident else (), WARM, case.kind)
        for case in cases(each, seed)
    ]


# --- the tables -----------------------------------------------------------------------------------


def compare(chosen: Sequence[Labelled], others: Sequence[Labelled], after: int = 0) -> dict[str, Outcome]:
    """Each detector on `others`: ours at its shipped threshold, the peers at their best on `chosen`."""
    outcomes = {}
    for name, scorer in DETECTORS.items():
        threshold = TUNING.threshold
        if scorer is not ours:
            threshold = best_threshold(chosen, [scorer(one.t_s, one.values) for one in chosen], after)
        outcomes[name] = judge(others, [scorer(one.t_s, one.values) for one in others], threshold, after)
    return outcomes


def report(title: str, outcomes: dict[str, Outcome]) -> str:
    """One Markdown table."""
    lines = [
        f"{title}\n",
        "| detector | found | missed | false | precision | recall | F1 | median delay, samples | NAB score |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in outcomes.items():
        lines.append(
            f"| {name} | {one.found} | {one.missed} | {one.false} | {one.precision:.2f} | {one.recall:.2f} |"
            f" {one.f1:.2f} | {one.delay:.0f} | {one.score:.0f} |"
        )
    return "\n".join(lines) + "\n"


def by_kind(labelled: Sequence[Labelled]) -> str:
    """Ours, for each kind of injected incident."""
    lines = ["| incident | found | of | median delay, samples | false |", "|---|---|---|---|---|"]
    for kind in (*INCIDENTS, "none"):
        some = [one for one in labelled if one.kind == kind]
        outcome = judge(some, [ours(one.t_s, one.values) for one in some], TUNING.threshold, AFTER)
        delay = f"{outcome.delay:.0f}" if outcome.delays else "-"
        lines.append(f"| {kind} | {outcome.found} | {outcome.found + outcome.missed} | {delay} | {outcome.false} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Print the tables."""
    if arguments:
        chosen, others = nab(Path(arguments[0]))
        print(report("NAB, the half that no parameter was chosen on", compare(chosen, others)), flush=True)
        print(report("NAB, the half on which they were chosen", compare(chosen, chosen)), flush=True)
    else:
        print("NAB is left out: give the folder of a clone of https://github.com/numenta/NAB.\n")
    fresh = injected(CASES, SEED)
    title = f"Injected incidents, {len(fresh)} series of seeds not seen before"
    print(report(title, compare(injected(CHOSEN_CASES, CHOSEN_SEED), fresh, AFTER)), flush=True)
    print(by_kind(fresh))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
