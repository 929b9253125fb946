"""A stand-in for the part of CuPy 14 that engine/montecarlo/gpu uses, with the kernels of gpu_host and faults on order.

Streams do nothing until they are asked whether they are done, so that reading too early gives NaN; capturing records.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from engine.montecarlo.gpu.plan import Plan
from tests.engine.gpu_host import HostDevice

ROUND = 512  # CuPy's pools hand out multiples of it


class CUDARuntimeError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class FakeCupy:
    """`cupy`, with `devices` of them. Set `launch_error` to fail what is enqueued, `spoil` to make results NaN, `hang`
    to never end, `run_error` to fail while running; `error_on_load` to refuse the driver's first question. launches and replays are counted by device."""

    def __init__(self, host: HostDevice, devices: int = 1) -> None:
        self.host, self.devices = host, devices
        self.launch_error: Exception | None = None
        self.run_error: Exception | None = None
        self.error_on_load: Exception | None = None
        self.spoil = self.hang = False
        self.launches, self.replays, self.captures = [0] * devices, [0] * devices, 0
        self.current = [0]
        self.streams: list[Any] = []  # entered
        self.by_address: dict[int, _Stream] = {}
        self.hooks: list[Any] = []
        self.RawModule = lambda path: _Module(self, path)
        runtime = SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError, memcpyHostToDevice=1, memcpyDeviceToHost=2, memcpyAsync=self._memcpy,
            streamQuery=self._query, getDeviceCount=self._count, getDeviceProperties=lambda number: {"name": b"Fake %d" % number},
        )  # fmt: skip
        self.cuda = SimpleNamespace(
            runtime=runtime, memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError), nvrtc=_Nvrtc(),
            Device=lambda number: _Device(self, number), Stream=lambda non_blocking: _Stream(self, non_blocking),
            MemoryPool=lambda: _Pool(self), PinnedMemoryPool=_PinnedPool, MemoryHook=_hook_class(self),
        )  # fmt: skip

    def _count(self) -> int:
        if self.error_on_load is not None:
            raise self.error_on_load
        return self.devices

    def _query(self, stream: int) -> int:
        return self.by_address[stream].query()

    def _memcpy(self, to: int, source: int, size: int, kind: int, stream: int) -> None:
        assert kind in (1, 2)
        current = self.streams[-1]
        assert stream == current.ptr, "copied on another stream than the current one"
        current.enqueue(lambda: ctypes.memmove(to, source, size))


class _Device:
    compute_capability = "90"

    def __init__(self, cupy: FakeCupy, number: int) -> None:
        self._cupy, self._number = cupy, number

    def __enter__(self) -> None:
        self._cupy.current.append(self._number)

    def __exit__(self, *_: object) -> None:
        self._cupy.current.pop()


class _Stream:
    def __init__(self, cupy: FakeCupy, non_blocking: bool) -> None:
        assert non_blocking, "a stream that waits for the default one cannot overlap"
        self._cupy, self.ptr, self.device = cupy, id(self), cupy.current[-1]
        cupy.by_address[self.ptr] = self
        self._asked = False
        self._queue: list[Callable[[], object]] = []
        self._recording: list[Callable[[], object]] | None = None

    def __enter__(self) -> None:
        self._cupy.streams.append(self)

    def __exit__(self, *_: object) -> None:
        self._cupy.streams.pop()

    def enqueue(self, step: Callable[[], object]) -> None:
        assert self._cupy.current[-1] == self.device, "used on another device than its own"
        if self._cupy.launch_error is not None:
            raise self._cupy.launch_error
        (self._queue if self._recording is None else self._recording).append(step)

    def begin_capture(self) -> None:
        self._recording = []

    def end_capture(self) -> Any:
        steps, self._recording = list(self._recording or ()), None
        self._cupy.captures += 1

        def launch(stream: _Stream) -> None:
            self._cupy.replays[self._cupy.current[-1]] += 1
            for step in steps:
                stream.enqueue(step)

        return SimpleNamespace(launch=launch)

    def query(self) -> int:
        """cudaStreamQuery's answer: not ready, failed, or 0."""
        if self._cupy.hang:
            return 600
        if self._cupy.run_error is not None:
            return 700
        if self._queue and not self._asked:  # not ready when asked for the first time
            self._asked = True
            return 600
        self._asked = False
        for step in self._queue:
            step()
        self._queue.clear()
        return 0

    def synchronize(self) -> None:
        if self._cupy.run_error is not None:
            raise self._cupy.run_error
        assert not self._queue, "waited for without having been asked"


