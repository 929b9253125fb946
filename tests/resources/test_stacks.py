from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.stacks import (
    CUT,
    MOST_DEPTH,
    OTHER,
    Bounded,
    Spent,
    StacksError,
    boxes,
    by_function,
    pack,
    parse,
    unpack,
)

frames = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters=";"), min_size=1, max_size=8)
profiles = st.dictionaries(st.lists(frames, min_size=1, max_size=6).map(tuple), st.integers(1, 10**9), max_size=30)


@given(profiles)
def test_what_is_packed_comes_back(stacks: dict[tuple[str, ...], int]) -> None:
    assert unpack(pack(stacks)) == stacks


@given(profiles)
def test_boxes_tile_the_whole_and_children_lie_inside_their_parent(stacks: dict[tuple[str, ...], int]) -> None:
    found = boxes(stacks, least_share=0.0)
    whole = sum(stacks.values())
    assert (found[0].width if found else 0) == whole
    # The slow, obvious reference: a box is a distinct prefix, as wide as all stacks that begin with it.
    prefixes: dict[tuple[str, ...], int] = {}
    for stack, weight in stacks.items():
        for depth in range(1, len(stack) + 1):
            prefixes[stack[:depth]] = prefixes.get(stack[:depth], 0) + weight
    paths: dict[int, tuple[str, ...]] = {0: ()} if found else {}
    for position, box in enumerate(found[1:], 1):
        paths[position] = (*paths[box.parent], box.name)
        parent = found[box.parent]
        assert parent.start <= box.start
        assert box.start + box.width <= parent.start + parent.width
        assert box.depth == parent.depth + 1
        assert box.self_ == stacks.get(paths[position], 0)
    assert {paths[i]: box.width for i, box in enumerate(found) if i} == prefixes
    by_depth = sorted((box.depth, box.start, box.width) for box in found)
    for one, after in itertools.pairwise(by_depth):
        assert one[0] < after[0] or one[1] + one[2] <= after[1]


def test_narrow_boxes_are_left_out_and_their_space_stays_empty() -> None:
    found = boxes({("a",): 1, ("b",): 999}, least_share=0.01)
    assert [(box.name, box.start, box.width) for box in found] == [("all", 0, 1000), ("b", 1, 999)]
    assert len(boxes({(str(i),): 1 for i in range(100)}, least_share=0.0, most=10)) == 10


def test_recursion_counts_once_in_the_total() -> None:
    assert by_function({("f", "g", "f"): 3, ("f",): 1}) == [Spent("f", 4, 4), Spent("g", 0, 3)]


def test_signs_of_the_form_inside_a_name_do_not_break_it() -> None:
    assert unpack(pack({("a;b\n c", "<script>"): 2})) == {("a b c", "<script>"): 2}


def test_a_line_that_is_no_stack_is_named() -> None:
    with pytest.raises(StacksError, match="line 2 of the profile is no collapsed stack: 'no count'"):
        parse("main;f 3\nno count\n")
    with pytest.raises(StacksError, match="damaged"):
        unpack(b"nothing compressed")
    with pytest.raises(StacksError, match="does not end"):
        unpack(pack({("a" * 50,): 1})[:-6])


def test_depth_and_number_have_limits() -> None:
    (stack,) = parse(";".join("f" * 1 for _ in range(MOST_DEPTH + 50)) + " 1\n")
    assert len(stack) == MOST_DEPTH
    assert stack[-1] == CUT
    bounded = Bounded(2)
    for name in "abcd":
        bounded.add(("thread", name), 1)
    assert bounded.rows == {("thread", "a"): 1, ("thread", "b"): 1, ("thread", OTHER): 2}


def test_what_ends_a_line_in_unicode_alone_ends_no_stack() -> None:
    assert parse("a\u2028b (x\x85y.py:1);c 3\nd 4\n") == {("a\u2028b (x\x85y.py:1)", "c"): 3, ("d",): 4}
