"""How a tuning is to be done: how many trials, how long, where things are, and which of them are given up early.

At some shares of the budget only the best third of the trials goes on: Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur,
Hardt, Recht, Talwalkar. "A System for Massively Parallel Hyperparameter Tuning" (ASHA). MLSys 2020.
https://arxiv.org/abs/1810.05934
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError, argument
from recbole_signed.files import is_plain_name
from recbole_signed.plugin.assignments import TUNED

TRIALS = 50
"""Default number of trials."""

REDUCTION = 3
"""One in so many trials goes on from a rung."""

RUNGS = (0.25, 0.5)
"""Shares of the budget at which trials are compared."""

MIN_STEPS = 1500
"""Default number of optimiser steps before which no trial is given up: some models rank by popularity for hundreds of
steps before they learn anything else."""


@dataclass(frozen=True)
class Plan:
    """How a tuning is to be done."""

    trials: int = TRIALS
    """Trials in all, those of earlier calls included."""
    jobs: int = 1
    """Processes at a time."""
    budget: float | None = None
    """``training_budget`` of each trial, in CPU seconds."""
    prune_after: int = MIN_STEPS
    """Optimiser steps before which no trial is pruned."""
    timeout: float | None = None
    """Seconds after which no trial is begun."""
    space: Path | None = None
    """File of the space; the user's ``yaml/tune/<Model>.yaml``, else this package's, if None."""
    name: str | None = None
    """Folder of the result, for another split of a data set; that of the data set if None."""
    output: Path = Path(TUNED)
    """Where the folders of results are."""

    @property
    def keys(self) -> dict[str, Any]:
        """The RecBole keys that it gives each trial, in the place of a table's."""
        return {} if self.budget is None else {"training_budget": self.budget}

    def check(self) -> None:
        """Refuse numbers and names that make no sense.

        Raises:
            UsageError: names the first one.
        """
        for name, value, least in (
            ("trials", self.trials, 1),
            ("jobs", self.jobs, 1),
            ("prune_after", self.prune_after, 0),
        ):
            if value < least:
                raise UsageError(f"{argument(name)} is {value}; it must be {least} or more.")
        if self.name is not None and (not is_plain_name(self.name)):
            raise UsageError(f"{argument('name')} is '{self.name}'; it must be the plain name of a folder.")
        for name, seconds in (("budget", self.budget), ("timeout", self.timeout)):
            if seconds is not None and not seconds > 0:
                raise UsageError(f"{argument(name)} is {seconds:g}; it must be a number of seconds above 0.")


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
