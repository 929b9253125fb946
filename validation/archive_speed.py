"""How fast the archive takes samples and gives them back, in process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from metrics.clock import SystemClock
from metrics.frame import FloatArray, Frame, IntArray
from metrics.paths import RuntimePaths
from metrics.series import Schema, Series, make_labels
from query.engine import QueryEngine, QueryOptions
from storage import jobs
from storage.matching import SeriesIndex
from storage.minutes import MAX
from storage.options import StorageOptions
from storage.store import Store
from validation.figure import Figure
from validation.stores.capture import Capture
from validation.stores.generated import START_MS, Generator, Shape, generated_store, hour_times
from validation.stores.peers import PEERS

NAME = "archive"
DAY_S = 86_400
_POINTS = 2_000


def ingest(folder: Path, say: Callable[[str], None]) -> list[Figure]:
    """Bursts of columns that are durable when the call returns: 1,000 series x 1,000 samples each."""
    say("archive: ingest ...")
    generator = Generator(Shape(1, 1_000))
    bursts = [np.ascontiguousarray(generator.columns(1_000)) for _ in range(12)]
    store = _fresh(folder / "ingest")
    try:
        layout = store.bulk.layout("bench", generator.series)
        cpu, wall = [], []
        for number, burst in enumerate(bursts):
            t_ms = START_MS + (number * 1_000 + np.arange(1_000, dtype=np.int64)) * 1_000
            began, used = time.perf_counter(), time.process_time()
            store.bulk.store([store.bulk.encode(layout, t_ms, burst)])
            wall.append(time.perf_counter() - began)
            cpu.append(time.process_time() - used)
        million = 1e6 / bursts[0].size
        peak = _frames_at_once(store, bursts[0])
    finally:
        store.close()
    return [
        Figure(benchmark=NAME, what="durable ingest, CPU at 1 M samples/s", value=100 * float(np.median(cpu)) * million,
               unit="% of a core", decimals=1, limit=10, peer="sealed at once: nothing is left to do later"),
        Figure(benchmark=NAME, what="durable ingest, sealed, one thread", value=1 / float(np.median(wall)) / million,
               unit="M samples/s", decimals=1, limit=1, at_most=False,
               peer="by remote write on another machine: Prometheus 1.9, VictoriaMetrics 4.0"),
        Figure(benchmark=NAME, what="durable ingest, peak, 1,000 frames a commit", value=peak / 1e6,
               unit="M samples/s", decimals=1, limit=10, at_most=False),
    ]  # fmt: skip


def _frames_at_once(store: Store, burst: FloatArray) -> float:
    """Samples a second of frames that waited and are committed together; best of five."""
    schema = Schema("peak", tuple(Series("bench_peak", make_labels({"item": str(i)})) for i in range(len(burst))))
    best, second = 0.0, 1_800_000_000
    for _ in range(5):
        for values in burst.T:
            second += 1
            store.live.append(Frame(schema, second * 1_000_000_000, np.ascontiguousarray(values)))
        began = time.perf_counter()
        frames = store.archive.tick((second + 2) * 1_000_000_000)
        best = max(best, frames * len(schema) / (time.perf_counter() - began))
    return best


def stalls(folder: Path, say: Callable[[str], None]) -> list[Figure]:
    """The longest commit of a second's frames while hours are sealed, rolled up, joined and deleted beside it."""
    say("archive: commits beside sealing, rollup, compaction and retention ...")
    generator = Generator(Shape(1, 1_000))
    store = _fresh(folder / "stalls", raw_days=1)
    try:
        layout = store.bulk.layout("bench", generator.series)
        for hour in range(6):
            store.bulk.store([store.bulk.encode(layout, hour_times(hour), generator.columns())])
        schema = Schema("live", tuple(Series("bench_live", make_labels({"item": str(i)})) for i in range(1_000)))
        done = threading.Event()
        columns = generator.columns(900)

        def housekeeping() -> None:
            try:
                for _ in range(4):
                    store.seal(everything=True)
                    store.rollup_writer.run(START_MS + 30 * DAY_S * 1_000, START_MS)
                    jobs.join(store, START_MS + 30 * DAY_S * 1_000)
                store.retention.run(START_MS + 40 * DAY_S * 1_000)
                jobs.compact(store)
            finally:
                done.set()

        worker = threading.Thread(target=housekeeping)
        longest, second = [], START_MS // 1_000 + 10 * DAY_S
        for number, values in enumerate(columns.T):
            second += 1
            store.live.append(Frame(schema, second * 1_000_000_000, np.ascontiguousarray(values)))
            began = time.perf_counter()
            store.archive.tick((second + 1) * 1_000_000_000)
            longest.append(time.perf_counter() - began)
            if number == 300:
                worker.start()
            if number > 300:
                if done.is_set() and number > 500:
                    break
                done.wait(0.005)
        worker.join()
    finally:
        store.close()
    return [
        Figure(benchmark=NAME, what=f"commit of 1,000 series beside housekeeping, longest of {len(longest)}",
               value=1e3 * max(longest), unit="ms", decimals=1, limit=50),
    ]  # fmt: skip


