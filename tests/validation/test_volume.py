"""The volume curve: what counts, when, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from validation.calibrate import MARKET_FILE, rounded
from validation.calibration.recordings import SPY, RecordingError
from validation.calibration.volume import BINS, read_volume, volume_figures


def trades(folder: Path, text: str) -> Path:
    path = folder / "trade.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("trades.csv", text)
    return path


def test_only_sound_trades_of_the_session_count_in_their_ten_minutes(tmp_path: Path) -> None:
    rows = (
        "34199999,10000,7,P,0,0\n34200000,10000,100,P,0,0\n34799999,10000,20,P,0,0\n34800000,10000,5,P,0,0\n"
        "40000000,10000,9,P,0,1\n57600001,10000,3,P,0,0\n"
    )
    volume = read_volume(trades(tmp_path, rows))
    assert volume.shape == (BINS,)
    assert volume[:2].tolist() == [120.0, 5.0]
    assert volume.sum() == 125.0
    assert np.mean(volume_figures(tmp_path / "trade.zip")["curve"]) == pytest.approx(1.0)


@pytest.mark.parametrize("text", ["a,b\n", "1,10000,7,P,0,0\n"])
def test_what_is_no_day_of_trades_is_refused_by_name(text, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"trade\.zip"):
        volume_figures(trades(tmp_path, text))


def test_the_shipped_curve_is_the_recorded_days(marketdata: Path) -> None:
    import orjson

    assert orjson.loads(MARKET_FILE.read_bytes())["volume"] == rounded(volume_figures(marketdata / SPY))
