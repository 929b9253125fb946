"""Letter: what a mail says, as text and as HTML. One alert with all its facts, or several as a table, worst first."""

from __future__ import annotations

import html
from collections.abc import Callable
from datetime import UTC, datetime

from alerts.batch import Batch
from alerts.durations import show_duration
from alerts.message import Message
from alerts.templates import humanize
from metrics.severity import MARKS, NORMAL, Severity

SHAPES = {Severity.INFO: "●", Severity.WARNING: "▲", Severity.CRITICAL: "◆", Severity.EMERGENCY: "■"}
MAX_FACT = 2_000
Link = Callable[[Message], str]  # where it can be acknowledged; "" where it cannot
_BIDI = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C))


def subject(batch: Batch) -> str:
    """What is read first: how bad, what, in which state."""
    latest = batch.latest
    test = "[TEST] " if batch.test else ""
    if len(latest) == 1:
        return f"{test}{_shape(latest[0])} {latest[0].severity.label} {latest[0].word}: {_headline(latest[0])}"
    return f"{test}{_shape(latest[0])} {_counts(latest)}: {_headline(latest[0])} and {len(latest) - 1} more"


def text(batch: Batch, max_rows: int, link: Link) -> str:
    """The plain part; complete, but for alerts beyond `max_rows`, which it counts."""
    latest = batch.latest
    lines = [plain(subject(batch)), ""]
    if len(latest) == 1:
        lines += _body(latest[0], link)
    else:
        for message in latest[:max_rows]:
            lines += [
                f"{_shape(message)} {message.severity.label} {message.word}: {plain(_headline(message))}",
                f"    {_value(message)}, since {_moment(message.active_since_ms)}",
                f"    {plain(message.link)}",
                *([f"    Acknowledge: {at}"] if (at := link(message)) else []),
            ]
        lines += _more(latest, max_rows)
    return "\n".join(lines)


def markup(batch: Batch, max_rows: int, link: Link) -> str:
    """The HTML part."""
    latest = batch.latest
    inner = _card(latest[0], link) if len(latest) == 1 else _table(batch, latest, max_rows, link)
    return (
        '<!doctype html><html lang="en"><head><meta name="viewport" content="width=device-width"></head>'
        '<body style="margin:0;padding:16px;background:#f6f7f9;color:#12181f;font:14px/1.5 system-ui,sans-serif">'
        f'<div style="background:#ffffff;border-left:6px solid {_colour(latest[0])};border-radius:6px;padding:16px;'
        f'max-width:640px">{inner}</div></body></html>\n'
    )


def one_line(raw: str) -> str:
    """Text for a header, without line ends, control or direction marks: nothing in an alert can add a header."""
    return " ".join("".join(character if character.isprintable() else " " for character in raw).split())


def plain(raw: str) -> str:
    """Text of an alert on one line of a mail: bounded, and unable to pose as another line or to turn the script."""
    return one_line(raw[: 2 * MAX_FACT].translate(_BIDI))[:MAX_FACT]


def _body(message: Message, link: Link) -> list[str]:
    lines = []
    for key in ("description", "runbook_url"):
        if said := message.annotations.get(key):
            lines += [plain(said), ""]
    lines += [f"{plain(name) + ':':<12} {plain(said)}" for name, said in _facts(message)]
    if at := link(message):
        lines += ["", f"Acknowledge: {at}"]
    return [*lines, "", f"On the console: {plain(message.link)}", ""]


def _more(latest: tuple[Message, ...], max_rows: int) -> list[str]:
    console = f"On the console: {plain(latest[0].external_url.rstrip('/'))}/alerts"
    left = len(latest) - max_rows
    return ["", *([f"and {left} more alerts.", ""] if left > 0 else []), console, ""]


