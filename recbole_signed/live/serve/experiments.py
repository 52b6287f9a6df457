"""Experiments on live traffic: variants, sticky assignment by a keyed hash, interleaving of two rankings.

A variant follows from salt and user id alone: all processes assign alike, and different salts independently.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import ConfigDict, Field, StringConstraints, field_validator, model_validator

from recbole_signed.errors import NotFoundError, UsageError, nearest
from recbole_signed.files import refusing, replace_file, stamp
from recbole_signed.plugin.ranges import NOT_NEGATIVE, RANGES, without_removed
from recbole_signed.yaml_spec import Spec, checked, read_yaml, yaml_text

PARAMETERS = ("dislike_aversion", "dislike_strength")  # what a variant may change without a model of its own
# what a file can hold: with a pattern pydantic also refuses halves of UTF-16 pairs
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
_logger = logging.getLogger(__name__)
SHARES = 1e-9  # what shares may differ by and be the same
_BITS = 53
T = TypeVar("T")


_EXAMPLE: Any = {
    "share": 0.1,
    "variants": {"plain": {"share": 0.5}, "careful": {"share": 0.5, "parameters": {"dislike_aversion": 3.0}}},
}


class Policy(Spec):
    """How lists are made."""

    parameters: dict[Text, float] = Field(default_factory=dict)  # at query time, by the names of PARAMETERS
    model: Literal["popularity", "trending"] | None = None  # ranks by likes, or recent ones, in place of the model
    explore: float = Field(default=0.0, ge=0, allow_inf_nan=False)  # temperature of the first place's draw
    young: float = Field(default=0.0, ge=0, allow_inf_nan=False)  # weight of the bonus for uncertain like rates
    new_slots: int = Field(default=0, ge=0, le=100)  # places for items with few verdicts, if more than in the settings

    @field_validator("parameters")
    @classmethod
    def _known(cls, value: dict[str, float]) -> dict[str, float]:
        for name, number in without_removed(value).items():
            if name not in PARAMETERS:
                raise ValueError(f"there is no parameter '{name}' of a variant{nearest(name, PARAMETERS)}")
            allowed = RANGES.get(name, NOT_NEGATIVE)
            if not allowed.holds(number):
                raise ValueError(f"{name} is {number}; expected {allowed}")
        return value


class Variant(Policy):
    """One arm of an experiment."""

    share: float = Field(gt=0, le=1)  # of the experiment's users


class Experiment(Spec):
    """Who takes part, and what they get."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    variants: dict[Text, Variant] = Field(min_length=2)  # the first is the control; their shares sum to 1
    share: float = Field(default=1.0, ge=0, le=1)  # of all users; raising it (a ramp) keeps those who were in
    salt: Text = ""  # of the assignment; the experiment's name where empty
    status: Literal["draft", "running", "stopped"] = "running"
    interleave: bool = False  # mix the lists of both variants by team-draft instead of splitting users
    segment: Literal["all", "known", "new"] = "all"  # known: users with edges, new: those without
    policies: dict[Text, Policy] = Field(default_factory=dict)  # never run; what they would draw is logged

    @property
    def all_policies(self) -> dict[str, Policy]:
        """Variants and policies by name."""
        return {**self.policies, **self.variants}

    @model_validator(mode="after")
    def _whole(self) -> Experiment:
        total = sum(variant.share for variant in self.variants.values())
        if abs(total - 1) > SHARES:
            raise ValueError(f"the shares of the variants sum to {total:g}; expected 1")
        if self.interleave and len(self.variants) != 2:
            raise ValueError(f"interleaving compares two variants, got {len(self.variants)}")
        explores = any(variant.explore for variant in self.variants.values())
        if self.interleave and explores:
            raise ValueError("an experiment explores or interleaves, not both")
        if self.interleave and any(variant.new_slots for variant in self.variants.values()):
            raise ValueError("new_slots of a variant would be mixed with the other's list; leave 'interleave' out")
        if self.policies and not explores:
            raise ValueError("policies are judged by what is drawn; set 'explore' of a variant to a number above 0")
        for name in self.policies:
            if name in self.variants:
                raise ValueError(f"'{name}' is a variant and a policy; give one of them another name")
        return self


@dataclass(frozen=True)
class Assignment:
    """What a user gets."""

    experiment: str
    variant: str
    propensity: float  # probability of this variant, given that the user takes part
    settings: Policy


