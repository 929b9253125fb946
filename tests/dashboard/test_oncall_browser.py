"""The page Silences & on-call in a real browser: who is on duty, standing in, countdown, and what Enter does not do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.alerts.nightdesk import NightDesk
from tests.dashboard.demo_services import Desk, serving
from tests.dashboard.test_browser import FLAGS, SLOW_MS, Tab
from tests.dashboard.test_oncall import Silences

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NightDesk]:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.start(past_s=30)
    night = NightDesk(tmp_path_factory.mktemp("night"), now_ns=desk.clock.now_ns())
    night.x = 3.5
    night.go()
    services = replace(desk.services, alerts=night.service, oncall=night.service.oncall, silences=Silences())
    with serving(services) as url:
        night.url = url  # type: ignore[attr-defined]
        yield night
    night.close()
    desk.stop()


@pytest.fixture
def tab(browser: Browser, night: NightDesk) -> Iterator[Tab]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="dark")
    tab = Tab(context.new_page())
    tab.page.goto(f"{night.url}/oncall")  # type: ignore[attr-defined]
    yield tab
    assert tab.complaints == []
    context.close()


def test_who_is_on_duty_and_what_escalates_is_shown_and_counted_down(tab: Tab, night: NightDesk) -> None:
    on_duty = night.service.oncall.rotas()[0].duties[0].person
    row = tab.page.locator("#oncall-rotas tbody tr")
    expect(row).to_contain_text("desk UTC", timeout=SLOW_MS)
    expect(row.locator("td").nth(1)).to_have_text(on_duty)
    escalation = tab.page.locator("#oncall-escalations tbody tr")
    expect(escalation).to_contain_text("x is 3.5")
    expect(escalation).to_contain_text("2 of 2")
    left = escalation.locator("[data-due]")
    expect(left).not_to_have_text("")
    first = left.inner_text()
    expect(left).not_to_have_text(first, timeout=SLOW_MS)


def test_somebody_is_put_on_duty_and_taken_off_and_the_enter_key_does_neither(tab: Tab, night: NightDesk) -> None:
    page = tab.page
    expect(page.locator("#oncall-overrides")).to_contain_text("Nobody stands in", timeout=SLOW_MS)
    page.locator("#oncall-override").click()
    page.keyboard.press("Enter")
    expect(page.locator("#oncall-dialog")).to_be_hidden()
    page.locator("#oncall-override").click()
    page.locator("[data-key=person]").select_option("ben")
    page.locator("#oncall-confirm").click()
    expect(page.locator("#oncall-missing")).to_have_text("Missing: Your name")
    page.locator("[data-key=name]").fill("Cem")
    page.locator("[data-key=comment]").fill("<b>holiday</b>")
    page.keyboard.press("Enter")
    assert night.service.oncall.overrides() == ()
    page.locator("#oncall-confirm").click()
    row = page.locator("#oncall-overrides tbody tr")
    expect(row).to_contain_text("<b>holiday</b>", timeout=SLOW_MS)
    expect(row).to_contain_text("Cem (operator at 127.0.0.1)")
    expect(page.locator("#oncall-rotas")).to_contain_text("ben (stands in)", timeout=SLOW_MS)
    row.get_by_role("button").click()
    page.locator("[data-key=name]").fill("Cem")
    page.locator("[data-key=comment]").fill("back again")
    page.locator("#oncall-confirm").click()
    expect(page.locator("#oncall-overrides")).to_contain_text("Nobody stands in", timeout=SLOW_MS)


def test_alerts_are_silenced_with_matchers_that_may_hold_commas(tab: Tab) -> None:
    page = tab.page
    expect(page.locator("#oncall-silences")).to_contain_text("Nothing is silenced", timeout=SLOW_MS)
    page.locator("#oncall-silence").click()
    page.locator("[data-key=matchers]").fill('alertname="High", host=~"a,b"')
    page.locator("[data-key=name]").fill("Ana")
    page.locator("[data-key=comment]").fill("repair")
    page.locator("#oncall-confirm").click()
    expect(page.locator("#oncall-silences tbody code")).to_have_text('alertname="High", host=~"a,b"', timeout=SLOW_MS)
    page.locator("#oncall-silences tbody button").click()
    page.locator("[data-key=name]").fill("Ana")
    page.locator("#oncall-confirm").click()
    expect(page.locator("#oncall-silences")).to_contain_text("Nothing is silenced", timeout=SLOW_MS)
