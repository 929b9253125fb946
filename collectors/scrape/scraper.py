"""Scraper: one target's scrapes, from the page to the frame, and what is known of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from collectors.schedule import Schedule
from collectors.scrape.aside import Aside
from collectors.scrape.columns import STALE_NAN, Columns, Placed, SeriesBudget
from collectors.scrape.connection import FetchError
from collectors.scrape.fetch import Fetched, Fetcher, TlsContexts
from collectors.scrape.grammar import NAME
from collectors.scrape.page import Page, PageError, PageReader
from collectors.scrape.relabel import Relabelling
from collectors.scrape.state import Counts, TargetState
from collectors.scrape.targets import Target
from metrics.clock import Clock
from metrics.frame import Frame
from metrics.series import Series, make_labels

log = logging.getLogger(__name__)

REPORTS = (
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
)
EXPORTED = "exported_"
AHEAD_MS = 600_000  # a sample further in the future than this is refused, as Prometheus does
LARGE_BYTES = 512 * 1024  # a page of this size is read in a thread, so that the other targets' slots go on
ALIGN_NS = 2_000_000  # a scrape that begins this little after its slot carries the slot's time: it packs better
FIRST_NS, SPREAD_NS = 20_000_000, 600_000_000
MOST_SAMPLES_WITH_TIME = 100_000
MOST_REASONS = 32


class Scraper:
    """Scrapes one target at its rate. All methods but `state` and `metadata` belong to the loop's thread.

    sink takes frames; what it raises is counted. aside takes samples that are not for frames.
    """

    def __init__(
        self,
        target: Target,
        tls: TlsContexts,
        clock: Clock,
        sink: Callable[[Frame], None],
        aside: Aside,
        budget: SeriesBudget,
        counts: Counts,
        version: str,
    ) -> None:
        self.target = target
        self._clock = clock
        self._sink = sink
        self._aside = aside
        self._counts = counts
        self._fetcher = Fetcher(target, tls, version)
        self._relabelling = Relabelling(target.job.metric_relabel_configs)
        self._texts: dict[str, str] = {}
        reports = [Series(name, make_labels(target.labels)) for name in REPORTS]
        self._columns = Columns(target.name, reports, target.job.series_limit, budget)
        self._reader = PageReader(self._resolve, honor_timestamps=target.job.honor_timestamps)
        self._last_times: dict[Series, int] = {}
        self._metadata: Mapping[str, Mapping[str, str]] = {}
        self._announced: dict[str, None] = {}
        self._told_down = False
        self._state = TargetState(
            target.job.job_name, target.url, target.labels, target.discovered, "unknown", "", "", 0, 0.0,
            target.interval_s, target.timeout_s,
        )  # fmt: skip

    @property
    def state(self) -> TargetState:
        return self._state

    @property
    def metadata(self) -> Mapping[str, Mapping[str, str]]:
        """HELP, TYPE and UNIT by metric, of the last good page."""
        return self._metadata

    @property
    def series(self) -> int:
        """Series in the frames, own ones included, and those that go aside."""
        return len(self._columns.schema) + self._columns.late

    async def run(self) -> None:
        """Scrape in each slot until cancelled. A slot that has gone by unserved is counted."""
        clock, interval_ns = self._clock, round(self.target.interval_s * 1e9)
        schedule = Schedule(interval_ns, self._phase_ns(interval_ns))
        slot_ns = schedule.start(clock.monotonic_ns(), clock.now_ns())
        try:
            while True:
                await asyncio.sleep(max(0, slot_ns - clock.monotonic_ns()) / 1e9)
                await self.scrape(slot_ns)
                slot_ns, skipped = schedule.next(clock.monotonic_ns(), clock.now_ns())
                self._counts.late += skipped
        finally:
            self._fetcher.close()

    async def scrape(self, slot_ns: int | None = None) -> Frame:
        """One scrape; never raises but when cancelled. slot_ns: the monotonic time it was due."""
        began_ns, t_ns = self._clock.monotonic_ns(), self._clock.now_ns()
        if slot_ns is not None and 0 <= began_ns - slot_ns <= ALIGN_NS:
            t_ns -= began_ns - slot_ns
        error, warning = "", ""
        page: Page | None = None
        scraped, kept, added = 0, 0, 0
        try:
            fetched = await self._fetcher.fetch()
            self._counts.received_bytes += fetched.received_bytes
            page = await self._read(fetched)
            scraped, kept, added = page.scraped, page.kept, page.added
            self._check_count(kept)
        except FetchError as failure:
            error = str(failure)
        except PageError as failure:
            error, scraped, kept, added, page = str(failure), failure.scraped or scraped, failure.kept or kept, 0, None
        except Exception as failure:  # a mistake of ours must not end the target's scraping
            error, page = f"{type(failure).__name__}: {failure}", None
            log.exception("scraping %s failed unexpectedly", self.target.url)
        took_s = (self._clock.monotonic_ns() - began_ns) / 1e9
        reports = (float(page is not None), took_s, scraped, kept, added)
        rebuilt = self._columns.rebuilt
        if page is None:
            placed = self._columns.empty(t_ns, reports)
        else:
            placed = self._columns.place(page, t_ns, began_ns / 1e9, reports)
            warning = self._warning(page, placed, t_ns)
            self._metadata = self._reader.metadata
        self._count(page, placed, self._columns.rebuilt - rebuilt)
        self._put_aside(placed)
        self._note(error, warning, t_ns, took_s)
        self._hand_over(placed.frame)
        return placed.frame

    def end(self) -> None:
        """The target is not scraped any more: all its series end."""
        placed = self._columns.empty(self._clock.now_ns(), [float("nan")] * len(REPORTS))
        self._put_aside(placed)
        self._hand_over(placed.frame)
        self._columns.close()

    def _phase_ns(self, interval_ns: int) -> int:
        """Where in its interval the target's slot lies: a fixed place, other targets elsewhere.

        Within a second it lies in the first part, so that jitter never puts two scrapes into one second: the
        archive keeps the last frame of each.
        """
        place = self.target.phase()
        seconds = int(place * (interval_ns // 1_000_000_000))
        within = FIRST_NS + int(place * 7919 % 1.0 * SPREAD_NS)
        return seconds * 1_000_000_000 + within

    async def _read(self, fetched: Fetched) -> Page:
        began_ns = self._clock.monotonic_ns()
        try:
            if len(fetched.body) < LARGE_BYTES:
                return self._reader.read(fetched.body, fetched.form)
            return await asyncio.to_thread(self._reader.read, fetched.body, fetched.form)
        finally:
            self._counts.parse_ns += self._clock.monotonic_ns() - began_ns

    def _check_count(self, kept: int) -> None:
        limit = self.target.job.sample_limit
        if limit and kept > limit:
            raise PageError(f"{kept} samples after relabelling, sample_limit is {limit}")

    def _resolve(self, written: dict[str, str]) -> Series | None:
        """A series as the page writes it, with the target's labels and after relabelling; None: dropped."""
        labels = self._with_target(written)
        if self._relabelling and not self._relabelling.apply(labels):
            return None
        name = labels.pop(NAME, "")
        if not name:
            raise PageError("relabelling leaves a series without a name")
        self._check_labels(name, labels)
        texts = self._texts
        if len(texts) > 100_000:
            texts.clear()
        keep = texts.setdefault
        return Series(keep(name, name), tuple((keep(k, k), keep(v, v)) for k, v in sorted(labels.items())))

    def _with_target(self, written: dict[str, str]) -> dict[str, str]:
        own = self.target.labels
        if self.target.job.honor_labels:
            # An empty label on the page keeps the target's away, and is then none itself.
            merged = {**own, **written}
        else:
            merged = {**written, **own}
            conflicting = sorted((name for name in own if written.get(name)), key=lambda name: (len(name), name))
            for name in conflicting:
                exported = EXPORTED + name
                while merged.get(exported):
                    exported = EXPORTED + exported
                merged[exported] = written[name]
        return {name: value for name, value in merged.items() if value}

    def _check_labels(self, name: str, labels: Mapping[str, str]) -> None:
        job = self.target.job
        if job.label_limit and len(labels) + 1 > job.label_limit:
            raise PageError(f"{name} has {len(labels) + 1} labels, its name included; label_limit is {job.label_limit}")
        if job.label_name_length_limit or job.label_value_length_limit:
            for label, value in ((NAME, name), *labels.items()):
                if job.label_name_length_limit and len(label.encode()) > job.label_name_length_limit:
                    raise PageError(f"{name}: a label's name is longer than {job.label_name_length_limit} bytes")
                if job.label_value_length_limit and len(value.encode()) > job.label_value_length_limit:
                    raise PageError(f"{name}: {label} is longer than {job.label_value_length_limit} bytes")

    def _warning(self, page: Page, placed: Placed, t_ns: int) -> str:
        """What of a good page is left out, in words; takes the samples with a time of their own in passing."""
        words = []
        if placed.duplicates:
            words.append(f"{placed.duplicates} samples of series that the page has twice are left out")
        if self._columns.refused:
            words.append(f"{self._columns.refused} samples are left out: {self._columns.limit}")
        outside = self._take_timed(page, t_ns // 1_000_000)
        if outside:
            self._counts.out_of_bounds += outside
            words.append(f"{outside} samples are left out: their time is before 1970 or too far in the future")
        return "; ".join(words)

    def _take_timed(self, page: Page, now_ms: int) -> int:
        """Put samples with a time of their own aside, each once; returns how many have an impossible one."""
        if not page.timed:
            return 0
        before, outside = self._last_times, 0
        last: dict[Series, int] = {}
        for timed in page.timed[:MOST_SAMPLES_WITH_TIME]:
            if not 0 <= timed.t_ms <= now_ms + AHEAD_MS:
                outside += 1
                continue
            if before.get(timed.series) != timed.t_ms:
                self._aside.add(timed.series, timed.t_ms, timed.value)
            last[timed.series] = timed.t_ms
        self._last_times = last
        return outside + max(0, len(page.timed) - MOST_SAMPLES_WITH_TIME)

    def _put_aside(self, placed: Placed) -> None:
        t_ms = placed.frame.t_ms
        for series, value in zip(placed.late, placed.late_values.tolist(), strict=True):
            self._aside.add(series, t_ms, value)
        for series in placed.gone:
            self._aside.add(series, t_ms, STALE_NAN)

    def _count(self, page: Page | None, placed: Placed, rebuilt: int) -> None:
        counts = self._counts
        counts.scrapes += 1
        counts.failures += page is None
        counts.samples += 0 if page is None else page.kept
        counts.duplicates += placed.duplicates
        counts.refused += self._columns.refused
        counts.layouts += rebuilt

    def _note(self, error: str, warning: str, t_ns: int, took_s: float) -> None:
        was = self._state
        self._state = TargetState(
            was.pool, was.url, was.labels, was.discovered, "down" if error else "up", error, warning, t_ns, took_s,
            was.interval_s, was.timeout_s,
        )  # fmt: skip
        told = error or warning
        if told and told not in self._announced:  # once per reason: a target that flaps must not fill the log
            if len(self._announced) >= MOST_REASONS:
                self._announced.pop(next(iter(self._announced)))
            self._announced[told] = None
            self._told_down = self._told_down or bool(error)
            log.warning("scraping %s of job %s: %s", was.url, was.pool, told)
        elif not error and self._told_down:
            self._told_down = False
            log.info("scraping %s of job %s is back after: %s", was.url, was.pool, was.last_error)

    def _hand_over(self, frame: Frame) -> None:
        try:
            self._sink(frame)
        except Exception:
            self._counts.sink_errors += 1
            if self._counts.sink_errors == 1:
                log.exception("frames of %s cannot be handed over", frame.schema.collector)
