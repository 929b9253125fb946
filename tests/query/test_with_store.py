"""The engine over the real store: live ring, frames, ingested samples."""

import math

import numpy as np
import pytest

from metrics.clock import ManualClock
from metrics.frame import Frame
from metrics.paths import RuntimePaths
from metrics.series import Schema
from query.engine import QueryEngine, QueryOptions
from query.source import MemorySource
from storage.options import StorageOptions
from storage.store import Store
from tests.query.engines import answer, series

T0_MS = 1_700_000_000_000
FRAMES = 1200


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store with two minutes at 10 Hz of one collector, and the same samples in memory."""
    clock = ManualClock(T0_MS * 1_000_000)
    store = Store.open(StorageOptions(), RuntimePaths(tmp_path_factory.mktemp("store")), clock)
    everything = [
        *(series("work_total", process=process, kind=kind) for process in "ab" for kind in "xyz"),
        *(series("wait_seconds_bucket", le=le) for le in ("0.1", "1", "+Inf")),
        series("level"),
    ]
    rng = np.random.default_rng(3)
    values = np.cumsum(rng.integers(0, 5, (FRAMES, len(everything))), axis=0).astype(np.float64)
    values[:, 6:9] = np.cumsum(values[:, 6:9], axis=1)
    values[:, -1] = np.sin(np.arange(FRAMES) / 50)
    schema = Schema("desk", tuple(everything))
    memory = MemorySource()
    t_ms = T0_MS + 100 * np.arange(FRAMES, dtype=np.int64)
    for i in range(FRAMES):
        store.live.append(Frame(schema, int(t_ms[i]) * 1_000_000, values[i]))
    for column, one in enumerate(everything):
        memory.put(one, t_ms.tolist(), values[:, column])
    yield store, memory, clock
    store.close()


EXPRESSIONS = (
    "level",
    "level > 0",
    "avg_over_time(level[1m])",
    "rate(work_total[1m])",
    "sum by (process) (rate(work_total[1m]))",
    "histogram_quantile(0.99, sum by (le) (rate(wait_seconds_bucket[1m])))",
    'work_total{kind=~"x|y"} / on (process) group_left () work_total{kind="z"}',
    "topk(2, work_total)",
    "max_over_time(sum(rate(work_total[10s]))[1m:5s])",
    "changes(level[30s])",
    "absent(nope)",
)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_live_ring_answers_as_memory_does(filled, expression):
    store, memory, clock = filled
    ours = QueryEngine(store.reader, QueryOptions(), clock)
    reference = QueryEngine(memory, QueryOptions(), clock)
    t_ms = T0_MS + 110_050
    expected = answer(reference.instant(expression, t_ms))
    assert answer(ours.instant(expression, t_ms)) == pytest.approx(expected, rel=1e-12)
    whole = ours.range(expression, T0_MS + 60_000, T0_MS + 119_000, 7_000)
    again = reference.range(expression, T0_MS + 60_000, T0_MS + 119_000, 7_000)
    assert whole.labels == again.labels
    assert (whole.present == again.present).all()
    np.testing.assert_allclose(whole.values[whole.present], again.values[again.present], rtol=1e-12)


def test_a_missing_reading_is_absent_at_once_and_left_out_of_windows(tmp_path):
    clock = ManualClock(T0_MS * 1_000_000)
    store = Store.open(StorageOptions(), RuntimePaths(tmp_path), clock)
    schema = Schema("gpu", (series("heat"), series("load")))
    for i, heat in enumerate((50.0, 60.0, math.nan, 70.0)):
        store.live.append(Frame(schema, (T0_MS + i * 1000) * 1_000_000, np.array([heat, 1.0])))
    engine = QueryEngine(store.reader, QueryOptions(), clock)
    prepared = engine.prepare('avg_over_time({__name__=~"heat|load"}[1m])')
    try:
        assert answer(engine.instant("heat", T0_MS + 2000)) == {}
        assert answer(engine.instant("heat", T0_MS + 3000)) == {"heat": 70.0}
        assert answer(engine.instant("avg_over_time(heat[1m])", T0_MS + 3000)) == {"": 60.0}
        labelled = 'label_replace(avg_over_time({__name__=~"heat|load"}[1m]), "of", "$1", "__name__", "(.*)")'
        assert answer(engine.instant(labelled, T0_MS + 3000)) == {'{of="heat"}': 60.0, '{of="load"}': 1.0}
        assert prepared.metric_names() == frozenset()
    finally:
        store.close()


def test_ingested_samples_are_queried_beside_live_ones(tmp_path):
    clock = ManualClock(T0_MS * 1_000_000)
    store = Store.open(StorageOptions(), RuntimePaths(tmp_path), clock)
    try:
        store.live.append(Frame(Schema("a", (series("x", of="live"),)), T0_MS * 1_000_000, np.array([1.0])))
        engine = QueryEngine(store.reader, QueryOptions(), clock)
        prepared = engine.prepare("sum(x)")
        assert answer(prepared.instant(T0_MS)) == {"": 1.0}
        t_ms = np.array([T0_MS - 86_400_000, T0_MS], dtype=np.int64)
        stored = store.ingest([series("x", of="sent")], [t_ms], [np.array([5.0, 7.0])])
        assert (stored.accepted, stored.rejected) == (2, 0)
        assert answer(prepared.instant(T0_MS)) == {"": 8.0}
        assert answer(engine.instant("x", T0_MS - 86_400_000)) == {'x{of="sent"}': 5.0}
    finally:
        store.close()
