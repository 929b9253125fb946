"""From the page to the answer of a query, through the real store."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from collectors.scrape.aside import Aside
from collectors.scrape.columns import SeriesBudget
from collectors.scrape.fetch import TlsContexts
from collectors.scrape.scraper import Scraper
from collectors.scrape.state import Counts
from collectors.scrape.targets import targets_of
from metrics.clock import ManualClock
from metrics.paths import RuntimePaths
from query.engine import QueryEngine
from query.options import QueryOptions
from storage.options import StorageOptions
from storage.store import Store
from tests.collectors.scrape_server import PageServer, Reply
from tests.collectors.test_scrape import job


class Whole:
    """A target, a store and a query engine on one clock."""

    def __init__(self, server: PageServer, folder: Path) -> None:
        self.clock = ManualClock()
        self.store = Store.open(StorageOptions(), RuntimePaths(folder), self.clock)
        self.query = QueryEngine(self.store.reader, QueryOptions(), self.clock)
        counts = Counts()
        self.aside = Aside(self.store.ingest, counts)
        one = job(server.address)
        (target,), _ = targets_of([one])
        self.scraper = Scraper(
            target, TlsContexts(one.tls_config), self.clock, self.store.live.append, self.aside, SeriesBudget(1000),
            counts, "1",
        )  # fmt: skip

    async def second(self) -> None:
        await self.scraper.scrape()
        self.aside.flush()
        self.clock.advance(1_000_000_000)

    def now(self, expression: str) -> list[float]:
        """Values at the last scrape's time."""
        result = self.query.instant(expression, self.clock.now_ns() // 1_000_000 - 1000)
        return [
            float(value)
            for row, there in zip(result.values, result.present, strict=True)
            for value, is_ in zip(row, there, strict=True)
            if is_
        ]


@pytest.fixture
def server() -> Iterator[PageServer]:
    made = PageServer()
    yield made
    made.close()


def test_what_is_scraped_can_be_asked_for_vanishes_at_once_and_comes_back(server: PageServer, tmp_path: Path) -> None:
    async def story() -> None:
        whole = Whole(server, tmp_path)
        server.page("a 1\nquiet NaN\n")
        await whole.second()
        assert whole.now("a") == [1]
        assert [math.isnan(value) for value in whole.now("quiet")] == [True]
        assert whole.now("up") == [1]

        server.page("a 2\nnew 5\n")
        await whole.second()
        assert (whole.now("a"), whole.now("new"), whole.now("quiet")) == ([2], [5], [])
        for value in (6, 7):
            server.page(f"a 2\nnew {value}\n")
            await whole.second()
        assert whole.now("new") == [7]
        assert whole.now("sum_over_time(new[10s])") == [18]

        server.replies["/metrics"] = Reply("gone", 503)
        await whole.second()
        assert (whole.now("a"), whole.now("new"), whole.now("up")) == ([], [], [0])

        whole.clock.advance(60_000_000_000)
        server.page("a 3\nnew 8\n")
        await whole.second()
        assert (whole.now("a"), whole.now("new"), whole.now("up")) == ([3], [8], [1])
        assert whole.now("sum_over_time(new[100s])") == [26]
        whole.store.seal(everything=True)
        assert whole.now("sum_over_time(new[100s])") == [26]
        whole.scraper._fetcher.close()
        whole.store.close()

    asyncio.run(story())


def test_samples_with_their_own_time_are_where_they_say(server: PageServer, tmp_path: Path) -> None:
    async def story() -> None:
        whole = Whole(server, tmp_path)
        early_ms = whole.clock.now_ns() // 1_000_000 - 120_000
        server.page(f"late 4 {early_ms}\nnow 1\n")
        await whole.second()
        result = whole.query.instant("late", early_ms)
        assert result.values[result.present].tolist() == [4]
        whole.scraper._fetcher.close()
        whole.store.close()

    asyncio.run(story())
