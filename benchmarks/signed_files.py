"""Signed interactions with the degrees of a short-video log, written as an atomic file of any length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

CHUNK = 5_000_000
PER_USER, ITEMS_PER_USER = 15.5, 0.26  # KuaiRand-Pure
USER_SPREAD, ITEM_SPREAD = 0.75, 1.3  # standard deviations of the logarithm of the degree
SHARES = (0.50, 0.40, 0.10)  # dislikes, likes, neutral rows
MILLISECONDS = 1_650_000_000_000


def write_inter(file: Path, n_rows: int, n_users: int = 0, n_items: int = 0, seed: int = 0) -> None:
    """Write ``n_rows`` of user, item, sign and time in random order; a few of them repeat a pair.

    Without numbers of users and items these follow from ``n_rows`` in KuaiRand-Pure's proportions.
    """
    rng = np.random.default_rng(seed)
    n_users = n_users or max(20, int(n_rows / PER_USER))
    n_items = n_items or max(20, int(n_users * ITEMS_PER_USER))
    users, items = (
        np.cumsum(rng.lognormal(0.0, spread, n)) for n, spread in ((n_users, USER_SPREAD), (n_items, ITEM_SPREAD))
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    half_written = file.with_suffix(".part")
    with half_written.open("wb") as out:
        for start in range(0, n_rows, CHUNK):
            n = min(CHUNK, n_rows - start)
            frame = pl.DataFrame(
                {
                    "user_id:token": np.searchsorted(users, rng.random(n) * users[-1]),
                    "item_id:token": np.searchsorted(items, rng.random(n) * items[-1]),
                    "sign:float": rng.choice(np.array([-1, 1, 0], dtype=np.int8), n, p=SHARES),
                    "timestamp:float": MILLISECONDS + rng.integers(0, 30 * 86_400_000, n),
                }
            )
            frame.write_csv(out, separator="\t", include_header=start == 0)
    half_written.rename(file)
