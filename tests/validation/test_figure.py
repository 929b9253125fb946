from __future__ import annotations

import math
from pathlib import Path

import pytest

from metrics.errors import ConfigError
from validation import bench
from validation.figure import Figure, machine, processor_of, table


def figure(value: float, limit: float | None = None, *, at_most: bool = True) -> Figure:
    return Figure(benchmark="b", what="w", value=value, unit="ms", limit=limit, at_most=at_most, peer="theirs 7 ms")


def test_a_limit_is_kept_missed_or_not_there() -> None:
    assert figure(2.0, 2.0).kept
    assert not figure(2.1, 2.0).kept
    assert figure(300, 300, at_most=False).kept
    assert not figure(299, 300, at_most=False).kept
    assert figure(1e9).kept


def test_a_figure_that_is_not_a_number_keeps_no_limit() -> None:
    assert not figure(math.nan, 2.0).kept
    assert not figure(math.nan, 2.0, at_most=False).kept


def test_the_table_shows_value_limit_and_peer() -> None:
    text = table([figure(1234.5, 2000.0), figure(3.0, 2.0), figure(1.0)])
    assert "1,234.50 ms" in text
    assert "<= 2,000 ms: kept" in text
    assert "MISSED" in text
    assert "theirs 7 ms" in text


def test_the_machine_is_named() -> None:
    processor = processor_of(Path("/proc/cpuinfo").read_text())
    assert f"cores of {processor}" in machine()


def test_a_processor_is_named_with_family_and_model() -> None:
    first = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nbugs\t\t: a : b\n"
    other = first.replace("17", "1").replace("EPYC", "Ryzen")
    assert processor_of(f"{first}\n{other}") == "AMD EPYC (family 25, model 17)"


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [("processor\t: 0\nmodel name\t: ARMv8\n\n", "ARMv8"), ("processor\t: 0\nCPU part\t: 0xd0c\n\n", ""), ("", "")],
)
def test_a_processor_without_family_or_name_is_no_error(cpuinfo: str, name: str) -> None:
    assert processor_of(cpuinfo) == name


def test_an_unknown_benchmark_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="there are: book"):
        bench.run_benchmarks(["nonsense"])


def test_a_benchmark_runs_and_its_table_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("validation.bench_host.SECONDS", 0.05)
    assert bench.run_benchmarks(["host"], tmp_path) == 0
    assert "one reading" in (tmp_path / "benchmarks.txt").read_text()
