"""Simulated users, who judge what they are shown by what held-out truth says: they drive a service in tests and demos.

Truth is a low-rank model of a data set's likes and dislikes, so that every pair has a probability of a like; which
variant is better is then known. A user looks down its list, and looks at each further item with a fixed probability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recbole_signed.errors import UsageError

Send = Callable[[list[dict[str, object]]], None]
Ask = Callable[[str, int], Sequence[str]]


@dataclass(frozen=True)
class Truth:
    """What simulated users think.

    Attributes:
        users, items: ids.
        like: ``[n_users, n_items]`` float32: probability that the verdict on an item is a like.
        speaks: ``[n_items]`` probability that a user who looks at an item says what it thinks.
    """

    users: list[str]
    items: list[str]
    like: np.ndarray
    speaks: np.ndarray

    @classmethod
    def planted(cls, n_users: int, n_items: int, seed: int = 0, rank: int = 4) -> Truth:
        """Draw tastes from a low-rank model.

        Args:
            n_users: ids are ``u1`` and so on.
            n_items: ids are ``i1`` and so on.
            seed: of the draw.
            rank: of the tastes.
        """
        rng = np.random.default_rng(seed)
        taste = rng.normal(size=(n_users, rank)) @ rng.normal(size=(rank, n_items)) / np.sqrt(rank)
        level = rng.normal(0.0, 1.0, n_items)
        return cls(
            [f"u{i}" for i in range(1, n_users + 1)],
            [f"i{i}" for i in range(1, n_items + 1)],
            (1 / (1 + np.exp(-(2 * taste + level)))).astype(np.float32),
            np.full(n_items, 0.5),
        )

    @classmethod
    def of_edges(
        cls,
        users: Sequence[str],
        items: Sequence[str],
        user: np.ndarray,
        item: np.ndarray,
        sign: np.ndarray,
        rank: int = 16,
    ) -> Truth:
        """Estimate tastes from the verdicts of a data set.

        The residuals over the items' smoothed like rates, by a truncated SVD.

        Args:
            users, items: ids.
            user, item: ``[n]`` numbers of users and items of the verdicts.
            sign: ``[n]`` +1 or -1.
            rank: of the tastes.

        Raises:
            UsageError: there is no verdict.
        """
        import scipy.sparse as sp
        from scipy.sparse.linalg import svds

        if not len(user):
            raise UsageError("a simulation needs a data set with likes or dislikes.")
        liked = (sign > 0).astype(np.float64)
        counts, likes = (np.bincount(item, weights=w, minlength=len(items)) for w in (np.ones_like(liked), liked))
        rate = (likes + 5 * liked.mean()) / (counts + 5)
        residual = sp.csr_matrix((liked - rate[item], (user, item)), shape=(len(users), len(items)))
        k = min(rank, min(residual.shape) - 1)
        taste = np.zeros(residual.shape)
        if k > 0 and residual.data.any():  # else all users think alike, such as where nobody dislikes anything
            left, values, right = svds(residual, k, random_state=0)
            taste = (left * values) @ right
        like = np.clip(rate + 4 * taste, 0.02, 0.98)
        return cls(list(users), list(items), like.astype(np.float32), np.clip(counts / counts.max(), 0.05, 0.9))


@dataclass(frozen=True)
class Outcome:
    """What a simulation saw.

    Attributes:
        shown, likes, dislikes: numbers of items and verdicts.
        expected: mean probability of a like of what was shown, whether or not the user spoke.
    """

    shown: int
    likes: int
    dislikes: int
    expected: float


PATIENCE = 0.85
"""Probability of looking at the next item; the first one is looked at in any case."""


def simulate(truth: Truth, ask: Ask, send: Send, *, rounds: int, k: int = 10, seed: int = 0) -> Outcome:
    """Let random users ask for a list, look at it, and judge.

    Args:
        truth: what they think.
        ask: gives the list of a user.
        send: takes events.
        rounds: number of lists.
        k: length of a list.
        seed: of users and verdicts.
    """
    rng = np.random.default_rng(seed)
    number = {item: i for i, item in enumerate(truth.items)}
    shown = likes = dislikes = 0
    expected = 0.0
    for _ in range(rounds):
        user = int(rng.integers(len(truth.users)))
        listed = [number[item] for item in ask(truth.users[user], k) if item in number]
        looked = listed[: int(rng.geometric(1 - PATIENCE))]
        shown += len(looked)
        expected += float(truth.like[user, looked].sum())
        events: list[dict[str, object]] = []
        for item in looked:
            if rng.random() < truth.speaks[item]:
                good = rng.random() < truth.like[user, item]
                likes, dislikes = likes + good, dislikes + (not good)
                kind = "like" if good else "dislike"
                events.append({"user_id": truth.users[user], "item_id": truth.items[item], "type": kind})
        if events:
            send(events)
    return Outcome(shown, int(likes), int(dislikes), expected / max(shown, 1))
