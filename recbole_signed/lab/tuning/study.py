"""The trials of a tuning in an SQLite file, through Optuna: its plan, what was tried, what comes next.

A trial is written as a whole when it ends, so an interrupted tuning goes on from those that ended.
"""

from __future__ import annotations

import math
import random
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_signed.errors import MissingExtraError, UsageError, argument

try:
    import optuna
    from optuna.exceptions import StorageInternalError
    from optuna.samplers import TPESampler
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial, Trial, TrialState
    from sqlalchemy.exc import DatabaseError
except ModuleNotFoundError as error:
    raise MissingExtraError("tuning", "tune") from error

from recbole_signed.files import is_plain_name
from recbole_signed.lab.tuning.space import Space
from recbole_signed.plugin.assignments import TUNED

RANDOM_TRIALS = 5  # trials before the sampler (TPE) learns from what it has seen

_DRAWS = 20  # draws until there are values that were not tried; then one of the rest of a finite space is
_DEFAULT, _START = "default", "kept"  # marks of the first two trials, which are never pruned
_VALUES, _ABOUT = "values", "about"

TRIALS = 50  # default number of trials

REDUCTION = 3  # one in so many trials goes on from a rung

RUNGS = (0.25, 0.5)  # shares of the budget at which trials are compared

MIN_STEPS = 1500  # default of optimiser steps before which no trial is given up: some rank by popularity first


@dataclass(frozen=True)
class Asked:
    """A trial that is to be run."""

    values: dict[str, Any]  # RecBole keys; none for the default configuration
    kind: str  # `default`, `kept` (the start), or nothing
    trial: Trial
    curve: list[list[float]] = field(default_factory=list)  # `[epoch, score]` of each validation so far


@dataclass(frozen=True)
class Tried:
    """A trial that has ended."""

    number: int  # its place among the trials, from 0: the default configuration
    state: str  # `complete`, `pruned` or `fail`
    is_default: bool
    values: dict[str, Any]
    value: float | None
    seconds: float | None
    about: dict[str, Any]  # what else was kept: `epochs`, `stopped_by`, `curve`, or the `reason` of a failure


