from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dashboard.options import WebOptions
from dashboard.pages import PAGES
from dashboard.security import HostPolicy, hostname_of
from dashboard.server import build_server
from tests.dashboard.demo_services import Desk, serving

ACTION = {"content-type": "application/json", "x-deskvigil-action": "1"}


@pytest.mark.parametrize(
    "host", ["localhost:8050", "127.0.0.1:8050", "[::1]:8050", "192.168.7.3", "desk.example", "Desk.Example:443"]
)
def test_known_names_and_plain_addresses_are_welcome(host: str) -> None:
    assert HostPolicy(WebOptions(allowed_hosts=("desk.example",))).host_allowed(host)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "", "localhost.evil.example", "127.0.0.1.evil.example", "[::1", "desk.example@evil.example"],
)
def test_other_names_are_not(host: str) -> None:
    assert not HostPolicy(WebOptions(allowed_hosts=("desk.example",))).host_allowed(host)


def test_the_outside_address_is_a_known_host_and_origin() -> None:
    policy = HostPolicy(WebOptions(external_url="https://desk.example/"))
    assert policy.host_allowed("desk.example")
    assert policy.origin_allowed("https://desk.example", "127.0.0.1:8050")
    assert not policy.origin_allowed("http://desk.example", "127.0.0.1:8050")


def test_an_origin_must_be_the_host_that_is_asked() -> None:
    policy = HostPolicy(WebOptions())
    assert policy.origin_allowed("http://127.0.0.1:8050", "127.0.0.1:8050")
    for origin in ("http://127.0.0.1:9000", "null", "", "file://127.0.0.1:8050", "http://evil.example"):
        assert not policy.origin_allowed(origin, "127.0.0.1:8050")


def test_a_host_header_is_read_without_port_and_case() -> None:
    assert hostname_of("Desk.Example:80") == "desk.example"
    assert hostname_of("[::1]:80") == "::1"


def test_a_foreign_host_is_refused_on_every_path(url: str) -> None:
    for path in ("/", "/api/desk/history.csv", "/_dash-layout", "/assets/desk.css"):
        answer = httpx2.get(url + path, headers={"host": "evil.example"})
        assert answer.status_code == 400
        assert "allowed_hosts" in answer.json()["error"]


def test_a_foreign_page_can_post_nothing(desk: Desk, url: str) -> None:
    for path in ("/api/desk/halt", "/_dash-update-component", "/api/v1/write"):
        answer = httpx2.post(url + path, headers={**ACTION, "origin": "http://evil.example"}, content="{}")
        assert answer.status_code == 403
    assert desk.script.orders == []


@pytest.mark.parametrize("without", ["content-type", "x-deskvigil-action", "origin"])
def test_an_order_needs_json_its_header_and_an_origin(desk: Desk, url: str, without: str) -> None:
    headers = {**ACTION, "origin": url}
    headers[without] = "text/plain" if without == "content-type" else ""
    if without != "content-type":
        del headers[without]
    assert httpx2.post(f"{url}/api/desk/halt", headers=headers, content="{}").status_code == 403
    assert desk.script.orders == []


def test_an_order_from_our_own_page_is_carried_out_with_its_reason(desk: Desk, url: str) -> None:
    answer = httpx2.post(f"{url}/api/desk/halt", headers={**ACTION, "origin": url}, json={"reason": "drill"})
    assert answer.status_code == 200
    assert answer.json()["message"].startswith("trading is HALTED")
    assert desk.script.orders == [("operator at 127.0.0.1", "drill")]
    scoped = {"reason": "drill", "scope": "strategy:maker"}
    answer = httpx2.post(f"{url}/api/desk/resume", headers={**ACTION, "origin": url}, json=scoped)
    assert answer.json()["message"].startswith("strategy:maker by itself is ACTIVE")
    assert desk.script.scopes == ["all", "strategy:maker"]


@pytest.mark.parametrize("body", ["[]", "no json", "x" * 10_000])
def test_a_body_that_is_no_small_json_object_is_refused(desk: Desk, url: str, body: str) -> None:
    answer = httpx2.post(f"{url}/api/desk/halt", headers={**ACTION, "origin": url}, content=body)
    assert answer.status_code == 400
    assert desk.script.orders == []


