from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from console.views import Checks
from storage.breaks import insert_breaks
from storage.store import Store
from tests.dashboard.demo_services import Desk, serving
from tests.dashboard.test_browser import FLAGS, SLOW_MS, Tab
from tests.dashboard.traded import Board

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    board = Board(tmp_path_factory.mktemp("board"))
    board.start()
    yield board
    board.stop()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.start(past_s=60)
    yield desk
    desk.stop()


@pytest.fixture(scope="module")
def kept(desk: Desk) -> Store:
    """Where the page's breaks are."""
    return desk.store


@pytest.fixture(scope="module")
def address(board: Board, desk: Desk) -> Iterator[str]:
    with serving(replace(desk.services, orders=board.collector.view, cancel=board.cancel)) as url:
        yield f"{url}/orders"


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="dark")
    yield Tab(context.new_page())
    context.close()


def test_the_page_shows_orders_depth_positions_and_that_all_fills_agree(board: Board, address: str, tab: Tab) -> None:
    tab.page.goto(address)
    expect(tab.page.locator("#o-blotter tbody tr").first).to_be_visible(timeout=SLOW_MS)
    kept = len(board.traded.newest())
    expect(tab.page.locator("#o-blotter .note").first).to_contain_text(f"{kept:,} kept")
    assert tab.page.locator("#o-blotter tbody tr").count() <= 60 < kept
    expect(tab.page.locator("#o-checks")).to_contain_text("All 42 fills equal to the drop copy, checked 0.4 s ago")
    expect(tab.page.locator("#o-working tbody tr")).to_have_count(board.traded.desk.working_orders())
    expect(tab.page.locator("#o-positions tbody tr")).to_have_count(10)
    tab.page.locator("#o-symbol select").select_option("DV-BRAVO")
    expect(tab.page.locator("#o-depth tbody tr")).to_have_count(20)
    assert tab.complaints == []


def test_filters_and_scrolling_go_through_all_orders(address: str, tab: Tab) -> None:
    tab.page.goto(address)
    expect(tab.page.locator("#o-blotter tbody tr").first).to_be_visible(timeout=SLOW_MS)
    tab.page.locator("#o-filters select").nth(1).select_option("parents")
    expect(tab.page.locator("#o-blotter tbody tr td:nth-child(5)").first).to_have_text("parents", timeout=SLOW_MS)
    assert set(tab.page.locator("#o-blotter tbody tr td:nth-child(5)").all_inner_texts()) == {"parents"}
    tab.page.locator("#o-filters select").nth(1).select_option("clients")
    expect(tab.page.locator("#o-blotter")).to_contain_text("No order matches these filters", timeout=SLOW_MS)
    tab.page.locator("#o-filters select").nth(1).select_option("")
    newest = tab.page.locator("#o-blotter tbody tr").first.inner_text()
    tab.page.evaluate("document.getElementById('o-window').scrollTop = 1e9")
    expect(tab.page.locator("#o-blotter tbody tr").first).not_to_have_text(newest, timeout=SLOW_MS)
    oldest = tab.page.locator("#o-blotter tbody tr").last
    expect(oldest).to_be_in_viewport(timeout=SLOW_MS)
    assert tab.complaints == []


def test_a_row_opens_the_timeline_from_decision_to_end_by_keyboard(address: str, tab: Tab) -> None:
    tab.page.goto(address)
    tab.page.locator("#o-filters select").nth(2).select_option("filled", timeout=SLOW_MS)
    expect(tab.page.locator("#o-blotter tbody tr td:nth-child(9)").first).to_have_text("filled", timeout=SLOW_MS)
    tab.page.locator("#o-blotter tbody tr button").first.focus()
    tab.page.keyboard.press("Enter")
    timeline = tab.page.locator("#o-timeline")
    for words in ("decision", "gates", "accepted by the book", "fill, "):
        expect(timeline.locator(".timeline")).to_contain_text(words, timeout=SLOW_MS)
    tab.page.keyboard.press("Escape")
    expect(timeline).to_be_hidden()
    assert tab.complaints == []


def test_cancelling_one_order_asks_first_and_the_enter_key_does_not(board: Board, address: str, tab: Tab) -> None:
    tab.page.goto(address)
    rows = tab.page.locator("#o-working tbody tr")
    expect(rows.first).to_be_visible(timeout=SLOW_MS)
    before = board.traded.desk.working_orders()
    cancel = rows.first.get_by_role("button")
    cancel.focus()
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#o-cancel-dialog")).to_be_visible()
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#o-cancel-dialog")).to_be_hidden()
    assert board.cancelled == []
    cancel.click()
    tab.page.locator("#o-cancel-reason input").fill("drill")
    tab.page.keyboard.press("Enter")
    assert board.cancelled == []
    tab.page.locator("#o-cancel-confirm").click()
    expect(tab.page.locator("#toast")).to_contain_text("is cancelled", timeout=SLOW_MS)
    expect(rows).to_have_count(before - 1, timeout=SLOW_MS)
    assert [reason for _, reason in board.cancelled] == ["drill"]
    assert tab.complaints == []


