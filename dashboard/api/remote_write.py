"""Prometheus remote write 1.0: a snappy block holding one protobuf WriteRequest.

Field numbers are those of prometheus/prompb (remote.proto, types.proto): WriteRequest.timeseries 1; TimeSeries.labels 1,
samples 2; Label.name 1, value 2; Sample.value 1, timestamp 2. Metadata, exemplars and native histograms are skipped.

Senders repeat themselves: the same label sets with every request, and samples in one of two layouts (a value of 0
is not sent). So the samples of all series are picked from their ends as arrays, and what is left in front of them is
looked up among the label sets seen before. A hit is exact: the bytes of a known label set are whole label fields,
what follows them are whole samples, and protobuf can be read in one way only. Everything else goes through the
reader in `wire`, field by field.
"""

from __future__ import annotations

import cramjam
import numpy as np
import numpy.typing as npt

from dashboard.api import wire
from dashboard.api.options import IngestOptions
from dashboard.api.samples import BadSampleError, Samples, checked_series
from metrics.frame import FloatArray, IntArray
from metrics.series import Series
from storage.keys import SeriesKey, SeriesKeys

_WHOLE = 18  # bytes of a sample with a value: tag, length, value's tag, value, time's tag, six bytes of time
_ZERO = 9  # bytes of one whose value is 0
_MOST_FAST = 64  # samples of one series that are picked by arrays across series; longer ones one series at a time
_CACHE_BYTES = 64 << 20
_ENTRY_BYTES = 200  # what a remembered label set costs besides its bytes, about

Bytes = npt.NDArray[np.uint8]


class TooLargeBlockError(Exception):
    """The block announces more bytes than are accepted."""


