"""Pages and the API ask the remote store; the local store answers while that is away, and the answer says so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from metrics.clock import ManualClock, SystemClock
from metrics.series import Series, make_labels
from query.engine import QueryEngine
from query.errors import QueryError
from query.matchers import Matcher
from query.options import QueryOptions
from query.remote import RemoteEngine, RemoteStore, selector
from query.source import MemorySource
from storage.remote.client import RemoteClient
from storage.remote.options import endpoint
from tests.storage.remote_stores import RemoteStore as Server


@pytest.fixture(scope="module", params=["victoria-metrics", "prometheus"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A remote store that holds two series of a desk, one sample a second for five minutes."""
    folder: Path = tmp_path_factory.mktemp("remote")
    found = Server(request.param, folder)
    found.start()
    found.t0 = (time.time_ns() // 1_000_000_000 - 600) * 1000  # type: ignore[attr-defined]
    import cramjam

    from storage.remote.encode import Part, encode_labels, encode_request

    labels = [
        encode_labels(Series("depth", make_labels({"side": side, "odd": 'q"\\\nü'})), {"desk": "a"})
        for side in ("ask", "bid")
    ]
    t = found.t0 + np.arange(300) * 1000  # type: ignore[attr-defined]
    body = encode_request([Part(labels, t, np.array([np.arange(300.0), np.arange(300.0) * 2]))])
    client = _client(found)
    assert client.write(bytes(cramjam.snappy.compress_raw(body))).status < 300
    client.close()
    found.samples("depth", time.time(), 900)  # VictoriaMetrics makes it readable now
    yield found
    found.stop()


def _client(server: Server) -> RemoteClient:
    return RemoteClient(endpoint(f"prometheus+{server.url}", "", "", "", ()), 10.0)


def _engine(server: Server) -> tuple[RemoteEngine, int]:
    local = MemorySource()
    local.put(Series("only_here"), [1000], [1.0])
    engine = RemoteEngine(local, RemoteStore(_client(server), SystemClock()), QueryOptions(), SystemClock())
    return engine, server.t0  # type: ignore[attr-defined]


def test_a_range_comes_back_as_columns(server: Server) -> None:
    engine, t0 = _engine(server)
    found = engine.range('depth{side="bid"}', t0 - 20_000, t0 + 30_000, 10_000)
    assert found.kind == "matrix"
    assert dict(found.labels[0]) == {"__name__": "depth", "side": "bid", "odd": 'q"\\\nü', "desk": "a"}
    assert found.t_ms.tolist() == [t0 + s * 1000 for s in (-20, -10, 0, 10, 20, 30)]
    assert found.present[0].tolist() == [False, False, True, True, True, True]
    assert found.values[0, 2:].tolist() == [0, 20, 40, 60]
    assert found.warnings == ()


def test_vectors_scalars_strings_and_raw_samples_come_back_too(server: Server) -> None:
    engine, t0 = _engine(server)
    found = engine.instant("sum by (desk) (depth)", t0 + 10_000)
    assert found.samples() == [({"desk": "a"}, 30.0)]
    assert engine.instant("nothing_like_it", t0).samples() == []
    assert engine.range("nothing_like_it", t0, t0 + 1000, 1000).labels == ()
    if server.kind == "prometheus":  # VictoriaMetrics answers both as vectors
        assert engine.instant("2 + 3", t0).values.tolist() == [[5.0]]
        assert engine.instant('"words"', t0).text == "words"
    raw = engine.instant('depth{side="ask"}[5s]', t0 + 10_000)
    assert raw.kind == "matrix"
    assert raw.values[0, -5:].tolist() == [6, 7, 8, 9, 10]
    assert raw.t_ms[-5:].tolist() == [t0 + s * 1000 for s in range(6, 11)]


def test_mistakes_read_as_ever(server: Server) -> None:
    engine, t0 = _engine(server)
    with pytest.raises(QueryError) as caught:
        engine.range("rate(depth", t0, t0 + 1000, 1000)
    assert caught.value.kind == "bad_data"
    with pytest.raises(QueryError, match="exceeded maximum resolution"):
        engine.range("depth", t0, t0 + 20_000_000, 1000)
    with pytest.raises(QueryError) as caught:
        engine.instant("depth + on (desk) depth", t0 + 1000)
    assert "remote store says" in str(caught.value)
    assert caught.value.kind == "execution"


def test_series_and_labels_are_the_remote_ones(server: Server) -> None:
    engine, t0 = _engine(server)
    source = engine.source
    side = [Matcher("__name__", "=", "depth"), Matcher("side", "=~", "b.*")]
    assert [one.label("side") for one in source.series(side, t0, t0 + 300_000)] == ["bid"]
    assert source.label_values("side", [Matcher("desk", "=", "a")]) == ["ask", "bid"]
    assert {"__name__", "desk", "side"} <= set(source.label_names())
    assert "depth" in source.label_values("__name__")
    odd = source.series([Matcher("odd", "=", 'q"\\\nü')])
    assert len(odd) == 2


def test_while_it_is_away_the_local_store_answers_and_says_so() -> None:
    clock = ManualClock()
    local = MemorySource()
    local.put(Series("only_here"), [1000, 2000], [1.0, 2.0])
    client = RemoteClient(endpoint("prometheus+http://127.0.0.1:9", "", "", "", ()), 1.0)
    engine = RemoteEngine(local, RemoteStore(client, clock), QueryOptions(), clock)
    for found in (engine.instant("only_here", 2000), engine.range("only_here", 1000, 2000, 1000)):
        assert len(found.labels) == 1
        assert "the remote store http://127.0.0.1:9 cannot be reached" in found.warnings[0]
        assert "This answer comes from the local store" in found.warnings[0]
    assert engine.source.label_values("__name__") == ["only_here"]
    assert engine.source.label_names() == ["__name__"]
    assert engine.source.series([Matcher("__name__", "=", "only_here")]) == [Series("only_here")]
    assert isinstance(engine.limited(QueryOptions(timeout_s=1), clock), RemoteEngine)
    assert isinstance(engine, QueryEngine)
    client.close()


def test_selectors_are_written_as_promql_reads_them() -> None:
    matchers = [Matcher("__name__", "=", "m"), Matcher("a", "!~", 'x"\\y\nz')]
    assert selector(matchers) == '{__name__="m",a!~"x\\"\\\\y\\nz"}'
