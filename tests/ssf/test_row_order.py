"""The order of a data set's rows changes no ranking, but for the order of items with equal scores."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

N_USERS, N_ITEMS = 24, 18
SETTINGS: dict[str, dict[str, Any]] = {
    "Pop": {},
    "DecayPop": {"half_life": 0.01},
    "SSF": {"auto": False, "rank": 8, "cutoff": 4, "popularity_floor": 0.1, "dislike_aversion": 0.5},
    "SSFL": {"auto": False, "rank": 8, "cutoff": 4, "popularity_floor": 0.1},
    "SSFT": {"auto": False, "rank": 8, "cutoff": 4, "dislike_aversion": 0.5},
}
Row = tuple[int, int, int, int]


def rows() -> list[Row]:
    """Users, items, signs, and times that differ; items come in pairs that are alike, the last users late."""
    rng = np.random.default_rng(3)
    pairs = [
        (user, int(item), int(rng.choice([1, -1], p=[0.7, 0.3])))
        for user in range(N_USERS)
        for item in np.flatnonzero(rng.random(N_ITEMS // 2) < 0.5) * 2
    ]
    order = sorted(rng.permutation(len(pairs)), key=lambda place: pairs[place][0] >= N_USERS - 3)
    edges = [(user, item + side, sign) for user, item, sign in (pairs[place] for place in order) for side in (0, 1)]
    return [(*edge, 1_600_000_000 + 60 * place) for place, edge in enumerate(edges)]


def fitted(name: str, order: list[int], root: Path) -> tuple[Any, Any]:
    """Return a model that was fitted to the rows in some order, and its data set."""
    folder = root / "rows"
    folder.mkdir(parents=True)
    every = rows()
    lines = ["user_id:token\titem_id:token\tsign:float\ttimestamp:float"]
    lines += ["u{}\ti{}\t{}\t{}".format(*every[place]) for place in order]
    (folder / "rows.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = Config(
        model=name,
        dataset="rows",
        config_dict={
            "data_path": str(root),
            "load_col": {"inter": ["user_id", "item_id", "sign", "timestamp"]},
            "eval_args": {"order": "TO", "split": {"RS": [0.7, 0.1, 0.2]}, "group_by": "none"},
            "state": "ERROR",
            "epochs": 1,
            "checkpoint_dir": str(root / "saved"),
            **SETTINGS[name],
        },
    )
    init_seed(config["seed"], True)
    parts = data_preparation(config, create_dataset(config))
    model = get_model(name)(config, parts[0]._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    trainer.fit(parts[0], saved=False, show_progress=False)
    model.eval()
    return model, parts[0]._dataset


def scores_by_token(name: str, order: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return scores ``[n_users, n_items]`` in the order of the tokens, and which users have training edges."""
    with tempfile.TemporaryDirectory() as folder:
        model, dataset = fitted(name, order, Path(folder))
    users, items = (
        torch.tensor([dataset.token2id(field, f"{letter}{n}") for n in range(number)])
        for field, letter, number in ((dataset.uid_field, "u", N_USERS), (dataset.iid_field, "i", N_ITEMS))
    )
    with torch.no_grad():
        found = model.full_sort_predict({dataset.uid_field: users}).view(N_USERS, -1)
    edges = sum(np.bincount(each[dataset.uid_field].numpy(), minlength=dataset.user_num)
                for each in (dataset.inter_feat, dataset.neg_feat))  # fmt: skip
    return found[:, items].numpy(), edges[users.numpy()] > 0


@functools.cache
def in_time(name: str) -> tuple[np.ndarray, np.ndarray]:
    return scores_by_token(name, list(range(len(rows()))))


@pytest.mark.parametrize("name", SETTINGS)
@settings(max_examples=5)
@given(order=st.permutations(range(len(rows()))))
def test_the_order_of_rows_changes_no_ranking(name: str, order: list[int]) -> None:
    wanted, known = in_time(name)
    found, also_known = scores_by_token(name, order)
    np.testing.assert_array_equal(known, also_known)
    size = np.abs(wanted[:, wanted.max(axis=0) > -1e9]).max()
    np.testing.assert_allclose(found, wanted, atol=1e-5 * size, rtol=1e-5)
    distinct = np.abs(wanted[:, :, None] - wanted[:, None, :]) > 1e-4 * size
    np.testing.assert_array_equal(
        (found[:, :, None] > found[:, None, :])[distinct], (wanted[:, :, None] > wanted[:, None, :])[distinct]
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_users_without_edges_get_one_list_whose_ties_are_the_same(name: str) -> None:
    scores, known = in_time(name)
    turned, _ = scores_by_token(name, list(range(len(rows())))[::-1])
    new = np.flatnonzero(~known)
    assert len(new)
    for own in (scores[new], turned[new]):
        np.testing.assert_array_equal(own, np.broadcast_to(own[0], own.shape))
    ties = [own[0][:, None] == own[0][None, :] for own in (scores[new], turned[new])]
    np.testing.assert_array_equal(*ties)
    assert name in ("DecayPop", "SSFT") or ties[0].sum() > N_ITEMS