class Experiments:
    """The experiments of a service, read from and kept in ``experiments.yaml``; in memory where there is no path."""

    def __init__(self, experiments: Mapping[str, Experiment] | None = None, path: Path | None = None) -> None:
        self._experiments = dict(experiments or {})
        self._path, self._seen = path, None if path is None else stamp(path)
        self._check: Callable[[Policy], object] = lambda _: None
        self._changing = threading.RLock()
        self._refuse(self._experiments)

    def refuse_by(self, check: Callable[[Policy], object]) -> None:
        """Refuse running experiments with a variant or policy that ``check`` raises UsageError for, from now on."""
        with self._changing:
            self._check = check
            self._refuse(self._experiments)

    @classmethod
    def read(cls, path: Path) -> Experiments:
        """Read a file; one that is not there holds no experiment."""
        made = cls(path=path)
        made._take_file()
        return made

    def reload(self) -> None:
        """Read a changed file again; one that is not valid changes nothing. It does not wait for a change under way."""
        if self._path is None or not self._changing.acquire(blocking=False):
            return
        try:
            if stamp(self._path) != self._seen:
                self._take_file()
        except UsageError as error:
            _logger.warning("The experiments stay as they were: %s", error)
        finally:
            self._changing.release()

    def _take_file(self) -> None:
        """Take what is in the file, where another process or a person may have changed it."""
        if self._path is not None:
            self._seen = stamp(self._path)  # what is written while it is read is read again
            read = _read(self._path)
            self._refuse(read)
            self._experiments = read

    def __getitem__(self, name: str) -> Experiment:
        if name not in self._experiments:
            there = f"; there are {', '.join(self._experiments)}." if self._experiments else "; there is none yet."
            raise NotFoundError(f"there is no experiment '{name}'{nearest(name, self._experiments) or there}")
        return self._experiments[name]

    def __iter__(self) -> Any:
        return iter(self._experiments.items())

    def put(self, name: str, experiment: Experiment) -> Experiment:
        """Add or change an experiment, keep it in the file, and return it."""
        with self._changing:
            self._take_file()
            self._keep({**self._experiments, name: experiment})
        return experiment

    def change(self, name: str, **fields: Any) -> Experiment:
        """Change fields of an experiment, such as ``status`` or ``share``."""
        with self._changing:
            self._take_file()
            return self.put(name, parse_experiment(name, {**self[name].model_dump(), **fields}))

    def remove(self, name: str) -> None:
        """Take an experiment out of the file; what its users were shown stays in the log of impressions."""
        with self._changing:
            self._take_file()
            if self[name].status == "running":
                raise UsageError(f"the experiment '{name}' is running; stop it first.")
            self._keep({key: experiment for key, experiment in self._experiments.items() if key != name})

    def _keep(self, changed: dict[str, Experiment]) -> None:
        self._refuse(changed)
        if self._path is not None:
            content = {"experiments": {key: value.model_dump(exclude_defaults=True) for key, value in changed.items()}}
            with refusing(f"Keeping the experiments in {self._path}"):
                replace_file(self._path, yaml_text(content).encode())
            self._seen = stamp(self._path)
        self._experiments = changed

    def assign(self, user: str, known: bool) -> list[Assignment]:
        """Return the variants of a user in the running experiments."""
        assignments = []
        for name, experiment in self._experiments.items():
            if experiment.status != "running" or experiment.segment == ("new" if known else "known"):
                continue
            salt = experiment.salt or name
            if _uniform(salt, "in", user) >= experiment.share:
                continue
            labels = list(experiment.variants)
            bounds = np.cumsum([experiment.variants[label].share for label in labels])
            place = np.searchsorted(bounds, _uniform(salt, "variant", user), side="right")
            label = labels[min(int(place), len(labels) - 1)]
            variant = experiment.variants[label]
            assignments.append(Assignment(name, label, variant.share, variant))
        return assignments

    def _refuse(self, experiments: Mapping[str, Experiment]) -> None:
        """Refuse running experiments that conflict with each other or do not fit the model."""
        changed: dict[str, str] = {}
        for name, experiment in experiments.items():
            if experiment.status != "running":
                continue
            for label, policy in experiment.all_policies.items():
                try:
                    self._check(policy)
                except UsageError as error:
                    raise UsageError(f"'{label}' of the experiment '{name}' does not fit the model: {error}") from error
            touched = {key for variant in experiment.variants.values() for key in variant.parameters}
            if experiment.interleave or any(arm.model or arm.explore for arm in experiment.variants.values()):
                touched.add("the model")
            for key in ("young", "new_slots"):
                if any(getattr(arm, key) for arm in experiment.variants.values()):
                    touched.add(key)
            for key in touched:
                if key in changed:
                    raise UsageError(
                        f"the running experiments '{changed[key]}' and '{name}' both change {key}; stop one of them."
                    )
                changed[key] = name


def _read(path: Path) -> dict[str, Experiment]:
    if not path.exists():
        return {}
    content = read_yaml(path)
    if set(content) != {"experiments"}:
        raise UsageError(f"{path} must hold one key, 'experiments', with an experiment by name under it.")
    raw = content.get("experiments") or {}
    if not isinstance(raw, dict):
        raise UsageError(f"'experiments' in {path} must map names to experiments, got {type(raw).__name__}.")
    return {str(name): parse_experiment(str(name), fields) for name, fields in raw.items()}


def parse_experiment(name: str, raw: Any) -> Experiment:
    """Make an experiment of what a yaml or a request holds."""
    if not isinstance(raw, dict):
        raise UsageError(f"experiment '{name}' must be a mapping with variants, got {type(raw).__name__}.")
    return checked(Experiment, raw, f"experiment '{name}'")


def _uniform(salt: str, purpose: str, user: str) -> float:
    """Return a number in [0, 1) that depends on the arguments alone."""
    digest = hashlib.blake2b(f"{purpose}\x00{user}".encode(), key=hashlib.sha256(salt.encode()).digest(), digest_size=8)
    return (int.from_bytes(digest.digest(), "big") >> (64 - _BITS)) / (1 << _BITS)


def team_draft(lists: Sequence[Sequence[T]], k: int, rng: np.random.Generator) -> tuple[list[T], list[int]]:
    """Interleave rankings by team-draft (Radlinski et al., CIKM 2008): at most k items, and each one's ranking."""
    items: list[T] = []
    teams: list[int] = []
    shown: set[T] = set()
    queues = [iter(ranking) for ranking in lists]
    while len(items) < k:
        before = len(items)
        first = int(rng.integers(2))
        for team in (first, 1 - first):
            pick = next((item for item in queues[team] if item not in shown), None)
            if pick is not None and len(items) < k:
                shown.add(pick)
                items.append(pick)
                teams.append(team)
        if len(items) == before:
            break
    return items, teams


def merged_parameters(assignments: Iterable[Assignment]) -> dict[str, float]:
    """Return the query-time parameters of all assignments together; they never conflict."""
    return {name: value for assignment in assignments for name, value in assignment.settings.parameters.items()}
