"""The scoring of detectors: what counts as found, missed and false, and cases that are the same for a seed."""

from pathlib import Path

import numpy as np
import pytest

from metrics.errors import ConfigError
from validation.detectors import Labelled, begins, injected, judge, nab
from validation.incidents import INCIDENTS

WINDOWS = ((100, 199), (500, 599))


def labelled() -> Labelled:
    return Labelled("x", np.arange(1000.0), np.zeros(1000), WINDOWS, 50)


def scored(*at: int) -> list[np.ndarray]:
    scores = np.zeros(1000)
    scores[list(at)] = 10.0
    return [scores]


def test_finding_every_window_at_its_beginning_is_perfect() -> None:
    outcome = judge([labelled()], scored(100, 500), 5.0)
    assert (outcome.found, outcome.missed, outcome.false, outcome.delays) == (2, 0, 0, (0, 0))
    assert outcome.score == pytest.approx(100.0, abs=0.1)
    assert outcome.f1 == 1.0


def test_telling_nothing_scores_nothing() -> None:
    outcome = judge([labelled()], scored(), 5.0)
    assert (outcome.missed, outcome.score, outcome.f1) == (2, 0.0, 0.0)


def test_what_is_outside_is_false_and_what_is_too_early_is_not_scored() -> None:
    outcome = judge([labelled()], scored(10, 300, 520), 5.0)
    assert (outcome.found, outcome.missed, outcome.false, outcome.delays) == (1, 1, 1, (20,))


def test_one_incident_begins_once() -> None:
    assert begins(scored(100, 101, 150, 200, 700)[0], 5.0) == [100, 700]


def test_cases_are_the_same_for_a_seed_and_of_every_kind() -> None:
    first, second = injected(1, 3), injected(1, 3)
    assert all(np.array_equal(a.values, b.values, equal_nan=True) for a, b in zip(first, second, strict=True))
    assert {one.kind for one in first} == {"none", *INCIDENTS}
    for one in first:
        assert all(0 <= begin <= end < len(one.values) for begin, end in one.windows)


def test_a_folder_that_is_not_nab_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no clone of https://github\.com/numenta/NAB"):
        nab(tmp_path)
