"""Settings of the alerts room; the defaults are the shipped values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le

SeverityName = Literal["info", "warning", "critical", "emergency"]
DEFAULT_RULES = Path(__file__).parent / "rules" / "default.rules.yml"


@dataclass(frozen=True, kw_only=True)
class EmailOptions:
    """One SMTP channel; off while `host` is empty.

    security: "starttls" (upgrade, refused where the server cannot), "tls" (from the first byte) or "none".
    min_severity: quieter alerts are not sent here.
    """

    name: str = "email"
    host: str = ""
    port: Annotated[int, Ge(1), Le(65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str = ""
    password: str = field(default="", repr=False)
    sender: str = "deskvigil@localhost"
    to: tuple[str, ...] = ()
    ca_file: str = ""
    timeout_s: Annotated[float, Ge(0.1), Le(120)] = 15.0
    min_severity: SeverityName = "info"
    send_resolved: bool = True


@dataclass(frozen=True, kw_only=True)
class WebhookOptions:
    """One HTTP receiver; off while `url` is empty.

    secret: standard-webhooks secret ("whsec_" and base64); without one, messages carry no signature.
    headers: extra header lines, each "Name: value" (an API token, for example).
    allow: hosts, addresses or networks (CIDR) that may be reached although they are private; without
    an entry here nothing on loopback, in private networks or at link-local (metadata) addresses is.
    """

    name: str = "webhook"
    url: str = ""
    secret: str = field(default="", repr=False)
    headers: tuple[str, ...] = field(default=(), repr=False)
    allow: tuple[str, ...] = ()
    ca_file: str = ""
    timeout_s: Annotated[float, Ge(0.1), Le(120)] = 10.0
    min_severity: SeverityName = "info"
    send_resolved: bool = True


@dataclass(frozen=True, kw_only=True)
class OutboxOptions:
    """How notifications are delivered.

    Retries wait 1 s, 2 s, 4 s ... up to `retry_max_s`, each shortened at random by up to a fifth, until
    `give_up_after_s`. `max_pending` bounds the rows that wait; what comes on top is recorded as dead.
    """

    retry_first_s: Annotated[float, Ge(0.01), Le(60)] = 1.0
    retry_max_s: Annotated[float, Ge(1), Le(3600)] = 300.0
    give_up_after_s: Annotated[float, Ge(60), Le(2_592_000)] = 259_200.0
    batch: Annotated[int, Ge(1), Le(1000)] = 32
    max_pending: Annotated[int, Ge(1), Le(1_000_000)] = 10_000
    stop_timeout_s: Annotated[float, Ge(0.1), Le(60)] = 5.0


@dataclass(frozen=True, kw_only=True)
class DetectorOptions:
    """What the detectors watch.

    anomaly: PromQL selectors of the series whose unusual samples are told (none: the detector is off); a series takes
    about 140 kB, and more than `anomaly_max_series` are not taken. history_days: how far back a start learns from.
    """

    anomaly: tuple[str, ...] = (
        "deskvigil_kpi_throughput_orders_per_second",
        'deskvigil_kpi_order_to_fill_seconds{quantile="0.99"}',
        "deskvigil_kpi_slippage_bps",
        "deskvigil_kpi_reject_ratio",
        "deskvigil_engine_event_lag_seconds",
        "deskvigil_host_cpu_busy_ratio",
    )
    anomaly_max_series: Annotated[int, Ge(1), Le(20_000)] = 200
    history_days: Annotated[float, Ge(0), Le(30)] = 3.0


@dataclass(frozen=True, kw_only=True)
class SloOptions:
    """One objective: at least `objective` of all events of 30 days are good.

    good, total: PromQL selectors of two counters. errors: in their place, the share of bad events as an expression
    over `$window`.
    """

    name: str
    objective: Annotated[float, Ge(0.5), Le(0.999999)]
    good: str = ""
    total: str = ""
    errors: str = ""
    description: str = ""


DEFAULT_SLOS = (
    SloOptions(
        name="order-to-ack",
        objective=0.999,
        good='deskvigil_engine_order_to_ack_seconds_bucket{le="0.016777216"}',
        total="deskvigil_engine_order_to_ack_seconds_count",
        description="Orders accepted by the book within 17 ms of their intended time.",
    ),
    SloOptions(
        name="rule-evaluation",
        objective=0.999,
        errors="rate(deskvigil_alerts_evaluation_failures_total[$window]) / rate(deskvigil_alerts_evaluations_total[$window])",
        description="Evaluations of alerting rules that succeed.",
    ),
)


@dataclass(frozen=True, kw_only=True)
class AlertOptions:
    """Rules, timing and channels.

    rules: rule files; empty means the shipped ones. slos: objectives; empty means the shipped ones where the rules
    are the shipped ones too, else none. external_url: the console's address in messages.
    interval_s: a group without `interval` is evaluated no more often than this. slow_tick_s: every rule is
    looked at this often even where no frame arrives (absence). repeat_interval_s: a firing alert nobody
    acknowledged is sent again this often (0: never). outage_tolerance_s: `for` clocks go on after an outage
    no longer than this. restore_grace_s: after a start, missing data resolve nothing for this long.
    tier_fall_after_s: a tier falls only after the value stayed below it this long.
    """

    enabled: bool = True
    rules: tuple[Path, ...] = ()
    external_url: str = "http://127.0.0.1:8050"
    interval_s: Annotated[float, Ge(0.01), Le(3600)] = 1.0
    slow_tick_s: Annotated[float, Ge(0.1), Le(300)] = 5.0
    repeat_interval_s: Annotated[float, Ge(0), Le(2_592_000)] = 14_400.0
    outage_tolerance_s: Annotated[float, Ge(0), Le(86_400)] = 600.0
    restore_grace_s: Annotated[float, Ge(0), Le(3600)] = 30.0
    tier_fall_after_s: Annotated[float, Ge(0), Le(3600)] = 30.0
    persist_pending_after_s: Annotated[float, Ge(0), Le(3600)] = 5.0
    max_alerts: Annotated[int, Ge(1), Le(1_000_000)] = 10_000
    outbox: OutboxOptions = field(default_factory=OutboxOptions)
    email: EmailOptions = field(default_factory=EmailOptions)
    webhook: WebhookOptions = field(default_factory=WebhookOptions)
    more_webhooks: tuple[WebhookOptions, ...] = ()
    detectors: DetectorOptions = field(default_factory=DetectorOptions)
    slos: tuple[SloOptions, ...] = ()
