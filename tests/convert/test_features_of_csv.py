"""Files of items and users beside a file of interactions: names and features of what occurs."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from converted import manifest_of
from refusals import check_refused

from recbole_signed.convert import convert

RATINGS = "userId,movieId,rating\n1,10,5\n1,20,1\n2,10,2\n2,30,4\n"
ITEMS = "movieId,title,year,genres\n10,Alien,1979,Horror|Science Fiction\n20,Jaws,,Thriller\n40,Unseen,1990,Drama\n"
RULE = {"like": "rating >= 4", "dislike": "rating <= 2"}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "ratings.csv").write_text(RATINGS)
    (tmp_path / "items.csv").write_text(ITEMS)
    return tmp_path


def converted(shop: Path, **options: Any) -> Path:
    columns = {"user": "userId", "item": "movieId"}
    return convert("csv", shop / "ratings.csv", shop / "out", overwrite=True, **columns, **RULE, **options)


def lines(folder: Path, side: str) -> list[str]:
    return (folder / f"ratings.{side}").read_text("utf-8").replace('""', "").splitlines()


def test_items_and_users_have_files(shop: Path) -> None:
    folder = converted(shop, items=shop / "items.csv", lists="genres")
    assert lines(folder, "item") == [
        "item_id:token\ttitle:token\tyear:float\tgenres:token_seq",
        "10\tAlien\t1979\tHorror Science-Fiction",
        "20\tJaws\t\tThriller",
    ]
    record = manifest_of(folder)
    assert record["options"]["items"] == "items.csv"
    assert set(record["inputs"]) == {"ratings.csv", "items.csv"}
    (shop / "people.tsv").write_text("User ID\tcountry\tzip\n1.0\tNO\t0150\n2.0\t\t5003\n")
    assert lines(converted(shop, users=str(shop / "people.tsv")), "user") == [
        "user_id:token\tcountry:token\tzip:token",
        "1\tNO\t0150",
        "2\t\t5003",
    ]


def test_a_table_with_types_gives_what_from_frame_does(shop: Path) -> None:
    pl.DataFrame({"movieId": [10, 20], "tags": [["a b", "c"], []], "price": [1.5, None]}).write_parquet(
        shop / "items.parquet"
    )
    assert lines(converted(shop, items=shop / "items.parquet"), "item") == [
        "item_id:token\ttags:token_seq\tprice:float",
        "10\ta-b c\t1.5",
        "20\t\t",
    ]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("id,title\n10,Alien\n", {}, "items.csv has no column 'movieId' of ids"),
        ("movieId,title\n10,Alien\n10,Aliens\n", {}, "items.csv, line 3: movieId '10' has several rows"),
        ("movieId,title\n99,Alien\n", {}, "no id of the item features is in the interactions"),
        ("movieId,title\n10,Alien\n", {"lists": "genre"}, "no file of items or users has such a column"),
        ("", {}, "items.csv is empty"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(shop: Path, text: str, options: dict[str, Any], message: str) -> None:
    (shop / "items.csv").write_text(text)
    check_refused(message, converted, shop, items=shop / "items.csv", **options)


def test_a_file_that_is_not_there_is_refused_before_the_ratings_are_read(shop: Path) -> None:
    (shop / "ratings.csv").write_text("userId,movieId,rating\n1,10,bad\n")
    check_refused(r"item\.csv.*did you mean 'items\.csv'", converted, shop, items=shop / "item.csv")
