"""Which results an evaluation gives, so that ``valid_metric`` can be checked before anything is trained."""

from __future__ import annotations

import re
from typing import Any

from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.register import metrics_dict

from recbole_signed.evaluation.group_metrics import GROUP_METRICS
from recbole_signed.evaluation.sign_aware_metrics import WITH_GAMMA, gamma_labels, signed_gammas
from recbole_signed.stats import split_group

IN_GROUPS = frozenset(name.lower() for name in GROUP_METRICS)
"""Metrics without a result of their own name, by which nothing can be chosen."""


def is_evaluated(config: Any, result: str) -> bool:
    """Whether a run has a result, such as ``NDCG@10``, ``SignAUC`` or ``SignedNDCG@10[gamma 2]``.

    Args:
        config: RecBole's, with ``metrics``, ``topk`` and ``signed_gamma``.
        result: in any case of letters.
    """
    name, length = split_length(result)
    if name.lower() not in [each.lower() for each in config["metrics"]]:
        return False
    _, label = split_group(result)
    labels = gamma_labels(signed_gammas(config["signed_gamma"])) if name.lower() in WITH_GAMMA else []
    if label and label not in labels:
        return False
    return length in config["topk"] if has_length(name) else "@" not in result


def has_length(metric: str) -> bool:
    """Whether a metric's results are per length of the list (``recall@10``) rather than one number (``signauc``).

    Args:
        metric: a name that RecBole knows, in any case of letters.
    """
    kind = metrics_dict[metric.lower()]
    return issubclass(kind, TopkMetric) or "rec.items" in kind.metric_need


def split_length(result: str) -> tuple[str, int | None]:
    """Return the metric of a result and the length of its list; None where it has none that RecBole would write."""
    name, _, length = split_group(result)[0].partition("@")
    return name, int(length) if re.fullmatch("[1-9][0-9]{0,8}", length) else None
