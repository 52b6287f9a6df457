"""The test metrics of every user, where a metric is a plain mean of them (not GAUC, weighted, or ItemCoverage)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.metrics import AveragePopularity

from recbole_signed.evaluation.metrics import FloatArray, PerUserMetric


@dataclass
class Recorded:
    """What an evaluation gave; nothing is computed before it is asked for, so that the evaluation can be timed."""

    user_field: str
    metrics: dict[str, Any] = field(default_factory=dict)  # RecBole's metrics by name
    batches: list[torch.Tensor] = field(default_factory=list)  # the internal user ids of each batch, in order
    struct: Any = None  # RecBole's `DataStruct`; None before the end of an evaluation

    def users(self) -> npt.NDArray[np.int64]:
        """Return ``[n_users]`` internal ids in the order of the values."""
        return torch.cat(self.batches).numpy() if self.batches else np.zeros(0, dtype=np.int64)

    def values(self) -> dict[str, FloatArray]:
        """Return ``[n_users]`` values by result key, nan where a user doesn't count; empty where rows are not users."""
        users = self.users()
        if self.struct is None or not len(users) or len(np.unique(users)) != len(users):
            return {}
        found: dict[str, FloatArray] = {}
        for metric in self.metrics.values():
            found |= _per_user(metric, self.struct)
        return {key: value for key, value in found.items() if len(value) == len(users)}


@contextmanager
def recorded(trainer: Any) -> Iterator[Recorded]:
    """Record the evaluation that ``trainer`` (one of RecBole's) makes meanwhile; of several, the last one."""
    collector, evaluator = trainer.eval_collector, trainer.evaluator
    seen = Recorded(trainer.config["USER_ID_FIELD"], evaluator.metric_class)
    waiting: list[torch.Tensor] = []
    collect, evaluate = collector.eval_batch_collect, evaluator.evaluate

    def eval_batch_collect(scores_tensor: Any, interaction: Any, *positives: Any) -> Any:
        waiting.append(_ranked_users(interaction, seen.user_field))
        return collect(scores_tensor, interaction, *positives)

    def evaluate_recorded(dataobject: Any) -> Any:
        seen.batches, seen.struct = waiting[:], dataobject
        waiting.clear()
        return evaluate(dataobject)

    # on the instances, in front of the methods: other trainers are not touched
    collector.eval_batch_collect, evaluator.evaluate = eval_batch_collect, evaluate_recorded
    try:
        yield seen
    finally:
        del collector.eval_batch_collect, evaluator.evaluate


def _ranked_users(interaction: Any, user_field: str) -> torch.Tensor:
    """Return the internal id of each ranked user of a batch."""
    users = interaction[user_field].cpu()
    like_count = getattr(interaction, "like_count", None)
    if like_count is not None:  # users without a held-out like are not ranked
        return users[like_count.cpu() > 0]
    # a batch with sampled candidates has a row for each of them, one user after the other
    return torch.unique_consecutive(users)


def _per_user(metric: Any, struct: Any) -> dict[str, FloatArray]:
    if isinstance(metric, PerUserMetric):
        return metric.per_user(struct)
    if not isinstance(metric, (TopkMetric, AveragePopularity)):
        return {}
    found: dict[str, FloatArray] = {}
    # RecBole's metrics hand [n_users, max_k] to topk_result, which takes the means
    asked = copy.copy(metric)
    asked.topk_result = partial(_keep, found, metric.topk)
    asked.calculate_metric(struct)
    return found


def _keep(found: dict[str, FloatArray], topk: list[int], name: str, value: Any) -> dict[str, float]:
    found.update({f"{name}@{k}": np.asarray(value[:, k - 1], dtype=np.float64) for k in topk})
    return {}
