from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metrics.clock import SystemClock
from metrics.paths import RuntimePaths
from storage import profiles
from storage.options import StorageOptions
from storage.profiles import ProfileError
from storage.store import Store

ROW: dict[str, Any] = {
    "t_ms": 1_000, "process": "engine", "kind": "cpu", "seconds": 5.0, "unit": "samples", "total": 12,
    "who": "anna", "reason": "p99 rose", "data": b"packed",
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(StorageOptions(), RuntimePaths(tmp_path), SystemClock())
    yield opened
    opened.close()


def test_a_profile_comes_back_with_who_when_and_why(store: Store) -> None:
    kept = store.profiles.add(ROW)
    found, data = store.profiles.get(kept.id)
    assert found == kept
    assert (found.t_ms, found.process, found.who, found.reason, data) == (
        1_000,
        "engine",
        "anna",
        "p99 rose",
        b"packed",
    )
    assert store.profiles.list() == [kept]
    entry = store.audit.list()[0]
    assert (entry.who, entry.action, entry.object, entry.detail) == (
        "anna", "profile_stored", "engine", {"id": kept.id, "total": 12},
    )  # fmt: skip


def test_only_the_newest_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "MOST", 2)
    kept = [store.profiles.add({**ROW, "reason": reason}).id for reason in ("a", "b", "c")]
    assert [row.id for row in store.profiles.list()] == [kept[2], kept[1]]
    with pytest.raises(ProfileError, match=f"there is no profile {kept[0]}"):
        store.profiles.get(kept[0])


def test_what_is_too_large_is_refused_and_nothing_is_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "MOST_BYTES", 3)
    with pytest.raises(ProfileError, match="too much to keep"):
        store.profiles.add(ROW)
    assert store.profiles.list() == []
    assert store.audit.list() == []


def test_what_was_asked_for_is_in_the_audit(store: Store) -> None:
    store.profiles.note("ben", "profile_failed", "risk", {"error": "not permitted"})
    assert store.audit.list()[0].detail == {"error": "not permitted"}