def test_acknowledging_what_does_not_exist_says_so(url: str) -> None:
    answer = httpx2.post(f"{url}/api/desk/alerts/nothing/acknowledge", headers={**ACTION, "origin": url}, json={})
    assert answer.status_code == 409
    assert "nothing" in answer.json()["error"]


def test_orders_are_not_carried_out_by_following_a_link(desk: Desk, url: str) -> None:
    assert httpx2.get(f"{url}/api/desk/halt").status_code in (404, 405)
    assert desk.script.orders == []


@pytest.mark.parametrize("origin", ["http://evil.example", None])
def test_a_websocket_of_a_foreign_page_or_of_none_is_refused(url: str, origin: str | None) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(url.replace("http", "ws") + "/ws/live", origin=origin):  # type: ignore[arg-type]
        pass
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("path", ["/_dash-ws-callback", "/ws/other"])
def test_other_websockets_do_not_exist(url: str, path: str) -> None:
    with pytest.raises(InvalidStatus), connect(url.replace("http", "ws") + path, origin=url):  # type: ignore[arg-type]
        pass


def test_unknown_addresses_are_404_for_programs_and_for_people(url: str) -> None:
    for path in ("/api/nothing", "/api/v9/query", "/ws/nothing", "/-/nothing"):
        answer = httpx2.get(url + path)
        assert (answer.status_code, answer.json()["errorType"]) == (404, "not_found")
    page = httpx2.get(f"{url}/nothing")
    assert page.status_code == 404
    assert "text/html" in page.headers["content-type"]


def test_what_the_api_looks_like_is_not_published(url: str) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert httpx2.get(url + path).status_code == 404


def test_every_page_carries_the_policy_and_every_inline_script_its_hash(url: str) -> None:
    for page in PAGES:
        answer = httpx2.get(url + page.path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-eval" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        for attributes, script in re.findall(r"<script([^>]*)>(.*?)</script>", answer.text, re.DOTALL):
            if script and "application/json" not in attributes:
                digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
                assert f"'sha256-{digest}'" in policy
        assert '<html lang="en"' in answer.text
        assert not re.search(r'(src|href)="(https?:)?//', answer.text)


def test_a_deep_link_as_the_first_request_has_its_scripts(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    try:
        transport = httpx2.ASGITransport(app=build_server(desk.services))

        async def first() -> str:
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return (await client.get("/history")).text

        assert "dash_renderer" in asyncio.run(first())
    finally:
        desk.store.close()


def test_ready_only_after_the_first_page_has_been_rendered(desk: Desk, url: str) -> None:
    transport = httpx2.ASGITransport(app=build_server(desk.services))  # its lifespan has not begun

    async def asked() -> int:
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.get("/-/ready")).status_code

    assert asyncio.run(asked()) == 503
    assert httpx2.get(f"{url}/-/ready").status_code == 200
    assert httpx2.get(f"{url}/-/healthy").status_code == 200


def test_scripts_are_compressed_once_and_revalidated(url: str) -> None:
    path = "/_dash-component-suites/plotly/package_data/plotly.min.js"
    plain = httpx2.get(url + path, headers={"accept-encoding": "identity"})
    assert plain.headers["cache-control"] == "no-cache"
    for _ in range(200):
        packed = httpx2.get(url + path, headers={"accept-encoding": "br"})
        if packed.headers.get("content-encoding") == "br":
            break
    assert packed.headers["content-encoding"] == "br"
    assert int(packed.headers["content-length"]) < len(plain.content) / 3
    unchanged = httpx2.get(url + path, headers={"accept-encoding": "br", "if-none-match": packed.headers["etag"]})
    assert unchanged.status_code == 304


def test_a_proxys_origin_may_act_where_it_is_listed(desk: Desk) -> None:
    options = replace(WebOptions(port=0), allowed_origins=("https://desk.example",))
    with serving(replace(desk.services, options=options)) as url:
        answer = httpx2.post(f"{url}/api/desk/halt", headers={**ACTION, "origin": "https://desk.example"}, json={})
        assert answer.status_code == 200
