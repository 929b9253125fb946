"""The Rules page in a real browser: a refused file is said, a backtest is drawn, a version is rolled back to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.dashboard.demo_services import Desk, serving
from tests.dashboard.test_browser import FLAGS, SLOW_MS, Tab

pytestmark = pytest.mark.browser
TRIED = """groups:
  - name: demo
    rules:
      - {alert: SlowFills, expr: 'deskvigil_kpi_order_to_fill_seconds{quantile="0.99"} > 0', labels: {severity: warning}}
"""


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    desk.start()
    yield desk
    desk.stop()


def test_files_versions_and_backtests(desk: Desk, tmp_path: Path, browser: Browser) -> None:
    rules = tmp_path / "demo.rules.yml"
    text = rules.read_text()
    with serving(desk.services) as url:
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        tab = Tab(context.new_page())
        page = tab.page
        page.goto(f"{url}/rules")
        expect(page.locator("#r-rules")).to_contain_text("SlowFills", timeout=SLOW_MS)
        expect(page.locator("#r-versions")).to_contain_text("start", timeout=SLOW_MS)

        rules.write_text(text.replace("SlowFills", "<img src=x onerror=document.body.dataset.hacked=1>"))
        page.click("#r-reload")
        expect(page.locator("#r-rules")).to_contain_text("<img src=x", timeout=SLOW_MS)
        rules.write_text("groups: [{name: g, rules: [{alert: A, expr: 'x >'}]}]")
        page.click("#r-reload")
        expect(page.locator("#r-files .problem")).to_contain_text("cannot parse 'x >'", timeout=SLOW_MS)
        expect(page.locator("#r-rules")).to_contain_text("<img src=x")
        rules.write_text(text + "\n# newer\n")
        page.click("#r-reload")
        expect(page.locator("#r-files")).to_contain_text("in use", timeout=SLOW_MS)

        page.locator("#r-versions button").last.click()
        expect(page.locator("#r-difference .gone").last).to_contain_text("# newer", timeout=SLOW_MS)
        page.get_by_role("button", name="Use version 1").click()
        expect(page.locator("#r-files")).to_contain_text("rolled back", timeout=SLOW_MS)
        assert rules.read_text().endswith("# newer\n")

        page.fill("#r-text", TRIED)
        page.get_by_role("button", name="Last day").click()
        expect(page.locator("#r-backtest .episodes span").first).to_be_visible(timeout=SLOW_MS)
        expect(page.locator("#r-backtest")).to_contain_text("1× (1 warning)")
        page.fill("#r-text", "groups: nothing")
        page.get_by_role("button", name="Last day").click()
        expect(page.locator("#r-backtest .problem")).to_contain_text("groups: must be a list", timeout=SLOW_MS)
        assert page.evaluate("document.body.dataset.hacked") is None
        context.close()
