"""Trading state: the strictest cause counts, and what people must lift survives."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from engine.control import CONSOLE, LOSS, OPERATOR, OUTPUT, THROTTLE, Cause, StateFileError, TradingControl, key_of
from engine.gates import TradingState

SYMBOLS = ("AAA", "BBB")
HALT = Cause(TradingState.HALTED, "anna", "drill", 1)
REDUCE = Cause(TradingState.REDUCING, "engine", "no console", 2)


def control(tmp_path: Path) -> TradingControl:
    return TradingControl(tmp_path / "trading_state.json", SYMBOLS)


def test_without_causes_everything_is_active(tmp_path: Path) -> None:
    assert control(tmp_path).state is TradingState.ACTIVE
    assert control(tmp_path).states() == [TradingState.ACTIVE] * 2


def test_the_strictest_cause_counts(tmp_path: Path) -> None:
    c = control(tmp_path)
    c.restrict(CONSOLE, REDUCE)
    assert c.state is TradingState.REDUCING
    c.restrict(OPERATOR, HALT)
    assert c.state is TradingState.HALTED
    c.lift(OPERATOR)
    assert c.state is TradingState.REDUCING


def test_one_instruments_halt_is_its_own(tmp_path: Path) -> None:
    c = control(tmp_path)
    c.restrict(f"{OPERATOR}:BBB", HALT)
    assert c.state is TradingState.ACTIVE
    assert c.states() == [TradingState.ACTIVE, TradingState.HALTED]
    assert c.resume("AAA") == []
    assert c.resume("BBB") == [f"{OPERATOR}:BBB"]
    assert c.states() == [TradingState.ACTIVE] * 2


def test_resume_lifts_all_but_what_goes_by_itself(tmp_path: Path) -> None:
    c = control(tmp_path)
    c.restrict(OPERATOR, HALT)
    c.restrict(LOSS, REDUCE)
    c.restrict(CONSOLE, REDUCE)
    assert sorted(c.resume()) == [LOSS, OPERATOR]
    assert c.state is TradingState.REDUCING
    assert list(c.causes) == [CONSOLE]


def test_a_second_halt_keeps_the_first_ones_words(tmp_path: Path) -> None:
    c = control(tmp_path)
    assert c.restrict(OPERATOR, HALT)
    assert not c.restrict(OPERATOR, Cause(TradingState.HALTED, "bob", "me too", 9))
    assert c.causes[OPERATOR] == HALT


def test_a_kept_halt_is_recalled_and_the_consoles_absence_is_not(tmp_path: Path) -> None:
    c = control(tmp_path)
    c.restrict(OPERATOR, HALT)
    c.restrict(CONSOLE, REDUCE)
    c.keep()
    again = control(tmp_path)
    again.recall(now_ns=5)
    assert again.causes == {OPERATOR: HALT}
    c.resume()
    c.keep()
    last = control(tmp_path)
    last.recall(now_ns=6)
    assert last.state is TradingState.ACTIVE
    assert [file.name for file in tmp_path.iterdir()] == ["trading_state.json"]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"operator": 3}', '{"operator": {"state": 9}}', "\x00"])
def test_a_file_that_cannot_be_read_halts(tmp_path: Path, text: str) -> None:
    (tmp_path / "trading_state.json").write_text(text)
    c = control(tmp_path)
    c.recall(now_ns=7)
    assert c.state is TradingState.HALTED
    assert "could not be read" in c.causes[OPERATOR].reason


def test_a_state_that_cannot_be_kept_is_an_expected_failure(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file where a folder should be")
    c = TradingControl(tmp_path / "folder" / "trading_state.json", SYMBOLS)
    with pytest.raises(StateFileError):
        c.keep()


def test_a_scope_has_the_strictest_of_its_own_causes_and_the_whole_desk_none_of_them(tmp_path: Path) -> None:
    c = control(tmp_path)
    c.restrict(key_of(OUTPUT, "strategy:maker"), REDUCE)
    c.restrict(key_of(THROTTLE, "strategy:parents"), HALT)
    c.restrict(key_of(OPERATOR, "client:acme"), HALT)
    c.restrict(key_of(OPERATOR, "strategy:maker"), HALT)
    assert c.state is TradingState.ACTIVE
    assert c.states() == [TradingState.ACTIVE] * 2
    assert c.restricted("strategy") == {"maker": TradingState.HALTED, "parents": TradingState.HALTED}
    assert c.restricted("client") == {"acme": TradingState.HALTED}
    assert c.resume("client:acme") == ["operator:client:acme"]
    assert sorted(c.resume("strategy:maker")) == ["operator:strategy:maker", "output:strategy:maker"]
    assert c.restricted("strategy") == {"parents": TradingState.HALTED}
    assert c.resume() == ["throttle:strategy:parents"]


def test_latches_and_limits_survive_a_restart(tmp_path: Path) -> None:
    c = control(tmp_path)
    c.restrict(key_of(THROTTLE, "strategy:parents"), HALT)
    c.limits = [
        {"name": "max_order_usd", "scope": "all", "value": 5.0, "who": "anna", "reason": "drill", "since_ns": 1}
    ]
    c.keep()
    again = control(tmp_path)
    again.recall(now_ns=5)
    assert again.causes == c.causes
    assert again.limits == c.limits


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    old = {"operator": asdict(HALT), "operator:BBB": asdict(HALT), "loss": asdict(REDUCE)}
    (tmp_path / "trading_state.json").write_text(json.dumps(old))
    c = control(tmp_path)
    c.recall(now_ns=5)
    assert c.causes == {"operator": HALT, "operator:BBB": HALT, "loss": REDUCE}
    assert c.limits == []


@pytest.mark.parametrize(
    "text", ['{"format": 3, "causes": {}, "limits": []}', '{"format": 2}', '{"format": 2, "causes": {}, "limits": [1]}']
)
def test_a_file_of_a_later_version_or_half_of_one_halts(tmp_path: Path, text: str) -> None:
    (tmp_path / "trading_state.json").write_text(text)
    c = control(tmp_path)
    c.recall(now_ns=7)
    assert c.state is TradingState.HALTED
