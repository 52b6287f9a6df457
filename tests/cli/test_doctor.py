"""The doctor tells good installations from bad ones, and leaves nothing behind."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_signed.cli import doctor
from recbole_signed.cli.app import main

GOOD: dict[str, str | None] = {
    **dict.fromkeys(doctor.PACKAGES, "1.0"),
    **{"recbole": "1.2.1", "pandas": "2.3.3", "torch": "2.13.0+cpu", "hyperopt": "0.2.5"},
}


@pytest.fixture
def fake_recbole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a package that is called recbole, with that code, before the real one; for child processes."""

    def write(code: str) -> None:
        (tmp_path / "fakes" / "recbole").mkdir(parents=True)
        (tmp_path / "fakes" / "recbole" / "__init__.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path / "fakes"))

    return write


def test_this_installation_is_well(tmp_path: Path) -> None:
    report = doctor.diagnose()
    assert report.ok, doctor.render(report)
    assert report.self_test.status == "ok"
    assert 0.8 < report.self_test.metrics["planted AUC"] <= 1
    assert 0 < report.self_test.metrics["recall@10"] <= 1
    assert report.versions["recbole"].startswith("1.2.")  # type: ignore[union-attr]
    assert report.ray.split()[0] in {"absent", "working", "broken"}
    assert "ray_optional" in report.repairs
    assert list(tmp_path.iterdir()) == [], "all was written elsewhere, and is gone"
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["self_test"]["status"] == "ok"
    text = doctor.render(report)
    assert "everything works" in text
    assert all(f"{name} " in text for name in ("recbole", "torch", "planted AUC", *report.repairs))


@pytest.mark.parametrize(
    ("changes", "python", "level", "words"),
    [
        ({"pandas": "3.1.1"}, (3, 11), "error", "pandas 3.1.1 corrupts"),
        ({"recbole": None}, (3, 11), "error", "RecBole is not installed"),
        ({"recbole": "1.1.1"}, (3, 11), "error", "RecBole 1.1.1 is not supported"),
        ({"recbole": "1.3"}, (3, 11), "error", "RecBole 1.3 is not supported"),
        ({"recbole": "1.2.0"}, (3, 12), "warning", "AsymKNN"),
        ({"recbole": "1.2.0", "kmeans-pytorch": None}, (3, 12), "error", "imports kmeans-pytorch"),
        ({"recbole": "1.2.0", "psutil": None}, (3, 13), "error", "imports psutil"),
        ({"setuptools": None}, (3, 12), "error", "distutils"), ({}, (3, 9), "error", "Python 3.9"),
        ({}, (3, 14), "error", "Python 3.14"), ({"hyperopt": None}, (3, 11), "info", "HyperTuning"),
        ({"hyperopt": "0.3.0"}, (3, 11), "info", "exhaustive search"), ({"faiss": None}, (3, 11), "info", "NCL"),
        ({"lightgbm": None}, (3, 11), "info", "LightGBM"), ({"xgboost": None}, (3, 11), "info", "XGBoost"),
    ],
)  # fmt: skip
def test_bad_combinations(changes: dict[str, str | None], python: tuple[int, int], level: str, words: str) -> None:
    assert doctor.check(GOOD, (3, 11)) == []
    findings = doctor.check({**GOOD, **changes}, python)
    matching = [each for each in findings if words in each.what]
    assert [each.level for each in matching] == [level]
    assert matching[0].cure
    assert "\n" not in matching[0].what + matching[0].cure


def test_imports_that_fail_or_die_are_reported(fake_recbole: Callable[[str], None]) -> None:
    fake_recbole("raise RuntimeError('bad wheel')")
    report = doctor.diagnose(self_test=False)
    assert not report.ok
    assert report.self_test.status == "failed"
    assert "RuntimeError: bad wheel" in report.self_test.reason
    assert "something is wrong" in doctor.render(report)
    json.dumps(report.as_dict(), allow_nan=False)
    fake_recbole("import os, sys\nprint('illegal instruction', file=sys.stderr, flush=True)\nos._exit(3)")
    report = doctor.diagnose()
    assert not report.ok
    assert report.self_test.reason == "the process ended with status 3: illegal instruction"


def test_a_process_that_hangs_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TIMEOUT", 0.05)
    report = doctor.diagnose()
    assert not report.ok
    assert "did not end" in report.self_test.reason


def test_without_the_self_test_only_imports_are_tried() -> None:
    report = doctor.diagnose(self_test=False)
    assert report.ok
    assert report.self_test.status == "skipped"
    assert "ray_optional" in report.repairs
    assert report.device


def test_the_examination_fails_where_the_ranking_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ray", lambda: "absent")  # an import that fails half-way stays out of this process
    doctor.examine(True)
    seen = json.loads((tmp_path / "result.json").read_text())
    assert "failure" not in seen
    assert seen["metrics"]["planted AUC"] > 0.8
    monkeypatch.setattr(doctor, "_auc", lambda *_: 0.5)
    monkeypatch.setattr(sys.modules["recbole_signed.convert"], "convert", lambda *_: tmp_path / "data" / "toy-signed")
    doctor.examine(True)
    seen = json.loads((tmp_path / "result.json").read_text())
    assert "in only 50% of the pairs" in seen["failure"]


def test_auc_agrees_with_counting() -> None:
    rng = np.random.default_rng(0)
    score = rng.integers(0, 4, (5, 8)).astype(float)
    better, worse = rng.random((2, 5, 8)) < 0.4
    worse &= ~better
    won = [
        1.0 if score[u, i] > score[u, j] else 0.5 if score[u, i] == score[u, j] else 0.0
        for u in range(5)
        for i in range(8)
        for j in range(8)
        if better[u, i] and worse[u, j]
    ]
    assert doctor._auc(score, better, worse) == pytest.approx(np.mean(won))
    assert np.isnan(doctor._auc(score, better & False, worse))


def test_another_meaning_of_list_indexing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._list_indexing() is None

    class Changed:
        def __getitem__(self, index: list[torch.Tensor]) -> torch.Tensor:
            return torch.ones(2, 2)[torch.stack(index)]

    monkeypatch.setattr(torch, "zeros", lambda *_: Changed())
    finding = doctor._list_indexing()
    assert finding is not None
    assert finding.level == "error"
    assert "MultiVAE" in finding.what


def test_what_is_trusted(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["doctor", "--security"], ["doctor", "--security", "--json"]):
        with pytest.raises(SystemExit) as exit_:
            main(words)
        assert not exit_.value.code
        out = capsys.readouterr().out
        assert "recbole, recbole_gnn, recbole_signed" in out
        assert "literals" in out
