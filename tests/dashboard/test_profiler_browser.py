"""The Profiler page in a real browser: a hostile profile is drawn as words, a box can be gone into, a profile can be asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from console.bottlenecks import BottleneckCollector
from console.profiling import Profiling
from console.readings import Readings
from resources.attach import Taken
from resources.sampler import Sampler
from tests.dashboard.demo_services import Desk, serving
from tests.dashboard.test_browser import FLAGS, SLOW_MS, Tab

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=document.body.dataset.hacked=1> (x.py:1)"


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    stacks = {("main (app.py:1)", HOSTILE, "leaf (a.py:2)"): 60, ("main (app.py:1)", "other (b.py:3)"): 40}
    monkeypatch.setattr("console.profiling.take", lambda *_: Taken(stacks, "samples"))
    desk = Desk(tmp_path)
    sampler = Sampler()

    def pids() -> list[tuple[str, int]]:
        return [("console", os.getpid()), ("engine", os.getpid())]

    bottlenecks = BottleneckCollector(Readings(desk.store.live, sampler, pids), sampler, lambda words, t_ms: None)
    profiling = Profiling(desk.store.profiles, sampler, bottlenecks, pids, lambda: True, desk.clock)
    desk.services = replace(desk.services, profiles=profiling)
    desk.start()
    try:
        with serving(desk.services) as url:
            yield url
    finally:
        profiling.stop()
        bottlenecks.close()
        desk.stop()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "dark"), (390, "light")])
def test_a_profile_is_asked_for_and_drawn(address: str, browser: Browser, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)  # type: ignore[arg-type]
    tab = Tab(context.new_page())
    page = tab.page
    expect.set_options(timeout=SLOW_MS)
    page.goto(f"{address}/profiler")
    controls = page.locator("#take-controls")
    controls.get_by_label("Process").select_option("engine")
    controls.get_by_role("button", name="Take it").click()
    expect(page.locator("#take-note")).to_contain_text("why is the profile taken?")
    controls.get_by_label("Why").fill("p99 rose")
    controls.get_by_role("button", name="Take it").click()
    row = page.locator("#profile-rows tr", has_text="p99 rose")
    expect(row).to_contain_text("100 samples")
    row.get_by_role("button").click()
    boxes = page.locator("#flame .flame-box")
    expect(boxes).to_have_count(5)
    expect(page.locator("#flame text", has_text="<img src=x")).to_have_count(1)
    expect(page.locator("#function-rows")).to_contain_text(HOSTILE)
    assert page.locator("#flame img").count() == 0
    assert page.evaluate("document.body.dataset.hacked") is None
    page.locator("#flame .flame-box", has_text="<img src=x").click()
    expect(boxes).to_have_count(2)
    page.locator("#flame-path").get_by_role("button", name="all").click()
    expect(boxes).to_have_count(5)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.reload()
    expect(boxes).to_have_count(5)  # the address names the profile
    expect(page.locator("#bottleneck-sentence")).to_contain_text("no calm time to compare with yet")
    refused = [words for words in tab.complaints if "409" not in words]
    assert refused == []
    context.close()
