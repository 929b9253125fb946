"""Settings of the alerts room; the defaults are the shipped values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le

from metrics.severity import Severity

SeverityName = Literal["info", "warning", "critical", "emergency"]
DEFAULT_RULES = Path(__file__).parent / "rules" / "default.rules.yml"


@dataclass(frozen=True, kw_only=True)
class EmailOptions:
    """One SMTP channel; off while `host` is empty.

    security: "starttls" (upgrade, refused where the server cannot), "tls" (from the first byte) or "none".
    min_severity: quieter alerts are not sent here. max_per_minute: mails after the first `burst`; what is more
    waits and goes as one, a tier that rises and an emergency excepted (0: no limit). max_rows: alerts in one
    mail's table; it says how many more there are.
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
    max_per_minute: Annotated[float, Ge(0), Le(60_000)] = 30.0
    burst: Annotated[int, Ge(1), Le(10_000)] = 20
    max_rows: Annotated[int, Ge(1), Le(1000)] = 100


@dataclass(frozen=True, kw_only=True)
class WebhookOptions:
    """One HTTP receiver; off while `url` is empty.

    secret: standard-webhooks secret ("whsec_" and base64); without one, messages carry no signature.
    old_secrets: signed with these too, until every receiver knows the new one.
    headers: extra header lines, each "Name: value" (an API token, for example).
    allow: hosts, addresses or networks (CIDR) that may be reached although they are private; without
    an entry here nothing on loopback, in private networks or at link-local (metadata) addresses is.
    """

    name: str = "webhook"
    url: str = ""
    secret: str = field(default="", repr=False)
    old_secrets: tuple[str, ...] = field(default=(), repr=False)
    headers: tuple[str, ...] = field(default=(), repr=False)
    allow: tuple[str, ...] = ()
    ca_file: str = ""
    timeout_s: Annotated[float, Ge(0.1), Le(120)] = 10.0
    min_severity: SeverityName = "info"
    send_resolved: bool = True
    max_per_minute: Annotated[float, Ge(0), Le(60_000)] = 1200.0
    burst: Annotated[int, Ge(1), Le(10_000)] = 200
    max_alerts: Annotated[int, Ge(0), Le(100_000)] = 0


@dataclass(frozen=True, kw_only=True)
class AppriseOptions:
    """Services that apprise knows, by its URLs (slack://, msteams://, discord://, tgram://, pagerduty:// ...); off while empty.

    Needs requirements-notify.txt. allow: hosts, addresses or networks that may be reached although they are
    private. min_severity, max_per_minute and burst as for a webhook.
    """

    name: str = "apprise"
    urls: tuple[str, ...] = field(default=(), repr=False)
    allow: tuple[str, ...] = ()
    min_severity: SeverityName = "info"
    send_resolved: bool = True
    max_per_minute: Annotated[float, Ge(0), Le(60_000)] = 20.0
    burst: Annotated[int, Ge(1), Le(10_000)] = 10


@dataclass(frozen=True, kw_only=True)
class OutboxOptions:
    """How notifications are delivered.

    Retries wait 1 s, 2 s, 4 s ... up to `retry_max_s`, each shortened at random by up to a fifth, until
    `give_up_after_s`. `max_pending` bounds the rows that wait; what comes on top is recorded as dead.
    `max_batch` bounds the alerts of one message; more follow in further ones. `lease_s` is how long a message
    counts as in flight where the process that sends it is not heard of any more.
    """

    retry_first_s: Annotated[float, Ge(0.01), Le(60)] = 1.0
    retry_max_s: Annotated[float, Ge(1), Le(3600)] = 300.0
    give_up_after_s: Annotated[float, Ge(60), Le(2_592_000)] = 259_200.0
    max_batch: Annotated[int, Ge(1), Le(5000)] = 500
    lease_s: Annotated[float, Ge(1), Le(3600)] = 60.0
    max_pending: Annotated[int, Ge(1), Le(1_000_000)] = 100_000
    stop_timeout_s: Annotated[float, Ge(0.1), Le(60)] = 5.0


