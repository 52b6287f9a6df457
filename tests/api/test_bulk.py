"""``recbole-signed recommend`` and what it calls: the same lists as ``recommend``, in one file, batch by batch."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from command_line import outcome, printed
from refusals import check_refused

from recbole_signed.api import recommender
from recbole_signed.api.bulk import read_users, write_recommendations


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven users at a time."""
    monkeypatch.setattr(recommender, "CELLS", 7 * 31)


def read(path: str) -> pl.DataFrame:
    is_csv = path.lower().endswith(".csv")
    return pl.read_csv(path, schema=recommender.SCHEMA) if is_csv else pl.read_parquet(path)


@pytest.mark.parametrize("name", ["recs.csv", "recs.parquet", "RECS.PARQUET"])
def test_all_users_come_in_batches(name: str, ssf: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert [len(each) for each in ssf.batches(ssf.users.tokens[1:], 3)] == [21, 21, 21, 21, 21, 15]
    told = write_recommendations(ssf, name, k=3)
    assert {**told, "seconds": 0} == {"users": 40, "unknown_users": 0, "rows": 120, "seconds": 0, "output": name}
    assert read(name).equals(ssf.recommend(ssf.users.tokens[1:], 3))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "recommended to 7 of 40 users"
    assert lines[-1] == "recommended to 40 of 40 users"


def test_a_batch_holds_a_user_however_large_the_catalogue_is(ssf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ssf.recommend(["user 3", "user 8"], k=3)["item"]
    monkeypatch.setattr(recommender, "CELLS", 30)  # one less than a user takes
    assert [len(each) for each in ssf.batches(["user 3", "user 8"], 3)] == [3, 3]
    assert ssf.recommend(["user 3", "user 8"], k=3)["item"].equals(wanted)


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet", "one column"])
def test_users_come_from_a_file(kind: str, ssf: Any, capsys: pytest.CaptureFixture[str]) -> None:
    users = ["user 3", "user 8", "nobody"]
    ssf.save("model.rs")
    frame = pl.DataFrame({"user": users, "city": ["a", "b", "c"]})
    if kind == "txt":
        Path("users.txt").write_text("\n".join(users) + "\n", encoding="utf-8")
    elif kind == "parquet":
        frame.write_parquet("users.parquet")
    else:
        (frame if kind == "csv" else frame.select(who="user")).write_csv("users.csv")
    (file,) = Path().glob("users.*")
    words = ["recommend", "--model", "model.rs", "--users", str(file), "-k", "4", "--output", "out.parquet", "--json"]
    words += ["--dislike-aversion", "0.5", "--dislike-strength", "0.2", "--include-seen"]
    told = json.loads(printed(capsys, *words))
    assert (told["users"], told["unknown_users"], told["rows"]) == (3, 1, 12)
    assert read("out.parquet").equals(
        ssf.recommend(users, 4, dislike_aversion=0.5, dislike_strength=0.2, include_seen=True)
    )


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("users.TXT", "a\nb\n", ["a", "b"]),  # the first line is a user whatever the suffix looks like
        ("users.txt.gz", "a\nb\n", ["a", "b"]),
        ("users.csv", "user\n7.0\n8\n", ["7", "8"]),  # as pandas writes a column that had a gap
        ("users.csv", "who\n8\n", ["8"]),
        ("users.csv", "user\n7.65612E+16\n", "a number that was rounded; export the ids as text"),
        ("users.csv", "7\n8\n", "the first line of users.csv, 7, is an id, and a table has a header"),
        ("users.parquet", {"user_id": [3, 8], "n": [1, 2]}, ["3", "8"]),
        (
            "users.parquet",
            {"user": [3.0, None]},
            "the column 'user' of users.parquet has the type Float64; ids are text",
        ),
    ],
)
def test_ids_in_a_file_are_read_as_they_stand_or_refused(name: str, content: Any, wanted: list[str] | str) -> None:
    path = Path(name)
    if isinstance(content, dict):
        pl.DataFrame(content).write_parquet(path)
    else:
        path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    if isinstance(wanted, str):
        check_refused(wanted, read_users, path)
    else:
        assert read_users(path) == wanted


def test_a_checkpoint_of_a_run_recommends(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "run", "-m", "SSF", "-d", toy, "eval_args.split={RS: [1, 0, 0]}", "auto=False", "--quiet")
    (file,) = Path("runs").glob("*.pth")
    out = printed(capsys, "recommend", "--model", file, "--all", "-k", "5", "--output", "out.csv")
    assert "300 recommendations for 60 users" in out
    assert read("out.csv").height == 300


WRONG = [
    (["--all", "--users", "users.txt"], "say to whom to recommend: --users FILE or --all, one of the two."),
    ([], "say to whom to recommend"),
    (["--users", "nothing.txt"], "nothing.txt"),
    (["--users", "empty.txt"], "empty.txt is empty"),
    (["--users", "two.csv"], "two.csv has the columns a, b; name the one of the users 'user'."),
    (["--all", "-k", "0"], "k is 0"),
    (["--all", "--output", "out.xlsx"], "the output is out.xlsx; give a file name that ends in .parquet or .csv."),
    (["--all", "--model", "model.rz", "--output", "out.xlsx"], "the output is out.xlsx"),  # before a model is read
    (["--all", "--output", "/proc/no/out.csv"], "writing /proc/no/out.csv failed"),
    (["--all", "--output", "/proc/out.csv"], "make room, correct the permissions, or give the path of another file."),
    (["--all", "--device", "cuda:99"], "the device 'cuda:99' can't be used here"),
    (["--all", "--model", "model.rz"], "there is no file model.rz; did you mean 'model.rs'?"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[" ".join(each[0]) or "nobody" for each in WRONG])
def test_wrong_input_ends_in_one_sentence(
    words: list[str], message: str, ssf: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ssf.save("model.rs")
    Path("empty.txt").write_text("", encoding="utf-8")
    Path("two.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    before = sorted(os.listdir())
    given = {"--model": "model.rs", "--output": "out.csv"}
    options = [word for name, value in given.items() if name not in words for word in (name, value)]
    status, out, err = outcome(capsys, "recommend", *options, *words)
    assert (status, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert sorted(os.listdir()) == before
