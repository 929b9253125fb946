"""Acknowledge links: made for a mail, shown by GET, acted on by POST, and refused in words."""

import re
import stat
import threading
from contextlib import contextmanager

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI

from alerts.acklinks import VALID_S, AckLinks, load_key
from alerts.channels.email import EmailChannel
from alerts.errors import LinkError
from alerts.options import EmailOptions
from dashboard.api.acknowledge import acknowledge_router
from dashboard.options import WebOptions
from dashboard.security import HostPolicy, SecurityMiddleware
from metrics.clock import ManualClock
from metrics.errors import ConfigError
from tests.alerts.desk import Desk, rules_file
from tests.alerts.receivers import MailServer, wait_until
from tests.ports import free_port

KEY = bytes(range(32))
RULE = '- alert: High\n  expr: x > 1\n  annotations: {summary: "<b>x</b> is high"}\n'


@contextmanager
def site(links, alerts):
    app, port = FastAPI(), free_port()
    app.include_router(acknowledge_router(links, alerts))
    app.add_middleware(SecurityMiddleware, policy=HostPolicy(WebOptions()), csp="default-src 'none'")
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


def test_a_mail_leads_to_a_page_that_only_a_post_acts_on(tmp_path):
    links, port = AckLinks(KEY, "http://desk.example", ManualClock()), free_port()
    options = EmailOptions(host="127.0.0.1", port=port, security="none", to=("desk@example.com",))
    with (
        MailServer(port) as mails,
        Desk(tmp_path, rules_file(tmp_path, RULE), [EmailChannel(options, ManualClock(), links)]) as desk,
    ):
        desk.frame("a", {"x": 2.0})
        wait_until(lambda: len(mails.mails) == 1)
        text, html = (mails.mails[0].get_body((kind,)).get_content() for kind in ("plain", "html"))
        (url,) = re.findall(r"Acknowledge: (\S+)", text)
        assert url in html
        token = url.removeprefix("http://desk.example/acknowledge/")
        with site(links, desk.service) as base, httpx2.Client(base_url=base) as client:
            path, own = f"/acknowledge/{token}", {"origin": base}
            for _ in range(2):
                shown = client.get(path)
                assert (shown.status_code, "Acknowledge this alert?" in shown.text) == (200, True)
                assert "&lt;b&gt;x&lt;/b&gt; is high" in shown.text
            assert client.head(path).status_code == 405
            assert desk.service.active()[0].acked_by is None  # looking changes nothing
            form = {"name": "Ann <i>", "comment": "on it"}
            assert client.post(path, data=form).status_code == 403
            assert client.post(path, data=form, headers={"origin": "http://evil.example"}).status_code == 403
            assert client.post(path, data={"name": " "}, headers=own).status_code == 400
            assert client.post(path, content=b"a" * 9000, headers=own).status_code == 400
            assert desk.service.active()[0].acked_by is None
            done = client.post(path, data=form, headers=own)
            assert (done.status_code, "Acknowledged by Ann &lt;i&gt;." in done.text) == (200, True)
            (view,) = desk.service.active()
            assert (view.acked_by, view.ack_comment) == ("Ann <i>", "on it")
            again = client.post(path, data=form, headers=own)
            assert (again.status_code, "Already acknowledged" in again.text) == (409, True)
            assert "Already acknowledged" in client.get(path).text
            desk.frame("a", {"x": 0.0})
            wait_until(lambda: not desk.service.active())
            assert "This alert is over" in client.get(path).text
            assert client.post(path, data=form, headers=own).status_code == 409
            assert "not made by this console" in client.get(f"/acknowledge/{token[:-4]}AAAA").text
            assert "not whole" in client.get("/acknowledge/nothing").text
        wait_until(lambda: len(mails.mails) == 2)
        assert "Acknowledge" not in mails.mails[1].get_body(("plain",)).get_content()  # what is over


def test_a_link_is_bound_to_its_alert_its_console_and_its_week():
    clock = ManualClock()
    links = AckLinks(KEY, "http://desk.example/", clock)
    token = links.url("a1").rpartition("/")[2]
    assert links.read(token) == "a1"
    other = links.url("a2").rpartition("/")[2]
    forged = other.partition(".")[0] + "." + token.partition(".")[2]
    for wrong in (forged, token[:-2], "", ".", "é.é", "a" * 1000, token + "x"):
        with pytest.raises(LinkError):
            links.read(wrong)
    with pytest.raises(LinkError, match="not made by this console"):
        AckLinks(bytes(32), "http://desk.example", clock).read(token)
    clock.advance(VALID_S * 1_000_000_000)
    assert links.read(token) == "a1"
    clock.advance(2_000_000_000)
    with pytest.raises(LinkError, match="expired"):
        links.read(token)


def test_the_key_is_made_once_for_its_owner_only(tmp_path):
    path = tmp_path / "acknowledge.key"
    key = load_key(path)
    assert len(key) == 32
    assert load_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="read by others"):
        load_key(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(ConfigError, match="damaged"):
        load_key(path)
    with pytest.raises(ConfigError, match="No such file"):
        load_key(tmp_path / "nowhere" / "key")