@dataclass(frozen=True, kw_only=True)
class AcknowledgeOptions:
    """After how many seconds an acknowledgement lapses, by tier (0: never): what was forgotten is told again."""

    info_s: Annotated[float, Ge(0), Le(2_592_000)] = 0.0
    warning_s: Annotated[float, Ge(0), Le(2_592_000)] = 0.0
    critical_s: Annotated[float, Ge(0), Le(2_592_000)] = 7_200.0
    emergency_s: Annotated[float, Ge(0), Le(2_592_000)] = 1_800.0

    def lapses_ms(self, severity: Severity) -> int:
        """For how long an alert of a tier may stay acknowledged, in milliseconds."""
        return round(1000 * float(getattr(self, f"{severity.label}_s")))


@dataclass(frozen=True, kw_only=True)
class HeartbeatOptions:
    """The dead man's switch: an address outside that is asked every `interval_s`; off while `url` is empty.

    It is asked only while it is proven that rules are evaluated, messages leave and escalations run; whoever
    watches there alerts when it stays away. outbox_limit_s: a message that is due may wait this long.
    allow, ca_file: as of a webhook.
    """

    url: str = field(default="", repr=False)
    interval_s: Annotated[float, Ge(1), Le(86_400)] = 60.0
    timeout_s: Annotated[float, Ge(0.1), Le(120)] = 10.0
    outbox_limit_s: Annotated[float, Ge(10), Le(86_400)] = 300.0
    allow: tuple[str, ...] = ()
    ca_file: str = ""


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

    rules: rule files; empty means the shipped ones. policy: a policy file (who is told, docs/ALERTS.md); without
    one every channel is told of everything from its min_severity on. slos: objectives; empty means the shipped ones
    where the rules are the shipped ones too, else none. external_url: the console's address in messages.
    interval_s: a group without `interval` is evaluated no more often than this. slow_tick_s: every rule is
    looked at this often even where no frame arrives (absence). repeat_interval_s: a firing alert nobody
    acknowledged is sent again this often (0: never; a policy file's routes may say otherwise). outage_tolerance_s: `for` clocks go on after an outage
    no longer than this. restore_grace_s: after a start, missing data resolve nothing for this long.
    tier_fall_after_s: a tier falls only after the value stayed below it this long. digest_interval_s: what is
    meant for a digest gathers this long. flapping_changes: an alert that fired or resolved more often than this
    within `flapping_window_s` is told once as coming and going (0: never).
    """

    enabled: bool = True
    rules: tuple[Path, ...] = ()
    policy: Path | None = None
    external_url: str = "http://127.0.0.1:8050"
    interval_s: Annotated[float, Ge(0.01), Le(3600)] = 1.0
    slow_tick_s: Annotated[float, Ge(0.1), Le(300)] = 5.0
    repeat_interval_s: Annotated[float, Ge(0), Le(2_592_000)] = 14_400.0
    outage_tolerance_s: Annotated[float, Ge(0), Le(86_400)] = 600.0
    restore_grace_s: Annotated[float, Ge(0), Le(3600)] = 30.0
    tier_fall_after_s: Annotated[float, Ge(0), Le(3600)] = 30.0
    digest_interval_s: Annotated[float, Ge(1), Le(604_800)] = 900.0
    persist_pending_after_s: Annotated[float, Ge(0), Le(3600)] = 5.0
    flapping_changes: Annotated[int, Ge(0), Le(1000)] = 5
    flapping_window_s: Annotated[float, Ge(1), Le(86_400)] = 600.0
    max_alerts: Annotated[int, Ge(1), Le(1_000_000)] = 10_000
    acknowledge: AcknowledgeOptions = field(default_factory=AcknowledgeOptions)
    heartbeat: HeartbeatOptions = field(default_factory=HeartbeatOptions)
    outbox: OutboxOptions = field(default_factory=OutboxOptions)
    email: EmailOptions = field(default_factory=EmailOptions)
    webhook: WebhookOptions = field(default_factory=WebhookOptions)
    more_webhooks: tuple[WebhookOptions, ...] = ()
    apprise: AppriseOptions = field(default_factory=AppriseOptions)
    detectors: DetectorOptions = field(default_factory=DetectorOptions)
    slos: tuple[SloOptions, ...] = ()
