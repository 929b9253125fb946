"""The webhook channel: body, signature, answers, and where it refuses to go."""

import base64
import hashlib
import hmac
import socket
import sys
import threading
import time
from ipaddress import ip_address

import pytest

from alerts.batch import Batch
from alerts.channels.build import build_channels
from alerts.channels.egress import EgressPolicy
from alerts.channels.webhook import WebhookChannel
from alerts.errors import ChannelError
from alerts.options import AlertOptions, AppriseOptions, WebhookOptions
from alerts.state import Reason
from metrics.clock import ManualClock, SystemClock
from metrics.errors import ConfigError
from tests.alerts.messages import message
from tests.alerts.receivers import WebhookReceiver
from tests.ports import free_port

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def channel_to(url: str, clock=None, **keys) -> WebhookChannel:
    keys = {"allow": ("127.0.0.0/8",), "timeout_s": 5.0, **keys}
    return WebhookChannel(WebhookOptions(url=url, **keys), clock or SystemClock())


def test_the_body_is_alertmanagers_version_4():
    with WebhookReceiver() as receiver:
        channel_to(receiver.url).send(Batch.of(message()))
        body = receiver.posts[0].json
    assert (body["version"], body["status"], body["receiver"], body["truncatedAlerts"]) == ("4", "firing", "webhook", 0)
    assert body["externalURL"] == "http://127.0.0.1:8050"
    assert body["groupLabels"] == {"alertname": "Busy"}
    assert (
        body["commonLabels"]
        == body["alerts"][0]["labels"]
        == {"alertname": "Busy", "host": "a", "severity": "critical"}
    )
    alert = body["alerts"][0]
    assert (alert["startsAt"], alert["endsAt"]) == ("2023-11-14T22:14:20.000Z", "0001-01-01T00:00:00Z")
    assert alert["fingerprint"] == "f" * 16
    assert alert["generatorURL"] == "http://127.0.0.1:8050/alerts?alert=alert"
    assert body["deskvigil"]["reason"] == "first"
    assert body["deskvigil"]["value"] == 0.93


def test_a_resolved_alert_says_when_it_ended():
    with WebhookReceiver() as receiver:
        channel_to(receiver.url).send(Batch.of(message(reason=Reason.RESOLVED)))
        body = receiver.posts[0].json
    assert (body["status"], body["alerts"][0]["endsAt"]) == ("resolved", "2023-11-14T22:15:20.000Z")


def test_a_value_that_is_no_number_is_valid_json():
    with WebhookReceiver() as receiver:
        channel_to(receiver.url).send(Batch.of(message(value=float("nan"))))
        assert receiver.posts[0].json["deskvigil"]["value"] is None


def test_the_signature_is_what_standard_webhooks_computes():
    clock = ManualClock(1_700_000_000_000_000_000)
    with WebhookReceiver() as receiver:
        channel_to(receiver.url, clock, secret=SECRET).send(Batch.of(message(7)))
        post = receiver.posts[0]
    assert post.headers["webhook-id"] == "msg_alert_7"
    assert post.headers["webhook-timestamp"] == "1700000000"
    signed = b"msg_alert_7.1700000000." + post.body
    expected = base64.b64encode(hmac.digest(bytes(range(32)), signed, hashlib.sha256)).decode()
    assert post.headers["webhook-signature"] == f"v1,{expected}"


def test_while_secrets_are_exchanged_each_of_them_verifies():
    old = "whsec_" + base64.b64encode(bytes(range(100, 132))).decode()
    with WebhookReceiver() as receiver:
        channel_to(receiver.url, secret=SECRET, old_secrets=(old,)).send(Batch.of(message(7)))
        post = receiver.posts[0]
    signed = f"msg_alert_7.{post.headers['webhook-timestamp']}.".encode() + post.body
    digests = [hmac.digest(bytes(key), signed, hashlib.sha256) for key in (range(32), range(100, 132))]
    assert post.headers["webhook-signature"] == " ".join(
        f"v1,{base64.b64encode(digest).decode()}" for digest in digests
    )


def test_without_a_secret_the_id_is_sent_all_the_same():
    with WebhookReceiver() as receiver:
        channel_to(receiver.url, headers=("Authorization: Bearer x",)).send(Batch.of(message()))
        headers = receiver.posts[0].headers
    assert headers["webhook-id"] == "msg_alert_0"
    assert "webhook-signature" not in headers
    assert headers["authorization"] == "Bearer x"


@pytest.mark.parametrize(
    ("status", "permanent"),
    [(400, True), (401, True), (404, True), (408, False), (425, False), (429, False), (500, False), (503, False)],
)
def test_refusals_are_permanent_where_trying_again_cannot_help(status, permanent):
    with WebhookReceiver(answer=lambda post: status) as receiver, pytest.raises(ChannelError) as caught:
        channel_to(receiver.url).send(Batch.of(message()))
    assert caught.value.permanent is permanent
    assert str(status) in str(caught.value)


