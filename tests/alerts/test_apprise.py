"""The apprise channel by a URL of its own to a real receiver."""

import pytest

from alerts.batch import Batch
from alerts.errors import ChannelError
from alerts.options import AlertOptions, AppriseOptions
from metrics.errors import ConfigError
from tests.alerts.messages import message
from tests.alerts.receivers import WebhookReceiver

pytest.importorskip("apprise", reason="requirements-notify.txt is not installed")
from alerts.channels.apprise import AppriseChannel


def test_a_message_goes_by_apprise_to_each_url_once_though_another_fails():
    answers = [200]
    with WebhookReceiver() as good, WebhookReceiver(answer=lambda post: answers[0]) as bad:
        answers[0] = 500
        urls = (f"json://127.0.0.1:{good.port}/", f"json://127.0.0.1:{bad.port}/")
        channel = AppriseChannel(AppriseOptions(urls=urls, allow=("127.0.0.1",)))
        batch = Batch.of(message(1))
        with pytest.raises(ChannelError, match=r"not taken by urls\[1\] \(JSON\)") as caught:
            channel.send(batch)
        assert not caught.value.permanent
        answers[0] = 200
        channel.send(batch)
        assert (len(good.posts), len(bad.posts)) == (1, 1)
        said = good.posts[0].json
    assert said["title"] == "◆ critical firing: Host a is 93 % busy"
    assert said["type"] == "failure"
    assert "http://127.0.0.1:8050/alerts?alert=alert" in said["message"]


def test_a_private_host_is_refused_before_anything_is_sent():
    with WebhookReceiver() as receiver:
        channel = AppriseChannel(AppriseOptions(urls=(f"json://localhost:{receiver.port}/",)))
        with pytest.raises(ChannelError, match="not a public address") as caught:
            channel.send(Batch.of(message()))
        assert caught.value.permanent
        assert receiver.posts == []


@pytest.mark.parametrize("url", ["nonsense", "nothing://secret-token/x", "slack://secret-token"])
def test_a_url_that_is_none_is_named_without_its_secret(url):
    with pytest.raises(ConfigError, match=r"urls\[0\]") as caught:
        AppriseChannel(AppriseOptions(urls=(url,)))
    assert "secret-token" not in str(caught.value)


def test_urls_are_not_shown():
    assert "token" not in repr(AlertOptions(apprise=AppriseOptions(urls=("json://token@host/",))))
