"""The Resources page: what it says of recorded series, of none, and in a real browser."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

from alerts.options import AlertOptions
from alerts.service import AlertService
from console.resourceroom import resource_room
from dashboard.room.limits import Limits, limits_of
from dashboard.room.machine import Figure, Machine, read_machine
from dashboard.room.resourceroom import NO_PLAN, Bottleneck, ResourceRoom
from dashboard.room.resourcesview import OVERHEAD_LIMIT, resources_view
from metrics.catalogue import series
from metrics.frame import Frame
from metrics.series import Schema, Series
from resources.leaks import LeakVerdict
from resources.memoryoptions import MemoryOptions
from tests.dashboard.demo_services import Desk, serving, wait_until
from tests.dashboard.test_browser import FLAGS, SLOW_MS, Tab
from tests.dashboard.test_risk import DRAWN_WITHIN

NOW_S = 70
MIB = 2.0**20
ABSENCE = "no NVIDIA driver on this host"
PROCESSES = {"engine": 180, "risk": 210, "console": 330, "supervisor": 40}
HOSTILE = "<img src=x onerror=alert(1)>/a.py:12"


def one(name: str, /, **labels: str) -> Series:
    return series(f"deskvigil_{name}", **labels)


def host(second: int) -> dict[Series, float]:
    return {
        one("host_cpus"): 4,
        one("host_cpu_busy_ratio"): 0.42 + 0.02 * (second % 5),
        one("host_cpu_core_busy_ratio", cpu="0"): 0.31,
        one("host_cpu_core_busy_ratio", cpu="1"): 0.93,
        one("host_cpu_mode_ratio", mode="steal"): 0.012,
        one("host_cpu_quota_periods_total"): 0,
        one("host_cpu_throttled_seconds_total"): 0,
        one("host_processes_running"): 6,
        one("host_load_average", window="5m"): 3.0,
        one("host_memory_total_bytes"): 16 * 1024 * MIB,
        one("host_memory_available_bytes"): 9.5 * 1024 * MIB,
        one("host_memory_used_ratio"): 0.41,
        one("host_swap_total_bytes"): 0,
        one("host_swap_used_ratio"): 0,
        one("host_swap_bytes_total", direction="in"): 0,
        one("host_page_faults_total", kind="major"): 2.0 * second,
        one("host_oom_kills_total"): 1.0 if second > 5 else 0.0,
        **{one("host_pressure_ratio", resource=name, kind="some"): 0.03 * (1 + second % 3) for name in ("cpu", "io")},
        one("host_pressure_ratio", resource="memory", kind="some"): 0.0,
        one("host_pressure_ratio", resource="memory", kind="full"): 0.0,
    }


def processes(second: int) -> dict[Series, float]:
    found: dict[Series, float] = {}
    for name, mib in PROCESSES.items():
        found[one("process_up", process=name)] = 1.0
        found[one("process_start_time_seconds", process=name)] = 1.7e9
        found[one("process_cpu_ratio", process=name)] = mib / 1000
        found[one("process_resident_memory_bytes", process=name)] = (mib + 40 + second / 10) * MIB
        found[one("process_page_faults_total", process=name, kind="major")] = 0.0
    for le, count in (("0.0001", 50), ("0.001", 80), ("0.005", 99), ("0.01", 100), ("+Inf", 100)):
        found[one("process_gc_pause_duration_seconds_bucket", process="console", le=le)] = count
    found[one("process_gc_pause_duration_seconds_count", process="console")] = 100
    found[one("process_gc_pause_seconds_total", process="console")] = 0.07
    found[one("process_gc_pause_longest_seconds", process="console")] = 0.0062
    return found


def memory(second: int, verdict: LeakVerdict = LeakVerdict.LEAK) -> dict[Series, float]:
    found: dict[Series, float] = {}
    for name in ("engine", "risk", "console"):
        leaks = name == "console" and verdict >= LeakVerdict.SUSPECTED
        found[one("process_anonymous_memory_bytes", process=name)] = PROCESSES[name] * MIB
        for state, mib in (("in_use", 90), ("free", 30), ("mapped", 20)):
            found[one("process_heap_bytes", process=name, state=state)] = mib * MIB
        found[one("process_heap_fragmentation_ratio", process=name)] = 0.25
        found[one("process_python_blocks", process=name)] = 410_000
        found[one("process_memory_report_age_seconds", process=name)] = 4.0
        found[one("resource_leak_verdict", process=name)] = float(verdict if leaks else LeakVerdict.CALM)
        found[one("resource_leak_confidence_ratio", process=name)] = 0.998 if leaks else 0.31
        slopes = (17_000.0, 15_000.0, 19_000.0) if leaks else (120.0, -300.0, 500.0)
        for what, slope in zip(("slope", "slope_low", "slope_high"), slopes, strict=True):
            found[one(f"resource_leak_{what}_bytes_per_second", process=name)] = slope
    found[one("resource_leak_site_bytes_per_second", process="console", site=HOSTILE)] = 16_500.0
    return found


def profiler(second: int) -> dict[Series, float]:
    return {
        one("profiler_overhead_ratio"): 0.0013,
        one("profiler_run_delay_seconds_total", process="engine"): 0.02 * second,
        one("profiler_run_delay_seconds_total", process="console"): 0.005 * second,
    }


def gpu(second: int) -> dict[Series, float]:
    return {
        one("gpu_devices"): 1,
        one("gpu_info", gpu="0", name="NVIDIA Z1", uuid="u", driver="1"): 1,
        one("gpu_up", gpu="0"): 1,
        one("gpu_utilisation_ratio", gpu="0"): 0.37,
        one("gpu_memory_used_ratio", gpu="0"): 0.25,
        one("gpu_memory_used_bytes", gpu="0"): 20 * 1024 * MIB,
        one("gpu_memory_total_bytes", gpu="0"): 80 * 1024 * MIB,
        one("gpu_temperature_celsius", gpu="0"): 61,
        one("gpu_power_watts", gpu="0"): 310,
        one("gpu_power_limit_watts", gpu="0"): 700,
        one("gpu_throttle", gpu="0", reason="power"): 1,
        one("gpu_throttled", gpu="0"): 1,
        one("gpu_ecc_errors_total", gpu="0", kind="uncorrected"): 0,
        Series("deskvigil_risk_gpu_pool_held_bytes", ()): 64 * MIB,
        Series("deskvigil_risk_gpu_pool_hits_total", ()): 1_200,
    }


SOURCES = {"host": host, "process": processes, "memory": memory, "profiler": profiler, "gpu": gpu}


def record(desk: Desk, *names: str, until: int = 0) -> None:
    """A frame a second of these sources, the newest `until` seconds before now."""
    now_ns = desk.clock.now_ns()
    schemas: dict[str, Schema] = {}
    for second in range(NOW_S + 1):
        for name in names:
            rows = SOURCES[name](second)
            schema = schemas.setdefault(name, Schema(name, tuple(rows)))
            t_ns = now_ns - (NOW_S - second + until) * 1_000_000_000
            desk.store.live.append(Frame(schema, t_ns, np.array(list(rows.values()), dtype=np.float64)))


def view(desk: Desk, room: ResourceRoom | None = None, absence: str = ABSENCE) -> dict[str, Any]:
    machine = read_machine(desk.services, desk.clock.now_ns() // 1_000_000)
    return resources_view(machine, room or ResourceRoom(), absence, "CPU")


def cells(answer: dict[str, Any], name: str) -> dict[str, list[str]]:
    return {row["cells"][0]: row["cells"][1:] for row in answer["panels"][name]["rows"] if "cells" in row}


def groups(answer: dict[str, Any], name: str) -> list[str]:
    return [row["group"] for row in answer["panels"][name]["rows"] if "group" in row]


def test_each_column_has_utilisation_saturation_and_errors(desk: Desk) -> None:
    record(desk, *SOURCES)
    answer = view(desk, absence="")
    for name in ("cpu", "memory"):
        assert groups(answer, name) == ["Utilisation", "Saturation", "Errors"]
    processors, held = cells(answer, "cpu"), cells(answer, "memory")
    assert processors["all cores"][0] == "42.0 %"
    assert processors["busiest core"][0] == "93.0 %"
    assert processors["other programs"][0] == f"{0.42 * 4 - 0.76:.2f} cores"
    assert processors["running or waiting, a core"][0] == "1.50"
    assert processors["engine kept waiting, 1 min"][0] == "2.00 %"
    assert processors["held back by a quota"][0] == "no quota"
    assert list(processors)[2:6] == [f"{name}, of a core" for name in ("engine", "risk", "console", "supervisor")]
    assert held["swap in use"][0] == "there is none"
    assert held["console, anonymous"][0] == "330.0 MiB"
    assert held["faults that wait for a disk, 1 min"][0] == "2.0 /s"
    assert held["killed for want of memory, since the boot"][0] == "1"
    assert answer["said"] == ""


def test_a_gpu_is_listed_with_what_slows_it_and_the_pool_that_the_risk_process_publishes(desk: Desk) -> None:
    record(desk, *SOURCES)
    answer = view(desk, absence="")
    assert groups(answer, "gpu") == ["Utilisation", "Saturation", "Errors", "Memory pool of the risk process"]
    found = cells(answer, "gpu")
    assert found["clocks held down"][0] == "power"
    assert found["power"][:2] == ["310 W", "≤ 700 W"]
    assert found["that is"][:2] == ["20.0 GiB", "of 80.0 GiB"]
    assert (found["hits"][0], found["held"][0]) == ("1,200", "64.0 MiB")
    assert answer["panels"]["gpu"]["note"] == "NVIDIA Z1"


def test_without_a_gpu_its_column_says_why_and_what_runs_instead(desk: Desk) -> None:
    record(desk, "host")
    panel = view(desk)["panels"]["gpu"]
    assert panel["rows"] == []
    assert panel["nothing"] == "No NVIDIA driver on this host. Monte-Carlo runs on the CPU."


def test_a_page_without_any_source_says_no_data_everywhere_and_names_who_is_silent(desk: Desk) -> None:
    answer = view(desk)
    assert answer["said"].startswith("No data from the host collector (none in the last hour), the process collector")
    for name, panel in answer["panels"].items():
        shown = [row["cells"][1] for row in panel["rows"]]
        assert panel["nothing"] or set(shown) <= {"no data", "none"}, name
    assert answer["plan"] == NO_PLAN
    assert answer["bottleneck"]["sentence"].startswith("No data: ")


def test_a_collector_that_has_gone_silent_is_named_with_its_age(desk: Desk) -> None:
    record(desk, "host", "gpu", until=120)
    record(desk, "process")
    answer = view(desk)
    assert answer["said"] == "No data from the host collector for 2 m 00 s, the GPU collector for 2 m 00 s."
    assert answer["panels"]["cpu"]["note"] == ""
    assert cells(answer, "cpu")["engine, of a core"][0] == "18.0 %"
    assert cells(answer, "cpu")["all cores"] == ["no data", "", ""]


def test_a_counter_that_begins_anew_has_grown_by_what_it_has(desk: Desk) -> None:
    faults = one("host_page_faults_total", kind="major")
    schema = Schema("host", (one("host_cpus"), faults))
    now_ns = desk.clock.now_ns()
    for second, total in enumerate((100.0, 110.0, math.nan, 4.0, 8.0)):
        desk.store.live.append(Frame(schema, now_ns - (4 - second) * 1_000_000_000, np.array([2.0, total])))
    machine = read_machine(desk.services, now_ns // 1_000_000)
    assert machine.rate("deskvigil_host_page_faults_total", kind="major").value == pytest.approx((10 + 4 + 4) / 4)
    assert math.isnan(machine.rate("deskvigil_host_page_faults_total", kind="all").value)


def test_figures_of_a_moment_ago_tell_their_age(desk: Desk) -> None:
    record(desk, "host", until=7)
    age = cells(view(desk), "cpu")["all cores"][2]
    assert age.endswith(" s")
    assert 7.0 <= float(age.removesuffix(" s")) < 9.0


def test_limits_are_those_of_the_shipped_rules(desk: Desk) -> None:
    limits = limits_of(AlertService(desk.store, desk.query, AlertOptions(), desk.clock))
    for rule, bound in (
        ("HostCpuBusy", 0.95),
        ("HostMemoryLow", 0.9),
        ("MemoryOverBudget", 7e9),
        ("HostOverloaded", 3),
    ):
        assert limits.bounds[rule][1] == bound
    record(desk, "host")
    machine = replace(read_machine(desk.services, desk.clock.now_ns() // 1_000_000), limits=limits)
    found = cells(resources_view(machine, ResourceRoom(), "", "CPU"), "cpu")
    assert found["all cores"][1] == "≤ 95.0 %"
    assert found["load of 5 min, a core"][1] == "≤ 3.00"
    named = {use for use in RULES_NAMED if use not in limits.bounds}
    assert named == set(), "the page names rules that are not shipped"


RULES_NAMED = (
    "HostCpuBusy", "HostCpuPressure", "HostOverloaded", "ConsoleBusy", "HostMemoryLow", "MemoryOverBudget",
    "MemoryNearLimit", "HostSwapUsed", "HostMemoryPressure", "HostSwapping", "HostOutOfMemoryKill", "GpuMemoryLow", "GpuThrottled",
    "GpuHot", "GpuMemoryErrors", "GpuRowRemapPending", "GpuRowRemapFailed", "GpuPcieReplays", "GpuDown", "GpuLost", "ConsoleStandsStill",
    "MemoryLeak", "MemoryGrowing",
)  # fmt: skip


def test_a_leak_is_told_with_its_slope_confidence_and_line(desk: Desk) -> None:
    record(desk, *SOURCES)
    answer = view(desk, ResourceRoom(leak_bytes_s=0.25e6 / 60))
    found = cells(answer, "leaks")
    verdict, slope, interval, confidence, where = found["console"]
    assert verdict == "leaks: its allocators confirm it"
    assert (slope, interval, confidence) == ("+1.02 MB/min", "+0.90 to +1.14", "100 %")
    assert where == f"{HOSTILE} (+0.99 MB/min)"
    assert found["engine"][0] == "calm"
    assert answer["panels"]["leaks"]["severity"] == "warning"
    assert "above 0.25 MB/min" in answer["panels"]["leaks"]["note"]
    assert cells(answer, "summary")["Leaks"] == ["1 of 3", "console"]


def test_pauses_for_garbage_are_quantiles_of_the_histogram_and_never_above_the_longest(desk: Desk) -> None:
    record(desk, "process")
    answer = view(desk)
    found = cells(answer, "garbage")
    assert found["half of them within"][0] == "100 µs"
    assert found["99 % of them within"][0] == "5.00 ms"
    assert found["longest"][0] == "6.20 ms"
    bars = {row["cells"][0]: row["part"] for row in answer["panels"]["garbage"]["rows"] if "part" in row}
    assert bars == {"up to 100 µs": 1.0, "up to 1.00 ms": 0.6, "up to 5.00 ms": 0.38, "up to 10.0 ms": 0.02}


def test_watching_that_costs_more_than_its_limit_is_marked() -> None:
    def cost(ratio: float) -> dict[str, Any]:
        watching = one("profiler_overhead_ratio")
        machine = Machine({watching.name: {watching: Figure(ratio, 0.1)}}, limits=Limits({}))
        return resources_view(machine, ResourceRoom(), "", "CPU")["panels"]["cost"]["rows"][0]  # type: ignore[no-any-return]

    assert cost(OVERHEAD_LIMIT)["severity"] == ""
    assert cost(OVERHEAD_LIMIT)["cells"] == [
        "sampling, search for bottlenecks",
        "0.50 %",
        "≤ 0.5 %",
        "100 ms",
    ]
    assert cost(1.2 * OVERHEAD_LIMIT)["severity"] == "warning"


def test_what_is_set_about_memory_is_told_as_it_is_set() -> None:
    room = resource_room(MemoryOptions(keep_freed=False, gc_allocations=5_000, leak_mb_per_minute=0.6), None, None)
    assert room.plan == "no plan is tried on this machine"
    told = dict(room.measures)
    assert told["risk: malloc keeps freed blocks"] == "off"
    assert told["garbage: youngest generation"] == "after 5,000 containers"
    assert room.leak_bytes_s == pytest.approx(10_000.0)
    assert math.isnan(resource_room(MemoryOptions(report=False), None, None).leak_bytes_s)
    assert "collectors.sampler_hz" in room.search.absence


def test_the_api_answers(url: str) -> None:
    answer = httpx2.get(f"{url}/api/desk/resources")
    assert answer.status_code == 200
    assert answer.json()["panels"].keys() >= {
        "cpu",
        "memory",
        "gpu",
        "leaks",
        "garbage",
        "allocators",
        "cost",
        "measures",
    }


SENTENCE = "P99 of order to acknowledgement rose (61 µs to 4.1 ms) because other programs take the processors."
CLIPPED = """[...document.querySelectorAll('.rail-link span:not(.icon), .row-use .panel')].filter(
  (one) => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== 'inline').map((one) => one.textContent)"""
RAIL = """[...document.querySelectorAll('.rail-link')].every((link) => {
  const [box, rail] = [link.getBoundingClientRect(), document.querySelector('.rail').getBoundingClientRect()];
  return box.left >= rail.left && box.right <= rail.right && box.top >= rail.top && box.bottom <= rail.bottom
    && [...link.children].every((one) => one.getBoundingClientRect().right <= box.right + 1);
})"""


@pytest.fixture
def room(desk: Desk) -> dict[str, ResourceRoom]:
    now_ms = desk.clock.now_ns() // 1_000_000
    calm = replace(resource_room(MemoryOptions(), None, None), search=Bottleneck(SENTENCE, now_ms - 60_000, 0, ""))
    return {"now": calm}


@pytest.fixture
def address(desk: Desk, room: dict[str, ResourceRoom]) -> Iterator[str]:
    desk.script.silent = True
    shipped = AlertService(desk.store, desk.query, AlertOptions(), desk.clock)
    with serving(replace(desk.services, alerts=shipped, resources=lambda: room["now"])) as url:
        yield url


@pytest.mark.browser
@pytest.mark.parametrize(
    ("width", "scheme", "sources"),
    [
        (1440, "dark", ("host", "process", "memory", "profiler")),
        (390, "light", ("host", "process", "memory", "profiler")),
        (1440, "light", tuple(SOURCES)),
        (390, "dark", ()),
        (1440, "dark", ()),
    ],
)
def test_the_page_fits_and_says_what_there_is(
    desk: Desk, address: str, chromium: str, width: int, scheme: str, sources: tuple[str, ...]
) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        height = 900 if width > 400 else 844
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
        tab = Tab(context.new_page())
        page = tab.page
        record(desk, *sources)
        page.goto(f"{address}/engine")
        page.locator('.rail-link[href="/resources"]').click()
        expect(page.locator("#resources-bottleneck-words")).to_have_text(SENTENCE, timeout=SLOW_MS)
        expect(page.locator("#resources-plan-words")).to_have_text(NO_PLAN)
        if sources:
            expect(page.locator("#resources-cpu tbody")).to_contain_text("engine")
            expect(page.locator("#resources-leaks tbody")).to_contain_text(HOSTILE)
            expect(page.locator("#resources-garbage .bar-cell")).to_have_count(4)
            for chart in ("chart-own-memory", "chart-pressure"):
                page.locator(f"#{chart}").scroll_into_view_if_needed()
                expect(page.locator(f"#{chart} .scatterlayer path").first).to_be_attached(timeout=SLOW_MS)
            expect(page.locator("#resources-cpu tbody")).to_contain_text("≤ 95.0 %")
        else:
            expect(page.locator("#resources-cpu [data-nothing]")).to_have_text("no data")
            expect(page.locator("#room-said")).to_contain_text("No data from the host collector")
        if "gpu" not in sources:
            expect(page.locator("#resources-gpu [data-nothing]")).to_contain_text("No NVIDIA driver")
        wait_until(lambda: page.evaluate(DRAWN_WITHIN), "every chart is drawn within its place")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.evaluate(RAIL), "every entry of the navigation is inside it"
        assert page.evaluate(CLIPPED) == []
        if width > 900:
            for narrower in (1100, 800):
                page.set_viewport_size({"width": narrower, "height": height})
                assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), narrower
            page.set_viewport_size({"width": width, "height": height})
        page.evaluate("window.scrollTo(0, 0)")
        if folder := os.environ.get("DESKVIGIL_SCREENSHOTS"):
            page.screenshot(path=f"{folder}/resources_{width}_{scheme}_{len(sources)}.png", full_page=True)
        page.locator("#resources-bottleneck a").click()
        expect(page).to_have_url(f"{address}/profiler", timeout=SLOW_MS)
        expect(page.locator("#profiler-said")).to_be_attached()
        assert tab.complaints == []
        browser.close()
