"""Gates: each one refuses what it should, and the compiled check equals a slow list of rules."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.gates import (
    BUCKET_TOKENS,
    CLIENT_SCOPE,
    CLIENTS,
    COMPLETE,
    GROSS_USD,
    HOUSE,
    LIMIT_LOTS,
    LIMIT_PERIOD_LOTS,
    LIMITS,
    MAKER,
    PARENTS,
    STRATEGY_SCOPE,
    WORKING_USD,
    Gates,
    Reason,
    TradingState,
    begin,
    go_on,
    make_gates,
    worst_price,
)
from engine.jit import kernel
from engine.limits import Change, LimitRefusedError, Limits
from engine.options import INSTRUMENT_LIMITS, GateOptions
from engine.pretrade import check, take_back, take_token
from metrics.errors import ConfigError
from tests.engine.reference_gates import SlowGates

SECOND = 1_000_000_000
SYMBOLS = ("AAA", "BBB")
LOT_SIZES = (1.0, 1.0)
OPTIONS = GateOptions(
    collar_ratio=0.0625, period_collar_ratio=0.125, max_order_usd=10_000.0, max_order_qty=100, max_position_usd=20_000.0,
    max_working_usd=15_000.0, max_working_total_usd=24_000.0, max_gross_usd=30_000.0, max_period_qty=150,
    max_period_usd=90_000.0, max_messages_per_s=10.0, message_burst=5, stale_after_s=2.0, max_identical=3,
    max_repeats=8, collar_period_s=15.0, volume_period_s=15.0, identical_within_s=1.0, repeat_within_s=1.0,
)  # fmt: skip
WIDE = replace(
    OPTIONS, max_messages_per_s=1e6, message_burst=10**6, max_identical=10**6, max_repeats=10**6, max_working_usd=1e12,
    max_working_total_usd=1e12, max_gross_usd=1e12, max_period_qty=10**9, max_period_usd=1e12, max_position_usd=1e12,
    max_order_usd=1e12,
)  # fmt: skip
ORDER = {
    "i": 0, "side": 1, "ticks": 1024, "lots": 8, "strategy": PARENTS, "client": HOUSE, "intent": 1, "mid": 1024.0,
    "usd": 1.0, "position": 0.0, "buying": 0, "selling": 0, "age": 0, "state": TradingState.ACTIVE,
}  # fmt: skip


@kernel
def ask_gates(
    gates, i, side, ticks, lots, strategy, client, intent, mid, usd, position, buying, selling, age, state, t_ns
):
    return check(
        gates, i, side, ticks, lots, strategy, client, intent, mid, usd, position, buying, selling, age, state, t_ns
    )


@kernel
def take(gates, now):
    return take_token(gates.values, 0, now)


@kernel
def give_back(gates, i, ticks, lots, usd):
    take_back(gates, i, ticks, lots, usd)


@kernel
def worst(gates, i, side, mid):
    return worst_price(gates, i, side, mid)


def gates_of(
    options: GateOptions = OPTIONS, symbols: tuple[str, ...] = SYMBOLS, lot_sizes: tuple[float, ...] = ()
) -> Gates:
    gates = make_gates(options, len(symbols))
    Limits(options, symbols, lot_sizes or (1.0,) * len(symbols), gates)
    return gates


def ask(order=None, options: GateOptions = OPTIONS, now: int = 0, gates: Gates | None = None) -> Reason:
    o = ORDER | (order or {})
    return Reason(
        ask_gates(
            gates_of(options) if gates is None else gates, o["i"], o["side"], o["ticks"], o["lots"], o["strategy"],
            o["client"], o["intent"], o["mid"], o["usd"], o["position"], o["buying"], o["selling"], o["age"],
            int(o["state"]), now,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, Reason.ACCEPTED),
        ({"state": TradingState.HALTED}, Reason.HALTED),
        ({"state": TradingState.REDUCING}, Reason.REDUCE_ONLY),
        ({"state": TradingState.REDUCING, "position": 5.0}, Reason.REDUCE_ONLY),
        ({"state": TradingState.REDUCING, "position": -8.0}, Reason.ACCEPTED),
        ({"state": TradingState.REDUCING, "position": -7.0}, Reason.REDUCE_ONLY),
        ({"state": TradingState.REDUCING, "position": -12.0, "buying": 5}, Reason.REDUCE_ONLY),
        ({"age": 2 * SECOND}, Reason.ACCEPTED),
        ({"age": 2 * SECOND + 1}, Reason.STALE_DATA),
        ({"age": -1}, Reason.STALE_DATA),
        ({"mid": float("nan")}, Reason.STALE_DATA),
        ({"mid": 0.0}, Reason.STALE_DATA),
        ({"ticks": 1088}, Reason.ACCEPTED),
        ({"ticks": 1089}, Reason.PRICE_COLLAR),
        ({"ticks": 959}, Reason.PRICE_COLLAR),
        ({"ticks": 0}, Reason.PRICE_COLLAR),
        ({"lots": 0}, Reason.ORDER_QUANTITY),
        ({"lots": -5}, Reason.ORDER_QUANTITY),
        ({"lots": 100, "mid": 16.0, "ticks": 16}, Reason.ACCEPTED),
        ({"lots": 101, "mid": 16.0, "ticks": 16}, Reason.ORDER_QUANTITY),
        ({"lots": 9}, Reason.ACCEPTED),
        ({"lots": 10}, Reason.ORDER_VALUE),
        ({"position": 11.0}, Reason.ACCEPTED),
        ({"position": 12.0}, Reason.POSITION),
        ({"position": 30.0, "side": -1}, Reason.ACCEPTED),
        ({"buying": 3, "selling": 3}, Reason.ACCEPTED),
        ({"buying": 3, "selling": 4}, Reason.WORKING_EXPOSURE),
    ],
)
def test_each_gate_refuses_with_its_own_reason(change, reason: Reason) -> None:
    assert ask(change) is reason


@pytest.mark.parametrize(
    "missing",
    [
        *INSTRUMENT_LIMITS, "max_working_total_usd", "max_gross_usd", "max_identical", "max_repeats",
        "max_messages_per_s", "message_burst",
    ],
)  # fmt: skip
def test_a_missing_limit_blocks(missing: str) -> None:
    assert ask(options=replace(OPTIONS, **{missing: 0})) is Reason.MISSING_LIMIT


def test_gates_without_limits_refuse_everything() -> None:
    assert ask(gates=make_gates(OPTIONS, 1)) is Reason.MISSING_LIMIT


@pytest.mark.parametrize("column", range(COMPLETE))
def test_a_limit_that_is_not_a_number_refuses_even_where_nobody_noticed(column: int) -> None:
    gates = gates_of()
    gates.limits[0, column] = np.nan  # complete still says that all are there
    assert ask(gates=gates) is not Reason.ACCEPTED


def test_a_slow_drift_that_every_single_collar_allows_is_stopped_by_the_period_collar() -> None:
    gates, mid, now, refused_at = gates_of(replace(WIDE, collar_period_s=300.0)), 10_000.0, 0, None
    for step in range(100):
        reason = ask({"mid": mid, "ticks": int(mid), "lots": 1, "intent": step}, gates=gates, now=now)
        assert reason in (Reason.ACCEPTED, Reason.PERIOD_COLLAR)
        if reason is Reason.PERIOD_COLLAR:
            refused_at = mid
            break
        mid, now = mid * 1.005, now + SECOND
    assert refused_at is not None
    assert 10_000.0 * 1.125 < refused_at <= 10_000.0 * 1.125 * 1.005
    # Selling there is allowed: it is the buying that follows the price up. What is far below the highest is not sold.
    assert ask({"mid": mid, "ticks": int(mid), "lots": 1, "side": -1}, gates=gates, now=now) is Reason.ACCEPTED
    low = mid * 0.87
    assert ask({"mid": low, "ticks": int(low), "lots": 1, "side": -1}, gates=gates, now=now) is Reason.PERIOD_COLLAR


def test_a_drift_slower_than_the_period_is_no_drift() -> None:
    gates, mid = gates_of(WIDE), 10_000.0
    for second in range(200):
        order = {"mid": mid, "ticks": int(mid), "lots": 1, "intent": second}
        assert ask(order, gates=gates, now=second * SECOND) is Reason.ACCEPTED
        mid *= 1.005  # 7.8 % in the window of 16 s


def test_the_period_collar_has_a_sharp_edge() -> None:
    def after_a_jump(ticks: int) -> Reason:
        gates = gates_of(WIDE)
        assert ask({"mid": 1024.0}, gates=gates) is Reason.ACCEPTED
        return ask({"mid": 1152.0, "ticks": ticks}, gates=gates)

    assert after_a_jump(1152) is Reason.ACCEPTED
    assert after_a_jump(1153) is Reason.PERIOD_COLLAR


def test_volume_of_a_period_counts_lots_and_value_and_forgets_them() -> None:
    small = {"mid": 16.0, "ticks": 16, "lots": 50}
    gates = gates_of(replace(WIDE, max_period_qty=150))
    assert [ask(small, gates=gates) for _ in range(4)] == [Reason.ACCEPTED] * 3 + [Reason.PERIOD_VOLUME]
    assert ask(small | {"lots": 1}, gates=gates) is Reason.PERIOD_VOLUME
    assert ask(small | {"i": 1}, gates=gates) is Reason.ACCEPTED
    assert ask(small, gates=gates, now=15 * SECOND) is Reason.PERIOD_VOLUME
    assert ask(small, gates=gates, now=16 * SECOND) is Reason.ACCEPTED
    gates = gates_of(replace(WIDE, max_period_usd=16_384.0))
    assert [ask(gates=gates) for _ in range(3)] == [Reason.ACCEPTED] * 2 + [Reason.PERIOD_VOLUME]


def test_what_the_venue_refused_is_taken_back_from_the_volume() -> None:
    gates = gates_of(replace(WIDE, max_period_qty=8))
    assert ask(gates=gates) is Reason.ACCEPTED
    assert ask({"lots": 1}, gates=gates) is Reason.PERIOD_VOLUME
    give_back(gates, 0, 1024, 8, 1.0)
    assert ask(gates=gates) is Reason.ACCEPTED


def test_working_orders_of_all_instruments_are_added_up() -> None:
    gates = gates_of(replace(WIDE, max_working_total_usd=24 * 1024.0))
    assert ask({"selling": 8}, gates=gates) is Reason.ACCEPTED  # 8 + 8 lots of one
    assert ask({"i": 1, "lots": 9}, gates=gates) is Reason.WORKING_EXPOSURE
    assert ask({"i": 1, "lots": 8}, gates=gates) is Reason.ACCEPTED
    assert gates.total_exposure[WORKING_USD] == 24 * 1024.0
    assert ask({"i": 1, "lots": 1, "buying": 8}, gates=gates) is Reason.WORKING_EXPOSURE
    # The first instrument's orders are gone: its next look frees what they took.
    assert ask({"lots": 1}, gates=gates) is Reason.ACCEPTED
    assert ask({"i": 1, "lots": 7, "buying": 8}, gates=gates) is Reason.ACCEPTED


def test_gross_exposure_counts_the_worst_that_may_come_and_lets_it_shrink() -> None:
    gates = gates_of(replace(WIDE, max_gross_usd=20 * 1024.0))
    assert ask({"position": 10.0, "lots": 2}, gates=gates) is Reason.ACCEPTED
    assert ask({"i": 1, "position": -4.0, "side": -1, "lots": 5}, gates=gates) is Reason.GROSS_EXPOSURE
    assert ask({"i": 1, "position": -4.0, "side": -1, "lots": 4}, gates=gates) is Reason.ACCEPTED
    assert gates.total_exposure[GROSS_USD] == 20 * 1024.0
    # Over the limit (a price rose), what reduces is still allowed and what adds is not.
    assert ask({"position": 30.0, "side": -1}, gates=gates) is Reason.ACCEPTED
    assert ask({"position": 30.0, "lots": 1}, gates=gates) is Reason.GROSS_EXPOSURE


def test_identical_orders_are_refused_beyond_their_number_and_only_for_a_while() -> None:
    gates = gates_of(replace(WIDE, max_identical=3))
    assert [ask({"intent": k}, gates=gates) for k in range(4)] == [Reason.ACCEPTED] * 3 + [Reason.DUPLICATE]
    for other in ({"ticks": 1023}, {"lots": 7}, {"side": -1}, {"i": 1}, {"strategy": MAKER}, {"client": 1}):
        assert ask(other, gates=gates) is Reason.ACCEPTED, other
    assert ask(gates=gates, now=SECOND - 1) is Reason.DUPLICATE
    assert ask(gates=gates, now=SECOND) is Reason.ACCEPTED


def test_repeated_execution_latches_its_strategy_and_nobody_else_until_a_person_lifts_it() -> None:
    gates = gates_of(replace(WIDE, max_repeats=8))
    asked = [ask({"lots": k + 1, "intent": 7}, gates=gates) for k in range(9)]
    assert asked == [Reason.ACCEPTED] * 8 + [Reason.REPEATED_EXECUTION]
    assert ask({"intent": 8}, gates=gates, now=3600 * SECOND) is Reason.REPEATED_EXECUTION
    begin(gates, 0)
    assert ask({"intent": 9}, gates=gates) is Reason.REPEATED_EXECUTION, "a new session is no person"
    assert ask({"strategy": MAKER}, gates=gates) is Reason.ACCEPTED
    gates.latched[STRATEGY_SCOPE, PARENTS] = 0
    assert ask({"intent": 9}, gates=gates) is Reason.ACCEPTED


def test_an_intent_that_keeps_its_pace_is_never_latched() -> None:
    gates = gates_of(replace(WIDE, max_repeats=8))
    for k in range(200):
        assert ask({"intent": 7, "lots": 1 + k % 9}, gates=gates, now=k * SECOND // 8) is Reason.ACCEPTED


def test_refused_attempts_count_as_repeats_too() -> None:
    gates = gates_of(replace(OPTIONS, max_repeats=8))
    asked = [ask({"ticks": 1}, gates=gates) for _ in range(9)]
    assert asked == [Reason.PRICE_COLLAR] * 8 + [Reason.REPEATED_EXECUTION]


def test_one_clients_repeats_latch_that_client_only() -> None:
    gates = gates_of(replace(WIDE, max_repeats=2))
    client = {"strategy": CLIENTS, "client": 3}
    assert [ask(client, gates=gates) for _ in range(3)][-1] is Reason.REPEATED_EXECUTION
    assert ask(client | {"client": 4}, gates=gates) is Reason.ACCEPTED
    assert gates.latched[CLIENT_SCOPE, 3] == 1
    assert gates.latched.sum() == 1


def test_the_strictest_scope_of_an_order_decides() -> None:
    for row, index in ((STRATEGY_SCOPE, PARENTS), (CLIENT_SCOPE, HOUSE)):
        gates = gates_of()
        gates.states[row, index] = TradingState.REDUCING
        assert ask(gates=gates) is Reason.REDUCE_ONLY
        assert ask({"position": -8.0}, gates=gates) is Reason.ACCEPTED
        assert ask({"position": -8.0, "state": TradingState.HALTED}, gates=gates) is Reason.HALTED
        gates.states[row, index] = TradingState.HALTED
        assert ask({"position": -8.0, "state": TradingState.REDUCING}, gates=gates) is Reason.HALTED
    gates = gates_of()
    gates.states[STRATEGY_SCOPE, MAKER] = TradingState.HALTED
    assert ask(gates=gates) is Reason.ACCEPTED


def test_the_message_rate_is_each_strategys_own_burst_and_then_its_rate() -> None:
    gates = gates_of(replace(WIDE, max_messages_per_s=10.0, message_burst=5))
    assert [ask(gates=gates, now=SECOND) for _ in range(6)] == [Reason.ACCEPTED] * 5 + [Reason.MESSAGE_RATE]
    assert ask({"strategy": MAKER}, gates=gates, now=SECOND) is Reason.ACCEPTED
    assert ask(gates=gates, now=SECOND + SECOND // 10) is Reason.ACCEPTED
    assert ask(gates=gates, now=SECOND + SECOND // 10) is Reason.MESSAGE_RATE


def test_an_order_that_another_gate_refuses_uses_nothing_up() -> None:
    gates = gates_of()
    assert ask({"lots": 0}, gates=gates) is Reason.ORDER_QUANTITY
    assert ask({"buying": 8}, gates=gates) is Reason.WORKING_EXPOSURE
    assert gates.buckets[PARENTS, BUCKET_TOKENS] == OPTIONS.message_burst
    assert gates.volumes.sum() == 0.0
    assert gates.total_exposure[WORKING_USD] == 8 * 1024.0


def test_the_worst_price_of_a_market_order_is_the_last_that_the_collar_allows() -> None:
    gates = gates_of(WIDE)
    for side in (1, -1):
        price = worst(gates, 0, side, 1000.5)
        assert ask({"mid": 1000.5, "ticks": price, "side": side}, gates=gates) is Reason.ACCEPTED
        assert ask({"mid": 1000.5, "ticks": price + side, "side": side}, gates=gates) is Reason.PRICE_COLLAR


@pytest.mark.parametrize("side", [1, -1])
def test_the_worst_price_of_a_market_order_is_within_the_collar_of_the_period_too(side: int) -> None:
    gates = gates_of(replace(WIDE, collar_ratio=0.25, period_collar_ratio=0.25))
    assert ask({"mid": 1000.0, "ticks": 1000, "side": side}, gates=gates) is Reason.ACCEPTED
    moved = {"mid": 1000.0 + 100 * side, "side": side}
    price = worst(gates, 0, side, moved["mid"])
    assert price == 1000 + 250 * side
    assert ask(moved | {"ticks": price}, gates=gates) is Reason.ACCEPTED
    assert ask(moved | {"ticks": price + side}, gates=gates) is Reason.PERIOD_COLLAR


@settings(deadline=None)
@given(st.lists(st.integers(0, 400_000_000), max_size=80), st.floats(0.5, 100.0), st.integers(1, 20))
def test_no_second_ever_sees_more_messages_than_burst_plus_rate(gaps, rate, burst) -> None:
    gates = gates_of(replace(OPTIONS, max_messages_per_s=rate, message_burst=burst))
    now, sent = 0, []
    for gap in gaps:
        now += gap
        if take(gates, now):
            sent.append(now)
    for start in sent:
        within = sum(start <= t < start + SECOND for t in sent)
        assert within <= burst + rate + 1e-6


def drawn_run(seed: int, length: int) -> list[tuple[dict, int]]:
    """Orders and the time from each to the next: mostly near the limits, sometimes senseless, clocks jump back too.

    All numbers are such that sums and products are exact in binary, so that a limit is met to the unit.
    """
    rng = random.Random(seed)
    pace = rng.choice([0, SECOND // 64, SECOND // 16, SECOND])

    def one_of(common, *rare):
        return rng.choice(rare) if rng.random() < 0.04 else rng.choice(common)

    return [
        (
            {
                "i": rng.randrange(2), "side": rng.choice([1, -1]), "ticks": one_of([1024, 1024, 1040, 1088, 1160, 1000], 0, 960, 1152, 1216),
                "lots": one_of([1, 1, 2, 4, 8], -1, 0, 9, 16, 101), "strategy": rng.randrange(3), "client": one_of([0], 1, 2),
                "intent": rng.randint(1, 3), "mid": one_of([1024.0, 1024.0, 1088.0, 1152.0], 0.0, 1152.5, 960.0), "usd": one_of([0.125], 1.0),
                "position": one_of([0.0, 3.0, -5.0], 20.0, -20.0), "buying": rng.randint(0, 8), "selling": rng.randint(0, 8),
                "age": one_of([0], -1, 2 * SECOND, 2 * SECOND + 1),
                "state": one_of([TradingState.ACTIVE], TradingState.REDUCING, TradingState.HALTED),
            },
            one_of([0, pace], SECOND, 3 * SECOND, 20 * SECOND, -2 * SECOND, -30 * SECOND),
        )
        for _ in range(length)
    ]  # fmt: skip


def drawn_options(seed: int) -> GateOptions:
    """Limits of which some are met often in one run, others in another."""
    rng = random.Random(~seed)
    return replace(
        OPTIONS,
        max_identical=rng.randint(1, 3),
        max_repeats=rng.choice([4, 20]),
        message_burst=rng.choice([2, 64]),
        max_messages_per_s=8.0,
        max_period_qty=rng.choice([16, 1000]),
        max_period_usd=rng.choice([4096.0, 1e6]),
        max_working_usd=rng.choice([2048.0, 1e6]),
        max_working_total_usd=rng.choice([3072.0, 1e6]),
        max_gross_usd=rng.choice([2048.0, 1e6]),
        max_position_usd=rng.choice([1024.0, 1e6]),
        max_order_usd=rng.choice([1024.0, 1e4]),
        stale_after_s=rng.choice([2.0] * 9 + [0.0]),
    )


SEEN: Counter[Reason] = Counter()


@settings(deadline=None, max_examples=150, derandomize=True)
@given(st.integers(0, 2**32), st.integers(1, 300))
def test_the_compiled_check_equals_the_list_of_rules_over_any_run_of_orders_and_clocks(seed, length) -> None:
    options = drawn_options(seed)
    gates, slow, now = gates_of(options), SlowGates(options, len(SYMBOLS)), 100 * SECOND
    for order, later in drawn_run(seed, length):
        now += later
        reason = ask(order, options, now, gates)
        assert reason is slow.check(now, **order)
        SEEN[reason] += 1
        np.testing.assert_array_equal(gates.total_exposure, slow.totals())


def test_a_recovered_gate_goes_on_with_what_it_had_seen_and_keeps_what_is_configured_now() -> None:
    before = gates_of()
    for now in range(3):
        assert ask({"lots": 4, "intent": now}, now=now, gates=before) is Reason.ACCEPTED
    before.latched[1, 3] = 1
    before.states[0, 0] = TradingState.HALTED
    tighter = replace(OPTIONS, max_order_qty=50, message_burst=1)
    after = gates_of(tighter)
    go_on(after, before.words.copy())
    np.testing.assert_array_equal(after.limits[:, LIMIT_LOTS], [50.0, 50.0])  # as configured now
    assert after.states[0, 0] == TradingState.ACTIVE  # states come from the control, not from here
    assert after.latched[1, 3] == 1
    np.testing.assert_array_equal(after.volumes, before.volumes)
    np.testing.assert_array_equal(after.total_exposure, before.total_exposure)
    assert after.buckets[PARENTS, BUCKET_TOKENS] == 1.0  # it had 2 left; there is room for one
    assert ask({"lots": 4, "intent": 9}, now=3, gates=after) is Reason.DUPLICATE  # the fourth of the same terms
    assert ask({"lots": 5, "intent": 9}, now=3, gates=after) is Reason.ACCEPTED
    assert ask({"lots": 6, "intent": 9}, now=3, gates=after) is Reason.MESSAGE_RATE
    assert ask({"lots": 7, "client": 3}, now=4, gates=after) is Reason.REPEATED_EXECUTION


def test_windows_of_another_width_are_not_taken_over() -> None:
    before = gates_of()
    assert ask({"lots": 4}, gates=before) is Reason.ACCEPTED
    after = gates_of(replace(OPTIONS, volume_period_s=30.0))
    fresh = after.words.copy()
    go_on(after, before.words)
    np.testing.assert_array_equal(after.words, fresh)


def test_those_runs_met_every_gate() -> None:
    if not SEEN:
        pytest.skip("the comparison has not run in this process")
    assert set(Reason) - set(SEEN) == {
        Reason.VENUE,
        Reason.BREAKER,
        Reason.VAR_LIMIT,
    }  # the book's, and those that tests/engine/test_fusebox.py and test_varlimit.py are about
    assert min(SEEN.values()) >= 10


def test_limits_are_one_row_for_each_instrument_and_may_differ() -> None:
    options = replace(OPTIONS, symbols={"BBB": {"max_order_qty": 3}})
    gates = gates_of(options)
    assert gates.limits.shape == (2, LIMITS)
    assert not np.isnan(gates.limits).any()
    assert ask({"lots": 4}, gates=gates) is Reason.ACCEPTED
    assert ask({"lots": 4, "i": 1}, gates=gates) is Reason.ORDER_QUANTITY
    assert ask({"lots": 3, "i": 1}, gates=gates) is Reason.ACCEPTED


def test_quantities_are_limited_in_units_whatever_a_lot_is() -> None:
    options = replace(WIDE, max_order_qty=0.3, max_period_qty=2.0, symbols={"BBB": {"max_order_qty": 0.07}})
    gates = gates_of(options, lot_sizes=(0.1, 1e-8))
    assert gates.limits[:, LIMIT_LOTS].tolist() == [3.0, 7e6]
    assert gates.limits[:, LIMIT_PERIOD_LOTS].tolist() == [20.0, 2e8]
    assert ask({"lots": 3}, gates=gates) is Reason.ACCEPTED
    assert ask({"lots": 4}, gates=gates) is Reason.ORDER_QUANTITY
    coins = {"i": 1, "usd": 1e-8}
    assert ask(coins | {"lots": 7_000_000}, gates=gates) is Reason.ACCEPTED
    assert ask(coins | {"lots": 7_000_001}, gates=gates) is Reason.ORDER_QUANTITY


def test_a_change_of_a_quantity_limit_is_in_units_too() -> None:
    gates = make_gates(OPTIONS, 2)
    limits = Limits(OPTIONS, SYMBOLS, (1.0, 0.001), gates)
    limits.set(change("max_order_qty", 0.5))
    assert gates.limits[:, LIMIT_LOTS].tolist() == [0.5, 500.0]
    assert ask({"lots": 1}, gates=gates) is Reason.ORDER_QUANTITY  # half a share: none at all


def test_an_override_of_an_unknown_instrument_or_limit_fails_loudly() -> None:
    with pytest.raises(ConfigError, match=r"gates\.symbols\.CCC"):
        gates_of(replace(OPTIONS, symbols={"CCC": {"max_order_qty": 3}}))
    with pytest.raises(ValueError, match="max_order_qtys is not one of"):
        replace(OPTIONS, symbols={"AAA": {"max_order_qtys": 3}})


def change(name: str, value: float, scope: str = "all", since_ns: int = 1) -> Change:
    return Change(name, scope, value, "anna", "drill", since_ns)


def test_a_lowered_limit_counts_at_once_and_a_raise_ends_at_the_hard_maximum() -> None:
    gates = make_gates(OPTIONS, 2)
    limits = Limits(OPTIONS, SYMBOLS, LOT_SIZES, gates)
    assert limits.set(change("max_order_qty", 7)) == 100.0
    assert ask(gates=gates) is Reason.ORDER_QUANTITY
    assert ask({"lots": 7}, gates=gates) is Reason.ACCEPTED
    limits.set(change("max_order_qty", 200))
    with pytest.raises(LimitRefusedError, match="at most 200"):
        limits.set(change("max_order_qty", 201))
    assert gates.limits[0, 2] == 200.0


def test_what_is_set_for_all_does_not_loosen_what_is_configured_for_one() -> None:
    options = replace(OPTIONS, symbols={"BBB": {"max_order_qty": 3}})
    gates = make_gates(options, 2)
    limits = Limits(options, SYMBOLS, LOT_SIZES, gates)
    limits.set(change("max_order_qty", 150))
    assert gates.limits[:, 2].tolist() == [150.0, 3.0]
    limits.set(change("max_order_qty", 2))
    assert gates.limits[:, 2].tolist() == [2.0, 2.0]
    limits.set(change("max_order_qty", 6, "BBB"))
    assert gates.limits[:, 2].tolist() == [2.0, 6.0]
    with pytest.raises(LimitRefusedError, match="at most 6"):
        limits.set(change("max_order_qty", 7, "BBB"))


@pytest.mark.parametrize(
    ("name", "value", "scope", "words"),
    [
        ("max_orders", 1, "all", "is not one of"),
        ("max_order_usd", 1, "ZZZ", "has the scopes"),
        ("max_gross_usd", 1, "AAA", "has the scopes all"),
        ("max_messages_per_s", 1, "AAA", "has the scopes"),
        ("max_order_usd", -1, "all", "not below 0"),
        ("max_order_usd", float("inf"), "all", "not below 0"),
        ("max_reject_ratio", 1.01, "all", "at most 1"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(name: str, value: float, scope: str, words: str) -> None:
    with pytest.raises(LimitRefusedError, match=words):
        Limits(OPTIONS, SYMBOLS, LOT_SIZES, make_gates(OPTIONS, 2)).set(change(name, value, scope))


def test_a_strategys_message_rate_is_its_own_and_a_limit_of_nothing_blocks_it() -> None:
    gates = make_gates(OPTIONS, 2)
    limits = Limits(OPTIONS, SYMBOLS, LOT_SIZES, gates)
    limits.set(change("message_burst", 1, "strategy:parents"))
    assert [ask(gates=gates) for _ in range(2)] == [Reason.ACCEPTED, Reason.MESSAGE_RATE]
    assert ask({"strategy": MAKER}, gates=gates) is Reason.ACCEPTED
    limits.set(change("max_messages_per_s", 0, "strategy:maker"))
    assert ask({"strategy": MAKER}, gates=gates) is Reason.MISSING_LIMIT


def test_kept_limits_come_back_and_one_above_a_lowered_configuration_comes_back_lower() -> None:
    limits = Limits(OPTIONS, SYMBOLS, LOT_SIZES, make_gates(OPTIONS, 2))
    limits.set(change("max_order_qty", 180))
    limits.set(change("max_order_usd", 50.0, "AAA", 2))
    gates = make_gates(OPTIONS, 2)
    again = Limits(replace(OPTIONS, max_order_qty=60), SYMBOLS, LOT_SIZES, gates)
    rows = [*limits.kept(), {"name": "gone", "scope": "all", "value": 1}, {"name": "max_order_usd"}]
    assert len(again.recall(rows)) == 2
    assert gates.limits[0, 2:4].tolist() == [120.0, 50.0]
    assert [row.who for row in again.changes] == ["anna", "anna"]
