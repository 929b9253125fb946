from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote, urlencode

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

from dashboard.api.gate import Gate
from dashboard.api.meter import ApiMeter
from dashboard.api.prometheus import BuildInfo, prometheus_router
from dashboard.components.graph import CONFIG
from metrics.series import Series, make_labels
from tests.dashboard.api_server import Rules
from tests.dashboard.demo_services import Desk, serving
from tests.dashboard.test_browser import FLAGS, SLOW_MS, Tab

pytestmark = pytest.mark.browser
LATENCY = "deskvigil_kpi_order_to_fill_seconds"
P99 = LATENCY + '{quantile="0.99"}'
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A desk with five minutes behind it, an annotation in them, and two days of one foreign metric."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.script.silent = True
    desk.start(past_s=300)
    now_ms = desk.clock.now_ns() // 1_000_000
    t_ms = np.arange(now_ms - 49 * HOUR_MS, now_ms - 60_000, 60_000)
    desk.store.ingest([Series("load", make_labels({"desk": "a"}))], [t_ms], [np.ones(len(t_ms))])
    try:
        meter = ApiMeter(desk.clock)
        router = prometheus_router(
            desk.query,
            Rules(),
            desk.store.live,
            desk.clock,
            gate=Gate(meter),
            meter=meter,
            build=BuildInfo(version="0"),
        )
        with serving(replace(desk.services, routers=(router,))) as url:
            yield url
    finally:
        desk.stop()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    """A tab whose console must stay silent to the end: no error, no warning, no violation of the policy."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="dark")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab = Tab(context.new_page())
    yield tab
    context.close()
    # A question that the next one has overtaken is dropped on purpose.
    assert [said for said in tab.complaints if not said.startswith("failed: ") or "/api/" not in said] == []


def _open(page: Page, address: str, *expressions: str, **more: str) -> None:
    pairs = [*(("expr", expression) for expression in expressions), *{"range": "15m", **more}.items()]
    page.goto(f"{address}/history?{urlencode(pairs)}")
    expect(page.locator("[data-shown]")).to_be_attached(timeout=SLOW_MS)


def _query(page: Page, letter: str = "A") -> Locator:
    return page.get_by_role("combobox", name=f"Query {letter}")


def _lines(page: Page) -> Locator:
    return page.locator("#h-graph .js-line")


def test_what_was_typed_before_the_words_came_is_completed_when_they_come(address: str, tab: Tab) -> None:
    page = tab.page
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/desk/vocabulary", hold)
    _open(page, address, "up")
    query = _query(page)
    query.fill("")
    query.press_sequentially("sum(ra")
    expect(query).to_have_value("sum(ra")
    for route in held:
        route.continue_()
    expect(page.get_by_role("option").first).to_contain_text("rate", timeout=SLOW_MS)


def test_a_metric_a_function_a_label_and_its_value_are_completed_by_keyboard_and_mouse(address: str, tab: Tab) -> None:
    page = tab.page
    _open(page, address, "up")
    query = _query(page)
    query.fill("")
    query.press_sequentially("sum(ra")
    options = page.get_by_role("option")
    expect(options.first).to_contain_text("rate", timeout=SLOW_MS)
    expect(query).to_have_attribute("aria-expanded", "true")
    expect(page.locator(".suggestion-help:visible")).to_contain_text("Increase per second of a counter")
    query.press("Enter")
    expect(query).to_have_value("sum(rate(")
    query.fill("")
    query.press_sequentially("order_to_fill")
    wanted = options.filter(has_text="deskvigil_kpi_order_to_fill_seconds")
    expect(wanted.first).to_be_visible(timeout=SLOW_MS)
    wanted.first.hover()
    wanted.first.click()
    expect(query).to_have_value(LATENCY)
    query.press_sequentially("{quan")
    expect(options.first).to_contain_text("quantile", timeout=SLOW_MS)
    query.press("Tab")
    expect(query).to_have_value(LATENCY + '{quantile="')
    expect(options.filter(has_text="0.95")).to_be_visible(timeout=SLOW_MS)
    query.press("ArrowDown")
    active = page.locator(f"#{query.get_attribute('aria-activedescendant')}")
    expect(active).to_contain_text("0.95")
    query.press("Enter")
    expect(query).to_have_value(LATENCY + '{quantile="0.95"')
    query.press_sequentially("}")
    query.press("Enter")
    page.wait_for_url("**quantile**0.95**")
    expect(page.locator("#h-legend")).to_contain_text("quantile=0.95", timeout=SLOW_MS)
    query.press("Shift+Enter")
    query.press_sequentially("+ desk")
    expect(options.first).to_be_visible(timeout=SLOW_MS)
    query.press("Escape")
    expect(page.locator(".popup:visible")).to_have_count(0)
    expect(query).to_have_value(LATENCY + '{quantile="0.95"}\n+ desk')
    tall = query.bounding_box()
    assert tall is not None
    assert tall["height"] > 40


def test_a_mistake_is_told_under_its_query_and_marked_in_its_text(address: str, tab: Tab) -> None:
    page = tab.page
    _open(page, address, P99, "sum by (le (up)")
    row = page.locator('.query[data-letter="B"]')
    expect(row.locator(".said")).to_contain_text("character 8: unclosed left parenthesis")
    expect(row.locator(".wrong")).to_have_text("(")
    expect(_query(page, "B")).to_have_attribute("aria-invalid", "true")
    expect(_lines(page)).to_have_count(1)
    _query(page, "B").fill("deskvigil_kpi_slipage_bps")
    _query(page, "B").press("Enter")
    expect(row.locator(".said")).to_contain_text("Nothing called deskvigil_kpi_slipage_bps", timeout=SLOW_MS)
    row.get_by_role("button", name="deskvigil_kpi_slippage_bps").click()
    expect(_query(page, "B")).to_have_value("deskvigil_kpi_slippage_bps")
    expect(_lines(page)).to_have_count(2, timeout=SLOW_MS)
    expect(row.locator(".said")).to_be_empty()


def test_two_units_have_two_axes_and_a_third_is_refused_until_one_is_hidden(address: str, tab: Tab) -> None:
    page = tab.page
    _open(page, address, P99, "deskvigil_kpi_slippage_bps", "deskvigil_risk_var_usd")
    expect(_lines(page)).to_have_count(2)
    titles = page.locator("#h-graph .annotation-text")
    expect(titles).to_have_text(["µs", "bp"])
    expect(page.locator("#h-graph .y2tick").first).to_be_attached()
    expect(page.locator('.query[data-letter="C"] .said')).to_contain_text("C is in USD")
    expect(page.locator("#h-statistics")).to_contain_text("USD")
    page.get_by_role("button", name="Query A: shown").click()
    page.wait_for_url("**hide=A**")
    expect(titles).to_have_text(["bp", "USD"], timeout=SLOW_MS)
    expect(page.locator('.query[data-letter="C"] .said')).to_be_empty()
    page.get_by_role("button", name="Remove query A").click()
    expect(_query(page, "A")).to_have_value("deskvigil_kpi_slippage_bps")
    expect(page.get_by_role("button", name="Query A: shown")).to_be_visible()
    expect(page.locator(".query")).to_have_count(2)


def test_dragging_a_stretch_open_asks_again_at_a_finer_step_and_back_goes_back(address: str, tab: Tab) -> None:
    page = tab.page
    _open(page, address, "load", range="24h")
    expect(page.locator("#h-note")).to_contain_text("1 point = 2 min")
    box = page.locator("#h-graph .nsewdrag").first.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.4, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=5)
    page.mouse.up()
    page.wait_for_url("**start=**end=**")
    expect(page.locator("#h-note")).to_contain_text("1 point = 10 s", timeout=SLOW_MS)
    expect(page.locator("#h-start")).not_to_have_value("")
    page.get_by_role("button", name="Twice the window").click()
    expect(page.locator("#h-note")).to_contain_text("1 point = 15 s", timeout=SLOW_MS)
    page.go_back()
    page.go_back()
    expect(page.locator("#h-note")).to_contain_text("1 point = 2 min", timeout=SLOW_MS)
    expect(page.get_by_role("button", name="24h")).to_have_attribute("aria-pressed", "true")


def test_the_day_before_is_a_dashed_line_with_its_own_entry_and_difference(address: str, tab: Tab) -> None:
    page = tab.page
    _open(page, address, "load", range="6h")
    page.get_by_role("button", name="day", exact=True).click()
    page.wait_for_url("**compare=day**")
    expect(page.locator("#h-legend")).to_contain_text("the day before", timeout=SLOW_MS)
    expect(_lines(page)).to_have_count(2)
    assert "dasharray" in str(_lines(page).nth(1).get_attribute("style"))
    expect(page.locator("#h-statistics")).to_contain_text("difference")
    page.get_by_role("button", name="the day before").click()
    expect(_lines(page)).to_have_count(1, timeout=SLOW_MS)


def test_an_address_restores_everything(address: str, tab: Tab) -> None:
    page = tab.page
    _open(page, address, P99, "load", hide="B", compare="day", without="alert,deploy", follow="1")
    expect(_query(page, "A")).to_have_value(P99)
    expect(_query(page, "B")).to_have_value("load")
    for name, pressed in (
        ("Query A: shown", "true"),
        ("Query B: hidden", "false"),
        ("15m", "true"),
        ("Follow", "true"),
        ("Alerts", "false"),
        ("Halts, overrides", "true"),
        ("day", "true"),
    ):
        button = page.locator("#content").get_by_role("button", name=name, exact=True)
        expect(button).to_have_attribute("aria-pressed", pressed, timeout=SLOW_MS)
    with page.expect_response("**/api/desk/history?**follow=1**", timeout=SLOW_MS):
        pass  # it asks again by itself
    old = f"{address}/history?expr={quote(P99)}&range=15m&metric={LATENCY}&labels="
    page.goto(old)
    expect(_query(page, "A")).to_have_value(P99, timeout=SLOW_MS)
    page.goto(f"{address}/history?metric=deskvigil_engine_orders_acked_total")
    expect(_query(page, "A")).to_have_value("rate(deskvigil_engine_orders_acked_total[1m])", timeout=SLOW_MS)


def test_a_view_is_saved_shared_renamed_opened_and_deleted(address: str, tab: Tab) -> None:
    page = tab.page
    _open(page, address, "load", range="24h", compare="day")
    shown = page.url
    page.get_by_role("button", name="Views").click()
    page.get_by_label("Name of the view").fill("Load, against yesterday")
    page.get_by_label("Name of the view").press("Enter")
    views = page.locator("#h-views-list")
    expect(views.get_by_role("link")).to_have_text("Load, against yesterday", timeout=SLOW_MS)
    views.get_by_role("button", name="Share").click()
    expect(page.locator("#toast")).to_contain_text("copied", timeout=SLOW_MS)
    shared = page.evaluate("navigator.clipboard.readText()")
    views.get_by_role("button", name="Rename").click()
    page.get_by_label("New name of").fill("Load")
    page.get_by_label("New name of").press("Enter")
    expect(views.get_by_role("link")).to_have_text("Load", timeout=SLOW_MS)
    page.goto(f"{address}/history?expr=up")
    page.get_by_role("button", name="Views").click()
    expect(page.locator("#h-recent")).to_contain_text("load", timeout=SLOW_MS)
    views.get_by_role("link", name="Load").click()
    expect(_query(page)).to_have_value("load", timeout=SLOW_MS)
    expect(page.locator("#h-legend")).to_contain_text("the day before", timeout=SLOW_MS)
    for restored in (page.url, shared):
        assert sorted(restored.partition("?")[2].split("&")) == sorted(shown.partition("?")[2].split("&"))
    page.get_by_role("button", name="Views").click()
    views.get_by_role("button", name="Delete").click()
    views.get_by_role("button", name="Delete").click()
    expect(views).to_contain_text("None yet", timeout=SLOW_MS)


def test_the_explorer_finds_a_metric_and_asks_the_usual_question(address: str, tab: Tab) -> None:
    page = tab.page
    _open(page, address, P99)
    page.get_by_role("button", name="Metrics").click()
    dialog = page.get_by_role("dialog", name="Metrics")
    expect(dialog.locator("summary", has_text="Key figures")).to_be_visible(timeout=SLOW_MS)
    dialog.get_by_label("Search metrics").fill("orders_acked")
    found = dialog.locator(".metric").first
    expect(found).to_contain_text("counter, count, 1 series")
    dialog.get_by_role("button", name="as a further query").first.click()
    expect(_query(page, "B")).to_have_value("rate(deskvigil_engine_orders_acked_total[1m])")
    page.wait_for_url("**orders_acked_total**")


def test_annotations_lie_above_the_data_and_tell_what_happened(address: str, tab: Tab) -> None:
    page = tab.page
    _open(page, address, P99)
    mark = page.get_by_role("button", name="config v41, operator 2")
    plot = page.locator("#h-graph .nsewdrag").first.bounding_box()
    box = mark.bounding_box()
    assert plot is not None
    assert box is not None
    assert box["y"] + box["height"] <= plot["y"]
    assert plot["x"] - 8 <= box["x"] <= plot["x"] + plot["width"]
    mark.focus()
    expect(page.locator("#h-tip")).to_contain_text("config v41, operator 2")
    page.get_by_role("button", name="Deploys, restarts").click()
    page.wait_for_url("**without=deploy**")
    expect(mark).to_have_count(0, timeout=SLOW_MS)


def test_values_statistics_files_and_colours_are_those_of_what_is_shown(address: str, tab: Tab) -> None:
    page = tab.page
    _open(page, address, LATENCY)
    expect(page.locator("#h-statistics tbody tr")).to_have_count(3)
    expect(page.locator("#h-statistics")).to_contain_text("µs")
    expect(page.locator("#h-values .ag-row").first).to_be_visible(timeout=SLOW_MS)
    expect(page.locator("#h-values .ag-header")).to_contain_text("µs")
    rows = page.locator("#h-values .ag-row").count()
    assert rows < 60  # of about three hundred: only what is in view is in the document
    for kind in ("csv", "parquet"):
        href = str(page.locator(f"#h-{kind}").get_attribute("href"))
        answer = page.request.get(address + href)
        assert answer.ok
        assert "attachment" in answer.headers["content-disposition"]
    title = "getComputedStyle(document.querySelector('#h-graph .annotation-text')).fill"
    dark = page.evaluate(title)
    page.locator("#theme-switch").click()
    page.wait_for_function(f"before => {title} !== before", arg=dark)
    assert page.evaluate("JSON.parse(document.querySelector('#h-graph').dataset.config)") == CONFIG


def test_a_phone_shows_everything_without_sideways_scrolling(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    page.set_default_timeout(SLOW_MS)
    _open(
        page,
        address,
        P99,
        "sum(",
        "deskvigil_risk_var_usd",
        "a_metric_with_a_very_long_name_that_nobody_has_stored",
        compare="day",
    )
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) <= 390
    query = _query(page)
    query.fill("")
    query.press_sequentially("order_to_fill")
    expect(page.get_by_role("option").first).to_be_visible()
    box = page.locator(".popup:visible").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    query.press("Escape")
    cells = page.locator("#h-statistics td")
    assert all(cell["x"] + cell["width"] <= 390 for one in cells.all() if (cell := one.bounding_box()))
    page.get_by_role("button", name="Metrics").click()
    expect(page.get_by_role("dialog", name="Metrics")).to_be_visible()
    assert page.evaluate(wide) <= 390
    context.close()
