from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

from collectors.engine import EngineCollector
from console.riskroom import risk_device, risk_room
from dashboard.room.riskroom import RiskRoom, Share
from dashboard.room.riskview import risk_view
from engine.figures import DATA_DIR, load_covariances, load_market
from engine.montecarlo.options import RiskOptions
from engine.riskrunner import RiskRunner
from engine.telemetry import BlockSpec, BlockWriter, TableSpec
from metrics.clock import SystemClock
from metrics.frame import Frame
from metrics.series import Schema, Series, make_labels
from tests.dashboard.demo_services import Desk, serving, wait_until
from tests.dashboard.test_browser import FLAGS, SLOW_MS, Tab

POSITION = [("instrument", "<i4"), ("qty", "<f8"), ("mark_usd", "<f8")]


class Positions:
    """An engine's block with the default market's instruments, and the risk process that prices them."""

    def __init__(self, folder: Path) -> None:
        market = load_market()
        names = [instrument.symbol for instrument in market.instruments]
        table = TableSpec(POSITION, len(names))
        self.clock = SystemClock()
        self._block = BlockWriter(
            folder / "engine.block", BlockSpec("engine", (), (), {"positions": table}, {"instruments": names})
        )
        rows = self._block.tables["positions"]
        rows["instrument"], rows["qty"] = range(len(names)), np.linspace(-900, 1_200, len(names)).round()
        rows["mark_usd"] = market.initial_ticks * 0.01
        self._block.written[0] = len(names)
        options = RiskOptions(book=DATA_DIR / "options.json")
        self.risk_block = folder / "risk.block"
        self._runner = RiskRunner(options, folder / "engine.block", self.risk_block, self.clock, load_covariances())
        self.collector = EngineCollector(self.risk_block, "risk", self.clock)

    def look(self, mark: float | None = None) -> Frame:
        if mark is not None:
            self._block.tables["positions"]["mark_usd"][0] = mark
        self._block.publish(self.clock.now_ns())
        self._runner.run()
        return self.collector.collect(self.clock.now_ns())


@pytest.fixture
def positions(tmp_path: Path) -> Positions:
    return Positions(tmp_path)


def test_the_page_shows_what_the_risk_process_published(positions: Positions) -> None:
    positions.look()
    room = risk_room(positions.collector)
    view = risk_view(room)
    assert (room.absence, room.state, view["said"]) == ("", "ok", "")
    assert sum(one.shortfall for one in room.positions) == pytest.approx(room.shortfall)
    assert sum(one.var for one in room.positions) == pytest.approx(room.var)
    assert view["positions"][0]["part"] == 1.0
    assert {one["name"]: one["held"][0] for one in view["positions"]}["DV-EMBER"] == "33"
    assert len(room.positions) == 16
    assert [row["name"] for row in view["stress"]["rows"]] == ["−25 %", "0 %", "+25 %", "+50 %", "+100 %"]
    assert view["stress"]["rows"][1]["cells"][view["stress"]["spots"].index("0 %")]["text"] == "0"
    states = {row["cells"][0]: row["cells"][1:] for row in view["states"]}
    assert states["State"][0] == "live"
    assert states["VaR 99 %"][0] == f"{room.var:,.0f} USD"
    assert states["Gross exposure"][1] == "6 options"
    assert room.device in ("absent", "on")
    assert room.device_words
    assert risk_device(positions.collector) == ("GPU" if room.device == "on" else "CPU")


def test_where_there_is_no_figure_the_page_says_why_and_shows_none(positions: Positions) -> None:
    positions.look(float("nan"))
    view = risk_view(risk_room(positions.collector))
    assert "no sound price or quantity (DV-ALPHA:" in view["said"]
    assert view["nothing"].startswith("no data: a position has no sound price")
    assert view["histogram"] is view["convergence"] is view["stress"] is None
    assert view["positions"] == []
    assert view["states"][1]["cells"][:2] == ["VaR 99 %", "no data"]
    gone = risk_view(RiskRoom(absence="the risk process left a block behind and is gone"))
    assert gone["said"] == "No value at risk: the risk process left a block behind and is gone."
    assert gone["stale"] is True
    assert gone["states"][0]["cells"][1] == "silent"


@pytest.mark.parametrize(
    ("state", "words", "cell"),
    [
        ("absent", "no NVIDIA driver on this host", None),
        ("on", "NVIDIA Z1", ["Computed by", "GPU", "NVIDIA Z1"]),
        ("failed", "out of memory", ["Computed by", "CPU", "the GPU failed: out of memory"]),
    ],
)
def test_what_computes_is_told_where_there_is_a_gpu(state: str, words: str, cell: list[str] | None) -> None:
    states = risk_view(RiskRoom(state="ok", scenarios=2_000.0, device=state, device_words=words))["states"]
    assert next((one["cells"] for one in states if one["cells"][0] == "Computed by"), None) == cell
    assert [one["severity"] for one in states if one["cells"][0] == "Computed by"] in (
        [],
        ["warning" if state == "failed" else ""],
    )


