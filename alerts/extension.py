"""The `deskvigil` annotation: what our rules can say beyond Prometheus's.

It is a YAML block inside one annotation, so that `promtool check rules` and Prometheus itself accept
the file; it is taken out before anything is sent.

    annotations:
      deskvigil: |
        tiers: {critical: 0.90, emergency: 0.97}   # further thresholds; the expression's is the label's tier
        recovery: 0.75                             # a firing alert resolves only beyond this
        no_data: keep                              # resolve (default), keep, or alert
        predict: {within: 30m}                     # say beforehand when the threshold is that near (alerts/detectors/)
        active: {days: [mon-fri], from: "09:30", to: "16:00", zone: America/New_York}

or, by a market's calendar: `active: {calendar: XNYS, before_open: 30m, after_close: 15m}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from alerts.durations import parse_duration_s
from alerts.expression import Comparison, Op
from alerts.hours import ActiveHours, parse_days, parse_time, parse_zone
from alerts.sessions import MarketHours
from alerts.yaml_block import YamlError, load_yaml
from metrics.severity import Severity

ANNOTATION = "deskvigil"
KEYS = ("tiers", "op", "recovery", "no_data", "active", "predict")


class NoData(StrEnum):
    """What it means when the expression's value has no sample."""

    RESOLVE = "resolve"  # as in Prometheus: an alert without its series is over
    KEEP = "keep"  # the alert stays what it was
    ALERT = "alert"  # silence is itself the trouble


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier: how bad, and from where on; no comparison means that any sample is that bad."""

    severity: Severity
    comparison: Comparison | None


@dataclass(frozen=True, slots=True)
class Extension:
    """The block as parsed. tiers: lowest first, never empty; recovery: holds while the alert stays.

    predict_s: breaches are foretold at most so long before; None: they are not.
    """

    tiers: tuple[Tier, ...]
    recovery: Comparison | None = None
    no_data: NoData = NoData.RESOLVE
    active: ActiveHours | MarketHours | None = None
    predict_s: float | None = None

    def tier_of(self, value: float) -> Tier | None:
        """The worst tier that a value reaches, None where it reaches none."""
        for tier in reversed(self.tiers):
            if tier.comparison is None or tier.comparison.holds(value):
                return tier
        return None

    def tier_named(self, severity: Severity) -> Tier:
        """The tier of a severity, the lowest where there is no such (the rule has changed)."""
        return next((tier for tier in self.tiers if tier.severity == severity), self.tiers[0])


def parse_extension(text: str, severity: Severity, comparison: Comparison | None) -> Extension:
    """Read the annotation's text ("" for none) of a rule with this `severity` label and comparison.

    ValueError says what is wrong; unknown keys are errors.
    """
    if not text.strip():
        return Extension((Tier(severity, comparison),))
    try:
        raw = load_yaml(text)
    except YamlError as error:
        raise ValueError(f"{error}") from None
    block = _mapping(raw, "the block")
    _only(block, KEYS, "the block")
    op = _op(block.get("op"), comparison)
    return Extension(
        tiers=_tiers(block.get("tiers"), severity, comparison, op),
        recovery=_recovery(block.get("recovery"), comparison),
        no_data=_no_data(block.get("no_data"), comparison),
        active=_active(block.get("active")),
        predict_s=_predict(block.get("predict"), comparison),
    )


def _mapping(raw: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise ValueError(f"{what} must be a mapping")
    return raw


def _only(block: Mapping[str, Any], allowed: tuple[str, ...], what: str) -> None:
    for key in block:
        if key not in allowed:
            raise ValueError(f"{what} has the unknown key {key!r}; allowed are {', '.join(allowed)}")


def _number(raw: Any, what: str) -> float:
    try:
        value = float(raw)
    except (TypeError, ValueError):
        raise ValueError(f"{what}: {raw!r} is not a number") from None
    if value != value:
        raise ValueError(f"{what}: NaN is no threshold")
    return value


def _op(raw: Any, comparison: Comparison | None) -> Op | None:
    if raw is None:
        return comparison.op if comparison is not None and comparison.direction else None
    if comparison is not None:
        raise ValueError(f"op is not needed: the expression compares with {comparison.op}")
    if raw not in (">", ">=", "<", "<="):
        raise ValueError(f"op: {raw!r} is not one of >, >=, <, <=")
    op: Op = raw
    return op


def _tiers(raw: Any, base: Severity, comparison: Comparison | None, op: Op | None) -> tuple[Tier, ...]:
    lowest = Tier(base, comparison)
    if raw is None:
        return (lowest,)
    if op is None:
        raise ValueError("tiers need a direction: an expression that ends in > or < a number, or the key op")
    tiers = [lowest]
    named = {_severity(name): _number(value, f"tiers.{name}") for name, value in _mapping(raw, "tiers").items()}
    for severity in sorted(named):
        added = Comparison(op, named[severity])
        if severity < base:
            raise ValueError(f"tiers.{severity.label}: the severity label says {base.label}, tiers can only be worse")
        if severity == base:
            if comparison is not None and comparison.threshold != added.threshold:
                raise ValueError(f"tiers.{severity.label}: the expression says {comparison.threshold:g}")
            continue
        before = tiers[-1].comparison
        if before is not None and (added.threshold - before.threshold) * added.direction <= 0:
            raise ValueError(f"tiers.{severity.label}: {added} is not beyond {before} of {tiers[-1].severity.label}")
        tiers.append(Tier(severity, added))
    return tuple(tiers)


def _severity(name: str) -> Severity:
    try:
        return Severity.parse(name)
    except ValueError as error:
        raise ValueError(f"tiers: {error}") from None


def _recovery(raw: Any, comparison: Comparison | None) -> Comparison | None:
    if raw is None:
        return None
    if comparison is None or not comparison.direction:
        raise ValueError("recovery needs an expression that ends in > or < a number")
    recovery = Comparison(comparison.op, _number(raw, "recovery"))
    if (comparison.threshold - recovery.threshold) * comparison.direction < 0:
        raise ValueError(f"recovery: {recovery.threshold:g} is on the bad side of {comparison}")
    return recovery


def _no_data(raw: Any, comparison: Comparison | None) -> NoData:
    if raw is None:
        return NoData.RESOLVE
    try:
        policy = NoData(raw)
    except ValueError:
        raise ValueError(f"no_data: {raw!r} is not one of {', '.join(NoData)}") from None
    if comparison is None and policy is not NoData.RESOLVE:
        raise ValueError("no_data needs an expression that ends in a comparison with a number (else use absent())")
    return policy


def _active(raw: Any) -> ActiveHours | MarketHours | None:
    if raw is None:
        return None
    block = _mapping(raw, "active")
    if "calendar" in block:
        return _market(block)
    _only(block, ("days", "from", "to", "zone"), "active")
    for key in ("from", "to", "zone"):
        if not isinstance(block.get(key), str) or not block[key]:
            raise ValueError(f"active needs {key}")
    days = block.get("days", ["mon-sun"])
    if not isinstance(days, list) or not all(isinstance(day, str) for day in days) or not days:
        raise ValueError("active.days must be a list such as [mon-fri]")
    return ActiveHours(parse_days(days), parse_time(block["from"]), parse_time(block["to"]), parse_zone(block["zone"]))


def _market(block: Mapping[str, Any]) -> MarketHours:
    _only(block, ("calendar", "session", "before_open", "after_close"), "active by a calendar")
    name = block["calendar"]
    if not isinstance(name, str) or not name.strip():
        raise ValueError("active.calendar must name one, such as XNYS")
    if block.get("session", "regular") != "regular":
        raise ValueError(f"active.session: {block['session']!r} is not known; the only one is regular")
    early, late = (_offset_ms(block.get(key), f"active.{key}") for key in ("before_open", "after_close"))
    return MarketHours(name.strip(), early, late)


def _offset_ms(raw: Any, what: str) -> int:
    if raw is None:
        return 0
    if not isinstance(raw, str):
        raise ValueError(f"{what} must be a duration such as 30m")
    try:
        return round(1000 * parse_duration_s(raw))
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _predict(raw: Any, comparison: Comparison | None) -> float | None:
    if raw is None:
        return None
    if comparison is None or not comparison.direction:
        raise ValueError("predict needs an expression that ends in > or < a number")
    block = _mapping(raw, "predict")
    _only(block, ("within",), "predict")
    try:
        within_s = parse_duration_s(str(block.get("within", "")))
    except ValueError as error:
        raise ValueError(f"predict.within: {error}") from None
    if not 60 <= within_s <= 30 * 86_400:
        raise ValueError("predict.within: must be from 1m to 30d")
    return within_s
