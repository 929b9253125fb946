from __future__ import annotations

from pathlib import Path

import pytest

from metrics.clock import SystemClock
from metrics.paths import RuntimePaths
from storage import saved_views
from storage.options import StorageOptions
from storage.saved_views import ViewError
from storage.store import Store


def test_views_are_kept_over_a_restart_renamed_and_deleted(tmp_path: Path) -> None:
    with_clock = StorageOptions(), RuntimePaths(tmp_path), SystemClock()
    store = Store.open(*with_clock)
    views = store.saved_views
    first = views.save("history", "Zürich", "?expr=up", "anna")
    views.save("history", "amber", "?expr=down", "ben")
    replaced = views.save("history", "Zürich", "?expr=up&range=6h", "carl")
    assert (replaced.id, replaced.search, replaced.created_by) == (first.id, "?expr=up&range=6h", "anna")
    store.close()
    store = Store.open(*with_clock)
    views = store.saved_views
    assert [(view.name, view.search) for view in views.list("history")] == [
        ("amber", "?expr=down"),
        ("Zürich", "?expr=up&range=6h"),
    ]
    assert views.list("other") == []
    with pytest.raises(ViewError, match="called amber already"):
        views.rename(first.id, "amber")
    assert views.rename(first.id, "latency").name == "latency"
    views.delete(first.id)
    with pytest.raises(ViewError, match="no saved view"):
        views.delete(first.id)
    with pytest.raises(ViewError, match="no saved view"):
        views.rename(first.id, "x")
    assert [view.name for view in views.list("history")] == ["amber"]
    store.close()


def test_there_is_an_end_to_how_many_views_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_views, "MOST", 2)
    store = Store.open(StorageOptions(), RuntimePaths(tmp_path), SystemClock())
    for name in ("a", "b", "a"):
        store.saved_views.save("history", name, "?expr=up", "anna")
    with pytest.raises(ViewError, match="delete one first"):
        store.saved_views.save("history", "c", "?expr=up", "anna")
    store.close()
