"""What a model holds and reads: its vectors of users and items, wherever they lie, and the sequences of users."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender

from recbole_signed.api.ids import IntArray
from recbole_signed.errors import UsageError
from recbole_signed.model import SignedRecommender

_SIMILARITIES = ("item_filter", "item_similarity", "w")  # where models keep item-item weights


def vectors_of(model: Any, side: str) -> np.ndarray:
    """Return the vectors of a ``side``, ``user`` or ``item``, float32 ``[n, d]``; refuse a model without."""
    vectors = _find(model, side)
    if vectors is None:
        raise UsageError(f"{type(model).__name__} has no {side} vectors.")
    return vectors


def similarities(model: Any, item: int) -> np.ndarray:
    """Return an item's similarity to all items, ``[n_items]``: cosines, or the model's weights; -inf for unknown."""
    table = _find(model, "item")
    if table is None and hasattr(model, "weights_of"):
        return np.asarray(model.weights_of(item).cpu())
    if table is None:
        weights: Any = next((getattr(model, name) for name in _SIMILARITIES if hasattr(model, name)), None)
        shape = getattr(weights, "shape", None)
        if shape != (model.n_items, model.n_items):
            raise UsageError(f"{type(model).__name__} has neither item vectors nor item similarities.")
        row: Any = weights[item]
        row = row.todense() if hasattr(row, "todense") else row
        row = np.array(row, dtype=np.float32).reshape(-1)
        row[row == 0] = -np.inf
        return row
    vectors = model.similarity_vectors().cpu().numpy() if hasattr(model, "similarity_vectors") else table
    lengths = np.linalg.norm(vectors, axis=1)
    products = vectors @ vectors[item] / np.maximum(lengths * lengths[item], 1e-12)
    products[lengths * lengths[item] == 0] = -np.inf
    return products


@torch.no_grad()
def _find(model: Any, side: str) -> np.ndarray | None:
    """Return vectors of users or items, with the padding row; None where there are none."""
    if side == "user" and isinstance(model, SequentialRecommender):  # its users are what they did last
        return None
    place, rows = (0, model.n_users) if side == "user" else (1, model.n_items)
    if hasattr(model, "vectors"):
        pair = model.vectors()
    elif isinstance(model, SignedRecommender) and type(model).encode is not SignedRecommender.encode:
        pair = model.embeddings()
    elif isinstance(model, SignedRecommender):
        pair = getattr(model, "user_factors", None), getattr(model, "item_factors", None)
    else:
        pair = _of_stock(model)
    table = pair[place]
    if table is None or table.dim() != 2 or len(table) < rows:
        return None
    return table[:rows].detach().float().cpu().numpy()


def _of_stock(model: Any) -> tuple[Any, Any]:
    """Return what graph models cache, what ``forward()`` of others returns, or the embedding tables."""
    if hasattr(model, "restore_user_e"):
        if model.restore_user_e is None:
            model.full_sort_predict(Interaction({model.USER_ID: torch.tensor([1])}).to(model.device))
        return model.restore_user_e, getattr(model, "restore_item_e", None)
    if not inspect.signature(model.forward).parameters:
        pair = model.forward()
        if isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(tensor, torch.Tensor) for tensor in pair):
            return pair
    tables = [getattr(getattr(model, f"{side}_embedding", None), "weight", None) for side in ("user", "item")]
    return tables[0], tables[1]


# ---- what a sequential model reads of a user: the whole sequence, whose next item is to be recommended ----


class UserSequences:
    """The last items of each user with what is known of them, all parts of the data set together.

    In RecBole's augmented rows, that is the last row with its target at the end; a user of one interaction has none.
    """

    def __init__(self, data: Any) -> None:
        if hasattr(data, "latest"):
            self._hold(data.latest(), data)
            return
        feat, length_field = data.inter_feat, data.item_list_length_field
        users, lengths = feat[data.uid_field].numpy(), feat[length_field].numpy()
        order = np.lexsort((feat[data.time_field].numpy(), lengths, users))
        last = torch.from_numpy(order[np.append(users[order][1:] != users[order][:-1], True)])
        before, longest = feat[length_field][last], data.max_item_list_len
        full = before == longest
        columns = {length_field: (before + 1).clamp(max=longest), data.uid_field: feat[data.uid_field][last]}
        place, rows = torch.where(full, longest - 1, before), torch.arange(len(last))
        for field in feat.columns:
            name = getattr(data, f"{field}_list_field", None)
            if name in feat.columns:
                values = feat[name][last].clone()
                values[full] = values[full].roll(-1, dims=1)
                values[rows, place] = feat[field][last]
                columns[name] = values
        self._hold(Interaction(columns), data)

    def _hold(self, latest: Interaction, data: Any) -> None:
        self._columns = latest.interaction
        self._row = np.full(data.user_num, -1, dtype=np.int64)
        self._row[latest[data.uid_field].numpy()] = np.arange(len(latest))

    def known(self, users: IntArray) -> np.ndarray:
        """Return which users have a sequence, bool ``[n]``."""
        known: np.ndarray = self._row[users] >= 0
        return known

    def rows(self, users: IntArray) -> Interaction:
        """Return the sequences of users who have one."""
        rows = torch.from_numpy(self._row[users])
        return Interaction({name: values[rows] for name, values in self._columns.items()})


def likes_without_a_row(dataset: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return user and item of likes that may be the target of no row: a sequence's first; of signed data, all likes."""
    if hasattr(dataset, "all_likes"):
        users, items = dataset.all_likes()
        return torch.from_numpy(users), torch.from_numpy(items)
    feat = dataset.inter_feat
    return feat[dataset.uid_field], feat[getattr(dataset, f"{dataset.iid_field}_list_field")][:, 0]


def liked_items(dataset: Any) -> torch.Tensor:
    """Return the item of each like of a part, ``[n_likes]``; of sequences the first ones too, which are no targets."""
    if hasattr(dataset, "liked_pairs"):
        return torch.from_numpy(dataset.liked_pairs()[1])
    feat = dataset.inter_feat
    items = feat[dataset.iid_field]
    if not hasattr(dataset, "item_list_length_field"):
        return items
    second = feat[dataset.item_list_length_field] == 1
    return torch.cat([items, feat[getattr(dataset, f"{dataset.iid_field}_list_field")][second, 0]])
