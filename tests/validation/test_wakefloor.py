"""The floor under order entry: every ring comes back, and the process is left on the cores it had."""

from __future__ import annotations

import os

import pytest

from validation import wakefloor


def test_each_ring_comes_back_and_the_cores_are_as_before() -> None:
    before = os.sched_getaffinity(0)
    core = min(before)
    for cores in (None, (core, core)):
        times = wakefloor.round_trips(20, 10_000, cores)
        assert len(times) == 20
        assert (times > 0).all()
        assert os.sched_getaffinity(0) == before


def test_an_end_that_does_not_ring_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakefloor, "PATIENCE_NS", 50_000_000)
    monkeypatch.setattr(wakefloor, "_other_end", lambda *_args: None)
    with pytest.raises(RuntimeError, match="only 0 of"):
        wakefloor.round_trips(20, 0)
