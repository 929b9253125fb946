"""Hostile receivers' URLs are not reached, and hostile label values do nothing wherever they are shown."""

import ipaddress
import json
import logging
import socket
import threading

import pytest

from alerts.batch import Batch
from alerts.channels.egress import EgressPolicy
from alerts.channels.email import EmailChannel
from alerts.channels.webhook import WebhookChannel
from alerts.courier import Courier
from alerts.errors import ChannelError
from alerts.options import EmailOptions, OutboxOptions, WebhookOptions
from metrics.clock import ManualClock, SystemClock
from metrics.severity import Severity
from tests.alerts.messages import message
from tests.alerts.receivers import MailServer, WebhookReceiver
from tests.alerts.test_grouping import put

HOSTILE_HOSTS = {
    "its name": "localhost",
    "short": "127.1",
    "hexadecimal": "0x7f000001",
    "decimal": "2130706433",
    "octal": "017700000001",
    "unspecified": "0.0.0.0",
    "private": "10.1.2.3",
    "link-local, metadata": "169.254.169.254",
    "IPv6 metadata": "[fd00:ec2::254]",
    "IPv6 loopback": "[::1]",
    "IPv6 link-local": "[fe80::1]",
    "IPv4-mapped": "[::ffff:127.0.0.1]",
    "IPv4-compatible": "[::127.0.0.1]",
    "NAT64": "[64:ff9b::7f00:1]",
    "NAT64 of one's own": "[64:ff9b:1::7f00:1]",
    "6to4": "[2002:7f00:1::]",
    "Teredo": "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "multicast": "224.0.0.1",
    "broadcast": "255.255.255.255",
    "carrier's NAT": "100.64.0.1",
}


def channel_to(url: str, **keys) -> WebhookChannel:
    return WebhookChannel(WebhookOptions(url=url, timeout_s=5.0, **keys), SystemClock())


@pytest.mark.parametrize("host", HOSTILE_HOSTS.values(), ids=HOSTILE_HOSTS.keys())
def test_a_hostile_url_is_refused_before_anything_is_sent(host):
    with WebhookReceiver() as receiver:
        with pytest.raises(ChannelError) as caught:
            channel_to(f"http://{host}:{receiver.port}/").send(Batch.of(message()))
        assert receiver.posts == []
    refused = "not a public address" in str(caught.value)
    assert refused or "cannot be resolved" in str(caught.value)
    assert caught.value.permanent is refused


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_hostile_url_is_not_followed(status):
    with WebhookReceiver() as inner:
        answer = (status, {"Location": inner.url})
        with WebhookReceiver(answer=lambda post: answer) as outer, pytest.raises(ChannelError, match="not followed"):
            channel_to(outer.url, allow=("127.0.0.1",)).send(Batch.of(message()))
        assert inner.posts == []


def test_a_name_that_changes_its_mind_reaches_only_the_address_that_was_judged(monkeypatch):
    """DNS rebinding: public when it is judged, loopback when it would be asked again."""
    asked, reached = [], []

    def resolve(host, port, *arguments, **keys):
        asked.append(host)
        address = "8.8.8.8" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    channel = channel_to("http://rebinding.example/")

    def connect(host, *arguments):
        reached.append(host)
        raise OSError("no way out of this test")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(channel._backend._inner, "connect_tcp", connect)
    with pytest.raises(ChannelError, match="no way out"):
        channel.send(Batch.of(message()))
    assert reached == ["8.8.8.8"]
    with pytest.raises(ChannelError, match=r"127\.0\.0\.1, which is not a public"):
        channel.send(Batch.of(message()))
    assert reached == ["8.8.8.8"]


def test_a_name_with_one_private_address_among_public_ones_is_refused(monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 80)) for one in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **keys: found)
    with pytest.raises(ChannelError, match=r"10\.0\.0\.1, which is not a public"):
        channel_to("http://both.example/").send(Batch.of(message()))


def test_a_proxy_in_the_environment_is_not_used(monkeypatch):
    with WebhookReceiver() as proxy, WebhookReceiver() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        channel_to(receiver.url, allow=("127.0.0.0/8",)).send(Batch.of(message()))
        assert len(receiver.posts) == 1
        assert proxy.posts == []


