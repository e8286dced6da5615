"""How a benchmark is described, timed and given its numbers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """How much data a case works on.

    Attributes:
        tiny: a few frames, for tests of the benchmark itself; its numbers mean nothing.
        scale: times the usual amount.
    """

    tiny: bool = False
    scale: int = 1

    def of(self, usual: int, tiny: int) -> int:
        """A count of files, frames or sequences."""
        return (tiny if self.tiny else usual) * self.scale


@dataclass(frozen=True)
class Case:
    """One row of the table: face4d and one or two other ways of doing the same on the same data.

    Attributes:
        unit: what the times are for, e.g. ``frame``.
        ours, baseline: do all the work once.
        units: units that one call of ``ours`` does.
        baseline_units: units that one call of ``baseline`` does; fewer where all of them would take too long (its time
            is then scaled up).
        baseline_is: what the baseline calls, in words.
        sensible: a second baseline, the loop that a careful user of the usual packages writes, where the first is the
            original's way and wasteful.
        sensible_units: units that one call of ``sensible`` does.
        sensible_is: what it calls, in words.
        bound: seconds per unit that no program of this kind can beat, measured here and now, or None.
        bound_is: what the bound counts.
        target: seconds per unit wanted, or None.
        settle: called before each timed call (not timed), e.g. to give it an empty folder.
    """

    unit: str
    ours: Callable[[], object]
    baseline: Callable[[], object]
    units: float
    baseline_units: float
    baseline_is: str
    bound: Callable[[], float] | None = None
    bound_is: str = ""
    target: float | None = None
    settle: Callable[[], None] = lambda: None
    sensible: Callable[[], object] | None = None
    sensible_units: float = 1.0
    sensible_is: str = ""


# cpu: of all threads of this process, whatever else the machine does
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def seconds(call: Callable[[], object], settle: Callable[[], None] = lambda: None, clock: str = "wall") -> float:
    """Seconds of one call."""
    settle()
    begun = CLOCKS[clock]()
    call()
    return CLOCKS[clock]() - begun


def best_seconds(call: Callable[[], object], repeat: int = 7) -> float:
    """The shortest of several calls, for bounds."""
    return min(seconds(call) for _ in range(repeat))


def compare(case: Case, repeat: int, clock: str = "wall") -> dict[str, float]:
    """Median seconds per unit of all ways, taken in turns (A B C A B C ...) after one call of ours to warm up.

    Returns:
        ``ours``, ``baseline``, ``ratio`` (median of the ratios of neighbours in time), ``spread`` (largest over
        smallest of ours); with a second baseline also ``sensible`` and ``sensible_ratio``.
    """
    seconds(case.ours, case.settle)
    ours, baseline, sensible = [], [], []
    for _ in range(repeat):
        ours.append(seconds(case.ours, case.settle, clock) / case.units)
        baseline.append(seconds(case.baseline, case.settle, clock) / case.baseline_units)
        if case.sensible:
            sensible.append(seconds(case.sensible, case.settle, clock) / case.sensible_units)
    result = {
        "ours": statistics.median(ours),
        "baseline": statistics.median(baseline),
        "ratio": statistics.median(b / a for a, b in zip(ours, baseline)),
        "spread": max(ours) / min(ours),
    }
    if sensible:
        result |= {
            "sensible": statistics.median(sensible),
            "sensible_ratio": statistics.median(b / a for a, b in zip(ours, sensible)),
        }
    return result
