"""What surrounds the graphics processor's kernels, on a stand-in for CuPy: batches, memory, faults, falling back.

The last test runs on real devices, where there are any.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.montecarlo.book import Book
from engine.montecarlo.deltagamma import DeltaGamma
from engine.montecarlo.gpu import accelerator as module
from engine.montecarlo.gpu.accelerator import Accelerator, GpuAbsentError, GpuState, compute, devices_of, load_devices
from engine.montecarlo.gpu.cubin import cubin_for, nvcc, nvrtc
from engine.montecarlo.gpu.device import DEPTH, GpuDevice
from engine.montecarlo.gpu.plan import CELL, FEW, Work, book_work, path_work
from engine.montecarlo.gpu.totals import PathTotals
from engine.montecarlo.paths import PathSimulation
from engine.montecarlo.revaluation import lines_of, sampling_of
from engine.montecarlo.simulation import DRAWS, TRADING_DAY, BookSimulation
from metrics.clock import ManualClock, SystemClock
from metrics.errors import DeskvigilError, TransientError
from tests.engine.fake_cupy import CUDARuntimeError, FakeCupy, OutOfMemoryError
from tests.engine.gpu_host import HostDevice
from tests.engine.test_montecarlo_book import mixed_book
from tests.engine.test_montecarlo_paths import path_option

MEMORY = 64 << 20


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> HostDevice:
    return HostDevice(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of compiled kernels, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "deskvigil" / "gpu"


@pytest.fixture
def cupy(host: HostDevice) -> FakeCupy:
    return FakeCupy(host)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def accelerator(cupy: FakeCupy, clock: ManualClock, memory: int = MEMORY) -> Accelerator:
    made = Accelerator("auto", memory, clock, lambda size, at: devices_of(cupy, size, at))
    made.start()
    return made


def work_of(samples: int, assets: int = 3) -> Work:
    book, loading = mixed_book(assets, 10)
    none = np.zeros(0)
    sampling = sampling_of(loading, np.zeros(assets), none, none, np.float64)
    return book_work(sampling, lines_of(book, TRADING_DAY, np.float64)[0], samples, near=False)


@pytest.mark.parametrize("draw", DRAWS)
def test_every_draw_gives_the_processors_figures(cupy: FakeCupy, clock: ManualClock, draw) -> None:
    book, loading = mixed_book(8, 30)
    here = BookSimulation(book, loading, scenarios=1_000, draw=draw)
    used = accelerator(cupy, clock)
    there = BookSimulation(book, loading, scenarios=1_000, draw=draw, accelerator=used)
    for stream in range(3):
        expected, found = here.run(stream), there.run(stream)
        assert found.gains.tobytes() == expected.gains.tobytes()
        assert (found.var, found.expected_shortfall) == (expected.var, expected.expected_shortfall)
        assert found.var_contributions.tobytes() == expected.var_contributions.tobytes()
    by_counter = draw in ("plain", "control", "importance")
    assert used.figures().runs == (3 if by_counter else 0)
    assert cupy.launches == [3 if by_counter else 0]


def test_another_book_and_given_normals_are_not_mixed_up(cupy: FakeCupy, clock: ManualClock) -> None:
    first, loading = mixed_book(4, 12, seed=1)
    second, _ = mixed_book(4, 12, seed=2)
    simulation = BookSimulation(first, loading, accelerator=accelerator(cupy, clock))
    simulation.run(1)
    simulation.take(second)
    assert simulation.run(1).gains.tobytes() == BookSimulation(second, loading).run(1).gains.tobytes()
    normals = np.random.default_rng(3).standard_normal((4, 1_000))
    expected = BookSimulation(second, loading).run(normals=normals)
    assert simulation.run(normals=normals).gains.tobytes() == expected.gains.tobytes()
    assert cupy.launches == [2]


@pytest.mark.parametrize("antithetic", [False, True])
def test_paths_give_the_processors_prices(cupy: FakeCupy, clock: ManualClock, antithetic: bool) -> None:
    option, used = path_option(2, steps=20), accelerator(cupy, clock)
    here = PathSimulation(option, paths=600, antithetic=antithetic, control=True)
    there = PathSimulation(option, paths=600, antithetic=antithetic, control=True, accelerator=used)
    for stream in range(2):
        assert there.run(stream, first_path=77) == here.run(stream, first_path=77)
        assert there.payoffs.tobytes() == here.payoffs.tobytes()
    assert used.figures().runs == 2


def test_the_first_run_loads_the_second_captures_and_all_others_replay(cupy: FakeCupy, clock: ManualClock) -> None:
    used, work = accelerator(cupy, clock), work_of(100)
    out = np.zeros((1, 100))
    for _ in range(5):
        assert used.run(work, 1, 0, out)
    assert (cupy.launches, cupy.captures, cupy.replays) == ([5], 1, [4])


def test_several_batches_are_under_way_at_once(cupy: FakeCupy) -> None:
    device = devices_of(cupy, MEMORY, SystemClock())[0]
    work = work_of(200)
    batches = [device.start(work, 1, stream, 0) for stream in range(DEPTH)]
    with pytest.raises(DeskvigilError, match="under way"):
        device.start(work, 1, 9, 0)
    for stream in reversed(range(DEPTH)):
        expected, found = np.zeros((1, 200)), np.zeros((1, 200))
        device.finish(batches[stream], found)
        compute([device], work, 1, stream, expected)
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("devices", [2, 3, 5])
def test_several_devices_give_the_bits_of_one(host: HostDevice, clock: ManualClock, devices: int) -> None:
    one, several = devices_of(FakeCupy(host), MEMORY, clock), FakeCupy(host, devices)
    many = devices_of(several, MEMORY, clock)
    payoffs = path_option(1, steps=9).payoffs(np.float32)
    samples = FEW + 777
    for work in (
        work_of(samples), path_work(payoffs, samples, False, totals=False), path_work(payoffs, 6 * CELL + 5, True, totals=True)
    ):  # fmt: skip
        expected, found = np.zeros(work.plan.outputs, work.plan.code), np.zeros(work.plan.outputs, work.plan.code)
        compute(one, work, 3, 2, expected, first=10)
        compute(many, work, 3, 2, found, first=10)
        assert found.tobytes() == expected.tobytes()
    assert all(count == 3 for count in several.launches)


def test_few_samples_stay_on_one_device(host: HostDevice, clock: ManualClock) -> None:
    cupy = FakeCupy(host, 3)
    compute(devices_of(cupy, MEMORY, clock), work_of(1_000), 1, 0, np.zeros((1, 1_000)))
    assert cupy.launches == [1, 0, 0]


def test_the_ceiling_gives_up_what_was_used_longest_ago(cupy: FakeCupy, clock: ManualClock) -> None:
    used = accelerator(cupy, clock, memory=48 * 1024)
    works = [work_of(samples) for samples in (2_000, 2_100, 2_200)]  # 19 kB each
    for work in (works[0], works[1], works[0]):
        assert used.run(work, 1, 0, np.zeros((1, work.samples)))
    before = used.figures().pool
    assert (before.hits, before.misses, before.trims) == (0, 4, 0)
    assert before.used_bytes == before.held_bytes <= before.limit_bytes == 48 * 1024
    assert before.fragmentation == 0.0
    replayed = cupy.replays[0]
    assert used.run(works[2], 1, 0, np.zeros((1, 2_200)))
    after = used.figures().pool
    assert after.trims == 1
    assert after.held_bytes <= 48 * 1024
    assert used.run(works[0], 1, 0, np.zeros((1, 2_000)))  # kept: used later than the second
    assert cupy.replays[0] == replayed + 1
    assert used.figures().pool.misses == after.misses


def test_memory_of_batches_that_went_is_used_again_and_counted_as_a_hit(cupy: FakeCupy, clock: ManualClock) -> None:
    device = devices_of(cupy, MEMORY, clock)[0]
    memory = device._memory
    kept, gone = memory.take(1_000), memory.take(1_000)
    del gone
    figures = memory.figures()
    assert (figures.hits, figures.misses) == (0, 2)
    assert figures.fragmentation == 0.5
    again = memory.take(900)
    assert memory.figures().hits == 1
    del kept, again
    memory.trim()
    assert memory.figures().held_bytes == 0


def test_a_batch_beyond_the_ceiling_goes_to_the_processor_and_the_state_says_why(
    cupy: FakeCupy, clock: ManualClock
) -> None:
    book, loading = mixed_book(3, 10)
    used = accelerator(cupy, clock, memory=4_096)
    found = BookSimulation(book, loading, accelerator=used).run(1)
    assert found.gains.tobytes() == BookSimulation(book, loading).run(1).gains.tobytes()
    figures = used.figures()
    assert (figures.state, figures.fallbacks, figures.runs) == (GpuState.FAILED, 1, 0)
    assert "OutOfMemoryError" in figures.words
    assert "limit set to: 4096" in figures.words


def fault(cupy: FakeCupy, kind: str) -> None:
    cupy.launch_error = cupy.error_on_load = None
    if kind == "removed":
        cupy.launch_error = cupy.error_on_load = CUDARuntimeError(
            "cudaErrorNoDevice: no CUDA-capable device is detected"
        )
    cupy.run_error = (
        CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access") if kind == "running" else None
    )
    if kind == "memory":
        cupy.launch_error = OutOfMemoryError("Out of memory allocating 512 bytes")
    cupy.spoil = kind == "nan"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("removed", "NoDevice"),
        ("running", "IllegalAddress"),
        ("memory", "Out of memory"),
        ("nan", "not finite, where the processor's is"),
    ],
)
def test_a_fault_costs_no_figure_trips_the_breaker_and_a_probe_brings_the_device_back(
    cupy: FakeCupy, clock: ManualClock, kind: str, words: str
) -> None:
    book, loading = mixed_book(4, 12)
    used = accelerator(cupy, clock)
    simulation, here = BookSimulation(book, loading, accelerator=used), BookSimulation(book, loading)

    def check(stream: int) -> None:
        assert simulation.run(stream).gains.tobytes() == here.run(stream).gains.tobytes()

    check(0)
    fault(cupy, kind)
    for stream in range(1, 6):
        check(stream)
    figures = used.figures()
    assert (figures.state, figures.runs, figures.fallbacks, figures.trips) == (GpuState.FAILED, 1, 5, 1)
    assert words in figures.words
    launched = cupy.launches[0]
    fault(cupy, "none")
    check(6)
    assert cupy.launches[0] == launched  # left alone
    clock.advance(31_000_000_000)
    check(7)
    check(8)
    figures = used.figures()
    assert (figures.state, figures.runs, figures.trips) == (GpuState.ON, 3, 1)
    assert figures.words == "Fake 0"
    fault(cupy, kind)
    check(9)
    check(10)
    fault(cupy, "none")
    check(11)
    assert used.figures().trips == 1  # two in a row are not three


def test_inputs_beyond_the_range_of_numbers_are_the_books_fault_not_the_devices(
    cupy: FakeCupy, clock: ManualClock
) -> None:
    book, loading = mixed_book(3, 9)
    wild = replace(book, quantity=book.quantity * 1e307)
    used = accelerator(cupy, clock)
    with np.errstate(all="ignore"):
        simulation = BookSimulation(wild, loading, accelerator=used)
        for _ in range(4):
            with pytest.raises(DeskvigilError, match="profit is not finite"):
                simulation.run()
    assert used.figures().trips == 0
    assert used.state is GpuState.ON


class HurriedClock(ManualClock):
    """A second passes with each look at it."""

    def monotonic_ns(self) -> int:
        self.advance(1_000_000_000)
        return super().monotonic_ns()


def test_a_kernel_that_never_ends_is_given_up(cupy: FakeCupy) -> None:
    device = devices_of(cupy, MEMORY, HurriedClock())[0]
    batch = device.start(work_of(50), 1, 0, 0)
    cupy.hang = True
    with pytest.raises(TransientError, match=r"book_f64 has not ended after \d\.0 s"):
        device.finish(batch, np.zeros((1, 50)))
    used = Accelerator("auto", MEMORY, HurriedClock(), lambda size, at: devices_of(cupy, size, at))
    assert not used.run(work_of(50), 1, 0, np.zeros((1, 50)))
    assert "has not ended" in used.figures().words
    assert used._abandoned  # its memory is still being written to


@pytest.mark.parametrize("choice", ["auto", "gpu"])
def test_without_a_device_everything_runs_here_and_nothing_is_asked_twice(clock: ManualClock, choice) -> None:
    asked = []

    def none(memory_bytes: int, at: object) -> list[GpuDevice]:
        asked.append(memory_bytes)
        raise GpuAbsentError("no NVIDIA driver on this host")

    used = Accelerator(choice, MEMORY, clock, none)
    book, loading = mixed_book(3, 9)
    simulation = BookSimulation(book, loading, accelerator=used)
    for stream in range(3):
        assert math.isfinite(simulation.run(stream).var)
    figures = used.figures()
    assert (figures.state, figures.words) == (GpuState.ABSENT, "no NVIDIA driver on this host")
    assert (figures.runs, figures.fallbacks, asked) == (0, 0, [MEMORY])


def test_the_choice_of_the_processor_never_touches_a_device(clock: ManualClock) -> None:
    def never(memory_bytes: int, at: object) -> list[GpuDevice]:
        raise AssertionError("devices were asked for")

    used = Accelerator("cpu", MEMORY, clock, never)
    used.start()
    assert not used.run(work_of(10), 1, 0, np.zeros((1, 10)))
    assert used.figures().state is GpuState.OFF


def test_what_is_missing_is_named(
    cupy: FakeCupy, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, kept: Path
) -> None:
    def refuse(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(module.ctypes, "CDLL", refuse)
    with pytest.raises(GpuAbsentError, match="no NVIDIA driver on this host"):
        load_devices(MEMORY, clock)
    cupy.error_on_load = CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
    with pytest.raises(GpuAbsentError, match="the NVIDIA driver says: cudaErrorInsufficientDriver"):
        devices_of(cupy, MEMORY, clock)
    cupy.error_on_load, cupy.devices = None, 0
    with pytest.raises(GpuAbsentError, match="no NVIDIA device"):
        devices_of(cupy, MEMORY, clock)
    cupy.devices, cupy.cuda.nvrtc.broken = 1, "absent"
    monkeypatch.setenv("PATH", "")
    with pytest.raises(GpuAbsentError, match=r"sm_90: NVRTC: RuntimeError: libnvrtc.so.13.*nvcc is not on the path"):
        devices_of(cupy, MEMORY, clock)
    assert not kept.exists()


def test_a_compiled_kernel_is_kept_and_loads_without_a_compiler(cupy: FakeCupy, tmp_path: Path) -> None:
    compiler = nvrtc(cupy)
    first = cubin_for("90", [compiler], tmp_path)
    assert first.read_bytes() == b"\x7fELF machine code"
    assert cupy.cuda.nvrtc.compiled == [("--fmad=false", "--std=c++17", "--gpu-architecture=sm_90")]
    cupy.cuda.nvrtc.broken = "kernels.cu(3): error: expected a ;"
    assert cubin_for("90", [compiler], tmp_path) == first
    with pytest.raises(DeskvigilError, match=r"sm_80: NVRTC: RuntimeError: kernels.cu\(3\): error"):
        cubin_for("80", [compiler], tmp_path)
    assert [path.name for path in tmp_path.glob("*90*")] == [first.name]


@pytest.mark.parametrize(("antithetic", "control"), [(False, False), (True, True)])
def test_sums_of_many_paths_give_the_prices_of_their_payoffs(host: HostDevice, antithetic: bool, control: bool) -> None:
    option, clock = path_option(2, steps=10), SystemClock()
    how: dict[str, bool] = {"antithetic": antithetic, "control": control}
    paths = 2 * (11 * CELL + 100)
    expected = PathSimulation(option, paths=paths, precision="double", **how).run(3)
    one = PathTotals(devices_of(FakeCupy(host), MEMORY, clock), option, paths=paths, precision="double", **how).run(3)
    for name in ("asian", "asian_standard_error", "barrier", "barrier_standard_error", "samples"):
        assert getattr(one, name) == pytest.approx(getattr(expected, name), rel=1e-9)
    cupy = FakeCupy(host, 2)
    devices = devices_of(cupy, MEMORY, clock)
    many = PathTotals(devices, option, paths=paths, precision="double", batch=CELL, **how)
    assert many.run(3) == one
    assert sum(cupy.launches) == -(-one.samples // CELL)
    with pytest.raises(DeskvigilError, match="whole cells"):
        PathTotals(devices, option, paths=paths, batch=CELL + 1)
    with pytest.raises(DeskvigilError, match="whole pairs"):
        PathTotals(devices, option, paths=33, antithetic=True)


def test_too_many_assets_for_a_block_stay_on_the_processor(cupy: FakeCupy, clock: ManualClock) -> None:
    book, loading = Book.of([], [f"A{i}" for i in range(3_100)], np.ones(3_100)), 0.01 * np.eye(3_100)
    used = accelerator(cupy, clock)
    simulation = BookSimulation(book, loading, scenarios=64, accelerator=used)
    assert simulation.run().gains.tobytes() == BookSimulation(book, loading, scenarios=64).run().gains.tobytes()
    figures = used.figures()
    assert figures.state is GpuState.OFF
    assert "3100 assets do not fit" in figures.words


def test_nvcc_compiles_the_kernels_for_hopper(tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on the path: nothing here can compile for a graphics processor")
    code = cubin_for("90", [nvcc], tmp_path).read_bytes()
    assert code[:4] == b"\x7fELF"
    for kernel in ("book_f64", "book_f32", "paths_f64", "paths_f32", "moments_f64", "moments_f32"):
        assert f".text.{kernel}".encode() in code
    with pytest.raises(DeskvigilError, match="nvcc: "):
        nvcc("this is no C++", "90")


def test_real_devices_give_the_processors_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    try:
        devices = load_devices(MEMORY, SystemClock())
    except GpuAbsentError as error:
        pytest.skip(f"not run on a graphics processor: {error}")
    for precision, dtype in (("double", np.float64), ("single", np.float32)):
        book, loading = mixed_book(32, 90)
        quadratic = DeltaGamma.of(book, loading, TRADING_DAY)
        for scenarios in (1_000, 20_000):
            simulation = BookSimulation(book, loading, scenarios=scenarios, draw="control", precision=precision)
            sampling = sampling_of(loading, np.zeros(32), quadratic.first, quadratic.second, dtype)
            work = book_work(sampling, lines_of(book, TRADING_DAY, dtype)[0], scenarios, near=True)
            found = np.zeros((2, scenarios), dtype)
            for stream in range(3):
                compute(devices, work, 1, stream, found)
                assert found[0].tobytes() == simulation.run(stream).gains.tobytes()
        for assets, antithetic in ((1, True), (3, False)):
            option = path_option(assets, steps=252)
            samples = 5_000
            paths = PathSimulation(
                option, paths=2 * samples if antithetic else samples, antithetic=antithetic, precision=precision
            )
            paths.run(4)
            found = np.zeros((3, samples), dtype)
            compute(devices, path_work(option.payoffs(dtype), samples, antithetic, totals=False), 1, 4, found)
            assert found.tobytes() == paths.payoffs.tobytes()
