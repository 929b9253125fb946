"""ITCH table: every message of NASDAQ TotalView-ITCH 5.0, field by field, and a plain decoder and encoder over it.

All numbers are big-endian. Prices have 4 implied decimals, the market-wide decline levels 8. This is the
readable form, one message at a time; `engine.feeds.itchparse` is the fast one, and is tested against this.
Source: NASDAQ TotalView-ITCH 5.0 specification, sections 4.1 to 4.9.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from metrics.errors import DeskvigilError

TEXT: Final = "text"  # left-justified, padded with spaces
NUMBER: Final = "number"
HEADER: Final = (("stock_locate", 2, NUMBER), ("tracking_number", 2, NUMBER), ("timestamp_ns", 6, NUMBER))

Value = int | str


class Field(NamedTuple):
    """One field: where it lies in the message (the type is byte 0), its bytes, TEXT or NUMBER."""

    name: str
    offset: int
    size: int
    form: str


class Layout(NamedTuple):
    """One message type: its length with the type byte, and its fields in order."""

    name: str
    length: int
    fields: tuple[Field, ...]


def _layout(name: str, *columns: tuple[str, int, str]) -> Layout:
    fields, at = [], 1
    for column, size, form in (*HEADER, *columns):
        fields.append(Field(column, at, size, form))
        at += size
    return Layout(name, at, tuple(fields))


_STOCK: Final = ("stock", 8, TEXT)
_REF: Final = ("order_reference", 8, NUMBER)
_SIDE: Final = ("side", 1, TEXT)
_SHARES: Final = ("shares", 4, NUMBER)
_PRICE: Final = ("price", 4, NUMBER)
_MATCH: Final = ("match_number", 8, NUMBER)

MESSAGES: Final[Mapping[str, Layout]] = {
    "S": _layout("system_event", ("event_code", 1, TEXT)),
    "R": _layout(
        "stock_directory", _STOCK, ("market_category", 1, TEXT), ("financial_status", 1, TEXT), ("round_lot_size", 4, NUMBER),
        ("round_lots_only", 1, TEXT), ("issue_classification", 1, TEXT), ("issue_sub_type", 2, TEXT), ("authenticity", 1, TEXT),
        ("short_sale_threshold", 1, TEXT), ("ipo_flag", 1, TEXT), ("luld_reference_price_tier", 1, TEXT), ("etp_flag", 1, TEXT),
        ("etp_leverage_factor", 4, NUMBER), ("inverse", 1, TEXT),
    ),
    "H": _layout("stock_trading_action", _STOCK, ("trading_state", 1, TEXT), ("reserved", 1, TEXT), ("reason", 4, TEXT)),
    "Y": _layout("reg_sho_restriction", _STOCK, ("action", 1, TEXT)),
    "L": _layout(
        "market_participant_position", ("mpid", 4, TEXT), _STOCK, ("primary_market_maker", 1, TEXT), ("market_maker_mode", 1, TEXT),
        ("participant_state", 1, TEXT),
    ),
    "V": _layout("mwcb_decline_level", ("level_1", 8, NUMBER), ("level_2", 8, NUMBER), ("level_3", 8, NUMBER)),
    "W": _layout("mwcb_status", ("breached_level", 1, TEXT)),
    "K": _layout(
        "ipo_quoting_period", _STOCK, ("release_time_s", 4, NUMBER), ("release_qualifier", 1, TEXT), ("ipo_price", 4, NUMBER)
    ),
    "J": _layout(
        "luld_auction_collar", _STOCK, ("reference_price", 4, NUMBER), ("upper_price", 4, NUMBER), ("lower_price", 4, NUMBER),
        ("extension", 4, NUMBER),
    ),
    "h": _layout("operational_halt", _STOCK, ("market_code", 1, TEXT), ("halt_action", 1, TEXT)),
    "A": _layout("add_order", _REF, _SIDE, _SHARES, _STOCK, _PRICE),
    "F": _layout("add_order_with_mpid", _REF, _SIDE, _SHARES, _STOCK, _PRICE, ("attribution", 4, TEXT)),
    "E": _layout("order_executed", _REF, _SHARES, _MATCH),
    "C": _layout("order_executed_with_price", _REF, _SHARES, _MATCH, ("printable", 1, TEXT), _PRICE),
    "X": _layout("order_cancel", _REF, _SHARES),
    "D": _layout("order_delete", _REF),
    "U": _layout("order_replace", _REF, ("new_order_reference", 8, NUMBER), _SHARES, _PRICE),
    "P": _layout("trade", _REF, _SIDE, _SHARES, _STOCK, _PRICE, _MATCH),
    "Q": _layout("cross_trade", ("shares", 8, NUMBER), _STOCK, ("cross_price", 4, NUMBER), _MATCH, ("cross_type", 1, TEXT)),
    "B": _layout("broken_trade", _MATCH),
    "I": _layout(
        "net_order_imbalance", ("paired_shares", 8, NUMBER), ("imbalance_shares", 8, NUMBER), ("imbalance_direction", 1, TEXT), _STOCK,
        ("far_price", 4, NUMBER), ("near_price", 4, NUMBER), ("reference_price", 4, NUMBER), ("cross_type", 1, TEXT),
        ("price_variation", 1, TEXT),
    ),
    "N": _layout("retail_interest", _STOCK, ("interest_flag", 1, TEXT)),
    "O": _layout(
        "direct_listing_price_discovery", _STOCK, ("open_eligibility", 1, TEXT), ("minimum_price", 4, NUMBER),
        ("maximum_price", 4, NUMBER), ("near_execution_price", 4, NUMBER), ("near_execution_time_ns", 8, NUMBER),
        ("lower_collar_price", 4, NUMBER), ("upper_collar_price", 4, NUMBER),
    ),
}  # fmt: skip


def decode(message: bytes) -> dict[str, Value]:
    """One message without its framing as {"type", field: value ...}; texts lose the padding on their right.

    DeskvigilError where the type is unknown or the length is not the type's.
    """
    kind = message[:1].decode("latin-1")
    layout = MESSAGES.get(kind)
    if layout is None:
        raise DeskvigilError(f"ITCH message of unknown type {kind!r}, expected one of {' '.join(MESSAGES)}")
    if len(message) != layout.length:
        raise DeskvigilError(f"ITCH message {kind} ({layout.name}) of {len(message)} bytes, expected {layout.length}")
    values: dict[str, Value] = {"type": kind}
    for name, offset, size, form in layout.fields:
        raw = message[offset : offset + size]
        values[name] = int.from_bytes(raw, "big") if form == NUMBER else raw.decode("latin-1").rstrip(" ")
    return values


def encode(values: Mapping[str, Value]) -> bytes:
    """The message that `decode` gives these values for; DeskvigilError names the field that is missing or too large."""
    kind = str(values["type"])
    layout = MESSAGES.get(kind)
    if layout is None:
        raise DeskvigilError(f"ITCH message of unknown type {kind!r}, expected one of {' '.join(MESSAGES)}")
    parts = [kind.encode("latin-1")]
    for name, _, size, form in layout.fields:
        value = values.get(name)
        try:
            if form == NUMBER:
                parts.append(int(value).to_bytes(size, "big"))  # type: ignore[arg-type]
                continue
            raw = str(value).encode("latin-1") if value is not None else b"x" * (size + 1)
        except (TypeError, ValueError, OverflowError):
            raw = b"x" * (size + 1)
        if len(raw) > size:
            raise DeskvigilError(f"ITCH message {kind}, field {name}: {value!r} is no {form} of {size} bytes")
        parts.append(raw.ljust(size))
    return b"".join(parts)


def frame(message: bytes) -> bytes:
    """A message as files and packets carry it: behind its length in two bytes."""
    return len(message).to_bytes(2, "big") + message
