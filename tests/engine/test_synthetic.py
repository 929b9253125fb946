from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events import CANCEL, EVENT, IOC, LIMIT, REDUCE, empty_events
from engine.figures import BOOK_FILE, MARKET_FILE, load_market
from engine.flow import GHOST_NS
from engine.shadow import CAPACITY, insert, nearest, remove
from engine.synthetic import SyntheticMarket
from metrics.errors import ConfigError
from validation.calibration.replayed import PlainBook

FIGURES = load_market()
SECOND = 1_000_000_000


def events_until(market: SyntheticMarket, until_ns: int, chunk: int = 65_536) -> np.ndarray:
    parts = []
    while True:
        out = empty_events(chunk)
        written = market.fill(out, until_ns)
        parts.append(out[:written])
        if written < chunk:
            return np.concatenate(parts)


@pytest.fixture(scope="module")
def minutes() -> np.ndarray:
    """Five minutes of the default market."""
    return events_until(SyntheticMarket(FIGURES, seed=7), 300 * SECOND)


def test_the_default_market_has_at_least_eight_invented_instruments() -> None:
    assert len(FIGURES.instruments) >= 8
    assert all(instrument.symbol.startswith("DV-") for instrument in FIGURES.instruments)
    assert np.linalg.eigvalsh(FIGURES.correlation).min() > 0


def test_the_same_seed_gives_the_same_events_bit_for_bit(minutes: np.ndarray) -> None:
    again = events_until(SyntheticMarket(FIGURES, seed=7), 300 * SECOND)
    assert again.tobytes() == minutes.tobytes()


def test_another_seed_gives_another_market(minutes: np.ndarray) -> None:
    other = events_until(SyntheticMarket(FIGURES, seed=8), 300 * SECOND)
    assert other.tobytes() != minutes.tobytes()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3 * SECOND)), max_size=30))
def test_events_do_not_depend_on_how_fill_is_called(calls: list[tuple[int, int]]) -> None:
    whole = events_until(SyntheticMarket(FIGURES, seed=3), 20 * SECOND)
    market, parts, until_ns = SyntheticMarket(FIGURES, seed=3), [], 0
    for size, step_ns in calls:
        until_ns = min(until_ns + step_ns, 20 * SECOND)
        out = empty_events(size)
        parts.append(out[: market.fill(out, until_ns)])
    parts.append(events_until(market, 20 * SECOND, chunk=97))
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_time_never_falls_and_stays_below_the_limit_given(minutes: np.ndarray) -> None:
    assert (np.diff(minutes["t_ns"]) >= 0).all()
    assert minutes["t_ns"][-1] < 300 * SECOND
    assert set(np.unique(minutes["kind"])) == {LIMIT, REDUCE, CANCEL, IOC}


def test_order_ids_are_positive_and_no_two_orders_share_one(minutes: np.ndarray) -> None:
    ids = minutes["order_id"][minutes["kind"] == LIMIT]
    assert ids.min() > 0
    assert len(np.unique(ids)) == len(ids)


def test_the_default_market_makes_thousands_of_events_a_minute(minutes: np.ndarray) -> None:
    assert 2_000 < len(minutes) / 5 < 60_000
    assert (np.bincount(minutes["instrument"], minlength=len(FIGURES.instruments)) > 100).all()


def test_a_plain_book_stays_two_sided_and_trades_exactly_what_aggressors_ask(minutes: np.ndarray) -> None:
    opening = {int(i): 0 for i in np.unique(minutes["instrument"])}
    books = {i: PlainBook() for i in opening}
    filled_at: dict[int, int] = {}
    buried: set[int] = set()
    for row in minutes:
        i, s = int(row["instrument"]), 0 if row["side"] > 0 else 1
        book, kind, key = books[i], row["kind"], int(row["order_id"])
        if kind == LIMIT:
            assert not book.match(1 - s, int(row["price"]), int(row["qty"])), "a limit order must not cross"
            book.add(s, int(row["price"]), key, int(row["qty"]))
        elif kind == IOC:
            fills = book.match(1 - s, int(row["price"]), int(row["qty"]))
            assert sum(taken for _, _, taken in fills) == row["qty"]
            filled_at.update({maker: int(row["t_ns"]) for maker, _, _ in fills if maker not in book.where})
        elif key in book.where:
            assert book.where[key] == (s, row["price"])
            book.take_off(key, int(row["qty"]))
        else:
            assert kind == CANCEL
            assert row["t_ns"] - filled_at[key] <= GHOST_NS
            buried.add(key)
        opening[i] += 1
        if opening[i] > 2:
            bid, ask = book.best(0), book.best(1)
            assert bid is not None
            assert ask is not None
            assert bid < ask
    due = {key for key, t_ns in filled_at.items() if t_ns + GHOST_NS < minutes["t_ns"][-1]}
    assert len(due) > 100
    assert due <= buried, "every order that was filled is withdrawn afterwards, for books where ours was filled instead"