def test_an_open_break_stands_on_top_and_says_what_differs(board: Board, address: str, tab: Tab) -> None:
    well = board.checks
    found = {"id": 7, "kind": "altered", "t": 0, "found": 0, "symbol": "DV-ALPHA", "state": "open", "what": "The two records differ.",
             "differs": [["price", "1.00 USD", "1.25 USD"]], "explained_by": "", "explanation": ""}  # fmt: skip
    board.checks = {**well, "open_breaks": 1.0, "breaks": [found]}
    try:
        tab.page.goto(address)
        expect(tab.page.locator("#o-checks")).to_contain_text("1 open reconciliation break;", timeout=SLOW_MS)
        expect(tab.page.locator("#o-checks .alert")).to_contain_text("Altered · DV-ALPHA · break 7")
        expect(tab.page.locator("#o-checks .differs tr")).to_have_text(
            ["price", "our record1.00 USD", "drop copy1.25 USD"]
        )
        expect(tab.page.locator("#o-checks .alert")).to_be_in_viewport()
    finally:
        board.checks = well
    expect(tab.page.locator("#o-checks")).to_contain_text("All 42 fills", timeout=SLOW_MS)
    assert tab.complaints == []


def test_a_break_is_explained_and_closed_on_the_page_with_words(
    board: Board, kept: Store, address: str, tab: Tab
) -> None:
    row = {"key": "missing_own/7/1/3", "kind": "missing_own", "t_ms": 0, "run_ns": 7, "session": 1, "execution": 3,
           "symbol": "DV-BRAVO", "detail": {"side": 1, "qty": 5, "price": 401, "tick_usd": 0.25, "lot": 1.0}}  # fmt: skip
    with kept.write() as connection:
        insert_breaks(connection, [row], 0)
    checks = Checks(kept, board.clock)
    board.ask = lambda: {**board.checks, **checks(), "open_breaks": None, "age": 0.4}
    try:
        tab.page.goto(address)
        shown = tab.page.locator('[data-o="breaks"] .alert')
        expect(shown).to_contain_text("Missing in our record · DV-BRAVO", timeout=SLOW_MS)
        expect(shown.locator(".differs tr").nth(1)).to_have_text("our record–––")
        expect(shown.locator(".differs tr").nth(2)).to_have_text("drop copybuy5100.25 USD")
        expect(tab.page.locator("#o-checks")).to_have_attribute("data-open", "")
        shown.get_by_role("button").click()
        tab.page.locator("#o-break-explain").click()
        expect(tab.page.locator("#o-break-said")).to_have_text("Say in a few words what is known of it.")
        assert kept.breaks.count_open() == 1
        tab.page.locator("#o-break-comment input").fill("asked the venue")
        tab.page.locator("#o-break-explain").click()
        expect(tab.page.locator("#o-break-dialog")).to_be_hidden(timeout=SLOW_MS)
        expect(shown).to_contain_text("Explained by operator at 127.0.0.1: asked the venue", timeout=SLOW_MS)
        expect(tab.page.locator("#o-checks")).not_to_have_attribute("data-open", "")
        shown.get_by_role("button").click()
        expect(tab.page.locator("#o-break-explain")).to_be_hidden()
        tab.page.locator("#o-break-comment input").fill("booked by hand")
        tab.page.locator("#o-break-close").click()
        expect(shown).to_have_count(0, timeout=SLOW_MS)
        tab.page.locator("#o-checks summary").click()
        closed = tab.page.locator('[data-o="closed"] .alert')
        expect(closed).to_contain_text("asked the venue", timeout=SLOW_MS)
        expect(closed).to_contain_text("booked by hand")
        assert kept.breaks.list()[0].state == "closed"
    finally:
        board.ask = lambda: board.checks
    assert tab.complaints == []


def test_a_silent_engine_is_said_with_the_age_of_what_is_shown(board: Board, address: str, tab: Tab) -> None:
    tab.page.goto(address)
    expect(tab.page.locator("#o-blotter tbody tr").first).to_be_visible(timeout=SLOW_MS)
    board.alive = False
    try:
        expect(tab.page.locator('[data-o="stale"]')).to_contain_text("what is shown is", timeout=SLOW_MS)
        expect(tab.page.locator("#o-blotter tbody tr").first).to_be_visible()
    finally:
        board.alive = True
    expect(tab.page.locator('[data-o="stale"]')).to_be_hidden(timeout=SLOW_MS)
    assert tab.complaints == []


def test_the_page_fits_a_phone(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(address)
    expect(page.locator("#o-blotter tbody tr").first).to_be_visible(timeout=SLOW_MS)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator("#o-working tbody tr button").first).to_be_attached()
    for panel in ("#o-window", "#o-working .scroll"):
        wide, shown = page.evaluate(
            f"[document.querySelector('{panel}').scrollWidth, document.querySelector('{panel}').clientWidth]"
        )
        assert wide <= shown
    context.close()
