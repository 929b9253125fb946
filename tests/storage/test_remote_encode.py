"""The message of remote write, against protobuf's own decoder; and progress against a plain set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.series import Series, make_labels
from storage.remote.encode import Part, Ragged, encode_labels, encode_request, varint
from storage.remote.progress import Progress
from storage.remote.unsent import halves

FIELDS = {
    "Label": (("name", 1, "STRING"), ("value", 2, "STRING")),
    "Sample": (("value", 1, "DOUBLE"), ("timestamp", 2, "INT64")),
    "TimeSeries": (("labels", 1, "Label"), ("samples", 2, "Sample")),
    "WriteRequest": (("timeseries", 1, "TimeSeries"),),
}


def _message_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="test/remote.proto", package="test", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            nested = kind in FIELDS
            field = message.field.add(name=field_name, number=number)
            field.label = kinds.LABEL_REPEATED if nested else kinds.LABEL_OPTIONAL
            field.type = kinds.TYPE_MESSAGE if nested else kinds.Type.Value(f"TYPE_{kind}")
            if nested:
                field.type_name = f".test.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.WriteRequest"))


WriteRequest = _message_class()
Decoded = list[tuple[dict[str, str], list[tuple[int, bytes]]]]


def decoded(body: bytes) -> Decoded:
    """Labels and (time, bits of the value) of each series; labels must come sorted."""
    request = WriteRequest.FromString(body)
    out = []
    for one in request.timeseries:
        names = [label.name for label in one.labels]
        assert names == sorted(names)
        values = [(sample.timestamp, np.float64(sample.value).tobytes()) for sample in one.samples]
        out.append(({label.name: label.value for label in one.labels}, values))
    return out


times = st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=6).map(lambda t: np.array(t, np.int64))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), t_ms=times, names=st.lists(texts, min_size=1, max_size=4, unique=True))
def test_columns_come_out_of_a_protobuf_decoder_as_they_went_in(
    data: st.DataObject, t_ms: np.ndarray, names: list[str]
) -> None:
    shape = (len(names), len(t_ms))
    raw = data.draw(st.binary(min_size=8 * shape[0] * shape[1], max_size=8 * shape[0] * shape[1]))
    values = np.frombuffer(raw, "<f8").reshape(shape)
    present = np.array(data.draw(st.lists(st.booleans(), min_size=values.size, max_size=values.size))).reshape(shape)
    series = [Series("metric", make_labels({"one": name or "x", "number": str(i)})) for i, name in enumerate(names)]
    labels = [encode_labels(one, {"desk": "a"}) for one in series]
    bits = values.view("<u8")
    expected = []
    for row, one in enumerate(series):
        kept = [(int(t), bits[row, i].tobytes()) for i, t in enumerate(t_ms) if present[row, i]]
        if kept:
            expected.append(({"__name__": "metric", "desk": "a", **dict(one.labels)}, kept))
    assert _quiet(decoded(encode_request([Part(labels, t_ms, values, present)]))) == _quiet(expected)

    counts = present.sum(axis=1)
    rows = np.flatnonzero(counts)
    ragged = Ragged(
        [labels[row] for row in rows.tolist()],
        np.r_[0, np.cumsum(counts[rows])].astype(np.int64),
        np.concatenate([t_ms[present[row]] for row in rows.tolist()] or [np.empty(0, np.int64)]),
        np.concatenate([values[row, present[row]] for row in rows.tolist()] or [np.empty(0)]),
    )
    assert _quiet(decoded(encode_request([ragged]))) == _quiet(expected)

    pieces: list[Any] = []
    for smaller in halves([Part(labels, t_ms, values, present), ragged]):
        pieces += smaller
    if pieces:  # split in two, nothing is lost and nothing doubled
        whole = sorted((str(who), sample) for who, some in _quiet(expected) for sample in some)
        split = sorted((str(who), sample) for who, some in _quiet(decoded(encode_request(pieces))) for sample in some)
        assert split == sorted(whole + whole)


def _quiet(found: Decoded) -> Decoded:
    """Python's protobuf makes signalling NaNs quiet when it hands them out; the bytes sent keep them (see below)."""
    out = []
    for labels, samples in found:
        quiet = []
        for t, raw in samples:
            bits = int.from_bytes(raw, "little")
            if bits & 0x7FF0_0000_0000_0000 == 0x7FF0_0000_0000_0000 and bits & 0x000F_FFFF_FFFF_FFFF:
                bits |= 0x0008_0000_0000_0000
            quiet.append((t, bits.to_bytes(8, "little")))
        out.append((labels, quiet))
    return out


def test_the_stale_marker_keeps_its_bits() -> None:
    from storage.stale import STALE_BITS, STALE_NAN

    body = encode_request([Part([b"\x0a\x00"], np.array([1], np.int64), np.array([[STALE_NAN]]))])
    assert STALE_BITS.to_bytes(8, "little") in body


def test_a_series_own_label_goes_before_an_external_one() -> None:
    encoded = encode_labels(Series("m", make_labels({"desk": "own"})), {"desk": "external", "site": "x"})
    body = encode_request([Part([encoded], np.array([1], np.int64), np.array([[1.0]]))])
    assert decoded(body)[0][0] == {"__name__": "m", "desk": "own", "site": "x"}


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**32, 2**63 - 1])
def test_varints_read_back(number: int) -> None:
    read = sum((byte & 0x7F) << 7 * at for at, byte in enumerate(varint(number)))
    assert read == number


@settings(max_examples=80, deadline=None)
@given(
    finished=st.lists(st.integers(1, 40)),
    partial=st.dictionaries(st.integers(1, 40), st.integers(1, 9)),
    known=st.sets(st.integers(1, 40)),
)
def test_progress_knows_what_a_plain_set_knows(finished: list[int], partial: dict[int, int], known: set[int]) -> None:
    progress = Progress()
    for block_id, sent in partial.items():
        progress.advance(block_id, sent)
    for block_id in finished:
        progress.finish(block_id)
    again = Progress.from_json(progress.to_json())
    for one in (progress, again):
        assert [i for i in range(45) if one.is_done(i)] == sorted(set(finished))
        assert {i: one.sent(i) for i in range(45) if one.sent(i)} == {
            i: n for i, n in partial.items() if i not in finished
        }
    unfinished = {block_id for block_id in known if not again.is_done(block_id)}
    again.finish_all_but(unfinished, 42)
    assert [i for i in range(45) if not again.is_done(i)] == sorted(unfinished | {42, 43, 44})
