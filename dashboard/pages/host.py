"""Host & GPU: the machine that everything runs on. Filled by the live stream."""

from __future__ import annotations

from collections.abc import Mapping

from dashboard.components.graph import Line, LiveChart, live_chart
from dashboard.components.markup import Component, html
from dashboard.pages.page import Page
from dashboard.services import Services

_MIB, _GIB = 1 / 2**20, 1 / 2**30
_H, _G = "deskvigil_host_", "deskvigil_gpu_"
_NOTHING = "The host collector has sent nothing in this time."

_HOST_CHARTS: tuple[tuple[str, LiveChart], ...] = (
    (
        "cores",
        LiveChart(
            "CPU per core",
            (
                Line(_H + "cpu_core_busy_ratio", "cpu ", 100.0, "soft", family="cpu"),
                Line(_H + "cpu_busy_ratio", "all", 100.0),
            ),
            unit="%",
            note="time not idle",
            high=100.0,
            compact=False,
            empty=_NOTHING,
        ),
    ),
    (
        "load",
        LiveChart(
            "Load average",
            (Line(_H + "load_average", "", 1.0, "soft", family="window"),),
            note="tasks running or waiting for a disk",
            compact=False,
            empty=_NOTHING,
        ),
    ),
    (
        "memory",
        LiveChart(
            "Memory and swap in use",
            (Line(_H + "memory_used_ratio", "memory", 100.0), Line(_H + "swap_used_ratio", "swap", 100.0, "faint")),
            unit="%",
            note="of what the machine has",
            high=100.0,
            compact=False,
            empty=_NOTHING,
        ),
    ),
    (
        "pressure",
        LiveChart(
            "Pressure",
            (Line(_H + "pressure_ratio", "", 100.0, "soft", family="resource", where={"kind": "some"}),),
            unit="%",
            note="time in which some task stood still for want of a resource",
            compact=False,
            empty="This kernel does not tell pressure.",
        ),
    ),
    (
        "disks",
        LiveChart(
            "Disk traffic",
            (
                Line(
                    _H + "disk_bytes_total",
                    "read ",
                    _MIB,
                    "soft",
                    family="device",
                    rate=True,
                    where={"direction": "read"},
                ),
                Line(
                    _H + "disk_bytes_total",
                    "write ",
                    _MIB,
                    "strong",
                    family="device",
                    rate=True,
                    where={"direction": "write"},
                ),
            ),
            unit="MiB/s",
            note="by device",
            compact=False,
            empty="No disk shows its traffic to this process.",
        ),
    ),
    (
        "network",
        LiveChart(
            "Network traffic",
            (
                Line(
                    _H + "network_bytes_total",
                    "in ",
                    _MIB,
                    "soft",
                    family="interface",
                    rate=True,
                    where={"direction": "receive"},
                ),
                Line(
                    _H + "network_bytes_total",
                    "out ",
                    _MIB,
                    "strong",
                    family="interface",
                    rate=True,
                    where={"direction": "transmit"},
                ),
            ),
            unit="MiB/s",
            note="by interface",
            compact=False,
            empty="No interface shows its traffic to this process.",
        ),
    ),
)

_GPU_CHARTS: tuple[tuple[str, LiveChart], ...] = (
    (
        "utilisation",
        LiveChart(
            "GPU utilisation", (Line(_G + "utilisation_ratio", "gpu ", 100.0, family="gpu"),), unit="%", high=100.0
        ),
    ),
    ("gpu-memory", LiveChart("GPU memory", (Line(_G + "memory_used_bytes", "gpu ", _GIB, family="gpu"),), unit="GiB")),
    ("temperature", LiveChart("GPU temperature", (Line(_G + "temperature_celsius", "gpu ", family="gpu"),), unit="°C")),
    ("power", LiveChart("GPU power", (Line(_G + "power_watts", "gpu ", family="gpu"),), unit="W")),
)
# Process table: column heading, metric, how it is written, and whether it is a rate.
_COLUMNS = (
    ("CPU", "deskvigil_process_cpu_ratio", "percent"),
    ("Resident memory", "deskvigil_process_resident_memory_bytes", "bytes"),
    ("Threads", "deskvigil_process_threads", "count"),
    ("Open files", "deskvigil_process_open_fds", "count"),
    ("Restarts", "deskvigil_process_restarts_total", "count"),
    ("Up for", "deskvigil_process_start_time_seconds", "since"),
)


async def _layout(services: Services, _parameters: Mapping[str, str]) -> Component:
    return html.Div(
        [
            html.Div([live_chart(f"chart-{key}", chart) for key, chart in _HOST_CHARTS], className="row row-halves"),
            _processes(),
            _filesystems(),
            html.Div(
                [live_chart(f"chart-{key}", chart) for key, chart in _GPU_CHARTS],
                className="row row-strips",
                **{"data-gpu": "present"},
            ),
            _no_gpu(),
        ],
        className="page host",
        **{"data-page": "host", "data-title": "Host & GPU"},
    )


def _processes() -> Component:
    head = html.Tr([html.Th("Process", scope="col"), *(html.Th(word, scope="col") for word, _, _ in _COLUMNS)])
    spec = ",".join(f"{name}:{kind}" for _, name, kind in _COLUMNS)
    return html.Section(
        [
            html.Header([html.H2("Processes"), html.Span("of this program", className="note")]),
            html.Table([html.Thead(head), html.Tbody(**{"data-rows": spec, "data-key": "process"})], className="rows"),
            html.P("waiting for the process collector", className="absence", **{"data-rows-absence": ""}),
        ],
        id="processes",
        className="panel",
    )


def _filesystems() -> Component:
    words = ("Filesystem", "In use", "Size", "Available")
    spec = ",".join(
        (
            f"{_H}filesystem_used_ratio:percent",
            f"{_H}filesystem_size_bytes:bytes",
            f"{_H}filesystem_available_bytes:bytes",
        )
    )
    head = html.Tr([html.Th(word, scope="col") for word in words])
    return html.Section(
        [
            html.Header([html.H2("Filesystems"), html.Span("as df shows them", className="note")]),
            html.Table(
                [html.Thead(head), html.Tbody(**{"data-rows": spec, "data-key": "mountpoint"})], className="rows"
            ),
            html.P("no filesystem is shown to this process", className="absence", **{"data-rows-absence": ""}),
        ],
        id="filesystems",
        className="panel",
    )


def _no_gpu() -> Component:
    return html.Section(
        [
            html.Header([html.H2("GPU"), html.Span("NVML", className="note")]),
            html.P("waiting for the GPU collector", className="absence", **{"data-gpu-words": ""}),
        ],
        id="no-gpu",
        className="panel",
        **{"data-gpu": "absent"},
    )


PAGE = Page("/host", "Host & GPU", "host", _layout)
