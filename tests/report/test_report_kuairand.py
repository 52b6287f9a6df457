"""KuaiRand's raw log is described as it is."""

from __future__ import annotations

import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from signed_report.cli import report
from signed_report.kuairand import describe_log
from signed_report.measure import measure_kuairand

from recbole_signed.cli import app as cli
from recbole_signed.convert import convert
from recbole_signed.errors import UsageError

HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
# 2022-04-25 00:05 and 09:00, 2022-04-26 00:05, in Beijing
FIRST, LATER, NEXT = 1650816300000, 1650848400000, 1650902700000


def row(user: int, video: int, time: int, click: int, long: int, length: int, tab: int, date: int, hour: int) -> str:
    return f"{user},{video},{date},{hour},{time},{click},0,0,0,0,0,{long},1,{length},0,0,0,0,{tab}"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    rows = [
        row(1, 1, FIRST, 1, 1, 5_000, 1, 20220425, 0),
        row(1, 2, LATER, 1, 0, 20_000, 1, 20220425, 900),
        row(2, 1, NEXT, 0, 0, 5_000, 0, 20220426, 100),
        row(1, 1, NEXT, 0, 0, 5_000, 1, 20220425, 0),
    ]
    path = tmp_path / "raw" / "log_standard_4_25_to_5_08_pure.csv"
    path.parent.mkdir()
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return path


def test_what_a_log_says(log: Path) -> None:
    found = describe_log(log)
    assert (found["rows"], found["users"], found["videos"]) == (4, 2, 2)
    assert found["signals"]["is_click"] == {"rows": 2, "is_click": 1.0, "long_view": 0.5, "share": 0.5}
    assert found["signals"]["is_hate"]["rows"] == 0
    shortest, *_, longest = found["lengths"]
    assert (shortest["rows"], shortest["up_to"], longest["up_to"]) == (3, 7.0, None)
    assert [(each["tab"], each["rows"]) for each in found["tabs"]] == [(1, 3), (0, 1)]
    assert [(each["day"], each["rows"], each["rows_of_new_users"]) for each in found["days"]] == [
        ("2022-04-25", 2, 1.0),
        ("2022-04-26", 2, 0.5),
    ]
    assert found["pairs"]["long_view"] == {"repeated_rows": 1, "of_both_signs": 1}
    assert found["clock"] == {"hour": 0.25, "date": 0.25}


def test_compressed_or_no_log(log: Path, tmp_path: Path) -> None:
    packed = log.with_suffix(".csv.xz")
    packed.write_bytes(lzma.compress(log.read_bytes()))
    assert describe_log(packed) == describe_log(log)
    with pytest.raises(UsageError, match=r"holds 2 files log_standard_4_2\*"):
        measure_kuairand(log.parent, tmp_path)
    log.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(UsageError, match="can't be read as a log of KuaiRand"):
        describe_log(log)


def test_the_committed_description_is_that_of_the_log(
    shared_data: Callable[[str], Path], repository: Path, tmp_path: Path
) -> None:
    made = measure_kuairand(shared_data("kuairand-pure-tail"), tmp_path)
    committed = repository / "docs" / "report" / "results" / made.name
    assert made.read_text(encoding="utf-8") == committed.read_text(encoding="utf-8")


def test_measures_name_their_command_and_data(tmp_path: Path) -> None:
    convert("toy", None, tmp_path / "atomic_files")
    for words in (["toy-signed"], ["toy-signed", "--tradeoff", "SSF"]):
        with pytest.raises(SystemExit) as exit_:
            cli.main(["measure", *words, "--output", str(tmp_path / "out"), "--json"], commands=report)
        assert exit_.value.code == 0
    statistics = json.loads((tmp_path / "out" / "stats-toy-signed.json").read_text(encoding="utf-8"))
    curve = json.loads((tmp_path / "out" / "tradeoff-SSF-toy-signed.json").read_text(encoding="utf-8"))
    assert statistics["command"] == "python docs/report measure toy-signed"
    assert statistics["rows"] == {"total": 960, "like": 480, "dislike": 360, "neutral": 120}
    assert curve["command"] == "python docs/report measure toy-signed --tradeoff SSF"
    assert curve["data_sha256"] == statistics["data_sha256"]
    assert curve["settings"]["dislike_aversion"] == curve["chosen"]
    assert "dislike_weight" in curve["settings"]
    assert len(curve["points"]) == 7


def test_nothing_to_measure_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["measure"], commands=report)
    assert exit_.value.code == 2
    assert "needs a data set" in capsys.readouterr().err
    assert sys.argv == ["pytest"]
