"""Pairs of a synthetic graph: stubs of users and of items in order of time, matched within taste clusters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recbole_signed.lab.synth.nodes import Items, Users
from recbole_signed.lab.synth.profile import Profile
from recbole_signed.lab.synth.streams import each_block, stream

_TICKS = 2.0**31
_SECOND_SHARE = 1 / 3
_LOW_HALF = np.uint64(0xFFFFFFFF)


def user_stubs(users: Users, seconds: int, seed: int, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Give every edge a user and a moment, in order of time.

    Returns:
        User int32 ``[n_edges]`` and seconds since the start of the window int64 ``[n_edges]``.
    """

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
    """Rearrange the items of the edges in place, within blocks, so that tastes meet.

    Of the edges that taste is to decide, as many as can be get an item of a cluster of their user; ends stay in
    order of time within a cluster, so that popularity keeps its drift.

    Args:
        edges: users int32, items int32 and seconds since the start of the window int64, each ``[n_edges]``.
        seconds: length of the window.
    """
    who, what, when = edges

    def match(number: int, block: slice) -> None:
        rng = stream(seed, "taste", number)
        chosen = np.flatnonzero(rng.random(block.stop - block.start, dtype=np.float32) < profile.taste_exposure)
        user, item = who[block][chosen], what[block][chosen]
        wanted = taste(users, user, when[block][chosen] / seconds)
        other = np.where(wanted == users.home[user], users.second[user], users.home[user])
        wanted = np.where(rng.random(len(chosen), dtype=np.float32) < _SECOND_SHARE, other, wanted)
        left, right = _aligned(wanted, items.cluster[item], profile.clusters)
        arranged = np.empty_like(item)
        arranged[left] = item[right]
        what[block][chosen] = arranged

    each_block(match, len(who), threads)


def _aligned(a: np.ndarray, b: np.ndarray, kinds: int) -> tuple[np.ndarray, np.ndarray]:
    """Two orders of ``range(n)`` in which as many kinds as possible meet; what is left over meets in its order."""
    fewer = np.minimum(np.bincount(a, minlength=kinds), np.bincount(b, minlength=kinds))
    orders = []
    for each in (a, b):
        order = np.argsort(each, kind="stable")
        kind = each[order]
        begins = np.searchsorted(kind, np.arange(kinds))
        kept = np.arange(len(kind)) - begins[kind] < fewer[kind]
        orders.append(np.concatenate([order[kept], np.sort(order[~kept])]))
    return orders[0], orders[1]
