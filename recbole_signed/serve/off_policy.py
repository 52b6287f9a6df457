r"""The value of a policy that never ran, from what another one showed and with which probability.

With actions :math:`a_i` drawn with propensity :math:`p_i`, rewards :math:`r_i`, and the probability
:math:`\pi(a_i)` that the policy in question gives the same action:

* IPS (Horvitz & Thompson 1952): mean of :math:`w_i r_i`, :math:`w_i = \pi(a_i) / p_i`;
* SNIPS (Swaminathan & Joachims, NeurIPS 2015): :math:`\sum w_i r_i / \sum w_i`;
* doubly robust (Dudik et al., ICML 2011): mean of
  :math:`\sum_a \pi(a) \hat r(a) + w_i (r_i - \hat r(a_i))` with a model :math:`\hat r` of the reward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from recbole_signed.errors import UsageError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PolicyValue:
    """An estimate of the mean reward of a policy.

    Attributes:
        value: the estimate.
        low, high: bounds of the normal confidence interval.
        effective_size: Kish's effective number of observations, :math:`(\\sum w)^2 / \\sum w^2`.
    """

    value: float
    low: float
    high: float
    effective_size: float


def policy_value(
    rewards: FloatArray,
    propensities: FloatArray,
    target: FloatArray,
    *,
    model_reward: FloatArray | None = None,
    model_value: FloatArray | None = None,
    self_normalised: bool = False,
    clip: float | None = None,
    confidence: float = 0.95,
) -> PolicyValue:
    """Estimate the mean reward of a policy from logged actions.

    Args:
        rewards: ``[n]`` rewards of the logged actions.
        propensities: ``[n]`` probabilities with which they were chosen, in (0, 1].
        target: ``[n]`` probabilities that the policy in question chooses the same action, in [0, 1].
        model_reward: ``[n]`` predicted rewards of the logged actions; with ``model_value``: doubly robust.
        model_value: ``[n]`` expected predicted reward of the policy in question in each context.
        self_normalised: divide by the sum of the weights (SNIPS).
        clip: largest weight; a smaller one lowers the variance for some bias.
        confidence: of the interval.

    Raises:
        UsageError: the lengths differ, there is no row, or a probability is out of its range.
    """
    rewards, propensities, target = (np.asarray(each, dtype=np.float64) for each in (rewards, propensities, target))
    if not (len(rewards) and len(rewards) == len(propensities) == len(target)):
        raise UsageError("off-policy estimates need one reward, propensity and target probability a row, and a row.")
    if not (((propensities > 0) & (propensities <= 1)).all() and ((target >= 0) & (target <= 1)).all()):
        raise UsageError("propensities must be in (0, 1] and target probabilities in [0, 1].")
    if (model_reward is None) != (model_value is None):
        raise UsageError("a doubly robust estimate needs both model_reward and model_value.")
    weights = target / propensities
    if clip is not None:
        weights = np.minimum(weights, clip)
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
    half = float(norm.ppf(0.5 + confidence / 2) * np.sqrt((deviations**2).mean() / n))
    squares = float((weights**2).sum())
    return PolicyValue(value, value - half, value + half, float(total**2 / squares) if squares else 0.0)
