"""Objectives become burn-rate alerts that Prometheus accepts and that fire when the budget burns."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from alerts.errors import RuleError
from alerts.options import DEFAULT_SLOS, AlertOptions, SloOptions
from alerts.slo import objectives, slo_groups, slo_rules
from collectors.engine import LE_NS
from metrics.catalogue import metric_of
from metrics.clock import ManualClock
from metrics.severity import Severity
from tests.alerts.desk import Desk, rules_file

RATIO = SloOptions(name="api", objective=0.99, good="good_total", total="all_total")


def test_promtool_accepts_what_is_generated(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on this machine: apt-get install prometheus")
    path = tmp_path / "slo.yml"
    path.write_text(slo_rules((*DEFAULT_SLOS, RATIO)))
    result = subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{3 * 3 + 3 * 6} rules found" in result.stdout


def burning(desk: Desk, clock: ManualClock, share: float, minutes: int, counts: list[float]) -> None:
    for _ in range(minutes):
        clock.advance(60 * 10**9)
        counts[0] += 6000 * (1 - share)
        counts[1] += 6000
        desk.frame("api", {"good_total": counts[0], "all_total": counts[1]})


def firing(desk: Desk) -> set[Severity]:
    rules = [rule for group in slo_groups([RATIO]) for rule in group.rules]
    return {
        rule.severity
        for rule in rules
        if desk.query.instant(rule.expression.text, desk.clock.now_ns() // 1_000_000).samples()
    }


def test_a_fast_burn_fires_critical_and_ends_soon_after_the_trouble(tmp_path: Path) -> None:
    clock, counts = ManualClock(), [0.0, 0.0]
    desk = Desk(tmp_path, rules_file(tmp_path, "[]"), [], clock)
    burning(desk, clock, 0.0, 90, counts)
    assert firing(desk) == set()
    burning(desk, clock, 0.25, 5, counts)
    assert Severity.CRITICAL not in firing(desk)  # a blip: the hour has spent too little yet
    burning(desk, clock, 0.25, 45, counts)
    assert Severity.CRITICAL in firing(desk)
    burning(desk, clock, 0.0, 6, counts)
    assert Severity.CRITICAL not in firing(desk)
    desk.close()


def test_the_shipped_objectives_are_about_series_that_there_are(tmp_path: Path) -> None:
    desk = Desk(tmp_path, rules_file(tmp_path, "[]"), [], ManualClock())
    for group in slo_groups(DEFAULT_SLOS):
        for rule in group.rules:
            names = desk.query.prepare(rule.expression.text).metric_names()
            assert names
            assert all(metric_of(name) for name in names), names
    assert f'le="{0.016777216!r}"' in DEFAULT_SLOS[0].good
    assert 0.016777216 in [bound / 1e9 for bound in LE_NS]
    desk.close()


def test_the_shipped_objectives_belong_to_the_shipped_rules(tmp_path: Path) -> None:
    assert objectives(AlertOptions()) == DEFAULT_SLOS
    assert objectives(AlertOptions(rules=(tmp_path / "own.yml",))) == ()
    assert objectives(AlertOptions(slos=(RATIO,))) == (RATIO,)


@pytest.mark.parametrize(
    ("slo", "words"),
    [
        (SloOptions(name="a b", objective=0.9, errors="x[$window]"), "a name is letters"),
        (SloOptions(name="x", objective=0.9), "give either errors, or both"),
        (SloOptions(name="x", objective=0.9, good="g"), "give either errors, or both"),
        (SloOptions(name="x", objective=0.9, good="g", total="t", errors="e[$window]"), "give either errors, or both"),
        (SloOptions(name="x", objective=0.9, errors="e / t"), r"over \$window"),
        (SloOptions(name="x", objective=0.9, errors="rate(e[$window]"), "alerts.slos"),
    ],
)
def test_a_wrong_objective_is_named(slo: SloOptions, words: str) -> None:
    with pytest.raises(RuleError, match=words):
        slo_groups([slo])


def test_two_objectives_of_one_name_are_refused() -> None:
    with pytest.raises(RuleError, match="'api' is there twice"):
        slo_groups([RATIO, RATIO])
