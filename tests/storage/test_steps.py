"""Blocks read at steps: whatever the layout of time, each step sees the sample that it would see in the whole."""

from collections.abc import Iterator

import numpy as np
import pytest

from metrics.clock import ManualClock
from storage import chunks
from storage.chunks import Steps
from storage.reader import Block
from storage.stale import is_stale
from storage.store import Store
from tests.storage.conftest import OpenStore, frame, schema

HOST, OTHER = schema("host", "a", "b", "c"), schema("host", "a", "d")
SAMPLES = 3_000


@pytest.fixture(params=[1, 2, 3])
def store(request: pytest.FixtureRequest, open_store: OpenStore) -> Store:
    """A store whose samples all lie in blocks: gaps, changing schemas, missing readings, late and repeated samples."""
    random = np.random.default_rng(request.param)
    store = open_store(seal_minutes=1)
    t_ms = 1_000_000
    times = []
    for number in range(SAMPLES):
        t_ms += int(random.choice([1_000, 1_000, 1_000, 1_003, 250_000 if number % 700 == 0 else 5_000]))
        of = OTHER if number % 900 > 800 else HOST
        values = np.where(random.random(len(of)) < 0.05, np.nan, number + np.arange(len(of)) / 4)
        store.live.append(frame(of, t_ms, *values))
        times.append(t_ms)
        if number % 400 == 399:
            store.archive.flush()
            store.seal(everything=True)
    late = random.choice(times, 60, replace=False) + random.choice([0, 1, -400], 60)
    late.sort()
    late = np.unique(late)
    store.ingest([HOST.series[1]], [late], [-np.arange(len(late), dtype=np.float64)])
    store.archive.flush()
    store.seal(everything=True)
    return open_store()  # nothing in rings


def seen(blocks: list[Block], steps: np.ndarray) -> Iterator[tuple[str, list[tuple[int, float] | None]]]:
    for block in blocks:
        at = np.searchsorted(block.t_ms, steps, side="right") - 1
        for series, row in zip(block.series, block.values, strict=True):
            found = [None if i < 0 else (int(block.t_ms[i]), float(row[i])) for i in at]
            yield (
                str(series),
                [one and (one[0], "stale" if is_stale(np.array([one[1]]))[0] else one[1]) for one in found],
            )


@pytest.mark.parametrize("every_ms", [1_000, 7_003, 60_000, 400_000])
def test_each_step_sees_the_same_sample_as_in_the_whole(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, every_ms: int
) -> None:
    monkeypatch.setattr(chunks, "_THIN", 0)
    (whole,) = store.reader.select([("__name__", "=", "c")], 0, 2**50)
    first, last = int(whole.t_ms[0]), int(whole.t_ms[-1])
    for start, end in ((first, last), (first + 777_777, last - 555_555), (first - 90_000, last + 90_000)):
        steps = np.arange(start, end, every_ms)
        cursor = store.reader.cursor([("__name__", "!=", "")])
        store.forget_decoded()
        some = dict(seen(cursor.blocks(start - 299_999, end, (start, every_ms)), steps))
        store.forget_decoded()
        assert some == dict(seen(cursor.blocks(start - 299_999, end), steps))


def test_little_is_kept_of_what_steps_do_not_see(store: Store) -> None:
    cursor = store.reader.cursor([("__name__", "=", "a")])
    (block,) = cursor.blocks(0, 2**50, (0, 400_000))
    assert len(block.t_ms) < SAMPLES / 8
    kept = store._chunks.columns.bytes
    (whole,) = cursor.blocks(0, 2**50)
    assert len(whole.t_ms) == SAMPLES
    assert store._chunks.columns.bytes > 4 * kept
    # What is there whole is not decoded once more for steps.
    (again,) = cursor.blocks(0, 2**50, (0, 400_000))
    assert len(again.t_ms) == SAMPLES


def test_a_question_that_moves_on_by_whole_steps_finds_what_was_decoded(store: Store) -> None:
    cursor = store.reader.cursor([("__name__", "=", "c")])
    cursor.blocks(2_000_000, 4_000_000, (2_000_000, 100_000))
    misses = store._chunks.columns.misses
    cursor.blocks(2_000_000 + 1, 4_000_000, (2_100_000, 100_000))
    assert store._chunks.columns.misses == misses


def test_steps_see_the_first_and_the_last_sample() -> None:
    assert Steps(0, 10).seen(np.array([3, 4, 9, 10, 11, 19, 21])).tolist() == [3, 5, 6]
    assert Steps(7, 10).seen(np.array([7])).tolist() == [0]
