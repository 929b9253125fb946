"""What a venue's trade and quote stream looks like: for comparison, and for the volatility of what it trades."""

from __future__ import annotations

from typing import Any

import numpy as np

from validation.calibration.hawkes import Arrivals, fit
from validation.calibration.orderflow import SIZE_LEVELS, dispersion, quantiles, weighted_quantiles
from validation.calibration.recordings import TradeSpan

DAY_S = 86_400.0
TICK_USD = {"btcusdt_spot": 0.01, "btcusdt_perpetual": 0.1}  # Binance's price filters of these two markets


def trade_figures(span: TradeSpan, tick_usd: float) -> dict[str, Any]:
    """Rates, clustering, spread, sizes and mid volatility of a span without order identities."""
    new = np.ones(len(span.trade_s), dtype=bool)
    new[1:] = (np.diff(span.trade_s) > 1e-3) | (
        span.buyer[1:] != span.buyer[:-1]
    )  # one aggressor's prints come together
    starts = np.flatnonzero(new)
    aggressor_s = span.trade_s[starts]
    arrivals = Arrivals(aggressor_s, np.zeros(len(starts), dtype=np.int64), 1, np.ones(1), span.span_s)
    spread = np.rint((span.ask - span.bid) / tick_usd)
    held = np.diff(span.quote_s, append=span.span_s)
    grid = np.arange(span.quote_s[0], span.span_s, 1.0)
    index = np.searchsorted(span.quote_s, grid, side="right") - 1
    mid = (span.bid[index] + span.ask[index]) / 2.0
    variance_per_s = float((np.diff(np.log(mid)) ** 2).mean())
    return {
        "span_s": span.span_s,
        "tick_usd": tick_usd,
        "trades_per_minute": len(span.trade_s) / span.span_s * 60.0,
        "aggressors_per_minute": len(starts) / span.span_s * 60.0,
        "quotes_per_minute": len(span.quote_s) / span.span_s * 60.0,
        "buyer_share": float(span.buyer.mean()),
        "aggressor_size": quantiles(np.add.reduceat(span.qty, starts), SIZE_LEVELS),
        "spread_ticks": {"mean": float((spread * held).sum() / held.sum()), **weighted_quantiles(spread, held)},
        "dispersion": {f"{window}s": dispersion(aggressor_s, span.span_s, window) for window in (1, 10)},
        "hawkes": fit(arrivals).figures(),
        "daily_volatility": float(np.sqrt(variance_per_s * DAY_S)),
    }
