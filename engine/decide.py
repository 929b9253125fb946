"""Decisions: what is wanted of the orders that rest in one instrument now, as requests for `orders.act`.

Nothing here touches a book: the touch is handed in, wishes are noted. What happens at a parent's
timer is decided in `engine.algos.parent`.
"""

from __future__ import annotations

import numpy as np

from engine import account as acc
from engine import strategy as plan
from engine.algos.parent import clear_of_own, follow_touch, order_lots
from engine.deskarrays import (
    BLINDED,
    CHILD,
    ID,
    LEFT,
    MAKER_ASK,
    MAKER_BID,
    PRICE,
    REST,
    SENT_NS,
    VENUE_HALTED,
    WITHDRAW,
    Desk,
)
from engine.gates import HOLD_QUOTES, MAKER, TradingState, is_held
from engine.jit import inline_kernel, kernel
from engine.orders import ask, state_of
from engine.working import working_lots

USUAL_WEIGHT = 1.0 / 1024.0  # of one event in the running mean of the spread
_ACTIVE, _REDUCING = int(TradingState.ACTIVE), int(TradingState.REDUCING)


@inline_kernel
def wanted_quote(desk: Desk, i: int, side: int, bid: int, ask_price: int) -> int:
    """Where the maker wants its quote of one side, 0 for nowhere. bid and ask_price: the others' touch."""
    price = 0
    state, held = state_of(desk, i, MAKER), desk.account[i, acc.POSITION]
    allowed = state == _ACTIVE or (state == _REDUCING and side * held < 0.0)
    allowed = allowed and not is_held(desk.gates, HOLD_QUOTES)
    if allowed and desk.settings[i, plan.MAKER_ON] != 0.0 and desk.status[i, VENUE_HALTED] == 0 and 0 < bid < ask_price:
        value = desk.maker_lots[i] * 0.5 * (bid + ask_price) * desk.account[i, acc.USD]
        inventory = value / desk.settings[i, plan.MAKER_MAX_USD]
        skew, edge = desk.settings[i, plan.MAKER_SKEW], int(desk.settings[i, plan.MAKER_EDGE])
        price = plan.quote_price(side, bid, ask_price, inventory, skew, edge)
        if price > 0:
            price = clear_of_own(desk, i, side, price)
    return price


@inline_kernel
def learn_spread(desk: Desk, i: int, bid: int, ask_price: int) -> None:
    """Take the others' spread into its running mean over events."""
    if 0 < bid < ask_price:
        spread = float(ask_price - bid)
        if np.isnan(desk.usual_spread[i]):
            desk.usual_spread[i] = spread
        desk.usual_spread[i] += USUAL_WEIGHT * (spread - desk.usual_spread[i])


@kernel
def decide_quotes(desk: Desk, i: int, bid: int, ask_price: int, t_ns: int) -> int:
    """Note what is to be done about the orders that rest in one instrument; returns the number of requests.

    bid, ask_price: the others' touch, 0 where a side is empty.
    """
    count = 0
    for place in range(MAKER_BID, MAKER_ASK + 1):
        side = 1 - 2 * place
        wanted = wanted_quote(desk, i, side, bid, ask_price)
        resting = desk.own[i, place, ID] != 0
        rested = t_ns - desk.own[i, place, SENT_NS] >= desk.settings[i, plan.MAKER_REQUOTE_NS]
        moves = rested and plan.is_worth_moving(desk.own[i, place, PRICE], wanted, bid, ask_price)
        if resting and (wanted == 0 or moves):
            count = ask(desk, count, i, place, WITHDRAW, side, 0, 0)
        if wanted != 0 and rested and (moves or not resting):
            mid = 0.5 * (bid + ask_price)
            lots = plan.lots_for(desk.settings[i, plan.MAKER_USD], mid, desk.account[i, acc.USD])
            sound = lots > 0
            lots = order_lots(desk, i, lots)
            if state_of(desk, i, MAKER) == _REDUCING:
                others = working_lots(desk, i, side) - (desk.own[i, place, LEFT] if resting else 0)
                lots = min(lots, int(abs(desk.account[i, acc.POSITION])) - others)
            if lots > 0 or not sound:  # what makes no sense is counted there
                count = ask(desk, count, i, place, REST, side, wanted, lots)
    learn_spread(desk, i, bid, ask_price)
    if desk.status[i, VENUE_HALTED] == BLINDED and desk.own[i, CHILD, ID] != 0:
        return ask(desk, count, i, CHILD, WITHDRAW, 0, 0, 0)
    return follow_touch(desk, count, i, bid, ask_price, t_ns)
