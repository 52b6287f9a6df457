"""What a trained model costs in use: measured on its checkpoint, in a process of its own."""

import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from refusals import check_refused

from recbole_signed.runs import run
from recbole_signed.runs import serving_cost as serving
from recbole_signed.runs.serving_cost import run_warm_up
from recbole_signed.trainer.checkpoints import read_checkpoint, restored

QUICK = {"epochs": 2, "state": "ERROR", "embedding_size": 8, "topk": [5], "valid_metric": "NDCG@5"}
N_USERS, N_ITEMS = 61, 43
"""Of the planted set, with padding."""


@pytest.fixture
def checkpoint(toy: str) -> Any:
    """Train a model on the planted set and return its checkpoint."""

    def train(model: str, **settings: Any) -> Path:
        run(model, "toy-signed", overrides={**QUICK, **settings})
        (file,) = Path("runs").glob(f"{model}-*.pth")
        return file

    return train


def test_a_run_measures_its_checkpoint_in_another_process(toy: str) -> None:
    plain = run("EASE", "toy-signed", overrides=QUICK, save=False)
    assert plain.serve_seconds is plain.model_bytes is plain.serve_memory_bytes is None
    served = run("EASE", "toy-signed", overrides=QUICK, save=False, serve=True)
    assert served.test == plain.test
    assert served.config_hash == plain.config_hash
    assert 0 < served.serve_seconds < 10
    assert 0 < served.serve_first_seconds < 10
    assert 0 < served.serve_memory_bytes < 500e6
    assert served.model_bytes == N_ITEMS**2 * 4 + 4
    assert served.serve_gpu_memory_bytes is None
    assert not list(Path("runs").glob("*")), "neither the checkpoint nor the result file is left"


def test_measuring_leaves_the_log_of_recbole_out(checkpoint: Any, capfd: pytest.CaptureFixture[str]) -> None:
    serving.serve_in_new_process(checkpoint("Pop", state="INFO"))
    assert "INFO" not in capfd.readouterr().err


def test_what_is_kept_is_counted_and_what_the_edges_give_is_not(checkpoint: Any) -> None:
    assert serving.serve(checkpoint("BPR"))["model_bytes"] == (N_USERS + N_ITEMS) * 8 * 4
    assert serving.serve(checkpoint("LightGCN"))["model_bytes"] == (N_USERS + N_ITEMS) * 8 * 4
    ssf = serving.serve(checkpoint("SSF", auto=False, rank=6, cutoff=3))["model_bytes"]
    assert N_ITEMS * (6 + 2) * 4 < ssf < N_ITEMS * (6 + 2) * 4 + 200


def test_without_full_ranking_there_is_nothing_to_serve(checkpoint: Any) -> None:
    sampled = {"eval_args": {"mode": "uni10"}, "metrics": ["Recall"], "valid_metric": "Recall@5"}
    check_refused("without full ranking", serving.serve, checkpoint("BPR", **sampled))


def test_arrays_outside_the_state_count_for_recboles_one_pass_models() -> None:
    class Fitted(torch.nn.Module):
        type = serving.ModelType.TRADITIONAL
        n_users, n_items = 3, 4

        def __init__(self) -> None:
            super().__init__()
            self.fake = torch.nn.Parameter(torch.zeros(1))
            self.weights = np.zeros((4, 4), dtype=np.float32)
            self.neighbours = sp.identity(4, format="csr", dtype=np.float32)
            self.interaction_matrix = sp.csr_matrix(np.ones((3, 4)))
            self.counts = torch.zeros(4, dtype=torch.int64)

    sparse = 4 * 4 + 4 * 4 + 5 * 4
    assert serving.model_bytes(Fitted()) == 4 + 64 + sparse + 32


