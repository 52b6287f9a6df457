"""What a synthetic graph is to look like: the parameters of each profile, and the statistics they were fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from recbole_signed.errors import UsageError, ending

DAY = 86_400


@dataclass(frozen=True)
class Degrees:
    """Family of a degree sequence: ``floor - 1 + scale * X``, where ``scale`` follows from the number of edges."""

    family: str
    """``lognormal`` (X = exp(spread * normal)) or ``weibull`` (X = exponential^(1 / spread): a cut-off tail)."""
    spread: float
    floor: int
    """About the smallest degree."""
    ceiling: float
    """The largest degree, in multiples of the mean."""


@dataclass(frozen=True)
class Target:
    """A statistic of the real data and how far a synthetic graph may be from it."""

    value: float
    tolerance: float
    relative: bool = False
    """Whether ``tolerance`` is a share of ``value``."""

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
    source: str
    """The data that was matched."""
    user_degree: float
    """Mean edges of a user; fixes the number of users of a graph of given size."""
    items_per_user: float
    user_degrees: Degrees
    item_degrees: Degrees
    like_share: float
    user_effect: float
    """Standard deviation of the users' effects on the logit of a like."""
    item_effect: float
    popularity_effect: float
    """Slope of the logit of a like on the log degree of the item."""
    clusters: int
    """Taste clusters of users and items."""
    taste_exposure: float
    """Share of the edges that lie within the user's clusters; the rest is chosen by popularity alone."""
    taste_effect: float
    """Effect on the logit of the affinity between the clusters of a user and of an item."""
    taste_drift: float
    """Share of the users whose main cluster changes, at a moment of their own."""
    user_life: float
    """Mean length of the exponential span in which a user is active."""
    item_drift: float
    """Standard deviation over items of the rate at which the popularity grows or fades over the window."""
    item_births: float
    """Share of the items that appear within the window, at a moment of their own."""
    like_drift: float
    """Change of the logit of a like from the start of the window to its end."""
    start: int
    """First moment, unix seconds."""
    days: float
    """Length of the window."""
    targets: Mapping[str, Target] = field(default_factory=dict)
    """Statistics of the real data, by the names of :func:`recbole_signed.lab.synth.checks.statistics`."""


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


