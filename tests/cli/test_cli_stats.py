from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import outcome

from recbole_signed.cli.stats import parse_count
from recbole_signed.convert import convert
from recbole_signed.errors import UsageError
from recbole_signed.lab.synth import PROFILES


@pytest.fixture
def toy(tmp_path: Path) -> str:
    """The planted set, where the converters write and ``stats`` reads."""
    convert("toy", None, tmp_path / "atomic_files")
    return "toy-signed"


def test_stats_of_the_published_split(
    shared_data: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    convert("signed-split", shared_data("sigformer-kuairand"), tmp_path / "sets")
    status, out, err = outcome(capsys, "stats", "sigformer-kuairand", "--data-path", str(tmp_path / "sets"))
    assert status == 0, err
    assert "train: 4,159 repeated rows" in out
    assert "train: 226 pairs with both signs" in out
    assert "2,263 test pairs are also in train" in out
    assert Path("runs/stats/sigformer-kuairand.png").stat().st_size > 50_000
    words = ("stats", "sigformer-kuairand", "--data-path", str(tmp_path / "sets"), "--no-figures", "--json")
    status, out, _ = outcome(capsys, *words)
    report = json.loads(out)
    assert status == 0
    assert report["parts"]["train"]["repeated_rows"] == 4159
    assert report["parts"]["train"]["contradicting_pairs"] == 226
    assert report["parts"]["test"]["pairs_also_in"]["train"] == 2263
    assert report["figures"] is None


def test_stats_finds_what_run_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A set in RecBole's folder, and the one that makes itself; of the toy set the message has the command."""
    status, _, err = outcome(capsys, "stats", "toy-signed", "--no-figures")
    assert (status, "('recbole-signed convert toy' makes it)" in err) == (2, True)
    convert("toy", None, tmp_path / "dataset")
    status, out, _ = outcome(capsys, "stats", "toy-signed", "--no-figures", "--json")
    assert (status, json.loads(out)["path"]) == (0, "dataset/toy-signed")
    (tmp_path / "atomic_files" / "arrays").mkdir(parents=True)  # as synth --format npz makes one
    status, _, err = outcome(capsys, "stats", "arrays")
    assert (status, "atomic_files/arrays holds no .inter file; " in err) == (2, True)
    status, out, _ = outcome(capsys, "stats", "ml-100k-signed", "--no-figures", "--json")
    assert (status, json.loads(out)["users"]) == (0, 943)


def test_times_without_a_date_get_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from scipy.io import savemat

    matrix = [[user, item, 1, 1 + 4 * (item % 2), 1, 1 + item] for user in range(1, 9) for item in range(1, 11)]
    savemat(tmp_path / "rating_with_timestamp.mat", {"rating": matrix})
    convert("epinions", tmp_path, tmp_path / "atomic_files")
    status, out, err = outcome(capsys, "stats", "epinions", "--output", "pages")
    assert status == 0, err
    assert "time: 2 to 11; 10 moments" in out
    assert "1970" not in out


def test_stats_for_a_reader_and_as_json(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = outcome(capsys, "stats", toy, "--output", "pages")
    assert status == 0
    assert "toy-signed: 960 rows, 60 users, 42 items" in out
    assert "no repeated rows, no contradicting pairs" in out
    assert Path("pages/toy-signed.png").is_file()
    status, out, _ = outcome(capsys, "stats", toy, "--output", "pages", "--json")
    report = json.loads(out)
    assert (report["rows"]["like"], report["rows"]["dislike"], report["rows"]["neutral"]) == (480, 360, 120)
    assert report["figures"] == "pages/toy-signed.png"


def test_without_matplotlib_the_numbers_still_come(
    toy: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, out, err = outcome(capsys, "stats", toy)
    assert status == 0
    assert "toy-signed: 960 rows" in out
    (line,) = err.splitlines()
    assert "pip install 'matplotlib>=" in line, "pip finds no package of the extra's name"
    assert "recbole-signed[plots]" in line
    status, out, err = outcome(capsys, "stats", toy, "--json")
    document = json.loads(out)
    assert status == 0
    assert document["rows"]["total"] == 960
    assert document["figures"] is None
    assert "recbole-signed[plots]" in document["note"]
    status, out, err = outcome(capsys, "stats", toy, "--no-figures")
    assert status == 0


def test_stats_of_what_is_not_there(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = outcome(capsys, "stats", "toy-singed")
    assert (status, out) == (2, "")
    assert "did you mean 'toy-signed'?" in err


def test_synth_makes_a_data_set_that_stats_reads(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = outcome(capsys, "synth", "--profile", "kuairand", "--edges", "20k")
    assert status == 0, err
    assert "atomic_files/synth-kuairand-20k: 20,000 edges, 1,290 users, 335 items" in out
    status, out, _ = outcome(capsys, "stats", "synth-kuairand-20k", "--no-figures")
    assert status == 0
    assert "no repeated rows, no contradicting pairs" in out
    status, _, err = outcome(capsys, "synth", "--profile", "kuairand", "--edges", "20k")
    assert status == 2
    assert "already there" in err


def test_synth_checks_itself(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("synth", "-p", "kuairand", "-e", "300k", "--seed", "11", "--check", "--no-write")
    status, out, _ = outcome(capsys, *words)
    assert status == 0, out
    assert "OUTSIDE" not in out
    assert not Path("atomic_files").exists()
    # so small a graph is unlike MovieLens-1M, whose users have more films than it holds
    words = ("synth", "-p", "ml-1m", "-e", "180k", "--check", "--json", "--format", "npz", "--name", "small")
    status, out, _ = outcome(capsys, *words)
    assert status == 1
    document = json.loads(out)
    assert {each["statistic"] for each in document["check"] if not each["ok"]} >= {"user_degree_p99"}
    assert Path(document["path"], "small.npz").is_file(), "it is written all the same"


def test_the_help_of_synth_names_every_profile(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = outcome(capsys, "synth", "--help")
    assert all(name in out for name in PROFILES)


def test_wrong_requests(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (("-p", "movielens"), "no profile 'movielens'"),
        (("-e", "many"), "--edges is 'many'; write it like 250k, 10M"),
        (("-e", "9k"), "9,000 edges were asked for"),
        (("-e", "10k", "--format", "csv"), "--format is 'csv'"),
        (("-e", "10k", "--name", "a:b"), "can't be the name of a data set"),
    ):
        status, out, err = outcome(capsys, "synth", *words)
        assert (status, out) == (2, ""), words
        assert message in err
    assert not Path("atomic_files").exists()


def test_counts() -> None:
    counts = {"250k": 250_000, "10M": 10**7, "1.5m": 1_500_000, "1_000": 1000, "2G": 2 * 10**9, "1b": 10**9, "12": 12}
    assert {text: parse_count(text) for text in counts} == counts
    for text in ("", "M", "-5", "1e6", "ten", "1.5.2k"):
        with pytest.raises(UsageError, match="write it like"):
            parse_count(text)
