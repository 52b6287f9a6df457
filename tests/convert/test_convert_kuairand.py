"""The source ``kuairand`` on a file in its raw format and on the real tail of KuaiRand-Pure."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from converted import manifest_of, table_of

from recbole_signed.convert import convert
from recbole_signed.errors import UsageError

HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
LOG = [
    # the order of time_ms is not that of date and hourmin
    "712,5239,20220425,0,1650812741436,1,0,0,0,0,0,1,61802,49866,0,0,0,0,1",
    "0,5543,20220430,1800,1651314030792,0,0,0,0,0,0,0,863,30066,0,0,0,1,1",
    "0,5239,20220426,1300,1650900000000,1,1,0,0,0,0,0,9000,49866,0,0,0,0,2",
    "0,17,20220501,900,1651400000500,0,0,0,0,0,1,0,5000,30000,0,0,0,0,1",
    "712,17,20220502,900,1651500000000,1,1,0,0,0,1,0,100,0,0,0,0,0,1",
    "712,18,20220502,900,1651500000001,0,0,0,0,0,0,0,5000,30000,0,0,0,0,1",
]
SIGNS = {
    # by (user, item)
    "click": {("712", "5239"): 1, ("0", "5543"): -1, ("0", "5239"): 1, ("0", "17"): -1, ("712", "17"): 1},
    "long_view": {("712", "5239"): 1, ("0", "5543"): -1, ("0", "5239"): -1, ("0", "17"): -1, ("712", "17"): -1},
    "explicit": {("712", "5239"): 0, ("0", "5543"): 0, ("0", "5239"): 1, ("0", "17"): -1, ("712", "17"): 0},
    "explicit+skip": {("712", "5239"): 0, ("0", "5543"): -1, ("0", "5239"): 1, ("0", "17"): -1, ("712", "17"): 0},
}
LAST = {"click": -1, "long_view": -1, "explicit": 0, "explicit+skip": 0}  # of the pair (712, 18)


def rows_of(path: Path) -> list[dict[str, str]]:
    header, *rows = table_of(path)
    names = [field.split(":")[0] for field in header]
    return [dict(zip(names, row, strict=True)) for row in rows]


def text(rows: list[str], header: str = HEADER) -> bytes:
    return "\n".join([header, *rows, ""]).encode()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "KuaiRand-Pure"
    data = folder / "data"
    data.mkdir(parents=True)
    (data / "log_standard_4_08_to_4_21_pure.csv").write_bytes(text(LOG[:1]))
    (data / "log_standard_4_22_to_5_08_pure.csv.xz").write_bytes(lzma.compress(text(LOG[1:])))
    random = ["5,6,20220425,0,1650812741436,1,0,0,0,0,0,1,6,4,0,0,0,1,0"]
    (data / "log_random_4_22_to_5_08_pure.csv").write_bytes(text(random))
    users = "user_id,user_active_degree,follow_user_num,follow_user_num_range,onehot_feat4"
    rows = ['0,full_active,514,"(250,500]",1.0', "712,UNKNOWN,0,0,", "9,full_active,1,0,2.0"]
    (data / "user_features_pure.csv.gz").write_bytes(gzip.compress(text(rows, users)))
    videos = "video_id,author_id,video_type,upload_dt,video_duration,music_type,tag"
    rows = ['17,1,NORMAL,2022-04-10,87433.0,9.0,"12,65"', "5239,2,AD,2022-04-11,,,", "5543,2,AD,2022-04-11,5.5,4.0,3"]
    rows.append("18,1,AD,2022-04-11,5.0,4.0,3")
    (data / "video_features_basic_pure.csv").write_bytes(text(rows, videos))
    return folder


def test_what_was_liked_without_a_click_was_not_skipped(tmp_path: Path) -> None:
    lines = [LOG[0], "0,5543,20220430,1800,1651314030792,0,1,0,0,0,0,0,863,30066,0,0,0,1,1", LOG[1]]
    (tmp_path / "log_standard_x_1k.csv").write_bytes(text(lines))
    made = convert("kuairand", tmp_path / "log_standard_x_1k.csv", tmp_path / "out", signal="explicit+skip")
    assert [row["sign"] for row in rows_of(made / "kuairand-1k.inter")] == ["0", "1", "-1"]


@pytest.mark.parametrize("signal", sorted(SIGNS))
def test_signals(tmp_path: Path, raw: Path, signal: str) -> None:
    made = convert("kuairand", raw, tmp_path / "out", signal=signal)
    rows = rows_of(made / "KuaiRand-Pure.inter")
    signs = {(row["user_id"], row["item_id"]): int(row["sign"]) for row in rows}
    assert signs == SIGNS[signal] | {("712", "18"): LAST[signal]}


def test_rows_times_and_features(tmp_path: Path, raw: Path) -> None:
    made = convert("kuairand", raw / "data", tmp_path / "out")
    assert made.name == "kuairand-pure"
    rows = rows_of(made / "kuairand-pure.inter")
    times = [row["timestamp"] for row in rows]
    assert times[:4] == ["1650812741.436", "1650900000", "1651314030.792", "1651400000.5"]
    assert rows[1] == {
        "user_id": "0",
        "item_id": "5239",
        "sign": "1",
        "timestamp": "1650900000",
        **dict.fromkeys(("is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter"), "0"),
        **dict.fromkeys(("profile_stay_time", "comment_stay_time", "is_rand"), "0"),
        **{"is_click": "1", "is_like": "1", "play_time_ms": "9000", "duration_ms": "49866", "tab": "2"},
    }
    assert "tab:token" in (made / "kuairand-pure.inter").read_text().splitlines()[0].split("\t")
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


def test_logs_and_kept_columns(tmp_path: Path, raw: Path) -> None:
    made = convert("kuairand", raw, tmp_path / "a", log="all", keep="tab")
    assert manifest_of(made)["rows"]["total"] == len(LOG) + 1
    assert list(rows_of(made / "KuaiRand-Pure.inter")[0]) == ["user_id", "item_id", "sign", "timestamp", "tab"]
    made = convert("kuairand", raw / "data" / "log_standard_4_22_to_5_08_pure.csv.xz", tmp_path / "b", keep="")
    assert made.name == "kuairand-pure"
    assert manifest_of(made)["rows"]["total"] == len(LOG) - 1
    assert not (made / "kuairand-pure.user").exists()
    made = convert("kuairand", raw, tmp_path / "c", signal="explicit+skip", skip_ms=500)
    assert manifest_of(made)["rows"] == {"total": 6, "like": 1, "dislike": 1, "neutral": 4}
    # what was played for just so long was not skipped
    for skip_ms, dislikes in ((863, 1), (864, 2)):
        made = convert("kuairand", raw, tmp_path / str(skip_ms), signal="explicit+skip", skip_ms=skip_ms)
        assert manifest_of(made)["rows"]["dislike"] == dislikes


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (LOG[0].replace(",1,0,0,0,0,0,1,", ",2,0,0,0,0,0,1,"), "is_click is '2', 0 or 1 was expected"),
        (LOG[0].replace("1650812741436", ""), "no time in column 'time_ms'"),
        (LOG[0].replace("1650812741436", "9" * 17), "too large for unix time in ms"),
        (LOG[0].replace("61802", "long"), "an atomic file needs numbers in column 'play_time_ms', got 'long'"),
        (LOG[0][:-2], "18 columns where 19 were expected"),
    ],
)
def test_bad_rows(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "log_standard_x_1k.csv").write_bytes(text([LOG[1], row, LOG[2]]))
    with pytest.raises(UsageError, match=rf"log_standard_x_1k.csv, line 3: .*{message}"):
        convert("kuairand", tmp_path / "log_standard_x_1k.csv", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_bad_folders_and_options(tmp_path: Path, raw: Path) -> None:
    def refuse(message: str, folder: Path = raw, **options: Any) -> None:
        with pytest.raises(UsageError, match=message):
            convert("kuairand", folder, tmp_path / "out", **options)

    refuse("holds no log_standard_.*csv", tmp_path)
    refuse("keep='clicks' is not a signal", keep="clicks")
    refuse("use one of click, long_view", signal="hate")
    data = raw / "data"
    (data / "log_standard_4_08_to_4_21_1k.csv").write_bytes(text(LOG))
    refuse("several versions .1k, pure.")
    (data / "log_standard_4_08_to_4_21_1k.csv").rename(data / "log_standard_4_08_to_4_21_pure.csv.gz")
    refuse("holds log_standard_4_08_to_4_21_pure.csv and log_standard_4_08_to_4_21_pure.csv.gz")
    (data / "log_standard_4_08_to_4_21_pure.csv.gz").unlink()
    for again in ("log_standard_4_08_to_4_21_pure (1).csv", "log_standard_old.csv"):
        (data / again).write_bytes(text(LOG[:1]))
        refuse("holds log_standard_.*csv and log_standard_.*csv; keep one of them")
        (data / again).unlink()
    (data / "log_standard_4_08_to_4_21_pure(2).csv").write_bytes(text(LOG[:1])[:300])
    refuse("holds log_standard_.*csv and log_standard_.*csv; keep one of them")
    (data / "log_standard_4_08_to_4_21_pure(2).csv").unlink()
    (data / "log_standard_4_08_to_4_21_pure.csv").write_bytes(text(["1,2,3"], "user_id,item_id,time_ms"))
    refuse("has no column 'video_id'")
    (data / "log_standard_4_22_to_5_08_pure.csv.xz").write_bytes(lzma.compress(text(LOG))[:-9])
    refuse("is not a whole .xz file", data / "log_standard_4_22_to_5_08_pure.csv.xz")


def test_the_real_tail(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    made = convert("kuairand", shared_data("kuairand-pure-tail"), tmp_path, signal="click")
    record = manifest_of(made)
    assert record["rows"] == {"total": 228_329, "like": 100_900, "dislike": 127_429, "neutral": 0}
    assert (record["users"], record["items"]) == (25_156, 6_361)
    assert (record["repeated_rows"], record["contradicting_pairs"]) == (7_441, 287)
    assert set(record["fields"]) == {"inter", "user", "item"}
    with (made / "kuairand-pure-tail.item").open() as file:
        assert sum(1 for _ in file) == 6_361 + 1
