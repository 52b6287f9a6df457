"""Models without training that rank by popularity or content, and LightFM."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from refusals import check_refused

from recbole_signed.errors import MissingExtraError
from recbole_signed.model.lightfm import _with_own

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


@pytest.fixture
def prepare(prepare_model: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """The model on small data whose items have features."""

    def make(**config: Any) -> Any:
        folder = tmp_path / "dataset" / "small"
        folder.mkdir(parents=True, exist_ok=True)
        items = [f"{item}\tg{item % 5}" for item in range(50)]
        (folder / "small.item").write_text("\n".join(["item_id:token\tgroup:token", *items]) + "\n")
        return prepare_model("LightFM", **{"features": {"item": "all"}, "eval_args": COLD, **config})

    return make


def test_new_items_of_one_group_have_one_taste(prepare: Callable[..., Any]) -> None:
    """Two items without an edge differ by the start of their own embeddings alone, which nothing trains."""
    pytest.importorskip("lightfm")
    model, _, parts = prepare(fm_epochs=30, embedding_size=16)
    model.fit()
    known = torch.from_numpy(model.graph.likes.sum(axis=0) > 0).ravel()
    new = [item for item in parts[2]._dataset.inter_feat["item_id"].unique().tolist() if not known[item]]
    groups = [int(parts[0]._dataset.id2token("item_id", item)) % 5 for item in new]
    scores = torch.corrcoef(model.score(torch.arange(1, model.n_users))[:, new].T)
    same = [scores[a, b] for a in range(len(new)) for b in range(a) if groups[a] == groups[b]]
    other = [scores[a, b] for a in range(len(new)) for b in range(a) if groups[a] != groups[b]]
    assert torch.stack(same).mean() > torch.stack(other).mean() + 0.2


def test_features_keep_their_signs() -> None:
    vectors = sp.csr_matrix(np.array([[0, 0], [1, -0.8], [1, 0.8]], dtype=np.float32))
    found = _with_own(SimpleNamespace(matrix=vectors), 3).toarray()
    np.testing.assert_allclose(np.abs(found).sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(found[1:, 3:], np.array([[1, -0.8], [1, 0.8]]) / 2.8, rtol=1e-6)


def test_a_seed_decides_all(prepare: Callable[..., Any]) -> None:
    pytest.importorskip("lightfm")
    users, scores = torch.arange(1, 20), []
    for seed in (1, 1, 2):
        model, _, _ = prepare(seed=seed, fm_epochs=2)
        model.seed = seed
        model.fit()
        scores.append(model.score(users))
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])


class _Library:
    """Takes note of what it is given; a user or item has the mean of its features' numbers."""

    made: ClassVar[Any] = None

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        type(self).made = self

    def fit(self, likes: Any, user_features: Any, item_features: Any, **how: Any) -> None:
        self.given, self.how = (likes.toarray(), user_features.toarray(), item_features.toarray()), how

    def get_user_representations(self, features: Any) -> tuple[np.ndarray, np.ndarray]:
        return features @ np.arange(features.shape[1]), features @ self._factors(features.shape[1], 1)

    def get_item_representations(self, features: Any) -> tuple[np.ndarray, np.ndarray]:
        return features @ np.arange(features.shape[1]) ** 0.5, features @ self._factors(features.shape[1], 2)

    @staticmethod
    def _factors(n: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal((n, 3))


def test_settings_reach_it_and_its_biases_count(prepare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightfm", SimpleNamespace(LightFM=_Library))
    keys = {"embedding_size": 3, "fm_epochs": 4, "fm_loss": "bpr", "fm_alpha": 0.02, "learning_rate": 0.3, "seed": 5}
    model, _, parts = prepare(**keys)
    model.fit()
    library = _Library.made
    wanted = {"no_components": 3, "loss": "bpr", "learning_rate": 0.3, "item_alpha": 0.02, "user_alpha": 0.02}
    assert {key: library.settings[key] for key in wanted} == wanted
    assert (library.settings["random_state"], library.how) == (5, {"epochs": 4, "num_threads": 1})
    likes, users, items = library.given
    np.testing.assert_array_equal(likes, model.graph.likes.toarray())
    np.testing.assert_array_equal(users, np.eye(model.n_users))
    np.testing.assert_allclose(items.sum(axis=1), 1.0, rtol=1e-6)
    own = parts[0]._dataset.features_of("item").matrix.toarray() != 0
    np.testing.assert_array_equal(items != 0, np.hstack([np.eye(model.n_items, dtype=bool), own]))
    (user_bias, q), (item_bias, p) = (library.get_user_representations(users), library.get_item_representations(items))
    expected = q @ p.T + user_bias[:, None] + item_bias
    np.testing.assert_allclose(model.score(torch.arange(model.n_users)), expected, rtol=1e-4, atol=1e-4)


def test_wrong_losses_and_missing_libraries(prepare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, _ = prepare()
    monkeypatch.setitem(__import__("sys").modules, "lightfm", None)
    with pytest.raises(MissingExtraError, match="baselines"):
        model.fit()
    check_refused("fm_loss is 'wrap'", prepare, fm_loss="wrap")


@pytest.mark.parametrize("half_life", [0.5, 4.0])
def test_likes_halve_after_half_life(half_life: float, prepare_model: Callable[..., Any], signed_rows: list) -> None:
    model, _, parts = prepare_model("DecayPop", half_life=half_life)
    model.fit()
    dataset = parts[0]._dataset
    tokens = (dataset.id2token(field, dataset.inter_feat[field]) for field in ("user_id", "item_id"))
    trained = set(zip(*tokens, strict=True))
    likes = [(item, time) for user, item, sign, time in signed_rows if (str(user), str(item)) in trained and sign > 0]
    assert len(likes) == len(trained)
    wanted, latest = np.zeros(model.n_items), max(time for _, time in likes)
    for item, time in likes:
        wanted[dataset.token2id("item_id", str(item))] += 2.0 ** (-(latest - time) / 86_400 / half_life)
    assert np.ptp(wanted) > 1.0
    scores = model.score(torch.tensor([1, 2])).numpy()
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_allclose(scores[0] / scores[0].sum(), wanted / wanted.sum(), rtol=1e-4)
