"""A strategy whose children multiply is halted within a second, the same way each time, and loses less than without gates."""

from __future__ import annotations

from validation.knight import run

LASTS_MS = 3_000


def test_multiplying_children_are_halted_within_a_second_and_most_of_the_loss_is_avoided() -> None:
    guarded, bare = run(True, lasts_ms=LASTS_MS), run(False, lasts_ms=LASTS_MS)
    assert guarded.halted_after_ms is not None
    assert guarded.halted_after_ms < 1_000
    assert bare.halted_after_ms is None
    assert bare.pnl_usd < guarded.pnl_usd < 0
    assert guarded.sent < bare.sent
    assert run(True, lasts_ms=LASTS_MS) == guarded
