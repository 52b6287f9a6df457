"""The feedback of a live state, written to a file and read by what makes data sets."""

import json
from pathlib import Path

import polars as pl
import pytest
from command_line import printed
from refusals import check_refused
from small_recommender import NOW, begin

import recbole_signed as rs
from recbole_signed.api import bulk, write_feedback
from recbole_signed.convert import convert
from recbole_signed.live import Event, OnlineRecommender


@pytest.fixture
def state(tmp_path: Path) -> Path:
    live = begin(tmp_path / "state")
    live.update(
        [
            Event("a", 'ж,"x', "a new, item", "dislike", NOW + 1), Event("b", "u1", "i1", "like", NOW + 2),
            Event("c", "u1", "i1", "dislike", NOW + 3), Event("d", "u2", "i2", "like", NOW + 4),
            Event("e", "u2", "i2", "unlike", NOW + 5), Event("f", "u3", "", "forget_user", NOW + 6),
            Event("g", "u4", "met alone", "view", NOW + 7),
        ]
    )  # fmt: skip
    live.close()
    return tmp_path / "state"


def read(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, schema=bulk.FEEDBACK)


@pytest.mark.parametrize("name", ["feedback.csv", "feedback.parquet"])
def test_the_file_holds_edges_in_force(state: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_ROWS", 100)  # several pieces
    told = write_feedback(state, tmp_path / name, progress=False)
    rows = read(tmp_path / name)
    assert rows.height == told["rows"] == told["likes"] + told["dislikes"] + 1
    assert told["users"] == rows["user_id"].n_unique()
    assert told["seq"] == 7
    found = {row[:2]: row[2:] for row in rows.iter_rows()}
    assert len(found) == rows.height
    assert found['ж,"x', "a new, item"] == ("dislike", NOW + 1)
    assert found["u1", "i1"] == ("dislike", NOW + 3)
    assert found["u4", "met alone"] == ("view", NOW + 7)
    assert ("u2", "i2") not in found
    assert "u3" not in rows["user_id"].to_list()
    live = OnlineRecommender.open(state)
    with live.reading() as (opened, _):
        assert len(opened.edges) == rows.height
    live.close()


def test_one_user(state: Path, tmp_path: Path) -> None:
    everybody, one = tmp_path / "all.csv", tmp_path / "one.csv"
    write_feedback(state, everybody, progress=False)
    assert write_feedback(state, one, "u1")["users"] == 1
    assert read(one).equals(read(everybody).filter(pl.col("user_id") == "u1"))
    for unknown in ("nobody", "u3"):
        check_refused(f"knows no user '{unknown}'", write_feedback, state, one, unknown)


def test_the_file_becomes_a_data_set(state: Path, tmp_path: Path) -> None:
    told = write_feedback(state, tmp_path / "feedback.parquet", progress=False)
    rules = {"like": "type == like", "dislike": "type == dislike"}
    names = {"user": "user_id", "item": "item_id", "time": "timestamp"}
    folder = convert("csv", tmp_path / "feedback.parquet", tmp_path / "atomic", "live", **names, **rules)
    rows = json.loads((folder / "dataset.json").read_text())["rows"]
    assert (rows["like"], rows["dislike"]) == (told["likes"], told["dislikes"])
    data = rs.from_frame(pl.read_parquet(tmp_path / "feedback.parquet"), **names, **rules)
    assert rs.fit("SSF", data).recommend("u1", k=3).height == 3


def test_the_command_while_a_state_is_written(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, live = tmp_path / "feedback.csv", OnlineRecommender.open(state)
    live.update([Event("z", "u9", "i9", "dislike", NOW + 9)])
    text = printed(capsys, "state", "export", state, output)
    document = json.loads(printed(capsys, "state", "export", state, output, "--user", "u9", "--json"))
    live.close()
    assert "up to seq 8" in text
    assert document["rows"] == read(output).height
    check_refused(r"ends in \.parquet or \.csv", write_feedback, state, tmp_path / "feedback.txt")
