"""What scraping costs: reading pages, and a hundred targets of a thousand series once a second."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from collectors.scrape.options import ScrapeJob, StaticTargets
from collectors.scrape.page import PageReader
from collectors.scrape.service import ScrapeService
from metrics.clock import SystemClock
from metrics.frame import Frame
from metrics.series import Series, make_labels
from validation.figure import Figure

NAME = "scrape"
SERIES, TARGETS, SECONDS = 1_000, 100, 8
CHANGED = 0.3
PAGES = 8


def measure(say: Callable[[str], None] = print) -> list[Figure]:
    """Nanoseconds of CPU per sample: reading alone, and everything from the socket to the frame."""
    say(f"scrape: about {SECONDS + 5} s ...")
    pages = [page(number) for number in range(PAGES)]
    reader = PageReader(_resolve)
    began = time.process_time_ns()
    reader.read(pages[0], "text")
    first_ns = (time.process_time_ns() - began) / SERIES
    turns = 100
    began = time.process_time_ns()
    for turn in range(turns):
        reader.read(pages[(turn + 1) % PAGES], "text")
    next_ns = (time.process_time_ns() - began) / SERIES / turns
    whole_ns, ratio, samples, late = _whole()
    what = f"{TARGETS} targets x {SERIES} series at 1 s"
    return [
        Figure(benchmark=NAME, what="read a page that is new, a sample", value=first_ns, unit="ns", decimals=0),
        Figure(benchmark=NAME, what=f"read the next page ({CHANGED:.0%} changed), a sample", value=next_ns, unit="ns", decimals=0),
        Figure(benchmark=NAME, what=f"{what}: socket to frame, a sample", value=whole_ns, unit="ns", decimals=0),
        Figure(benchmark=NAME, what=f"{what}: of one core", value=100 * ratio, unit="%", decimals=1),
        Figure(benchmark=NAME, what=f"{what}: samples taken in", value=samples, unit="", decimals=0),
        Figure(benchmark=NAME, what=f"{what}: late scrapes", value=late, unit="", decimals=0),
    ]  # fmt: skip


def page(number: int) -> bytes:
    """A page like node_exporter's: SERIES lines, some of whose numbers differ from page to page."""
    chance = random.Random(number)
    lines = [
        "# HELP node_cpu_seconds_total Seconds the CPUs spent in each mode.",
        "# TYPE node_cpu_seconds_total counter",
    ]
    for line in range(SERIES):
        value = chance.random() * 1e6 if line % 100 < 100 * CHANGED else line * 3.25
        lines.append(f'node_cpu_seconds_total{{cpu="{line}",mode="idle",device="/dev/nvme{line}n1"}} {value!r}')
    return ("\n".join(lines) + "\n").encode()


def _resolve(written: dict[str, str]) -> Series:
    labels = dict(written)
    return Series(labels.pop("__name__"), make_labels({**labels, "job": "bench", "instance": "there"}))


def _whole() -> tuple[float, float, int, int]:
    """CPU of the scraping thread per sample (ns) and over wall time, samples, and late scrapes, in the steady state."""
    with subprocess.Popen(
        [sys.executable, "-m", "validation.bench_scrape"], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as server:
        port = json.loads(server.stdout.readline() if server.stdout else "{}")["port"]
        addresses = tuple(f"127.0.0.1:{port}" for _ in range(TARGETS))
        groups = tuple(
            StaticTargets(targets=(address,), labels={"host": str(number)}) for number, address in enumerate(addresses)
        )
        job = ScrapeJob(job_name="bench", static_configs=groups)
        frames, warm = [0], threading.Event()

        def sink(frame: Frame) -> None:
            frames[0] += 1
            if frames[0] >= 3 * TARGETS:
                warm.set()

        service = ScrapeService([job], SystemClock(), sink, lambda *_: None, max_series=TARGETS * SERIES)
        service.start()
        try:
            warm.wait(30)
            before, began = _readings(service), time.monotonic()
            time.sleep(SECONDS)  # the stretch that is measured
            after, seconds = _readings(service), time.monotonic() - began
        finally:
            service.stop()
            server.terminate()
    cpu_s, samples, late = (later - earlier for later, earlier in zip(after, before, strict=True))
    return cpu_s / max(samples, 1) * 1e9, cpu_s / seconds, int(samples), int(late)


def _readings(service: ScrapeService) -> tuple[float, float, float]:
    frame = service.collect(0)
    value = dict(zip((one.name for one in frame.schema.series), frame.values.tolist(), strict=True))
    prefix = "deskvigil_scrape_"
    return value[f"{prefix}cpu_seconds_total"], value[f"{prefix}samples_total"], value[f"{prefix}late_ticks_total"]


async def _serve() -> None:
    """Hand out pages; the program that started this ends it."""
    heads = [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" for _ in range(PAGES)]
    answers = [head % len(body) + body for head, body in zip(heads, (page(n) for n in range(PAGES)), strict=True)]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        turn = 0
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                turn += 1
                writer.write(answers[turn % PAGES])
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