def _card(message: Message, link: Link) -> str:
    rows = "".join(
        f'<tr><td style="padding:2px 16px 2px 0;color:#586573">{_safe(name)}</td>'
        f'<td style="padding:2px 0;font-variant-numeric:tabular-nums">{_safe(said)}</td></tr>'
        for name, said in _facts(message)
    )
    return (
        f'<div style="font-size:12px;color:#586573"><span style="color:{_colour(message)};font-size:16px">'
        f"{_shape(message)}</span> {_safe(message.severity.label)} {_safe(message.word)}</div>"
        f'<div style="font-size:18px;font-weight:600;margin:4px 0 8px">{_safe(_headline(message))}</div>'
        f'<p style="margin:0 0 12px">{_safe(message.annotations.get("description", ""))}</p>'
        f'<table style="border-collapse:collapse">{rows}</table>'
        f'<p style="margin:16px 0 0"><a href="{_safe(message.link)}" style="color:#2F7BF5">Open on the console</a></p>'
        f"{_button(link(message))}"
    )


def _button(at: str) -> str:
    style = "display:inline-block;padding:10px 20px;background:#1d5fd0;color:#ffffff;border-radius:4px"
    return f'<p style="margin:16px 0 0"><a href="{html.escape(at)}" style="{style}">Acknowledge</a></p>' if at else ""


def _table(batch: Batch, latest: tuple[Message, ...], max_rows: int, link: Link) -> str:
    cell = "padding:6px 12px 6px 0;border-top:1px solid #e3e7eb;vertical-align:top"
    rows = "".join(
        f'<tr><td style="{cell};white-space:nowrap"><span style="color:{_colour(message)}">{_shape(message)}</span> '
        f"{_safe(message.severity.label)}<br>"
        f'<span style="color:#586573;font-size:12px">{_safe(message.word)}</span></td>'
        f'<td style="{cell}"><a href="{_safe(message.link)}" style="color:#12181f">{_safe(_headline(message))}</a><br>'
        f'<span style="color:#586573;font-size:12px">{_safe(_value(message))}, since '
        f"{_moment(message.active_since_ms)}</span>{_short(link(message))}</td></tr>"
        for message in latest[:max_rows]
    )
    left = len(latest) - max_rows
    more = f'<p style="margin:12px 0 0">and {left} more alerts.</p>' if left > 0 else ""
    group = ", ".join(f"{name}={value}" for name, value in batch.group_labels.items())
    console = f"{latest[0].external_url.rstrip('/')}/alerts"
    return (
        f'<div style="font-size:12px;color:#586573">{_safe(group)}</div>'
        f'<div style="font-size:18px;font-weight:600;margin:4px 0 8px">{_safe(_counts(latest))}</div>'
        f'<table style="border-collapse:collapse;width:100%">{rows}</table>{more}'
        f'<p style="margin:16px 0 0"><a href="{_safe(console)}" style="color:#2F7BF5">Open on the console</a></p>'
    )


def _short(at: str) -> str:
    return f'<br><a href="{html.escape(at)}" style="color:#2F7BF5;font-size:12px">Acknowledge</a>' if at else ""


def _safe(raw: str) -> str:
    return html.escape(plain(raw), quote=True)


def _headline(message: Message) -> str:
    return message.annotations.get("summary") or message.name


def _shape(message: Message) -> str:
    return "✓" if message.resolved else SHAPES[message.severity]


def _colour(message: Message) -> str:
    return NORMAL.light if message.resolved else MARKS[message.severity].light


def _counts(latest: tuple[Message, ...]) -> str:
    over = sum(1 for message in latest if message.resolved)
    parts = [f"{len(latest) - over} firing"] if over < len(latest) else []
    return ", ".join([*parts, f"{over} resolved"] if over else parts)


def _value(message: Message) -> str:
    return f"{humanize(message.value)} {message.comparison}".strip()


def _moment(t_ms: int) -> str:
    return f"{datetime.fromtimestamp(t_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _facts(message: Message) -> list[tuple[str, str]]:
    """The lines under the headline: name and text."""
    facts = [("Value" if not message.resolved else "Last value", humanize(message.value))]
    if message.comparison:
        facts.append(("Threshold", message.comparison))
    facts.append(("Since", _moment(message.active_since_ms)))
    if message.resolved_at_ms is not None:
        lasted = show_duration((message.resolved_at_ms - message.fired_at_ms) / 1000)
        facts.append(("Resolved", f"{_moment(message.resolved_at_ms)}, after {lasted}"))
    facts.append(("Rule", message.rule))
    facts += [(name, said) for name, said in sorted(message.labels.items()) if name not in ("alertname", "severity")]
    return facts
