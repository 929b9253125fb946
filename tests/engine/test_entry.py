"""Order entry: what a client sends, what the books do, what it is told, and what is left when it goes."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import blotter as blot
from engine import counters as at
from engine import mailbox, ring
from engine.blotter import NEXT_STATES, TRANSITIONS, OrderState
from engine.gates import TradingState
from engine.mailbox import REFUSALS, What, Why, reason_name
from engine.options import EngineOptions
from engine.parking import DUE
from engine.session import Answer, OrderError, OrderSession, SessionError
from metrics.paths import RuntimePaths
from tests.engine.house import ASK, BID, FORK, LEVEL_LOTS, OPTIONS, House, with_entry, with_gates


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


def made(folder: Path, options: EngineOptions) -> Iterator[House]:
    house = House(folder, options)
    yield house
    house.close()


def told(house: House, session: OrderSession) -> list[tuple[What, int, str]]:
    """Serve what was sent; what, which order, why."""
    house.serve()
    house.check()
    return [(answer.what, answer.order, answer.reason) for answer in session.poll()]


def answers(house: House, session: OrderSession) -> list[Answer]:
    house.serve()
    house.check()
    return session.poll()


def test_a_limit_order_rests_and_is_cancelled(house: House) -> None:
    with house.attach() as session:
        order = session.send("AAA", "buy", 10, 99.95)
        (ack,) = answers(house, session)
        assert (ack.what, ack.order, ack.symbol, ack.side, ack.price_usd, ack.left) == (
            What.ACK, order, "AAA", "buy", pytest.approx(99.95), 10.0,
        )  # fmt: skip
        assert house.desk.working_orders() == house.desk.resting_orders("AAA") == 1
        session.cancel(order)
        (cancel,) = answers(house, session)
        assert (cancel.what, cancel.order, cancel.qty, cancel.reason) == (What.CANCEL, order, 10.0, "requested")
        assert house.desk.working_orders() == 0


@pytest.mark.parametrize("limit", ["max_working_total_usd", "max_gross_usd"])
def test_what_ends_frees_its_room_for_other_instruments_before_any_further_event(tmp_path: Path, limit: str) -> None:
    for house in made(tmp_path / "a", with_gates(**{limit: 2_000.0})):  # 20 lots
        with house.attach() as session:
            first = session.send("AAA", "buy", 15, 99.95)
            second = session.send("BBB", "buy", 10, 99.95)
            refused = "working_exposure" if limit == "max_working_total_usd" else "gross_exposure"
            assert told(house, session) == [(What.ACK, first, ""), (What.REJECT, second, refused)]
            session.reduce(first, "AAA", 5)
            third = session.send("BBB", "buy", 10, 99.95)
            assert [what for what, *_ in told(house, session)] == [What.REDUCED, What.ACK]
            session.cancel(first)
            session.cancel(third)
            fourth = session.send("BBB", "sell", 20, 100.05)
            assert told(house, session)[-1] == (What.ACK, fourth, "")


def test_an_order_that_crosses_is_filled_and_reaches_the_account(house: House) -> None:
    with house.attach() as session:
        order = session.send("AAA", "buy", LEVEL_LOTS + 20, 100.03)
        got = answers(house, session)
        assert [(a.what, a.qty, a.left, a.price_usd) for a in got[1:]] == [
            (What.FILL, 100.0, 20.0, pytest.approx(100.01)),
            (What.FILL, 20.0, 0.0, pytest.approx(100.02)),
        ]
        assert got[0].what is What.ACK
        assert all(a.taker for a in got[1:])
        assert house.position() == 120
        counts = house.desk._desk.counts
        assert (counts[at.SUBMITTED_CLIENT], counts[at.ACKED], counts[at.FILLED]) == (1, 1, 1)
        assert house.desk._desk.latencies[[at.LATENCY_CLIENT_ACK, at.LATENCY_CLIENT_FILL]].sum() == 2
        session.cancel(order)
        assert told(house, session) == [(What.REFUSED, order, "too_late")]


def test_what_an_ioc_cannot_match_lapses(house: House) -> None:
    with house.attach() as session:
        order = session.send("AAA", "sell", LEVEL_LOTS + 5, 99.99, kind="ioc")
        got = answers(house, session)
        assert [(a.what, a.qty, a.left, a.reason) for a in got] == [
            (What.ACK, 105.0, 105.0, ""),
            (What.FILL, 100.0, 5.0, ""),
            (What.CANCEL, 5.0, 0.0, "lapsed"),
        ]
        assert {a.order for a in got} == {order}
        assert house.position() == -100


def test_a_market_order_goes_no_further_than_the_collar(tmp_path: Path) -> None:
    for house in made(tmp_path / "a", with_gates(collar_ratio=0.0005)):  # 5 cents
        with house.attach() as session:
            session.send("AAA", "buy", 1000, kind="market")
            got = answers(house, session)
            assert [round(a.price_usd * 100) for a in got if a.what is What.FILL] == [
                ASK,
                ASK + 1,
                ASK + 2,
                ASK + 3,
                ASK + 4,
            ]
            assert (got[-1].what, got[-1].qty, got[-1].reason) == (What.CANCEL, 500.0, "lapsed")


def test_in_a_book_of_levels_clients_trade_with_what_is_visible(tmp_path: Path) -> None:
    house = House(tmp_path / "a", levels=True)
    with house.attach() as session:
        session.send("AAA", "buy", LEVEL_LOTS + 30, 100.02, kind="ioc")
        assert [(a.what, a.qty) for a in answers(house, session)] == [
            (What.ACK, 130.0), (What.FILL, 100.0), (What.FILL, 30.0),
        ]  # fmt: skip
        rests = session.send("AAA", "buy", 40, 100.01)  # what was taken is not there again: it rests
        assert told(house, session) == [(What.ACK, rests, "")]
        session.cancel(rests)
        assert told(house, session) == [(What.CANCEL, rests, "requested")]
        assert house.position() == 130
    house.close()


def test_post_only_is_rejected_where_it_would_match(house: House) -> None:
    with house.attach() as session:
        refused = session.send("AAA", "buy", 10, 100.01, kind="post_only")
        rested = session.send("AAA", "buy", 10, 100.00, kind="post_only")
        assert told(house, session) == [(What.REJECT, refused, "would_match"), (What.ACK, rested, "")]


def test_fill_or_kill_trades_all_or_nothing(house: House) -> None:
    with house.attach() as session:
        before = house.exposure()
        refused = session.send("AAA", "buy", LEVEL_LOTS + 1, 100.01, kind="fok")
        assert told(house, session) == [(What.REJECT, refused, "unfillable")]
        assert house.exposure() == pytest.approx(before)
        assert house.position() == 0
        session.send("AAA", "buy", LEVEL_LOTS, 100.01, kind="fok")
        assert What.FILL in [a.what for a in answers(house, session)]
        assert house.position() == LEVEL_LOTS


def test_reduce_and_replace(house: House) -> None:
    with house.attach() as session:
        order = session.send("AAA", "buy", 50, 99.99)
        session.reduce(order, "AAA", 20)
        session.replace(order, "AAA", 25, 99.99)  # less at the same price: keeps its place
        session.replace(order, "AAA", 60, 99.98)
        session.replace(order, "AAA", 150, 100.01)  # crosses: trades as a new one would
        got = answers(house, session)
        assert [(a.what, a.left, round(a.price_usd * 100)) for a in got] == [
            (What.ACK, 50.0, BID),
            (What.REDUCED, 30.0, BID),
            (What.REPLACED, 25.0, BID),
            (What.REPLACED, 60.0, BID - 1),
            (What.REPLACED, 150.0, ASK),
            (What.FILL, 50.0, ASK),
        ]
        session.reduce(order, "AAA", 50)
        assert told(house, session) == [(What.CANCEL, order, "requested")]
        session.replace(order, "AAA", 10, 99.0)
        assert told(house, session) == [(What.REFUSED, order, "too_late")]


def test_a_replacement_that_the_gates_refuse_leaves_the_order_as_it_was(tmp_path: Path) -> None:
    for house in made(tmp_path / "a", with_gates(max_position_usd=5_000)):
        with house.attach() as session:
            order = session.send("AAA", "buy", 50, 99.99)
            session.replace(order, "AAA", 51, 99.98)
            session.replace(order, "AAA", 50, 99.98)  # what it replaces does not count against it
            session.send("AAA", "buy", 1, 99.0)
            assert told(house, session) == [
                (What.ACK, order, ""), (What.REFUSED, order, "position"), (What.REPLACED, order, ""),
                (What.REJECT, 4, "position"),
            ]  # fmt: skip


def test_a_replacement_that_the_book_refuses_leaves_the_order_as_it_was(house: House) -> None:
    with house.attach() as session:
        order = session.send("AAA", "buy", 50, 99.99, kind="post_only")
        house.serve()
        before = house.exposure()
        session.replace(order, "AAA", 70, 100.01)
        assert told(house, session) == [(What.ACK, order, ""), (What.REFUSED, order, "would_match")]
        assert house.exposure() == pytest.approx(before), "what never came into the book counts nowhere"
        session.replace(order, "AAA", 60, 99.98)
        assert told(house, session) == [(What.REPLACED, order, "")]


def test_a_refused_replacement_does_not_make_room_for_others(tmp_path: Path) -> None:
    for house in made(tmp_path / "a", with_gates(max_working_total_usd=10_000, max_identical=1)):
        with house.attach() as session:
            session.send("AAA", "buy", 40, 99.98)
            order = session.send("AAA", "buy", 50, 99.99)
            session.replace(order, "AAA", 40, 99.98)  # identical to the first one
            late = session.send("BBB", "buy", 20, 99.99)
            assert told(house, session)[2:] == [
                (What.REFUSED, order, "duplicate"),
                (What.REJECT, late, "working_exposure"),
            ]


def test_orders_of_nobody_cannot_be_cancelled(house: House) -> None:
    with house.attach() as session, house.attach("desk-b") as other:
        theirs = other.send("AAA", "buy", 1, 99.0)
        house.serve()
        other.poll()
        session.cancel(theirs + 5)
        assert told(house, session) == [(What.REFUSED, theirs + 5, "unknown_order")]
        session.send("AAA", "buy", 1, 100.0)
        session.cancel(theirs)  # another client's number means nothing here
        assert (What.REFUSED, theirs, "too_late") in told(house, session)
        assert house.desk.working_orders() == 2


def test_house_rules_hold_for_clients(tmp_path: Path) -> None:
    for house in made(
        tmp_path / "a", with_gates(collar_ratio=0.01, max_order_qty=200, max_messages_per_s=1, message_burst=3)
    ):
        with house.attach() as session:
            session.send("AAA", "buy", 1, 98.0)
            session.send("AAA", "buy", 201, 99.9)
            for _ in range(4):
                session.send("AAA", "buy", 1, 99.9)
            reasons = [reason for _what, _order, reason in told(house, session)]
            assert reasons == ["price_collar", "order_quantity", "", "", "", "message_rate"]
            for order in (3, 4, 5):  # a cancel is never throttled
                session.cancel(order)
            assert [what for what, _, _ in told(house, session)] == [What.CANCEL] * 3


def test_stale_data_block_clients_too(house: House) -> None:
    with house.attach() as session:
        house.now_ns += 61 * 1_000_000_000
        order = session.send("AAA", "buy", 1, 99.9)
        assert told(house, session) == [(What.REJECT, order, "stale_data")]


def test_capacity_is_refused_with_a_reason_and_counted(tmp_path: Path) -> None:
    for house in made(tmp_path / "a", with_entry(max_orders=4, max_orders_per_client=3)):
        with house.attach() as session, house.attach("desk-b") as other:
            for _ in range(4):
                session.send("AAA", "buy", 1, 99.0)
            assert told(house, session)[3] == (What.REJECT, 4, "too_many_orders")
            other.send("AAA", "buy", 1, 99.0)
            other.send("AAA", "buy", 1, 99.0)
            assert told(house, other)[1] == (What.REJECT, 2, "blotter_full")
            counts = house.desk._desk.counts
            assert [
                counts[at.REQUEST_REFUSED + REFUSALS.index(w)] for w in (Why.TOO_MANY_ORDERS, Why.BLOTTER_FULL)
            ] == [1, 1]
            session.cancel(1)
            other.send("AAA", "buy", 1, 99.0)
            house.serve()
            assert What.ACK in [a.what for a in other.poll()]


def test_two_clients_do_not_trade_with_each_other(house: House) -> None:
    with house.attach() as session, house.attach("desk-b") as other:
        order = session.send("AAA", "buy", 10, 100.0)
        house.serve()
        other.send("AAA", "sell", 10, 100.0)
        house.serve()
        house.check()
        assert [(a.what, a.order, a.reason) for a in session.poll()] == [
            (What.ACK, order, ""), (What.CANCEL, order, "self_trade"),
        ]  # fmt: skip
        assert house.position() == 0


def test_a_halt_cancels_what_works_and_rejects_what_comes(house: House) -> None:
    with house.attach() as session:
        orders = [session.send(symbol, "buy", 1, 99.0) for symbol in ("AAA", "BBB", "AAA")]
        house.serve()
        session.poll()
        assert house.set_state(TradingState.HALTED) == 3
        house.check()
        assert sorted((a.what, a.order, a.reason) for a in session.poll()) == [
            (What.CANCEL, order, "trading_state") for order in sorted(orders)
        ]
        late = session.send("AAA", "buy", 1, 99.0)
        assert told(house, session) == [(What.REJECT, late, "halted")]


@pytest.mark.parametrize("scope", ["client:desk-a", "strategy:clients", "AAA", "all"])
def test_a_halt_by_scope_reaches_clients_orders_tells_them_and_names_them(house: House, scope: str) -> None:
    with house.attach() as mine, house.attach("desk-b") as other:
        a = [mine.send(symbol, side, 1, 100.0 - 0.05 * (k + 1) * (1 if side == "buy" else -1))
             for k, (symbol, side) in enumerate((("AAA", "buy"), ("BBB", "buy"), ("AAA", "sell")))]  # fmt: skip
        b = [other.send("AAA", "buy", 1, 99.9), other.send("BBB", "sell", 1, 100.2)]
        house.serve()
        mine.poll(), other.poll()
        goes = {
            "client:desk-a": (a, []), "strategy:clients": (a, b), "AAA": ([a[0], a[2]], b[:1]), "all": (a, b),
        }[scope]  # fmt: skip
        done = house.halt(scope)
        house.check()
        for session, gone in zip((mine, other), goes, strict=True):
            assert sorted((x.what, x.order, x.reason) for x in session.poll()) == [
                (What.CANCEL, order, "trading_state") for order in gone
            ]
        assert done.orders == len(goes[0]) + len(goes[1])
        assert done.by_strategy == {"clients": done.orders}
        assert done.by_client == {
            name: len(gone) for name, gone in zip(("desk-a", "desk-b"), goes, strict=True) if gone
        }
        assert done.unattributed == 0
        assert house.desk.resting_orders(scope) == 0
        assert house.desk.resting_orders("all") == house.desk.working_orders() == 5 - done.orders
        late = mine.send("AAA", "buy", 1, 99.7)
        assert told(house, mine) == [(What.REJECT, late, "halted")]


def test_reducing_leaves_only_what_reduces(house: House) -> None:
    with house.attach() as session:
        session.send("AAA", "buy", 30, 100.01)
        adds = session.send("AAA", "buy", 5, 99.0)
        closes = session.send("AAA", "sell", 20, 101.0)
        beyond = session.send("AAA", "sell", 20, 101.0)
        house.serve()
        session.poll()
        house.set_state(TradingState.REDUCING)
        house.check()
        gone = {a.order for a in session.poll()}
        assert adds in gone
        assert len(gone & {closes, beyond}) == 1
        assert house.desk.working_orders() == 1


def test_the_end_of_a_session_expires_what_works(house: House) -> None:
    with house.attach() as session:
        order = session.send("AAA", "buy", 1, 99.0)
        house.serve()
        house.desk.end_session()
        assert [(a.what, a.order, a.reason) for a in session.poll()][1:] == [(What.CANCEL, order, "session_end")]
        rows = blot.rows_of(house.desk._desk.blotter)
        assert OrderState.EXPIRED in rows[:, blot.STATE]


def test_who_goes_has_its_orders_cancelled_unless_it_asked_otherwise(house: House) -> None:
    first, second = house.attach("first"), house.attach("second", cancel_on_disconnect=False)
    for session in (first, second):
        session.send("AAA", "buy", 1, 99.0)
    house.serve()
    assert house.gateway.clients == {"first": 0, "second": 1}
    first.close()
    house.until(lambda: "first" not in house.gateway.clients)
    assert house.desk.working_orders() == 1
    second.close()
    house.until(lambda: not house.gateway.clients)
    assert house.desk.working_orders() == 1
    assert house.desk.cancel_all() == 1  # nobody's order is still the desk's
    with house.attach("second") as again:
        assert house.gateway.clients == {"second": 1}  # the same client, the same index
        assert again.poll() == []
    house.until(lambda: not house.gateway.clients)


def _send_and_hang(paths: RuntimePaths, ready: object) -> None:
    session = OrderSession.open(paths, "mortal")
    session.send("AAA", "buy", 1, 99.0)
    os.write(ready, b"x")  # type: ignore[arg-type]
    signal.pause()


def test_a_killed_client_is_missed(house: House) -> None:
    read, write = os.pipe()
    process = FORK.Process(target=_send_and_hang, args=(house.paths, write))
    process.start()
    house.until(lambda: house.gateway.clients)
    assert os.read(read, 1) == b"x"
    house.serve()
    assert house.desk.working_orders() == 1
    os.kill(process.pid, signal.SIGKILL)
    house.until(lambda: not house.gateway.clients)
    assert house.desk.working_orders() == 0
    house.check()
    process.join()
    os.close(read)
    os.close(write)


def test_a_client_that_does_not_read_waits_and_one_that_loses_answers_is_sent_away(house: House) -> None:
    session = house.attach()
    house.gateway._rows[0][mailbox.ANSWERS + ring.MASK] = 127  # as if its ring of answers had 128 records
    session._answers[ring.MASK] = 127
    for k in range(200):
        session.send("AAA", "buy", 1, 96.0 + k / 100)
    house.serve()
    taken = house.desk._desk.counts[at.CLIENT_REQUESTS]
    assert taken == 128 - mailbox.RESERVE + 1  # the rest waits in its ring
    assert not house.gateway.pending()
    assert house.gateway.sleep([], 0) == DUE
    assert [a.what for a in session.poll()] == [What.ACK] * taken
    assert house.gateway.pending()
    house.serve()
    house.set_state(TradingState.HALTED)  # more cancels than it has room for
    house.gateway.poll()
    assert house.gateway.clients == {}
    assert house.desk._desk.counts[at.ANSWERS_LOST] > 0
    assert len(session.wait(5.0)) == 128  # what it was told before is still there
    with pytest.raises(SessionError, match="ended"):
        session.wait(5.0)
    house.check()


def test_the_door_says_why_it_stays_closed(house: House, tmp_path: Path) -> None:
    with house.attach("twin"):
        with pytest.raises(SessionError, match="attached already"):
            house.attach("twin")
        with pytest.raises(SessionError, match="printable"):
            house.attach("a\nb")
        others = [house.attach(f"c{k}") for k in range(mailbox.MAX_SESSIONS - 1)]
        with pytest.raises(SessionError, match="16 clients"):
            house.attach("one-more")
        for other in others:
            other.close()
    with pytest.raises(SessionError, match="no engine takes orders"):
        OrderSession.open(RuntimePaths(tmp_path / "nowhere"), "a")
    assert house.paths.order_socket.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_sent_names_the_field(house: House) -> None:
    with house.attach() as session:
        for arguments, words in (
            (("ZZZ", "buy", 1, 99.0), "symbol 'ZZZ'"),
            (("AAA", "hold", 1, 99.0), "side 'hold'"),
            (("AAA", "buy", 1.5, 99.0), "qty 1.5 is not a whole number of lots"),
            (("AAA", "buy", 1, 99.001), "price 99.001 is not a whole number of ticks"),
            (("AAA", "buy", -1, 99.0), "qty -1 is not between"),
            (("AAA", "buy", float("nan"), 99.0), "qty nan"),
            (("AAA", "buy", 1, None), "needs a price"),
            (("AAA", "buy", 1, 99.0, "market"), "has no price"),
            (("AAA", "buy", 1, 99.0, "stop"), "kind 'stop'"),
        ):
            with pytest.raises(OrderError, match=words):
                session.send(*arguments)
        assert told(house, session) == []


WORD = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.integers(0, 10), st.sampled_from([BID, ASK, 1 << 48, (1 << 48) - 1, -1])
)
PACKED = st.one_of(
    WORD,
    st.builds(
        lambda i, kind, side, flags: i | kind << 32 | side << 40 | flags << 48,
        st.integers(0, 2), st.integers(0, 7), st.sampled_from([0, 1, 2, 255]), st.integers(0, 3),
    ),
)  # fmt: skip
LAST_WORDS = {What.ACK, What.REJECT, What.CANCEL, What.REDUCED, What.REPLACED, What.REFUSED}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(WORD, WORD, WORD, WORD, WORD, PACKED), max_size=40))
def test_whatever_a_client_writes_is_answered_and_breaks_nothing(records: list[tuple[int, ...]]) -> None:
    house = shared_house()
    with house.attach() as session:
        for number, words in enumerate(records, 1):
            record = np.zeros(ring.RECORD_WORDS, dtype=np.int64)
            record[1:7] = words
            if number % 3:
                record[1] = number  # else its id hardly ever rises
            assert ring.push(session._requests, record) != ring.FULL
            house.serve()
            house.check()
            out = np.zeros((256, ring.RECORD_WORDS), dtype=np.int64)
            count = ring.pull(session._answers, out, 0)
            kinds = [What(int(row[mailbox.A_PACKED]) >> 32 & 0xFF) for row in out[:count]]
            assert len([kind for kind in kinds if kind in LAST_WORDS]) >= 1
    house.until(lambda: not house.gateway.clients)
    house.check()
    assert house.desk.working_orders() == 0


STEP = st.tuples(
    st.sampled_from(["limit", "post_only", "ioc", "market", "cancel", "reduce", "replace"]),
    st.integers(0, 1), st.booleans(), st.integers(1, 150), st.integers(-4, 4), st.integers(0, 12), st.booleans(),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, max_size=60))
def test_the_answers_alone_tell_each_client_where_its_orders_stand(steps: list[tuple]) -> None:
    house = shared_house()
    sessions = [house.attach("left"), house.attach("right")]
    books: list[dict[int, float]] = [{}, {}]  # order -> left, as the answers tell
    sent, said = [0, 0], [0, 0]
    held = [0.0, 0.0]
    try:
        for kind, i, buys, qty, offset, which, right in steps:
            session, symbol = sessions[right], ("AAA", "BBB")[i]
            price = (10_000 + offset) / 100
            sent[right] += 1
            if kind == "cancel":
                session.cancel(which)
            elif kind == "reduce":
                session.reduce(which, symbol, qty)
            elif kind == "replace":
                session.replace(which, symbol, qty, price)
            else:
                session.send(symbol, "buy" if buys else "sell", qty, None if kind == "market" else price, kind)
            house.serve()
            house.check()
            for k, client in enumerate(sessions):
                for answer in client.poll():
                    said[k] += answer.what in (What.ACK, What.REJECT, What.REDUCED, What.REPLACED, What.REFUSED)
                    said[k] += answer.what is What.CANCEL and answer.reason not in ("lapsed", "self_trade")
                    if answer.what in (What.ACK, What.REPLACED, What.REDUCED, What.FILL, What.CANCEL):
                        books[k][answer.order] = answer.left
                    if answer.what is What.FILL:
                        held[("AAA", "BBB").index(answer.symbol)] += answer.qty * (1 if answer.side == "buy" else -1)
        assert said == sent
        rows = blot.rows_of(house.desk._desk.blotter)
        for k in range(2):
            slot = house.gateway.clients[("left", "right")[k]]
            mine = rows[(rows[:, blot.CLIENT] == slot) & (rows[:, blot.STATE] >= 1) & (rows[:, blot.STATE] <= 3)]
            assert {o: left for o, left in books[k].items() if left} == dict(
                zip(mine[:, blot.CLIENT_ID].tolist(), mine[:, blot.LEFT].tolist(), strict=True)
            )
        assert [house.position(i) for i in range(2)] == held
    finally:
        for session in sessions:
            session.close()
        house.until(lambda: not house.gateway.clients)


_shared: list[House] = []


def shared_house() -> House:
    """One house for all examples: making one takes longer than an example."""
    if not _shared:
        _shared.append(House(Path(tempfile.mkdtemp()), OPTIONS))
    _shared[0].restart()
    return _shared[0]


def test_every_transition_is_in_the_table() -> None:
    for before in OrderState:
        for after in OrderState:
            assert (NEXT_STATES[before] >> after & 1 == 1) == (after in TRANSITIONS[before])
    assert TRANSITIONS[OrderState.PENDING] == {OrderState.WORKING, OrderState.REJECTED}


def test_every_reason_has_a_name() -> None:
    assert reason_name(0) == ""
    assert reason_name(5) == "price_collar"
    assert reason_name(mailbox.VENUE_REASON + 5) == "would_match"
    assert reason_name(Why.TOO_LATE) == "too_late"
    assert [reason_name(code) for code in (31, 63, 127)] == ["gate_31", "venue_31", "reason_127"]
