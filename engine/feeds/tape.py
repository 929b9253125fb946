"""Tape: any recording that the engine can play, recognised by what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from engine.events import Tape
from engine.feeds.binance import capture_tape, read_capture
from engine.feeds.dbn import dbn_tape, is_dbn
from engine.feeds.files import read_start
from engine.feeds.itch import is_itch, itch_tape
from engine.feeds.lobster import read_lobster
from engine.feeds.lobsterflow import flow_tape
from engine.feeds.orders import HEADER, orders_tape, read_orders
from metrics.errors import DeskvigilError

Kind = Literal["lobster", "binance", "orders", "itch", "dbn"]
ZIP_MAGIC = b"PK\x03\x04"


def recognise(path: Path) -> Kind:
    """What kind of recording a file is, by its first bytes; DeskvigilError where it is none that is known."""
    start = read_start(path, 512)
    if start.startswith(ZIP_MAGIC):
        return "lobster"
    if is_itch(start):
        return "itch"
    if is_dbn(start):
        return "dbn"
    line = start.split(b"\n")[0].strip()
    if line == HEADER:
        return "orders"
    stamp, _, text = line.partition(b" ")
    if stamp.isdigit() and text.startswith(b"{"):
        return "binance"
    raise DeskvigilError(
        f"{path.name}, line 1: expected a LOBSTER zip, ITCH messages or packets, DBN, a Binance capture ('ns json' lines) or an order file with the "
        f"header {HEADER.decode()}, found {line[:60]!r}"
    )


def load_tape(path: Path) -> Tape:
    """Load a recording: a LOBSTER zip, a Binance capture or an order file, plain, .gz or .xz.

    Raises DeskvigilError naming file and line, and what was expected there.
    """
    kind = recognise(path)
    if kind == "lobster":
        return flow_tape(read_lobster(path))
    if kind == "binance":
        return capture_tape(read_capture(path))
    if kind == "itch":
        return itch_tape(path)
    if kind == "dbn":
        return dbn_tape(path)
    return orders_tape(read_orders(path))