class _Module:
    def __init__(self, cupy: FakeCupy, path: str) -> None:
        assert Path(path).read_bytes(), "an empty cubin"
        self._cupy = cupy

    def get_function(self, name: str) -> Any:
        cupy = self._cupy

        def kernel(grid: tuple[int], block: tuple[int], args: tuple[np.uintp, np.uintp], shared_mem: int) -> None:
            assert shared_mem <= 48 * 1024
            plan = Plan(name, grid[0], block[0], shared_mem, 0, (), "d")

            def step() -> None:
                cupy.launches[cupy.current[-1]] += 1
                cupy.host.launch(plan, int(args[0]), int(args[1]))
                if cupy.spoil:
                    ctypes.memset(int(args[1]), 0xFF, 8)

            cupy.streams[-1].enqueue(step)

        return kernel


class _Pool:
    """Blocks by their rounded size, as CuPy's."""

    def __init__(self, cupy: FakeCupy) -> None:
        self._cupy = cupy
        self._limit = self._used = self._held = 0
        self._free: dict[int, list[Any]] = {}

    def set_limit(self, size: int) -> None:
        self._limit = size

    def malloc(self, size: int) -> Any:
        for hook in self._cupy.hooks:
            hook.malloc_preprocess(device_id=0, size=size, mem_size=size)
        rounded = -(-size // ROUND) * ROUND
        blocks = self._free.get(rounded)
        if blocks:
            block = blocks.pop()
        else:
            if self._limit and self._held + rounded > self._limit:
                self.free_all_blocks()
            if self._limit and self._held + rounded > self._limit:
                raise OutOfMemoryError(f"Out of memory allocating {rounded} bytes (limit set to: {self._limit} bytes).")
            for hook in self._cupy.hooks:
                hook.alloc_preprocess(device_id=0, mem_size=rounded)
            block = np.full(rounded, 0xFF, np.uint8)
            self._held += rounded
        self._used += rounded
        return _Pointer(self, block)

    def give_back(self, block: Any) -> None:
        self._used -= len(block)
        self._free.setdefault(len(block), []).append(block)

    def free_all_blocks(self) -> None:
        self._held -= sum(len(block) for blocks in self._free.values() for block in blocks)
        self._free.clear()

    def used_bytes(self) -> int:
        return self._used

    def total_bytes(self) -> int:
        return self._held


class _Pointer:
    def __init__(self, pool: _Pool, block: Any) -> None:
        self._pool, self._block, self.ptr = pool, block, block.ctypes.data

    def __del__(self) -> None:
        self._pool.give_back(self._block)


class _PinnedPool:
    def malloc(self, size: int) -> Any:
        block: Any = type("Pinned", (ctypes.Array,), {"_type_": ctypes.c_uint8, "_length_": size})()
        block.ptr = ctypes.addressof(block)
        return block

    def free_all_blocks(self) -> None:
        pass


class _Nvrtc:
    """Compiles whatever is not `broken`."""

    def __init__(self) -> None:
        self.broken = ""
        self.compiled: list[tuple[str, ...]] = []

    def createProgram(self, source: str, name: str, headers: tuple[str, ...], include_names: tuple[str, ...]) -> int:
        if self.broken == "absent":
            raise RuntimeError("libnvrtc.so.13: no such file")
        return 7

    def compileProgram(self, program: int, options: tuple[str, ...]) -> None:
        if self.broken:
            raise RuntimeError("NVRTC_ERROR_COMPILATION (6)")
        self.compiled.append(options)

    def getCUBIN(self, program: int) -> bytes:
        return b"\x7fELF machine code"

    def getProgramLog(self, program: int) -> str:
        return self.broken

    def destroyProgram(self, program: int) -> None:
        assert program == 7


def _hook_class(cupy: FakeCupy) -> Any:
    class MemoryHook:
        def __enter__(self) -> None:
            cupy.hooks.append(self)

        def __exit__(self, *_: object) -> None:
            cupy.hooks.remove(self)

    return MemoryHook
