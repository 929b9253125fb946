from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from console.engineroom import compare_algos
from dashboard.room.engineroom import Cause, EngineRoom
from dashboard.room.heatmap import heatmap
from dashboard.room.panels import engine_panels
from dashboard.room.readings import Readings, read
from dashboard.room.stages import QUANTILES, latency_now, limits
from dashboard.services import EngineInfo, ProcessInfo
from engine.algos.choice import Algo
from engine.algos.finished import FINISHED
from engine.control import Cause as EngineCause
from engine.events import Instrument
from engine.gates import TradingState
from engine.publisher import CAUSES, CAUSES_KEPT, Publisher
from engine.telemetry import BlockReader
from metrics.frame import Frame
from metrics.series import Schema, Series, make_labels
from tests.dashboard.demo_services import Desk

NOW_MS = 1_800_000_000_000
WELL = EngineInfo("ACTIVE", "synthetic market", True)


def series(what: str, **labels: str) -> Series:
    return Series(f"deskvigil_engine_{what}", make_labels(labels))


def rows(panels: dict[str, Any], name: str) -> list[tuple[str, ...]]:
    return [tuple(row["cells"]) for row in panels["panels"][name]["rows"]]


def test_what_restricts_trading_reaches_readers_of_the_block_the_strictest_first(tmp_path: Path) -> None:
    block = tmp_path / "engine.block"
    publisher = Publisher(block, (Instrument("AAA", 1, 1.0),), {})
    causes = {
        "loss": EngineCause(TradingState.REDUCING, "engine", "lost more than 50,000 USD", 1),
        "operator:AAA": EngineCause(TradingState.HALTED, "änna", "ü" * 300, 2),
    }
    publisher.show_causes(causes)
    publisher._block.publish(1)
    found = BlockReader(block).read().tables["causes"].view(CAUSES)
    assert [bytes(row["key"]).decode() for row in found] == ["operator:AAA", "loss"]
    assert bytes(found[0]["who"]).decode() == "änna"
    assert bytes(found[0]["reason"]).decode() == "ü" * 100  # cut between characters
    publisher.show_causes({f"operator:{i}": causes["loss"] for i in range(2 * CAUSES_KEPT)})
    publisher._block.publish(2)
    assert len(BlockReader(block).read().tables["causes"]) == CAUSES_KEPT
    publisher.show_causes({})
    publisher._block.publish(3)
    assert len(BlockReader(block).read().tables["causes"]) == 0


def test_series_that_an_engine_does_not_publish_are_no_data() -> None:
    panels = engine_panels(Readings(is_silent=False), EngineRoom(), WELL, (), NOW_MS)
    assert panels["panels"]["breakers"]["nothing"] == "no data: this engine publishes no breakers"
    assert ("Mode", "no data", "") in rows(panels, "summary")
    assert {text for _, text in rows(panels, "queues")} == {"no data"}
    assert ("not durable yet", "no data") in rows(panels, "journal")


def test_what_is_wrong_comes_first_and_is_marked() -> None:
    values = {
        series("breaker_state", breaker="feed"): 0.0,
        series("breaker_state", breaker="journal_disk"): 2.0,
        series("breaker_open_seconds", breaker="journal_disk"): 75.0,
        series("breaker_trips_total", breaker="journal_disk"): 3.0,
        series("degraded"): 1.0,
        series("journal_lost_records_total"): 7.0,
    }
    cause = Cause("strategy:maker", "operator", "HALTED", "anna", "thin book", NOW_MS - 65_000)
    panels = engine_panels(
        Readings(values, is_silent=False),
        EngineRoom(causes=(cause,), journal_record_bytes=64),
        EngineInfo("HALTED", "synthetic market", True),
        (ProcessInfo("risk", "running", 1, 0), ProcessInfo("engine", "restarting", None, 4)),
        NOW_MS,
    )
    first = {name: panels["panels"][name]["rows"][0] for name in ("breakers", "causes", "processes", "journal")}
    assert first["breakers"]["cells"] == ("journal disk", "open", "3", "1 m 15 s")
    assert first["causes"]["cells"][:5] == ("strategy:maker", "HALTED", "operator", "anna", "thin book")
    assert first["causes"]["cells"][5].startswith("1 m 05 s, from ")
    assert first["processes"]["cells"][:2] == ("engine", "restarting")
    assert first["journal"]["cells"] == ("lost to a full disk", "7")
    assert {row["severity"] for row in first.values()} == {"critical"}
    summary = {row["cells"][0]: row for row in panels["panels"]["summary"]["rows"]}
    assert (summary["Breakers"]["cells"][1], summary["Mode"]["severity"]) == ("1 not closed", "warning")


def test_a_silent_engine_shows_its_last_figures_and_their_age(desk: Desk) -> None:
    now_ms = desk.clock.now_ns() // 1_000_000
    schema = Schema("engine", (series("up"), series("heartbeat_age_seconds"), series("working_orders")))
    for back_s, values in ((12, (1.0, 0.0, 8.0)), (0, (0.0, 12.0, np.nan))):
        desk.store.live.append(Frame(schema, (now_ms - back_s * 1000) * 1_000_000, np.array(values)))
    readings = read(desk.services, now_ms)
    assert readings.is_silent
    assert readings.age_s == 12.0
    assert readings.value("deskvigil_engine_working_orders") == 8.0
    panels = engine_panels(readings, EngineRoom(absence="it was killed"), WELL, (), now_ms)
    assert panels["said"] == "No data from the engine for 12 s: it was killed. Its figures below are the last ones."
    assert panels["stale"] is True