class Study:
    """The trials of one question: a model on some data, a space, fixed settings and a seed."""

    def __init__(
        self,
        file: Path,
        name: str,
        space: Space,
        defaults: Mapping[str, Any],
        bigger: bool,
        seed: int,
        start: Mapping[str, Any] | None = None,
    ) -> None:
        """Open a study, or begin one, whose first trial is the default configuration and the second ``start``."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self._seed, self._toward = space, seed, 1.0 if bigger else -1.0
        direction = StudyDirection.MAXIMIZE if bigger else StudyDirection.MINIMIZE
        # where the default is a point of the space, the sampler may learn from it
        first = {_DEFAULT: space.point(defaults) or {}}
        if start:
            first[_START] = _start_point(space, {**defaults, **start})
        try:
            self._file = optuna.create_study(
                storage=_storage(file.resolve()), study_name=name, direction=direction, load_if_exists=True
            )
            # versions that wrote a trial as it began left some there that never ended
            ended = [trial for trial in self._file.get_trials() if _ABOUT in trial.user_attrs]
        except (
            DatabaseError,
            StorageInternalError,
            RuntimeError,
        ) as error:  # damaged, read-only, or of another version of Optuna
            why = getattr(error, "orig", None) or error
            raise UsageError(
                f"the trials in {file} can't be used ({why}); correct its permissions, or move it away: then they are "
                "made again."
            ) from error
        self._study = optuna.create_study(direction=direction)
        self._study.add_trials(sorted(ended, key=lambda trial: trial.datetime_start or trial.number))
        self._queue = [
            (kind, point) for kind, point in first.items() if not any(kind in trial.user_attrs for trial in ended)
        ]

    def ask(self) -> Asked | None:
        """Begin the next trial, with values that were not tried before; None where the space has no more of them."""
        ran = self._ran()
        known = [self.space.values(trial.params) for trial in ran if trial.params]
        while self._queue:
            kind, point = self._queue.pop(0)
            if kind == _DEFAULT or self.space.values(point) not in known:
                return self._begin(kind, point)
        for draw in range(_DRAWS):
            # the draws follow from the place alone, so a tuning that was stopped goes on with those it would have had
            seed = ((self._seed * 7919 + len(ran)) * _DRAWS + draw) % 2**32
            self._study.sampler = TPESampler(n_startup_trials=RANDOM_TRIALS, seed=seed)
            asked = self._begin()
            if asked.values not in known:
                return asked
            self._study.tell(asked.trial, state=TrialState.FAIL)
        rest = [point for point in self.space.points() if self.space.values(point) not in known]
        return self._begin("", random.Random(seed).choice(rest)) if rest else None

    def _begin(self, kind: str = "", point: Mapping[str, Any] | None = None) -> Asked:
        if point is not None:
            self._study.enqueue_trial(dict(point), {kind: True} if kind else {})
        trial = self._study.ask({} if point == {} else dict(self.space.parameters))
        # of the default, parameters are kept for the sampler; the run gets no values, so it is the default itself
        values = {} if kind == _DEFAULT else self.space.values(trial.params)
        trial.set_user_attr(_VALUES, values)
        return Asked(values, kind, trial)

    def _ran(self) -> list[FrozenTrial]:
        """Return the trials that have ended or are running, in order."""
        trials = self._study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state == TrialState.RUNNING or _ABOUT in trial.user_attrs]

    def report(self, asked: Asked, best: float, rung: int) -> bool:
        """Keep the best score of a trial at the rungs that it has reached; return whether it goes on."""
        number = asked.trial.number
        reached = self._study.get_trials(deepcopy=False)[number].intermediate_values
        new = range(len(reached) + 1, rung + 1)
        if not math.isfinite(best) or not new:
            return True
        for step in new:
            asked.trial.report(best, step)
        # what ended by itself before the rung counts with its value
        others = [trial.intermediate_values.get(rung, _value(trial)) for trial in self._ran() if trial.number != number]
        scores = [score for score in others if score is not None]
        ahead = sum(self._toward * score > self._toward * best for score in scores)
        return bool(asked.kind) or survives(ahead, len(scores) + 1)

    def complete(self, asked: Asked, value: float, about: Mapping[str, Any]) -> None:
        """End a trial with its value."""
        self._end(asked, about, TrialState.COMPLETE, value)

    def prune(self, asked: Asked, about: Mapping[str, Any]) -> None:
        """End a trial that was pruned."""
        self._end(asked, about, TrialState.PRUNED)

    def fail(self, asked: Asked, reason: str) -> None:
        """End a trial that came to nothing; it counts as one of the trials."""
        self._end(asked, {"reason": reason}, TrialState.FAIL)

    def _end(self, asked: Asked, about: Mapping[str, Any], state: TrialState, value: float | None = None) -> None:
        asked.trial.set_user_attr(_ABOUT, dict(about))
        self._file.add_trial(self._study.tell(asked.trial, value, state))

    def tried(self) -> list[Tried]:
        """Return the trials that have ended, in their order."""
        return [_tried(number, trial) for number, trial in enumerate(self._ran()) if trial.state.is_finished()]


def _value(trial: FrozenTrial) -> float | None:
    return trial.value if trial.state is TrialState.COMPLETE else None


def _start_point(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    point = space.point(values)
    if point is None:
        outside = {key: values.get(key) for key in space.parameters if not space.contains(key, values.get(key))}
        raise UsageError(f"the search can't start where it never goes: {space.path} does not have {outside}.")
    return point


def _storage(file: Path) -> optuna.storages.RDBStorage:
    """Return the trials' file: safe against the death of the process with every call, not with a wait for the disk."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(file, timeout=60.0, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    # without the path, in which braces and question marks would mean something
    return optuna.storages.RDBStorage(f"sqlite:///{file.name}", engine_kwargs={"creator": connect})


def _tried(number: int, trial: FrozenTrial) -> Tried:
    duration = trial.duration
    return Tried(
        number=number,
        state=trial.state.name.lower(),
        is_default=_DEFAULT in trial.user_attrs,
        values=trial.user_attrs.get(_VALUES, {}),
        value=_value(trial),
        seconds=None if duration is None else round(duration.total_seconds(), 3),
        about=trial.user_attrs.get(_ABOUT, {}),
    )


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
        """Refuse numbers and names that make no sense."""
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
    """When trials are compared: at shares of the budget only the best third goes on (ASHA, Li et al., MLSys 2020)."""

    cpu_seconds: float = 0.0  # `training_budget` of a trial; 0: none
    max_steps: int = 0  # `max_steps` of a trial; 0: none. Of two limits the one that is nearer counts
    min_steps: int = MIN_STEPS  # before which no trial is given up; without limits the first rung, the next at twice it

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
    """Whether a trial goes on from a rung that ``reached`` trials have reached, ``ahead`` with a better score."""
    return reached < REDUCTION or ahead < reached // REDUCTION
