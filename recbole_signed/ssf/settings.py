"""The settings of the family as numbers: read from a configuration, kept in a checkpoint's tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from recbole_signed.errors import UsageError
from recbole_signed.graph.personal_verdict import STRENGTH

if TYPE_CHECKING:
    from typing_extensions import Self


class NumberSettings:
    """What frozen dataclasses share whose fields are numbers with defaults; the default's type is the field's."""

    @classmethod
    def from_mapping(cls, values: Any) -> Self:
        """Read the settings from ``values[name]``, None for the default; a wrong value is refused."""
        given: dict[str, Any] = {}
        for name, kind in cls._kinds().items():
            value = values[name]
            if value is not None:
                given[name] = number_of(name, kind, value)
        return cls(**given)

    @classmethod
    def split(cls, given: Mapping[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Return the settings that are given by their names, and the rest; a wrong value is refused."""
        kinds = cls._kinds()
        own = {name: number_of(name, kinds[name], value) for name, value in given.items() if name in kinds}
        return cls(**own), {name: value for name, value in given.items() if name not in kinds}

    def to_tensor(self) -> torch.Tensor:
        """Return the values in order, float64 ``[number of fields]``."""
        return torch.tensor(list(asdict(self).values()), dtype=torch.float64)  # type: ignore[call-overload]

    @classmethod
    def from_tensor(cls, values: torch.Tensor) -> Self:
        """Return the settings that :meth:`to_tensor` was given."""
        named = zip(cls._kinds().items(), values.tolist(), strict=True)
        return cls(**{name: kind(value) for (name, kind), value in named})

    def _refuse_unless(self, fits: Callable[[Any], bool], words: str, *names: str) -> None:
        """Refuse values, those of all fields where none is named, that are not what the words say."""
        for name in names or self._kinds():
            if not fits(getattr(self, name)):
                raise UsageError(f"{name} is {getattr(self, name)}; it must be {words}.")

    @classmethod
    def _kinds(cls) -> dict[str, Any]:
        return {field.name: type(field.default) for field in fields(cls)}  # type: ignore[arg-type]


def number_of(name: str, kind: Any, value: Any) -> Any:
    """Return the value of a parameter as a float or int; any other value is refused."""
    try:
        number = kind(value)
        fits = number == number and (kind is not int or number == float(value))
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise UsageError(f"{name} is {value!r}; it must be a {'whole ' if kind is int else ''}number.")
    return number


def finite_not_negative(value: float) -> bool:
    """Whether a value is a finite number of 0 or more."""
    return 0 <= value < float("inf")


def positive(value: float) -> bool:
    """Whether a value is above 0."""
    return value > 0


NOT_NEGATIVE = (
    "degree_smoothing",
    "degree_exponent",
    "cutoff",
    "rolloff",
    "popularity_floor",
    "dislike_aversion",
)


LINEAR = 12
"""Where older checkpoints have ``linear_weight`` among these settings; 0 now."""


@dataclass(frozen=True)
class FilterSettings(NumberSettings):
    """The parameters of the filter; in brackets their letters in the formulas.

    Raises:
        UsageError: a value is out of its range.
    """

    dislike_weight: float = 0.5
    """[w] Weight of a dislike in the exposure matrix, of either sign."""
    degree_smoothing: float = 5.0
    """[a] Added to every degree, in edges."""
    degree_exponent: float = 0.5
    """[e] How strongly degrees are divided out."""
    rank: int = 256
    """[k] Number of singular vectors."""
    cutoff: int = 64
    """[c] Index of the singular value at which the response of a user of median degree has fallen to one half."""
    response_power: float = 2.0
    """[p] The response below the cutoff is s^p."""
    rolloff: float = 8.0
    """[q] Steepness at the cutoff."""
    activity_exponent: float = 1.0
    """[delta] How much wider the response is for a user with more edges."""
    popularity_exponent: float = 0.0
    """[pi] Scores are multiplied by the item's degree to this power."""
    popularity_floor: float = 1e-4
    """[eta] Share of popularity in the score; decides for users without edges."""
    dislike_aversion: float = 0.0
    """[g] Scores are multiplied by the item's like rate to this power; can be changed at any time."""
    verdict_smoothing: float = 5.0
    """[t] Exposures of the global like rate that are added to those of each item."""
    dislike_strength: float = STRENGTH
    """[lambda] How far what is near to a dislike falls, 0 (not at all) to 1."""

    def to_tensor(self) -> torch.Tensor:
        """Return the values as checkpoints of all versions have them, float64 ``[number of fields + 1]``."""
        values = super().to_tensor()
        return torch.cat([values[:LINEAR], values.new_zeros(1), values[LINEAR:]])

    @classmethod
    def from_tensor(cls, values: torch.Tensor) -> FilterSettings:
        """Return the settings that :meth:`to_tensor` was given."""
        return super().from_tensor(torch.cat([values[:LINEAR], values[LINEAR + 1 :]]))

    def __post_init__(self) -> None:
        self._refuse_unless(finite_not_negative, "0 or more, and finite", *NOT_NEGATIVE)
        self._refuse_unless(lambda value: value >= 1, "1 or more", "rank")
        self._refuse_unless(positive, "above 0", "verdict_smoothing")
        self._refuse_unless(lambda value: 0 <= value <= 1, "from 0 to 1", "dislike_strength")
        self._refuse_unless(np.isfinite, "finite")
