"""How long a model should be trained, found on the last part of its edges."""

from __future__ import annotations

import numpy as np
import torch

from recbole_signed.evaluation import ndcg_at
from recbole_signed.online import LIKE
from recbole_signed.online.learners.fine_tuning import Batches, Verdicts, adam, train_epoch
from recbole_signed.online.learners.recipe import TrainingRecipe, embeddings_of
from recbole_signed.online.store.edges import EdgeArrays

TOP = 20
MAX_USERS = 2000


def best_epoch(recipe: TrainingRecipe, edges: EdgeArrays, n_users: int, n_items: int, share: float, seed: int) -> int:
    """Return the number of epochs after which NDCG@20 on the last likes of ``edges`` is best.

    Args:
        recipe: its ``epochs``, ``eval_step`` and ``stopping_step`` count, as in RecBole.
        edges: of which the last ``share`` by time is held out.
        n_users: number of ids, padding included.
        n_items: the same of items.
        share: of the edges that are held out.
        seed: of start and batches.

    Returns:
        ``epochs`` where there is nobody to measure on.
    """
    config = recipe.config
    epochs, every, patience = (int(config[key] or 0) for key in ("epochs", "eval_step", "stopping_step"))
    order = np.argsort(edges.timestamp, kind="stable")
    held = np.zeros(len(edges), dtype=bool)
    held[order[int(len(edges) * (1 - share)) :]] = True
    train = EdgeArrays(*(each[~held] for each in (edges.user, edges.item, edges.kind, edges.timestamp)))
    wanted = held & (edges.kind == LIKE) & (np.bincount(train.user, minlength=n_users)[edges.user] > 0)
    users = np.unique(edges.user[wanted])[:MAX_USERS]
    if not len(users) or not every:
        return epochs
    row = np.full(n_users, -1)
    row[users] = np.arange(len(users))
    likes, hidden = (
        (row[edges.user[rows]], edges.item[rows])
        for rows in (wanted & (row[edges.user] >= 0), ~held & (row[edges.user] >= 0))
    )
    model = recipe.build(train, n_users, n_items)
    known = Verdicts.of(train, recipe)
    batches, optimizer = Batches(recipe, known, known, n_items, seed), adam(recipe, model)
    best, found = -1.0, epochs
    for epoch in range(epochs):
        train_epoch(recipe, model, optimizer, batches, epoch)
        if (epoch + 1) % every:
            continue
        value = _ndcg(embeddings_of(model), users, likes, hidden)
        if value > best:
            best, found = value, epoch + 1
        elif epoch + 1 - found > patience * every:
            break
    return found


def _ndcg(
    embeddings: tuple[torch.Tensor, torch.Tensor],
    users: np.ndarray,
    likes: tuple[np.ndarray, np.ndarray],
    hidden: tuple[np.ndarray, np.ndarray],
) -> float:
    scores = (embeddings[0][torch.from_numpy(users.astype(np.int64))] @ embeddings[1].T).numpy()
    scores[:, 0] = -np.inf
    scores[hidden] = -np.inf
    depth = min(TOP, scores.shape[1] - 1)
    top = np.argsort(-scores, axis=1)[:, :depth]
    liked = np.zeros(scores.shape, dtype=bool)
    liked[likes] = True
    return float(ndcg_at(np.take_along_axis(liked, top, axis=1), liked.sum(axis=1))[:, -1].mean())