class RemoteWriteDecoder:
    """Decodes request bodies and remembers the label sets in them. Any number of threads may use one."""

    def __init__(self, limits: IngestOptions, keys: SeriesKeys | None = None) -> None:
        self._limits = limits
        self._keys = keys or SeriesKeys()
        self._known: dict[bytes, SeriesKey] = {}
        self._bytes = 0

    def decode(self, body: bytes) -> Samples:
        """Return the samples of a body.

        TooLargeBlockError before anything is decompressed where the block's header announces more
        than `most_block_bytes`; BadSampleError where it is not what it should be.
        """
        try:
            size = cramjam.snappy.decompress_raw_len(body)
            if size > self._limits.most_block_bytes:
                raise TooLargeBlockError(
                    f"the block holds {size} bytes, the limit is {self._limits.most_block_bytes} (web.ingest.most_block_bytes)"
                )
            raw = bytes(cramjam.snappy.decompress_raw(body))
        except cramjam.DecompressionError as error:
            raise BadSampleError(f"snappy: {error}") from None
        return self._samples(raw, *_timeseries(raw)).checked()

    def _samples(self, raw: bytes, starts: list[int], ends: list[int]) -> Samples:
        if not starts:
            return Samples([], np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        begin, stop = np.array(starts, np.int64), np.array(ends, np.int64)
        alike = self._alike(raw, starts, begin, stop)
        if alike is not None:
            return alike
        labels_end, counts, picked = _from_ends(_windows(raw), begin, stop)
        keys: list[SeriesKey] = []
        others: dict[int, tuple[IntArray, FloatArray]] = {}
        known = self._known
        for i, (start, end) in enumerate(zip(starts, labels_end.tolist(), strict=True)):
            key = known.get(raw[start:end])
            if key is None:
                key, t_ms, values = self._one(raw, start, ends[i])
                others[i] = (t_ms, values)
                counts[i] = len(t_ms)
            keys.append(key)
        return _assembled(keys, counts, picked, others)

    def _alike(self, raw: bytes, starts: list[int], begin: IntArray, stop: IntArray) -> Samples | None:
        """The samples where all series are known and have as many as the first, all with a value: the usual request."""
        windows = _windows(raw)
        _, found, picked = _from_ends(windows, begin[:1], stop[:1])
        count = int(found[0])
        labels_end = stop - count * _WHOLE
        if count == 0 or (labels_end < begin).any() or any(zero.any() for zero in picked.is_zero):
            return None
        keys = [self._known.get(raw[a:b]) for a, b in zip(starts, labels_end.tolist(), strict=True)]
        known = [key for key in keys if key is not None]
        if len(known) < len(keys):
            return None
        records = windows[(labels_end[:, None] + _WHOLE * np.arange(1, count + 1)).ravel()]
        if not _is_whole(records).all():
            return None
        counts = np.full(len(known), count, np.int64)
        return Samples(known, counts, _times(records), _numbers(records))

    def _one(self, raw: bytes, start: int, end: int) -> tuple[SeriesKey, IntArray, FloatArray]:
        """Read one TimeSeries field by field, and remember its labels where they come first."""
        pairs: list[tuple[str, str]] = []
        times: list[int] = []
        numbers: list[float] = []
        labels_end, in_front = start, True
        for number, kind, a, b in wire.fields(raw, start, end):
            if kind != wire.BYTES:
                in_front = False
            elif number == 1:
                pairs.append(wire.label(raw, a, b))
                if in_front:
                    labels_end = b
                if len(pairs) > self._limits.most_labels + 1:
                    raise BadSampleError(
                        f"more than {self._limits.most_labels} labels on one series (web.ingest.most_labels)"
                    )
            elif number == 2:
                if in_front and (run := _uniform(raw, a, end)) is not None:
                    key = self._key(checked_series(pairs, self._limits), raw[start:labels_end])
                    return key, *run
                in_front = False
                t_ms, value = wire.sample(raw, a, b)
                times.append(t_ms)
                numbers.append(value)
            else:
                in_front = False
        series = checked_series(pairs, self._limits)
        # Labels behind a sample belong to the series too: then the bytes in front are not all of them.
        whole = sum(1 for number, kind, _, _ in wire.fields(raw, start, labels_end) if number == 1) == len(pairs)
        key = self._key(series, raw[start:labels_end] if whole else None)
        return key, np.array(times, np.int64), np.array(numbers, np.float64)

    def _key(self, series: Series, labels: bytes | None) -> SeriesKey:
        key = self._keys.of(series)
        if labels is not None and labels not in self._known:
            self._bytes += len(labels) + _ENTRY_BYTES
            if self._bytes > _CACHE_BYTES:
                # Forgetting all costs each sender one slow request; a finer rule would cost every request.
                self._known, self._bytes = {}, 0
            self._known[labels] = key
        return key


def _timeseries(raw: bytes) -> tuple[list[int], list[int]]:
    """Where the TimeSeries of a WriteRequest begin and end."""
    starts: list[int] = []
    ends: list[int] = []
    position, size = 0, len(raw)
    while position < size:
        # Three bytes for the usual ones, by hand; whatever else there is, by the general reader.
        if raw[position] == 0x0A and position + 3 <= size:
            length = raw[position + 1]
            begin = position + 2
            if length > 0x7F and raw[begin] < 0x80:
                length = length & 0x7F | raw[begin] << 7
                begin += 1
            if length < 0x4000 and (length < 0x80 or begin == position + 3) and begin + length <= size:
                starts.append(begin)
                position = begin + length
                ends.append(position)
                continue
        number, kind, a, b = next(wire.fields(raw, position, size))
        if kind == wire.VARINT:
            position = wire.varint(raw, wire.varint(raw, position, size)[1], size)[1]
            continue
        if number == 1 and kind == wire.BYTES:
            starts.append(a)
            ends.append(b)
        position = b
    return starts, ends


class _Picked:
    """Samples found from the ends of their series: for each round those of the series still going."""

    def __init__(self) -> None:
        self.rows: list[IntArray] = []
        self.records: list[Bytes] = []
        self.is_zero: list[npt.NDArray[np.bool_]] = []


def _windows(raw: bytes) -> Bytes:
    """For each position the 18 bytes in front of it; positions near the beginning have zeros there."""
    padded = np.frombuffer(bytes(_WHOLE) + raw, np.uint8)
    windows: Bytes = np.lib.stride_tricks.sliding_window_view(padded, _WHOLE)
    return windows


def _is_timed(records: Bytes) -> npt.NDArray[np.bool_]:
    """Whether the last seven bytes are a time of six bytes (1971 to 2109) behind its tag."""
    more = (records[:, 12] & records[:, 13] & records[:, 14] & records[:, 15] & records[:, 16]) >= 0x80
    timed: npt.NDArray[np.bool_] = (records[:, 11] == 0x10) & more & (records[:, 17] < 0x80)
    return timed


def _is_whole(records: Bytes) -> npt.NDArray[np.bool_]:
    """Whether the 18 bytes are a sample with a value."""
    tagged: npt.NDArray[np.bool_] = (records[:, 0] == 0x12) & (records[:, 1] == 0x10) & (records[:, 2] == 0x09)
    return _is_timed(records) & tagged


def _times(records: Bytes) -> IntArray:
    words = np.ascontiguousarray(records[:, 10:]).view("<u8")[:, 0] >> np.uint64(16)
    # Six groups of seven bits, squeezed together pair by pair.
    words = words & np.uint64(0x7F7F7F7F7F7F)
    words = (words & np.uint64(0x007F007F007F)) | ((words & np.uint64(0x7F007F007F00)) >> np.uint64(1))
    low, middle, high = words & np.uint64(0x3FFF), words >> np.uint64(16) & np.uint64(0x3FFF), words >> np.uint64(32)
    times: IntArray = (low | middle << np.uint64(14) | high << np.uint64(28)).view(np.int64)
    return times


def _numbers(records: Bytes) -> FloatArray:
    return np.ascontiguousarray(records[:, 3:11]).view("<f8")[:, 0]


def _from_ends(windows: Bytes, begin: IntArray, stop: IntArray) -> tuple[IntArray, IntArray, _Picked]:
    """Step back from each TimeSeries' end over samples of the two usual layouts.

    Returns where the first of them begins, how many there are, and the samples, last ones first.
    """
    ends, counts, picked = stop.copy(), np.zeros(len(stop), np.int64), _Picked()
    going = np.arange(len(stop))
    while len(going) and len(picked.rows) < _MOST_FAST:
        at = ends[going]
        records = windows[at]  # the 18 bytes in front of `at`
        room = at - begin[going]
        whole = _is_whole(records) & (room >= _WHOLE)
        zero = _is_timed(records) & (records[:, 9] == 0x12) & (records[:, 10] == 0x07) & (room >= _ZERO) & ~whole
        found = whole | zero
        if not found.all():
            going, records, zero, at = going[found], records[found], zero[found], at[found]
        ends[going] = at - np.where(zero, _ZERO, _WHOLE)
        counts[going] += 1
        picked.rows.append(going)
        picked.records.append(records)
        picked.is_zero.append(zero)
    return ends, counts, picked


def _assembled(
    keys: list[SeriesKey], counts: IntArray, picked: _Picked, others: dict[int, tuple[IntArray, FloatArray]]
) -> Samples:
    """Put the picked samples and those read one by one in their places."""
    ends = counts.cumsum()
    t_ms, values = np.empty(int(ends[-1]), np.int64), np.empty(int(ends[-1]), np.float64)
    usual = np.ones(len(keys), np.bool_)
    usual[list(others)] = False
    rows, rounds = np.concatenate(picked.rows), np.repeat(np.arange(len(picked.rows)), [len(r) for r in picked.rows])
    records, zero = np.concatenate(picked.records), np.concatenate(picked.is_zero)
    if others:
        wanted = usual[rows]
        rows, rounds, records, zero = rows[wanted], rounds[wanted], records[wanted], zero[wanted]
    places = ends[rows] - 1 - rounds
    t_ms[places] = _times(records)
    numbers = _numbers(records)
    if zero.any():
        numbers = np.where(zero, 0.0, numbers)
    values[places] = numbers
    for i, (times, column) in others.items():
        t_ms[ends[i] - counts[i] : ends[i]] = times
        values[ends[i] - counts[i] : ends[i]] = column
    if counts.all():
        return Samples(keys, counts, t_ms, values)
    filled = counts > 0
    return Samples([key for key, some in zip(keys, filled.tolist(), strict=True) if some], counts[filled], t_ms, values)


def _uniform(raw: bytes, first: int, end: int) -> tuple[IntArray, FloatArray] | None:
    """The samples from `first` (a content's begin) to the end, where all have the usual layout with a value."""
    first -= 2
    if (end - first) % _WHOLE or end - first < _WHOLE:
        return None
    records = np.frombuffer(raw, np.uint8, end - first, first).reshape(-1, _WHOLE)
    if not _is_whole(records).all():
        return None
    return _times(records), _numbers(records)