def test_what_an_ipv6_address_carries_is_judged_by_the_allow_list_too():
    policy = EgressPolicy(("10.0.0.0/8",))
    for carried in ("::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "::10.0.0.1"):
        assert policy.permits("x", ipaddress.ip_address(carried))
    for carried in ("::ffff:192.168.0.1", "64:ff9b::c0a8:1", "::", "::1"):
        assert not policy.permits("x", ipaddress.ip_address(carried))


EVIL = {
    "line ends": "x\r\nBcc: all@example.com\r\n\r\nbody",
    "markup": "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "a quote": '" onmouseover="alert(1)',
    "direction marks": "abc\u202eexe.fdp\u2066\u200f",
    "NUL and escapes": "a\x00b\x1b[31mred\x07",
    "a million": "A" * 1_000_000,
    "a template": "{{ $value }} {{.Labels}} ${jndi:ldap://x} %s {0} {0.__class__}",
    "separators": "a\u2028b\u2029c\x85d",
    "half a pair": "a\ud800b",
}


def evil_message(evil: str, number: int = 0, alert: str = "alert"):
    labels = {"alertname": evil, "severity": "critical", "host": evil, "run<b>": evil}
    return message(number, alert=alert, annotations={"summary": evil, "description": evil}, labels=labels)


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "in a table"])
@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL.keys())
def test_hostile_labels_do_nothing_in_a_mail(evil, alone):
    batch = Batch.of(evil_message(evil))
    if not alone:
        batch = Batch("b", (evil_message(evil), evil_message(evil, 1, "other")), "g", {"host": evil})
    with MailServer(data_size_limit=50_000_000) as server:
        options = EmailOptions(host="127.0.0.1", port=server.port, security="none", to=("desk@example.com",))
        EmailChannel(options, SystemClock()).send(batch)
        mail, envelope = server.mails[0], server.envelopes[0]
    assert envelope.rcpt_tos == ["desk@example.com"]
    assert mail["Bcc"] is None
    assert len(envelope.content) < 200_000
    text, html = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
    for part in (mail["Subject"], text, html):
        assert not set(part) & set("\x00\x1b\x07\u202e\u2066\u2028\u2029\x85")
    assert "\nBcc:" not in text
    assert "<script" not in html
    assert "<img" not in html
    assert 'onmouseover="' not in html
    if "{{" in evil:
        assert "{{ $value }}" in text  # as it is: nothing evaluates it


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL.keys())
def test_hostile_labels_arrive_in_a_webhook_as_they_are_and_as_nothing_but_values(evil):
    with WebhookReceiver() as receiver:
        channel_to(receiver.url, allow=("127.0.0.1",)).send(Batch.of(evil_message(evil)))
        (post,) = receiver.posts
    assert json.loads(post.body)["alerts"][0]["labels"]["host"] == evil
    assert set(post.headers) == {"host", "content-type", "user-agent", "webhook-id", "content-length"}


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL.keys())
def test_neither_labels_nor_a_receivers_answer_can_write_lines_of_a_log(database, evil, caplog):
    words = "no\r\nERROR root: everything is fine\x1b[2J"

    class Angry:
        recipient = channel_to("http://receiver.example/").recipient

        def send(self, batch: Batch) -> None:
            raise RuntimeError(words)

        def close(self) -> None: ...

    clock = ManualClock()
    put(database, clock, evil_message(evil), channel="webhook")
    with caplog.at_level(logging.DEBUG):
        courier = Courier(database, Angry(), OutboxOptions(), clock, lambda: None, 900.0)
        courier.deliver()
    assert courier.stats.failed == 1
    assert all("\n" not in record.getMessage() and "\x1b" not in record.getMessage() for record in caplog.records)
    assert "\n" not in courier.stats.last_error


def test_a_receivers_answer_is_kept_as_one_plain_line():
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 20\r\n\r\n\x1b[31mred\x00\rline two\n\n")

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    with pytest.raises(ChannelError) as caught:
        channel_to(f"http://127.0.0.1:{listener.getsockname()[1]}/", allow=("127.0.0.1",)).send(Batch.of(message()))
    assert str(caught.value) == "answered 500: [31mred"
    thread.join(5)
    listener.close()


def test_an_emergency_is_read_first():
    mild, bad = message(1, alert="a"), message(2, alert="b", severity=Severity.EMERGENCY)
    assert Batch("b", (mild, bad)).latest == (bad, mild)
