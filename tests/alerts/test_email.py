"""The e-mail channel against real SMTP servers."""

import ssl
import subprocess
from pathlib import Path

import pytest
from aiosmtpd.smtp import AuthResult

from alerts.batch import Batch
from alerts.channels.email import EmailChannel
from alerts.errors import ChannelError
from alerts.options import EmailOptions
from alerts.state import Reason
from metrics.clock import SystemClock
from metrics.errors import ConfigError
from tests.alerts.messages import message
from tests.alerts.receivers import MailServer
from tests.ports import free_port


def channel_to(port: int, **keys) -> EmailChannel:
    keys = {"security": "none", "to": ("desk@example.com", "Risk <risk@example.com>"), "timeout_s": 5.0, **keys}
    return EmailChannel(
        EmailOptions(host="127.0.0.1", port=port, sender="Deskvigil <vigil@example.com>", **keys), SystemClock()
    )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl on this machine")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", context


def test_a_mail_has_text_and_html_and_says_what_matters():
    with MailServer() as server:
        channel_to(server.port).send(Batch.of(message()))
        mail = server.mails[0]
    assert mail["Subject"] == "◆ critical firing: Host a is 93 % busy"
    assert mail["From"] == "Deskvigil <vigil@example.com>"
    assert mail["To"] == "desk@example.com, Risk <risk@example.com>"
    text, html = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
    for words in ("930m", "> 0.9", "2023-11-14 22:13:20 UTC", "http://127.0.0.1:8050/alerts?alert=alert", "host"):
        assert words in text
        assert words.replace(">", "&gt;") in html
    assert "#6B2E00" in html
    assert "◆" in html
    assert "All cores &lt;busy&gt; &amp; hot." in html
    assert "All cores <busy> & hot." in text


def test_all_mails_of_an_alert_are_one_conversation_and_a_repeat_is_the_same_mail():
    with MailServer() as server:
        channel = channel_to(server.port)
        for one in (message(1), message(1), message(2, reason=Reason.RESOLVED)):
            channel.send(Batch.of(one))
        first, again, resolved = server.mails
    assert first["Message-ID"] == again["Message-ID"] == "<msg_alert_1@example.com>"
    assert resolved["Message-ID"] != first["Message-ID"]
    assert first["References"] == resolved["References"] == "<alert@example.com>"
    assert "✓ critical resolved" in resolved["Subject"]
    assert "after 1m 0s" in resolved.get_body(("plain",)).get_content()


def test_machines_can_read_the_headers():
    with MailServer() as server:
        channel_to(server.port).send(Batch.of(message()))
        mail = server.mails[0]
    assert mail["X-Deskvigil-Severity"] == "critical"
    assert mail["X-Deskvigil-Reason"] == "first"
    assert mail["X-Deskvigil-Alert-Id"] == "alert"
    assert mail["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize(
    "evil", ["x\r\nBcc: all@example.com", "x\nBcc: y", "x\r\n\r\n<script>", "\u2028Bcc: y", "\x00\x1b[31m"]
)
def test_nothing_in_an_alert_can_add_a_header_or_markup(evil):
    labels = {"alertname": evil, "severity": "critical", "host": evil}
    with MailServer() as server:
        channel_to(server.port).send(
            Batch.of(message(annotations={"summary": evil, "description": evil}, labels=labels))
        )
        mail, envelope = server.mails[0], server.envelopes[0]
    assert mail["Bcc"] is None
    assert envelope.rcpt_tos == ["desk@example.com", "risk@example.com"]
    assert "<script>" not in mail.get_body(("html",)).get_content()


def test_a_server_that_is_down_is_no_permanent_failure():
    with pytest.raises(ChannelError) as caught:
        channel_to(free_port()).send(Batch.of(message()))
    assert not caught.value.permanent


@pytest.mark.parametrize(("answer", "permanent"), [("451 try later", False), ("554 never", True)])
def test_the_servers_word_decides_whether_to_try_again(answer, permanent):
    with MailServer(verdict=lambda envelope: answer) as server, pytest.raises(ChannelError) as caught:
        channel_to(server.port).send(Batch.of(message()))
    assert caught.value.permanent is permanent
    assert answer in str(caught.value)


def test_starttls_with_login_delivers(certificate):
    path, context = certificate

    def authenticator(server, session, envelope, mechanism, data):
        right = (data.login, data.password) == (b"vigil", b"secret")
        return AuthResult(success=right, handled=right)

    keys = {"tls_context": context, "require_starttls": True, "auth_required": True, "authenticator": authenticator}
    with MailServer(**keys) as server:
        options = {"security": "starttls", "ca_file": str(path), "username": "vigil"}
        channel_to(server.port, password="secret", **options).send(Batch.of(message()))
        assert len(server.mails) == 1
        with pytest.raises(ChannelError, match="login refused") as caught:
            channel_to(server.port, password="wrong", **options).send(Batch.of(message()))
        assert not caught.value.permanent


def test_starttls_is_insisted_on():
    with MailServer() as server, pytest.raises(ChannelError, match="STARTTLS"):
        channel_to(server.port, security="starttls").send(Batch.of(message()))


def test_a_certificate_nobody_vouches_for_is_refused(certificate):
    _, context = certificate
    with MailServer(tls_context=context) as server, pytest.raises(ChannelError, match="CERTIFICATE_VERIFY_FAILED"):
        channel_to(server.port, security="starttls").send(Batch.of(message()))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"to": ()}, "to names nobody"),
        ({"to": ("not an address",)}, "is no address"),
        ({"to": ("a@b.c\r\nBcc: x@y.z",)}, "is no address"),
        ({"username": "u"}, "never sent unencrypted"),
        ({"ca_file": "/nowhere.pem"}, "ca_file"),
    ],
)
def test_wrong_settings_fail_at_start_with_their_name(keys, words):
    with pytest.raises(ConfigError, match=words):
        channel_to(25, **keys)