def test_algorithms_are_compared_by_ratios_with_their_intervals() -> None:
    parents = np.zeros(5, dtype=FINISHED)
    parents["target"], parents["arrival"], parents["side"] = 100, 1000.0, 1
    parents["algo"] = [Algo.PEG, Algo.PEG, Algo.MARKET, Algo.MARKET, Algo.TWAP]
    parents["filled"] = [100, 50, 100, 100, 0]
    # Paid one tick more than at arrival in the baseline: 10 bp; the peg's first order 10 bp, its second nothing.
    parents["notional"] = [100 * 1001, 50 * 1000, 100 * 1001, 100 * 1001, 0]
    found = {one.name: one for one in compare_algos(parents)}
    assert next(iter(found)) == "market"
    assert (found["market"].fill.value, found["market"].slippage.value) == pytest.approx((1.0, 10.0))
    assert found["peg"].fill.value == pytest.approx(0.75)
    assert found["peg"].slippage.value == pytest.approx(10.0 / 1.5)
    assert found["peg"].slippage_against.value == pytest.approx(10.0 / 1.5 - 10.0)
    # Two fills of 1 and 0.5 about 0.75: the standard error of their mean is 0.25.
    assert found["peg"].fill.high - found["peg"].fill.value == pytest.approx(1.959964 * 0.25)
    assert math.isnan(found["twap"].slippage.value)
    assert math.isnan(found["twap"].fill.high)


def test_the_heatmap_counts_each_duration_in_its_row_and_column(desk: Desk) -> None:
    bounds = ("1e-06", "1e-05", "+Inf")
    p99 = Series("deskvigil_kpi_latency_seconds", make_labels({"stage": "gate", "quantile": "0.99"}))
    schema = Schema("engine", (*(series("gate_seconds_bucket", le=le) for le in bounds), p99))
    end_ms = desk.clock.now_ns() // 1_000_000 // 5_000 * 5_000
    for second in range(120, 59, -1):
        n = 120 - second  # a second: three up to 1 us, one up to 10 us
        t_ms = end_ms - 1000 * second
        desk.store.live.append(Frame(schema, t_ms * 1_000_000, np.array([3.0 * n, 4.0 * n, 4.0 * n, 9e-6])))
    answer = heatmap(desk.services, "gate", "15m")
    share = np.array(answer["share"])
    assert list(answer["edges"]) == [128e-9, 1e-6, 1e-5, 2e-5]
    column = np.flatnonzero(answer["counts"])[2]
    assert share[:, column] == pytest.approx([0.75, 0.25, np.nan], nan_ok=True)
    assert answer["counts"][column] == pytest.approx(20.0, rel=0.01)
    assert len(answer["t"]) == share.shape[1] + 1
    (line,) = answer["lines"]
    assert line["values"][column] == 9e-6
    assert np.isnan(line["values"][-6:]).all()  # the engine has been silent for a minute


def test_limits_are_those_of_the_rules(desk: Desk) -> None:
    class Rules:
        def rules(self) -> list[dict[str, object]]:
            text = "histogram_quantile(0.99, sum by (le) (rate(deskvigil_engine_gate_seconds_bucket[1m]))) > 0.0001"
            return [{"rules": [{"name": "RiskChecksSlow", "query": text}]}]

    found = limits(Rules())  # type: ignore[arg-type]
    assert found["gate"] == (1e-4, "RiskChecksSlow: p99 over 100 µs")
    assert found["order_to_fill"][0] == pytest.approx(500e-6)


def test_the_api_answers_and_names_what_is_wrong_with_a_question(url: str) -> None:
    assert httpx2.get(f"{url}/api/desk/engine").json()["panels"].keys() >= {"breakers", "journal", "algos"}
    assert httpx2.get(f"{url}/api/desk/latency").json()["stages"][0]["texts"] == ["no data"] * 5
    answer = httpx2.get(f"{url}/api/desk/latency/heatmap?stage=lunch")
    assert answer.status_code == 400
    assert "stage 'lunch' is not one of" in answer.json()["error"]
    answer = httpx2.get(f"{url}/api/desk/latency/heatmap?range=2y")
    assert answer.status_code == 400
    assert "range '2y' is not one of" in answer.json()["error"]


def test_a_stage_without_records_in_the_last_seconds_has_no_longest_time() -> None:
    known = {
        Series("deskvigil_kpi_latency_seconds", make_labels({"stage": "gate", "quantile": q})): 2e-6 for q in QUANTILES
    }
    readings = Readings({**known, series("latency_max_seconds", stage="gate"): 0.0}, is_silent=False)
    gate = next(row for row in latency_now(readings, EngineRoom(), {})["stages"] if row["name"] == "gate")
    assert (gate["texts"][0], gate["texts"][-1], gate["values"][-1]) == ("2.00 µs", "none", None)
    over = latency_now(readings, EngineRoom(), {"gate": (1e-6, "limit")})["stages"]
    assert {row["name"] for row in over if row["severity"]} == {"gate"}
