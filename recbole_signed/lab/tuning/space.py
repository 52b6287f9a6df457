"""What a tuning tries: a file such as ``properties/tune/SSF.yaml``, checked against the keys that the model has.

One key per line. A list holds the choices; a mapping with one of these keys is a range, its ends included::

    n_layers: [1, 2, 3]                          # one of these, whatever they are
    dropout_prob: {uniform: [0.0, 0.5]}          # a number; with 'step: 0.1', a multiple of 0.1 above the low end
    learning_rate: {log_uniform: [1e-4, 1e-2]}   # a number, each power of ten as likely as the next
    embedding_size: {int: [16, 128], step: 16}   # a whole number; 'step' may be left out
    rank: {log_int: [16, 512]}                   # a whole number, each doubling as likely as the next
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_signed.errors import UsageError, ending
from recbole_signed.plugin.ranges import Interval, Listed, Words
from recbole_signed.ssf.search import SIGN_AWARE_AVERSIONS
from recbole_signed.yaml_spec import read_yaml

if TYPE_CHECKING:
    from optuna import Trial

KINDS = ("uniform", "log_uniform", "int", "log_int")
EDGE = 0.05
"""Share of a range at each of its ends that counts as its edge."""
_DIGITS, _DECIMALS = 4, 10
"""Significant digits of a tried number, decimals of one with a step: what is written is what was tried, and short."""


@dataclass(frozen=True)
class Choice:
    """One of a list of values."""

    values: tuple[Any, ...]

    def suggest(self, trial: Trial, name: str) -> Any:
        """Let ``trial`` choose."""
        return json.loads(trial.suggest_categorical(name, [json.dumps(each) for each in self.values]))

    def coded(self, value: Any) -> Any:
        """Return what stands for ``value`` in a trial's parameters; lists may be choices, so all of them are JSON.

        It is written as in the space: a default of 1 is the choice 1.0.
        """
        return json.dumps(next((each for each in self.values if _same(each, value)), value))

    def contains(self, value: Any) -> bool:
        """Whether ``value`` is one of the choices."""
        return any(_same(each, value) for each in self.values)

    def edge(self, value: Any) -> str:
        """Return ``lowest`` or ``highest`` where ``value`` is that of several numbers, else nothing.

        Zero is not an edge: it leaves a term out, and nothing lies beyond it.
        """
        if not all(_kind(each) == "a number" for each in self.values) or len(self.values) < 2 or not value:
            return ""
        return {min(self.values): "lowest", max(self.values): "highest"}.get(value, "")

    @property
    def examples(self) -> Iterable[Any]:
        """Values whose kind is that of all."""
        return self.values

    @property
    def size(self) -> float:
        """How many values there are."""
        return len(self.values)

    def all_coded(self) -> Iterable[Any]:
        """Return what stands for each value in a trial's parameters."""
        return (self.coded(each) for each in self.values)


