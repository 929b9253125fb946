"""On-call over HTTP: who is on duty, overrides, several alerts at once, with names, reasons and refusals in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.alerts.nightdesk import NightDesk
from tests.dashboard.demo_services import Desk, serving

HEADERS = {"X-Deskvigil-Action": "1"}
HOUR_MS = 3_600_000


@dataclass
class Kept:
    """One silence as a store would keep it."""

    id: str
    matchers: list[str]
    starts_ms: int
    ends_ms: int
    created_by: str
    comment: str


class Silences:
    """The page's view of a store of silences."""

    def __init__(self) -> None:
        self.kept: dict[str, Kept] = {}

    def list(self) -> list[Kept]:
        return list(self.kept.values())

    def add(self, matchers: Any, starts_ms: int, ends_ms: int, who: str, comment: str) -> Kept:
        kept = Kept(f"s{len(self.kept)}", matchers, starts_ms, ends_ms, who, comment)
        self.kept[kept.id] = kept
        return kept

    def expire(self, silence_id: str, who: str) -> Kept:
        return self.kept.pop(silence_id)


@dataclass
class Console:
    night: NightDesk
    url: str

    def post(self, path: str, **body: object) -> tuple[int, str]:
        answer = httpx2.post(f"{self.url}/api/desk{path}", json=body, headers={**HEADERS, "origin": self.url})
        said = answer.json()
        return answer.status_code, said.get("message") or said["error"]

    def shown(self) -> dict[str, Any]:
        return httpx2.get(f"{self.url}/api/desk/oncall").json()


@pytest.fixture
def console(tmp_path: Path, desk: Desk) -> Iterator[Console]:
    (tmp_path / "night").mkdir()
    night = NightDesk(tmp_path / "night", now_ns=desk.clock.now_ns())
    with serving(replace(desk.services, alerts=night.service, oncall=night.service.oncall, silences=Silences())) as url:
        yield Console(night, url)
    night.close()


def test_the_page_gets_rotas_people_escalations_and_silences(console: Console):
    console.night.x = 2.5
    console.night.go()
    shown = console.shown()
    assert shown["people"] == ["ana", "ben"]
    (rota,) = shown["rotas"]
    assert (rota["name"], rota["zone"], len(rota["duties"])) == ("desk", "UTC", 5)
    assert {one["person"] for one in rota["duties"]} == {"ana", "ben"}
    (escalation,) = shown["escalations"]
    assert (escalation["name"], escalation["severity"], escalation["summary"]) == ("High", "critical", "x is 2.5")
    assert (escalation["step"], escalation["steps"], escalation["words"]) == (1, 2, "ana")
    assert escalation["due"] - console.night.now().wall_ms == 60_000
    assert shown["silences"] == []


def test_somebody_is_put_on_duty_with_name_and_reason_and_taken_off_again(console: Console):
    now = console.shown()["now"]
    asked = {"rota": "desk", "person": "ben", "starts": now + HOUR_MS, "ends": now + 2 * HOUR_MS, "name": "Cem"}
    assert console.post("/oncall/overrides", **asked) == (409, "an override needs a reason")
    assert console.post("/oncall/overrides", **asked, comment="holiday") == (200, "ben stands in on rota desk")
    (made,) = console.shown()["overrides"]
    assert (made["person"], made["by"], made["comment"]) == ("ben", "Cem (operator at 127.0.0.1)", "holiday")
    status, words = console.post(f"/oncall/overrides/{made['id']}/remove", name="Cem")
    assert (status, words) == (200, "ben no longer stands in on rota desk")
    assert console.shown()["overrides"] == []
    assert console.post(f"/oncall/overrides/{made['id']}/remove")[0] == 409


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"rota": "night"}, "there is no rota 'night' (there are: desk)"),
        ({"person": "eve"}, "there is no person 'eve' (there are: ana, ben)"),
        ({"ends": 1}, "it must end after it begins, in the future, and last at most 366 days"),
        ({"starts": "now"}, "starts must be an instant, in milliseconds since the epoch"),
    ],
)
def test_what_cannot_be_is_refused_in_words(console: Console, wrong: dict[str, object], words: str):
    now = console.shown()["now"]
    asked = {"rota": "desk", "person": "ben", "starts": now, "ends": now + HOUR_MS, "comment": "swap", **wrong}
    assert console.post("/oncall/overrides", **asked) == (409, words)


def test_alerts_are_assigned_and_given_back_and_critical_ones_are_no_matter_for_a_list(console: Console):
    night = console.night
    night.x = 2.5
    night.go()
    status, words = console.post("/alerts/acknowledge", alerts=[night.alert_id], comment="fine")
    assert (status, words) == (409, "High is critical: such alerts are acknowledged one by one; none was")
    assert console.post("/alerts/acknowledge", alerts="all")[0] == 409
    assert console.post(f"/alerts/{night.alert_id}/assign", person="ana") == (200, "High is ana's")
    assert console.post(f"/alerts/{night.alert_id}/unacknowledge")[0] == 409
    night.service.acknowledge(night.alert_id, "ana")
    assert console.shown()["escalations"][0]["state"] == "acknowledged"
    assert console.post(f"/alerts/{night.alert_id}/unacknowledge") == (200, "High is no longer acknowledged")


def test_silences_are_added_and_ended(console: Console):
    asked = {"matchers": ['host="a"'], "starts": 1, "ends": 2, "name": "Ana", "comment": "repair"}
    assert console.post("/silences", **asked) == (200, "silence s0 is in place")
    (kept,) = console.shown()["silences"]
    assert (kept["matchers"], kept["by"]) == (['host="a"'], "Ana (operator at 127.0.0.1)")
    assert console.post("/silences", **{**asked, "matchers": []})[0] == 409
    assert console.post("/silences/s0/expire") == (200, "silence s0 has ended")
    assert console.shown()["silences"] == []
