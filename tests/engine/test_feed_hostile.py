"""Hostile files: whatever is flipped, cut, doubled or put into a recording of any format, it is read or refused by name."""

from __future__ import annotations

import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cramjam
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.book import apply_all, make_books
from engine.events import Tape, empty_fills
from engine.feeds.dbnwrite import write_dbn
from engine.feeds.itchwrite import write_itch
from engine.feeds.lobster import read_lobster
from engine.feeds.lobsterflow import flow_tape
from engine.feeds.tape import FORMATS, format_named
from metrics.errors import DeskvigilError
from tests.engine.test_feed_itch import capture, messages_of, packet
from tests.engine.venue import recorded

# The text formats by a recording's file, and how many of its lines are enough to have every kind of message.
RECORDED = {
    "binance": ("binance/usdm_btcusdt_20240808.gz", 100),
    "kraken": ("kraken_l2/KRAKEN.ws.50.0.xz", 60),
    "coinbase": ("coinbase_l2/COINBASE.ws.28.0.xz", 200),
    "bitstamp": ("bitstamp_l3/orders_2015-05-01.csv.xz", 300),
    "orders": ("orders/AMZN_2012-06-21.orders.csv.xz", 300),
}
TICKS = "us_ticks/lean_aig_20131007_trade.zip"
SAMPLES = ("lobster", "itch", "itch packets", "dbn mbo", "dbn mbp-10", "dbn packed", "ticks", *RECORDED)
NOISE = b'\xff,}"{ no line of this kind'


def lines_of(marketdata: Path, name: str) -> list[bytes]:
    """The first lines of a recorded text file."""
    path, count = RECORDED[name]
    packed = (marketdata / path).read_bytes()
    text = lzma.decompress(packed) if path.endswith(".xz") else gzip.decompress(packed)
    return text.split(b"\n")[:count]


def first_ticks(marketdata: Path) -> tuple[str, list[bytes]]:
    with zipfile.ZipFile(marketdata / TICKS) as archive:
        [name] = archive.namelist()
        return name, archive.read(name).split(b"\n")[:300]


def zipped(members: dict[str, bytes]) -> bytes:
    """An archive of them, not compressed: a damaged byte is a damaged member, or a damaged archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return packed.getvalue()


@pytest.fixture(scope="module")
def samples(marketdata: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small sound recording of each kind, as the bytes of its file."""
    folder = tmp_path_factory.mktemp("samples")
    day = recorded(3, 7, before=20).write(folder)
    tape: Tape = flow_tape(read_lobster(day))
    itch = write_itch(tape).tobytes()
    messages = messages_of(itch)
    packets = [packet(b"S", 1 + k, messages[k : k + 5]) for k in range(0, len(messages), 5)]
    mbo = write_dbn(tape).tobytes()
    with zipfile.ZipFile(day) as archive:
        lobster = zipped({name: archive.read(name) for name in archive.namelist()})
    name, ticks = first_ticks(marketdata)
    return {
        "lobster": lobster, "itch": itch, "itch packets": capture(packets), "dbn mbo": mbo,
        "dbn mbp-10": write_dbn(tape, levels=True).tobytes()[:200_000], "dbn packed": bytes(cramjam.zstd.compress(mbo)),
        "ticks": zipped({name: b"\n".join(ticks)}),
        **{name: b"\n".join(lines_of(marketdata, name)) + b"\n" for name in RECORDED},
    }  # fmt: skip


def put(folder: Path, sample: str, data: bytes) -> Path:
    """Write a sample's bytes as a file of its format."""
    path = folder / ("recording.zip" if sample in ("lobster", "ticks") else "recording")
    path.write_bytes(data)
    return path


def read_it(sample: str, path: Path) -> int:
    """Load, apply and prove a recording; returns its events, 0 where it is refused. Anything but DeskvigilError is a fault."""
    format = format_named(sample.split()[0])
    events = 0
    with suppress(DeskvigilError):
        tape = format.load(path)
        events = len(tape.events)
        books = make_books(len(tape.instruments), max_orders=1 << 12, level_book=tape.level_book)
        apply_all(books, tape.events, empty_fills(0))
    with suppress(DeskvigilError):
        found = format.prove(path, None)
        assert min(found.events, found.skipped_lines, found.mismatches, found.gaps) >= 0
    return events


def test_there_is_a_sample_of_every_format() -> None:
    # A journal is the engine's own and never a tape: tests/engine/test_recovery.py cuts and damages those.
    assert {sample.split()[0] for sample in SAMPLES} == {format.name for format in FORMATS} - {"journal"}


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_sample_itself_is_sound(sample: str, samples: dict[str, bytes], tmp_path: Path) -> None:
    path = put(tmp_path, sample, samples[sample])
    found = format_named(sample.split()[0]).prove(path, None)
    assert found.events > 50
    assert found.skipped_lines == 0
    assert read_it(sample, path) > 50


Damage = tuple[str, int, bytes]
damages: st.SearchStrategy[list[Damage]] = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "drop", "double", "insert", "swap"]),
        st.integers(0, 2**31),
        st.one_of(st.binary(min_size=1, max_size=12), st.sampled_from([b"\x00" * 8, b"\xff" * 8, b"-1", b"9" * 30, b"\n", b","])),
    ),
    min_size=1,
    max_size=5,
)  # fmt: skip


def damaged(data: bytes, what: list[Damage]) -> bytes:
    for kind, place, noise in what:
        at = place % max(len(data), 1)
        length = 1 + place % 97
        head, part, tail = data[:at], data[at : at + length], data[at + length :]
        changes: dict[str, Callable[[], bytes]] = {
            "flip": lambda head=head, part=part, tail=tail, noise=noise: (
                head + bytes([part[0] ^ (noise[0] or 1)]) + part[1:] + tail if part else head
            ),
            "cut": lambda head=head: head,
            "drop": lambda head=head, tail=tail: head + tail,
            "double": lambda head=head, part=part, tail=tail: head + part + part + tail,
            "insert": lambda head=head, part=part, tail=tail, noise=noise: head + noise + part + tail,
            "swap": lambda head=head, part=part, tail=tail, noise=noise: head + noise + part[len(noise) :] + tail,
        }
        data = changes[kind]()
    return data


@pytest.mark.parametrize("sample", SAMPLES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(what=damages)
def test_damaged_bytes_are_read_or_refused(
    sample: str, what: list[Damage], samples: dict[str, bytes], tmp_path: Path
) -> None:
    read_it(sample, put(tmp_path, sample, damaged(samples[sample], what)))


@pytest.mark.parametrize("sample", ["ticks", *RECORDED])
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_lines_of_noise_are_skipped_counted_and_named(
    sample: str,
    data: st.DataObject,
    marketdata: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name, lines = first_ticks(marketdata) if sample == "ticks" else ("", lines_of(marketdata, sample))
    places = sorted(data.draw(st.sets(st.integers(2, len(lines) - 2), min_size=1, max_size=3)))
    for place in reversed(places):
        lines.insert(place, NOISE)
    text = b"\n".join(lines) + b"\n"
    path = put(tmp_path, sample, zipped({name: text}) if sample == "ticks" else text)
    caplog.clear()
    assert format_named(sample).prove(path, None).skipped_lines == len(places)
    assert f"{places[0] + 1}" in caplog.text