@dataclass(frozen=True)
class Range:
    """A number between two ends, both included."""

    low: float
    high: float
    whole: bool
    log: bool
    step: float | None = None

    def suggest(self, trial: Trial, name: str) -> float:
        """Let ``trial`` choose."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        value = trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)
        if self.step:  # the sum of steps may miss a round number, such as 0, by a little
            return round(self.low + round((value - self.low) / self.step) * self.step, _DECIMALS)
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)

    def edge(self, value: float) -> str:
        """Return ``lowest`` or ``highest`` where ``value`` is within a twentieth of the range of that end."""
        low, high, at = (math.log(each) if self.log else each for each in (self.low, self.high, value or self.low))
        share = (at - low) / (high - low)
        if share > 1 - EDGE:
            return "highest"
        return "lowest" if share < EDGE and value else ""

    def coded(self, value: Any) -> Any:
        """Return what stands for ``value`` in a trial's parameters: itself."""
        return int(value) if self.whole else float(value)

    def contains(self, value: Any) -> bool:
        """Whether ``value`` is a number of this range."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            return False
        if self.whole and value != int(value):
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return abs(steps - round(steps)) < 1e-9

    @property
    def examples(self) -> Iterable[Any]:
        """Values whose kind is that of all."""
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)

    @property
    def size(self) -> float:
        """How many values there are; infinity for numbers without a step."""
        step = self.step or (1.0 if self.whole else 0.0)
        return math.floor((self.high - self.low) / step + 1e-9) + 1 if step else math.inf

    def all_coded(self) -> Iterable[Any]:
        """Return each value, where :attr:`size` is finite."""
        step = int(self.step or 1) if self.whole else self.step or 0.0
        return (self.coded(round(self.low + number * step, _DECIMALS)) for number in range(int(self.size)))


@dataclass(frozen=True)
class Space:
    """Key -> what is tried for it."""

    path: Path
    parameters: dict[str, Choice | Range]

    @classmethod
    def read(cls, path: Path) -> Space:
        """Read a space's file.

        Raises:
            UsageError: no such file, nothing in it, or a line that says no list and no range.
        """
        content = read_yaml(path)
        if not content:
            raise UsageError(f"{path} has no key to tune.")
        return cls(path, {key: _parameter(f"{path}: '{key}'", value) for key, value in content.items()})

    @classmethod
    def of(cls, path: Path, *, sign_aware: bool) -> Space:
        """Read a model's own space; for a sign-aware metric with the dislike aversions that SSF tries, file or not.

        Raises:
            UsageError: as :meth:`read`, or there is no such file.
        """
        if not sign_aware:
            return cls.read(path)
        own = cls.read(path).parameters if path.is_file() else {}
        return cls(path, {**own, "dislike_aversion": Choice(SIGN_AWARE_AVERSIONS)})

    def without(self, fixed: Iterable[str]) -> Space:
        """Return the space without some keys, which were given a value."""
        kept = {key: each for key, each in self.parameters.items() if key not in set(fixed)}
        if not kept:
            raise UsageError(f"every key of {self.path} is given a value, so there is nothing to tune.")
        return Space(self.path, kept)

    def check(
        self,
        model: str,
        defaults: Mapping[str, Any],
        judging: Iterable[str],
        ranges: Mapping[str, Interval | Words | Listed] | None = None,
    ) -> None:
        """See that each key is one of the model's, with values of its kind.

        Args:
            model: the model's name, for the messages.
            defaults: key -> default of every key that a run of the model has.
            judging: keys that decide how a trial is judged.
            ranges: key -> the values that it may have.

        Raises:
            UsageError: a key that the model does not have, that judges, or that has values of another kind or out of
                the range.
        """
        for key, each in self.parameters.items():
            if key in judging:
                raise UsageError(f"{self.path}: '{key}' decides how trials are judged, so it can't be tuned.")
            if key not in defaults:
                known = [name for name in defaults if name not in judging]
                raise UsageError(f"{self.path}: {model} has no key '{key}'{ending(key, known)}")
            wanted = _kind(defaults[key])
            wrong = [value for value in each.examples if wanted and _kind(value) != wanted]
            if wrong:
                default = f"the default of {model} is {defaults[key]!r}"
                raise UsageError(f"{self.path}: '{key}' has the value {wrong[0]!r}; it must be {wanted} ({default}).")
            declared = (ranges or {}).get(key)
            beyond = [value for value in each.examples if declared is not None and not declared.holds(value)]
            if beyond:
                raise UsageError(f"{self.path}: '{key}' has the value {beyond[0]!r}; it must be {declared}.")

    @property
    def size(self) -> float:
        """How many points there are."""
        return math.prod(each.size for each in self.parameters.values())

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield what stands for each point in a trial's parameters; nothing where :attr:`size` is infinite."""
        if math.isfinite(self.size):
            for values in itertools.product(*(each.all_coded() for each in self.parameters.values())):
                yield dict(zip(self.parameters, values, strict=True))

    def rounded(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return a trial's parameters without the error of a sum of steps: 3 times 0.1 is 0.3."""
        in_steps = {key for key, each in self.parameters.items() if isinstance(each, Range) and each.step}
        return {key: round(each, _DECIMALS) if key in in_steps else each for key, each in params.items()}

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """Let ``trial`` choose a value for each key."""
        return {key: each.suggest(trial, key) for key, each in self.parameters.items()}

    def point(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what stands for ``values`` in a trial's parameters; None where one of them is not in the space."""
        if not all(each.contains(values.get(key)) for key, each in self.parameters.items()):
            return None
        return {key: each.coded(values[key]) for key, each in self.parameters.items()}

    def edges(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Return key -> ``lowest`` or ``highest`` of the values on an edge, beyond which better ones may lie."""
        at = {key: each.edge(values[key]) for key, each in self.parameters.items() if each.contains(values.get(key))}
        return {key: edge for key, edge in at.items() if edge}

    def as_dict(self) -> dict[str, Any]:
        """Return the space as JSON can hold it: equal spaces give equal dictionaries."""
        return {key: {"kind": type(each).__name__, **vars(each)} for key, each in self.parameters.items()}


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal and both or neither of them is True or False, which equal 1 and 0."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _kind(value: Any) -> str:
    """What a value is in words; nothing for None, beside which anything may stand."""
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, (int, float)):
        return "a number"
    words = {"str": "a word", "list": "a list", "dict": "a mapping"}
    return words.get(type(value).__name__, "")


def _parameter(where: str, value: Any) -> Choice | Range:
    if isinstance(value, list):
        return _choice(where, value)
    if isinstance(value, dict):
        return _range(where, value)
    raise UsageError(f"{where} is {value!r}; write a list of choices, or a range such as {{uniform: [0.0, 0.5]}}.")


def _choice(where: str, values: list[Any]) -> Choice:
    if not values:
        raise UsageError(f"{where} has no choices.")
    for number, value in enumerate(values):
        if any(value == earlier for earlier in values[:number]):
            raise UsageError(f"{where} has the choice {value!r} twice.")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise UsageError(
                f"{where} has the choice {value!r}, which is not a number, word, list or mapping."
            ) from None
    return Choice(tuple(values))


def _range(where: str, value: dict[Any, Any]) -> Range:
    kinds = [key for key in value if key in KINDS]
    for key in value:
        if key not in (*KINDS, "step"):
            known = f"a range is one of {', '.join(KINDS)}, with a 'step' or without"
            raise UsageError(f"{where} has the unknown kind '{key}' ({known}){ending(str(key), (*KINDS, 'step'))}")
    if len(kinds) != 1:
        raise UsageError(f"{where} must have one of {', '.join(KINDS)}, but has {', '.join(kinds) or 'none'}.")
    kind = kinds[0]
    whole, log = kind.endswith("int"), kind.startswith("log_")
    ends, step = value[kind], value.get("step")
    if not (isinstance(ends, list) and len(ends) == 2 and all(_number(each, whole) for each in ends)):
        what = "whole numbers" if whole else "numbers"
        raise UsageError(f"{where}: '{kind}' must be the two ends of a range, {what}, but is {ends!r}.")
    low, high = ends
    if not low < high:
        raise UsageError(f"{where} goes from {low} to {high}; the low end must come first and be the smaller one.")
    if log and not low > 0:
        raise UsageError(f"{where} starts at {low}; a '{kind}' range must start above 0.")
    if step is not None and (log or not _number(step, whole) or not 0 < step <= high - low):
        raise UsageError(f"{where} has the step {step!r}; only uniform and int have one, above 0 and within the range.")
    if step is not None and not whole:
        step = float(step)
    return Range(low if whole else float(low), high if whole else float(high), whole, log, step)


def _number(value: Any, whole: bool) -> bool:
    kinds = int if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
