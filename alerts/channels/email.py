"""E-mail: multipart text and HTML by SMTP, severity told by word, shape and colour."""

from __future__ import annotations

import contextlib
import hashlib
import smtplib
import ssl
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from alerts.acklinks import AckLinks
from alerts.batch import Batch
from alerts.channels import letter
from alerts.errors import ChannelError
from alerts.ledger import Recipient
from alerts.message import Message
from alerts.options import EmailOptions
from alerts.state import Reason
from metrics.clock import Clock
from metrics.errors import ConfigError

MAX_SUBJECT = 200


class EmailChannel:
    """One SMTP server and a list of receivers. A new connection for each message.

    links: where given, what fires can be acknowledged from the mail. ConfigError where addresses or the certificate file are unusable.
    """

    def __init__(self, options: EmailOptions, clock: Clock, links: AckLinks | None = None) -> None:
        self._options = options
        self._clock = clock
        self._links = links
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
        options = self._options
        return Recipient(
            options.name, options.min_severity, options.send_resolved, options.max_per_minute, options.burst
        )

    def send(self, batch: Batch) -> None:
        """Hand the mail to the server; ChannelError where it was not taken."""
        mail, to = self.compose(batch)
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
        if len(refused) == len(to):
            raise ChannelError("the server refused every receiver", permanent=True)

    def close(self) -> None:
        """Nothing is kept open between messages."""

    def compose(self, batch: Batch) -> tuple[EmailMessage, list[Address]]:
        """The mail and whom it is for: the same batch always gives the same Message-ID, so that clients show it once.

        ChannelError where the batch names an address that is none.
        """
        to = self._to
        if batch.target is not None and batch.target.to:
            try:
                to = [_address(self._options, f"address of {batch.target.person}", text) for text in batch.target.to]
            except ConfigError as error:
                raise ChannelError(str(error), permanent=True) from None
        domain = self._sender.domain or "deskvigil"
        worst = batch.latest[0]
        mail = EmailMessage(policy=SMTP)
        mail["From"] = self._sender
        mail["To"] = to
        mail["Subject"] = letter.one_line(letter.subject(batch))[:MAX_SUBJECT]
        mail["Date"] = format_datetime(datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC))
        mail["Message-ID"] = f"<{batch.batch_id}@{domain}>"
        alone = len(batch.latest) == 1 and not batch.group_key
        # All mails of one alert, or of one group, in one conversation.
        thread = (
            worst.alert_id if alone else hashlib.sha256(batch.group_key.encode("utf-8", "replace")).hexdigest()[:32]
        )
        mail["References"] = mail["In-Reply-To"] = f"<{thread}@{domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Deskvigil-Alert-Id"] = worst.alert_id
        mail["X-Deskvigil-Fingerprint"] = worst.fingerprint
        mail["X-Deskvigil-Severity"] = batch.severity.label
        mail["X-Deskvigil-Reason"] = worst.reason.value
        mail["X-Deskvigil-Alerts"] = str(len(batch.latest))
        mail.set_content(letter.text(batch, self._options.max_rows, self._link))
        mail.add_alternative(letter.markup(batch, self._options.max_rows, self._link), subtype="html")
        return mail, to

    def _link(self, message: Message) -> str:
        """Where the alert can be acknowledged; "" where it cannot."""
        if self._links is None or message.resolved or message.reason is Reason.TEST:
            return ""
        return self._links.url(message.alert_id)

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


def _address(options: EmailOptions, key: str, text: str) -> Address:
    name, bracket, rest = text.rpartition("<")
    spec = rest.rstrip("> ") if bracket else text
    try:
        return Address(display_name=name.strip(' "'), addr_spec=spec.strip())
    except (ValueError, IndexError) as error:
        raise ConfigError(f"alerts email {options.name!r}: {key}: {text!r} is no address: {error}") from None


def _answer(error: smtplib.SMTPResponseException) -> str:
    return f"{error.smtp_code} {_plain(error.smtp_error)}"


def _plain(raw: bytes | str) -> str:
    return letter.one_line(raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw)[:200]