def test_a_retry_after_header_is_heeded_as_seconds_and_as_a_date():
    clock = ManualClock(1_700_000_000_000_000_000)
    for text, seconds in (("17", 17.0), ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0), ("soon", None)):
        receiver = WebhookReceiver(answer=lambda post, text=text: (503, {"Retry-After": text}))
        with receiver, pytest.raises(ChannelError) as caught:
            channel_to(receiver.url, clock).send(Batch.of(message()))
        assert caught.value.retry_after_s == seconds


def test_a_redirect_is_not_followed():
    with WebhookReceiver() as other:
        receiver = WebhookReceiver(answer=lambda post: (307, {"Location": other.url}))
        with receiver, pytest.raises(ChannelError, match="redirects are not followed"):
            channel_to(receiver.url).send(Batch.of(message()))
        assert other.posts == []


def test_a_receiver_that_is_down_is_no_permanent_failure():
    with pytest.raises(ChannelError) as caught:
        channel_to(f"http://127.0.0.1:{free_port()}/").send(Batch.of(message()))
    assert not caught.value.permanent


def test_a_receiver_that_never_answers_costs_no_more_than_the_timeout():
    release = threading.Event()
    with WebhookReceiver(answer=lambda post: (release.wait(20), 200)[1]) as receiver:
        began = time.monotonic()
        with pytest.raises(ChannelError, match=r"no answer within 0\.3 s"):
            channel_to(receiver.url, timeout_s=0.3).send(Batch.of(message()))
        assert time.monotonic() - began < 10  # the receiver would hold it for 20 s
        release.set()


def test_a_receiver_that_drips_its_answer_costs_no_more_than_the_timeout():
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not done.wait(0.05):
                try:
                    connection.sendall(b"X-A: b\r\n")
                except OSError:
                    return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    began = time.monotonic()
    with pytest.raises(ChannelError, match="no answer within"):
        channel_to(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout_s=0.5).send(Batch.of(message()))
    assert time.monotonic() - began < 10  # the receiver would go on for ever
    done.set()
    thread.join(5)
    listener.close()


@pytest.mark.parametrize("allow", [(), ("10.0.0.0/8",), ("example.com",)])
def test_loopback_is_refused_unless_allowed(allow):
    with WebhookReceiver() as receiver:
        with pytest.raises(ChannelError, match=r"127\.0\.0\.1, which is not a public address") as caught:
            channel_to(receiver.url, allow=allow).send(Batch.of(message()))
        assert caught.value.permanent
        assert receiver.posts == []


def test_a_name_is_judged_by_the_addresses_it_stands_for():
    with WebhookReceiver() as receiver:
        url = f"http://localhost:{receiver.port}/hook"
        with pytest.raises(ChannelError, match="localhost is"):
            channel_to(url, allow=()).send(Batch.of(message()))
        channel_to(url, allow=("localhost",)).send(Batch.of(message()))
        assert len(receiver.posts) == 1


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.1.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        "2001:db8::1",
        "::127.0.0.1",
    ],
)
def test_private_addresses_in_any_spelling_are_refused(address):
    assert not EgressPolicy(()).permits("host", ip_address(address))


def test_public_addresses_and_listed_networks_are_permitted():
    policy = EgressPolicy(("10.1.0.0/16", "fd00::/8", "Pager.desk"))
    for host, address, permitted in (
        ("x", "8.8.8.8", True),
        ("x", "2606:4700::1", True),
        ("x", "10.1.2.3", True),
        ("x", "::ffff:10.1.2.3", True),
        ("x", "10.2.0.1", False),
        ("x", "fd12::1", True),
        ("pager.DESK.", "192.168.0.9", True),
    ):
        assert policy.permits(host, ip_address(address)) is permitted


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"url": "ftp://x/"}, "url must be"),
        ({"url": "http://user:pw@x/"}, "without a user name"),
        ({"url": "http://x/a b"}, "percent-encoded"),
        ({"url": "http://x/", "secret": "whsec_short"}, "secret"),
        ({"url": "http://x/", "secret": "whsec_" + base64.b64encode(b"short").decode()}, "24 to 64 bytes"),
        ({"url": "http://x/", "headers": ("no colon",)}, "Name: value"),
        ({"url": "http://x/", "headers": ("A: b\r\nC: d",)}, "Name: value"),
        ({"url": "http://x/", "allow": ("10.0.0.0/99",)}, "allow"),
        ({"url": "http://x/", "ca_file": "/nowhere.pem"}, "webhook"),
    ],
)
def test_wrong_settings_fail_at_start_with_their_name(keys, words):
    with pytest.raises(ConfigError, match=words):
        WebhookChannel(WebhookOptions(**keys), SystemClock())


def test_apprise_that_is_not_installed_is_said_at_start(monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigError, match=r"pip install -r requirements-notify\.txt"):
        build_channels(AlertOptions(apprise=AppriseOptions(urls=("json://example.com/",))), SystemClock())
