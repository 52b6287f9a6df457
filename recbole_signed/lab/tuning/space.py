"""What a tuning tries: a file such as ``properties/tune/SSF.yaml``, checked against the keys that the model has.

One key per line. A list holds the choices; a mapping with one of these keys is a range, its ends included::

    n_layers: [1, 2, 3]                          # one of these, whatever they are
    dropout_prob: {uniform: [0.0, 0.5]}          # a number; with 'step: 0.1', a multiple of 0.1 above the low end
    learning_rate: {log_uniform: [1e-4, 1e-2]}   # a number, each power of ten as likely as the next
    embedding_size: {int: [16, 128], step: 16}   # a whole number; 'step' may be left out
    rank: {log_int: [16, 512]}                   # a whole number, each doubling as likely as the next

Needs the extra ``tune``, as each line becomes one of Optuna's distributions. Choices are kept there as JSON, since they
may be lists.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution, distribution_to_json

from recbole_signed.errors import UsageError, ending
from recbole_signed.plugin.ranges import Interval, Listed, Words
from recbole_signed.ssf.search import SIGN_AWARE_AVERSIONS
from recbole_signed.yaml_spec import read_yaml

KINDS = ("uniform", "log_uniform", "int", "log_int")
EDGE = 0.05  # share of a range at each of its ends that counts as its edge
_DIGITS, _DECIMALS = 4, 10  # significant digits of a tried number, decimals of one with a step

Range = FloatDistribution | IntDistribution
Parameter = CategoricalDistribution | Range


@dataclass(frozen=True)
class Space:
    """Key -> what is tried for it."""

    path: Path
    parameters: dict[str, Parameter]

    @classmethod
    def read(cls, path: Path) -> Space:
        """Read a space's file."""
        content = read_yaml(path)
        if not content:
            raise UsageError(f"{path} has no key to tune.")
        return cls(path, {key: _parameter(f"{path}: '{key}'", value) for key, value in content.items()})

    @classmethod
    def from_file(cls, path: Path, *, sign_aware: bool) -> Space:
        """Read a model's own space; for a sign-aware metric with the dislike aversions that SSF tries, file or not."""
        if not sign_aware:
            return cls.read(path)
        own = cls.read(path).parameters if path.is_file() else {}
        return cls(path, {**own, "dislike_aversion": _choice("dislike_aversion", list(SIGN_AWARE_AVERSIONS))})

    def without(self, fixed: Iterable[str]) -> Space:
        """Return the space without some keys, which were given a value."""
        kept = {key: spec for key, spec in self.parameters.items() if key not in set(fixed)}
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
        """See that each key is one of the model's, does not judge trials, and has values of its kind and range."""
        for key, spec in self.parameters.items():
            if key in judging:
                raise UsageError(f"{self.path}: '{key}' decides how trials are judged, so it can't be tuned.")
            if key not in defaults:
                known = [name for name in defaults if name not in judging]
                raise UsageError(f"{self.path}: {model} has no key '{key}'{ending(key, known)}")
            kind, declared = _kind(defaults[key]), (ranges or {}).get(key)
            # whose kind and range are those of all
            for value in _choices(spec) if isinstance(spec, CategoricalDistribution) else (spec.low, spec.high):
                said = f"{self.path}: '{key}' has the value {value!r}; it must be"
                if kind and _kind(value) != kind:
                    raise UsageError(f"{said} {kind} (the default of {model} is {defaults[key]!r}).")
                if declared is not None and not declared.holds(value):
                    raise UsageError(f"{said} {declared}.")

    def contains(self, key: str, value: Any) -> bool:
        """Whether a value is tried for a key."""
        spec = self.parameters[key]
        if isinstance(spec, CategoricalDistribution):
            return any(_same(choice, value) for choice in _choices(spec))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not spec.low <= value <= spec.high:
            return False
        steps = (value - spec.low) / spec.step if spec.step else 0.0
        return abs(steps - round(steps)) < 1e-9

    def point(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the parameters of a trial with these values; None where one of them is not in the space."""
        if not all(self.contains(key, values.get(key)) for key in self.parameters):
            return None
        return {key: _coded(spec, values[key]) for key, spec in self.parameters.items()}

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield the parameters of each trial that is possible; nothing where their number is infinite."""
        listed = [_all_coded(spec) for spec in self.parameters.values()]
        finite = [codes for codes in listed if codes is not None]
        if len(finite) == len(listed):
            yield from (dict(zip(self.parameters, point, strict=True)) for point in itertools.product(*finite))

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of a run with a trial's parameters."""
        return {key: _decoded(spec, params[key]) for key, spec in self.parameters.items()}

    def edges(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Return key -> ``lowest`` or ``highest`` of values in the outer twentieths of their range; zero is no edge."""
        inside = {key: spec for key, spec in self.parameters.items() if self.contains(key, values.get(key))}
        return {key: edge for key, spec in inside.items() if (edge := _edge(spec, values[key]))}

    def as_dict(self) -> dict[str, Any]:
        """Return the space as JSON can hold it: equal spaces give equal dictionaries."""
        return {key: json.loads(distribution_to_json(spec)) for key, spec in self.parameters.items()}


def _choices(spec: CategoricalDistribution) -> list[Any]:
    return [json.loads(str(choice)) for choice in spec.choices]


def _coded(spec: Parameter, value: Any) -> Any:
    """Return a value as a trial's parameter; a default of 1 is the choice 1.0."""
    if isinstance(spec, CategoricalDistribution):
        return json.dumps(next((choice for choice in _choices(spec) if _same(choice, value)), value))
    return int(value) if isinstance(spec, IntDistribution) else float(value)


def _decoded(spec: Parameter, param: Any) -> Any:
    if isinstance(spec, CategoricalDistribution):
        return json.loads(param)
    if isinstance(spec, IntDistribution):
        return param
    if spec.step:  # the sum of steps may miss a round number, such as 0, by a little
        return round(spec.low + round((param - spec.low) / spec.step) * spec.step, _DECIMALS)
    return min(max(float(f"{param:.{_DIGITS}g}"), spec.low), spec.high)


def _all_coded(spec: Parameter) -> Iterable[Any] | None:
    """Return all parameters of a trial; None where their number is infinite."""
    if isinstance(spec, CategoricalDistribution):
        return spec.choices
    if isinstance(spec, IntDistribution):
        return range(spec.low, spec.high + 1, spec.step)
    if spec.step is None:
        return None
    count = round((spec.high - spec.low) / spec.step) + 1
    return (spec.low + number * spec.step for number in range(count))


def _edge(spec: Parameter, value: Any) -> str:
    """Return ``lowest`` or ``highest`` where a value is that of several numbers, or on the edge of a range."""
    if isinstance(spec, CategoricalDistribution):
        choices = _choices(spec)
        if len(choices) < 2 or any(_kind(choice) != "a number" for choice in choices) or not value:
            return ""
        return {min(choices): "lowest", max(choices): "highest"}.get(value, "")
    low, high, at = (math.log(end) if spec.log else end for end in (spec.low, spec.high, value or spec.low))
    share = (at - low) / (high - low)
    return "highest" if share > 1 - EDGE else "lowest" if share < EDGE and value else ""


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


def _parameter(where: str, value: Any) -> Parameter:
    if isinstance(value, list):
        return _choice(where, value)
    if isinstance(value, dict):
        return _range(where, value)
    raise UsageError(f"{where} is {value!r}; write a list of choices, or a range such as {{uniform: [0.0, 0.5]}}.")


def _choice(where: str, values: list[Any]) -> CategoricalDistribution:
    if not values:
        raise UsageError(f"{where} has no choices.")
    for number, value in enumerate(values):
        if value in values[:number]:
            raise UsageError(f"{where} has the choice {value!r} twice.")
    try:
        return CategoricalDistribution([json.dumps(choice, allow_nan=False) for choice in values])
    except (TypeError, ValueError):
        raise UsageError(f"{where} has a choice in {values} that is no number, word, list or mapping.") from None


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
    if not (isinstance(ends, list) and len(ends) == 2 and all(_number(end, whole) for end in ends)):
        what = "whole numbers" if whole else "numbers"
        raise UsageError(f"{where}: '{kind}' must be the two ends of a range, {what}, but is {ends!r}.")
    low, high = ends
    fits = step is None or (not log and _number(step, whole) and 0 < step <= high - low)
    if not low < high or (log and not low > 0) or not fits:
        raise UsageError(
            f"{where} is {value}; the low end must be the smaller one, for a 'log' range above 0, and only uniform and "
            "int have a step, above 0 and within the range."
        )
    if step is not None:  # the last step that is in the range
        high = round(low + math.floor((high - low) / step + 1e-9) * step, _DECIMALS)
    if whole:
        return IntDistribution(low, high, log=log, step=step or 1)
    return FloatDistribution(float(low), float(high), log=log, step=None if step is None else float(step))


def _number(value: Any, whole: bool) -> bool:
    kinds = int if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
