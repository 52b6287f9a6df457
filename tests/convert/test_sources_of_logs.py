"""The sources of what was watched, played, clicked or recommended, on small files in the layout of their authors."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from converted import Raw, manifest_of, table_of

from recbole_signed.convert import convert


def csv(*rows: str) -> str:
    return "".join(f"{row}\n" for row in rows)


KUAIREC = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio"
WATCHED = [
    "14,148,4381,6067,2020-07-05 05:27:48.378,20200705.0,1593898068.378,0.722103",
    "14,183,11635,6100,2020-07-05 05:28:00.057,20200705.0,1593898080.057,1.907377",
    "14,3649,22422,10867,2020-07-05 05:29:09.479,20200705.0,1593898149.479,2.063311",
    "14,5262,448,7908,2020-07-05 05:30:43.285,20200705.0,1593898243.285,0.056651",
]


def test_kuairec(tmp_path: Path) -> None:
    files = {
        "data/small_matrix.csv": csv(KUAIREC, *WATCHED, "19,5262,44800,7908,,,,5.665"),
        "data/big_matrix.csv.gz": csv(KUAIREC, *WATCHED),
        "data/item_categories.csv": 'video_id,feat\n148,[8]\n183,"[27, 9]"\n3649,[]\n5262,[1]\n7,[2]\n',
    }
    raw = Raw(tmp_path / "KuaiRec", "kuairec", files)
    header, first, *_ = table_of(raw.made() / "kuairec-small.inter")
    assert header[:4] == ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
    assert header[4:] == ["play_duration:float", "video_duration:float", "watch_ratio:float"]
    assert first == ["14", "148", "0", "1593898068.378", "4381", "6067", "0.722103"]
    assert raw.signs() == "0 0 1 -1"
    assert raw.rows(suffix="item") == ["148|8", "183|27 9", "3649|unknown", "5262|1"]
    assert raw.signs(matrix="big", pos_ratio=1.5, neg_ratio=0.8, between="drop") == "-1 1 1 -1"
    made = raw.made(matrix="big", pos_ratio=1.907377, neg_ratio=0.722103)
    assert [row[2] for row in table_of(made / "kuairec-big.inter")[1:]] == ["0", "0", "1", "-1"], "more, or less, than"
    assert raw.signs("data/small_matrix.csv", undated="keep") == "0 0 1 -1 1"
    undated = raw.made("data/small_matrix.csv", undated="keep")
    assert "timestamp:float" not in table_of(undated / "kuairec-small.inter")[0]
    assert not (undated / "kuairec-small.item").exists()
    raw.refuses("0 < neg_ratio <= pos_ratio was expected", neg_ratio=3)
    raw.refuses("There is no input", "other")
    Raw(tmp_path / "empty", "kuairec", {}).refuses("holds no matrix of KuaiRec, small_matrix.csv was expected")


START = datetime(2023, 3, 18, 11, 43, 57, 856000)
PLAYS = [(1938823, 23.999992), (5, 60.0), (5, 60.5), (6, 14.5), (6, 15.0), (7, 300.0)]
ZVUK = pl.DataFrame(
    [(user, 2200336 + n, START + timedelta(seconds=n), 1242546 + n, s) for n, (user, s) in enumerate(PLAYS)],
    schema={
        **{"user_id": pl.Int32, "session_id": pl.Int32, "datetime": pl.Datetime("ns")},
        **{"track_id": pl.Int32, "play_duration": pl.Float32},
    },
    orient="row",
)


def test_zvuk(tmp_path: Path) -> None:
    raw = Raw(tmp_path / "raw", "zvuk", {"zvuk-interactions.parquet": ZVUK})
    header, *rows = table_of(raw.made() / "zvuk.inter")
    assert header[:4] == ["user_id:token", "item_id:token", "sign:float", "timestamp:float"]
    assert header[4:] == ["play_duration:float", "session_id:token"]
    assert rows[2] == ["5", "1242548", "1", "1679139839.856", "60.5", "2200338"]
    assert raw.signs() == "0 0 1 -1 0 1"
    assert raw.signs("zvuk-interactions.parquet", between="drop") == "1 -1 1"
    assert raw.signs(like_s=20, dislike_s=20) == "1 1 1 -1 -1 1"
    raw.refuses("0 < dislike_s <= like_s was expected", like_s=10)
    Raw(tmp_path / "empty", "zvuk", {}).refuses("holds no interactions of Zvuk, zvuk-interactions.parquet was expected")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"play_duration": [1.0, None, 2.0, 3.0, 4.0, 100.0]}, "row 2: no value in column 'play_duration'"),
        ({"play_duration": [1.0, 2.0, -2.0, 3.0, 4.0, 100.0]}, "row 3: play_duration -2, seconds were expected"),
        ({"play_duration": ["long"] * 6}, "row 1: the sign rule needs numbers in column 'play_duration'"),
        ({"datetime": [None, *[START] * 5]}, "row 1: no time in column 'datetime'"),
        ({"track_id": [1, 2, 3, 4, 5, None]}, "row 6: no value in column 'item_id'"),
    ],
)
def test_bad_rows_of_zvuk(tmp_path: Path, column: dict[str, list[Any]], message: str) -> None:
    frame = ZVUK.with_columns(**{name: pl.Series(values) for name, values in column.items()})
    Raw(tmp_path / "raw", "zvuk", {"zvuk-interactions.parquet": frame}).refuses(f"zvuk-interactions.parquet, {message}")


TENREC = "user_id,item_id,click,follow,like,share,video_category,watching_times,gender,age,hist_1,hist_2"
EXPOSED = [f"{row},1,3,0,0" for row in ("1,10,1,0,0,0,1,2", "1,11,0,0,0,0,0,0", "2,10,1,0,1,0,1,5")]


def test_tenrec(tmp_path: Path) -> None:
    raw = Raw(tmp_path / "raw", "tenrec", {"QK-video.csv.gz": csv(TENREC, *EXPOSED)})
    for signal, signs in (("click", "1 -1 1"), ("like", "0 -1 1")):
        made = raw.made("QK-video.csv.gz", signal=signal)
        header, *rows = table_of(made / "QK-video.inter")
        counts = [f"{name}:float" for name in ("click", "follow", "like", "share", "watching_times")]
        assert header == ["user_id:token", "item_id:token", "sign:float", *counts, "video_category:token"]
        assert " ".join(row[2] for row in rows) == signs
        assert rows[2] == ["2", "10", signs.split()[2], "1", "0", "1", "0", "5", "1"]
        assert "TIME_FIELD" not in (made / "QK-video.yaml").read_text()
    articles = Raw(tmp_path / "b", "tenrec", {"QB-article.csv": "user_id,item_id,click,read_time\n1,2,1,9\n1,3,0,0\n"})
    assert articles.rows() == ["1|2|1|1", "1|3|-1|0"]
    articles.refuses("QB-article.csv has no column 'like'", signal="like")
    articles.write({"QK-video.csv": csv(TENREC, *EXPOSED)})
    articles.refuses("holds QB-article.csv and QK-video.csv; give the file that you want to use")
    Raw(tmp_path / "empty", "tenrec", {}).refuses("holds no file of Tenrec, QK-video.csv or")


def player(name: str, *reviews: tuple[Any, Any, Any]) -> str:
    rest = {"funny": "", "last_edited": "", "review": "it's \"good\",\tor\x85 isn't\u2028 it"}
    written = [{"posted": posted, "item_id": item, "recommend": recommend} for item, recommend, posted in reviews]
    return repr({"user_id": name, "user_url": f"http://{name}", "reviews": [{**rest, **each} for each in written]})


STEAM = "australian_user_reviews.json"
PLAYERS = [
    player("76561197970982479", ("1250", True, "Posted November 5, 2011."), ("22200", True, "Posted July 15, 2011.")),
    player("js41637"),
    player("évan", ("1250", False, "Posted July 10."), ("43110", False, "Posted February 3, 2014.")),
]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_steam(tmp_path: Path, suffix: str) -> None:
    raw = Raw(tmp_path / "raw", "steam", {f"{STEAM}{suffix}": csv(*PLAYERS)})
    assert raw.rows() == [
        *("76561197970982479|22200|1|1310688000", "76561197970982479|1250|1|1320451200", "évan|43110|-1|1391385600")
    ]
    assert raw.rows(f"{STEAM}{suffix}", undated="keep") == [
        *("76561197970982479|1250|1", "76561197970982479|22200|1", "évan|1250|-1", "évan|43110|-1")
    ]
    made = raw.made()
    assert (made.name, manifest_of(made)["sign_rule"]["dislike"]) == ("steam", "recommend == 0")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{'user_id': 'a', 'reviews': [", "not a Python dict"),
        ("__import__('os').getcwd()", "not a Python dict"),
        ('{"user_id": "a", "reviews": [{"item_id": "1", "recommend": true, "posted": ""}]}', "not a Python dict"),
        ("[1, 2]", "a dict with 'user_id' and a list of 'reviews' was expected"),
        (repr({"user_id": "a"}), "a dict with 'user_id' and a list"),
        (player("a", ("1", "yes", "Posted July 15, 2011.")), "'recommend' of a review is 'yes'; reviews have"),
        (player("a", (None, True, "Posted July 15, 2011.")), "'item_id' of a review is None"),
        (player("a", ("1", True, "Posted Juli 15, 2011.")), "posted 'Posted Juli 15, 2011.', a date like"),
        (player("a", ("1", True, "")), "posted '', a date like"),
        (player("a", ("", True, "Posted July 15, 2011.")), "no value in column 'item_id'"),
        (repr({"user_id": "a", "reviews": [5]}), "'user_id' of a review is 5; reviews have"),
        ("{'user_id': 'a', 'reviews': [{[]: 1}]}", "not a Python dict"),
        (player("a\ud800", ("1", True, "Posted July 15, 2011.")), r"'user_id' of a review is 'a\\ud800'; reviews have"),
    ],
)
def test_bad_lines_of_steam(tmp_path: Path, bad: str, message: str) -> None:
    Raw(tmp_path / "raw", "steam", {STEAM: csv(*PLAYERS, "", bad)}).refuses(f"{STEAM}, line 5: {message}")


LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
ROWS = [
    # the order of time_ms is not that of date and hourmin
    "712,5239,20220425,0,1650812741436,1,0,0,0,0,0,1,61802,49866,0,0,0,0,1",
    "0,5543,20220430,1800,1651314030792,0,0,0,0,0,0,0,863,30066,0,0,0,1,1",
    "0,5239,20220426,1300,1650900000000,1,1,0,0,0,0,0,9000,49866,0,0,0,0,2",
    "0,17,20220501,900,1651400000500,0,0,0,0,0,1,0,5000,30000,0,0,0,0,1",
    "712,17,20220502,900,1651500000000,1,1,0,0,0,1,0,100,0,0,0,0,0,1",
    "712,18,20220502,900,1651500000001,0,0,0,0,0,0,0,5000,30000,0,0,0,0,1",
]
FIRST, SECOND = "data/log_standard_4_08_to_4_21_pure.csv", "data/log_standard_4_22_to_5_08_pure.csv.xz"


def view(user: int, video: int, time: Any, click: int, long_view: int) -> str:
    return f"{user},{video},20220508,2300,{time},{click},0,0,0,0,0,{long_view},100,9000,0,0,0,0,1"


@pytest.fixture
def pure(tmp_path: Path) -> Raw:
    users = "user_id,user_active_degree,follow_user_num,follow_user_num_range,onehot_feat4"
    videos = "video_id,author_id,video_type,upload_dt,video_duration,music_type,tag"
    files = {
        FIRST: csv(LOG, *ROWS[:1]),
        SECOND: csv(LOG, *ROWS[1:]),
        "data/log_random_4_22_to_5_08_pure.csv": csv(LOG, "5,6,20220425,0,1650812741436,1,0,0,0,0,0,1,6,4,0,0,0,1,0"),
        "data/user_features_pure.csv.gz": csv(
            users, '0,full_active,514,"(250,500]",1.0', "712,UNKNOWN,0,0,", "9,full_active,1,0,2.0"
        ),
        "data/video_features_basic_pure.csv": csv(
            videos,
            *('17,1,NORMAL,2022-04-10,87433.0,9.0,"12,65"', "5239,2,AD,2022-04-11,,,"),
            *("5543,2,AD,2022-04-11,5.5,4.0,3", "18,1,AD,2022-04-11,5.0,4.0,3"),
        ),
    }
    return Raw(tmp_path / "KuaiRand-Pure", "kuairand", files)


@pytest.mark.parametrize(
    ("signal", "signs"),
    [
        ("click", "1 1 -1 -1 1 -1"),
        ("long_view", "1 -1 -1 -1 -1 -1"),
        ("explicit", "0 1 0 -1 0 0"),
        ("explicit+skip", "0 1 -1 -1 0 0"),
    ],
)
def test_signals_of_kuairand(pure: Raw, signal: str, signs: str) -> None:
    assert pure.signs(signal=signal) == signs
    pairs = ["|".join(row.split("|")[:2]) for row in pure.rows(signal=signal)]
    assert pairs == ["712|5239", "0|5239", "0|5543", "0|17", "712|17", "712|18"]


def test_what_was_liked_without_a_click_was_not_skipped(tmp_path: Path) -> None:
    log = csv(LOG, ROWS[0], "0,5543,20220430,1800,1651314030792,0,1,0,0,0,0,0,863,30066,0,0,0,1,1", ROWS[1])
    raw = Raw(tmp_path / "raw", "kuairand", {"log_standard_x_1k.csv": log})
    assert raw.made("log_standard_x_1k.csv").name == "kuairand-1k"
    assert raw.signs("log_standard_x_1k.csv", signal="explicit+skip") == "0 1 -1"


def test_rows_times_and_features_of_kuairand(pure: Raw) -> None:
    made = pure.made("data")
    assert made.name == "kuairand-pure"
    header, *rows = table_of(made / "kuairand-pure.inter")
    assert [row[3] for row in rows][:4] == ["1650812741.436", "1650900000", "1651314030.792", "1651400000.5"]
    assert "tab:token" in header
    assert dict(zip((field.split(":")[0] for field in header), rows[1], strict=True)) == {
        **{"user_id": "0", "item_id": "5239", "sign": "1", "timestamp": "1650900000"},
        **dict.fromkeys(("is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter"), "0"),
        **dict.fromkeys(("profile_stay_time", "comment_stay_time", "is_rand"), "0"),
        **{"is_click": "1", "is_like": "1", "play_time_ms": "9000", "duration_ms": "49866", "tab": "2"},
    }
    assert (made / "kuairand-pure.user").read_text().splitlines() == [
        "user_id:token\tuser_active_degree:token\tfollow_user_num:float\tfollow_user_num_range:token"
        "\tonehot_feat4:token",
        "0\tfull_active\t514\t(250,500]\t1",
        "712\tUNKNOWN\t0\t0\tunknown",
    ]
    assert (made / "kuairand-pure.item").read_text().splitlines() == [
        "item_id:token\tauthor_id:token\tvideo_type:token\tupload_dt:token\tvideo_duration:float"
        "\tmusic_type:token\ttag:token_seq",
        "17\t1\tNORMAL\t2022-04-10\t87433\t9\t12 65",
        "5239\t2\tAD\t2022-04-11\t0\tunknown\tunknown",
        "5543\t2\tAD\t2022-04-11\t5.5\t4\t3",
        "18\t1\tAD\t2022-04-11\t5\t4\t3",
    ]
    assert len(manifest_of(made)["inputs"]) == 4


def test_logs_and_kept_columns_of_kuairand(pure: Raw) -> None:
    made = pure.made(log="all", keep="tab")
    assert manifest_of(made)["rows"]["total"] == len(ROWS) + 1
    assert [field.split(":")[0] for field in table_of(made / "KuaiRand-Pure.inter")[0]] == [
        *("user_id", "item_id", "sign", "timestamp", "tab")
    ]
    made = pure.made(SECOND, keep="")
    assert made.name == "kuairand-pure"
    assert manifest_of(made)["rows"]["total"] == len(ROWS) - 1
    assert not (made / "kuairand-pure.user").exists()
    # what was played for just so long was not skipped
    for skip_ms, dislikes in ((500, 1), (863, 1), (864, 2)):
        rows = manifest_of(pure.made(signal="explicit+skip", skip_ms=skip_ms))["rows"]
        assert rows == {"total": 6, "like": 1, "dislike": dislikes, "neutral": 5 - dislikes}


def test_bad_folders_and_options_of_kuairand(tmp_path: Path, pure: Raw) -> None:
    Raw(tmp_path / "empty", "kuairand", {}).refuses("holds no log_standard_.*csv")
    pure.refuses("keep='clicks' is not a signal", keep="clicks")
    pure.refuses("use one of click, long_view", signal="hate")
    twice = "holds log_standard_.*csv and log_standard_.*csv; keep one of them"
    whole, first = csv(LOG, *ROWS), csv(LOG, *ROWS[:1])
    for name, text, message in (
        (FIRST.replace("pure", "1k"), whole, "several versions .1k, pure."),
        (f"{FIRST}.gz", whole, "holds log_standard_4_08_to_4_21_pure.csv and log_standard_4_08_to_4_21_pure.csv.gz"),
        (FIRST.replace(".csv", " (1).csv"), first, twice),
        ("data/log_standard_old.csv", first, twice),
        (FIRST.replace(".csv", "(2).csv"), first[:300], twice),
    ):
        pure.write({name: text})
        pure.refuses(message)
        (pure.folder / name).unlink()
    pure.write({FIRST: "user_id,item_id,time_ms\n1,2,3\n"})
    pure.refuses("has no column 'video_id'")
    (pure.folder / SECOND).write_bytes((pure.folder / SECOND).read_bytes()[:-9])
    pure.refuses("is not a whole .xz file", SECOND)


def test_the_real_tail_of_kuairand(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    made = convert("kuairand", shared_data("kuairand-pure-tail"), tmp_path, signal="click")
    record = manifest_of(made)
    assert record["rows"] == {"total": 228_329, "like": 100_900, "dislike": 127_429, "neutral": 0}
    assert (record["users"], record["items"]) == (25_156, 6_361)
    assert (record["repeated_rows"], record["contradicting_pairs"]) == (7_441, 287)
    assert set(record["fields"]) == {"inter", "user", "item"}
    with (made / "kuairand-pure-tail.item").open() as file:
        assert sum(1 for _ in file) == 6_361 + 1


@pytest.mark.parametrize(("version", "parts"), [("1k", [""]), ("27k", ["_part1", "_part2"])])
def test_kuairand_1k_and_27k(tmp_path: Path, version: str, parts: list[str]) -> None:
    days = ("4_08_to_4_21", "4_22_to_5_08")
    logs = [f"data/log_standard_{each}_{version}{part}.csv" for each in days for part in parts]
    read = {
        log: csv(LOG, view(n, 10 + n, 1649347200000 + n, 1, 0), view(n, 3, 1649347210000, 0, 1))
        for n, log in enumerate(logs)
    }
    read[f"data/user_features_{version}.csv"] = "user_id,user_active_degree,follow_user_num\n0,full_active,5\n"
    read[f"data/video_features_basic_{version}.csv"] = csv(
        "video_id,author_id,video_duration,tag", '3,4,9000.0,"12,65"', "99,4,1.0,1"
    )
    not_read = {
        f"data/log_random_4_22_to_5_08_{version}.csv": csv(LOG, view(0, 3, 1650844800000, 1, 1)),
        f"data/video_features_statistic_{version}{parts[0]}.csv": "video_id,show_cnt\n3,100\n",
    }
    raw = Raw(tmp_path / f"KuaiRand-{version.upper()}", "kuairand", read | not_read)
    made = raw.made()
    assert made.name == f"KuaiRand-{version.upper()}"
    n = len(logs)
    assert manifest_of(made)["rows"] == {"total": 2 * n, "like": n, "dislike": n, "neutral": 0}
    assert raw.rows()[0].startswith("0|10|1|1649347200|")
    assert raw.rows(suffix="user") == ["0|full_active|5"]
    assert raw.rows(suffix="item") == ["3|4|9000|12 65"]
    assert set(manifest_of(made)["inputs"]) == set(read)
    alone = raw.made("data", log="all")
    assert alone.name == f"kuairand-{version}"
    assert manifest_of(alone)["rows"]["total"] == 2 * n + 1


SEQUENCES = pl.DataFrame(
    {
        "user_id": [0, 7, 8],
        "history_len": [9, 2, 0],
        "last_time_ms": [1650800000000, 1650814000000, 1650700000000],
        "watch_seq": [[30, 31, 30, 32], [31, 40], []],
        "like_seq": [[], [31], []],
        "long_watch_seq": [[30, 30], [40, 99], []],
    }
)
TAIL = "log_standard_4_25_to_5_08_pure.csv"


@pytest.fixture
def tail(tmp_path: Path) -> Raw:
    log = csv(LOG, view(0, 30, 1650812741436, 1, 0), view(7, 31, 1650900000000, 0, 1))
    return Raw(tmp_path / "tail", "kuairand", {TAIL: log, "user_sequences.parquet": SEQUENCES})


def test_history_of_kuairand(tail: Raw) -> None:
    made = tail.made(history=True, signal="long_view")
    assert table_of(made / "tail.inter")[0] == [
        *("user_id:token", "item_id:token", "sign:float", "timestamp:float", "long_view:float", "is_history:float")
    ]
    rows = tail.rows(history=True, signal="long_view")
    assert rows == [
        "0|30|1|1650812737.436|1|1", "0|31|-1|1650812738.436|0|1", "0|30|1|1650812739.436|1|1",
        "7|31|-1|1650812739.436|0|1", "0|32|-1|1650812740.436|0|1", "7|40|1|1650812740.436|1|1",
        "0|30|-1|1650812741.436|0|0", "7|31|1|1650900000|1|0",
    ]  # fmt: skip
    assert "user_sequences.parquet" in manifest_of(made)["inputs"]
    later = "log_standard_5_09_to_5_10_pure.csv"  # before the first of all logs
    tail.write({later: csv(LOG, view(7, 32, 1652100000000, 0, 1))})
    assert tail.rows(history=True, signal="long_view") == [*rows, "7|32|1|1652100000|1|0"]
    (tail.folder / later).unlink()
    assert tail.rows(history="yes", signal="long_view", keep="")[0].count("|") == 3
    assert "user_sequences.parquet" not in manifest_of(tail.made())["inputs"]


def test_bad_histories(tail: Raw) -> None:
    def refuses(message: str, where: str = "", **options: Any) -> None:
        tail.refuses(message, where, history=True, **{"signal": "long_view", **options})

    refuses("history=true needs signal=long_view, .* signal is click", signal="click")
    refuses("keep='tab' is not known of the history; with history=true keep long_view or is_history", keep="tab")
    refuses("keep='watch' is not a signal of KuaiRand", keep="watch")
    refuses("needs a folder that holds the log and user_sequences.parquet", TAIL)
    for column, message in (
        ({"last_time_ms": pl.lit(1650900000000)}, "3 of 3 histories end after the log begins"),
        ({"watch_seq": pl.lit("30")}, "column 'watch_seq' holds String, lists of integers were expected"),
        ({"user_id": pl.Series([0, None, 8])}, "user_sequences.parquet, row 2: no value in column 'user_id'"),
        (
            {"watch_seq": pl.Series([[30], [31, None], []])},
            "user_sequences.parquet, row 2: no value in a list of column 'watch_seq'",
        ),
    ):
        tail.write({"user_sequences.parquet": SEQUENCES.with_columns(**column)})
        refuses(message)
    tail.write({"user_sequences.parquet": SEQUENCES.drop("long_watch_seq")})
    refuses("has no column 'long_watch_seq'")
    tail.write({"user_sequences.parquet": SEQUENCES, TAIL: csv(LOG, view(0, 30, "", 1, 0))})
    refuses("has no row with a time in time_ms, which the history must lie before", on_error="skip")
    (tail.folder / "user_sequences.parquet").unlink()
    refuses("holds no history of KuaiRand, user_sequences.parquet was expected")


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
