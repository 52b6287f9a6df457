"""Users, items, pairs and signs of a synthetic graph: stubs in order of time are matched within taste clusters.

Blocks of fixed size have random streams of their own, so the result depends on the seed alone, not on threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtri

from recbole_signed.lab.synth.profile import Degrees, Profile

BLOCK = 1 << 20  # edges of a block; a change of it changes every graph
THREADS = min(2, os.cpu_count() or 1)

_TICKS = 2.0**31
_LOW_HALF = np.uint64(0xFFFFFFFF)
_SECOND_SHARE = 1 / 3  # of a user's choices, that its second taste has
_FULLEST = 0.6  # of all partners, that one node has at most
_BISECTIONS, _BISECTIONS_OF_SIGNS = 60, 50  # to the scale of degrees, the constant of signs: both change graphs
_SAMPLE = 500_000  # edges that the constant of the signs is found on, about
_OWN_CLUSTER = 2.0  # what the item being of the user's cluster adds to the affinity


def stream(seed: int, stage: str, block: int = 0) -> np.random.Generator:
    """The generator of one block of one stage."""
    name = int.from_bytes(stage.encode(), "little")
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, name, block])))


def each_block(work: Callable[[int, slice], None], total: int, threads: int) -> None:
    """Call ``work(number, slice)`` for every block of ``range(total)``, several at a time."""
    blocks = [slice(start, min(start + BLOCK, total)) for start in range(0, total, BLOCK)]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(len(blocks)), blocks):
            pass  # raises what a block raised


def user_stubs(users: Users, seconds: int, seed: int, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Give every edge a user int32 and seconds since the start int64, each ``[n_edges]``, in order of time."""

    def moment(owner: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        start = users.start[owner]
        return (start + rng.random(len(owner)) * np.minimum(users.life[owner], 1 - start)) * seconds

    return _in_order(users.degree, moment, seconds - 1, seed, "user stubs", threads)


def item_stubs(items: Items, seed: int, threads: int) -> np.ndarray:
    """Order the item's ends of the edges by a clock that runs with the events; int32 ``[n_edges]``."""

    def moment(owner: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        # inverse of the distribution function of the density ~ exp(-fading * t) on [0, 1 - born)
        born = items.born[owner]
        fading = items.fading[owner].astype(np.float64) * (1 - born)
        fading = np.where(np.abs(fading) < 1e-4, 1e-4, fading)
        age = np.log1p(rng.random(len(owner)) * np.expm1(-fading)) / -fading
        return (born + (1 - born) * age) * _TICKS

    return _in_order(items.degree, moment, int(_TICKS) - 1, seed, "item stubs", threads)[0]


def _in_order(
    degree: np.ndarray,
    moment: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    last: int,
    seed: int,
    stage: str,
    threads: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Repeat every node by its degree, give each repetition a moment up to ``last``, and sort by that."""
    ends = np.cumsum(degree)
    total = int(ends[-1])
    packed = np.empty(total, np.uint64)

    def fill(number: int, block: slice) -> None:
        first, final = np.searchsorted(ends, [block.start, block.stop - 1], side="right")
        inside = np.minimum(ends[first : final + 1], block.stop)
        owner = np.repeat(np.arange(first, final + 1), np.diff(inside, prepend=block.start))
        ticks = np.clip(moment(owner, stream(seed, stage, number)), 0, last).astype(np.uint64)
        packed[block] = ticks << np.uint64(32) | owner.astype(np.uint64)

    each_block(fill, total, threads)
    packed.sort()
    owners = np.empty(total, np.int32)

    def unpack(_: int, block: slice) -> None:
        owners[block] = packed[block] & _LOW_HALF
        packed[block] >>= np.uint64(32)

    each_block(unpack, total, threads)
    return owners, packed.view(np.int64)


def taste(users: Users, who: np.ndarray, when: np.ndarray) -> np.ndarray:
    """Main taste cluster of the users ``who`` at the moments ``when`` (shares of the window); int16 ``[n]``."""
    return np.where(when < users.switch[who], users.home[who], users.second[who])


def match_tastes(
    profile: Profile,
    users: Users,
    items: Items,
    edges: tuple[np.ndarray, np.ndarray, np.ndarray],
    seconds: int,
    seed: int,
    threads: int,
) -> None:
    """Rearrange the items of the edges in place, within blocks, so that tastes meet, in order of time by cluster."""
    who, what, when = edges

    def match(number: int, block: slice) -> None:
        rng = stream(seed, "taste", number)
        chosen = np.flatnonzero(rng.random(block.stop - block.start, dtype=np.float32) < profile.taste_exposure)
        user, item = who[block][chosen], what[block][chosen]
        target = taste(users, user, when[block][chosen] / seconds)
        other = np.where(target == users.home[user], users.second[user], users.home[user])
        target = np.where(rng.random(len(chosen), dtype=np.float32) < _SECOND_SHARE, other, target)
        left, right = _aligned(target, items.cluster[item], profile.clusters)
        arranged = np.empty_like(item)
        arranged[left] = item[right]
        what[block][chosen] = arranged

    each_block(match, len(who), threads)


def _aligned(a: np.ndarray, b: np.ndarray, kinds: int) -> tuple[np.ndarray, np.ndarray]:
    """Two orders of ``range(n)`` in which as many kinds as possible meet; what is left over meets in its order."""
    fewer = np.minimum(np.bincount(a, minlength=kinds), np.bincount(b, minlength=kinds))
    orders = []
    for side in (a, b):
        order = np.argsort(side, kind="stable")
        kind = side[order]
        begins = np.searchsorted(kind, np.arange(kinds))
        kept = np.arange(len(kind)) - begins[kind] < fewer[kind]
        orders.append(np.concatenate([order[kept], np.sort(order[~kept])]))
    return orders[0], orders[1]


@dataclass(frozen=True)
class Users:
    """Arrays ``[n_users]``."""

    degree: np.ndarray  # int64; their sum is the number of edges
    start: np.ndarray  # float32: when the user comes, a share of the window
    life: np.ndarray  # float32: for how long it stays
    home: np.ndarray  # int16: main taste cluster
    second: np.ndarray  # int16: the cluster of a third of its choices, and of most of them after `switch`
    switch: np.ndarray  # float32: when the two change places; 2 (never) for most
    effect: np.ndarray  # float32: on the logit of a like


@dataclass(frozen=True)
class Items:
    """Arrays ``[n_items]``."""

    degree: np.ndarray  # int64; their sum is the number of edges
    cluster: np.ndarray  # int16
    fading: np.ndarray  # float32: popularity is ~ exp(-fading * t), t a share of the window
    born: np.ndarray  # float32: when the item appears, a share of the window; 0 for most
    effect: np.ndarray  # float32: on the logit of a like


def make_items(profile: Profile, n_items: int, n_users: int, n_edges: int, seed: int) -> Items:
    """Draw the items."""
    rng = stream(seed, "items")
    degree = degrees(profile.item_degrees, n_items, n_edges, n_users, rng)
    log_degree = np.log(degree)
    effect = profile.item_effect * _normal(rng, n_items)
    return Items(
        degree=degree,
        cluster=(rng.random(n_items) * profile.clusters).astype(np.int16),
        fading=(profile.item_drift * _normal(rng, n_items)).astype(np.float32),
        born=np.where(rng.random(n_items) < profile.item_births, rng.random(n_items), 0).astype(np.float32),
        effect=(effect + profile.popularity_effect * (log_degree - log_degree.mean())).astype(np.float32),
    )


def make_users(profile: Profile, n_users: int, items: Items, n_edges: int, seed: int) -> Users:
    """Draw the users, whose clusters are as frequent as the edges of the items in them."""
    rng = stream(seed, "users")
    n_items = len(items.degree)
    life = -profile.user_life * np.log1p(-rng.random(n_users))
    mass = np.cumsum(np.bincount(items.cluster, weights=items.degree, minlength=profile.clusters))
    home, second = (np.searchsorted(mass, rng.random(n_users) * mass[-1], side="right") for _ in range(2))
    return Users(
        degree=degrees(profile.user_degrees, n_users, n_edges, n_items, rng),
        start=np.where(life >= 1, 0, rng.random(n_users)).astype(np.float32),
        life=life.astype(np.float32),
        home=home.astype(np.int16),
        second=second.astype(np.int16),
        switch=np.where(rng.random(n_users) < profile.taste_drift, rng.random(n_users), 2).astype(np.float32),
        effect=(profile.user_effect * _normal(rng, n_users)).astype(np.float32),
    )


def degrees(shape: Degrees, n: int, total: int, partners: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a degree sequence int64 ``[n]`` of the given sum, within the profile's ceiling and 60% of ``partners``."""
    cap = min(int(shape.ceiling * total / n), int(_FULLEST * partners))
    uniform = rng.random(n)
    if shape.family == "lognormal":
        excess = np.exp(shape.spread * ndtri(np.maximum(uniform, 2.0**-54)))
    elif shape.family == "weibull":
        excess = (-np.log1p(-uniform)) ** (1 / shape.spread)
    else:
        raise ValueError(f"unknown family of degrees: {shape.family}")

    def scaled(scale: float) -> np.ndarray:
        return np.minimum(shape.floor - 1 + scale * excess, cap)

    high = 1.0
    while scaled(high).sum() < total and high < 1e9:
        high *= 2
    expected = scaled(_least(lambda scale: scaled(scale).sum() < total, 0.0, high, _BISECTIONS))
    degree = np.maximum(np.floor(expected + rng.random(n)), 1).astype(np.int64)
    while missing := total - int(degree.sum()):  # rounding leaves a few too many or too few
        can_change = np.flatnonzero(degree < cap if missing > 0 else degree > 1)
        chosen = can_change[rng.permutation(len(can_change))[: abs(missing)]]
        degree[chosen] += np.sign(missing)
    return degree


def _least(is_less: Callable[[float], bool], low: float, high: float, bisections: int) -> float:
    """Return about the least number between two that is not less than what is looked for."""
    for _ in range(bisections):
        middle = (low + high) / 2
        if is_less(middle):
            low = middle
        else:
            high = middle
    return high


def _normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return ndtri(np.maximum(rng.random(n), 2.0**-54))


def draw_signs(
    profile: Profile,
    users: Users,
    items: Items,
    edges: tuple[np.ndarray, np.ndarray, np.ndarray],
    seconds: int,
    seed: int,
    threads: int,
) -> np.ndarray:
    """Draw the sign of every edge, int8 ``[n_edges]``, by a logistic model of user, item, tastes and time."""
    who, what, when = edges
    rng = stream(seed, "affinity")
    affinity = ndtri(np.maximum(rng.random((profile.clusters, profile.clusters)), 2.0**-54))
    affinity = (profile.taste_effect * (affinity + _OWN_CLUSTER * np.eye(profile.clusters))).astype(np.float32)

    def logit(part: slice) -> np.ndarray:
        user, item, moment = who[part], what[part], (when[part] / seconds).astype(np.float32)
        tastes = affinity[taste(users, user, moment), items.cluster[item]]
        return users.effect[user] + items.effect[item] + tastes + np.float32(profile.like_drift) * moment

    sample, share = logit(slice(None, None, -(-len(who) // _SAMPLE))), profile.like_share
    enough = _least(lambda at: expit(sample + at).mean(dtype=np.float64) < share, -20.0, 20.0, _BISECTIONS_OF_SIGNS)
    constant = np.float32(enough)
    signs = np.empty(len(who), np.int8)

    def draw(number: int, block: slice) -> None:
        uniform = stream(seed, "signs", number).random(block.stop - block.start, dtype=np.float32)
        signs[block] = np.where(uniform < expit(logit(block) + constant), 1, -1)

    each_block(draw, len(who), threads)
    return signs
