"""Options of live feeds, the failover between them, and the ring to the engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.events import LEVEL, empty_events
from engine.live.eventring import EventConsumer, EventProducer
from engine.live.failover import Failover
from engine.live.options import FeedOptions, LiveOptions
from engine.live.venues import open_venue
from engine.options import EngineOptions

SWITCH, RETURN = 3, 7


def test_a_feed_without_tls_is_for_this_machine_only() -> None:
    FeedOptions(venue="kraken", symbols=("BTC/USD",), url="ws://127.0.0.1:1", rest_url="http://localhost:1")
    with pytest.raises(ValueError, match="without TLS"):
        FeedOptions(venue="kraken", symbols=("BTC/USD",), url="ws://feed.example.com")
    with pytest.raises(ValueError, match="must begin with"):
        FeedOptions(venue="kraken", symbols=("BTC/USD",), rest_url="file:///etc/passwd")


@pytest.mark.parametrize("symbol", ["", "BTC", "btc/usd", "BTC/", "/USD", "BTC/U D", "BTC/USD/X", "BTC/ÜSD"])
def test_a_symbol_is_a_base_and_a_quote(symbol: str) -> None:
    with pytest.raises(ValueError, match="no symbol like"):
        FeedOptions(venue="kraken", symbols=(symbol,))


def test_a_live_market_excludes_a_tape_and_a_speed() -> None:
    live = LiveOptions(venue="kraken", symbols=("BTC/USD",))
    with pytest.raises(ValueError, match="not both"):
        EngineOptions(live=live, tape=Path("x"))
    with pytest.raises(ValueError, match="speed of 1"):
        EngineOptions(live=live, speed=2.0)
    with pytest.raises(ValueError, match="needs symbols"):
        LiveOptions(venue="kraken")
    with pytest.raises(ValueError, match="the backup has 2 symbols"):
        LiveOptions(venue="kraken", symbols=("BTC/USD",), backup=FeedOptions(venue="coinbase", symbols=("A/B", "C/D")))


def test_each_venue_has_its_own_names_for_symbols_and_feeds_are_told_apart() -> None:
    options = LiveOptions(venue="kraken", symbols=("BTC/USD", "ETH/USD"), backup=FeedOptions(venue="kraken"))
    assert options.names == ("kraken", "kraken-backup")
    natives = {
        venue: open_venue(FeedOptions(venue=venue, symbols=("BTC/USD",)), 1000).natives  # type: ignore[arg-type]
        for venue in ("kraken", "coinbase", "binance")
    }
    assert natives == {"kraken": ("XBT/USD",), "coinbase": ("BTC-USD",), "binance": ("BTCUSD",)}


@pytest.mark.parametrize(
    ("venue", "message", "sent_ns"),
    [
        (
            "kraken",
            b'[1,{"a":[["5541.30000","2.50700000","1534614248.456738"]]},"book-10","XBT/USD"]',
            1534614248456738000,
        ),
        ("kraken", b'{"event":"heartbeat"}', 0),
        ("binance", b'{"stream":"x","data":{"e":"depthUpdate","E":1723161255208}}', 1723161255208000000),
        ("coinbase", b'{"type":"l2update","time":"2021-04-17T16:43:37.200251Z"}', 1618677817200251000),
        ("coinbase", b'{"time":"2021-99-99T99:99:99.1Z"}', 0),
    ],
)
def test_when_the_venue_sent_a_message(venue: str, message: bytes, sent_ns: int) -> None:
    found = open_venue(FeedOptions(venue=venue, symbols=("BTC/USD",)), 1000).sent_ns(message)  # type: ignore[arg-type]
    assert found == sent_ns


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 4)), max_size=60))
def test_the_failover_follows_its_two_rules(steps: list[tuple[bool, bool, int]]) -> None:
    """Against the rules, looked up in the whole history."""
    failover, now = Failover(SWITCH, RETURN, 0), 0
    history: list[tuple[int, tuple[bool, bool]]] = [(0, (False, False))]
    active = 0

    def lasted(k: int, is_live: bool) -> int:
        """How long feed k has been so without a break, -1 where it is not."""
        since = -1
        for t, live in history:
            since = (t if since < 0 else since) if live[k] is is_live else -1
        return now - since if since >= 0 else -1

    for first, backup, passed in steps:
        now += passed
        history.append((now, (first, backup)))
        other = 1 - active
        lost = lasted(active, False) >= SWITCH
        mended = active == 1 and lasted(0, True) >= RETURN
        expected = (first, backup)[other] and (lost or mended)
        assert failover.decide((first, backup), now) is expected
        active = other if expected else active
        assert failover.active == active


def test_without_a_backup_there_is_nothing_to_switch_to() -> None:
    failover = Failover(SWITCH, RETURN, 0)
    assert not any(failover.decide((False,), t) for t in range(50))


def level(price: int) -> np.ndarray:
    events = empty_events(1)
    events["kind"], events["price"], events["side"], events["qty"] = LEVEL, price, 1, 1
    return events


def test_either_end_of_the_ring_may_die_and_find_it_again(tmp_path: Path) -> None:
    ring, bell = tmp_path / "ring", tmp_path / "bell"
    producer = EventProducer(ring, bell)
    producer.write(level(1), 0)
    consumer = EventConsumer(ring, bell)
    assert len(consumer.take()) == 0  # what was there before it asked is not its own
    producer.write(level(2), producer.requested)
    assert consumer.take()["price"].tolist() == [2]
    producer.write(level(3), producer.requested)
    again = EventProducer(ring, bell)
    again.write(level(4), again.requested)
    assert consumer.take()["price"].tolist() == [3, 4]
    heir = EventConsumer(ring, bell)
    again.write(level(5), again.requested - 1)
    again.write(level(6), again.requested)
    assert heir.take()["price"].tolist() == [6]
    assert not heir.is_replaced()


def test_a_parked_engine_is_rung(tmp_path: Path) -> None:
    import select

    ring, bell = tmp_path / "ring", tmp_path / "bell"
    producer, consumer = EventProducer(ring, bell), EventConsumer(ring, bell)
    assert consumer.park()
    assert not select.select([consumer.bell], [], [], 0)[0]
    producer.write(level(1), producer.requested)
    assert select.select([consumer.bell], [], [], 0)[0]
    consumer.unpark()
    assert not consumer.park()  # the event is still there
    consumer.unpark()
    assert len(consumer.take()) == 1


def test_a_file_that_is_no_ring_is_replaced(tmp_path: Path) -> None:
    ring, bell = tmp_path / "ring", tmp_path / "bell"
    ring.write_bytes(b"no ring")
    producer = EventProducer(ring, bell)
    consumer = EventConsumer(ring, bell)
    producer.write(level(7), producer.requested)
    assert consumer.take()["price"].tolist() == [7]
