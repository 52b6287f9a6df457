"""What a synthetic graph is to look like: parameters of each profile, and statistics that they were fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_signed.errors import UsageError, ending
from recbole_signed.yaml_spec import read_yaml

DAY = 86_400


@dataclass(frozen=True)
class Degrees:
    """Family of a degree sequence: ``floor - 1 + scale * X``, where ``scale`` follows from the number of edges."""

    family: str  # `lognormal` (X = exp(spread * normal)) or `weibull` (X = exponential^(1 / spread): a cut-off tail)
    spread: float
    floor: int  # about the smallest degree
    ceiling: float  # the largest degree, in multiples of the mean


@dataclass(frozen=True)
class Target:
    """A statistic of the real data and how far a synthetic graph may be from it."""

    value: float
    tolerance: float
    relative: bool = False  # whether `tolerance` is a share of `value`

    @property
    def largest_difference(self) -> float:
        """The tolerance as a difference."""
        return self.tolerance * (abs(self.value) if self.relative else 1.0)

    def allows(self, measured: float) -> bool:
        """Whether ``measured`` is near enough."""
        return abs(measured - self.value) <= self.largest_difference


@dataclass(frozen=True)
class Profile:
    """Parameters of the generator; lengths of time and moments are shares of the window unless they say otherwise."""

    name: str
    source: str  # the data that was matched
    user_degree: float  # mean edges of a user; fixes the number of users of a graph of given size
    items_per_user: float
    user_degrees: Degrees
    item_degrees: Degrees
    like_share: float
    user_effect: float  # standard deviation of the users' effects on the logit of a like
    item_effect: float
    popularity_effect: float  # slope of the logit of a like on the log degree of the item
    clusters: int  # taste clusters of users and items
    taste_exposure: float  # share of edges within the user's clusters; the rest follows popularity
    taste_effect: float  # effect on the logit of the affinity between the clusters of a user and of an item
    taste_drift: float  # share of the users whose main cluster changes, at a moment of their own
    user_life: float  # mean length of the exponential span in which a user is active
    item_drift: float  # standard deviation over items of the rate at which popularity grows or fades
    item_births: float  # share of the items that appear within the window, at a moment of their own
    like_drift: float  # change of the logit of a like from the start of the window to its end
    start: int  # first moment, unix seconds
    days: float  # length of the window
    targets: Mapping[str, Target] = field(default_factory=dict)
    """Statistics of the real data, by the names of :func:`recbole_signed.lab.synth.generator.statistics`."""


_TOLERANCES = {
    "like_share": (0.01, False),
    "degree_mean": (0.02, True),
    "degree_median": (0.12, True),
    "degree_p90": (0.20, True),
    "degree_p99": (0.20, True),
    "log_degree_sd": (0.12, False),
    "intraclass": (0.03, False),
    "likes_to_dislikes": (0.10, False),
    "item_degree_to_like_rate": (0.07, False),
    "users_without_dislikes": (0.02, False),
    "last_fifth_like_rate_change": (0.02, False),
    "last_fifth_rows_of_new_users": (0.10, False),
    "last_fifth_rows_on_new_items": (0.02, False),
    "first_to_last_popularity_similarity": (0.20, False),
}


def _targets(**values: float) -> dict[str, Target]:
    targets = {}
    for name, value in values.items():
        tolerance, relative = _TOLERANCES[name if name in _TOLERANCES else name.partition("_")[2]]
        targets[name] = Target(value, tolerance, relative)
    return targets


def _profile(name: str, given: dict[str, Any]) -> Profile:
    degrees: dict[str, Any] = {side: Degrees(**given.pop(side)) for side in ("user_degrees", "item_degrees")}
    return Profile(name, targets=_targets(**given.pop("targets")), **degrees, **given)


PROFILES = {name: _profile(name, given) for name, given in read_yaml(Path(__file__).with_name("profiles.yaml")).items()}


def find_profile(name: str) -> Profile:
    """Return the profile of a name."""
    if name not in PROFILES:
        raise UsageError(
            f"there is no profile '{name}'; it must be one of {', '.join(PROFILES)}{ending(name, PROFILES)}"
        )
    return PROFILES[name]
