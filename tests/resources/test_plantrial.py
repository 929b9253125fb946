"""The trial of plans: what is kept, what is rolled back, and when nothing is tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.frame import IntArray
from resources.placer import Placer
from resources.planner import Planner, PlanState
from resources.plans import Rights, candidates
from resources.plantrial import BASE, Look, Phase, PlanTrial, TrialLimits
from tests.resources.machines import topology_of
from tests.resources.test_placer import FakeKernel

LIMITS = TrialLimits(window_s=5.0, settle_s=1.0, pairs=6, fewest=20, calm_s=10.0, longest_s=30.0)
BUCKETS = 2000  # one for each microsecond


def p99_s(counts: IntArray) -> float:
    return float(np.searchsorted(np.cumsum(counts), 0.99 * counts.sum())) / 1e6


class Market:
    """An engine whose acknowledgements take what the plan in force makes of them, microseconds."""

    def __init__(self, trial: PlanTrial, p99_us: dict[str, float], *, noise_us: float = 3.0, rate: int = 50) -> None:
        self.trial, self.p99_us, self.noise_us, self.rate = trial, p99_us, noise_us, rate
        self.counts: IntArray = np.zeros(BUCKETS, dtype=np.int64)
        self.now_s = 0.0
        self.run: tuple[int, ...] = (1, 2, 3)
        self.unfit = ""
        self.late_s: Callable[[str], float] = lambda plan: 0.001
        self.random = np.random.default_rng(1)
        self.wanted: list[str] = []

    def second(self) -> Look:
        """One second goes by under the plan that is wanted."""
        plan = self.trial.wanted
        mean = self.p99_us[plan] + self.random.normal(0.0, self.noise_us)
        durations = np.clip(self.random.normal(mean, 1.0, self.rate), 0, BUCKETS - 1).astype(np.int64)
        self.counts = self.counts + np.bincount(durations, minlength=BUCKETS)
        self.now_s += 1.0
        return Look(self.now_s, self.counts, self.run, self.unfit, self.late_s(plan))

    def until_done(self, most_s: int = 4000) -> None:
        for _ in range(most_s):
            self.trial.look(self.second())
            self.wanted.append(self.trial.wanted)
            if self.trial.phase in (Phase.KEPT, Phase.NONE_KEPT):
                return
        raise AssertionError("the trial does not end")


def _trial(*plans: str) -> PlanTrial:
    return PlanTrial(plans, p99_s, LIMITS)


def test_the_better_of_two_plans_is_kept_after_a_second_trial() -> None:
    trial = _trial("good", "better")
    market = Market(trial, {BASE: 100.0, "good": 80.0, "better": 60.0})
    market.until_done()
    assert (trial.phase, trial.kept, trial.wanted) == (Phase.KEPT, "better", "better")
    assert [one.plan for one in trial.outcomes] == ["good", "better", "better"]
    assert all(one.helps for one in trial.outcomes)


def test_windows_take_turns_as_a_b_b_a() -> None:
    trial = _trial("plan")
    market = Market(trial, {BASE: 100.0, "plan": 100.0})
    market.until_done()
    runs = [plan for before, plan in zip(["?", *market.wanted], market.wanted, strict=False) if plan != before]
    assert runs == [BASE, "plan"] * 3 + [BASE]  # 12 windows: A BB AA BB AA BB A


def test_a_plan_that_changes_nothing_or_harms_is_not_kept() -> None:
    trial = _trial("same", "worse")
    market = Market(trial, {BASE: 100.0, "same": 100.0, "worse": 130.0})
    market.until_done()
    assert (trial.phase, trial.wanted) == (Phase.NONE_KEPT, BASE)
    assert ["no difference" in trial.outcomes[0].why, "harms" in trial.outcomes[1].why] == [True, True]
    assert trial.outcomes[1].why.startswith("p99 1")


def test_one_that_was_only_lucky_fails_its_second_trial() -> None:
    trial = _trial("lucky")
    market = Market(trial, {BASE: 100.0, "lucky": 80.0})
    while not trial.outcomes:
        trial.look(market.second())
    market.p99_us["lucky"] = 101.0
    market.until_done()
    assert (trial.phase, trial.kept) == (Phase.NONE_KEPT, BASE)
    assert [one.helps for one in trial.outcomes] == [True, False]


def test_much_worse_is_given_up_within_a_window() -> None:
    trial = _trial("terrible")
    market = Market(trial, {BASE: 100.0, "terrible": 1500.0})
    market.until_done()
    assert market.wanted.count("terrible") <= LIMITS.settle_s + 2
    assert trial.outcomes[0].verdict is None
    assert "given up within a window: p99 1" in trial.outcomes[0].why


def test_a_plan_that_makes_the_console_late_is_not_kept() -> None:
    trial = _trial("selfish")
    market = Market(trial, {BASE: 100.0, "selfish": 60.0})
    market.late_s = lambda plan: 0.2 if plan else 0.001
    market.until_done()
    assert trial.phase is Phase.NONE_KEPT
    assert "the console is later: 1.0 -> 200.0 ms" in trial.outcomes[0].why


def test_the_console_s_lateness_is_not_judged_where_it_is_not_known() -> None:
    trial = _trial("good")
    market = Market(trial, {BASE: 100.0, "good": 60.0})
    market.late_s = lambda plan: float("nan")
    market.until_done()
    assert trial.kept == "good"


@pytest.mark.parametrize("why", ["trading is not active", "the engine is degraded"])
def test_nothing_is_in_force_while_the_engine_is_unfit(why: str) -> None:
    trial = _trial("good")
    market = Market(trial, {BASE: 100.0, "good": 60.0})
    while trial.wanted != "good":
        trial.look(market.second())
    market.unfit = why
    for _ in range(100):
        trial.look(market.second())
        assert (trial.phase, trial.wanted, trial.waits_for) == (Phase.WAITING, BASE, why)
    market.unfit = ""
    calm = [trial.wanted for _ in range(int(LIMITS.calm_s)) if trial.look(market.second()) is None]
    assert set(calm) == {BASE}
    market.until_done()
    assert trial.kept == "good"


def test_a_restart_interrupts_and_the_trial_goes_on_afterwards() -> None:
    trial = _trial("good")
    market = Market(trial, {BASE: 100.0, "good": 60.0})
    while trial.wanted != "good":
        trial.look(market.second())
    market.run, market.counts = (9, 2, 3), np.zeros(BUCKETS, dtype=np.int64)
    trial.look(market.second())
    assert trial.phase is Phase.WAITING
    market.until_done()
    assert trial.kept == "good"


def test_too_few_orders_are_no_evidence() -> None:
    trial = _trial("good")
    market = Market(trial, {BASE: 100.0, "good": 60.0}, rate=0)
    for _ in range(500):
        trial.look(market.second())
        assert trial.wanted == BASE
    assert trial.waits_for == "orders: 0 a minute are too few to tell a p99 by"


def test_a_market_that_falls_silent_ends_the_window_not_the_trial() -> None:
    trial = _trial("good")
    market = Market(trial, {BASE: 100.0, "good": 60.0})
    while trial.wanted != "good":
        trial.look(market.second())
    market.rate = 0
    for _ in range(int(LIMITS.longest_s + LIMITS.settle_s) + 3):
        trial.look(market.second())
    assert (trial.phase, trial.wanted) == (Phase.WAITING, BASE)


def test_without_plans_there_is_nothing_to_wait_for() -> None:
    assert _trial().phase is Phase.NONE_KEPT


def test_a_trial_of_too_few_windows_is_refused() -> None:
    with pytest.raises(ValueError, match="5 windows on either side at least, not 4"):
        PlanTrial(["a"], p99_s, TrialLimits(pairs=4))


# --- with a placer ----------------------------------------------------------------------------------


class Desk:
    """Trial, planner and placer over processes in memory."""

    def __init__(self, folder: Path, p99_us: dict[str, float]) -> None:
        self.kernel = FakeKernel()
        self.pids = {name: self.kernel.start() for name in ("console", "engine", "risk")}
        self.plans, self.impossible = candidates(topology_of(4), Rights(-20, 99))
        self.trial = PlanTrial(list(self.plans), p99_s, LIMITS)
        self.market = Market(self.trial, p99_us | {name: p99_us.get(name, 100.0) for name in self.plans})
        self.placer = Placer(folder / "cpu.plan", self.kernel)
        self.decided: list[PlanState] = []
        self.planner = Planner(
            self.plans, self.impossible, self.trial, self.placer, lambda: self.pids, self.decided.append
        )

    def second(self) -> None:
        self.planner.step(self.market.second())

    def until_decided(self) -> PlanState:
        for _ in range(4000):
            self.second()
            if self.decided:
                return self.decided[-1]
        raise AssertionError("nothing is decided")


def test_what_is_kept_is_in_force_and_told_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {BASE: 100.0, "engine_fifo": 50.0})
    state = desk.until_decided()
    for _ in range(10):
        desk.second()
    assert [one.in_force for one in desk.decided] == ["engine_fifo"]
    assert desk.kernel.states[desk.pids["engine"]].priority == 1
    assert state.in_words().startswith("Plan in force: engine_fifo (tried 5: engine_core p99 1")
    assert "not tried: engine_cache: there are no two caches" in state.in_words()
    desk.planner.stop()
    assert desk.kernel.states == desk.kernel.true


def test_a_plan_that_does_not_help_says_so(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {BASE: 100.0})
    words = desk.until_decided().in_words()
    assert words.startswith("Plan in force: none (tried 4, none helped: engine_core p99 1")
    assert words.count("no difference: not applied") == 4
    assert desk.kernel.states == desk.kernel.true


def test_what_is_not_permitted_is_left_out_and_the_others_are_tried(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {BASE: 100.0, "background_nice": 50.0})
    while not desk.trial.trying:
        desk.second()
    desk.kernel.denied = 1
    state = desk.until_decided()
    assert state.in_force == "background_nice"
    assert "Operation not permitted" in state.outcomes[0].why
    assert state.outcomes[0].plan == "engine_core"


def test_a_kept_plan_that_a_new_process_may_not_have_is_given_up(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {BASE: 100.0, "engine_fifo": 50.0})
    desk.until_decided()
    desk.kernel.end(desk.pids["engine"])
    desk.pids["engine"] = desk.kernel.start()
    desk.kernel.denied = 1
    desk.second()
    desk.second()
    assert desk.planner.state.phase is Phase.NONE_KEPT
    assert desk.kernel.states == desk.kernel.true
    assert [one.in_force for one in desk.decided] == ["engine_fifo", ""]


EVENTS = st.lists(
    st.tuples(
        st.integers(1, 40),
        st.sampled_from(
            ["", "deny", "restart engine", "restart risk", "console gone", "spawn", "unfit", "fit", "slow"]
        ),
    ),
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.sampled_from(["engine_core", "engine_fifo", "background_nice"]))
def test_cut_short_anywhere_all_is_as_before(events: list[tuple[int, str]], best: str) -> None:
    with TemporaryDirectory() as folder:
        desk = Desk(Path(folder), {BASE: 100.0, best: 50.0})
        for seconds, what in events:
            if what == "deny":
                desk.kernel.denied = 1
            elif what.startswith("restart"):
                name = what.split()[1]
                desk.kernel.end(desk.pids[name])
                desk.pids[name] = desk.kernel.start()
                desk.market.run = tuple(desk.pids.values())
            elif what == "console gone":
                desk.placer = Placer(Path(folder) / "cpu.plan", desk.kernel)
                desk.kernel.denied = 0
                desk.placer.recover()
                assert desk.kernel.states == desk.kernel.true
                desk.trial = PlanTrial(list(desk.plans), p99_s, LIMITS)
                desk.market.trial = desk.trial
                desk.planner = Planner(
                    desk.plans, {}, desk.trial, desk.placer, lambda: desk.pids, desk.decided.append
                )  # fmt: skip
            elif what == "spawn":
                engine = desk.pids["engine"]
                desk.kernel.spawn(engine, engine)
            elif what in ("unfit", "fit"):
                desk.market.unfit = "trading is not active" if what == "unfit" else ""
            elif what == "slow":
                desk.market.p99_us[best] = 1900.0
            for _ in range(seconds):
                desk.second()
            if desk.market.unfit and desk.trial.phase is not Phase.KEPT:
                desk.kernel.denied = 0
                desk.second()
                assert desk.kernel.states == desk.kernel.true
        desk.kernel.denied = 0
        desk.planner.stop()
        assert desk.kernel.states == desk.kernel.true
        assert not (Path(folder) / "cpu.plan").exists()
