"""Execution, A against B: the same parents on the same market by every algorithm, and plain market orders as baseline.

What the defaults were tuned on is named in TUNED_ON and printed apart from what they never saw. Each run is the whole
engine (book, gates, execution) in simulated time; the maker is off, so that every order is a parent's. Recorded and
synthetic flow do not react to our orders and orders arrive without delay: impact is mechanical, and costs are a lower bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np

from engine.algos.choice import Algo
from engine.events import Tape
from engine.feeds.tape import load_tape
from engine.figures import load_market
from engine.market import Market, SyntheticFeed, TapeMarket
from engine.options import EngineOptions, MakerOptions, ParentOptions
from engine.synthetic import SyntheticMarket
from validation.calibrate import default_folder
from validation.calibration.recordings import AAPL_1, AMZN_5, PERPETUAL, SPOT
from validation.executionfigures import MEASURES, Measure, Parents, common, compare, half_spread_bps
from validation.executionrun import NS, run
from validation.figure import Figure

NAME = "execution"
BASELINE: Final = Algo.MARKET
TUNED_ON: Final = "AMZN 09:30-13:00, synthetic seed 3 and the BTCUSDT perpetual (peg_negligible_bps)"
AFTERNOON_NS: Final = 13 * 3600 * NS
MORNING_S: Final = 3.5 * 3600.0
_LABELS: Final[dict[Algo, Literal["market", "twap", "vwap", "pov", "peg"]]] = {
    Algo.MARKET: "market", Algo.TWAP: "twap", Algo.VWAP: "vwap", Algo.POV: "pov", Algo.PEG: "peg",
}  # fmt: skip
TARGETS: Final = {"fill": 99.95, "slippage": 1.0, "rejects": 0.01}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One market and the parents on it that count.

    open: makes the market anew, one for each of `runs`; phases: how often the market is run, each time with the parents
    a part of their period later, so that a short tape gives more of them; seconds: how much of it is run; from_ns: starts
    before it do not count; block_s: the stretch of time that the bootstrap takes as one.
    """

    name: str
    sample: Literal["in", "out"]
    open: Callable[[int], Market]
    runs: int = 1
    phases: int = 1
    seconds: float = 1e9
    from_ns: int = 0
    block_s: float = 300.0


def cases(folder: Path) -> Iterator[Case]:
    """The cases that can be run: the synthetic market always, recordings where they are."""
    yield Case(name="synthetic, seed 3", sample="in", open=lambda _: _synthetic(3), seconds=1800, block_s=60)
    yield Case(
        name="synthetic, seeds 101-103",
        sample="out",
        open=lambda k: _synthetic(101 + k),
        runs=3,
        seconds=1200,
        block_s=60,
    )
    if (folder / AMZN_5).is_file():
        amazon = _recorded(folder / AMZN_5)
        yield Case(name="AMZN 09:30-13:00", sample="in", open=amazon, phases=2, seconds=MORNING_S)
        yield Case(name="AMZN 13:00-16:00", sample="out", open=amazon, phases=2, from_ns=AFTERNOON_NS)
    if (folder / AAPL_1).is_file():
        yield Case(name="AAPL 09:30-16:00", sample="out", open=_recorded(folder / AAPL_1), phases=2)
    if (folder / PERPETUAL).is_file():
        yield Case(name="BTCUSDT perpetual", sample="in", open=_recorded(folder / PERPETUAL), phases=8, block_s=30)
    if (folder / SPOT).is_file():
        yield Case(name="BTCUSDT spot", sample="out", open=_recorded(folder / SPOT), phases=8, block_s=30)


def _synthetic(seed: int) -> Market:
    return SyntheticFeed(SyntheticMarket(load_market(), seed=seed))


def _recorded(path: Path) -> Callable[[int], Market]:
    loaded: list[Tape] = []

    def open_again(_: int) -> Market:
        if not loaded:
            loaded.append(load_tape(path))
        return TapeMarket(loaded[0], path.name)

    return open_again


def play(case: Case, algo: Algo, options: ParentOptions) -> Parents:
    """Run a case by one algorithm; all other options stay."""
    rows, blocks, values = [], [], []
    submitted, rejected = 0, dict[str, int]()
    offset = 0
    for k in range(case.runs):
        last = -1
        for phase in range(case.phases):
            market = case.open(k)
            first_s = options.first_after_s + phase * options.period_s / case.phases
            parents = replace(options, algo=_LABELS[algo], control_share=0.0, first_after_s=first_s)
            engine = EngineOptions(seed=1 + phase, maker=MakerOptions(enabled=False), parents=parents)
            found = run(market, engine, case.seconds)
            kept = found.parents[found.parents["start_ns"] >= case.from_ns]
            # Phases differ in their parents' numbers, so that `common` tells them apart.
            kept["number"] += phase << 32
            usd = np.array([row.tick_size_usd * row.lot_size for row in market.instruments])
            block = (kept["start_ns"] - market.start_ns) // round(case.block_s * NS)
            last = max(last, int(block.max(initial=-1)))
            rows.append(kept)
            blocks.append(block + offset)
            values.append(usd[kept["instrument"]])
            submitted += found.submitted
            for reason, count in found.rejected.items():
                rejected[reason] = rejected.get(reason, 0) + count
        offset += last + 1
    return Parents(np.concatenate(rows), np.concatenate(blocks), np.concatenate(values), submitted, rejected)


