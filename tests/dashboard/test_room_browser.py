from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from dashboard.room.engineroom import PARTS, AlgoFigures, Cause, EngineRoom, Ratio, SlowOrder
from metrics.frame import Frame
from metrics.series import Schema, Series, make_labels
from tests.dashboard.demo_services import Desk, serving
from tests.dashboard.test_browser import FLAGS, SLOW_MS, Tab

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=alert(1)>"


def series(what: str, **labels: str) -> Series:
    return Series(f"deskvigil_{what}", make_labels(labels))


BOUNDS = ("1e-06", "1e-05", "0.0001", "+Inf")
STAGE = "order_to_fill"
SCHEMA = Schema(
    "engine",
    (
        series("engine_up"),
        series("engine_heartbeat_age_seconds"),
        series("engine_breaker_state", breaker="feed"),
        series("engine_orders_rejected_total", reason="price_collar"),
        *(series("kpi_latency_seconds", stage=STAGE, quantile=q) for q in ("0.5", "0.95", "0.99", "0.999")),
        series("engine_latency_max_seconds", stage=STAGE),
        *(series(f"engine_{STAGE}_seconds_bucket", le=le) for le in BOUNDS),
    ),
)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def room(desk: Desk) -> EngineRoom:
    now_ms = desk.clock.now_ns() // 1_000_000
    assert len(PARTS) == 4
    return EngineRoom(
        causes=(Cause("strategy:maker", "operator", "HALTED", "anna", HOSTILE, now_ms - 65_000),),
        slowest=(SlowOrder(now_ms, -7, "DV-ALPHA", True, 4e-3, (3e-3, 5e-4, 1e-4, 4e-4)),),
        algos=(
            AlgoFigures("market", 9, Ratio(1.0, 1.0, 1.0), Ratio(3.0, 2.0, 4.0)),
            AlgoFigures("peg", 40, Ratio(0.99, 0.98, 1.0), Ratio(0.5, 0.2, 0.8), Ratio(-0.01, -0.02, 0.0), Ratio(-2.5, -3.5, -1.5)),
        ),
        baseline="market",
        parents=49,
        journal_record_bytes=64,
    )  # fmt: skip


@pytest.fixture
def address(desk: Desk, room: EngineRoom) -> Iterator[str]:
    """A desk whose engine spoke for a minute and has been silent for a moment."""
    now_ns = desk.clock.now_ns()
    for second in range(60, -1, -1):
        n = 60.0 - second
        buckets = [n, 3 * n, 4 * n, 4 * n]
        row = [1.0, 0.0, 2.0, 0.0, 2e-6, 2e-5, 6e-4, 7e-4, 8e-4, *buckets]
        desk.store.live.append(Frame(SCHEMA, now_ns - second * 1_000_000_000, np.array(row)))
    row = [0.0, 1.0, *([np.nan] * (len(SCHEMA) - 2))]
    desk.store.live.append(Frame(SCHEMA, now_ns + 1_000_000_000, np.array(row)))
    with serving(replace(desk.services, room=lambda: room)) as url:
        yield url


@pytest.mark.parametrize(("width", "scheme"), [(1440, "dark"), (390, "light")])
def test_both_pages_lead_to_what_is_wrong_and_fit(address: str, browser: Browser, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)  # type: ignore[arg-type]
    tab = Tab(context.new_page())
    page = tab.page
    page.goto(f"{address}/engine")
    expect(page.locator("#engine-causes tbody tr").first).to_contain_text(HOSTILE, timeout=SLOW_MS)
    expect(page.locator("#engine-causes")).to_have_attribute("data-severity", "critical")
    expect(page.locator("#engine-algos tbody tr").nth(1)).to_contain_text("−2.50 ± 1.00 bp")
    expect(page.locator("#engine-rejects .absence")).not_to_be_empty()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.locator('.rail-link[href="/latency"]').click()
    expect(page.locator("#stages-rows tr")).to_have_count(8, timeout=SLOW_MS)
    expect(page.locator("#slow-rows tr")).to_contain_text("4.00 ms")
    expect(page.locator("#slow-rows .stack")).to_have_attribute(
        "aria-label", "market data 3.00 ms, decision 500 µs, gates 100 µs, book and queue 400 µs"
    )
    page.locator('[data-window="15m"]').click()
    expect(page.locator("#heat-graph .heatmaplayer image").first).to_be_attached(timeout=SLOW_MS)
    expect(page.locator("#heat-graph")).to_contain_text("target 500 µs")
    page.locator('[data-stage="gate"]').click()
    expect(page.locator("#heat-nothing")).to_contain_text(
        "Gates: nothing was recorded in the last 15m.", timeout=SLOW_MS
    )
    assert page.url.endswith("?stage=gate&range=15m")
    page.reload()
    expect(page.locator('[data-stage="gate"]')).to_have_attribute("aria-pressed", "true", timeout=SLOW_MS)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert tab.complaints == []
    context.close()
