"""A small model over a state directory, begun without a run of RecBole."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.live import LIKE, Event, OnlineRecommender
from recbole_signed.live.events import DISLIKE
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.base import Learner
from recbole_signed.live.store.settings import StateSettings

NOW = 1_700_000_000_000
N_USERS, N_ITEMS = 40, 30
SSF = {"rank": 6, "cutoff": 3}
Opens = Callable[..., OnlineRecommender]
"""Of the fixture ``opens``."""


@dataclass
class Clock:
    """A clock of a state, in seconds, that a test sets."""

    now: float = NOW / 1000

    def __call__(self) -> float:
        return self.now


def small_edges(seed: int = 0, n: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return users, items, kinds and times in milliseconds, each pair once."""
    rng = np.random.default_rng(seed)
    pairs = rng.choice(N_USERS * N_ITEMS, n, replace=False)
    kind = rng.choice([LIKE, DISLIKE], n, p=[0.7, 0.3]).astype(np.int8)
    return pairs // N_ITEMS + 1, pairs % N_ITEMS + 1, kind, NOW - 10_000_000 + rng.permutation(n)


def begin(
    directory: Path,
    model: str = "SSF",
    learner: Learner | None = None,
    state: StateSettings | None = None,
    **settings: Any,
) -> OnlineRecommender:
    """Begin a state of 40 users ``u1..`` and 30 items ``i1..``."""
    made = learner or make_learner(model, {**(SSF if model == "SSF" else {}), **settings})
    users, items = [f"u{n}" for n in range(1, N_USERS + 1)], [f"i{n}" for n in range(1, N_ITEMS + 1)]
    return OnlineRecommender.begin(directory, made, users, items, small_edges(), settings=state)


def begin_large(directory: Path, n_edges: int, n_users: int, n_items: int) -> None:
    """Begin a state of random edges with users ``u0..`` and items ``i0..``."""
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(n_users * n_items, size=n_edges))
    kinds = rng.choice([LIKE, DISLIKE], len(pairs), p=[0.7, 0.3]).astype(np.int8)
    edges = pairs // n_items + 1, pairs % n_items + 1, kinds, NOW - len(pairs) + np.arange(len(pairs))
    users, items = [f"u{n}" for n in range(n_users)], [f"i{n}" for n in range(n_items)]
    OnlineRecommender.begin(directory, make_learner("SSF", {"rank": 64}), users, items, edges).close()


def event(number: int, user: str, item: str, kind: str) -> Event:
    """Return an event, later than all edges."""
    return Event(f"e{number}", user, item, kind, NOW + number)


def content(folder: Path) -> bytes:
    """Return the bytes of all files in a folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
