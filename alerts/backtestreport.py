"""A backtest in words, for the command line."""

from __future__ import annotations

from alerts.backtest import Backtest, RuleResult
from alerts.durations import show_duration
from alerts.views import rfc3339


def lines(result: Backtest) -> list[str]:
    """A line for each rule, the version compared with below it, then suggested thresholds."""
    shown = [
        f"{rfc3339(result.start_ms)} to {rfc3339(result.end_ms)} ({result.days:.1f} days),"
        f" {len(result.rules)} rules in {result.took_s:.1f} s"
    ]
    before = {one.rule: one for one in result.before or ()}
    for one in result.rules:
        shown.append(f"{one.rule} ({one.expression})")
        shown.append(f"  fired {_words(one, result)}")
        old = before.pop(one.rule, None)
        if old is not None and old is not one:
            shown.append(f"  now   {_words(old, result)} ({old.expression})")
        elif old is None and result.before is not None:
            shown.append("  now   not there")
        for hint in one.suggestions:
            shown.append(
                f"  {hint.aim}: {hint.threshold:g} (fired {hint.fired} times; 90 %: {hint.low:.1f} to {hint.high:.1f};"
                f" {hint.sure} evidence)"
            )
    shown += [f"{one.rule}: gone; fired {_words(one, result)}" for one in before.values()]
    return shown


def _words(one: RuleResult, result: Backtest) -> str:
    if one.error:
        return f"- cannot be asked: {one.error}"
    if not one.series:
        return "- no data"
    how = f"every {show_duration(one.step_s)}{', worst of each' if one.worst_of_step else ''}"
    if not one.fired:
        return f"never ({one.series} series, {one.covered:.0%} covered, {how})"
    tiers = ", ".join(f"{count} {name}" for name, count in one.tiers.items() if count)
    return (
        f"{one.fired} times ({one.fired / result.days:.2g} a day; {tiers}), {show_duration(one.firing_s)} in all,"
        f" longest {show_duration(one.longest_s)}, median {show_duration(one.median_s)}"
        f" ({one.series} series, {one.covered:.0%} covered, {how})"
    )
