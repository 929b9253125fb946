"""Prometheus's own cases (see validation/promqltest.py)."""

from validation.promqltest import cases, run, run_folder

# avg_over_time(metric11[1m]): upstream expects the 0 that its compensated summation ends up with and notes
# that -44.848083237 would be right; ours sums exactly and gives that.
MORE_EXACT_THAN_UPSTREAM = {("functions", "avg_over_time(metric11[1m])")}
FLOOR = 859


def test_every_stable_case_passes(promqltest):
    outcomes = run_folder(promqltest)["stable"]
    failed = {
        (outcome.case.file, outcome.case.expression): f"{outcome.case.file}:{outcome.case.line}: {outcome.trouble}"
        for outcome in outcomes
        if outcome.trouble
    }
    surprising = [why for case, why in failed.items() if case not in MORE_EXACT_THAN_UPSTREAM]
    assert not surprising, "\n".join(surprising)
    assert sum(not outcome.trouble for outcome in outcomes) >= FLOOR


def test_a_wrong_answer_would_be_noticed(promqltest):
    case = next(case for case in cases(promqltest / "functions.test") if case.expected and case.classed == "stable")
    labels, points = case.expected[0]
    case.expected[0] = (labels, [(point or 0.0) + 1.0 for point in points])
    assert run(case).trouble
