"""The generator: from a profile, a number of edges and a seed to arrays of edges, in which every pair occurs once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recbole_signed.errors import UsageError
from recbole_signed.lab.stats.report import describe_nodes, describe_time
from recbole_signed.lab.synth.edge_model import (
    BLOCK,
    THREADS,
    draw_signs,
    each_block,
    item_stubs,
    make_items,
    make_users,
    match_tastes,
    stream,
    user_stubs,
)
from recbole_signed.lab.synth.profile import DAY, Profile, find_profile

if TYPE_CHECKING:
    from recbole_signed.atomic.inter_file import RawRows

SMALLEST = 10_000
_DENSEST = 0.25  # of all pairs; beyond, degree sequences of the profiles no longer fit
LARGEST = 2**31 - 1

# of make_distinct
_ROUNDS = 60
_ROUNDS_OF_A_KIND = 25
_CANDIDATES = 4  # for each repeated edge
_NEAR = 1 << 10
_TABLE_BITS = 26
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class SyntheticGraph:
    """Edges in order of time; no pair of a user and an item occurs twice, every user and item occurs."""

    users: np.ndarray  # int32 `[n_edges]`, from 0
    items: np.ndarray  # int32 `[n_edges]`, from 0
    signs: np.ndarray  # int8 `[n_edges]`: 1 like, -1 dislike
    times: np.ndarray  # int64 `[n_edges]`: unix seconds, ascending
    n_users: int
    n_items: int

    def __len__(self) -> int:
        return len(self.users)


def generate(
    profile: Profile | str,
    n_edges: int,
    seed: int = 0,
    *,
    threads: int = THREADS,
    progress: Callable[[str], None] = lambda stage: None,
) -> SyntheticGraph:
    """Generate a signed bipartite graph with time; the same seed gives the same graph on any number of threads."""
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


def make_distinct(who: np.ndarray, what: np.ndarray, kinds: np.ndarray, seed: int, threads: int) -> None:
    """Exchange items ``what`` int32 ``[n_edges]`` in place until no pair occurs twice, within ``kinds`` if possible."""
    n_items = len(kinds)
    present, repeated = _repeated_edges(who, what, n_items, threads)
    rng = stream(seed, "distinct")
    is_repeated = np.zeros(len(who), bool)
    is_repeated[repeated] = True
    added = np.empty(0, np.int64)
    near = _NEAR
    for done in range(_ROUNDS):
        if not len(repeated):
            return
        if done < _ROUNDS_OF_A_KIND:
            partner = _partners_of_a_kind(repeated, what, kinds, rng)
        else:
            partner = (repeated + _steps(len(repeated), near, rng)) % len(who)
            near = min(near * 2, max(len(who) // 2, 1))
        free = np.flatnonzero(~is_repeated[partner] & _first(partner))
        here, there = repeated[free], partner[free]
        mine, theirs = _key(who[here], what[there], n_items), _key(who[there], what[here], n_items)
        # two exchanges of a round must not make the same pair: each pair belongs to the first that asks for it
        new = ~_contained(np.concatenate([mine, theirs]), present, added).reshape(2, -1).any(axis=0)
        unique = _first(np.concatenate([mine[new], theirs[new]])).reshape(2, -1).all(axis=0)
        chosen = np.flatnonzero(new)[unique]
        here, there = here[chosen], there[chosen]
        what[here], what[there] = what[there], what[here]
        added = np.sort(np.concatenate([added, mine[chosen], theirs[chosen]]))
        is_repeated[here] = False
        repeated = repeated[is_repeated[repeated]]
    while len(repeated):
        what[repeated] = (rng.random(len(repeated)) * n_items).astype(np.int32)
        _, repeated = _repeated_edges(who, what, n_items, threads)


def _partners_of_a_kind(
    repeated: np.ndarray, what: np.ndarray, kinds: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """For each of ``repeated`` (ascending) another edge whose item is of its kind, near in time in a random sample."""
    sample = (rng.random(_CANDIDATES * len(repeated) + 1000) * len(what)).astype(np.int64)
    # one number for each edge: kind, place and whether it is of the sample; places are below 2**31
    both = np.concatenate([repeated << 1, sample << 1 | 1])
    both |= kinds[what[both >> 1]].astype(np.int64) << 32
    both.sort()
    place = (both & (1 << 32) - 1) >> 1
    here = np.flatnonzero(both & 1 == 0)
    there = np.clip(here + _steps(len(here), _CANDIDATES, rng), 0, len(both) - 1)
    partner = np.empty(len(repeated), np.int64)
    partner[np.searchsorted(repeated, place[here])] = place[there]
    return partner


def _steps(n: int, longest: int, rng: np.random.Generator) -> np.ndarray:
    """Random steps of 1 to ``longest``, forth or back; int64 ``[n]``."""
    step = 1 + (rng.random(n) * longest).astype(np.int64)
    return np.where(rng.random(n) < 0.5, step, -step)


def _repeated_edges(who: np.ndarray, what: np.ndarray, n_items: int, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs as sorted keys int64 ``[n_edges]``, and the places of edges whose pair an earlier edge has."""
    present = np.empty(len(who), np.int64)

    def fill(_: int, block: slice) -> None:
        present[block] = _key(who[block], what[block], n_items)

    each_block(fill, len(who), threads)
    present.sort()
    pieces: list[np.ndarray] = [np.empty(0, np.int64)] * -(-len(who) // BLOCK)

    def twice(number: int, block: slice) -> None:
        piece = present[max(block.start - 1, 0) : block.stop]
        pieces[number] = piece[1:][piece[1:] == piece[:-1]]

    each_block(twice, len(who), threads)
    several = np.unique(np.concatenate(pieces))
    if not len(several):
        return present, several
    marked = np.zeros(1 << _TABLE_BITS, bool)  # rules most edges out at the price of one look-up
    marked[_slot(several)] = True

    def places(number: int, block: slice) -> None:
        key = _key(who[block], what[block], n_items)
        maybe = np.flatnonzero(marked[_slot(key)])
        pieces[number] = maybe[_contained(key[maybe], several)] + block.start

    each_block(places, len(who), threads)
    place = np.concatenate(pieces)
    return present, place[~_first(_key(who[place], what[place], n_items))]


def _key(who: np.ndarray, what: np.ndarray, n_items: int) -> np.ndarray:
    return who.astype(np.int64) * n_items + what


def _slot(key: np.ndarray) -> np.ndarray:
    return (key.view(np.uint64) * _ODD) >> np.uint64(64 - _TABLE_BITS)


def _contained(values: np.ndarray, *ascending: np.ndarray) -> np.ndarray:
    """Whether each value is in one of the sorted arrays."""
    order = np.argsort(values)  # neighbours in the order of the arrays share their cache lines
    values = values[order]
    contained = np.zeros(len(values), bool)
    for array in ascending:
        if len(array):
            contained[order] |= array[np.minimum(np.searchsorted(array, values), len(array) - 1)] == values
    return contained


def _first(values: np.ndarray) -> np.ndarray:
    """Whether each value occurs here for the first time."""
    first = np.zeros(len(values), bool)
    first[np.unique(values, return_index=True)[1]] = True
    return first


# ---- is a graph like the data of its profile? ----


@dataclass(frozen=True)
class ProfileComparison:
    """One statistic of a graph and of the real data."""

    statistic: str
    measured: float | None
    wanted: float | None  # of the real data; None where that is not known, so that there is nothing to compare with
    tolerance: float | None  # largest difference that passes
    ok: bool


def statistics(rows: RawRows) -> dict[str, float | None]:
    """Degree, sign and drift statistics of a data set, by name; drift only where there are times."""
    nodes = describe_nodes(rows)
    user, item = nodes["user"], nodes["item"]
    likes, dislikes = int((rows.signs > 0).sum()), int((rows.signs < 0).sum())
    values: dict[str, float | None] = {"like_share": likes / (likes + dislikes)}
    for name, side, inner in (("user", user, ("median", "p99")), ("item", item, ("median", "p90", "p99"))):
        degree = side["degree"]["all"]
        values |= {f"{name}_degree_{measure}": degree[measure] for measure in ("mean", *inner)}
        values[f"{name}_log_degree_sd"] = side["log_degree_sd"]
        values[f"{name}_intraclass"] = side["intraclass"]
        values[f"{name}_likes_to_dislikes"] = side["likes_to_dislikes"]
    values["item_degree_to_like_rate"] = item["degree_to_like_rate"]
    values["users_without_dislikes"] = user["without_dislikes"]
    time = describe_time(rows)
    if time is not None:
        last = time["last_fifth"]
        values["last_fifth_like_rate_change"] = last["like_rate"] - last["like_rate_before"]
        values["last_fifth_rows_of_new_users"] = last["rows_of_new_users"]
        values["last_fifth_rows_on_new_items"] = last["rows_on_new_items"]
        values["first_to_last_popularity_similarity"] = time["first_to_last_similarity"]
    return values


def as_rows(graph: SyntheticGraph) -> RawRows:
    """Give the graph to the analysis of data sets."""
    from recbole_signed.atomic.inter_file import RawRows  # with pandas, which a graph alone does not need

    return RawRows(graph.users, graph.items, graph.signs, graph.times, graph.n_users, graph.n_items, {})


def check(graph: SyntheticGraph, profile: Profile) -> list[ProfileComparison]:
    """Compare the statistics of a graph with the profile's, and count its repeated pairs, of which there are none."""
    compared = []
    for name, measured in {**statistics(as_rows(graph)), "repeated_pairs": _repeated(graph)}.items():
        target = profile.targets.get(name)
        if name == "repeated_pairs":
            compared.append(ProfileComparison(name, measured, 0.0, 0.0, measured == 0))
        elif target is None:
            compared.append(ProfileComparison(name, measured, None, None, True))
        else:
            ok = measured is not None and target.allows(measured)
            compared.append(ProfileComparison(name, measured, target.value, target.largest_difference, ok))
    return compared


def _repeated(graph: SyntheticGraph) -> float:
    keys = np.sort(_key(graph.users, graph.items, graph.n_items))
    return float((keys[1:] == keys[:-1]).sum())
