"""The generator: from a profile, a number of edges and a seed to arrays of edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recbole_signed.errors import UsageError
from recbole_signed.lab.synth.distinct import make_distinct
from recbole_signed.lab.synth.edge_model import item_stubs, match_tastes, user_stubs
from recbole_signed.lab.synth.nodes import make_items, make_users
from recbole_signed.lab.synth.profile import DAY, Profile, find_profile
from recbole_signed.lab.synth.sign_model import draw_signs
from recbole_signed.lab.synth.streams import THREADS, each_block

SMALLEST = 10_000
_DENSEST = 0.25  # of all pairs; beyond, degree sequences of the profiles no longer fit
LARGEST = 2**31 - 1


@dataclass(frozen=True)
class SyntheticGraph:
    """Edges in order of time; no pair of a user and an item occurs twice, every user and item occurs."""

    users: np.ndarray
    """int32 ``[n_edges]``, from 0."""
    items: np.ndarray
    """int32 ``[n_edges]``, from 0."""
    signs: np.ndarray
    """int8 ``[n_edges]``: 1 like, -1 dislike."""
    times: np.ndarray
    """int64 ``[n_edges]``: unix seconds, ascending."""
    n_users: int
    n_items: int

    def __len__(self) -> int:
        return len(self.users)


STAGES = ("users and items", "ends of edges", "times", "tastes", "distinct pairs", "signs")


def generate(
    profile: Profile | str,
    n_edges: int,
    seed: int = 0,
    *,
    threads: int = THREADS,
    progress: Callable[[str], None] = lambda stage: None,
) -> SyntheticGraph:
    """Generate a signed bipartite graph with time.

    Degree sequences are drawn and kept exactly; the ends of the edges are put in order of time, users by when they
    are active and items by how their popularity drifts, and matched, partly within taste clusters; repeated pairs
    exchange items; a logistic model of user, item, tastes and time draws the signs. Memory is about 25 bytes an
    edge at its peak.

    Args:
        profile: one of :data:`recbole_signed.lab.synth.PROFILES`, or its name.
        n_edges: numbers of users and items follow from it. :func:`smallest` or more; statistics come near to the
            profile's from about the size of its data on.
        seed: the same seed gives the same graph, whatever ``threads`` is; 0 or more.
        threads: at work at a time.
        progress: is called with each of :data:`STAGES` as it begins.

    Raises:
        UsageError: an unknown profile, a negative seed, or a number of edges that is too small or too large.
    """
    profile = find_profile(profile) if isinstance(profile, str) else profile
    if not smallest(profile) <= n_edges <= LARGEST:
        raise UsageError(
            f"{n_edges:,} edges were asked for; a graph of the profile '{profile.name}' has {smallest(profile):,} to "
            f"{LARGEST:,}."
        )
    if seed < 0:
        raise UsageError(f"the seed is {seed}; it must be 0 or more.")
    progress("users and items")
    n_users, n_items = size_of(profile, n_edges)
    items = make_items(profile, n_items, n_users, n_edges, seed)
    users = make_users(profile, n_users, items, n_edges, seed)
    seconds = round(profile.days * DAY)
    progress("ends of edges")
    what = item_stubs(items, seed, threads)
    progress("times")
    who, when = user_stubs(users, seconds, seed, threads)
    progress("tastes")
    match_tastes(profile, users, items, (who, what, when), seconds, seed, threads)
    progress("distinct pairs")
    make_distinct(who, what, items.cluster, seed, threads)
    progress("signs")
    signs = draw_signs(profile, users, items, (who, what, when), seconds, seed, threads)

    def date(_: int, block: slice) -> None:
        when[block] += profile.start

    each_block(date, n_edges, threads)
    return SyntheticGraph(who, what, signs, when, n_users, n_items)


def smallest(profile: Profile) -> int:
    """Smallest number of edges, with which a quarter of all pairs are edges at most."""
    return max(SMALLEST, math.ceil(profile.user_degree**2 / profile.items_per_user / _DENSEST))


def size_of(profile: Profile, n_edges: int) -> tuple[int, int]:
    """Numbers of users and items of a graph of ``n_edges``."""
    n_users = round(n_edges / profile.user_degree)
    return n_users, round(n_users * profile.items_per_user)
