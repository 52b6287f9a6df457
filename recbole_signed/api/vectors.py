"""The vectors of users and items of a RecBole model, wherever it keeps them."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender

from recbole_signed.errors import UsageError
from recbole_signed.model import SignedRecommender

_SIMILARITIES = ("item_filter", "item_similarity", "w")  # where models keep item-item weights


def vectors_of(model: Any, side: str) -> np.ndarray:
    """Return the vectors of a ``side``, ``user`` or ``item``, float32 ``[n, d]``; refuse a model without."""
    found = _find(model, side)
    if found is None:
        raise UsageError(f"{type(model).__name__} has no {side} vectors.")
    return found


def similarities(model: Any, item: int) -> np.ndarray:
    """Return an item's similarity to all items, ``[n_items]``: cosines, or the model's weights; -inf for unknown."""
    found = _find(model, "item")
    if found is None and hasattr(model, "weights_of"):
        return np.asarray(model.weights_of(item).cpu())
    if found is None:
        weights: Any = next((getattr(model, name) for name in _SIMILARITIES if hasattr(model, name)), None)
        shape = getattr(weights, "shape", None)
        if shape != (model.n_items, model.n_items):
            raise UsageError(f"{type(model).__name__} has neither item vectors nor item similarities.")
        row: Any = weights[item]
        row = row.todense() if hasattr(row, "todense") else row
        row = np.array(row, dtype=np.float32).reshape(-1)
        row[row == 0] = -np.inf
        return row
    vectors = model.similarity_vectors().cpu().numpy() if hasattr(model, "similarity_vectors") else found
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
    found = pair[place]
    if found is None or found.dim() != 2 or len(found) < rows:
        return None
    return found[:rows].detach().float().cpu().numpy()


def _of_stock(model: Any) -> tuple[Any, Any]:
    """Return what graph models cache, what ``forward()`` of others returns, or the embedding tables."""
    if hasattr(model, "restore_user_e"):
        if model.restore_user_e is None:
            model.full_sort_predict(Interaction({model.USER_ID: torch.tensor([1])}).to(model.device))
        return model.restore_user_e, getattr(model, "restore_item_e", None)
    if not inspect.signature(model.forward).parameters:
        pair = model.forward()
        if isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(each, torch.Tensor) for each in pair):
            return pair
    tables = [getattr(getattr(model, f"{side}_embedding", None), "weight", None) for side in ("user", "item")]
    return tables[0], tables[1]
