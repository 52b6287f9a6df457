"""The command ``tradeoff``: one fit, several dislike aversions."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from recbole_signed.cli import app as cli
from recbole_signed.convert import convert
from recbole_signed.errors import UsageError
from recbole_signed.experiments.analysis import parse_aversions, tradeoff

FIXED = {"auto": False, "rank": 8, "cutoff": 4, "state": "ERROR"}
WORDS = ("auto=False", "rank=8", "cutoff=4", "state=ERROR")


def outcome(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        cli.main(list(words))
    output = capsys.readouterr()
    return int(exit_.value.code or 0), output.out, output.err


@pytest.fixture(autouse=True)
def toy(tmp_path: Path) -> str:
    convert("toy", None, tmp_path / "atomic_files")
    return "toy-signed"


def test_each_point_is_the_run_with_that_aversion(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole_signed.experiments.runs import run
    from recbole_signed.ssf import SpectralFilter

    fits = []
    fit = SpectralFilter.fit
    monkeypatch.setattr(SpectralFilter, "fit", lambda *args, **words: fits.append(1) or fit(*args, **words))
    found = tradeoff("SSF", toy, (0.0, 1.5), 5, overrides=FIXED)
    assert len(fits) == 1
    assert found["chosen"] == 0
    measured = {"metrics": ["Recall", "NDCG", "DislikeRecall", "DislikeShare", "SignAUC"], "topk": [5]}
    for point in found["points"]:
        alone = {**FIXED, **measured, "valid_metric": "NDCG@5", "metric_decimal_place": 6}
        row = run("SSF", toy, overrides={**alone, "dislike_aversion": point["dislike_aversion"]}, save=False)
        assert row.test == {name: value for name, value in point.items() if name != "dislike_aversion"}
    first, last = found["points"]
    assert last["dislikerecall@5"] <= first["dislikerecall@5"]
    assert last["signauc"] > first["signauc"]


def test_the_table_the_document_and_the_curve(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("tradeoff", "-m", "SSF", "-d", toy, "--g", "1,0,0.5", "--k", "5", *WORDS, "dislike_aversion=0.5")
    status, out, err = outcome(capsys, *words)
    assert status == 0, err
    lines = out.splitlines()
    head = next(number for number, line in enumerate(lines) if line.split()[:1] == ["g"])
    assert lines[head].split()[:3] == ["g", "recall@5", "ndcg@5"]
    assert [line.split()[0] for line in lines[head + 2 : head + 5]] == ["0", "0.5*", "1"]
    assert Path("runs/tradeoff/SSF-toy-signed.png").stat().st_size > 5_000
    status, out, _ = outcome(capsys, *words, "--json", "--no-figures", "--output", "there")
    document = json.loads(out)
    assert status == 0
    assert document["files"] == ["there/SSF-toy-signed.json"]
    assert json.loads(Path("there/SSF-toy-signed.json").read_text())["points"] == document["points"]
    assert [point["dislike_aversion"] for point in document["points"]] == [0, 0.5, 1]


def test_without_matplotlib_the_numbers_still_come(
    toy: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, out, err = outcome(capsys, "tradeoff", "-d", toy, "--g", "0", "--k", "5", *WORDS)
    assert status == 0
    assert "recall@5" in out
    assert "recbole-signed[plots]" in err
    assert Path("runs/tradeoff/SSF-toy-signed.json").is_file()


def test_what_is_wrong_is_said(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("", "a,b", "-1", "inf"):
        with pytest.raises(UsageError, match="--g"):
            parse_aversions(text)
    assert parse_aversions("1, 0,1,0.25") == (0.0, 0.25, 1.0)
    for words, message in (
        (("-m", "Pop"), "Pop has no 'dislike_aversion'"),
        (("topk=5",), "'topk' can't be set here"),
        (("--k", "1000"), "only 42 items"),
    ):
        status, _, err = outcome(capsys, "tradeoff", "-d", toy, *words, "state=ERROR")
        assert status == 2
        assert message in err
