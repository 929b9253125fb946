from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from dashboard.options import WebOptions
from dashboard.pages import PAGES
from metrics.severity import Severity
from tests.dashboard.demo_services import Desk, serving, wait_until

pytestmark = pytest.mark.browser
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
SLOW_MS = 60_000  # the machine may be busy with other things
expect.set_options(timeout=SLOW_MS)  # where an expectation names none, too
LATENCY = 'deskvigil_kpi_order_to_fill_seconds{quantile="0.99"}'


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk that trades on its own, with a quarter of an hour behind it."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.start(past_s=900, collectors=True)
    yield desk
    desk.stop()


@pytest.fixture(scope="module")
def address(live: Desk) -> Iterator[str]:
    with serving(live.services) as url:
        yield url


@pytest.fixture(autouse=True)
def quiet(live: Desk) -> None:
    """Each test begins with a desk that is well."""
    live.script.__dict__.update(type(live.script)().__dict__)


class Tab:
    """A browser tab that remembers every complaint of the console, the policy included."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.set_default_timeout(SLOW_MS)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"{error.message}\n{error.stack}"))
        page.on("requestfailed", self._failed)

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # a page that is left gives up the question it was asking
            self.complaints.append(f"failed: {request.url}: {request.failure}")

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="dark")
    yield Tab(context.new_page())
    context.close()


def test_a_value_that_changes_in_the_engine_changes_on_the_page(live: Desk, address: str, tab: Tab) -> None:
    live.script.noise = 0.0
    tab.page.goto(address)
    value = tab.page.locator("#kpi-slippage [data-value]")
    expect(value).to_have_text("0.82", timeout=SLOW_MS)
    live.script.values["slippage"] = 0.47
    expect(value).to_have_text("0.47", timeout=SLOW_MS)
    expect(tab.page.locator("#kpi-slippage [data-age]")).to_contain_text("s")
    assert tab.complaints == []


def test_every_tile_and_chart_of_the_desk_shows_data_or_says_why_not(address: str, tab: Tab) -> None:
    tab.page.goto(address)
    for chart in ("latency", "throughput", "var", "host"):
        expect(tab.page.locator(f"#chart-{chart} .scatterlayer .js-line").first).to_be_attached(timeout=SLOW_MS)
    expect(tab.page.locator("#chart-gpu")).to_contain_text("No NVIDIA driver on this host", timeout=SLOW_MS)
    expect(tab.page.locator("#chart-gpu")).to_contain_text("per 1,000 scenarios")
    tiles = tab.page.locator(".tile [data-value]")
    assert tiles.count() == 8
    assert all(any(sign.isdigit() for sign in text) for text in tiles.all_inner_texts())
    expect(tab.page.locator("#status-simulated")).to_have_text("SIMULATED")
    expect(tab.page.locator("#chart-latency")).to_contain_text("config v41, operator 2")
    assert tab.complaints == []


def test_an_alert_appears_and_is_acknowledged_with_a_comment(live: Desk, address: str, tab: Tab) -> None:
    tab.page.goto(address)
    expect(tab.page.locator("#sentence")).to_contain_text("targets met", timeout=SLOW_MS)
    live.script.noise = 0.0
    live.script.values["order_to_fill_p99"] = 612e-6
    alert = tab.page.locator(".alert", has_text="Order-to-fill p99 above 500 µs")
    expect(alert).to_be_visible(timeout=SLOW_MS)
    expect(tab.page.locator("#status-alerts")).to_contain_text("1 warning", timeout=SLOW_MS)
    expect(tab.page.locator("#kpi-order_to_fill_p99")).to_have_attribute("data-severity", "warning", timeout=SLOW_MS)
    expect(tab.page.locator("#sentence")).to_contain_text("Order-to-fill p99 is above 500 µs since", timeout=SLOW_MS)
    alert.get_by_role("button", name="Acknowledge").click()
    tab.page.locator("#ack-comment input").fill("looking at it")
    tab.page.locator("#ack-confirm").click()
    expect(alert).to_contain_text("acknowledged by operator at 127.0.0.1: looking at it", timeout=SLOW_MS)
    expect(tab.page.locator("#status-alerts")).to_contain_text("no alert", timeout=SLOW_MS)
    (active,) = live.alerts.active()
    assert (active.severity, active.ack_comment) == (Severity.WARNING, "looking at it")
    live.script.values["order_to_fill_p99"] = 310e-6
    expect(tab.page.locator(".alert.ended")).to_contain_text("resolved", timeout=SLOW_MS)
    assert tab.complaints == []


@pytest.mark.parametrize("path", [page.path for page in PAGES])
def test_no_page_complains_or_breaks_the_policy(address: str, tab: Tab, path: str) -> None:
    tab.page.goto(address + path)
    expect(tab.page.locator("#content [data-page]")).to_be_visible(timeout=SLOW_MS)
    expect(tab.page.locator("#sentence")).to_contain_text("targets met", timeout=SLOW_MS)
    tab.page.wait_for_function("() => window.Plotly !== undefined")
    expect(tab.page.locator(f'.rail-link[href="{path}"]')).to_have_attribute("aria-current", "page")
    for other in (page.path for page in PAGES if page.path != path):
        tab.page.locator(f'.rail-link[href="{other}"]').click()
        expect(tab.page.locator(f'.rail-link[href="{other}"]')).to_have_attribute("aria-current", "page")
    assert tab.page.evaluate("document.documentElement.lang") == "en"
    assert tab.complaints == []


def test_the_host_page_shows_the_machine_and_the_processes(address: str, tab: Tab) -> None:
    tab.page.goto(f"{address}/host")
    expect(tab.page.locator("#chart-cores .js-line").first).to_be_attached(timeout=SLOW_MS)
    expect(tab.page.locator("#processes")).to_contain_text("console", timeout=SLOW_MS)
    expect(tab.page.locator("#no-gpu")).to_contain_text("No NVIDIA driver on this host", timeout=SLOW_MS)
    assert tab.complaints == []


def test_halting_needs_two_decisions_and_the_enter_key_takes_none(live: Desk, address: str, tab: Tab) -> None:
    tab.page.goto(address)
    expect(tab.page.locator("#status-trading")).to_contain_text("ACTIVE", timeout=SLOW_MS)
    tab.page.locator("#halt").focus()
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#order-dialog")).to_be_visible()
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#order-dialog")).to_be_hidden()
    tab.page.locator("#halt").click()
    tab.page.locator("#order-reason input").fill("drill")
    tab.page.keyboard.press("Enter")
    assert live.script.orders == []
    tab.page.locator("#order-confirm").click()
    expect(tab.page.locator("#toast")).to_contain_text("trading is HALTED", timeout=SLOW_MS)
    expect(tab.page.locator("#status-trading")).to_contain_text("HALTED", timeout=SLOW_MS)
    expect(tab.page.locator("#sentence")).to_contain_text("Trading is halted", timeout=SLOW_MS)
    assert [reason for _, reason in live.script.orders] == ["drill"]
    expect(tab.page.locator("#halt")).to_have_text("RESUME")
    assert tab.complaints == []


def test_one_strategy_is_halted_and_resumed_by_its_name(live: Desk, address: str, tab: Tab) -> None:
    tab.page.goto(address)
    expect(tab.page.locator("#status-trading")).to_contain_text("ACTIVE", timeout=SLOW_MS)
    for other in (False, True):
        tab.page.locator("#halt").click()
        tab.page.locator("#order-scope input").fill("strategy:maker")
        if other:
            tab.page.locator("#order-other").click()
            expect(tab.page.locator("#order-title")).to_have_text("Resume trading?")
        tab.page.locator("#order-confirm").click()
        said = "strategy:maker by itself is " + ("ACTIVE" if other else "HALTED")
        expect(tab.page.locator("#toast")).to_contain_text(said, timeout=SLOW_MS)
    assert live.script.scopes == ["strategy:maker"] * 2
    assert tab.complaints == []


def test_a_desk_that_is_reducing_can_still_be_halted(live: Desk, address: str, tab: Tab) -> None:
    live.script.state = "REDUCING"
    tab.page.goto(address)
    expect(tab.page.locator("#status-trading")).to_contain_text("REDUCING", timeout=SLOW_MS)
    expect(tab.page.locator("#halt")).to_have_text("HALT")


def test_an_order_that_was_asked_for_does_not_turn_into_its_opposite(live: Desk, address: str, tab: Tab) -> None:
    tab.page.goto(address)
    expect(tab.page.locator("#status-trading")).to_contain_text("ACTIVE", timeout=SLOW_MS)
    tab.page.locator("#halt").click()
    live.script.state = "HALTED"  # somebody else was faster
    expect(tab.page.locator("#status-trading")).to_contain_text("HALTED", timeout=SLOW_MS)
    tab.page.locator("#order-confirm").click()
    expect(tab.page.locator("#toast")).to_contain_text("trading is HALTED", timeout=SLOW_MS)
    assert live.script.state == "HALTED"


def test_the_alerts_page_tells_what_happened_and_why(live: Desk, address: str, tab: Tab) -> None:
    live.script.values["order_to_fill_p99"] = 900e-6
    tab.page.goto(f"{address}/alerts")
    expect(tab.page.locator("#a-history")).to_contain_text("fired", timeout=SLOW_MS)
    expect(tab.page.locator("#a-notifications")).to_contain_text("Nobody has been told")
    assert tab.complaints == []


def test_numbers_that_stop_are_greyed_and_say_since_when(live: Desk, address: str, tab: Tab) -> None:
    tab.page.goto(address)
    expect(tab.page.locator("#kpi-pnl [data-value]")).to_contain_text("+", timeout=SLOW_MS)
    live.script.silent = True
    expect(tab.page.locator("#kpi-pnl")).to_have_attribute("data-stale", "", timeout=SLOW_MS)
    expect(tab.page.locator("#kpi-pnl [data-why]")).to_contain_text("no data for")
    live.script.silent = False
    expect(tab.page.locator("#kpi-pnl")).not_to_have_attribute("data-stale", "", timeout=SLOW_MS)


def test_a_lost_connection_is_said_and_comes_back_by_itself(live: Desk, tab: Tab) -> None:
    with ExitStack() as first:
        url = first.enter_context(serving(live.services))
        tab.page.goto(url)
        expect(tab.page.locator("#kpi-pnl [data-value]")).to_contain_text("+", timeout=SLOW_MS)
        first.close()
    expect(tab.page.locator("#offline")).to_be_visible(timeout=SLOW_MS)
    expect(tab.page.locator("#offline")).to_contain_text("No connection for", timeout=SLOW_MS)
    expect(tab.page.locator("body")).to_have_attribute("data-offline", "", timeout=SLOW_MS)
    again = replace(live.services, options=replace(WebOptions(), port=int(url.rsplit(":", 1)[1])))
    with serving(again):
        expect(tab.page.locator("#offline")).to_be_hidden(timeout=SLOW_MS)


def test_a_chosen_theme_stays_after_a_reload(address: str, tab: Tab) -> None:
    tab.page.goto(address)
    colour = "getComputedStyle(document.body).backgroundColor"
    assert tab.page.evaluate(colour) == "rgb(16, 20, 24)"
    tab.page.locator("#theme-switch").click()
    assert tab.page.evaluate(colour) == "rgb(246, 247, 249)"
    tab.page.reload()
    assert tab.page.evaluate(colour) == "rgb(246, 247, 249)"
    assert tab.complaints == []


@pytest.mark.parametrize("path", [page.path for page in PAGES])
def test_nothing_is_wider_than_a_phone(browser: Browser, address: str, path: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(address + path)
    expect(page.locator("#content [data-page]")).to_be_visible(timeout=SLOW_MS)
    expect(page.locator("#sentence")).to_contain_text("targets met", timeout=SLOW_MS)
    expect(page.locator("#halt")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_alerts_and_the_halt_button_come_first_on_a_phone(live: Desk, browser: Browser, address: str) -> None:
    live.script.values["order_to_fill_p99"] = 900e-6
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(address)
    expect(page.locator(".alert button").first).to_be_in_viewport(timeout=SLOW_MS)
    expect(page.locator("#halt")).to_be_in_viewport()
    expect(page.locator(".tile").first).to_be_in_viewport()
    context.close()


def test_the_desk_stays_quiet_for_a_while(live: Desk, address: str, tab: Tab) -> None:
    tab.page.goto(address)
    age = "window.deskvigil && window.deskvigil.model.version"
    wait_until(lambda: bool(tab.page.evaluate(age)), "the page lives")
    start = int(tab.page.evaluate(age))
    wait_until(lambda: int(tab.page.evaluate(age)) > start + 60, "the stream goes on")
    assert tab.complaints == []
