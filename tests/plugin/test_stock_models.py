"""Every general recommender that RecBole brings runs on signed data, on today's stack."""

import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
from recbole.quick_start import run_recbole

from recbole_signed.plugin import registry

GENERAL = sorted(name for name, family in registry.stock_models() if family == "general")
NEEDS = {"NCL": "faiss"}
SMALL: dict[str, dict[str, Any]] = {
    "NCL": {"num_clusters": 5, "warm_up_step": 0},
    "LDiffRec": {"n_cate": 1},
    # its correlation loss samples 2 * n_users / n_batches users, more than there are in a single batch
    "DGCF": {"train_batch_size": 64},
    # its pretraining returns before RecBole collects what coverage metrics need
    "RaCT": {"metrics": ["Recall", "NDCG", "DislikeRecall", "SignAUC"]},
}


def test_the_list_is_recboles() -> None:
    assert {"BPR", "LightGCN", "EASE", "MultiVAE", "Pop", "Random", "ItemKNN"} <= set(GENERAL)
    assert len(GENERAL) >= 32


@pytest.mark.parametrize("dataset", ["toy-signed", pytest.param("ml-100k-signed", marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", GENERAL)
def test_it_runs(model: str, dataset: str, toy_root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    if model in NEEDS and importlib.util.find_spec(NEEDS[model]) is None:
        pytest.skip(f"{model} needs the package {NEEDS[model]}, which this package does not")
    is_toy = dataset == "toy-signed"
    settings = {
        "data_path": str(toy_root if is_toy else tmp_path_factory.getbasetemp()), "epochs": 1, "topk": [10],
        "metrics": ["Recall", "NDCG", "DislikeRecall", "SignAUC", "ItemCoverage", "GiniIndex", "AveragePopularity"],
        "valid_metric": "NDCG@10", "show_progress": False, "state": "ERROR",
    }  # fmt: skip
    settings |= {key: each for key, each in SMALL.get(model, {}).items() if is_toy or key != "train_batch_size"}
    result = run_recbole(model=model, dataset=dataset, config_dict=settings)["test_result"]
    assert all(math.isfinite(value) for value in result.values())
    assert 0 <= result["recall@10"] <= 1