def test_everything_shown_is_of_one_reading(positions: Positions, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector's thread goes on while a page is made."""
    positions.look()
    table = EngineCollector.table

    def meanwhile(self: EngineCollector, name: str) -> Any:
        positions.look(float("nan"))
        return table(self, name)

    monkeypatch.setattr(EngineCollector, "table", meanwhile)
    room = risk_room(positions.collector)
    assert (room.state, len(room.positions)) == ("ok", 16)


def test_a_flat_book_divides_nothing_by_nothing() -> None:
    room = RiskRoom(state="ok", positions=(Share("A", 0.0, 0.0, 0.0, 0.0),), stress=((0.0, 0.0, 0.0),))
    view = risk_view(room)
    assert view["positions"][0]["part"] == 0.0
    assert view["stress"]["rows"][0]["cells"] == [{"text": "0", "weight": 0.0}]


VAR = Series("deskvigil_risk_var_usd", make_labels({"confidence": "0.99"}))
SHORTFALL = Series("deskvigil_risk_expected_shortfall_usd", make_labels({"confidence": "0.975"}))
ERROR = Series("deskvigil_risk_var_standard_error_usd", ())


@pytest.fixture
def address(desk: Desk, positions: Positions) -> Iterator[str]:
    desk.script.silent = True
    now_ns = desk.clock.now_ns()
    positions.look()
    room = risk_room(positions.collector)
    schema, random = Schema("risk", (VAR, ERROR, SHORTFALL)), np.random.default_rng(3)

    def look(second: int) -> None:
        walk = 1.0 + 0.02 * random.standard_normal()
        row = np.array([room.var * walk, room.var_error, room.shortfall * walk])
        desk.store.live.append(Frame(schema, now_ns - second * 1_000_000_000, row))

    for second in range(240, 0, -1):
        look(second)
    with serving(replace(desk.services, risk=lambda: risk_room(positions.collector))) as url:
        look(0)  # the stream carries series that it has seen a frame of
        yield url


DRAWN_WITHIN = """[...document.querySelectorAll('.plot, .graph')].every((place) =>
  [...place.querySelectorAll('.main-svg')].every((svg) => svg.getBoundingClientRect().height <= place.clientHeight + 1))"""

TOTAL_IS_SEEN = """document.querySelector('#shares-rows tr:last-child').children[2].getBoundingClientRect().right
  <= document.querySelector('#shares .wide-table').getBoundingClientRect().right"""
TALL = "document.querySelector('#chart-risk .main-svg').clientHeight > 300"


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1440, "dark"), (390, "light"), (1440, "light"), (390, "dark")])
def test_the_page_draws_figures_and_then_says_why_there_are_none(
    address: str, chromium: str, positions: Positions, width: int, scheme: str
) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        height = 900 if width > 400 else 844
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
        tab = Tab(context.new_page())
        page = tab.page
        said: dict[str, object] = {"view": risk_view(risk_room(positions.collector))}
        page.route(
            "**/api/desk/risk",
            lambda route: route.fulfill(content_type="application/json", body=json.dumps(said["view"])),
        )
        page.goto(f"{address}/engine")
        page.locator('.rail-link[href="/risk"]').click()
        expect(page.locator("#shares-rows tr")).to_have_count(17, timeout=SLOW_MS)
        expect(page.locator("#stress-rows tr")).to_have_count(5)
        expect(page.locator("#loss-graph .barlayer path").first).to_be_attached(timeout=SLOW_MS)
        expect(page.locator("#settling-graph .scatterlayer path").first).to_be_attached(timeout=SLOW_MS)
        expect(page.locator("#loss-graph")).to_contain_text("VaR ")
        expect(page.locator("#chart-risk .scatterlayer path").first).to_be_attached(timeout=SLOW_MS)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        wait_until(lambda: page.evaluate(DRAWN_WITHIN), "every chart is drawn within its place")
        page.evaluate("document.querySelector('#loss-graph').style.height = '420px'")
        if width > 900:  # the neighbour of a panel that grows and shrinks again, with no new data
            wait_until(lambda: page.evaluate(TALL), "the chart grows with its neighbour")
        page.evaluate("document.querySelector('#loss-graph').style.height = ''")
        wait_until(lambda: page.evaluate(DRAWN_WITHIN), "every chart is drawn within its place")
        page.locator("#shares").scroll_into_view_if_needed()
        assert page.evaluate(TOTAL_IS_SEEN), "the total's figures are seen without scrolling sideways"
        page.evaluate("window.scrollTo(0, 0)")
        if folder := os.environ.get("DESKVIGIL_SCREENSHOTS"):
            page.screenshot(path=f"{folder}/risk_{width}_{scheme}.png", full_page=True)
        positions.look(float("nan"))
        said["view"] = risk_view(risk_room(positions.collector))
        expect(page.locator("#room-said")).to_contain_text("no sound price or quantity", timeout=SLOW_MS)
        expect(page.locator("#loss-nothing")).to_contain_text("no data: a position has no sound price")
        expect(page.locator("#shares-rows")).to_be_hidden()
        assert tab.complaints == []
        browser.close()
