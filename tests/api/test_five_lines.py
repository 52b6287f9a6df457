"""The example of the documentation: from a table in memory to recommendations for raw ids."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import polars as pl

import recbole_signed as rs


def test_ratings_read_by_polars_become_recommendations(shared_data: Callable[[str], Path]) -> None:
    df = pl.read_parquet(shared_data("ml-latest-small") / "ratings.parquet")
    data = rs.from_frame(df, user="userId", item="movieId", like="rating >= 4", dislike="rating <= 2", time="timestamp")
    assert (data.n_likes, data.n_dislikes, data.n_neutral) == (48580, 13523, 38733)
    model = rs.fit("SSF", data)
    found = model.recommend([7, "9", "nobody"], k=5, exclude=[318], dislike_aversion=0.5)
    assert found.columns == ["user", "item", "score", "rank", "known"]
    assert found["user"].to_list() == ["7"] * 5 + ["9"] * 5 + ["nobody"] * 5
    assert found["rank"].to_list() == [1, 2, 3, 4, 5] * 3
    assert found["known"].to_list() == [True] * 10 + [False] * 5
    assert "318" not in found["item"]
    touched = set(df.filter(pl.col("userId") == 7)["movieId"].cast(pl.String))
    assert not touched & set(found["item"][:5])
    assert os.listdir() == []  # nothing is left in the current folder
