"""The trials of a tuning in an SQLite file, through Optuna: what was tried, what comes next, what is given up.

Needs the extra ``tune``; only :mod:`recbole_signed.lab.tuning.search` imports this module.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import DatabaseError

from recbole_signed.errors import UsageError
from recbole_signed.lab.tuning.halving import survives
from recbole_signed.lab.tuning.space import Space

RANDOM_TRIALS = 5
"""Trials before the sampler (TPE) learns from what it has seen."""

_DEFAULT, _AGAIN, _VALUES, _KNOWN, _ABOUT, _KEPT = "default", "again", "values", "known", "about", "kept"
_FIXED = "fixed_params"
"""Where Optuna keeps the values with which a trial was queued."""
_LEARNED_DRAWS, _DRAWS = 5, 200
"""Draws of values until there are some that were not tried yet: by TPE, then at random too."""


def _sampler(seed: int, place: int, *, learns: bool) -> BaseSampler:
    """Return TPE, or random draws, for the trial at a place: they follow from these, not from what was drawn before.

    So a tuning that was stopped goes on with the trials that it would have had.
    """
    seed = (seed * 7919 + place) % 2**32
    return TPESampler(n_startup_trials=RANDOM_TRIALS, multivariate=False, seed=seed) if learns else RandomSampler(seed)


@dataclass(frozen=True)
class Asked:
    """A trial that is to be run."""

    values: dict[str, Any]
    """RecBole keys; none for the default configuration."""
    is_default: bool
    trial: Trial


@dataclass(frozen=True)
class Tried:
    """A trial that has ended."""

    number: int
    """Its place among the trials, from 0: the default configuration. Optuna's own number may be higher."""
    state: str
    """``complete``, ``pruned`` or ``fail``."""
    is_default: bool
    values: dict[str, Any]
    value: float | None
    seconds: float | None
    about: dict[str, Any]
    """What else was kept: ``epochs``, ``stopped_by``, ``curve``, or the ``reason`` of a failure."""

    def as_dict(self) -> dict[str, Any]:
        """Return the trial as JSON can hold it."""
        return {**vars(self)}


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
        """Open a study, or begin one, whose first trial will be the default configuration.

        Args:
            file: the SQLite file; it may hold other studies.
            name: name of the study; equal questions have equal names.
            space: what is tried.
            defaults: the model's own values.
            bigger: whether larger scores are better.
            seed: seed of the sampler.
            start: values of the second trial; what it does not name is as in the defaults. Like the default, it is
                never pruned.

        Raises:
            UsageError: ``start`` is not a point of the space, or the file is no study that can be read and written.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space = space
        self._default = space.point(defaults)
        try:
            self._study = optuna.create_study(
                storage=_storage(file.resolve()),
                study_name=name,
                direction="maximize" if bigger else "minimize",
                load_if_exists=True,
            )
        except (DatabaseError, RuntimeError) as error:  # damaged, read-only, or of another version of Optuna
            why = getattr(error, "orig", None) or error
            raise UsageError(
                f"the trials in {file} can't be used ({why}); correct its permissions, or move it away: then they are "
                "made again."
            ) from error
        if not self._study.trials:
            # where the default is a point of the space, the sampler may learn from it
            self._study.enqueue_trial(self._default or {}, {_DEFAULT: True})
        if start and len(self._study.trials) == 1:  # the process may have died between the two
            self._study.enqueue_trial(_start_point(space, {**defaults, **start}), {_KEPT: True})
        self._repeat_what_was_cut_off()
        self._seed, self._n_cut_off = seed, len(_cut_off(self._study.get_trials(deepcopy=False)))

    def _repeat_what_was_cut_off(self) -> None:
        """Queue the trials of a process that is gone again (nobody else has the study's lock), and end them.

        In this order: where the process dies in between, the trial is queued already, and known by that.
        """
        queued = {each.user_attrs.get(_AGAIN) for each in self._study.get_trials()}
        for each in self._study.get_trials(states=(TrialState.RUNNING,)):
            params = each.params if _VALUES in each.user_attrs else each.system_attrs.get(_FIXED)
            if each.user_attrs.get(_DEFAULT):
                params = self._default or {}
            # without any, its values were being drawn, and will be drawn again
            if params is not None and each.number not in queued:
                kept = {key: True for key in (_DEFAULT, _KEPT) if each.user_attrs.get(key)}
                self._study.enqueue_trial(params, {_AGAIN: each.number, **kept})
            self._study.tell(each.number, state=TrialState.FAIL)

    def ask(self) -> Asked | None:
        """Begin the next trial, with values that were not tried before; None where the space has no more of them."""
        queued = bool(self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))
        known = self._known()
        if len(known) >= self.space.size and not queued:
            return None
        for draw in range(_DRAWS):
            place = len(self._study.get_trials(deepcopy=False)) - self._n_cut_off
            self._study.sampler = _sampler(self._seed, place, learns=draw < _LEARNED_DRAWS)
            trial = self._study.ask()
            if trial.user_attrs.get(_DEFAULT):
                return self._ask_default(trial)
            values = self.space.suggest(trial)
            trial.set_user_attr(_VALUES, values)
            if self.space.rounded(trial.params) not in known or _AGAIN in trial.user_attrs:
                return Asked(values, False, trial)
            trial.set_user_attr(_KNOWN, True)
            self._study.tell(trial, state=TrialState.FAIL)
        rest = next((each for each in self.space.points() if self.space.rounded(each) not in known), None)
        if rest is None:
            return None
        self._study.enqueue_trial(rest)  # chance may miss the last points of a small space for long
        trial = self._study.ask()
        trial.set_user_attr(_VALUES, values := self.space.suggest(trial))
        return Asked(values, False, trial)

    def _ask_default(self, trial: Trial) -> Asked:
        if self._default is not None:
            self.space.suggest(trial)  # kept for the sampler; the run gets no values, so it is the default itself
        trial.set_user_attr(_VALUES, {})
        return Asked({}, True, trial)

    def _known(self) -> list[dict[str, Any]]:
        """Return the parameters that were tried, or are being tried: equal ones would give equal results.

        Each once, though that of the default may have been drawn again by earlier versions.
        """
        found: list[dict[str, Any]] = []
        for each in self._ran():
            if each.params and (params := self.space.rounded(each.params)) not in found:
                found.append(params)
        return found

    def _ran(self) -> list[FrozenTrial]:
        """Return the trials that were run or are running, in order; of one that was cut off, only its repetition."""
        trials = self._study.get_trials(deepcopy=False)
        cut_off = _cut_off(trials)
        drawn = [each for each in trials if _VALUES in each.user_attrs and _KNOWN not in each.user_attrs]
        return [each for each in drawn if each.number not in cut_off and each.state != TrialState.WAITING]

    def report(self, asked: Asked, best: float, rung: int) -> bool:
        """Keep the best score of a trial under way at the rungs that it has reached; return whether to go on with it.

        It goes on if it is among the best third (:data:`~recbole_signed.lab.tuning.halving.REDUCTION`) of the
        trials that have reached the rung so far, or one of the first two to do so. The default and the start always do.

        Args:
            asked: the trial.
            best: its best score so far.
            rung: the number of rungs that it has reached.
        """
        trial = asked.trial
        reached = self._study.get_trials(deepcopy=False)[trial.number].intermediate_values
        new = range(len(reached) + 1, rung + 1)
        if not math.isfinite(best) or not new:
            return True
        for each in new:
            trial.report(best, each)
        toward = 1.0 if self._study.direction == optuna.study.StudyDirection.MAXIMIZE else -1.0
        others = [_at_rung(each, rung) for each in self._ran() if each.number != trial.number]
        scores = [each for each in others if each is not None]
        ahead = sum(toward * each > toward * best for each in scores)
        exempt = asked.is_default or bool(trial.user_attrs.get(_KEPT))
        return exempt or survives(ahead, len(scores) + 1)

    def complete(self, asked: Asked, value: float, about: Mapping[str, Any]) -> None:
        """End a trial with its value."""
        asked.trial.set_user_attr(_ABOUT, dict(about))
        self._study.tell(asked.trial, value)

    def prune(self, asked: Asked, about: Mapping[str, Any]) -> None:
        """End a trial that was pruned."""
        asked.trial.set_user_attr(_ABOUT, dict(about))
        self._study.tell(asked.trial, state=TrialState.PRUNED)

    def fail(self, asked: Asked, reason: str) -> None:
        """End a trial that came to nothing; it counts as one of the trials."""
        asked.trial.set_user_attr(_ABOUT, {"reason": reason})
        self._study.tell(asked.trial, state=TrialState.FAIL)

    def tried(self) -> list[Tried]:
        """Return the trials that have ended, in their order."""
        return [_tried(number, each) for number, each in enumerate(self._ran()) if each.state.is_finished()]


def _at_rung(trial: FrozenTrial, rung: int) -> float | None:
    """Return the best score of a trial at a rung: its value where it ended by itself before; None: not reached."""
    ended = trial.value if trial.state is TrialState.COMPLETE else None
    return trial.intermediate_values.get(rung, ended)


def _start_point(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    point = space.point(values)
    if point is None:
        outside = {key: values.get(key) for key, each in space.parameters.items() if not each.contains(values.get(key))}
        raise UsageError(f"the search can't start where it never goes: {space.path} does not have {outside}.")
    return point


def _cut_off(trials: Sequence[FrozenTrial]) -> set[int]:
    """Return the numbers of the trials that did not come to their end because the process did."""
    undrawn = {each.number for each in trials if each.state == TrialState.FAIL and _VALUES not in each.user_attrs}
    return undrawn | {each.user_attrs[_AGAIN] for each in trials if _AGAIN in each.user_attrs}


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
        is_default=bool(trial.user_attrs.get(_DEFAULT)),
        values=trial.user_attrs.get(_VALUES, {}),
        value=trial.value if trial.state is TrialState.COMPLETE else None,
        seconds=None if duration is None else round(duration.total_seconds(), 3),
        about=trial.user_attrs.get(_ABOUT, {}),
    )
