"""The values per user are those of the right users, and their means are RecBole's results."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from prepared import new_trainer

from recbole_signed.convert import convert

METRICS = ["Recall", "NDCG", "MRR", "MAP", "Hit", "Precision", "GAUC", "AveragePopularity", "ItemCoverage"]
SIGNED = ["DislikeRecall", "DislikeHit", "DislikeNDCG", "DislikeShare", "DeltaRecall", "DeltaNDCG", "SignAUC"]
NOT_PER_USER = {"gauc", "itemcoverage"}


def evaluated(tmp_path: Path, settings: dict[str, Any], model: str = "Pop") -> SimpleNamespace:
    """Fit a model on the planted set and evaluate it twice with a record and once more without."""
    from recbole.data import data_preparation

    from recbole_signed.evaluation.per_user import recorded
    from recbole_signed.runs.runner import configured_data

    convert("toy", None, tmp_path / "atomic_files")
    common = {"state": "ERROR", "metric_decimal_place": 12, "topk": [3, 10], "eval_batch_size": 500, "epochs": 1}
    config, data = configured_data(model, "toy-signed", (), {**common, **settings})
    parts = train, _, test = data_preparation(config, data)
    trainer = new_trainer(config, parts)
    trainer.fit(train, saved=False)
    before = dict(vars(trainer.eval_collector)), dict(vars(trainer.evaluator))
    with recorded(trainer) as seen:
        trainer.evaluate(test, load_best_model=False)  # of several, the last one counts
        result = trainer.evaluate(test, load_best_model=False)
    after = dict(vars(trainer.eval_collector)), dict(vars(trainer.evaluator))
    assert [set(each) for each in before] == [set(each) for each in after], "nothing stays on the trainer"
    values, users = seen.values(), seen.users()
    again = trainer.evaluate(test, load_best_model=False)
    assert again.keys() == result.keys(), "taking the values leaves the metrics as they are"
    assert np.array_equal(seen.users(), users), "a later evaluation is not recorded"
    return SimpleNamespace(
        result=dict(result), values=values, users=users, test=test, model=trainer.model, config=config
    )


def means(found: SimpleNamespace) -> dict[str, float]:
    return {key: float(np.nanmean(value)) for key, value in found.values.items()}


def test_their_means_are_the_results_of_signed_data(tmp_path: Path) -> None:
    found = evaluated(tmp_path, {"metrics": [*METRICS, *SIGNED], "valid_metric": "NDCG@10"}, "EASE")
    expected = {key: value for key, value in found.result.items() if key.partition("@")[0] not in NOT_PER_USER}
    assert len(expected) == 2 * (len(METRICS) - 2 + len(SIGNED) - 1) + 1
    assert means(found) == pytest.approx(expected, abs=1e-9)
    assert len(found.users) > 20
    assert all(len(value) == len(found.users) for value in found.values.values())


@pytest.mark.parametrize("extra", [{}, {"SIGN_FIELD": None}], ids=["signed", "unsigned"])
def test_they_belong_to_their_users(tmp_path: Path, extra: dict[str, Any]) -> None:
    settings = {"metrics": ["Recall"], "valid_metric": "Recall@10", "eval_batch_size": 400, **extra}
    found = evaluated(tmp_path, settings, "EASE")
    recalls: dict[int, float] = {}
    batches = 0
    for interaction, history, like_u, like_i in found.test:
        batches += 1
        users = interaction["user_id"].tolist()
        scores = found.model.full_sort_predict(interaction).view(len(users), -1).clone()
        scores[:, 0] = -torch.inf
        if history is not None:
            scores[history] = -torch.inf
        top = scores.topk(3, dim=1).indices.tolist()
        for row, user in enumerate(users):
            likes = like_i[like_u == row].tolist()
            recalls[user] = len(set(likes) & set(top[row])) / len(likes)
    assert batches > 1
    assert len(set(recalls.values())) > 1
    assert dict(zip(found.users.tolist(), found.values["recall@3"], strict=True)) == pytest.approx(recalls)


def test_candidates_and_rows_that_are_no_users(tmp_path: Path) -> None:
    settings = {"SIGN_FIELD": None, "eval_args": {"mode": "uni5"}, "metrics": ["Recall", "NDCG"], "topk": [3, 10]}
    found = evaluated(tmp_path, {**settings, "valid_metric": "NDCG@3"})
    assert means(found) == pytest.approx(found.result, abs=1e-9)
    held_out = found.test._dataset.inter_feat["user_id"].numpy()
    assert np.array_equal(np.sort(found.users), np.unique(held_out))
    from recbole_signed.evaluation.per_user import Recorded

    assert evaluated(tmp_path, {"metrics": ["Recall"], "valid_metric": "Recall@3"}).values
    asked = {"recall": SimpleNamespace()}
    assert Recorded("user_id", asked, [torch.tensor([1, 2, 1])], struct=object()).values() == {}
    assert Recorded("user_id", asked).values() == {}, "nothing was evaluated"
