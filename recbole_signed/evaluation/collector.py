"""Gets held-out dislikes from the evaluation batches into RecBole's collector; other batches go there as they are.

It also records what an evaluation gives for every user, for the files beside a table's rows.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import wrapt
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.metrics import AveragePopularity

from recbole_signed.arrays import begins
from recbole_signed.errors import UsageError, counted
from recbole_signed.evaluation import group_metrics
from recbole_signed.evaluation.group_metrics import COLD, GROUPS, EdgeGroups
from recbole_signed.evaluation.metrics import (
    DISLIKE,
    LIKE,
    METRICS,
    SIGN_AUC,
    VERDICTS,
    FloatArray,
    PerUserMetric,
    unsigned_error,
)
from recbole_signed.evaluation.sign_aware_metrics import SIGN_AWARE_METRICS
from recbole_signed.graph.top_scores import best_of_each

_GATHERED = "_recbole_signed_gathered"
_RANKED = "_recbole_signed_ranked"
_EDGE_GROUPS = "_recbole_signed_edge_groups"
_COLD_ITEMS = "_recbole_signed_cold_items"
_OF_LISTS = ("rec.items", "rec.topk")
_OF_RECBOLE_ALONE = ("rec.meanrank", "rec.score", "data.label")
_BATCH_ATTRIBUTES = ("dislike_u", "dislike_i", "like_count", "item_keys")


def install(collector_module: ModuleType) -> None:
    """Wrap three methods of ``Collector`` in ``recbole.evaluator.collector``, for batches of signed data."""
    wrapt.wrap_function_wrapper(collector_module, "Collector.eval_batch_collect", _eval_batch_collect)
    wrapt.wrap_function_wrapper(collector_module, "Collector.get_data_struct", _get_data_struct)
    wrapt.wrap_function_wrapper(collector_module, "Collector.data_collect", _data_collect)


@dataclass(frozen=True)
class _Batch:
    """The held-out pairs of one batch; rows refer to ``scores``."""

    scores: torch.Tensor  # `[n_rows, n_items]`
    interaction: Any
    like_u: torch.Tensor
    like_i: torch.Tensor
    dislike_u: torch.Tensor
    dislike_i: torch.Tensor
    like_count: torch.Tensor  # `[n_rows]`
    item_keys: torch.Tensor  # `[n_items]`

    @cached_property
    def likes(self) -> torch.Tensor:
        """The distinct held-out likes as ``row * n_items + item``, ascending."""
        return torch.unique(self.like_u * self.scores.shape[1] + self.like_i)

    @cached_property
    def dislikes(self) -> torch.Tensor:
        """The distinct held-out dislikes as ``row * n_items + item``, ascending."""
        return torch.unique(self.dislike_u * self.scores.shape[1] + self.dislike_i)

    def with_likes(self) -> _Batch:
        """Return the batch without the users who have no held-out like; itself where all have one."""
        keep = self.like_count > 0
        if bool(keep.all()):
            return self
        rows = keep.nonzero().squeeze(1)
        new_row = keep.cumsum(0) - 1
        kept = keep[self.dislike_u]
        return _Batch(
            self.scores[rows.to(self.scores.device)],
            self.interaction[rows],
            new_row[self.like_u],
            self.like_i,
            new_row[self.dislike_u[kept]],
            self.dislike_i[kept],
            self.like_count[rows],
            self.item_keys,
        )

    def best(self, k: int, among: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each user's best items ``[n_rows, <= k]``, ``among`` some or all, and which of them are not masked.

        The order of equal scores follows the ids of the items alone: neither ``k`` nor the order of a file changes it.
        """
        device = self.scores.device
        if among is None:
            values, items = best_of_each(self.scores, k, self.item_keys.to(device))
        else:
            values, places = best_of_each(self.scores[:, among.to(device)], k, self.item_keys[among].to(device))
            items = among.to(device)[places]
        return items, ~torch.isneginf(values)