def test_the_ranking_is_the_evaluations(checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = checkpoint("BPR")
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    rank = serving._rank

    def remember(model: Any, users: Any, *args: Any) -> torch.Tensor:
        items = rank(model, users, *args)
        seen.append((users["user_id"].numpy(), items.numpy()))
        return items

    monkeypatch.setattr(serving, "_rank", remember)
    serving.serve(file)
    assert sum(len(users) for users, _ in seen) == (1 + serving.REPEATS) * serving.N_USERS
    model, _, (train_data, _, loader) = restored(read_checkpoint(file))
    train = train_data._dataset
    masked = {(int(u), int(i)) for u, i in zip(train.inter_feat["user_id"], train.inter_feat["item_id"], strict=True)}
    users, items = seen[0]
    assert set(users) == set(loader.users), "all that the test part ranks, again and again"
    assert items.shape == (len(users), 5)
    assert not any((int(u), int(i)) in masked for u, row in zip(users, items, strict=True) for i in row)

    def no_full_sort(self: Any, interaction: Any) -> torch.Tensor:
        raise NotImplementedError

    monkeypatch.setattr(type(model), "full_sort_predict", no_full_sort)
    batch, history, *_ = loader.collate_fn(list(range(loader.sample_size)))
    by_pairs = rank(model, batch, history, loader, 5)
    place = {int(user): row for user, row in zip(users, items, strict=True)}
    assert [row.tolist() for row in by_pairs] == [place[int(user)].tolist() for user in batch["user_id"]]


def test_a_process_that_fails_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(RuntimeError, match=r"loading .*x\.pth in a process of its own ended with status 1"):
        serving.serve_in_new_process(tmp_path / "x.pth")
    assert not list(tmp_path.glob("x*"))


def test_the_first_ranking_is_no_part_of_the_median(checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [50.0, 1.0, 9.0, 2.0, 8.0, 3.0]
    assert len(seconds) == 1 + serving.REPEATS
    clock = iter(np.cumsum([part for each in seconds for part in (0.0, each)]).tolist())
    file = checkpoint("Pop")
    monkeypatch.setattr(serving, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    found = serving.serve(file)
    assert (found["serve_first_seconds"], found["serve_seconds"]) == (50.0, 3.0)


@pytest.mark.parametrize("model", ["SSF", "LightGCN", "EASE"])
def test_nothing_stays(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(serving.tempfile, "tempdir", str(temporary))
    handlers = list(logging.getLogger().handlers)
    run_warm_up(model, {"topk": [10, 20], "valid_metric": "NDCG@20"})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert logging.getLogger().handlers == handlers


def test_a_warm_up_has_data_of_its_own_and_items_for_long_lists() -> None:
    keys = {"data_path": "nowhere", "benchmark_filename": ["train", "valid", "test"], "sign_rule": "rating >= 9"}
    run_warm_up("SSF", {**keys, "user_inter_num_interval": "[1000,inf)", "auto": False})
    run_warm_up("Pop", {"topk": [10, 150], "valid_metric": "NDCG@150"})
    run_warm_up("Pop", {"topk": 150, "valid_metric": "NDCG@150"})


def test_a_model_that_fails_is_named() -> None:
    said = r"^LightGCN fails on the 120 users .* measured \(UsageError: "
    check_refused(said, run_warm_up, "LightGCN", {"embedding_size": "wide"})


def test_only_runs_that_measure_serving_begin_with_it(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, Any]] = []
    monkeypatch.setattr(serving, "run_warm_up", lambda model, settings: seen.append((model, settings["topk"])))
    monkeypatch.setattr("recbole_signed.runs.runner._serve", lambda trainer: {"serve_seconds": 1.0})
    for serve, warmed in ((False, []), (True, [("Pop", [5])])):
        run("Pop", "toy-signed", overrides={"topk": [5], "valid_metric": "NDCG@5"}, save=False, serve=serve)
        assert seen == warmed


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is reset on Linux alone")
def test_it_takes_the_libraries_out_of_the_memory_of_a_model(toy: str) -> None:
    code = (
        "import sys, recbole_signed; from recbole_signed.runs import runner as m;"
        "m._serve = lambda trainer: {}; serve = sys.argv[1] == 'serve';"
        "row = m.run('SSF', 'toy-signed', overrides={'topk': [5], 'valid_metric': 'NDCG@5'}, save=False, serve=serve);"
        "print(row.fit_memory_bytes)"
    )
    words = [sys.executable, "-W", "ignore", "-c", code]
    cold, warm = (
        int(subprocess.run([*words, word], capture_output=True, text=True, check=True).stdout.split()[-1])
        for word in ("alone", "serve")
    )
    assert warm < cold / 2
