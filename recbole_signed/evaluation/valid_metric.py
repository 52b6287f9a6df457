"""Which results an evaluation gives, so that ``valid_metric`` can be checked before anything is trained."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.register import metrics_dict

from recbole_signed.data.settings import split_group
from recbole_signed.evaluation.group_metrics import GROUP_METRICS
from recbole_signed.evaluation.sign_aware_metrics import WITH_GAMMA, gamma_labels, gamma_of, signed_gammas

IN_GROUPS = frozenset(name.lower() for name in GROUP_METRICS)  # without a result of their own name: no choice

LEFT_OUT = 0.2  # share of validation dislikes from which on their absence from a choice is said


def is_evaluated(config: Any, result: str) -> bool:
    """Whether a run has a result, such as ``NDCG@10``, ``SignAUC`` or ``SignedNDCG@10[gamma 2]``, in any case."""
    name, length = split_length(result)
    if name.lower() not in [metric.lower() for metric in config["metrics"]]:
        return False
    _, label = split_group(result)
    labels = gamma_labels(signed_gammas(config["signed_gamma"])) if name.lower() in WITH_GAMMA else []
    if label and label not in labels:
        return False
    return length in config["topk"] if has_length(name) else "@" not in result


def has_length(metric: str) -> bool:
    """Whether a metric's results are per length of the list (``recall@10``) rather than one number (``signauc``)."""
    kind = metrics_dict[metric.lower()]
    return issubclass(kind, TopkMetric) or "rec.items" in kind.metric_need


def split_length(result: str) -> tuple[str, int | None]:
    """Return the metric of a result and the length of its list; None where it has none that RecBole would write."""
    name, _, length = split_group(result)[0].partition("@")
    return name, int(length) if re.fullmatch("[1-9][0-9]{0,8}", length) else None


def dislikes_left_out(config: Any, valid_data: Any) -> str | None:
    """Return what to say where a sign-aware metric misses dislikes of users without a held-out like; or None."""
    gamma, part = gamma_of(config["valid_metric"], config["signed_gamma"]), valid_data._dataset
    if not gamma or not len(getattr(part, "neg_feat", ())):
        return None
    likers, dislikers = (table[part.uid_field].numpy() for table in (part.inter_feat, part.neg_feat))
    counted = float(np.isin(dislikers, likers).mean())
    if counted > 1 - LEFT_OUT:
        return None
    said = (
        f"{config['valid_metric']} leaves out users without a held-out like, and with them {1 - counted:.0%} of the "
        f"dislikes of the validation part"
    )
    if not counted:
        return f"{said}: nothing is chosen by dislikes."
    return (
        f"{said}: signed_gamma={gamma:g} counts a dislike as {gamma * counted:.3g} would over all users, and "
        f"signed_gamma={gamma / counted:.3g} as {gamma:g} would."
    )
