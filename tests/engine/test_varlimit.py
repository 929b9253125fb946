"""The value at risk as a pre-trade limit: when it stops orders, which it lets pass, and who may set it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.gates import VAR_STOP, Gates, Reason, TradingState, make_gates
from engine.limits import Change, LimitRefusedError, Limits
from engine.telemetry import BlockSpec, BlockWriter
from engine.varlimit import AGE, VarLimit
from metrics.catalogue import series
from tests.engine.test_gates import OPTIONS, SYMBOLS, WIDE, ask, gates_of

MS = 1_000_000
CONFIGURED = replace(OPTIONS, max_var_usd=1_000.0, max_var_age_s=1.0)


@dataclass
class Arrays:
    gates: Gates


class Desk:
    """As much of a trading desk as the limit looks at: real gates and real limits."""

    def __init__(self, options=CONFIGURED) -> None:
        self.gates = make_gates(options, len(SYMBOLS))
        self.limits = Limits(options, SYMBOLS, (1.0,) * len(SYMBOLS), self.gates)
        self.arrays = Arrays(self.gates), None


class Rig:
    def __init__(self, folder: Path, options=CONFIGURED) -> None:
        self.desk = Desk(options)
        self.path = folder / "risk.block"
        self.limit = VarLimit(self.path, self.desk, options.max_var_age_s)  # type: ignore[arg-type]
        self.now_ns = 0
        self.block: BlockWriter | None = None

    def risk(self, var: float, age_s: float = 0.0) -> None:
        if self.block is None:
            self.block = BlockWriter(
                self.path, BlockSpec("risk", (series("deskvigil_risk_var_usd", confidence="0.99"), AGE))
            )
        self.block.scalars[:] = var, age_s
        self.now_ns += 100 * MS
        self.block.publish(1 + self.now_ns)

    def look(self) -> str:
        self.limit.look(self.now_ns)
        word = int(self.desk.gates.words[VAR_STOP])
        assert word == (int(Reason.VAR_LIMIT) if self.limit.reason else 0)
        return self.limit.reason

    def live(self, var: float = 500.0) -> None:
        for _ in range(2):
            self.risk(var)
            self.look()


def test_above_the_limit_without_a_figure_and_with_an_old_one_orders_stop(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    assert "no sign of life" in rig.look(), "missing is not within"
    rig.risk(500.0)
    assert "no sign of life" in rig.look(), "a block may have been left behind by a process that is gone"
    rig.risk(500.0)
    assert rig.look() == ""
    rig.risk(1_000.0)
    assert rig.look() == ""
    rig.risk(1_000.5)
    assert "1,000 USD, the limit is 1,000" in rig.look()
    rig.risk(math.nan)
    assert "no value at risk" in rig.look()
    rig.risk(500.0, 0.4)
    assert rig.look() == ""
    rig.now_ns += 600 * MS
    assert rig.look() == "", "0.4 s when published, and 0.6 s since"
    rig.now_ns += 1 * MS
    assert "1.0 s old, more than 1 s" in rig.look()
    rig.risk(500.0, math.nan)
    assert "nan s old" in rig.look()
    rig.risk(500.0)
    assert rig.look() == ""
    rig.path.unlink()
    rig.now_ns += 2_000 * MS
    assert "2.0 s old" in rig.look()


def test_where_no_limit_is_configured_nothing_of_it_matters(tmp_path: Path) -> None:
    rig = Rig(tmp_path, OPTIONS)
    assert rig.look() == ""
    rig.live(1e12)
    assert rig.look() == ""
    rig.risk(math.nan)
    assert rig.look() == ""
    assert rig.limit.status() == {"limit_usd": 0.0, "var_usd": None, "reason": ""}


def test_a_person_may_set_the_limit_raise_it_within_the_ratio_and_not_switch_it_off(tmp_path: Path) -> None:
    rig = Rig(tmp_path, OPTIONS)
    rig.live(500.0)
    change = Change("max_var_usd", "all", 400.0, "anna", "quiet day", 1)
    assert rig.desk.limits.set(change) == 0.0
    rig.live(500.0)
    assert "the limit is 400" in rig.look()
    rig.desk.limits.set(replace(change, value=600.0))
    assert rig.look() == ""
    with pytest.raises(LimitRefusedError, match="cannot be switched off"):
        rig.desk.limits.set(replace(change, value=0.0))
    with pytest.raises(LimitRefusedError, match="has the scopes all"):
        rig.desk.limits.set(replace(change, scope="AAA"))
    configured = Desk()
    configured.limits.set(replace(change, value=2_000.0))
    with pytest.raises(LimitRefusedError, match="at most 2000"):
        configured.limits.set(replace(change, value=2_001.0))


ORDERS = st.fixed_dictionaries(
    {
        "side": st.sampled_from([1, -1]),
        "lots": st.integers(1, 9),
        "position": st.integers(-15, 15).map(float),
        "buying": st.integers(0, 5),
        "selling": st.integers(0, 5),
    }
)


@given(order=ORDERS)
def test_only_orders_that_reduce_pass_while_it_is_in_force_and_all_others_as_without_it(
    order: dict[str, float],
) -> None:
    stopped = gates_of(WIDE)
    stopped.words[VAR_STOP] = int(Reason.VAR_LIMIT)
    found = ask(order, gates=stopped)
    # The slow rule: after everything that works on its side and this order, the position is smaller and not turned round.
    same = order["buying"] if order["side"] > 0 else order["selling"]
    after = order["position"] + order["side"] * (same + order["lots"])
    reduces = abs(after) < abs(order["position"]) and after * order["position"] >= 0
    assert found is (Reason.ACCEPTED if reduces else Reason.VAR_LIMIT)
    assert ask(order, gates=gates_of(WIDE)) is Reason.ACCEPTED


def test_a_halt_comes_before_it_and_no_limit_after_it_is_asked() -> None:
    gates = gates_of(WIDE)
    gates.words[VAR_STOP] = int(Reason.VAR_LIMIT)
    assert ask({"state": TradingState.HALTED}, gates=gates) is Reason.HALTED
    assert ask({"age": -1}, gates=gates) is Reason.VAR_LIMIT
