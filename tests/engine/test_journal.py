"""The journal: records that show any damage, files that end where soundness does, a folder that never outgrows its limit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import journal as log
from engine.journalfile import RECORD_BYTES, RESERVE, JournalError, JournalFile, read_from, segment_paths
from engine.options import JournalOptions

SMALL = JournalOptions(segment_mb=1, retain_mb=32, min_free_mb=0)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
FIELDS = st.fixed_dictionaries(
    {
        "what": st.integers(1, 100), "t_ns": INT64, "order_id": INT64, "price": INT64, "qty": INT64,
        "instrument": st.integers(0, (1 << 31) - 1), "kind": st.integers(0, 255), "detail": st.integers(-(1 << 31), (1 << 31) - 1),
    }
)  # fmt: skip


def write(journal: JournalFile, count: int) -> None:
    """Records whose order_id is their sequence."""
    for _ in range(count):
        journal.note(log.MARKET, 1000 + journal.sequence, journal.sequence + 1, price=7, qty=3, instrument=2, kind=1)


def write_many(journal: JournalFile, count: int) -> None:
    """As `write`, without a call for each: the records are made by copying a sound one and signing it anew."""
    slot, sequence = int(journal.head[log.SLOT]), journal.sequence
    records = journal.words[slot : slot + count].view(log.RECORD).ravel()
    records["sequence"] = np.arange(sequence + 1, sequence + 1 + count)
    records["what"] = log.MARKET
    records["check"] = [reference_check(row) for row in log.as_words(records)]
    journal.head[log.SLOT] += count
    journal.head[log.SEQUENCE] += count


def reference_check(words: np.ndarray) -> int:
    """The check as its definition says, in whole numbers without end."""
    mask, total = (1 << 64) - 1, log._FACTORS[7]
    for word, factor in zip((words[k] for k in (0, 2, 3, 4, 5, 6, 7)), log._FACTORS, strict=False):
        x = int(word) & mask
        total += (x ^ (x >> 32)) * factor
    total &= mask
    return total - (1 << 64) if total >> 63 else total


def opened(folder: Path, options: JournalOptions = SMALL, sequence: int = 0) -> JournalFile:
    journal = JournalFile(folder, options)
    journal.open()
    journal.go_on(sequence)
    return journal


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A segment of 200 records."""
    journal = opened(tmp_path / "journal")
    write(journal, 200)
    journal.close()
    return segment_paths(tmp_path / "journal")[0][1]


@given(FIELDS)
def test_a_record_holds_what_was_written_and_its_check_follows_the_definition(fields: dict[str, int]) -> None:
    words, head = np.zeros((1, log.WORDS), dtype=np.int64), np.zeros(log.HEAD_WORDS, dtype=np.int64)
    log.note(
        words,
        head,
        *(fields[name] for name in ("what", "t_ns", "order_id", "price", "qty", "instrument", "kind", "detail")),
    )
    record = words.view(log.RECORD)[0, 0]
    assert {name: int(record[name]) for name in fields} == fields
    assert int(record["sequence"]) == 1
    assert int(record["check"]) == reference_check(words[0])


@given(FIELDS, st.integers(0, RECORD_BYTES - 1), st.integers(1, 255))
def test_any_damaged_byte_of_a_record_is_found(fields: dict[str, int], at: int, flip: int) -> None:
    words, head = np.zeros((1, log.WORDS), dtype=np.int64), np.zeros(log.HEAD_WORDS, dtype=np.int64)
    log.note(
        words,
        head,
        *(fields[name] for name in ("what", "t_ns", "order_id", "price", "qty", "instrument", "kind", "detail")),
    )
    assert log.sound_records(words, 0, 1) == 1
    words.view(np.uint8)[0, at] ^= flip
    assert log.sound_records(words, 0, 1) == 0


