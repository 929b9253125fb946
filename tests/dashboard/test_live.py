from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from dashboard.live import LiveHub
from dashboard.options import WebOptions
from dashboard.server import build_server
from dashboard.services import EngineInfo
from dashboard.stats import LiveCollector
from metrics.frame import Frame
from metrics.series import Schema, Series, make_labels
from tests.dashboard.demo_services import Desk, running, serving, wait_until

TIMEOUT_S = 10.0


@contextmanager
def viewer(url: str, epoch: str = "", seq: int = -1) -> Iterator[ClientConnection]:
    address = url.replace("http", "ws") + "/ws/live"
    with connect(address, origin=url, max_size=None, compression=None, max_queue=8) as connection:  # type: ignore[arg-type]
        connection.send(orjson.dumps({"k": "hello", "epoch": epoch, "seq": seq}).decode())
        yield connection


def received(connection: ClientConnection) -> tuple[bytes, dict[str, Any]]:
    message = connection.recv(timeout=TIMEOUT_S)
    assert isinstance(message, bytes)
    return message, orjson.loads(message)


def until(connection: ClientConnection, kind: str) -> dict[str, Any]:
    """Skip messages up to the next of a kind."""
    for _ in range(500):
        _, message = received(connection)
        if message["k"] == kind:
            return message
    raise AssertionError(f"no {kind} among 500 messages")


def test_a_new_viewer_gets_a_snapshot_and_then_every_message_without_a_gap(desk: Desk, url: str) -> None:
    desk.append_now()
    with viewer(url) as connection:
        _, snapshot = received(connection)
        assert snapshot["k"] == "snapshot"
        assert "deskvigil_kpi_slippage_bps" in snapshot["layouts"]["engine"]
        sequence = snapshot["seq"]
        for _ in range(5):
            desk.append_now()
            _, message = received(connection)
            assert message["seq"] == sequence + 1
            sequence += 1


def test_a_sample_reaches_the_viewer_with_its_value_in_the_layouts_place(desk: Desk, url: str) -> None:
    desk.script.noise = 0.0
    desk.append_now()
    with viewer(url) as connection:
        _, snapshot = received(connection)
        desk.script.values["slippage"] = 7.5
        desk.append_now()
        place = snapshot["layouts"]["engine"].index("deskvigil_kpi_slippage_bps")
        for _ in range(50):
            message = until(connection, "tick")
            rows = {row[0]: row for row in message["f"]}
            if "engine" in rows and rows["engine"][3][place] == 7.5:
                return
    raise AssertionError("the sample never came")


def test_the_same_bytes_reach_all_viewers(desk: Desk, url: str) -> None:
    desk.append_now()
    with viewer(url) as one, viewer(url) as other:
        seen: list[dict[int, bytes]] = [{}, {}]
        for connection, messages in zip((one, other), seen, strict=True):
            received(connection)
            for _ in range(4):
                desk.append_now()
                data, message = received(connection)
                messages[message["seq"]] = data
        last = max(seen[1])
        while max(seen[0]) < last:
            data, message = received(one)
            seen[0][message["seq"]] = data
        common = seen[0].keys() & seen[1].keys()
        assert len(common) >= 3
        assert all(seen[0][number] == seen[1][number] for number in common)


def test_a_viewer_that_reconnects_is_sent_exactly_what_it_missed(desk: Desk, url: str) -> None:
    desk.append_now()
    with viewer(url) as connection:
        _, snapshot = received(connection)
        desk.append_now()
        _, last = received(connection)
    with viewer(url) as other:  # sees what the first one misses
        received(other)
        for _ in range(3):
            desk.append_now()
            received(other)
    with viewer(url, snapshot["epoch"], last["seq"]) as connection:
        for number in range(last["seq"] + 1, last["seq"] + 4):
            _, message = received(connection)
            assert message["k"] != "snapshot"
            assert message["seq"] == number


def test_a_viewer_of_an_earlier_server_gets_a_snapshot(desk: Desk, url: str) -> None:
    with viewer(url, "another", 3) as connection:
        assert received(connection)[1]["k"] == "snapshot"


def test_a_viewer_that_was_away_too_long_gets_a_snapshot(desk: Desk) -> None:
    options = replace(WebOptions(port=0), live_replay=10, live_gap_ms=10)
    with running(replace(desk.services, options=options)) as (url, hub):
        with viewer(url) as connection:
            _, snapshot = received(connection)
        start = hub.stats.messages

        def filled() -> bool:
            desk.append_now()
            return hub.stats.messages > start + 15

        wait_until(filled, "the replay buffer turns over")
        with viewer(url, snapshot["epoch"], snapshot["seq"]) as connection:
            assert received(connection)[1]["k"] == "snapshot"