def test_mids_follow_latent_values_that_are_correlated_as_shipped() -> None:
    market = SyntheticMarket(FIGURES, seed=11)
    out, values = empty_events(200_000), []
    session_s = round(FIGURES.session_s)
    for t_s in range(60, session_s + 1, 60):
        market.fill(out, t_s * SECOND)
        values.append(market.latent_prices_usd())
    moves = np.diff(np.log(np.array(values)), axis=0)
    assert np.abs(np.corrcoef(moves.T) - FIGURES.correlation).max() < 0.2
    assert np.abs(np.corrcoef(moves.T) - FIGURES.correlation).mean() < 0.05
    session = np.sqrt((moves**2).sum(axis=0))
    assert np.abs(session / FIGURES.daily_volatility - 1).max() < 0.25
    price, _, _, count = market._shadow
    for i in range(len(FIGURES.instruments)):
        mid = (price[i, 0, count[i, 0] - 1] + price[i, 1, count[i, 1] - 1]) / 2 * 0.01
        assert abs(mid - values[-1][i]) < 0.75


def test_sessions_repeat_back_to_back_and_the_opening_is_busier_than_noon() -> None:
    market = SyntheticMarket(FIGURES, seed=5)
    half_hour = market.session_ns // 13
    events = events_until(market, market.session_ns + half_hour)
    assert market.session_of(market.session_ns - 1) == 0
    assert market.session_of(market.session_ns) == 1
    assert market.next_boundary_ns(market.session_ns) == 2 * market.session_ns
    counts = np.histogram(events["t_ns"], bins=np.arange(15) * half_hour)[0]
    curve = counts / counts[:13].mean()
    assert np.abs(curve[:13] / FIGURES.activity_curve - 1).max() < 0.15
    assert abs(curve[13] / FIGURES.activity_curve[0] - 1) < 0.15, "the next session opens as the first did"


def test_a_market_may_open_anywhere_in_a_session() -> None:
    start_ns = 3 * 3_600 * SECOND
    events = events_until(SyntheticMarket(FIGURES, seed=2, start_ns=start_ns), start_ns + SECOND)
    assert events["t_ns"][0] == start_ns
    assert events["kind"][0] == LIMIT


def test_a_livelier_market_has_proportionally_more_events() -> None:
    slow = events_until(SyntheticMarket(load_market(activity=1.0), seed=4), 1_800 * SECOND)
    fast = events_until(SyntheticMarket(load_market(activity=3.0), seed=4), 1_800 * SECOND)
    assert len(fast) / len(slow) == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"seed": 1 << 64}, {"seed": 1, "start_ns": -1}])
def test_a_seed_or_start_that_cannot_be_is_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        SyntheticMarket(FIGURES, **arguments)


def test_an_output_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="EVENT"):
        SyntheticMarket(FIGURES, seed=1).fill(np.zeros(4, dtype=np.dtype([("t_ns", np.int64)])), 1)
    assert SyntheticMarket(FIGURES, seed=1).fill(np.zeros(0, dtype=EVENT), 1) == 0


def test_damaged_figures_are_named_in_the_error(tmp_path) -> None:
    broken = tmp_path / "market.json"
    broken.write_text("{")
    with pytest.raises(ConfigError, match=r"market\.json"):
        load_market(broken)
    raw = json.loads(BOOK_FILE.read_text())
    raw["instruments"][0]["moves_like"] = "NOBODY"
    book = tmp_path / "book.json"
    book.write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match="do not fit"):
        load_market(MARKET_FILE, book)


@settings(max_examples=60, deadline=None)
@given(
    s=st.sampled_from([0, 1]),
    steps=st.lists(
        st.one_of(st.tuples(st.just("add"), st.integers(1, 12)), st.tuples(st.just("remove"), st.integers(0, 12))),
        max_size=60,
    ),
)
def test_the_shadow_book_keeps_price_time_order_as_a_sorted_list_does(s: int, steps: list[tuple[str, int]]) -> None:
    shadow = (*(np.zeros((1, 2, CAPACITY), dtype=np.int64) for _ in range(3)), np.zeros((1, 2), dtype=np.int64))
    sign = 1 - 2 * s
    plain: list[tuple[int, int]] = []  # (price, id), best first
    for key, (what, number) in enumerate(steps, start=1):
        if what == "add":
            insert(shadow, 0, s, number, 10, key)
            plain.append((number, key))
            plain.sort(key=lambda order: (-sign * order[0], order[1]))
        elif plain:
            touch = plain[0][0]
            closest = min(abs(abs(touch - price) - number) for price, _ in plain)
            position = nearest(shadow, 0, s, number)
            chosen = int(shadow[2][0, s, position])
            price = next(price for price, key in plain if key == chosen)
            assert abs(abs(touch - price) - number) == closest
            assert chosen == max(key for at, key in plain if at == price), "the youngest of its price"
            remove(shadow, 0, s, position)
            plain.remove((price, chosen))
        count = shadow[3][0, s]
        assert shadow[2][0, s, :count][::-1].tolist() == [key for _, key in plain]
