"""GpuDevice: one graphics processor with its kernels loaded, and batches under way on it.

A batch has buffers on both sides, a stream, and a graph: copy in, kernel, copy out. What changes from run to run is in
the buffers, so the graph is captured once and replayed. The first run of a batch goes without one, which loads the kernel.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.montecarlo.gpu.memory import DeviceMemory
from engine.montecarlo.gpu.plan import Plan, Work
from metrics.clock import Clock
from metrics.errors import DeskvigilError, TransientError
from metrics.frame import FloatArray

DEPTH: Final = 4  # batches of one plan that can be under way at a time
MOST_PLANS: Final = 16
SPIN_NS: Final = 2_000_000  # waited for by asking again and again; longer with pauses
PAUSE_S: Final = 0.0005
NOT_READY: Final = 600  # cudaErrorNotReady: the one answer to wait on
HANG_NS: Final = 1_500_000_000  # of one batch; less than risk.hang_after_s, after which the process is replaced


class Batch:
    """One plan's buffers on a device, and what is under way with them. The device must be current in every call."""

    def __init__(self, cupy: Any, plan: Plan, kernel: Any, memory: DeviceMemory) -> None:
        self._runtime, self._plan, self._kernel = cupy.cuda.runtime, plan, kernel
        self._input, self._output = memory.take(plan.input_bytes), memory.take(plan.output_bytes)
        self._from, self._to = memory.take_pinned(plan.input_bytes), memory.take_pinned(plan.output_bytes)
        self._source = np.frombuffer(self._from, np.uint8, plan.input_bytes)
        self._target = np.frombuffer(self._to, plan.code, int(np.prod(plan.outputs))).reshape(plan.outputs)
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._graph: Any = None
        self._ran = False
        self.under_way = False

    def start(self, work: Work, seed: int, stream: int, first: int) -> None:
        """Begin work of the batch's plan."""
        work.write(self._source, seed, stream, first)
        self.under_way = True
        with self._stream:
            if not self._ran:
                self._enqueue()
                self._ran = True
                return
            if self._graph is None:
                self._stream.begin_capture()
                try:
                    self._enqueue()
                finally:
                    self._graph = self._stream.end_capture()
            self._graph.launch(self._stream)

    def finish(self, out: FloatArray, clock: Clock) -> None:
        """Wait, and copy what came back to out, of the plan's shape. TransientError where it does not end."""
        begun_ns = clock.monotonic_ns()
        while self._runtime.streamQuery(self._stream.ptr) == NOT_READY:
            passed_ns = clock.monotonic_ns() - begun_ns
            if passed_ns > HANG_NS:
                raise TransientError(f"{self._plan.kernel} has not ended after {passed_ns / 1e9:.1f} s")
            if passed_ns > SPIN_NS:
                time.sleep(PAUSE_S)
        self._stream.synchronize()  # raises what went wrong
        self.under_way = False
        out[...] = self._target

    def _enqueue(self) -> None:
        plan, runtime, stream = self._plan, self._runtime, self._stream.ptr
        runtime.memcpyAsync(self._input.ptr, self._from.ptr, plan.input_bytes, runtime.memcpyHostToDevice, stream)
        self._kernel(
            (plan.blocks,),
            (plan.threads,),
            (np.uintp(self._input.ptr), np.uintp(self._output.ptr)),
            shared_mem=plan.shared,
        )
        runtime.memcpyAsync(self._to.ptr, self._output.ptr, plan.output_bytes, runtime.memcpyDeviceToHost, stream)


class GpuDevice:
    """Runs plans on one device. Not for two threads at once. Whatever CuPy raises goes through to the caller."""

    def __init__(self, cupy: Any, number: int, cubin: Path, memory_bytes: int, clock: Clock) -> None:
        self._cupy, self._clock, self._device = cupy, clock, cupy.cuda.Device(number)
        with self._device:
            self._module = cupy.RawModule(path=str(cubin))
            self._memory = DeviceMemory(cupy, memory_bytes)
            self.name = str(cupy.cuda.runtime.getDeviceProperties(number)["name"].decode())
        self._batches: OrderedDict[Plan, list[Batch]] = OrderedDict()  # the one used last comes last

    def start(self, work: Work, seed: int, stream: int, first: int) -> Batch:
        """Begin; `finish` of what is returned ends it. DeskvigilError where DEPTH batches of the plan are under way."""
        with self._device:
            batch = self._batch_of(work.plan)
            batch.start(work, seed, stream, first)
            return batch

    def finish(self, batch: Batch, out: FloatArray) -> None:
        """Wait for a batch and copy its outputs."""
        with self._device:
            batch.finish(out, self._clock)

    def figures(self) -> Any:
        """Those of its memory."""
        with self._device:
            return self._memory.figures()

    def _batch_of(self, plan: Plan) -> Batch:
        batches = self._batches.setdefault(plan, [])
        self._batches.move_to_end(plan)
        for batch in batches:
            if not batch.under_way:
                return batch
        if len(batches) == DEPTH:
            raise DeskvigilError(f"{DEPTH} batches of {plan.kernel} are under way: finish one before the next")
        if len(self._batches) > MOST_PLANS:
            self._drop_oldest(plan)
        batches.append(self._made(plan))
        return batches[-1]

    def _made(self, plan: Plan) -> Batch:
        kernel = self._module.get_function(plan.kernel)
        while True:
            try:
                return Batch(self._cupy, plan, kernel, self._memory)
            except self._cupy.cuda.memory.OutOfMemoryError:
                if not self._drop_oldest(plan):
                    raise

    def _drop_oldest(self, keep: Plan) -> bool:
        """Give up the batches of the plan that was used least recently; False where there is none but `keep`."""
        for plan, batches in self._batches.items():
            if plan != keep and not any(batch.under_way for batch in batches):
                del self._batches[plan]
                batches.clear()
                self._memory.trim()
                return True
        return False