def restart(folder: Path, say: Callable[[str], None]) -> list[Figure]:
    """Opening a store that ended with a whole hour of 1,000 series unsealed."""
    say("archive: restart ...")
    place = folder / "restart"
    store = _fresh(place)
    schema = Schema("live", tuple(Series("bench_live", make_labels({"item": str(i)})) for i in range(1_000)))
    columns = Generator(Shape(1, 1_000)).columns()
    for second, values in enumerate(columns.T, START_MS // 1_000):
        store.live.append(Frame(schema, second * 1_000_000_000, np.ascontiguousarray(values)))
        if second % 600 == 599:
            store.archive.flush()
    store.archive.flush()
    store.close()
    began = time.perf_counter()
    store = Store.open(StorageOptions(), RuntimePaths(place), SystemClock())
    seconds = time.perf_counter() - began
    frames = store.archive.unsealed_frames
    store.close()
    if frames != 3_600:
        raise RuntimeError(f"{frames} frames were read back instead of 3,600")
    return [
        Figure(benchmark=NAME, what="restart: open with a hot hour of 1,000 series", value=seconds, unit="s", limit=1)
    ]


def hundred_thousand_series(folder: Path, say: Callable[[str], None]) -> list[Figure]:
    """Selectors over 100,000 series, the slowest of the usual kinds."""
    say("archive: 100,000 series ...")
    index = SeriesIndex(200_000)
    for i in range(100_000):
        labels = {"host": f"h{i % 100}", "job": f"j{i % 7}", "item": str(i // 100)}
        index.intern(Series(f"metric_{i % 50}", make_labels(labels)))
    selectors = [
        [("__name__", "=", "metric_3"), ("host", "=", "h53")],
        [("__name__", "=", "metric_3")],
        [("__name__", "=", "metric_3"), ("job", "!=", "j1")],
        [("__name__", "=", "metric_3"), ("host", "=~", "h5.*")],
        [("host", "=", "h53"), ("item", "=~", "1.*")],
    ]
    worst = max(_median_ms(lambda s=s: index.match(s), 200) for s in selectors)  # type: ignore[misc]
    return [
        Figure(benchmark=NAME, what="selector over 100,000 series, slowest of 5", value=worst, unit="ms", decimals=3,
               limit=1, peer="the same in SQL 0.4-21")
    ]  # fmt: skip


def long_queries(folder: Path, shape: Shape, say: Callable[[str], None]) -> list[Figure]:
    """Queries over the generated store."""
    say(f"archive: {shape.days} days x {shape.series} series ({shape.samples / 1e6:,.0f} M samples) ...")
    store = generated_store(folder, shape, say)
    try:
        size = store.series_database.path.stat().st_size
        figures = [
            Figure(benchmark=NAME, what=f"generated store: {shape.days} days, file with rollups",
                   value=size / shape.samples, unit="B/sample", decimals=3),
            *_one_series(store, shape),
            *_hundred_series(store, shape),
            *_one_day(store, shape, folder, say),
        ]  # fmt: skip
    finally:
        store.close()
    return figures


def _one_series(store: Store, shape: Shape) -> list[Figure]:
    matchers = [("__name__", "=", "bench_level"), ("item", "=", "042")]

    def read() -> None:
        (block,) = store.reader.cursor(matchers).blocks(START_MS, shape.end_ms - 1)
        t_ms, _ = _downsample(block.t_ms, block.values[0], _POINTS)
        if len(block.t_ms) != shape.days * DAY_S or len(t_ms) > _POINTS:
            raise RuntimeError(f"{len(block.t_ms)} samples were read")

    cold = _once_ms(store, read)
    warm = _median_ms(read, 9)
    decoding = float(np.median([_once_ms(store, read) for _ in range(9)]))
    what = f"one series x {shape.days} days -> 2,000 points"
    return [
        Figure(benchmark=NAME, what=f"{what}, first time", value=cold, unit="ms", decimals=1, limit=100),
        Figure(benchmark=NAME, what=f"{what}, decoded anew", value=decoding, unit="ms", decimals=1, limit=25),
        Figure(benchmark=NAME, what=f"{what}, repeated", value=warm, unit="ms", decimals=1, limit=25,
               peer="narrow rows 673, through an ORM 4,000"),
    ]  # fmt: skip


def _hundred_series(store: Store, shape: Shape) -> list[Figure]:
    cursor = store.reader.cursor([("__name__", "=", "bench_level")])

    def read() -> None:
        (block,) = cursor.minutes(START_MS, shape.end_ms - 1, (MAX,))
        if block.columns.shape[1:] != (100, shape.days * 1_440):
            raise RuntimeError(f"{block.columns.shape} were read")
        block.columns[MAX].max(axis=1)

    first = _once_ms(store, read)
    repeated = _median_ms(read, 5)
    what = f"100 series x {shape.days} days through minutes"
    return [
        Figure(benchmark=NAME, what=f"{what}, first time", value=first, unit="ms", decimals=1, limit=100),
        Figure(benchmark=NAME, what=f"{what}, repeated", value=repeated, unit="ms", decimals=1, limit=100),
    ]


def _one_day(store: Store, shape: Shape, folder: Path, say: Callable[[str], None]) -> list[Figure]:
    """PromQL over the last day, 2,000 points; the peers over HTTP with the same samples."""
    engine = QueryEngine(store.reader, QueryOptions(), SystemClock())
    end_ms = shape.end_ms - 1_000
    start_ms = end_ms - DAY_S * 1_000
    step_ms = DAY_S * 1_000 // _POINTS
    questions = (
        ("rate over a day", 'rate(bench_cpu_seconds_total{cpu="3",mode="user"}[5m])', 5.4, 5.4),
        ("avg_over_time over a day", 'avg_over_time(bench_level{item="042"}[5m])', 5.4, 5.4),
        ("sum by over 118 series x 1 day", "sum by (mode) (bench_cpu_seconds_total)", 60.0, 20.0),
    )
    beside = _peers_day(store, folder, questions, start_ms, end_ms, step_ms, say)
    figures = []
    for what, query, first_limit, limit in questions:
        run = partial(engine.range, query, start_ms, end_ms, step_ms)
        run()  # the pages of the file are in memory
        first = _once_ms(store, run)
        figures.append(Figure(benchmark=NAME, what=f"{what}, first time", value=first, unit="ms", decimals=1,
                              limit=first_limit if first_limit > limit else None, peer=beside[query]))  # fmt: skip
        figures.append(Figure(benchmark=NAME, what=f"{what}, repeated", value=_median_ms(run, 9), unit="ms",
                              decimals=1, limit=limit))  # fmt: skip
    return figures


def _peers_day(
    store: Store,
    folder: Path,
    questions: Sequence[tuple[str, str, float, float]],
    start_ms: int,
    end_ms: int,
    step_ms: int,
    say: Callable[[str], None],
) -> dict[str, str]:
    """What the installed peers take for the same questions about the same day."""
    beside: dict[str, list[str]] = {query: [] for _, query, _, _ in questions}
    series: list[Series] = []
    t_ms: list[IntArray] = []
    values: list[FloatArray] = []
    for matchers in (
        [("__name__", "=", "bench_cpu_seconds_total")],
        [("__name__", "=", "bench_level"), ("item", "=", "042")],
    ):
        for data in store.reader.select(matchers, start_ms - 600_000, end_ms):
            series.append(data.series)
            t_ms.append(data.t_ms)
            values.append(data.values)
    day = Capture(series, t_ms, values)
    for peer in PEERS:
        if not peer.installed():
            for some in beside.values():
                some.append(f"{peer.name} not installed")
            continue
        say(f"archive: one day of {len(series)} series into {peer.name} ...")
        place = folder / f"day-{peer.program}-{time.time_ns()}"
        with peer(place) as running:
            running.write(day, samples_at_once=300)
            for _, query, _, _ in questions:
                took = running.query_range_ms(query, start_ms / 1e3, end_ms / 1e3, step_ms / 1e3)
                beside[query].append(f"{peer.name} here over HTTP {took:.1f} ms")
        running.remove()
    return {query: ", ".join(some) for query, some in beside.items()}


def _downsample(t_ms: IntArray, values: FloatArray, points: int) -> tuple[IntArray, FloatArray]:
    """Smallest and largest sample of equal stretches: what a chart of `points` points can show."""
    size = -(-len(values) // (points // 2))
    whole = len(values) // size
    table = values[: whole * size].reshape(whole, size)
    base = np.arange(whole) * size
    picked = np.sort(np.concatenate([base + table.argmin(axis=1), base + table.argmax(axis=1)]))
    return t_ms[picked], values[picked]


def _fresh(folder: Path, **options: int) -> Store:
    folder.mkdir(parents=True)
    return Store.open(StorageOptions(**options), RuntimePaths(folder), SystemClock())  # type: ignore[arg-type]


def _once_ms(store: Store, run: Callable[[], object]) -> float:
    store.forget_decoded()
    began = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - began)


def _median_ms(run: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return 1e3 * float(np.median(taken))
