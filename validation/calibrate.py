"""Calibrate: measure the synthetic market's figures on recorded days and write data/market.json.

    python -m validation.calibrate [FOLDER] [--out FILE]     measure and write
    python -m validation.calibrate --check                   compare the synthetic market with the recorded figures

The same recordings give the same numbers. Only numbers are written, never recorded rows.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import orjson

from metrics.errors import DeskvigilError
from validation.calibration import recordings as rec
from validation.calibration.comparison import compare, print_comparison
from validation.calibration.correlation import measure_moves
from validation.calibration.orderflow import face_figures, flow_figures, variance_curve
from validation.calibration.trades import TICK_USD, trade_figures
from validation.calibration.volume import volume_figures

REPOSITORY = Path(__file__).resolve().parents[1]
MARKET_FILE = REPOSITORY / "data" / "market.json"
FIRST_DAY = (
    "2013-01-02"  # five years before the table ends; older returns say little about how stocks move together now
)
SIGNIFICANT_DIGITS = 9
UNITS = {
    "*_per_s": "events per second",
    "*_per_minute": "events per minute",
    "*_ticks": "ticks (0.01 USD for the stocks, tick_usd for the others)",
    "*_shares": "shares",
    "*_s": "seconds",
    "*volatility*": "standard deviation of log returns over the named span (1 = 100 %)",
    "curves": "one number per half hour of the session (volume.curve: per ten minutes), mean 1",
    "levels/values": "quantile levels in 0..1 and the sample's quantiles (linear between order statistics)",
}
FORMULAS = {
    "flow.rates_per_s": "message counts / session seconds; ioc = executions of visible orders grouped by time stamp and resting side",
    "flow.hawkes": "lambda_i = mu_i c(t) + sum_jp N_ijp beta_p exp(-beta_p dt); EM (Veen & Schoenberg 2008), decays by grid ascent of the likelihood; "
    "branching_ratio = spectral radius of sum_p N; goodness = gain over Poisson with the same curve, KS of time-rescaled residuals to Exp(1)",
    "flow.placement": "limit orders against the same side's touch one message before, by the spread they found",
    "flow.resting_orders_per_side": "orders seen entering and still alive whose price is within the 5 visible levels, sampled every 10 s after the first half hour, halved",
    "pace": "level-1 events of the day over those of AMZN",
    "variance_curve": "mean of both stocks' realised variance of 10 s mid returns per half hour",
    "daily": "log returns of adjusted closes, gaps never bridged, pairwise complete; correlation shrunk to its mean (Schaefer & Strimmer 2005), eigenvalues floored at 1e-4",
    "volume.curve": "shares traded per ten minutes of the session over their mean, one day of SPY; suspicious trades left out",
    "dispersion": "variance / mean of counts per window",
    "mid_volatility_per_session": "sqrt of summed squared log returns of the mid on the named grid",
}


def default_folder() -> Path:
    """Where the recordings lie: $DESKVIGIL_MARKETDATA, else ../shared/marketdata beside the repository."""
    given = os.environ.get("DESKVIGIL_MARKETDATA")
    return Path(given) if given else REPOSITORY.parent / "shared" / "marketdata"


def rounded(value: Any) -> Any:
    """The same structure with floats cut to the digits that another machine reproduces."""
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return value


def measure(folder: Path) -> dict[str, Any]:
    """Measure everything; RecordingError where a recording is missing or unreadable."""
    sources = {key: rec.source_of(folder, name) for key, name in rec.FILES.items()}
    amzn = rec.read_order_day(folder / rec.AMZN_5)
    amzn_top = rec.read_order_day(folder / rec.AMZN_1)
    aapl_top = rec.read_order_day(folder / rec.AAPL_1)
    faces = {"amzn_5": face_figures(amzn), "amzn_1": face_figures(amzn_top), "aapl_1": face_figures(aapl_top)}
    spans = {key: rec.read_trade_span(folder / rec.FILES[key]) for key in TICK_USD}
    curve = (variance_curve(amzn) + variance_curve(aapl_top)) / 2.0
    figures: dict[str, Any] = rounded(
        {
            "format": 1,
            "made_by": "python -m validation.calibrate",
            "units": UNITS,
            "formulas": FORMULAS,
            "sources": sources,
            "flow": {"source": "amzn_5", "span": "2012-06-21 09:30-16:00, 5 levels", **flow_figures(amzn)},
            "pace": {
                "amzn": 1.0,
                "aapl": faces["aapl_1"]["events_per_minute"] / faces["amzn_1"]["events_per_minute"],
            },
            "variance_curve": curve.tolist(),
            "volume": volume_figures(folder / rec.SPY),
            "daily": {
                "source": "daily_closes",
                **measure_moves(rec.read_daily_closes(folder / rec.DAILY), FIRST_DAY).figures(),
            },
            "recorded": faces,
            "venues": {key: {"source": key, **trade_figures(spans[key], TICK_USD[key])} for key in TICK_USD},
        }
    )
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="calibrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=None, help="folder of the recordings")
    parser.add_argument("--out", type=Path, default=MARKET_FILE, help="file to write (default data/market.json)")
    parser.add_argument("--check", action="store_true", help="compare the synthetic market with the shipped figures")
    parser.add_argument("--seed", type=int, default=1, help="seed of the synthetic market that --check runs")
    given = parser.parse_args(arguments)
    folder = given.folder or default_folder()
    try:
        if given.check:
            rec.source_of(folder, rec.AMZN_5)
            print_comparison(compare(rec.read_order_day(folder / rec.AMZN_5), seed=given.seed))
            return 0
        figures = measure(folder)
    except DeskvigilError as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 1
    given.out.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")
    print(f"wrote {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
