"""The Delivery page: channels, a test message, and a dead letter that is sent again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from alerts.options import WebhookOptions
from tests.alerts.desk import Desk as AlertDesk
from tests.alerts.desk import rules_file
from tests.alerts.receivers import WebhookReceiver, wait_until
from tests.dashboard.demo_services import Desk, serving
from tests.dashboard.test_browser import FLAGS, SLOW_MS, Tab

pytestmark = pytest.mark.browser
RULE = '- alert: High\n  expr: x > 1\n  annotations: {summary: "<img src=x onerror=alert(1)> is high"}\n'


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.start()
    yield desk
    desk.stop()


@pytest.fixture(params=["wide dark", "phone light"])
def tab(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Tab]:
    wide = request.param == "wide dark"
    size = {"width": 1440, "height": 900} if wide else {"width": 390, "height": 844}
    context = browser.new_context(viewport=size, color_scheme="dark" if wide else "light")
    yield Tab(context.new_page())
    context.close()


def test_a_test_message_is_sent_and_a_dead_letter_goes_again(around: Desk, tmp_path: Path, tab: Tab) -> None:
    gone = [True]
    with WebhookReceiver(answer=lambda post: 410 if gone[0] else 200) as receiver:
        hook = WebhookOptions(url=receiver.url, allow=("127.0.0.1",))
        with AlertDesk(tmp_path, rules_file(tmp_path, RULE), webhook=hook) as desk:
            desk.frame("a", {"x": 2.0})
            wait_until(lambda: [one.status for one in desk.service.deliveries()] == ["dead"])
            gone[0] = False
            with serving(replace(around.services, alerts=desk.service)) as url:
                page = tab.page
                page.goto(f"{url}/delivery")
                dead = page.locator("#d-dead tbody tr")
                expect(dead).to_contain_text("<img src=x onerror=alert(1)> is high", timeout=SLOW_MS)
                expect(dead).to_contain_text("answered 410")
                page.get_by_role("button", name="Send a test by webhook").click()
                expect(page.locator("#toast")).to_contain_text("a test message is on its way to webhook")
                wait_until(lambda: len(receiver.posts) == 1)
                assert receiver.posts[0].json["deskvigil"]["test"] is True
                dead.get_by_role("button", name="again").click()
                wait_until(lambda: len(receiver.posts) == 2)
                expect(page.locator("#d-dead")).to_contain_text("Nothing had to be given up.", timeout=SLOW_MS)
                expect(page.locator("#d-messages tbody tr")).to_have_count(2)
                expect(page.locator("#d-messages")).to_contain_text("sent, attempt 1")
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert receiver.posts[1].reason == "first"
    assert tab.complaints == []


HEARD = """
window.heard = []; window.tones = 0;
window.Notification = class { static permission = "granted"; static async requestPermission() { return "granted"; }
  constructor(title, more) { window.heard.push(`${title}: ${more.body}`); } };
const start = OscillatorNode.prototype.start;
OscillatorNode.prototype.start = function (at) { window.tones += 1; return start.call(this, at); };
"""
TIERS = "\n".join(
    f"- alert: {name}\n  expr: {name} > 1\n  labels: {{severity: {tier}}}\n  annotations: {{summary: it is {name}}}\n"
    for name, tier in (("old", "critical"), ("mild", "warning"), ("bad", "critical"))
)


def test_an_open_console_announces_what_begins_from_the_chosen_tier_on_once_it_was_asked_to(
    around: Desk, browser: Browser, tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.add_init_script(HEARD)
    page = context.new_page()
    with AlertDesk(tmp_path, rules_file(tmp_path, TIERS)) as desk:
        desk.frame("a", {"old": 2.0, "mild": 0.0, "bad": 0.0})
        wait_until(lambda: set(desk.states()) == {"old"})
        with serving(replace(around.services, alerts=desk.service)) as url:
            page.goto(f"{url}/delivery")
            expect(page.locator("#status-alerts")).to_contain_text("1 critical", timeout=SLOW_MS)
            page.get_by_role("button", name="Turn notifications on").click()
            page.get_by_role("button", name="Turn sound on").click()
            expect(page.get_by_role("button", name="Sound is on")).to_be_visible()
            assert page.evaluate("[window.heard.length, window.tones]") == [0, 1]
            desk.frame("a", {"old": 2.0, "mild": 2.0, "bad": 0.0})
            wait_until(lambda: "mild" in desk.states())
            desk.frame("a", {"old": 2.0, "mild": 2.0, "bad": 2.0})
            expect(page.locator("#status-alerts")).to_contain_text("2 critical", timeout=SLOW_MS)
            page.wait_for_function("window.heard.length > 0")
            assert page.evaluate("window.heard") == ["critical: bad: it is bad"]
            assert page.evaluate("window.tones") == 4
            page.reload()  # what was chosen is kept, and what is firing already is not announced again
            expect(page.get_by_role("button", name="Notifications are on")).to_be_visible(timeout=SLOW_MS)
            expect(page.locator("#status-alerts")).to_contain_text("2 critical", timeout=SLOW_MS)
            assert page.evaluate("window.heard") == []
    context.close()