def test_a_viewer_that_cannot_keep_up_is_dropped_to_a_snapshot_and_stands_right_again(desk: Desk) -> None:
    options = replace(WebOptions(port=0), live_queue=8, live_gap_ms=10)
    names = [Series("deskvigil_process_threads", make_labels({"process": f"p{n}"})) for n in range(6_000)]
    schema = Schema("process", tuple(names))
    values = np.random.default_rng(1).standard_normal(len(schema))
    with running(replace(desk.services, options=options)) as (url, hub), viewer(url) as slow:
        received(slow)

        def dropped() -> bool:
            desk.store.live.append(Frame(schema, desk.clock.now_ns(), values))
            return hub.stats.dropped > 0

        wait_until(dropped, "the slow viewer's queue overflows")
        sequence, kinds = -1, []
        for _ in range(400):
            _, message = received(slow)
            kinds.append(message["k"])
            assert message["k"] == "snapshot" or sequence in (-1, message["seq"] - 1)
            sequence = message["seq"]
            if message["k"] == "snapshot":
                break
        assert kinds[-1] == "snapshot"
        desk.append_now()
        _, message = received(slow)
        assert message["seq"] == sequence + 1


def test_history_comes_on_a_grid_with_what_was_stored(tmp_path_factory: pytest.TempPathFactory) -> None:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.script.silent = True
    desk.start(past_s=120)
    try:
        with serving(desk.services) as url:
            desk.append_now()
            with viewer(url) as connection:
                received(connection)
                until(connection, "tick")
                connection.send('{"k": "history", "page": "desk", "range": 300}')
                history = until(connection, "history")
        latency = history["series"]['deskvigil_kpi_order_to_fill_seconds{quantile="0.99"}']
        assert history["step"] == 1000
        assert len(latency) == history["n"]
        known = [value for value in latency if value is not None]
        assert len(known) >= 110
        assert 100e-6 < known[0] < 900e-6
        assert latency[0] is None  # there was nothing five minutes ago
        assert "deskvigil_engine_orders_acked_total" not in history["series"]  # no page shows it
    finally:
        desk.stop()


def test_an_alert_is_pushed_when_it_fires(desk: Desk, url: str) -> None:
    desk.script.values["order_to_fill_p99"] = 900e-6
    with viewer(url) as connection:
        received(connection)
        for _ in range(60):
            desk.append_now()
            _, message = received(connection)
            if message["k"] == "alerts" and message["active"]:
                assert message["active"][0]["summary"] == "Order-to-fill p99 above 500 µs"
                assert message["active"][0]["severity"] == "warning"
                return
    raise AssertionError("no alert came")


def test_a_source_that_fails_does_not_stop_the_stream(desk: Desk) -> None:
    def engine() -> EngineInfo:
        raise RuntimeError("no engine to ask")

    with running(replace(desk.services, engine=engine)) as (url, hub), viewer(url) as connection:
        received(connection)
        desk.append_now()
        until(connection, "tick")
        wait_until(lambda: hub.stats.state_failures > 0, "the failure is counted")


@pytest.mark.parametrize(
    "said",
    [
        "nonsense",
        "[]",
        '{"k": "history", "page": "desk", "range": 7}',
        '{"k": "history", "page": "x", "range": 300}',
        "x" * 2000,
    ],
)
def test_a_viewer_that_says_something_else_is_shown_out(desk: Desk, url: str, said: str) -> None:
    with viewer(url) as connection:
        received(connection)
        connection.send(said)
        with pytest.raises(ConnectionClosed):
            until(connection, "nothing of the kind")
        assert connection.close_code == 1008


def test_a_full_house_refuses_one_more_viewer(desk: Desk) -> None:
    options = replace(WebOptions(port=0), max_viewers=1)
    with running(replace(desk.services, options=options)) as (url, hub), viewer(url) as first:
        received(first)
        with viewer(url) as second, pytest.raises(ConnectionClosed):
            received(second)
        assert second.close_code == 1013
        assert hub.stats.refused == 1


def test_a_viewer_that_leaves_is_forgotten(desk: Desk) -> None:
    with running(desk.services) as (url, hub):
        with viewer(url) as connection:
            received(connection)
            assert hub.viewers == 1
        wait_until(lambda: hub.viewers == 0, "the viewer is forgotten")


def test_building_the_server_starts_nothing(desk: Desk) -> None:
    hub: LiveHub = build_server(desk.services).state.hub
    desk.append_now()
    assert hub.stats.messages == 0
    assert hub.live_series() == []


def test_the_streams_own_figures_are_a_collector(desk: Desk) -> None:
    with running(desk.services) as (url, hub), viewer(url) as connection:
        received(connection)
        frame = LiveCollector(hub).collect(desk.clock.now_ns())
        figures = {one.name: value for one, value in zip(frame.schema.series, frame.values, strict=True)}
        assert figures["deskvigil_web_live_viewers"] == 1
        assert figures["deskvigil_web_live_messages_total"] > 0
        assert figures["deskvigil_web_live_snapshots_total"] >= 1
