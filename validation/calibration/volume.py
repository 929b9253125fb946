"""Volume: how a session's traded volume spreads over its time, from a day of consolidated trades."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from metrics.frame import FloatArray
from validation.calibration.recordings import RecordingError

SESSION_FROM_MS, SESSION_TO_MS = 34_200_000, 57_600_000  # 09:30 to 16:00
BINS = 39  # ten minutes each
TIME_MS, QTY, SUSPICIOUS, COLUMNS = 0, 2, 5, 6


def read_volume(path: Path) -> FloatArray:
    """Volume per ten minutes of the regular session, float64 (BINS,), in shares; suspicious trades left out.

    path: a zip with one CSV of ms since midnight, price in 1e-4 USD, shares, exchange, condition, suspicious.
    RecordingError where it is something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(archive.namelist()[0])
        rows = np.loadtxt(
            io.BytesIO(text), delimiter=",", usecols=(TIME_MS, QTY, SUSPICIOUS), dtype=np.float64, ndmin=2
        )
    except (OSError, ValueError, IndexError, zipfile.BadZipFile) as error:
        raise RecordingError(f"{path} is not a zip of trade ticks with {COLUMNS} columns: {error}") from error
    times, shares, suspicious = rows.T
    volume, _ = np.histogram(
        times[suspicious == 0], bins=BINS, range=(SESSION_FROM_MS, SESSION_TO_MS), weights=shares[suspicious == 0]
    )
    return np.asarray(volume, dtype=np.float64)


def volume_figures(path: Path) -> dict[str, Any]:
    """The curve for data/market.json: one number per ten minutes of the session, mean 1."""
    volume = read_volume(path)
    if not volume.sum() > 0.0:
        raise RecordingError(f"{path} has no trade between 09:30 and 16:00")
    return {"source": "spy_trades", "bin_s": 600.0, "curve": (volume / volume.mean()).tolist()}
