"""What a collector is given in an evaluation on signed data, made of lists of items, and what comes out."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction


class SignedBatch(Interaction):
    """Stands in for the batch of the signed evaluation data loader."""

    def __init__(self, users: torch.Tensor, dislikes: torch.Tensor, like_count: torch.Tensor, n_items: int) -> None:
        super().__init__({"user_id": users})
        self.dislike_u, self.dislike_i = dislikes
        self.like_count = like_count
        self.item_keys = torch.arange(n_items)


def pairs(lists: list[list[int]]) -> torch.Tensor:
    """Return rows and items of lists, int64 ``[2, n]``."""
    found = [(row, item) for row, items in enumerate(lists) for item in items]
    return torch.tensor(found, dtype=torch.int64).reshape(-1, 2).T


@dataclass(frozen=True)
class Case:
    """Scores ``[n_users, n_items]`` with masked items at -inf, and the held-out items of every user."""

    scores: torch.Tensor
    likes: list[list[int]]
    """A like stands here as often as the data set repeats it."""
    dislikes: list[list[int]]

    def batches(self, size: int) -> Iterator[tuple[torch.Tensor, SignedBatch, torch.Tensor, torch.Tensor]]:
        for users in torch.arange(len(self.scores)).split(size):
            like_u, like_i = pairs([sorted(set(self.likes[u])) for u in users])
            count = torch.tensor([len(self.likes[u]) for u in users])
            batch = SignedBatch(users, pairs([self.dislikes[u] for u in users]), count, self.scores.shape[1])
            yield self.scores[users].clone(), batch, like_u, like_i


def random_case(seed: int, n_users: int = 40, n_items: int = 26, repeats: bool = True, masked: bool = True) -> Case:
    """Users of every kind: without likes, without dislikes, with few unmasked items, with masked held-out items."""
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.normal(size=(n_users, n_items)))
    likes, dislikes = [], []
    for user in range(n_users):
        items = rng.permutation(np.arange(1, n_items))
        n_likes, n_dislikes = rng.integers(0, 8), rng.integers(0, 8)
        liked, disliked = items[:n_likes].tolist(), items[n_likes : n_likes + n_dislikes].tolist()
        if repeats and liked and rng.random() < 0.4:
            liked += [liked[0]] * int(rng.integers(1, 3))
        if repeats and liked and rng.random() < 0.2:
            disliked.append(liked[0])  # a pair with both signs
        if masked:
            scores[user, torch.from_numpy(items[rng.random(n_items - 1) < rng.random()])] = -math.inf
        likes.append(liked)
        dislikes.append(disliked)
    scores[:, 0] = -math.inf  # RecBole's padding item
    return Case(scores, likes, dislikes)


def recommended(scores: list[float], k: int) -> list[int]:
    """Return the first ``k`` items of a user, but those that are masked."""
    order = sorted(range(len(scores)), key=lambda item: -scores[item])
    return [item for item in order[:k] if scores[item] != -math.inf]


def slow_recall(shown: list[int], relevant: list[int]) -> float:
    return sum(1 for item in shown if item in relevant) / len(relevant)


def slow_ndcg(shown: list[int], relevant: list[int], k: int) -> float:
    gain = sum(1 / math.log2(rank + 2) for rank, item in enumerate(shown) if item in relevant)
    return gain / sum(1 / math.log2(rank + 2) for rank in range(min(k, len(relevant))))


def config(metrics: list[str], topk: list[int], **other: Any) -> dict[str, Any]:
    return {
        "metrics": metrics, "topk": topk, "eval_args": {"mode": "full"}, "device": torch.device("cpu"),
        "metric_decimal_place": 12, "dataset": "toy", **other,
    }  # fmt: skip


def collect(case: Case, settings: dict[str, Any], train: Any = None) -> Any:
    """Return what RecBole's collector has after the batches of a case, and after a training loader if there is one."""
    collector = import_module("recbole.evaluator.collector").Collector(settings)
    if train is not None:
        collector.data_collect(train)
    for batch in case.batches(7):
        collector.eval_batch_collect(*batch)
    return collector.get_data_struct()


def result(struct: Any, settings: dict[str, Any]) -> dict[str, float]:
    return dict(import_module("recbole.evaluator.evaluator").Evaluator(settings).evaluate(struct))
