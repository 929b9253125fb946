"""Tape: any recording that the engine can play, recognised by what is in it.

`FORMATS` is the one list of formats. A new one is a file beside this one with three functions, and a
line in the list: how its content is recognised, how it becomes a tape, and how it proves itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine import journalreplay, reconcile
from engine.events import Tape
from engine.feeds import binance, bitstamp, coinbase, dbn, itch, kraken, lobster, orders, ticks
from engine.feeds.files import Opening, open_zip, read_start
from engine.feeds.result import Result
from metrics.errors import DeskvigilError

OPENING_BYTES = 4096
ZIP_MAGIC = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of recording.

    name: as `--format` takes it; is_like: whether a recording that opens so is of this kind; load: the
    recording as a tape; prove: replay it, unpaced, and compare it with what the venue says (second
    argument: where to write the fills as CSV, given only where writes_fills). load and prove raise
    DeskvigilError, which names file, place and what was expected.
    """

    name: str
    is_like: Callable[[Opening], bool]
    load: Callable[[Path], Tape]
    prove: Callable[[Path, Path | None], Result]
    writes_fills: bool = False


FORMATS = (
    Format("lobster", lobster.is_lobster, reconcile.load, reconcile.prove),
    Format("itch", itch.is_recording, itch.itch_tape, itch.prove),
    Format("dbn", dbn.is_recording, dbn.dbn_tape, dbn.prove),
    Format("binance", binance.is_capture, binance.load, binance.prove),
    Format("kraken", kraken.is_capture, kraken.load, kraken.prove),
    Format("coinbase", coinbase.is_capture, coinbase.load, coinbase.prove),
    Format("bitstamp", bitstamp.is_recording, bitstamp.load, bitstamp.prove),
    Format("orders", orders.is_orders, orders.load, orders.prove, writes_fills=True),
    Format("ticks", ticks.is_ticks, ticks.load, ticks.prove),
    Format("journal", journalreplay.is_journal, journalreplay.load, journalreplay.prove, writes_fills=True),
)


def format_named(name: str) -> Format:
    """The format of that name; DeskvigilError where there is none."""
    for format in FORMATS:
        if format.name == name:
            return format
    raise DeskvigilError(f"unknown format {name!r}: expected {', '.join(format.name for format in FORMATS)}")


def read_opening(path: Path) -> Opening:
    """How a recording begins; DeskvigilError where it cannot be read."""
    if path.is_dir():
        return Opening(b"", tuple(sorted(entry.name for entry in path.iterdir())))
    head = read_start(path, OPENING_BYTES)
    if not head.startswith(ZIP_MAGIC):
        return Opening(head, ())
    with open_zip(path) as archive:
        return Opening(head, tuple(archive.namelist()))


def recognise(path: Path) -> Format:
    """What kind of recording a file is, by its content; DeskvigilError where it is none that is known."""
    opening = read_opening(path)
    for format in FORMATS:
        if format.is_like(opening):
            return format
    found = opening.head[:60].split(b"\n")[0] if not opening.members else ", ".join(opening.members[:8])
    raise DeskvigilError(
        f"{path.name}: expected a recording of {', '.join(format.name for format in FORMATS)}; it begins with {found!r}"
    )


def load_tape(path: Path) -> Tape:
    """Load a recording of any known format, plain, .gz or .xz, or in the zip that the format comes in.

    Raises DeskvigilError naming file and line, and what was expected there.
    """
    return recognise(path).load(path)
