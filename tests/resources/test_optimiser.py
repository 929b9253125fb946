"""A trial tells a change that helps from one that does not."""

import numpy as np
import pytest

from metrics.errors import DeskvigilError
from resources.optimiser import Effect, Trial


def test_a_change_that_halves_the_cost_helps():
    random = np.random.default_rng(1)
    verdict = Trial(random.normal(100, 5, 15), random.normal(50, 5, 15)).verdict()
    assert verdict.effect is Effect.HELPS
    assert verdict.helps
    assert verdict.low < -50 < verdict.high + 10
    assert verdict.high < 0


def test_a_change_that_doubles_the_cost_harms():
    random = np.random.default_rng(1)
    verdict = Trial(random.normal(50, 5, 15), random.normal(100, 5, 15)).verdict()
    assert verdict.effect is Effect.HARMS
    assert not verdict.helps


def test_equal_costs_seldom_count_as_a_difference():
    random = np.random.default_rng(7)
    trials = [Trial(random.normal(100, 5, 20), random.normal(100, 5, 20)).verdict() for _ in range(200)]
    claims = sum(verdict.effect is not Effect.NO_DIFFERENCE for verdict in trials)
    assert claims <= 24  # 5 % promised; the bootstrap of medians of 20 is a little off


def test_no_change_of_a_cost_of_zero_is_no_difference():
    assert Trial(np.zeros(5), np.zeros(5)).verdict().effect is Effect.NO_DIFFERENCE


@pytest.mark.parametrize("samples", [np.ones(4), np.ones((5, 2)), np.array([1.0, 2, np.nan, 4, 5])])
def test_samples_that_prove_nothing_are_refused(samples):
    with pytest.raises(DeskvigilError, match="before"):
        Trial(samples, np.ones(5))
