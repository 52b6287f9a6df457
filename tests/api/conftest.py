"""Data and fitted models that the tests of the public API share."""

from typing import Any

import numpy as np
import polars as pl
import pytest

import recbole_signed as rs

LIKES, DISLIKES = "rating >= 4", "rating <= 2"


def made_frame() -> pl.DataFrame:
    """Ratings of 40 users and 30 items with tastes: even users rate even items high, and odd ones odd items."""
    rng = np.random.default_rng(11)
    keys = rng.permutation(40 * 30)[:600]
    user, item = keys // 30, keys % 30
    rating = np.where(user % 2 == item % 2, rng.choice([5, 4, 3], len(keys)), rng.choice([1, 2, 3], len(keys)))
    return pl.DataFrame(
        {
            "who": [f"user {each}" for each in user],
            "what": item + 100,
            "rating": rating.astype(float),
            "when": rng.integers(1_600_000_000, 1_600_900_000, len(keys)),
        }
    )


@pytest.fixture(scope="session")
def frame() -> pl.DataFrame:
    return made_frame()


@pytest.fixture(scope="session")
def data(frame: pl.DataFrame) -> Any:
    return rs.from_frame(frame, user="who", item="what", like=LIKES, dislike=DISLIKES, time="when")


@pytest.fixture(scope="session")
def ssf(data: Any) -> Any:
    return rs.fit("SSF", data, auto=False, rank=16, cutoff=8)
