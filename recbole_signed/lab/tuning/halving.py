"""Successive halving of trials as they come: at some shares of the budget only the best third of them goes on.

Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht, Talwalkar. "A System for Massively Parallel Hyperparameter
Tuning" (ASHA). MLSys 2020. https://arxiv.org/abs/1810.05934
"""

from __future__ import annotations

import math
from dataclasses import dataclass

REDUCTION = 3
"""One in so many trials goes on from a rung."""

RUNGS = (0.25, 0.5)
"""Shares of the budget at which trials are compared."""

MIN_STEPS = 1500
"""Default number of optimiser steps before which no trial is given up: some models rank by popularity for hundreds of
steps before they learn anything else."""


@dataclass(frozen=True)
class Halving:
    """When trials are compared."""

    cpu_seconds: float = 0.0
    """``training_budget`` of a trial; 0: none."""
    max_steps: int = 0
    """``max_steps`` of a trial; 0: none. Of two limits the one that is nearer counts."""
    min_steps: int = MIN_STEPS
    """Steps before which no trial is given up; without any limit, also the first rung, and each further one is at
    twice the steps."""

    def rung(self, steps: int, cpu_seconds: float) -> int:
        """Return how many rungs a trial has reached."""
        if steps < max(self.min_steps, 1):
            return 0
        if not self.cpu_seconds and not self.max_steps:
            return 1 + int(math.log2(steps / max(self.min_steps, 1)))
        by_time = cpu_seconds / self.cpu_seconds if self.cpu_seconds else 0.0
        by_steps = steps / self.max_steps if self.max_steps else 0.0
        return sum(max(by_time, by_steps) >= share for share in RUNGS)


def survives(ahead: int, reached: int) -> bool:
    """Whether a trial goes on from a rung.

    Args:
        ahead: trials with a better score there.
        reached: trials that have reached it, this one included.
    """
    return reached < REDUCTION or ahead < reached // REDUCTION
