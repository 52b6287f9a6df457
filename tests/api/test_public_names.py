"""What ``import recbole_signed`` offers: lazily, documented, and without the weight of torch."""

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import recbole_signed as rs
from recbole_signed import progress

NAMES = (
    *("from_frame", "fit", "load", "convert", "run", "compare", "tune", "replay", "register_model"),
    *("OnlineTrainer", "Event", "SignedGraph", "SignedDataset", "UsageError", "Interactions", "Recommender"),
)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert name in rs.__all__
    assert name in dir(rs)
    found = getattr(rs, name)
    text = inspect.getdoc(found) or ""
    assert len(text) > 40
    if inspect.isfunction(found):
        assert "Args:" in text
        assert "Raises:" in text


@pytest.mark.parametrize("first", ["pass", "import recbole_signed.convert", "import recbole_signed.api"])
def test_convert_can_be_called_whatever_was_imported(first: str, tmp_path: Path) -> None:
    script = f"""
import recbole_signed as rs
{first}
print(rs.convert("toy", None, {str(tmp_path)!r}).name)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "toy-signed"


# ---- the example of the documentation: from a table in memory to recommendations for raw ids ----


def test_ratings_read_by_polars_become_recommendations(shared_data: Callable[[str], Path]) -> None:
    df = pl.read_parquet(shared_data("ml-latest-small") / "ratings.parquet")
    data = rs.from_frame(df, user="userId", item="movieId", like="rating >= 4", dislike="rating <= 2", time="timestamp")
    assert (data.n_likes, data.n_dislikes, data.n_neutral) == (48580, 13523, 38733)
    found = rs.fit("SSF", data).recommend([7, "9", "nobody"], k=5, exclude=[318], dislike_aversion=0.5)
    assert found.columns == ["user", "item", "score", "rank", "known"]
    assert found["user"].to_list() == ["7"] * 5 + ["9"] * 5 + ["nobody"] * 5
    assert found["rank"].to_list() == [1, 2, 3, 4, 5] * 3
    assert found["known"].to_list() == [True] * 10 + [False] * 5
    assert "318" not in found["item"]
    assert not set(df.filter(pl.col("userId") == 7)["movieId"].cast(pl.String)) & set(found["item"][:5])
    assert os.listdir() == []  # nothing is left in the current folder


def test_a_fit_that_takes_long_says_what_it_is_at(
    data: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "AFTER", 0.0)
    monkeypatch.setattr(progress, "PAUSES", (0.001, 0.001))
    rs.fit("SSF", data, rank=8)
    said = capsys.readouterr().err
    assert "fit of SSF: choosing its parameters on held-out likes, " in said
    assert "fit of SSF: fitting to everything, " in said
    assert "fit of SSF: done in " in said
    rs.fit("BPR", data, epochs=1)
    assert "fit of BPR: done in " in capsys.readouterr().err
    rs.fit("SSF", data, auto=False, rank=8, progress=False)
    assert "fit of" not in capsys.readouterr().err


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="recommend_everything"):
        _ = rs.recommend_everything  # type: ignore[attr-defined]
