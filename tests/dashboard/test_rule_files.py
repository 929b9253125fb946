"""POST /-/reload and rolling back over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.alerts.receivers import wait_until
from tests.dashboard.demo_services import Desk, serving

ACTION = {"content-type": "application/json", "x-deskvigil-action": "1"}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    desk.start()
    yield desk
    desk.stop()


def test_reload_answers_what_is_wrong_and_a_roll_back_needs_the_forms_of_an_action(desk: Desk, tmp_path: Path) -> None:
    rules = tmp_path / "demo.rules.yml"
    text = rules.read_text()
    wait_until(lambda: desk.alerts.rule_versions())
    with serving(desk.services) as url:
        assert httpx2.post(f"{url}/-/reload").status_code == 200
        assert httpx2.get(f"{url}/-/reload").status_code in (404, 405)
        assert httpx2.post(f"{url}/-/reload", headers={"origin": "https://evil.example"}).status_code == 403
        rules.write_text("groups: [{name: g, rulez: []}]")
        answer = httpx2.put(f"{url}/-/reload")
        assert answer.status_code == 500
        assert "unknown key 'rulez'" in answer.text
        rules.write_text(text + "\n# newer\n")
        assert httpx2.post(f"{url}/-/reload").text == ""
        first = desk.alerts.rule_versions()[-1].id
        path = f"{url}/api/desk/rules/versions/{first}/rollback"
        assert httpx2.post(path, json={}).status_code == 403
        done = httpx2.post(path, headers={**ACTION, "origin": url}, json={"reason": "too loud"})
        assert done.status_code == 200
        assert f"version {first} is in use" in done.json()["message"]
        assert desk.alerts.rule_files()[0].rolled_back
        assert desk.alerts.rule_versions()[0].note.endswith("too loud")
        missing = httpx2.post(f"{url}/api/desk/rules/versions/999/rollback", headers={**ACTION, "origin": url}, json={})
        assert "no version 999" in missing.json()["error"]
