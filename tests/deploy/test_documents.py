"""What the documents name is there: files, headings, series, benchmarks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metrics.catalogue import CATALOGUE
from validation.bench import BENCHMARKS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("data/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```", re.DOTALL)
PARTS = ("", "_bucket", "_sum", "_count")


def anchors(document: Path) -> set[str]:
    """The headings of a document as GitHub links to them."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    broken = []
    for link in LINK.findall(CODE.sub("", document.read_text())):
        place, _, heading = link.partition("#")
        if "://" in link:
            continue
        target = document if not place else (document.parent / place).resolve()
        if not target.exists() or (heading and heading not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_series_is_in_the_catalogue(document: Path) -> None:
    named = re.findall(r"\bdeskvigil_\w*[a-z0-9]\b(?![_*])", document.read_text())
    known = {name + part for name in CATALOGUE for part in PARTS}
    assert not set(named) - known


def test_performance_lists_every_benchmark_and_no_document_names_another() -> None:
    listed = (ROOT / "docs" / "PERFORMANCE.md").read_text().partition("\n## ")[0]
    assert set(BENCHMARKS) <= set(re.findall(r"`([a-z-]+)`", listed))
    text = "".join(document.read_text() for document in DOCUMENTS)
    assert {name for some in re.findall(r"app\.py bench ([a-z][a-z -]*)`", text) for name in some.split()} <= set(
        BENCHMARKS
    )
