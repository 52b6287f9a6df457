r"""The value of a policy that never ran, from what another one showed and with which probability.

With actions :math:`a_i` drawn with propensity :math:`p_i`, rewards :math:`r_i`, and the probability
:math:`\pi(a_i)` that the policy in question gives the same action:

* IPS (Horvitz & Thompson 1952): mean of :math:`w_i r_i`, :math:`w_i = \pi(a_i) / p_i`;
* SNIPS (Swaminathan & Joachims, NeurIPS 2015): :math:`\sum w_i r_i / \sum w_i`;
* doubly robust (Dudik et al., ICML 2011): mean of
  :math:`\sum_a \pi(a) \hat r(a) + w_i (r_i - \hat r(a_i))` with a model :math:`\hat r` of the reward.

Impressions of one user are alike, and a variant is assigned to users, not to impressions. Intervals of logged traffic
therefore take users as what was drawn (cluster-robust variances).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import norm

from recbole_signed.errors import UsageError
from recbole_signed.live.serve.ab_report import CONFIDENCE
from recbole_signed.live.serve.experiments import Experiment
from recbole_signed.live.serve.traffic import TrafficLog

FAR, SURELY = 0.1, 4.0
"""Distance of a mean weight from 1 at which IPS is not told, where it is so many standard errors too."""
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PolicyValue:
    """An estimate of the mean reward of a policy.

    Attributes:
        value: the estimate.
        low, high: bounds of the normal confidence interval of 95 %.
        effective_size: Kish's effective number of observations, :math:`(\\sum w)^2 / \\sum w^2`.
        weight: mean weight; about 1 where the log covers what the policy does, else the estimate is biased.
    """

    value: float
    low: float
    high: float
    effective_size: float
    weight: float


def policy_value(
    rewards: FloatArray,
    propensities: FloatArray,
    target: FloatArray,
    *,
    model_reward: FloatArray | None = None,
    model_value: FloatArray | None = None,
    self_normalised: bool = False,
    clusters: IntArray | None = None,
) -> PolicyValue:
    """Estimate the mean reward of a policy from logged actions.

    Args:
        rewards: ``[n]`` rewards of the logged actions.
        propensities: ``[n]`` probabilities with which they were chosen, in (0, 1].
        target: ``[n]`` probabilities that the policy in question chooses the same action, in [0, 1].
        model_reward: ``[n]`` predicted rewards of the logged actions; with ``model_value``: doubly robust.
        model_value: ``[n]`` expected predicted reward of the policy in question in each context.
        self_normalised: divide by the sum of the weights (SNIPS).
        clusters: ``[n]`` numbers of the users that the rows are of; without them each row counts as independent.

    Raises:
        UsageError: the lengths differ, there is no row, a number is not finite or out of its range, two estimators are
            asked for at once, or there is one cluster.
    """
    rewards, propensities, target = (np.asarray(each, dtype=np.float64) for each in (rewards, propensities, target))
    given = [each for each in (rewards, propensities, target, model_reward, model_value, clusters) if each is not None]
    if not len(rewards) or any(np.shape(each) != rewards.shape for each in given):
        raise UsageError("off-policy estimates need one number a row in each of their lists, and a row.")
    if not all(np.isfinite(each).all() for each in given):
        raise UsageError("rewards, probabilities and predicted rewards must be finite numbers.")
    if not (((propensities > 0) & (propensities <= 1)).all() and ((target >= 0) & (target <= 1)).all()):
        raise UsageError("propensities must be in (0, 1] and target probabilities in [0, 1].")
    if (model_reward is None) != (model_value is None):
        raise UsageError("a doubly robust estimate needs both model_reward and model_value.")
    if model_reward is not None and self_normalised:
        raise UsageError("self_normalised and a model of the reward are two estimators; choose one.")
    weights = target / propensities
    n, total = len(rewards), weights.sum()
    if model_reward is not None and model_value is not None:
        terms = model_value + weights * (rewards - model_reward)
        value = float(terms.mean())
        deviations = terms - value
    elif self_normalised:
        value = float((weights * rewards).sum() / total) if total else 0.0
        deviations = weights * (rewards - value) / (total / n) if total else np.zeros(n)  # delta method
    else:
        value = float((weights * rewards).mean())
        deviations = weights * rewards - value
    if clusters is not None:
        deviations = np.bincount(np.unique(clusters, return_inverse=True)[1], deviations).astype(np.float64)
        if len(deviations) < 2:
            raise UsageError("an interval needs impressions of 2 users or more, got 1.")
        deviations *= np.sqrt(len(deviations) / (len(deviations) - 1))
    half = float(norm.ppf(0.5 + CONFIDENCE / 2) * np.sqrt((deviations**2).sum()) / n)
    squares = float((weights**2).sum())
    return PolicyValue(value, value - half, value + half, float(total**2 / squares) if squares else 0.0, total / n)


def value_of_variant(log: TrafficLog, name: str, experiment: Experiment, variant: str) -> dict[str, PolicyValue]:
    """Estimate rates per impression, had everybody got one variant, from the shares of the variants.

    Args:
        log: of impressions.
        name: of the experiment.
        experiment: with the variant.
        variant: its name.

    Returns:
        ``like_rate_ips``, ``like_rate_snips``, and the same for dislikes; without IPS where the mean weight is far from
        1, as with a variant that changes how much a user is shown.

    Raises:
        UsageError: there is no such variant, the lists are interleaved, nothing was logged, nothing by the variant, or
            only of one user.
    """
    _refuse_unknown(variant, list(experiment.variants), name, "variant")
    if experiment.interleave:
        raise UsageError(
            f"'{name}' interleaves lists, which show the first half of what each variant would show, so the value of "
            "one can't be told; 'experiment report' says which of them users prefer."
        )
    rows = log.logged(name, interleaved=False)
    target = (rows["variant"] == variant).cast(float).to_numpy()
    _refuse_unseen(target, f"the variant '{variant}' has shown nothing yet")
    return _rates(rows, rows["propensity"].to_numpy(), target, ("ips", "snips"))


def value_of_policy(log: TrafficLog, name: str, experiment: Experiment, policy: str) -> dict[str, PolicyValue]:
    """Estimate rates of the first place under a policy, from first places that were drawn.

    Doubly robust estimates take the mean rate of all that was drawn as the model of the reward.

    Args:
        log: of impressions.
        name: of the experiment.
        experiment: with the policy.
        policy: its name, or that of a variant.

    Returns:
        ``like_rate_ips``, ``like_rate_snips``, ``like_rate_dr``, and the same for dislikes; without IPS where the mean
        weight is far from 1.

    Raises:
        UsageError: there is no such policy, nothing was drawn, nothing that it would have shown, or only for one user.
    """
    _refuse_unknown(policy, list(experiment.all_policies), name, "policy")
    rows = log.drawn(name, policy)
    if not len(rows):
        raise UsageError(
            f"no first place was drawn in '{name}' since '{policy}' is there; give one of its variants an 'explore' "
            "above 0."
        )
    _refuse_unseen(
        rows["probability"].to_numpy(), f"the policy '{policy}' would have put first nothing of what was drawn"
    )
    return _rates(rows, rows["propensity"].to_numpy(), rows["probability"].to_numpy(), ("ips", "snips", "dr"))


def _refuse_unseen(target: FloatArray, why: str) -> None:
    """Refuse to call a rate 0, without an error, of which nothing was seen."""
    if not target.any():
        raise UsageError(f"{why}, so its value can't be told.")


def _refuse_unknown(given: str, known: list[str], name: str, what: str) -> None:
    if given not in known:
        raise UsageError(f"the experiment '{name}' has no {what} '{given}'; it has {', '.join(known)}.")


def _rates(
    rows: pl.DataFrame, propensity: FloatArray, target: FloatArray, estimators: tuple[str, ...]
) -> dict[str, PolicyValue]:
    found = {}
    if _is_far_from_1(target / propensity, rows["user"].to_numpy()):
        estimators = tuple(each for each in estimators if each != "ips")
    for outcome in ("like", "dislike"):
        rewards = rows[outcome].cast(float).to_numpy()
        for estimator in estimators:
            mean = np.full(len(rewards), rewards.mean() if len(rewards) else 0.0) if estimator == "dr" else None
            found[f"{outcome}_rate_{estimator}"] = policy_value(
                rewards,
                propensity,
                target,
                model_reward=mean,
                model_value=mean,
                self_normalised=estimator == "snips",
                clusters=rows["user"].to_numpy(),
            )
    return found


def _is_far_from_1(weights: FloatArray, users: IntArray) -> bool:
    """Whether the mean weight differs from 1 by more than chance: then IPS is wrong by about as much."""
    by_user = np.bincount(np.unique(users, return_inverse=True)[1], weights - 1)
    return bool(abs(weights.mean() - 1) > FAR and abs(by_user.sum()) > SURELY * np.sqrt((by_user**2).sum()))
