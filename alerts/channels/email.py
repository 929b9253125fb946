"""E-mail: multipart text and HTML by SMTP, severity told by word, shape and colour."""

from __future__ import annotations

import contextlib
import html
import smtplib
import ssl
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from alerts.durations import show_duration
from alerts.errors import ChannelError
from alerts.ledger import Recipient
from alerts.message import Message
from alerts.options import EmailOptions
from alerts.templates import humanize
from metrics.clock import Clock
from metrics.errors import ConfigError
from metrics.severity import MARKS, NORMAL, Severity

SHAPES = {Severity.INFO: "●", Severity.WARNING: "▲", Severity.CRITICAL: "◆", Severity.EMERGENCY: "■"}
MAX_SUBJECT = 200


class EmailChannel:
    """One SMTP server and a list of receivers. A new connection for each message.

    ConfigError where addresses or the certificate file are unusable.
    """

    def __init__(self, options: EmailOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        if not options.to:
            raise ConfigError(f"alerts email {options.name!r}: to names nobody")
        if options.username and options.security == "none":
            raise ConfigError(f"alerts email {options.name!r}: a password is never sent unencrypted (security: none)")
        self._sender = _address(options, "sender", options.sender)
        self._to = [_address(options, "to", text) for text in options.to]
        try:
            self._tls = ssl.create_default_context(cafile=options.ca_file or None)
        except OSError as error:
            raise ConfigError(f"alerts email {options.name!r}: ca_file: {error}") from None

    @property
    def recipient(self) -> Recipient:
        return Recipient(self._options.name, self._options.min_severity, self._options.send_resolved)

    def send(self, message: Message) -> None:
        """Hand the mail to the server; ChannelError where it was not taken."""
        mail = self.compose(message)
        try:
            server = self._connect()
            try:
                refused = server.send_message(mail)
                _leave(server)
            finally:
                server.close()
        except smtplib.SMTPAuthenticationError as error:
            # A wrong password is put right by people, and then the mail should go out: it is tried again.
            raise ChannelError(f"login refused: {_answer(error)}") from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            text = "; ".join(f"{to}: {code} {_plain(why)}" for to, (code, why) in error.recipients.items())
            raise ChannelError(f"receivers refused: {text}", permanent=all(code >= 500 for code in codes)) from None
        except smtplib.SMTPResponseException as error:
            raise ChannelError(f"refused: {_answer(error)}", permanent=error.smtp_code >= 500) from None
        except (smtplib.SMTPException, OSError) as error:
            raise ChannelError(f"{type(error).__name__}: {error}") from None
        if len(refused) == len(self._to):
            raise ChannelError("the server refused every receiver", permanent=True)

    def close(self) -> None:
        """Nothing is kept open between messages."""

    def compose(self, message: Message) -> EmailMessage:
        """The mail: the same message always gives the same Message-ID, so that clients show repeats once."""
        mail = EmailMessage(policy=SMTP)
        mail["From"] = self._sender
        mail["To"] = self._to
        mail["Subject"] = _one_line(subject(message))[:MAX_SUBJECT]
        mail["Date"] = format_datetime(datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC))
        mail["Message-ID"] = f"<{message.message_id}@{self._sender.domain or 'deskvigil'}>"
        thread = f"<{message.alert_id}@{self._sender.domain or 'deskvigil'}>"
        mail["References"] = thread  # all mails of one alert in one conversation
        mail["In-Reply-To"] = thread
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Deskvigil-Alert-Id"] = message.alert_id
        mail["X-Deskvigil-Fingerprint"] = message.fingerprint
        mail["X-Deskvigil-Severity"] = message.severity.label
        mail["X-Deskvigil-Reason"] = message.reason.value
        mail.set_content(_text(message))
        mail.add_alternative(_html(message), subtype="html")
        return mail

    def _connect(self) -> smtplib.SMTP:
        options = self._options
        server: smtplib.SMTP
        if options.security == "tls":
            server = smtplib.SMTP_SSL(options.host, options.port, timeout=options.timeout_s, context=self._tls)
        else:
            server = smtplib.SMTP(options.host, options.port, timeout=options.timeout_s)
        try:
            if options.security == "starttls":
                server.starttls(context=self._tls)
            if options.username:
                server.login(options.username, options.password)
        except BaseException:
            server.close()
            raise
        return server


def _leave(server: smtplib.SMTP) -> None:
    """Say QUIT; the mail has been taken, so nothing that goes wrong here may send it twice."""
    with contextlib.suppress(smtplib.SMTPException, OSError):
        server.quit()


def subject(message: Message) -> str:
    """What is read first: how bad, what, in which state."""
    shape = "✓" if message.resolved else SHAPES[message.severity]
    headline = message.annotations.get("summary") or message.name
    return f"{shape} {message.severity.label} {message.word}: {headline}"


def _address(options: EmailOptions, key: str, text: str) -> Address:
    name, bracket, rest = text.rpartition("<")
    spec = rest.rstrip("> ") if bracket else text
    try:
        return Address(display_name=name.strip(' "'), addr_spec=spec.strip())
    except (ValueError, IndexError) as error:
        raise ConfigError(f"alerts email {options.name!r}: {key}: {text!r} is no address: {error}") from None


def _one_line(text: str) -> str:
    """Header text without line ends or control characters: nothing in an alert can add a header."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _answer(error: smtplib.SMTPResponseException) -> str:
    return f"{error.smtp_code} {_plain(error.smtp_error)}"


def _plain(raw: bytes | str) -> str:
    return _one_line(raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw)[:200]


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
    facts += [(name, text) for name, text in sorted(message.labels.items()) if name not in ("alertname", "severity")]
    return facts


def _text(message: Message) -> str:
    lines = [subject(message), ""]
    for key in ("description", "runbook_url"):
        if text := message.annotations.get(key):
            lines += [text, ""]
    lines += [f"{name + ':':<12} {text}" for name, text in _facts(message)]
    lines += ["", f"On the console: {message.link}", ""]
    return "\n".join(lines)


def _html(message: Message) -> str:
    colour = NORMAL.light if message.resolved else MARKS[message.severity].light
    shape = "✓" if message.resolved else SHAPES[message.severity]
    rows = "".join(
        f'<tr><td style="padding:2px 16px 2px 0;color:#586573">{html.escape(name)}</td>'
        f'<td style="padding:2px 0;font-variant-numeric:tabular-nums">{html.escape(text)}</td></tr>'
        for name, text in _facts(message)
    )
    headline = html.escape(message.annotations.get("summary") or message.name)
    description = html.escape(message.annotations.get("description", ""))
    return (
        '<!doctype html><html lang="en"><body style="margin:0;padding:16px;background:#f6f7f9;color:#12181f;'
        'font:14px/1.5 system-ui,sans-serif">'
        f'<div style="background:#ffffff;border-left:6px solid {colour};border-radius:6px;padding:16px;max-width:640px">'
        f'<div style="font-size:12px;color:#586573"><span style="color:{colour};font-size:16px">{shape}</span> '
        f"{html.escape(message.severity.label)} {html.escape(message.word)}</div>"
        f'<div style="font-size:18px;font-weight:600;margin:4px 0 8px">{headline}</div>'
        f'<p style="margin:0 0 12px">{description}</p><table style="border-collapse:collapse">{rows}</table>'
        f'<p style="margin:16px 0 0"><a href="{html.escape(message.link, quote=True)}" style="color:#2F7BF5">'
        "Open on the console</a></p></div></body></html>\n"
    )
