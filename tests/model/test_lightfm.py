"""LightFM: the library's model on likes and features."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_signed.errors import MissingExtraError, UsageError
from recbole_signed.model.lightfm import _with_own

COLD = {"split": {"CI": [0.7, 0.1, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}


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
    users = torch.arange(1, 20)
    scores = []
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
    with pytest.raises(UsageError, match="fm_loss is 'wrap'"):
        prepare(fm_loss="wrap")
