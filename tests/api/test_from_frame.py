"""``from_frame``: tables of any kind become data as convert makes it, their columns features."""

import builtins
import gc
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import check_refused

import recbole_signed as rs
from recbole_signed.live.learners.ssf.live_features import _text

RULE = {"like": "rating >= 4", "dislike": "rating <= 2"}
COLUMNS = {"user": "who", "item": "what", "time": "when", **RULE}


def inter_of(data: Any) -> str:
    return (data.folder / f"{data.name}.inter").read_text("utf-8")


@pytest.mark.parametrize("kind", ["lazy", "pandas", "arrow", "record batch reader", "pandas without pyarrow"])
def test_every_kind_of_table_gives_the_rows_of_convert(
    kind: str, frame: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame.write_csv(tmp_path / "ratings.csv")
    expected = rs.convert("csv", tmp_path / "ratings.csv", tmp_path / "out", name="frame", **COLUMNS)
    if kind == "pandas without pyarrow":
        plain = builtins.__import__
        monkeypatch.setattr(pl, "from_pandas", lambda *_: plain("no module of this name"))
    table: Any = {
        "lazy": lambda: frame.lazy(),
        "arrow": lambda: frame.to_arrow(),
        "record batch reader": lambda: frame.to_arrow().to_reader(),
    }.get(kind, lambda: pd.DataFrame(frame.to_dict(as_series=False)))()
    made = rs.from_frame(table, **COLUMNS)
    assert inter_of(made) == (expected / "frame.inter").read_text("utf-8")
    assert made.n_likes + made.n_dislikes + made.n_neutral == frame.height


def test_the_temporary_folder_goes_with_the_data(frame: pl.DataFrame) -> None:
    data = rs.from_frame(frame, **COLUMNS)
    folder = data.folder
    assert folder.is_dir()
    del data
    gc.collect()
    assert not folder.parent.exists()


@pytest.mark.filterwarnings("ignore:the last time")
@given(st.integers(1_000_000_000, 4_000_000_000), st.sampled_from(["s", "ms", "us", "ns"]))
def test_numbers_of_any_unit_are_the_same_moment(second: int, unit: str) -> None:
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    frame = pl.DataFrame({"user": ["a", "b"], "item": [1, 2], "rating": [5, 1], "time": [second * factor] * 2})
    assert f"\t{second}\n" in inter_of(rs.from_frame(frame, **RULE)).replace(".0\n", "\n")


@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_datetimes_are_moments(zone: str | None, unit: Any) -> None:
    moment = datetime(2020, 7, 5, 0, 8, 23, tzinfo=timezone.utc)
    column = pl.Series("time", [moment.replace(tzinfo=None)] * 2, dtype=pl.Datetime(unit))
    if zone is not None:
        column = column.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    frame = pl.DataFrame({"user": ["a", "b"], "item": [1, 2], "rating": [5, 1], "time": column})
    for table in (frame, frame.to_pandas()):
        assert f"{int(moment.timestamp())}" in inter_of(rs.from_frame(table, **RULE))


def small(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame(
        {"user": ["a", "b", "c"], "item": [1, 2, 3], "rating": [5.0, 1.0, 4.0], **columns}, strict=False
    )


BAD: list[tuple[str, Any, dict[str, Any], str]] = [
    ("no table", [1, 2], RULE, "a table was expected, a polars, pandas or Arrow one, not list."),
    ("no file", pl.scan_parquet("nowhere.parquet"), RULE, "the polars table can't be read ("),
    ("no such column", small(), {**RULE, "user": "usr"},
     "'usr'; it has 'user', 'item', 'rating'; did you mean 'user'?"),
    ("no rule", small(), {}, "What is a like was not said"),
    ("a rule on nothing", small(), {"like": "stars >= 4"}, "the frame has no column 'stars'"),
    ("a rule of text", small(), {"like": "rating high"}, "rating high"),
    ("no likes", small(), {"like": "rating >= 9"}, "leaves no likes among 3 rows"),
    ("no dislikes", small(), {"like": "rating >= 4", "dislike": "rating < 0"}, "leaves no dislikes among 3 rows"),
    ("both at once", small(), {"like": "rating >= 4", "dislike": "rating >= 5"}, "the frame, row 1: a like and"),
    ("a missing user", small(user=["a", None, "c"]), RULE, "the frame, row 2: "),
    ("half an item", small(item=[1.0, 2.5, 3.0]), RULE, "the frame, row 2: the id 2.5 in column 'item'"),
    ("ids of lists", small(item=[[1], [2], [3]]), RULE, "column 'item' holds List"),
    ("mixed units", small(time=[1.6e9, 1.6e9, 1.6e12]), RULE, "the frame, row 3: time 1600000000000.0"),
    ("no time", small(time=[1, None, 2]), RULE, "the frame, row 2: no time"),
    ("a wrong sign", small(sign=[1, 2, 0]), {"sign": "sign"}, "the frame, row 2: sign 2"),
    ("sign and rule", small(sign=[1, 1, 0]), {"sign": "sign", **RULE}, "Both sign= and like= were given"),
    ("a bad unit", small(), {**RULE, "time_unit": "min"}, "use one of auto, s, ms, us, ns"),
    ("a bad name", small(), {**RULE, "name": "a/b"}, "can't be the name of a data set"),
    ("a name that no file has", small(), {**RULE, "name": "a\0b"}, "can't be the name of a data set"),
    ("a name that is no text", small(), {**RULE, "name": 5}, "can't be the name of a data set"),
    ("a name that is too long", small(), {**RULE, "name": "x" * 300}, "has 300 bytes; give name of 200 at most"),
    ("several columns in one", pl.DataFrame({"user;item;rating": ["a;x;5"]}), RULE,
     "'user;item;rating' alone; that looks like several columns: read the file with the separator ';'."),
    ("several columns in one, by name", pl.DataFrame({"user\titem": ["a\tx"]}),
     {**RULE, "user": "user", "item": "item"}, "read the file with the separator '\\t'."),
    ("ids in the index", small().to_pandas().set_index(["user", "item"]), RULE,
     "the frame has the column 'rating' alone; its index holds 'user', 'item': give the table with reset_index()."),
    ("a column of the rule in the index", small().to_pandas().set_index("rating"), RULE,
     "no column 'rating'; it has 'user', 'item'; its index holds 'rating': give the table with reset_index()."),
    ("another index", small().to_pandas().rename_axis("row"), {**RULE, "user": "usr"},
     "'usr'; it has 'user', 'item', 'rating'; did you mean 'user'?"),
    ("items whose ids are in the index", small(),
     {**RULE, "items": pd.DataFrame({"item": [1, 2], "genre": ["a", "b"]}).set_index("item")},
     "the table of items has no column 'item' of ids; its index holds 'item': give the table with reset_index()."),
    ("no item column", small().drop("item"), RULE, "give item= the one of the item ids."),
    ("one column of both", small(), {**RULE, "user": "item"},
     "user= and item= are both 'item'; give the column of each."),
    ("no column to keep", small(), {**RULE, "keep": "price"}, "the frame has no column 'price'"),
    ("a number to keep", small(), {**RULE, "keep": 3}, "The option keep is 3; give names"),
    ("a wrong count", small(), {**RULE, "k_core": "many"}, "The option k_core is 'many'; give an integer"),
    ("no columns", pl.DataFrame(), RULE, "the table has no columns"),
    ("items without columns", small(), {**RULE, "items": pl.DataFrame()}, "the table has no columns"),
    ("no rows", small().head(0), RULE, "the frame holds no rows"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "options", "message"), [each[1:] for each in BAD], ids=[each[0] for each in BAD])
def test_bad_input_is_one_sentence(table: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(rs.UsageError, match=re.escape(message)) as caught:
        rs.from_frame(table, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("error")
def test_refused_rows_leave_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    check_refused("row 2", rs.from_frame, small(user=["a", None, "c"]), **RULE)
    assert not list(tmp_path.iterdir())


NAMED = {"user": "userId", "item": "movieId", "rating": "stars", "time": "when", "like": "rating >= 4"}
FIX = "; correct or drop the row, or leave out all bad rows with on_error=skip."


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("userId", None, "no value in column 'userId'" + FIX),
        (
            "movieId",
            "NA",
            "'NA' in column 'movieId', which RecBole reads as no value (rename it to keep the row)" + FIX,
        ),
        ("movieId", "a\tb", r"'a\tb' in column 'movieId' holds a tab"),
        (
            "stars",
            None,
            "no value in column 'stars', the rating needs one in every row"
            + FIX[:-1]
            + ", or keep no ratings with rating=none.",
        ),
        ("stars", "good", "the sign rule needs numbers in column 'stars', got 'good'" + FIX),
        ("stars", float("inf"), "inf in column 'stars', the sign rule needs a finite number" + FIX),
        ("when", None, "no time in column 'when'"),
        ("when", "soon", "time 'soon' in column 'when'"),
        ("when", 1.6e15, "time 1600000000000000.0 in column 'when' is too large"),
    ],
)
@pytest.mark.parametrize("kind", ["polars", "pandas"])
def test_a_bad_row_names_the_column_of_the_table(kind: str, column: str, value: Any, message: str) -> None:
    cells = {"userId": ["a"] * 3, "movieId": ["x"] * 3, "stars": [5.0] * 3, "when": [1.6e9] * 3}
    if isinstance(value, str):
        cells[column] = [str(each) for each in cells[column]]
    cells[column][1] = value
    table = (pl.DataFrame if kind == "polars" else pd.DataFrame)(cells)
    check_refused(re.escape(f"the frame, row 2: {message}"), rs.from_frame, table, **NAMED)


TO_TEXT = r"the column 'user' of the pandas table .*frame\['user'\]\.astype\(str\)"


def test_a_row_or_column_at_fault_is_named() -> None:
    items = pl.DataFrame({"item": [1, None], "genre": ["a", "b"]})
    said = "item features, row 2: no value in column 'item'; correct or drop"
    check_refused(said, rs.from_frame, small(), **RULE, items=items)
    table = pd.DataFrame({"item": [1, 2], "user": [2**70, 2**70 + 1], "rating": [5, 1]})
    check_refused(TO_TEXT, rs.from_frame, table, **RULE)
    table = pd.DataFrame([[1, 1, 2, 5]], columns=["user", "item", "item", "rating"])
    check_refused("the pandas table has several columns 'item'", rs.from_frame, table, **RULE)


@pytest.mark.parametrize("with_arrow", [True, False])
def test_a_column_of_several_types_is_named(with_arrow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not with_arrow:
        plain = builtins.__import__
        monkeypatch.setattr(pl, "from_pandas", lambda *_: plain("no module of this name"))
    table = pd.DataFrame({"item": [1, 2, 3], "user": ["a", 1, 2.0], "rating": [5, 1, 4]})
    check_refused(TO_TEXT, rs.from_frame, table, **RULE)
    assert rs.from_frame(table.assign(user=table["user"].astype(str)), **RULE).n_users == 3


@pytest.mark.parametrize("keep", ["price", ["price"], ("price",), pd.Index(["price"])])
def test_a_column_to_keep_is_one_name_or_several(keep: Any) -> None:
    assert "price:float" in inter_of(rs.from_frame(small(price=[1, 2, 3]), **RULE, keep=keep)).splitlines()[0]


def test_what_is_warned_about_and_left_out() -> None:
    with pytest.warns(UserWarning, match="the last time, 2100-01-01T00:00:00Z, lies in the future"):
        rs.from_frame(small(time=["2020-01-01", "2020-01-02", "2100-01-01"]), **RULE)
    with pytest.warns(UserWarning, match="bad rows|no dislikes") as told:
        data = rs.from_frame(small(item=[1.0, 2.5, 3.0]), **{"like": "rating >= 4", "on_error": "skip"})
    left_out, no_dislikes = (str(each.message) for each in told)
    assert left_out == f"1 bad row was left out; see {data.folder / 'frame.rejected.tsv'}"
    assert (data.folder / "frame.rejected.tsv").exists()
    assert no_dislikes.startswith("no dislikes")
    assert (data.n_likes, data.n_dislikes) == (2, 0)
    assert str(data).endswith("items: 2 likes, 0 dislikes, 0 neutral rows")


def test_cleaning_is_that_of_convert(frame: pl.DataFrame) -> None:
    whole, core = rs.from_frame(frame, **COLUMNS), rs.from_frame(frame, **COLUMNS, k_core=7)
    assert 0 < core.n_users < whole.n_users
    later = timedelta(days=1).total_seconds()
    twice = pl.concat([frame, frame.with_columns(pl.col("when") + int(later), rating=6 - pl.col("rating"))])
    assert rs.from_frame(twice, **COLUMNS, dedup="last").n_likes == whole.n_dislikes
    likes = frame.filter(pl.col("rating") >= 4).group_by("who").len()
    least = int(likes["len"].median() or 0)
    many = likes.filter(pl.col("len") >= least)
    assert 0 < many.height < whole.n_users
    fans = rs.from_frame(frame, **COLUMNS, min_likes=least)
    assert (fans.n_users, fans.n_likes) == (many.height, many["len"].sum())


def test_none_makes_no_dislikes(frame: pl.DataFrame) -> None:
    data = rs.from_frame(frame, **{**COLUMNS, "dislike": "None"})
    assert (data.n_dislikes, data.n_neutral) == (0, frame.height - data.n_likes)


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
    return rs.from_frame(pl.concat([seen, one]), **COLUMNS, items=table("item"), users=table("user").to_pandas())


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
    said = rf"no table of {side}s; give one to from_frame\(\.\.\., {side}s=\.\.\.\)"
    check_refused(said, rs.fit, "SSF", rs.from_frame(frame, **COLUMNS), features={side: "all"})


def test_features_are_refused_by_a_model_that_reads_none(data: Any) -> None:
    check_refused("EASE reads no features; leave", rs.fit, "EASE", data, features={"item": "all"})


def test_lists_are_words_and_lists_of_numbers_may_be_missing(frame: pl.DataFrame) -> None:
    items = table("item").select("what", tags=pl.lit(["Science  fiction", " drama\t", None, ""]))
    data = rs.from_frame(frame, **COLUMNS, items=items)
    cells = (data.folder / f"{data.name}.item").read_text("utf-8").splitlines()[1:]
    assert {cell.partition("\t")[2] for cell in cells} == {"Science-fiction drama"}
    assert _text(["Science  fiction", " drama\t", None]) == "Science-fiction drama"
    lists = pl.Series("v", [[1.5, 2.0], None, []], dtype=pl.List(pl.Float32))
    items = pl.DataFrame({"what": [100, 101, 102]}).with_columns(lists)
    data = rs.from_frame(frame, **COLUMNS, items=items)
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
    check_refused(message, rs.from_frame, frame, **COLUMNS, items=items)


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
    check_refused(message, rs.from_frame, frame, **COLUMNS, items=items)
