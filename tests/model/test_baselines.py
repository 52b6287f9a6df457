"""DecayPop, FeaturePop and ContentKNN against sums over likes and the dense formulas of their docstrings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


@pytest.mark.parametrize("half_life", [0.5, 4.0])
def test_likes_halve_after_half_life(half_life: float, prepare_model: Callable[..., Any], signed_rows: list) -> None:
    model, _, parts = prepare_model("DecayPop", half_life=half_life)
    model.fit()
    dataset = parts[0]._dataset
    tokens = (dataset.id2token(field, dataset.inter_feat[field]) for field in ("user_id", "item_id"))
    trained = set(zip(*tokens, strict=True))
    likes = [(item, time) for user, item, sign, time in signed_rows if (str(user), str(item)) in trained and sign > 0]
    assert len(likes) == len(trained)
    wanted = np.zeros(model.n_items)
    latest = max(time for _, time in likes)
    for item, time in likes:
        wanted[dataset.token2id("item_id", str(item))] += 2.0 ** (-(latest - time) / 86_400 / half_life)
    assert np.ptp(wanted) > 1.0
    scores = model.score(torch.tensor([1, 2])).numpy()
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_allclose(scores[0] / scores[0].sum(), wanted / wanted.sum(), rtol=1e-4)


COLD = {"split": {"CI": [0.7, 0.1, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}
GROUPS = 5


@pytest.fixture
def fitted(prepare_model: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """A model on small data; items 0 to 47 of 50 have a group and two tags."""

    def make(name: str, **config: Any) -> tuple[Any, np.ndarray]:
        folder = tmp_path / "dataset" / "small"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{item}\tg{item % GROUPS}\tt{item % 3} u{item % 4}" for item in range(48)]
        (folder / "small.item").write_text("\n".join(["item_id:token\tgroup:token\ttags:token_seq", *lines]) + "\n")
        model, _, parts = prepare_model(name, features={"item": "all"}, eval_args=COLD, **config)
        model.fit()
        return model, parts[0]._dataset.features_of("item").matrix.toarray().astype(np.float64)

    return make


def test_popularity_is_predicted_where_nothing_is_known(fitted: Callable[..., Any]) -> None:
    model, F = fitted("FeaturePop", feature_ridge=2.0)
    likes, dislikes = (np.asarray(each.sum(axis=0)).ravel() for each in (model.graph.likes, model.graph.dislikes))
    known, told = likes + dislikes > 0, F.any(axis=1)
    train = F[known & told]
    penalty = np.diag([0.0, *[2.0] * (F.shape[1] - 1)])  # hardly any of what all items have in common
    learned = np.linalg.solve(train.T @ train + penalty, train.T @ np.log1p(likes[known & told]))
    new = ~known & told
    assert new[1:].sum() > 3
    found = model.score(torch.tensor([1]))[0].numpy()
    assert found[new] == pytest.approx(F[new] @ learned, abs=1e-3)
    assert found[known] == pytest.approx(np.log1p(likes[known]), abs=1e-6)


@pytest.mark.parametrize("idf", [0, 1])
def test_an_item_is_as_near_as_its_features_are(idf: int, fitted: Callable[..., Any]) -> None:
    model, F = fitted("ContentKNN", idf=idf)
    F = F[:, 1:]
    if idf:
        F = F * np.log(len(F) / np.maximum(F.sum(axis=0), 1))
    F /= np.maximum(np.linalg.norm(F, axis=1, keepdims=True), 1e-12)
    users = torch.arange(1, model.n_users)
    expected = model.graph.likes[users.numpy()].toarray() @ (F @ F.T)
    assert model.score(users).numpy() == pytest.approx(expected, abs=1e-4)
    without = ~F.any(axis=1)
    assert without[1:].any()
    assert (model.score(users).numpy()[:, without] == 0).all()