@dataclass(frozen=True, eq=False)
class Outcome:
    """A case by every algorithm: measures by algorithm and name, how many parents, and the baseline's half-spread."""

    case: Case
    parents: dict[Algo, Parents]
    measures: dict[Algo, dict[str, Measure]]
    half_spread_bps: float

    @property
    def count(self) -> int:
        """Parents compared, the same of every algorithm."""
        return len(self.parents[BASELINE].rows)

    def reject_percent(self, algo: Algo) -> float:
        """Refused orders of all that were submitted."""
        found = self.parents[algo]
        return 100.0 * sum(found.rejected.values()) / max(found.submitted, 1)

    def table(self) -> str:
        """One line for each algorithm, the intervals in brackets, the difference to the baseline after them."""
        lines = [
            f"{self.case.name} ({self.case.sample} of sample): {self.count} parents, half-spread {self.half_spread_bps:.3f} bp"
        ]
        for algo in Algo:
            cells = []
            for name in MEASURES:
                measure = self.measures[algo][name]
                unit = MEASURES[name][0]
                cell = f"{name} {measure.own.value:.2f} [{measure.own.low:.2f}, {measure.own.high:.2f}] {unit}"
                if measure.against is not None:
                    gap = measure.against
                    cell += f", less {BASELINE.label}'s {gap.value:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]"
                cells.append(cell)
            refused = ", ".join(f"{reason} {count}" for reason, count in self.parents[algo].rejected.items()) or "none"
            cells.append(f"rejects {self.reject_percent(algo):.4f} % of {self.parents[algo].submitted} ({refused})")
            lines.append(f"  {algo.label}\n    " + "\n    ".join(cells))
        return "\n".join(lines)


def settle(case: Case, options: ParentOptions) -> Outcome:
    """Run a case by every algorithm and compare."""
    kept = common([play(case, algo, options) for algo in Algo])
    parents = dict(zip(Algo, kept, strict=True))
    measures = {algo: compare(parents[algo], parents[BASELINE]) for algo in Algo}
    return Outcome(case, parents, measures, half_spread_bps(parents[BASELINE]))


def measure(say: Callable[[str], None] = print) -> list[Figure]:
    """Run every case; prints the whole comparison, returns the default algorithm's figures and the baseline's slippage."""
    options = ParentOptions()
    default = Algo[options.algo.upper()] if options.algo != "mix" else Algo.PEG
    say(f"execution: defaults tuned on {TUNED_ON}; 95 % intervals from whole blocks of time, paired")
    figures = []
    for case in cases(default_folder()):
        outcome = settle(case, options)
        say(outcome.table())
        figures += _figures(outcome, default)
    return figures


def _figures(outcome: Outcome, algo: Algo) -> list[Figure]:
    label = f"{outcome.case.name} ({outcome.case.sample})"
    own, base = outcome.measures[algo], outcome.measures[BASELINE]
    slip, gap = own["slippage"].own, own["slippage"].against or own["slippage"].own
    kept = "kept" if slip.value <= TARGETS["slippage"] else "MISSED"
    return [
        Figure(benchmark=NAME, what=f"{label}: {algo.label}, fill rate", value=own["fill"].own.value, unit="%", decimals=3,
               limit=TARGETS["fill"], at_most=False),
        # A target, no promise: what is possible is bounded by the market's own spread.
        Figure(benchmark=NAME, what=f"{label}: {algo.label}, slippage", value=slip.value, unit="bp",
               peer=f"95 % [{slip.low:.2f}, {slip.high:.2f}]; target <= 1 bp {kept}; half-spread {outcome.half_spread_bps:.2f}; "
               f"less {BASELINE.label}'s {gap.value:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]"),
        Figure(benchmark=NAME, what=f"{label}: {BASELINE.label}, slippage", value=base["slippage"].own.value, unit="bp"),
        Figure(benchmark=NAME, what=f"{label}: {algo.label}, rejects", value=outcome.reject_percent(algo), unit="%", decimals=4,
               limit=TARGETS["rejects"]),
    ]  # fmt: skip
