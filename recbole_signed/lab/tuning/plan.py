"""How a tuning is to be done: how many trials, how long, and where things are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError, argument
from recbole_signed.files import is_plain_name
from recbole_signed.lab.tuning.halving import MIN_STEPS
from recbole_signed.plugin.assignments import RUNS, TUNED

TRIALS = 50
"""Default number of trials."""


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
    storage: Path = Path(RUNS) / "tune"
    """Where trials are kept, so that a later call goes on."""

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
