"""A desk with real parts behind a real web server, for the dashboard's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dashboard.demo_services import Desk, serving


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A running desk whose engine is silent until the test speaks for it (`append_now`)."""
    desk = Desk(tmp_path)
    desk.script.silent = True
    desk.start()
    try:
        yield desk
    finally:
        desk.stop()


@pytest.fixture
def url(desk: Desk) -> Iterator[str]:
    """Address of the desk's web server."""
    with serving(desk.services) as address:
        yield address
