"""Before costs are measured a model works on a tiny data set: nothing of that stays but libraries in memory."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_signed.convert import convert
from recbole_signed.errors import UsageError
from recbole_signed.runs import run, warm_up
from recbole_signed.runs.warm_up import run_warm_up


@pytest.mark.parametrize("model", ["SSF", "LightGCN", "EASE"])
def test_nothing_stays(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(warm_up.tempfile, "tempdir", str(temporary))
    handlers = list(logging.getLogger().handlers)
    run_warm_up(model, {"topk": [10, 20], "valid_metric": "NDCG@20"})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert logging.getLogger().handlers == handlers


def test_keys_of_the_data_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keys = {"data_path": "nowhere", "benchmark_filename": ["train", "valid", "test"], "sign_rule": "rating >= 9"}
    run_warm_up("SSF", {**keys, "user_inter_num_interval": "[1000,inf)", "auto": False})


def test_long_lists_have_more_items_to_choose_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_warm_up("Pop", {"topk": [10, 150], "valid_metric": "NDCG@150"})
    run_warm_up("Pop", {"topk": 150, "valid_metric": "NDCG@150"})


def test_a_model_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"^LightGCN fails on the 120 users .* measured \(UsageError: "):
        run_warm_up("LightGCN", {"embedding_size": "wide"})


def test_only_runs_that_measure_serving_begin_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert("toy", None, tmp_path / "atomic_files")
    seen = []
    monkeypatch.setattr(
        "recbole_signed.runs.runner.run_warm_up", lambda model, settings: seen.append((model, settings))
    )
    monkeypatch.setattr("recbole_signed.runs.runner._serve", lambda trainer: {"serve_seconds": 1.0})
    run("Pop", "toy-signed", overrides={"topk": [5], "valid_metric": "NDCG@5"}, save=False)
    assert seen == []
    run("Pop", "toy-signed", overrides={"topk": [5], "valid_metric": "NDCG@5"}, save=False, serve=True)
    assert [(model, settings["topk"]) for model, settings in seen] == [("Pop", [5])]


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is reset on Linux alone")
def test_it_takes_the_libraries_out_of_the_memory_of_a_model(tmp_path: Path) -> None:
    convert("toy", None, tmp_path / "atomic_files")
    code = (
        "import sys, recbole_signed; from recbole_signed.runs import runner as m;"
        "m._serve = lambda trainer: {}; serve = sys.argv[1] == 'serve';"
        "row = m.run('SSF', 'toy-signed', overrides={'topk': [5], 'valid_metric': 'NDCG@5'}, save=False, serve=serve);"
        "print(row.fit_memory_bytes)"
    )
    cold, warm = (
        int(
            subprocess.run(
                [sys.executable, "-W", "ignore", "-c", code, word], capture_output=True, text=True, check=True
            ).stdout.split()[-1]
        )
        for word in ("alone", "serve")
    )
    assert warm < cold / 2
