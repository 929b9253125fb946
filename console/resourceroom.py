"""What is set about memory and garbage, and the bottleneck that is named, in the dashboard's words."""

from __future__ import annotations

from console.bottlenecks import BottleneckCollector
from console.cpuplans import CpuPlans
from dashboard.room.resourceroom import NO_PLAN, Bottleneck, ResourceRoom
from resources.allocator import ARENAS, KEPT
from resources.memoryoptions import MemoryOptions


def resource_room(
    memory: MemoryOptions, bottlenecks: BottleneckCollector | None, plans: CpuPlans | None
) -> ResourceRoom:
    """As of now; may be called from any thread. bottlenecks, plans: None where nobody looks for them, or tries any."""
    return ResourceRoom(
        plan=NO_PLAN if plans is None else f"{plans.state.in_words()}. {plans.topology.in_words()}",
        measures=_measures(memory),
        leak_bytes_s=memory.leak_mb_per_minute * 1e6 / 60.0 if memory.report else float("nan"),
        search=_bottleneck(bottlenecks),
    )


def _measures(memory: MemoryOptions) -> tuple[tuple[str, str], ...]:
    def switch(is_on: bool, words: str) -> str:
        return words if is_on else "off"

    kept, generation = KEPT // 2**20, memory.gc_allocations
    return (
        ("risk: malloc keeps freed blocks", switch(memory.keep_freed, f"up to {kept} MiB")),
        ("console: threads share heaps", switch(memory.few_arenas, f"{ARENAS} heaps")),
        ("garbage: what lives since the start is left out", switch(memory.freeze, "on")),
        ("garbage: youngest generation", f"after {generation:,} containers" if generation else "as Python has it"),
        ("a suspected process names the lines that grow", switch(memory.find_sites, f"{memory.site_burst_s:g} s traced")),
    )  # fmt: skip


def _bottleneck(bottlenecks: BottleneckCollector | None) -> Bottleneck:
    if bottlenecks is None:
        return Bottleneck(
            absence="nobody looks for bottlenecks (collectors.sampler_hz is 0, or this console only serves)"
        )
    said = bottlenecks.said
    return Bottleneck(said.finding.sentence, said.since_ms, said.waits_s, absence="")
