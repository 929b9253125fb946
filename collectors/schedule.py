"""Schedule: the slots of a fixed rate, on the monotonic clock, in phase with the wall clock."""

from __future__ import annotations


class Schedule:
    """Slots at `phase_ns` after each wall-clock multiple of `interval_ns`, kept on the monotonic clock.

    Each slot is computed from the anchor, never from the slot before, so the rate cannot drift. The
    wall clock only gives the phase: where it is stepped or slewed out of phase by more than
    `tolerance` of an interval, the next slot is moved back into phase (an hour's step moves nothing).
    Being in phase keeps one frame in each second of the archive, whatever the two clocks do.
    """

    def __init__(self, interval_ns: int, phase_ns: int = 0, tolerance: float = 0.01) -> None:
        if interval_ns <= 0 or not 0 <= phase_ns < interval_ns:
            raise ValueError(f"interval of {interval_ns} ns with phase {phase_ns} ns is no schedule")
        self._interval_ns = interval_ns
        self._phase_ns = phase_ns
        self._tolerance_ns = round(tolerance * interval_ns)
        self._slot_ns = 0

    def start(self, monotonic_ns: int, wall_ns: int) -> int:
        """Anchor at the next wall-clock boundary; return the first slot's monotonic time."""
        self._slot_ns = monotonic_ns + self._until_boundary(wall_ns)
        return self._slot_ns

    def next(self, monotonic_ns: int, wall_ns: int) -> tuple[int, int]:
        """Return the next slot's monotonic time and how many slots have gone by unserved."""
        behind_ns = monotonic_ns - self._slot_ns
        skipped = max(0, behind_ns // self._interval_ns)
        self._slot_ns += (1 + skipped) * self._interval_ns
        shift_ns = self._out_of_phase(wall_ns - monotonic_ns)
        if abs(shift_ns) > self._tolerance_ns:
            self._slot_ns -= shift_ns
            if self._slot_ns <= monotonic_ns:
                self._slot_ns += self._interval_ns
        return self._slot_ns, skipped

    def _until_boundary(self, wall_ns: int) -> int:
        return (self._phase_ns - wall_ns) % self._interval_ns

    def _out_of_phase(self, offset_ns: int) -> int:
        """How far the slot lies after its wall-clock boundary, in -interval/2 .. interval/2."""
        late_ns = (self._slot_ns + offset_ns - self._phase_ns) % self._interval_ns
        return late_ns - self._interval_ns if late_ns > self._interval_ns // 2 else late_ns