@settings(max_examples=60)
@given(data=st.data())
def test_a_journal_ends_before_its_first_damage(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("damaged") / "journal"
    journal = opened(folder)
    write(journal, 50)
    journal.close()
    path = segment_paths(folder)[0][1]
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, 50 * RECORD_BYTES - 1))
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        content = content[:at]
    path.write_bytes(content)
    found = [int(one) for piece in read_from(folder, 1) for one in piece["order_id"]]
    assert found == list(range(1, at // RECORD_BYTES + 1))


def test_after_damage_it_goes_on_from_the_last_sound_record_and_keeps_the_rest_aside(written: Path) -> None:
    with written.open("r+b") as file:
        file.seek(100 * RECORD_BYTES + 20)
        file.write(b"\xff\xff")
    journal = JournalFile(written.parent, SMALL)
    journal.open()
    assert journal.go_on(100) == 99  # record 101 is the damaged one
    write(journal, 5)
    journal.close()
    assert [int(one) for piece in read_from(written.parent, 1) for one in piece["order_id"]] == list(range(1, 106))
    assert len(list(written.parent.glob("*.damaged-*"))) == 1


def test_what_lay_behind_the_end_never_comes_back(written: Path) -> None:
    journal = JournalFile(written.parent, SMALL)
    journal.open()
    journal.go_on(100)
    assert not journal.words[100:].any()
    journal.close()


def test_two_engines_never_share_a_journal(tmp_path: Path) -> None:
    first = opened(tmp_path / "journal")
    with pytest.raises(JournalError, match="in use by another engine"):
        JournalFile(tmp_path / "journal", SMALL).open()
    first.close()
    opened(tmp_path / "journal").close()


def test_segments_follow_one_another_and_the_oldest_go_when_nothing_needs_them(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal = opened(folder)
    per_segment = len(journal.words)
    for _ in range(8):
        write_many(journal, per_segment - int(journal.head[log.SLOT]) - RESERVE + 1)
        journal._prepare()
        assert journal.make_room()
    total = sum(path.stat().st_size for _, path in segment_paths(folder))
    assert total > SMALL.retain_mb << 20
    journal._forget()
    assert sum(path.stat().st_size for _, path in segment_paths(folder)) == total  # no snapshot yet: all are needed
    journal._kept_from = journal.sequence
    journal._forget()
    assert sum(path.stat().st_size for _, path in segment_paths(folder)) <= SMALL.retain_mb << 20
    first = segment_paths(folder)[0][0]
    assert first > 1
    assert sum(len(piece) for piece in read_from(folder, first)) == journal.sequence - first + 1
    journal.close()


def test_a_disk_with_too_little_room_is_full_before_a_record_is_lost_and_not_for_ever(tmp_path: Path) -> None:
    journal = opened(tmp_path / "journal")
    journal._min_free_bytes = 1 << 60
    write_many(journal, len(journal.words) - RESERVE + 1)
    journal._prepare()
    assert journal.is_full
    assert "no room for the journal" in journal.problem
    write_many(journal, RESERVE - 1)
    write(journal, 3)
    assert int(journal.head[log.LOST]) == 3
    journal._min_free_bytes = 0
    journal._prepare()
    assert journal.make_room()
    assert not journal.is_full
    last = list(read_from(journal.folder, journal.sequence))[-1][-1]
    assert (int(last["what"]), int(last["order_id"])) == (log.GAP, 3)
    journal.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder]).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_really_full_stops_nothing_but_the_journal(small_disk: Path) -> None:
    journal = opened(small_disk / "journal")
    (small_disk / "filler").write_bytes(b"\1" * (16 << 20))
    journal._prepare()
    assert journal._next is None
    assert "No space left" in journal.problem or "MB are free" in journal.problem
    write(journal, 10)
    (small_disk / "filler").unlink()
    journal._prepare()
    assert journal._next is not None
    journal.close()
    assert sum(len(piece) for piece in read_from(small_disk / "journal", 1)) == 10


def test_what_was_written_is_durable_after_a_sync(tmp_path: Path) -> None:
    journal = opened(tmp_path / "journal")
    write(journal, 10)
    assert journal.durable == 0
    journal._sync()
    assert journal.durable == 10
    journal.close()
