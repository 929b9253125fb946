"""Gates: each one refuses what it should, and the compiled check equals a slow list of rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.gates import (
    BUCKET_TOKENS,
    LIMITS,
    Reason,
    TradingState,
    bucket_of_options,
    check_order,
    limits_of,
    take_token,
)
from engine.jit import kernel
from engine.options import GateOptions

SECOND = 1_000_000_000
OPTIONS = GateOptions(
    collar_ratio=0.05, max_order_usd=10_000.0, max_order_lots=100, max_position_usd=20_000.0,
    max_messages_per_s=10.0, message_burst=5, stale_after_s=2.0,
)  # fmt: skip
ORDER = {
    "side": 1, "ticks": 1000, "lots": 10, "mid": 1000.0, "usd": 1.0, "position": 0.0, "buying": 0, "selling": 0,
    "age": 0, "state": TradingState.ACTIVE,
}  # fmt: skip


@kernel
def check(limits, bucket, i, side, ticks, lots, mid, usd, position, buying, selling, age, state, now):
    return check_order(limits, bucket, i, side, ticks, lots, mid, usd, position, buying, selling, age, state, now)


@kernel
def take(bucket, now):
    return take_token(bucket, now)


def ask(order=None, options: GateOptions = OPTIONS, now: int = 0, bucket=None) -> Reason:
    o = ORDER | (order or {})
    bucket = bucket_of_options(options) if bucket is None else bucket
    return Reason(
        check(
            limits_of(options, 1), bucket, 0, o["side"], o["ticks"], o["lots"], o["mid"], o["usd"], o["position"],
            o["buying"], o["selling"], o["age"], int(o["state"]), now,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, Reason.ACCEPTED),
        ({"state": TradingState.HALTED}, Reason.HALTED),
        ({"state": TradingState.REDUCING}, Reason.REDUCE_ONLY),
        ({"state": TradingState.REDUCING, "position": 5.0}, Reason.REDUCE_ONLY),
        ({"state": TradingState.REDUCING, "position": -10.0}, Reason.ACCEPTED),
        ({"state": TradingState.REDUCING, "position": -9.0}, Reason.REDUCE_ONLY),
        ({"state": TradingState.REDUCING, "position": -15.0, "buying": 6}, Reason.REDUCE_ONLY),
        ({"age": 2 * SECOND}, Reason.ACCEPTED),
        ({"age": 2 * SECOND + 1}, Reason.STALE_DATA),
        ({"age": -1}, Reason.STALE_DATA),
        ({"mid": float("nan")}, Reason.STALE_DATA),
        ({"mid": 0.0}, Reason.STALE_DATA),
        ({"ticks": 1050}, Reason.ORDER_VALUE),
        ({"ticks": 1050, "lots": 1}, Reason.ACCEPTED),
        ({"ticks": 1051, "lots": 1}, Reason.PRICE_COLLAR),
        ({"ticks": 949}, Reason.PRICE_COLLAR),
        ({"lots": 0}, Reason.ORDER_QUANTITY),
        ({"lots": -5}, Reason.ORDER_QUANTITY),
        ({"lots": 101, "mid": 1.0, "ticks": 1}, Reason.ORDER_QUANTITY),
        ({"lots": 11}, Reason.ORDER_VALUE),
        ({"position": 11.0}, Reason.POSITION),
        ({"buying": 11}, Reason.POSITION),
        ({"selling": 11}, Reason.ACCEPTED),
        ({"position": 30.0, "side": -1}, Reason.ACCEPTED),
    ],
)
def test_each_gate_refuses_with_its_own_reason(change, reason: Reason) -> None:
    assert ask(change) is reason


@pytest.mark.parametrize(
    "missing",
    ["collar_ratio", "max_order_usd", "max_order_lots", "max_position_usd", "stale_after_s", "max_messages_per_s", "message_burst"],
)  # fmt: skip
def test_a_missing_limit_blocks(missing: str) -> None:
    assert ask(options=replace(OPTIONS, **{missing: 0})) is Reason.MISSING_LIMIT


def test_the_message_rate_lets_a_burst_through_and_then_its_rate() -> None:
    bucket = bucket_of_options(OPTIONS)
    assert [ask(bucket=bucket, now=SECOND) for _ in range(6)] == [Reason.ACCEPTED] * 5 + [Reason.MESSAGE_RATE]
    assert ask(bucket=bucket, now=SECOND + SECOND // 10) is Reason.ACCEPTED
    assert ask(bucket=bucket, now=SECOND + SECOND // 10) is Reason.MESSAGE_RATE


def test_an_order_that_another_gate_refuses_uses_no_message() -> None:
    bucket = bucket_of_options(OPTIONS)
    assert ask({"lots": 0}, bucket=bucket) is Reason.ORDER_QUANTITY
    assert bucket[BUCKET_TOKENS] == OPTIONS.message_burst


@settings(deadline=None)
@given(st.lists(st.integers(0, 400_000_000), max_size=80), st.floats(0.5, 100.0), st.integers(1, 20))
def test_no_second_ever_sees_more_messages_than_burst_plus_rate(gaps, rate, burst) -> None:
    bucket = bucket_of_options(replace(OPTIONS, max_messages_per_s=rate, message_burst=burst))
    now, sent = 0, []
    for gap in gaps:
        now += gap
        if take(bucket, now):
            sent.append(now)
    for start in sent:
        within = sum(start <= t < start + SECOND for t in sent)
        assert within <= burst + rate + 1e-6


def slow_check(o: dict, options: GateOptions, tokens: float) -> Reason:
    side, held, mid = o["side"], o["position"], o["mid"]
    same = o["buying"] if side > 0 else o["selling"]
    after = held + side * (same + o["lots"])
    reduces = held != 0 and (held > 0) != (side > 0) and same + o["lots"] <= abs(held)
    limits = (
        options.collar_ratio,
        options.max_order_usd,
        options.max_order_lots,
        options.max_position_usd,
        options.stale_after_s,
    )
    rules = [
        (o["state"] == TradingState.HALTED, Reason.HALTED),
        (o["state"] == TradingState.REDUCING and not reduces, Reason.REDUCE_ONLY),
        (any(limit == 0 for limit in limits), Reason.MISSING_LIMIT),
        (o["age"] < 0 or o["age"] > options.stale_after_s * 1e9 or mid <= 0, Reason.STALE_DATA),
        (abs(o["ticks"] - mid) > options.collar_ratio * mid, Reason.PRICE_COLLAR),
        (o["lots"] <= 0 or o["lots"] > options.max_order_lots, Reason.ORDER_QUANTITY),
        (o["lots"] * o["ticks"] * o["usd"] > options.max_order_usd, Reason.ORDER_VALUE),
        (abs(after) > abs(held) and abs(after) * mid * o["usd"] > options.max_position_usd, Reason.POSITION),
        (tokens < 1, Reason.MESSAGE_RATE),
    ]
    return next((reason for broken, reason in rules if broken), Reason.ACCEPTED)


orders = st.fixed_dictionaries({
    "side": st.sampled_from([1, -1]), "ticks": st.integers(0, 1200), "lots": st.integers(-1, 120),
    "mid": st.sampled_from([0.0, 100.0, 1000.0, 1000.5]), "usd": st.sampled_from([0.01, 1.0]),
    "position": st.integers(-60, 60).map(float), "buying": st.integers(0, 40), "selling": st.integers(0, 40),
    "age": st.integers(-1, 3 * SECOND), "state": st.sampled_from(list(TradingState)),
})  # fmt: skip
option_sets = st.builds(
    GateOptions,
    collar_ratio=st.sampled_from([0.0, 0.05]), max_order_usd=st.sampled_from([0.0, 1e4]),
    max_order_lots=st.sampled_from([0, 100]), max_position_usd=st.sampled_from([0.0, 2e4]),
    stale_after_s=st.sampled_from([0.0, 2.0]),
)  # fmt: skip


@settings(deadline=None, max_examples=400)
@given(orders, option_sets, st.sampled_from([0.0, 1.0, 5.0]))
def test_the_compiled_check_equals_the_list_of_rules(order, options, tokens) -> None:
    bucket = bucket_of_options(OPTIONS)
    bucket[BUCKET_TOKENS] = tokens
    assert ask(order, options, bucket=bucket) is slow_check(order, options, tokens)


def test_limits_are_one_row_for_each_instrument() -> None:
    limits = limits_of(OPTIONS, 8)
    assert limits.shape == (8, LIMITS)
    assert not np.isnan(limits).any()
