"""Features from tables in memory: new items and users, explanations, saving."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import recbole_signed as rs
from recbole_signed.errors import UsageError
from recbole_signed.live.learners.ssf.live_features import _text


def table(kind: str) -> pl.DataFrame:
    """Users, or items, of two tastes: even and odd ones; the last cell of each column is blank."""
    ids = [f"user {each}" for each in range(40)] if kind == "user" else [str(each + 100) for each in range(30)]
    blank = [None]
    return pl.DataFrame(
        {
            "who" if kind == "user" else "what": ids,
            "taste": ["even", "odd"] * ((len(ids) - 1) // 2) + ["even"] + blank,
            "size": [float(each) for each in range(len(ids) - 1)] + blank,
            "tags": [["a", "b"], ["c"]] * (len(ids) // 2),
            "vector": [[1.0, 0.0], [0.0, 1.0]] * (len(ids) // 2),
        }
    )


@pytest.fixture
def data(frame: pl.DataFrame) -> Any:
    seen = frame.filter((pl.col("what") != 105) & (pl.col("who") != "user 7"))
    one = pl.DataFrame({"who": ["user 7"], "what": [105], "rating": [3.0], "when": [1_600_000_000]})
    return rs.from_frame(
        pl.concat([seen, one]), user="who", item="what", like="rating >= 4", dislike="rating <= 2", time="when",
        items=table("item"), users=table("user").to_pandas(),
    )  # fmt: skip


def test_columns_of_any_kind_become_features(data: Any) -> None:
    header = (data.folder / f"{data.name}.item").read_text("utf-8").splitlines()[0]
    assert header == "item_id:token\ttaste:token\tsize:float\ttags:token_seq\tvector:float_seq"
    assert (data.folder / f"{data.name}.user").read_text("utf-8").splitlines()[-1].count("\t") == 4
    model = rs.fit("SSF", data, features={"item": "all", "user": "all"}, rank=8)
    assert {"predict_items", "feature_ridge", "predict_users"} <= model.model.chosen.keys()


def test_a_user_without_edges_ranks_by_features(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keys = {"features": {"user": ["taste"]}, "auto": False, "rank": 8, "cutoff": 4}
    place = {"data_path": str(data.folder.parent)}
    rs.run("SSF", data.name, (), {**keys, **place, "eval_args": {"split": {"CU": [0.7, 0.1, 0.2]}}})
    (checkpoint,) = (tmp_path / "runs").glob("*.pth")
    model = rs.load(checkpoint)
    users = model.users.tokens[1:].to_list()
    cold = [user for user, known in zip(users, model.knows(users), strict=True) if not known]
    assert len(cold) > 5
    for user in cold:
        shown = model.recommend(user, k=3, include_seen=True)
        assert not shown["known"].any()
        for item, score in shown.select("item", "score").rows():
            assert model.explain(user, item).score == pytest.approx(score, rel=1e-4)


def test_an_item_and_a_user_without_edges_are_known_by_their_features(data: Any, tmp_path: Path) -> None:
    given = {"item": ["taste", "tags"], "user": ["taste"]}
    model = rs.fit("SSF", data, features=given, auto=False, rank=8, cutoff=4, dislike_aversion=0.5)
    shown = model.recommend("user 7", k=29)
    liked = [int(each) % 2 for each in shown["item"].to_list()[:10]]
    assert np.mean(liked) > 0.5  # odd ones first
    assert "105" in model.recommend("user 9", k=29)["item"].to_list()
    told = model.explain("user 7", "105")
    assert told.user_features != 0
    total = told.edges["contribution"].sum() + told.user_features + told.popularity
    assert told.score == pytest.approx(total, rel=1e-4, abs=1e-7)
    of_user = told.features.filter(pl.col("of") == "user")["contribution"]
    assert of_user.sum() == pytest.approx(told.user_features, rel=1e-4)
    assert told.features["contribution"].abs().is_sorted(descending=True)
    assert {tuple(row) for row in told.features.select("of", "column").rows()} >= {("user", "taste"), ("item", "tags")}
    assert "Features of item 105 add most: " in told.sentence
    model.save(tmp_path / "model.zip")
    assert rs.load(tmp_path / "model.zip").recommend("user 7", k=5).equals(model.recommend("user 7", k=5))


@pytest.mark.parametrize("side", ["item", "user"])
def test_features_without_a_table_are_refused(side: str, frame: pl.DataFrame) -> None:
    data = rs.from_frame(frame, user="who", item="what", like="rating >= 4", dislike="rating <= 2")
    with pytest.raises(UsageError, match=rf"no table of {side}s; give one to from_frame\(\.\.\., {side}s=\.\.\.\)"):
        rs.fit("SSF", data, features={side: "all"})


def test_lists_are_words_and_lists_of_numbers_may_be_missing(frame: pl.DataFrame) -> None:
    items = table("item").select("what", tags=pl.lit(["Science  fiction", " drama\t", None, ""]))
    data = rs.from_frame(frame, user="who", item="what", like="rating >= 4", dislike="rating <= 2", items=items)
    cells = (data.folder / f"{data.name}.item").read_text("utf-8").splitlines()[1:]
    assert {cell.partition("\t")[2] for cell in cells} == {"Science-fiction drama"}
    assert _text(["Science  fiction", " drama\t", None]) == "Science-fiction drama"
    lists = pl.Series("v", [[1.5, 2.0], None, []], dtype=pl.List(pl.Float32))
    items = pl.DataFrame({"what": [100, 101, 102]}).with_columns(lists)
    data = rs.from_frame(frame, user="who", item="what", like="rating >= 4", items=items)
    lines = (data.folder / f"{data.name}.item").read_text("utf-8").splitlines()
    assert sorted(line.replace('"', "") for line in lines[1:]) == ["100\t1.5 2.0", "101\t", "102\t"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            pl.Series("age", [timedelta(1)]),
            r"column 'age' of the table of items holds Duration\(.*; give numbers, texts",
        ),
        (pl.Series("cover", [b"\xff"]), "column 'cover' of the table of items holds Binary"),
        (pl.Series("tags", [[[1, 2]]]), r"column 'tags' of the table of items holds List\(List"),
        (pl.Series("covers", [[b"\xff"]]), r"column 'covers' of the table of items holds List\(Binary\)"),
        (pl.Series("size", [{"cm": 3}]), r"column 'size' of the table of items holds Struct"),
        (pl.Series("v", [[None, 2.0]]), r"item features, row 1: the list in column 'v' has a place without a finite"),
        (pl.Series("v", [[1.0, float("nan")]]), r"row 1: the list in column 'v' .* fill it, or give no list"),
        (pl.Series("item_id", ["x"]), "the table of items has ids in the columns 'what' and 'item_id'; drop one"),
    ],
)
def test_a_column_that_is_no_feature_is_named(frame: pl.DataFrame, column: pl.Series, message: str) -> None:
    items = pl.DataFrame({"what": ["100"]}).with_columns(column)
    with pytest.raises(UsageError, match=message):
        rs.from_frame(frame, user="who", item="what", like="rating >= 4", items=items)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (table("item").drop("what"), "the table of items has no column 'what' of ids; it has taste"),
        (
            table("item").with_columns(pl.format("item {}", "what").alias("what")),
            "no id of the item features is in the interactions, whose first one is '100'",
        ),
        (
            pl.concat([table("item"), table("item").with_columns(pl.lit("third").alias("taste"))]),
            r"'1?[0-9]+' has several rows, one was expected",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_refused(frame: pl.DataFrame, items: pl.DataFrame, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rs.from_frame(frame, user="who", item="what", like="rating >= 4", dislike="rating <= 2", items=items)