def _eval_batch_collect(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> None:
    scores, interaction, like_u, like_i = args
    needs = [name for name in (VERDICTS, SIGN_AUC, GROUPS, COLD) if instance.register.need(name)]
    ranks = any(instance.register.need(name) for name in (*_OF_LISTS, VERDICTS))
    if ranks and max(instance.topk) > scores.shape[1]:
        n_items = scores.shape[1] - 1
        has = f"'{instance.config['dataset']}' has {counted(n_items, 'item')}"
        raise UsageError(f"topk is {instance.topk}, but {has}; lower it.")
    if not all(hasattr(interaction, name) for name in _BATCH_ATTRIBUTES):
        if needs:
            raise _unsigned(instance)
        wrapped(*args, **kwargs)
        return
    batch = _Batch(
        scores,
        interaction,
        like_u,
        like_i,
        interaction.dislike_u,
        interaction.dislike_i,
        interaction.like_count,
        interaction.item_keys,
    ).with_likes()
    # joined at the end: at every batch it would be quadratic
    gathered: dict[str, list[torch.Tensor]] = instance.__dict__.setdefault(_GATHERED, defaultdict(list))
    if not len(batch.scores):
        return  # RecBole can't take an empty batch
    instance.__dict__[_RANKED] = True
    if ranks:
        items, shown = batch.best(max(instance.topk))
        liked = _hits(batch, items, batch.likes) * shown
    if any(instance.register.need(name) for name in _OF_RECBOLE_ALONE):
        wrapped(batch.scores, batch.interaction, batch.like_u, batch.like_i)
    # in place of RecBole's, which need a matrix of hits, [n_rows, n_items]
    if instance.register.need("rec.items"):
        gathered["rec.items"].append(items)
    if instance.register.need("rec.topk"):
        gathered["rec.topk"].append(_with_counts(liked, batch.like_count))
    if VERDICTS in needs:
        codes = LIKE * liked + DISLIKE * _hits(batch, items, batch.dislikes) * shown
        n_dislikes = torch.bincount(batch.dislikes // scores.shape[1], minlength=len(batch.scores))
        gathered[VERDICTS].append(_with_counts(codes, batch.like_count, n_dislikes))
        if GROUPS in needs:
            gathered[GROUPS].append(_groups(instance, batch, items))
    if SIGN_AUC in needs:
        gathered[SIGN_AUC].append(_sign_auc(batch))
    if COLD in needs:
        gathered[COLD].append(_cold(instance, batch))


def _hits(batch: _Batch, items: torch.Tensor, held_out: torch.Tensor) -> torch.Tensor:
    """Return, as integers, which of ``items [n_rows, k]`` are among held-out pairs ``row * n_items + item``."""
    n_rows, n_items = batch.scores.shape
    keys = torch.arange(n_rows, device=items.device)[:, None] * n_items + items
    if not len(held_out):
        return torch.zeros_like(keys)
    ascending = held_out.to(items.device)
    place = torch.searchsorted(ascending, keys).clamp_(max=len(ascending) - 1)
    return (ascending[place] == keys).long()


def _with_counts(columns: torch.Tensor, *counts: torch.Tensor) -> torch.Tensor:
    """Return ``[n_rows, k]`` with a column for each of the counts ``[n_rows]``, int32."""
    return torch.cat((columns, *(count.to(columns.device)[:, None] for count in counts)), dim=1).to(torch.int32)


def _data_collect(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> None:
    wrapped(*args, **kwargs)
    train_data = args[0]._dataset
    if instance.register.need(GROUPS):
        setattr(instance, _EDGE_GROUPS, EdgeGroups.of_training(train_data, instance.config))
    if instance.register.need(COLD):
        setattr(instance, _COLD_ITEMS, group_metrics.without_edges(train_data))


def _cold(collector: Any, batch: _Batch) -> torch.Tensor:
    """Return ``[n_rows, max_k + 1]`` of type int32, as described at ``COLD``."""
    cold: torch.Tensor | None = getattr(collector, _COLD_ITEMS, None)
    if cold is None:
        raise group_metrics.no_training_edges(collector, group_metrics.COLD_METRICS)
    n_rows, n_items = batch.scores.shape
    k = max(collector.topk)
    items, shown = batch.best(k, cold.nonzero().squeeze(1))
    hits = (_hits(batch, items, batch.likes) * shown).cpu()
    hits = torch.nn.functional.pad(hits, (0, k - hits.shape[1]))
    liked = batch.likes[cold[batch.likes.cpu() % n_items]]
    return _with_counts(hits, torch.bincount(liked // n_items, minlength=n_rows))


def _groups(collector: Any, batch: _Batch, items: torch.Tensor) -> torch.Tensor:
    groups: EdgeGroups | None = getattr(collector, _EDGE_GROUPS, None)
    if groups is None:
        raise group_metrics.no_training_edges(collector, group_metrics.GROUP_METRICS)
    users = batch.interaction[collector.config["USER_ID_FIELD"]]
    return groups.of_batch(users, items, batch.likes, batch.scores.shape[1]).to(batch.scores.device)


def _get_data_struct(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    gathered, ranked = instance.__dict__.pop(_GATHERED, None), instance.__dict__.pop(_RANKED, False)
    if gathered is None:
        return wrapped(*args, **kwargs)
    if not ranked:
        raise UsageError(
            f"no user of the data set '{instance.config['dataset']}' has a like in the part that was held "
            "out, so there is no ranking to measure; hold out more (eval_args: split) or check the sign rule."
        )
    struct = wrapped(*args, **kwargs)
    for name, parts in gathered.items():
        struct.set(name, torch.cat(parts).cpu())
    return struct


def _unsigned(collector: Any) -> UsageError:
    kinds = METRICS, SIGN_AWARE_METRICS, group_metrics.GROUP_METRICS, group_metrics.COLD_METRICS
    ours = {name.lower() for kind in kinds for name in kind}
    asked = [name for name in collector.register.metrics if name in ours]
    config = collector.config
    mode = config["eval_args"]["mode"]
    return unsigned_error(asked, f"no dislikes were held out of the data set '{config['dataset']}' under mode '{mode}'")


def _sign_auc(batch: _Batch) -> torch.Tensor:
    """Return ``[n_rows]`` of type float64: :func:`pairwise_auc` over the held-out items that are unmasked."""
    n_rows, n_items = batch.scores.shape
    keys = torch.cat((batch.likes, batch.dislikes))
    row = keys // n_items
    score = batch.scores[row, keys % n_items].double().cpu()
    if bool(torch.isnan(score).any()):
        raise UsageError(
            "the model's score of a held-out item is not a number, so likes and dislikes can't be compared; "
            "training has probably diverged: try a lower learning rate."
        )
    seen = ~torch.isneginf(score)
    is_like = torch.arange(len(keys)) < len(batch.likes)
    auc = pairwise_auc(row[seen].numpy(), score[seen].numpy(), is_like[seen].numpy(), n_rows)
    return torch.from_numpy(auc)


def pairwise_auc(
    row: npt.NDArray[np.int64], score: npt.NDArray[np.float64], is_like: npt.NDArray[np.bool_], n_rows: int
) -> npt.NDArray[np.float64]:
    """Return each row's share of (like, dislike) pairs in which the like scores higher, ties half; nan for none."""
    order = np.lexsort((score, row))
    row, score, is_like = row[order], score[order], is_like[order]
    new_group = begins(row, score)
    first = np.flatnonzero(new_group)
    group = np.cumsum(new_group) - 1
    before = np.concatenate(([0], np.cumsum(~is_like)))  # before[j]: dislikes among the first j items
    below = before[first][group] - before[np.searchsorted(row, row)]
    tied = before[np.append(first[1:], len(row))][group] - before[first][group]
    won = np.bincount(row[is_like], weights=(below + 0.5 * tied)[is_like], minlength=n_rows)
    n_likes, n_dislikes = (np.bincount(row[mask], minlength=n_rows) for mask in (is_like, ~is_like))
    pairs = n_likes * n_dislikes
    return np.where(pairs > 0, won / np.maximum(pairs, 1), np.nan)


# ---- the test metrics of every user, where a metric is a plain mean of them (not GAUC, weighted, or ItemCoverage) ----


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
        results: dict[str, FloatArray] = {}
        for metric in self.metrics.values():
            results |= _per_user(metric, self.struct)
        return {key: value for key, value in results.items() if len(value) == len(users)}


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
    results: dict[str, FloatArray] = {}
    # RecBole's metrics hand [n_users, max_k] to topk_result, which takes the means
    asked = copy.copy(metric)
    asked.topk_result = partial(_keep, results, metric.topk)
    asked.calculate_metric(struct)
    return results


def _keep(results: dict[str, FloatArray], topk: list[int], name: str, value: Any) -> dict[str, float]:
    results.update({f"{name}@{k}": np.asarray(value[:, k - 1], dtype=np.float64) for k in topk})
    return {}
