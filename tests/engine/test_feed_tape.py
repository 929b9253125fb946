"""Tapes: recordings are recognised by what is in them, and what is none says so."""

from __future__ import annotations

import gzip
import zipfile

import numpy as np
import pytest

from engine.feeds.tape import load_tape, recognise
from metrics.errors import DeskvigilError


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lobster/LOBSTER_SampleFile_AAPL_2012-06-21_1.zip", "lobster"),
        ("binance/usdm_btcusdt_20240808.gz", "binance"),
        ("orders/AMZN_2012-06-21.orders.csv.xz", "orders"),
        ("kraken_l2/KRAKEN.ws.50.0.xz", "kraken"),
        ("coinbase_l2/COINBASE.ws.28.0.xz", "coinbase"),
        ("bitstamp_l3/orders_2015-05-01.csv.xz", "bitstamp"),
        ("us_ticks/lean_spy_20131007_trade.zip", "ticks"),
        ("us_ticks", "ticks"),
        ("itch_packets/omi_nasdaq_itch50_packets.tar.xz", "itch"),
        ("cme_mbo/esh4-glbx-mdp3-20231225.mbo.dbn.zst", "dbn"),
    ],
)
def test_a_recording_is_recognised_whatever_its_name_is(marketdata, tmp_path, name, kind) -> None:
    copy = tmp_path / "recording"
    copy.symlink_to(marketdata / name)
    assert recognise(copy).name == kind


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\n",
        b"a,b,c\n1,2,3\n",
        b"\x00\x01\x02\xff",
        b"\x1f\x8bbroken",
        gzip.compress(b"x" * 999, mtime=0)[:-9],
    ],
)
def test_a_foreign_or_damaged_file_is_refused_by_name(tmp_path, content) -> None:
    path = tmp_path / "foreign.bin"
    path.write_bytes(content)
    with pytest.raises(DeskvigilError, match=r"foreign\.bin"):
        load_tape(path)


def test_a_zip_of_something_else_is_refused_by_name(tmp_path) -> None:
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(DeskvigilError, match=r"other\.zip: expected a recording.*readme\.txt"):
        load_tape(path)


def test_a_missing_file_is_an_error_that_names_it(tmp_path) -> None:
    with pytest.raises(DeskvigilError, match="nowhere"):
        load_tape(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name", ["lobster/LOBSTER_SampleFile_AMZN_2012-06-21_1.zip", "binance/spot_btcusdt_20240808.gz"]
)
def test_loading_twice_gives_the_same_tape(marketdata, name) -> None:
    first, second = load_tape(marketdata / name), load_tape(marketdata / name)
    assert np.array_equal(first.events, second.events)
    assert not first.events.flags.writeable
    assert first.start_ns <= first.events["t_ns"][0] <= first.events["t_ns"][-1] <= first.end_ns
