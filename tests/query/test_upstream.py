"""Prometheus's own cases (see validation/promqltest.py), and the list of those that do not pass in docs/PROMQL.md."""

import re
from pathlib import Path

import pytest

from validation.promqltest import cases, run, run_folder

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "PROMQL.md"
FLOORS = {"stable": 859, "flagged": 412}


@pytest.fixture(scope="module")
def outcomes(promqltest):
    return run_folder(promqltest)


def listed():
    """File and expression of every case that the document names, each with a reason behind it."""
    return set(re.findall(r"^- `(\w+)`: `([^`]+)`: \S", DOCUMENT.read_text(), re.MULTILINE))


def test_every_case_passes_or_is_listed_with_its_reason(outcomes):
    failed = {
        (outcome.case.file, outcome.case.expression): f"{outcome.case.file}:{outcome.case.line}: {outcome.trouble}"
        for classed in FLOORS
        for outcome in outcomes[classed]
        if outcome.trouble
    }
    assert not [why for case, why in failed.items() if case not in listed()]
    assert listed() == set(failed), "the document lists cases that pass"


@pytest.mark.parametrize("classed", FLOORS)
def test_no_case_is_lost(outcomes, classed):
    assert sum(not outcome.trouble for outcome in outcomes[classed]) >= FLOORS[classed]


def test_a_wrong_answer_would_be_noticed(promqltest):
    case = next(case for case in cases(promqltest / "functions.test") if case.expected and case.classed == "stable")
    labels, points = case.expected[0]
    case.expected[0] = (labels, [(point or 0.0) + 1.0 for point in points])
    assert run(case).trouble


def test_a_wrong_annotation_or_message_would_be_noticed(promqltest):
    everything = [
        case for path in sorted(promqltest.glob("*.test")) for case in cases(path) if case.classed != "native"
    ]
    told = next(case for case in everything if any(kind == "warn" and text for kind, _, text in case.annotations))
    told.annotations = [(kind, how, f"{text}!") for kind, how, text in told.annotations]
    assert run(told).trouble
    failing = next(case for case in everything if case.fails and case.fail_message)
    failing.fail_message = f"{failing.fail_message}!"
    assert run(failing).trouble
