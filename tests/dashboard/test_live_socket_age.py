from __future__ import annotations

import time
from dataclasses import replace

import orjson
from websockets.sync.client import connect

from tests.dashboard.demo_services import Desk, serving


def test_a_socket_outlives_the_time_that_the_head_of_a_request_may_take(desk: Desk) -> None:
    options = replace(desk.services.options, head_timeout_s=1.0)
    with serving(replace(desk.services, options=options)) as url:
        address = url.replace("http", "ws") + "/ws/live"
        with connect(address, origin=url, max_size=None, compression=None) as connection:  # type: ignore[arg-type]
            connection.send(orjson.dumps({"k": "hello", "epoch": "", "seq": -1}).decode())
            connection.recv(timeout=15.0)
            deadline = time.monotonic() + 2.5
            while time.monotonic() < deadline:
                desk.append_now()
                assert orjson.loads(connection.recv(timeout=15.0))["k"]
