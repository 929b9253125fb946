"""Explaining and closing breaks over HTTP: with words, by whom, once, and only from our own pages."""

from __future__ import annotations

import httpx2
import pytest

from storage.breaks import insert_breaks
from tests.dashboard.demo_services import Desk

ACTION = {"content-type": "application/json", "x-deskvigil-action": "1"}


@pytest.fixture
def break_id(desk: Desk) -> int:
    row = {"key": "missing_own/7/1/3", "kind": "missing_own", "t_ms": 0, "run_ns": 7, "session": 1, "execution": 3,
           "symbol": "DV-ALPHA", "detail": {"qty": 5}}  # fmt: skip
    with desk.store.write() as connection:
        insert_breaks(connection, [row], 0)
    return desk.store.breaks.list()[0].id


def post(url: str, path: str, comment: str, **headers: str) -> httpx2.Response:
    return httpx2.post(
        f"{url}/api/desk/breaks/{path}", headers={**ACTION, "origin": url, **headers}, json={"comment": comment}
    )


def test_a_break_is_explained_then_closed_and_both_are_audited(desk: Desk, url: str, break_id: int) -> None:
    answer = post(url, f"{break_id}/explain", "asked the venue")
    assert (answer.status_code, answer.json()["message"]) == (200, f"break {break_id} is explained")
    assert post(url, f"{break_id}/close", "booked by hand").status_code == 200
    (kept,) = desk.store.breaks.list()
    who = "operator at 127.0.0.1"
    assert (kept.state, kept.explained_by, kept.explanation, kept.who) == ("closed", who, "asked the venue", who)
    said = [(e.who, e.action, e.detail["comment"]) for e in desk.store.audit.list(2)]
    assert said == [(who, "break_closed", "booked by hand"), (who, "break_explained", "asked the venue")]
    assert desk.store.audit.verify().ok


@pytest.mark.parametrize(
    ("path", "comment", "words"),
    [("{}/explain", "  ", "who says so, and why"), ("{}/close", "", "and why"), ("99/close", "why", "no break 99")],
)
def test_without_words_or_without_the_break_nothing_changes_and_it_is_said(
    desk: Desk, url: str, break_id: int, path: str, comment: str, words: str
) -> None:
    answer = post(url, path.format(break_id), comment)
    assert (answer.status_code, desk.store.breaks.list()[0].state) == (409, "open")
    assert words in answer.json()["error"]


def test_a_break_that_was_closed_is_not_closed_again(url: str, break_id: int) -> None:
    assert post(url, f"{break_id}/close", "booked by hand").status_code == 200
    answer = post(url, f"{break_id}/close", "once more")
    assert (answer.status_code, answer.json()["error"]) == (409, f"break {break_id} is closed")


def test_a_page_of_another_site_closes_nothing(desk: Desk, url: str, break_id: int) -> None:
    assert post(url, f"{break_id}/close", "mine", origin="http://evil.example").status_code == 403
    bare = httpx2.post(f"{url}/api/desk/breaks/{break_id}/close", headers={"origin": url}, json={"comment": "mine"})
    assert bare.status_code == 403
    assert desk.store.breaks.list()[0].state == "open"
