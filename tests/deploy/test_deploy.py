"""What lies in deploy/ fits the program: expressions parse and name metrics that exist, the unit is one systemd takes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from metrics.catalogue import metric_of
from query.options import QueryOptions
from query.plan import matchers_of
from settings import load_settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DOCUMENT = DEPLOY.parent / "docs" / "DEPLOY.md"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))


def expressions(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("expr"), str):
            yield node["expr"]
        for value in node.values():
            yield from expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value)


def filled(expression: str) -> str:
    """With Grafana's own variables as it fills them in."""
    return re.sub(r"\$__(rate_)?interval", "1m", expression)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_every_expression_of_a_dashboard_parses_and_names_metrics_of_the_catalogue(path: Path) -> None:
    from query.parse import parse

    found = list(expressions(json.loads(path.read_text())))
    assert len(found) > 30
    for expression in found:
        text = filled(expression)
        assert "$" not in text
        parse(text, QueryOptions())
        names = set(re.findall(r"\bdeskvigil_\w+", text))
        assert names, expression
        for name in names:
            assert metric_of(name) is not None, f"{name} in {expression!r} is no metric of ours"
            selector = re.search(re.escape(name) + r"(\{[^}]*\})?", text)
            assert selector is not None
            known = set(metric_of(name).labels) | {"le"}  # type: ignore[union-attr]
            used = {matcher.name for matcher in matchers_of(selector[0], QueryOptions())} - {"__name__"}
            assert used <= known, f"{name} has no label {used - known}"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_panels_of_a_dashboard_have_their_own_numbers_and_do_not_overlap(path: Path) -> None:
    panels = json.loads(path.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_provisioned_data_source_is_the_one_that_the_dashboard_begins_with() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/deskvigil.yml").read_text())["datasources"]
    (variable,) = json.loads(DASHBOARDS[0].read_text())["templating"]["list"]
    assert (source["type"], source["uid"]) == ("prometheus", variable["current"]["value"])
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/deskvigil.yml").read_text())["providers"]
    assert provider["type"] == "file"


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    unit = (DEPLOY / "deskvigil.service").read_text()
    there = tmp_path / "deskvigil.service"
    there.write_text(unit.replace("/opt/deskvigil/.venv/bin/python", "/bin/true"))  # only the program is missing here
    done = subprocess.run(["systemd-analyze", "verify", str(there)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_dockerfile_takes_only_files_that_exist_and_starts_what_exists() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    for source in re.findall(r"^COPY (?:--\S+ )*(\S+) ", text, re.MULTILINE):
        assert (DEPLOY.parent / source).exists(), source
    assert "app.py" in text


def test_every_settings_example_in_the_guide_is_accepted(tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(# deskvigil\.yml.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(examples) >= 3
    for number, example in enumerate(examples):
        for path in set(re.findall(r"/etc/deskvigil/[\w.-]+", example)):
            (tmp_path / Path(path).name).write_text("x")
            example = example.replace(path, str(tmp_path / Path(path).name))
        file = tmp_path / f"{number}.yml"
        file.write_text(example)
        load_settings(file, environ={})