KUAIRAND = Profile(
    name="kuairand",
    source="KuaiRand-Pure as split by SIGformer (sign: click); drift: its standard log of 2022-04-25 to 05-08",
    user_degree=15.5,
    items_per_user=0.26,
    user_degrees=Degrees("lognormal", 0.75, 4, 10),
    item_degrees=Degrees("weibull", 0.58, 7, 28),
    like_share=0.443,
    user_effect=1.1,
    item_effect=0.92,
    popularity_effect=0.2,
    clusters=32,
    taste_exposure=0.45,
    taste_effect=0.35,
    taste_drift=0.25,
    user_life=30.0,
    item_drift=0.95,
    item_births=0.009,
    like_drift=-0.01,
    start=1_650_816_000,
    days=14,
    targets=_targets(
        like_share=0.4435,
        user_degree_mean=15.5,
        user_degree_median=12,
        user_degree_p99=55,
        user_log_degree_sd=0.554,
        user_intraclass=0.151,
        user_likes_to_dislikes=0.061,
        item_degree_mean=60.2,
        item_degree_median=24,
        item_degree_p90=145.8,
        item_degree_p99=570.6,
        item_log_degree_sd=1.128,
        item_intraclass=0.117,
        item_likes_to_dislikes=0.697,
        item_degree_to_like_rate=0.200,
        users_without_dislikes=0.018,
        last_fifth_like_rate_change=-0.005,
        last_fifth_rows_of_new_users=0.031,
        last_fifth_rows_on_new_items=0.0085,
        first_to_last_popularity_similarity=0.616,
    ),
)
EPINIONS = Profile(
    name="epinions",
    source="Epinions as split by SIGformer (likes: 4 and 5 stars); it has no times, so drift is assumed",
    user_degree=23.1,
    items_per_user=0.99,
    user_degrees=Degrees("lognormal", 1.10, 5, 25),
    item_degrees=Degrees("lognormal", 1.45, 6, 77),
    like_share=0.728,
    user_effect=0.8,
    item_effect=1.35,
    popularity_effect=-0.1,
    clusters=64,
    taste_exposure=0.50,
    taste_effect=0.25,
    taste_drift=0.25,
    user_life=0.6,
    item_drift=2.0,
    item_births=0.5,
    like_drift=0.0,
    start=978_307_200,
    days=11 * 365.25,
    targets=_targets(
        like_share=0.728,
        user_degree_mean=23.1,
        user_degree_median=14,
        user_degree_p99=147,
        user_log_degree_sd=0.77,
        user_intraclass=0.06,
        user_likes_to_dislikes=0.55,
        item_degree_mean=23.4,
        item_degree_median=11,
        item_degree_p90=45,
        item_degree_p99=209,
        item_log_degree_sd=0.83,
        item_intraclass=0.21,
        item_likes_to_dislikes=0.17,
        item_degree_to_like_rate=-0.09,
        users_without_dislikes=0.08,
    ),
)
ML_1M = Profile(
    name="ml-1m",
    source="MovieLens-1M (likes: 4 and 5 stars, every other rating a dislike)",
    user_degree=165.6,
    items_per_user=0.61,
    user_degrees=Degrees("weibull", 0.80, 20, 14),
    item_degrees=Degrees("weibull", 0.70, 1, 13),
    like_share=0.575,
    user_effect=1.0,
    item_effect=1.22,
    popularity_effect=0.37,
    clusters=4,
    taste_exposure=0.60,
    taste_effect=0.75,
    taste_drift=0.25,
    user_life=0.35,
    item_drift=0.5,
    item_births=0.0006,
    like_drift=-0.36,
    start=956_703_932,
    days=1_038.8,
    targets=_targets(
        like_share=0.575,
        user_degree_mean=165.6,
        user_degree_median=96,
        user_degree_p99=907,
        user_log_degree_sd=0.99,
        user_intraclass=0.11,
        user_likes_to_dislikes=0.76,
        item_degree_mean=269.9,
        item_degree_median=123.5,
        item_degree_p90=730,
        item_degree_p99=1785,
        item_log_degree_sd=1.78,
        item_intraclass=0.18,
        item_likes_to_dislikes=0.83,
        item_degree_to_like_rate=0.32,
        last_fifth_like_rate_change=-0.030,
        last_fifth_rows_of_new_users=0.48,
    ),
)
YAMBDA = Profile(
    name="yambda",
    source="the published counts of Yambda-50M: 46,467,212 listens of 10,000 users and 934,057 tracks, 881,456 likes "
    "and 107,776 dislikes in 26,000,000 seconds; degrees, tastes and drift are assumed",
    user_degree=4_646.7,
    items_per_user=93.4,
    user_degrees=Degrees("lognormal", 1.10, 20, 10),
    item_degrees=Degrees("lognormal", 1.90, 1, 100),
    like_share=0.891,
    user_effect=1.0,
    item_effect=1.0,
    popularity_effect=0.1,
    clusters=64,
    taste_exposure=0.60,
    taste_effect=0.35,
    taste_drift=0.25,
    user_life=3.0,
    item_drift=1.0,
    item_births=0.3,
    like_drift=0.0,
    start=0,
    days=26_000_000 / DAY,
    targets=_targets(like_share=0.891, user_degree_mean=4_646.7, item_degree_mean=49.7),
)
PROFILES = {profile.name: profile for profile in (KUAIRAND, EPINIONS, ML_1M, YAMBDA)}


def find_profile(name: str) -> Profile:
    """Return the profile of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in PROFILES:
        raise UsageError(
            f"there is no profile '{name}'; it must be one of {', '.join(PROFILES)}{ending(name, PROFILES)}"
        )
    return PROFILES[name]
