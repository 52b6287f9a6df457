"""Layouts of MovieLens and KuaiRand that the tests of these sources leave out, with the authors' column names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from converted import manifest_of, table_of

from recbole_signed.convert import convert
from recbole_signed.convert.sources.movielens import _GENRES
from recbole_signed.errors import UsageError

LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)


def item_line(number: int, title: str, *genres: str) -> str:
    flags = "|".join("1" if genre in genres else "0" for genre in _GENRES)
    return f"{number}|{title}|01-Jan-1995||http://us.imdb.com/M/title-exact?{number}|{flags}"


@pytest.fixture
def ml_100k(tmp_path: Path) -> Path:
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    (folder / "u.data").write_text("196\t242\t3\t881250949\n186\t302\t4\t881250948\n22\t377\t1\t878887116\n")
    (folder / "u.user").write_text("22|25|M|writer|40206\n186|39|F|executive|00000\n196|49|M|writer|55105\n9|1|M|x|1\n")
    lines = [
        item_line(242, "Kolya (1996)", "Comedy"),
        item_line(302, "Misérables, Les (1995)", "Drama", "Musical"),
        item_line(377, "Heavyweights", "Children's", "Comedy"),
        "267|unknown||||" + "|".join("1" if genre == "unknown" else "0" for genre in _GENRES),
    ]
    (folder / "u.item").write_bytes("\n".join(lines).encode("latin-1"))
    return folder


def test_movielens_100k_as_grouplens_packs_it(tmp_path: Path, ml_100k: Path) -> None:
    made = convert("movielens-100k", ml_100k, tmp_path / "out")
    assert table_of(made / "ml-100k-signed.inter")[1:] == [
        ["22", "377", "1", "-1", "878887116"],
        ["186", "302", "4", "1", "881250948"],
        ["196", "242", "3", "0", "881250949"],
    ]
    # the columns are those of the files in RecBole's wheel
    assert table_of(made / "ml-100k-signed.user") == [
        ["user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token"],
        ["22", "25", "M", "writer", "40206"],
        ["186", "39", "F", "executive", "00000"],
        ["196", "49", "M", "writer", "55105"],
    ]
    assert table_of(made / "ml-100k-signed.item") == [
        ["item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"],
        ["242", "Kolya", "1996", "Comedy"],
        ["302", "Misérables, Les", "1995", "Drama Musical"],
        ["377", "Heavyweights", "unknown", "Children's Comedy"],
    ]
    assert set(manifest_of(made)["inputs"]) == {"u.data", "u.user", "u.item"}
    (ml_100k / "u.item").write_text(item_line(242, "Kolya (1996)").replace("|0|", "|2|", 1))
    with pytest.raises(UsageError, match=r"u.item, line 1: genre unknown is '2', 0 or 1 was expected"):
        convert("movielens-100k", ml_100k, tmp_path / "bad")


def test_movielens_100k_with_a_header_that_was_not_made_by_recbole(tmp_path: Path) -> None:
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    (folder / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t5\t3\n1\t3\t1\t4\n"
    )
    (folder / "ml-100k.item").write_text("item_id\ttitle\n2\tHeat\n3\tKolya\n")
    made = convert("movielens-100k", folder, tmp_path / "out")
    assert table_of(made / "ml-100k-signed.item")[0] == ["item_id:token", "title:token"]
    (folder / "ml-100k.item").write_bytes(b"item_id:token\ttitle:token\n2\tAm\xe9lie\n")
    with pytest.raises(UsageError, match=r"ml-100k.item, line 2: byte 0xe9 is not utf-8"):
        convert("movielens-100k", folder, tmp_path / "bad")


def test_genres_of_100k_are_those_in_recboles_wheel(tmp_path: Path) -> None:
    made = convert("movielens-100k", None, tmp_path)
    found = {genre for row in table_of(made / "ml-100k-signed.item")[1:] for genre in row[3].split()}
    assert found == set(_GENRES)


@pytest.mark.parametrize("name", ["ml-20m", "ml-25m", "ml-32m", "ml-latest-small"])
def test_movielens_of_half_stars(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n1,31,2.0,1260759144\n1,29,3.5,1112486027\n2,29,5.0,9\n"
    )
    (folder / "movies.csv").write_text(
        'movieId,title,genres\n29,"City of Lost Children, The (Cité des enfants perdus, La) (1995)",Adventure|Sci-Fi\n'
        "31,Dangerous Minds (1995),Drama\n",
        encoding="utf-8",
    )
    (folder / "tags.csv").write_text("userId,movieId,tag,timestamp\n1,29,dark,1\n")
    (folder / "links.csv").write_text("movieId,imdbId,tmdbId\n29,0112682,902\n")
    made = convert("movielens", folder, tmp_path / "out")
    assert made.name == name
    assert table_of(made / f"{name}.inter")[1:] == [
        ["2", "29", "5", "1", "9"],
        ["1", "29", "3.5", "0", "1112486027"],
        ["1", "31", "2", "-1", "1260759144"],
    ]
    assert table_of(made / f"{name}.item") == [
        ["item_id:token", "movie_title:token_seq", "release_year:token", "genre:token_seq"],
        ["29", "City of Lost Children, The (Cité des enfants perdus, La)", "1995", "Adventure Sci-Fi"],
        ["31", "Dangerous Minds", "1995", "Drama"],
    ]


def test_movielens_10m(tmp_path: Path) -> None:
    folder = tmp_path / "ml-10M100K"
    folder.mkdir()
    (folder / "ratings.dat").write_text("1::122::5::838985046\n1::185::2.5::838983525\n2::122::0.5::838983392\n")
    (folder / "movies.dat").write_text(
        "122::Boomerang (1992)::Comedy|Romance\n185::Élan (1995)::Action\n", encoding="utf-8"
    )
    (folder / "tags.dat").write_text("15::4973::excellent!::1215184630\n")
    made = convert("movielens", folder, tmp_path / "out")
    assert [row[2:4] for row in table_of(made / "ml-10M100K.inter")[1:]] == [["0.5", "-1"], ["2.5", "0"], ["5", "1"]]
    assert table_of(made / "ml-10M100K.item")[2] == ["185", "Élan", "1995", "Action"]


def log_line(user: int, video: int, time: int, click: int, view: int) -> str:
    return f"{user},{video},20220508,2300,{time},{click},0,0,0,0,0,{view},100,9000,0,0,0,0,1"


@pytest.mark.parametrize(
    ("version", "logs", "features"),
    [
        ("1k", ["log_standard_4_08_to_4_21_1k", "log_standard_4_22_to_5_08_1k"], ["video_features_basic_1k"]),
        (
            "27k",
            [f"log_standard_{days}_27k_part{part}" for days in ("4_08_to_4_21", "4_22_to_5_08") for part in (1, 2)],
            ["video_features_basic_27k"],
        ),
    ],
)
def test_kuairand_1k_and_27k(tmp_path: Path, version: str, logs: list[str], features: list[str]) -> None:
    data = tmp_path / f"KuaiRand-{version.upper()}" / "data"
    data.mkdir(parents=True)
    for number, log in enumerate(logs):
        lines = [log_line(number, 10 + number, 1649347200000 + number, 1, 0), log_line(number, 3, 1649347210000, 0, 1)]
        (data / f"{log}.csv").write_text("\n".join([LOG, *lines]))
    (data / f"log_random_4_22_to_5_08_{version}.csv").write_text("\n".join([LOG, log_line(0, 3, 1650844800000, 1, 1)]))
    (data / f"user_features_{version}.csv").write_text("user_id,user_active_degree,follow_user_num\n0,full_active,5\n")
    for name in features:
        (data / f"{name}.csv").write_text('video_id,author_id,video_duration,tag\n3,4,9000.0,"12,65"\n99,4,1.0,1\n')
    statistic = "video_features_statistic_1k" if version == "1k" else "video_features_statistic_27k_part1"
    (data / f"{statistic}.csv").write_text("video_id,show_cnt\n3,100\n")
    made = convert("kuairand", data.parent, tmp_path / "out")
    assert made.name == f"KuaiRand-{version.upper()}"
    assert manifest_of(made)["rows"] == {"total": 2 * len(logs), "like": len(logs), "dislike": len(logs), "neutral": 0}
    assert table_of(made / f"{made.name}.inter")[1][:4] == ["0", "10", "1", "1649347200"]
    assert table_of(made / f"{made.name}.user")[1:] == [["0", "full_active", "5"]]
    assert table_of(made / f"{made.name}.item")[1:] == [["3", "4", "9000", "12 65"]]
    assert {Path(name).name for name in manifest_of(made)["inputs"]} == {
        *(f"{log}.csv" for log in logs),
        f"user_features_{version}.csv",
        *(f"{name}.csv" for name in features),
    }
    alone = convert("kuairand", data, tmp_path / "named", log="all")
    assert alone.name == f"kuairand-{version}"
    assert manifest_of(alone)["rows"]["total"] == 2 * len(logs) + 1


SEQUENCES = {
    "user_id": [0, 7, 8],
    "history_len": [9, 2, 0],
    "last_time_ms": [1650800000000, 1650814000000, 1650700000000],
    "watch_seq": [[30, 31, 30, 32], [31, 40], []],
    "like_seq": [[], [31], []],
    "long_watch_seq": [[30, 30], [40, 99], []],
}


@pytest.fixture
def tail(tmp_path: Path) -> Path:
    folder = tmp_path / "tail"
    folder.mkdir()
    lines = [log_line(0, 30, 1650812741436, 1, 0), log_line(7, 31, 1650900000000, 0, 1)]
    (folder / "log_standard_4_25_to_5_08_pure.csv").write_text("\n".join([LOG, *lines]))
    pl.DataFrame(SEQUENCES).write_parquet(folder / "user_sequences.parquet")
    return folder


def test_history_of_kuairand(tmp_path: Path, tail: Path) -> None:
    made = convert("kuairand", tail, tmp_path / "out", history=True, signal="long_view")
    header, *rows = table_of(made / "tail.inter")
    assert header == [
        "user_id:token",
        "item_id:token",
        "sign:float",
        "timestamp:float",
        "long_view:float",
        "is_history:float",
    ]
    assert rows == [
        ["0", "30", "1", "1650812737.436", "1", "1"],
        ["0", "31", "-1", "1650812738.436", "0", "1"],
        ["0", "30", "1", "1650812739.436", "1", "1"],
        ["7", "31", "-1", "1650812739.436", "0", "1"],
        ["0", "32", "-1", "1650812740.436", "0", "1"],
        ["7", "40", "1", "1650812740.436", "1", "1"],
        ["0", "30", "-1", "1650812741.436", "0", "0"],
        ["7", "31", "1", "1650900000", "1", "0"],
    ]
    assert "user_sequences.parquet" in manifest_of(made)["inputs"]
    later = tail / "log_standard_5_09_to_5_10_pure.csv"  # before the first of all logs
    later.write_text("\n".join([LOG, log_line(7, 32, 1652100000000, 0, 1)]))
    made = convert("kuairand", tail, tmp_path / "two", history=True, signal="long_view")
    assert table_of(made / "tail.inter")[1:] == [*rows, ["7", "32", "1", "1652100000", "1", "0"]]
    later.unlink()
    made = convert("kuairand", tail, tmp_path / "bare", history="yes", signal="long_view", keep="")
    assert len(table_of(made / "tail.inter")[0]) == 4
    assert "user_sequences.parquet" not in manifest_of(convert("kuairand", tail, tmp_path / "without"))["inputs"]


def test_bad_histories(tmp_path: Path, tail: Path) -> None:
    def refuse(message: str, raw: Path = tail, **options: Any) -> None:
        with pytest.raises(UsageError, match=message):
            convert("kuairand", raw, tmp_path / "out", history=True, **{"signal": "long_view", **options})
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())

    refuse("history=true needs signal=long_view, .* signal is click", signal="click")
    refuse("keep='tab' is not known of the history; with history=true keep long_view or is_history", keep="tab")
    refuse("keep='watch' is not a signal of KuaiRand", keep="watch")
    refuse("needs a folder that holds the log and user_sequences.parquet", tail / "log_standard_4_25_to_5_08_pure.csv")
    path = tail / "user_sequences.parquet"
    frame = pl.DataFrame(SEQUENCES)
    for changed, message in (
        (frame.with_columns(last_time_ms=pl.lit(1650900000000)), "3 of 3 histories end after the log begins"),
        (
            frame.with_columns(watch_seq=pl.lit("30")),
            "column 'watch_seq' holds String, lists of integers were expected",
        ),
        (
            frame.with_columns(user_id=pl.Series([0, None, 8])),
            "user_sequences.parquet, row 2: no value in column 'user_id'",
        ),
        (
            frame.with_columns(watch_seq=pl.Series([[30], [31, None], []])),
            "user_sequences.parquet, row 2: no value in a list of column 'watch_seq'",
        ),
        (frame.drop("long_watch_seq"), "has no column 'long_watch_seq'"),
    ):
        changed.write_parquet(path)
        refuse(message)
    frame.write_parquet(path)
    log = tail / "log_standard_4_25_to_5_08_pure.csv"
    log.write_text("\n".join([LOG, log_line(0, 30, "", 1, 0)]))
    refuse("has no row with a time in time_ms, which the history must lie before", on_error="skip")
    path.unlink()
    refuse("holds no history of KuaiRand, user_sequences.parquet was expected")


def test_history_of_the_real_tail(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    made = convert("kuairand", shared_data("kuairand-pure-tail"), tmp_path, history=True, signal="long_view")
    frame = pl.read_csv(made / f"{made.name}.inter", separator="\t")
    frame = frame.rename(lambda name: name.split(":")[0])
    old = frame.filter(pl.col("is_history") == 1)
    assert (frame.height, old.height) == (228_329 + 817_187, 817_187)
    assert old["timestamp"].max() < frame.filter(pl.col("is_history") == 0)["timestamp"].min()
    sequences = pl.read_parquet(shared_data("kuairand-pure-tail") / "user_sequences.parquet")
    for user, watched in sequences.select("user_id", "watch_seq").head(40).rows():
        assert old.filter(pl.col("user_id") == user)["item_id"].to_list() == watched
