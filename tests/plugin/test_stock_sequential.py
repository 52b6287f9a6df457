"""Which of RecBole's sequential models run on signed data, on today's stack."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from prepared import new_trainer, prepared
from recbole.quick_start import run_recbole

from recbole_signed import UsageError
from recbole_signed.plugin import registry
from recbole_signed.plugin.facts import why_unsigned
from recbole_signed.runs import run

SEQUENTIAL = sorted(name for name, family in registry.stock_models() if family == "sequential")
NEED_FEATURES = ("FDSA", "GRU4RecF", "S3Rec", "SASRecF")
"""They read features of items, which the toy set does not have."""
NO_PREDICT = tuple(name for name in ("GRU4RecCPR", "SASRecCPR") if name in SEQUENTIAL)
"""Their ``predict`` is ``assert False``, and ``run_recbole`` counts FLOPs by it; ``recbole-signed run`` does not.

RecBole has them since 1.2.1, for which pip finds no home on Python 3.12 and newer."""
REFUSED = ("GRU4RecKG", "KSR")
RANKING = [name for name in SEQUENTIAL if name not in (*NEED_FEATURES, *NO_PREDICT, *REFUSED, "DIN", "DIEN")]


def settings(toy_root: Path, **changes: Any) -> dict[str, Any]:
    shared = {"data_path": str(toy_root), "epochs": 1, "show_progress": False, "state": "ERROR"}
    return {**shared, "MAX_ITEM_LIST_LENGTH": 10, "topk": [10], **changes}


SIGNED = {"metrics": ["Recall", "NDCG", "DislikeRecall", "SignAUC"], "valid_metric": "NDCG@10"}


def test_the_list_is_recboles() -> None:
    assert {"SASRec", "GRU4Rec", "BERT4Rec", "NARM", "SRGNN"} <= set(RANKING)
    assert len(SEQUENTIAL) - len(NO_PREDICT) == 29
    assert [name for name in SEQUENTIAL if why_unsigned(name, "sequential")] == list(REFUSED)


@pytest.mark.parametrize("model", [*RANKING, "SignedSASRec"])
def test_runs_on_the_toy_set(model: str, toy_root: Path) -> None:
    config = settings(toy_root, **SIGNED)
    result = run_recbole(model=model, dataset="toy-signed", config_dict=config, saved=False)["test_result"]
    assert all(math.isfinite(value) for value in result.values())


@pytest.mark.parametrize("model", ["DIN", "DIEN"])
def test_those_that_recbole_judges_by_auc_run(model: str, toy_root: Path, tmp_path: Path) -> None:
    config = settings(toy_root, checkpoint_dir=str(tmp_path / "saved"))
    assert 0 <= run_recbole(model=model, dataset="toy-signed", config_dict=config)["test_result"]["auc"] <= 1


@pytest.mark.parametrize("model", ["DIN", "DIEN"])
def test_embeddings_of_features_are_trained_after_a_resumption(model: str, toy_root: Path, tmp_path: Path) -> None:
    """RecBole keeps the layer in a checkpoint as an object, beside its parameters."""

    def trained(**changes: Any) -> Any:
        config, _, parts = prepared("toy-signed", model, **settings(toy_root, **changes))
        trainer = new_trainer(config, parts)
        trainer.fit(parts[0], None, saved="checkpoint_dir" in changes, show_progress=False)
        return trainer

    first = trained(epochs=1, checkpoint_dir=str(tmp_path / "saved"))
    whole, second = trained(epochs=2), trained(epochs=2, resume=first.saved_model_file)
    assert second.train_loss_dict[1] == whole.train_loss_dict[1]
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in second.model.state_dict().items())


@pytest.mark.parametrize("model", NO_PREDICT)
def test_those_without_predict_run_where_no_flops_are_counted(model: str, toy_root: Path) -> None:
    row = run(model, "toy-signed", overrides=settings(toy_root, **SIGNED, **{"reranker_CAN_NUM": 10}), save=False)
    assert 0 <= row.test["recall@10"] <= 1


@pytest.mark.parametrize("model", REFUSED)
def test_those_of_a_knowledge_graph_are_refused(model: str, toy_root: Path) -> None:
    with pytest.raises(UsageError, match="it reads a knowledge graph"):
        run_recbole(model=model, dataset="toy-signed", config_dict=settings(toy_root), saved=False)


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("GRU4Rec", {}, "GRU4Rec needs the order of time, but no column 'timestamp' of 'toy-signed' is loaded; set"),
        ("Pop", {"eval_args": {"order": "TO"}}, "eval_args.order TO needs .*, or set eval_args.order to RO.$"),
    ],
)
def test_data_without_times_are_refused(model: str, changes: dict[str, Any], message: str, toy_root: Path) -> None:
    unsigned = {"SIGN_FIELD": None, "load_col": {"inter": ["user_id", "item_id"]}}
    with pytest.raises(UsageError, match=message):
        run_recbole(
            model=model, dataset="toy-signed", config_dict=settings(toy_root, **unsigned, **changes), saved=False
        )
