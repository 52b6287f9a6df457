"""The source ``toy``: a planted data set of which the right ranking is known.

A user likes most of the good items of its community, dislikes most of the bad ones that it saw, and planted items of
the next community. To be ranked are good items of the own community, then those without a verdict, then the bad ones.
Popularity says little; likes alone do not tell disliked from unknown; exposures rank disliked items high.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from recbole_signed.convert.base import Converter
from recbole_signed.convert.options import option
from recbole_signed.errors import UsageError

_START = 1_704_067_200  # 2024-01-01T00:00:00Z
_SHORTEST_GAP, _LONGEST_GAP = 60, 7_200  # seconds between events
_NEUTRAL_PER_USER = 2


@dataclass(frozen=True)
class Planted:
    """A planted data set and its truth; numbers of users and items follow ``users`` and ``items``."""

    frame: pl.DataFrame  # user_id, item_id (text), rating (1 to 5), sign, timestamp (unix seconds), sorted by time
    users: tuple[str, ...]
    items: tuple[str, ...]
    user_community: np.ndarray  # int64 `[n_users]`
    item_community: np.ndarray  # int64 `[n_items]`
    bad: np.ndarray  # bool `[n_items]`: items that their own community dislikes
    verdict: np.ndarray  # int8 `[n_users, n_items]`: 1 the user likes the item, -1 dislikes it, 0 has no verdict

    def seen(self) -> np.ndarray:
        """Bool ``[n_users, n_items]``: pairs that have an event, of any sign."""
        seen = np.zeros(self.verdict.shape, dtype=bool)
        user = self.frame["user_id"].replace_strict(list(self.users), list(range(len(self.users))))
        item = self.frame["item_id"].replace_strict(list(self.items), list(range(len(self.items))))
        seen[user.to_numpy(), item.to_numpy()] = True
        return seen


def planted(users: int = 60, items: int = 42, communities: int = 3, seed: int = 2024) -> Planted:
    """Draw a planted data set in which every fourth item is bad; equal arguments give equal rows with any NumPy."""
    if communities < 3 or items < 8 * communities or users < 2 * communities:
        raise UsageError(
            f"users={users}, items={items}, communities={communities} is too small for a planted data set; "
            "give 3 or more communities, 8 or more items and 2 or more users for each."
        )
    # uniform draws alone are used: that part of a NumPy generator does not change between versions
    rng = np.random.Generator(np.random.PCG64(seed))
    user_community = np.arange(users) * communities // users
    item_community = np.arange(items) * communities // items
    place = np.arange(items) - np.searchsorted(item_community, item_community)  # within the community
    size = np.bincount(item_community)[item_community]
    bad = place >= size - size // 4
    half_of_good = place < (size - size // 4) // 2
    own = user_community[:, None] == item_community[None, :]
    following = (user_community[:, None] + 1) % communities == item_community[None, :]
    disliked = (own & bad) | (following & half_of_good)
    verdict = (own & ~bad).astype(np.int8) - disliked.astype(np.int8)

    smallest = int(np.bincount(item_community).min())
    good = smallest - smallest // 4
    seen = _choose(rng, own & ~bad, good * 3 // 4)
    seen |= _choose(rng, own & bad, max(1, smallest // 4 * 2 // 3))
    seen |= _choose(rng, following & half_of_good, max(1, good // 2 * 4 // 5))
    seen |= _choose(rng, verdict == 0, _NEUTRAL_PER_USER)

    user, item = np.nonzero(seen)
    order = np.argsort(rng.random(user.size), kind="stable")
    user, item = user[order], item[order]
    sign = verdict[user, item]
    gaps = _SHORTEST_GAP + (rng.random(user.size) * (_LONGEST_GAP - _SHORTEST_GAP)).astype(np.int64)
    rating = 3 * np.ones(user.size) + sign * (1 + (rng.random(user.size) < 0.5))
    user_ids, item_ids = _names("u", users), _names("i", items)
    frame = pl.DataFrame(
        {
            "user_id": np.array(user_ids)[user].tolist(),
            "item_id": np.array(item_ids)[item].tolist(),
            "rating": rating,
            "sign": sign,
            "timestamp": _START + np.cumsum(gaps),
        }
    )
    return Planted(frame, user_ids, item_ids, user_community, item_community, bad, verdict)


def _choose(rng: np.random.Generator, among: np.ndarray, count: int) -> np.ndarray:
    """Bool of the shape of ``among``: ``count`` random true cells of each row."""
    rank = np.argsort(np.argsort(np.where(among, rng.random(among.shape), 2.0), axis=1, kind="stable"), axis=1)
    return among & (rank < count)


def _names(letter: str, count: int) -> tuple[str, ...]:
    width = len(str(count))
    return tuple(f"{letter}{number:0{width}d}" for number in range(1, count + 1))


@dataclass(frozen=True)
class Options:
    """Size and seed."""

    users: int = option(60, "number of users")
    items: int = option(42, "number of items")
    communities: int = option(3, "number of communities, 3 or more")
    seed: int = option(2024, "seed of the random numbers")


class Toy(Converter):
    """Makes the planted data set; it reads nothing."""

    name = "toy"
    summary = "a small planted data set of which the right ranking is known (no input)"
    licence = "MIT, as recbole-signed itself; made by its generator"
    options_class = Options
    input_needed = False
    data_name = "toy-signed"

    def batches(self) -> list[pl.DataFrame]:
        """Give the planted rows."""
        if self.given is not None:
            raise UsageError("The source 'toy' makes its data by itself; leave the input out.")
        options = self.options
        return [planted(options.users, options.items, options.communities, options.seed).frame]
