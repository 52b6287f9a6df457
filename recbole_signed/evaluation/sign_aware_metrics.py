"""RecBole's Recall, NDCG and Hit with a price on dislikes: a held-out dislike in the list counts ``-gamma``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from recbole_signed.data.settings import in_group, split_group
from recbole_signed.errors import UsageError
from recbole_signed.evaluation.metrics import (
    DISLIKE,
    VERDICTS,
    FloatArray,
    HeldOut,
    PerUserMetric,
    PerUserTopkMetric,
    collected,
    hit_at,
    ndcg_at,
    recall_at,
    result_key,
)

TOPK = "rec.topk"  # RecBole's `[n_users, max_k + 1]`: hits, and the number of likes
DEFAULT_GAMMA = 1.0


class SignAwareMetric(PerUserTopkMetric):
    r"""What the sign-aware metrics share: RecBole's metric, less :math:`\gamma` times what dislikes in the list do.

    After Kim, Hwang & Park, "What Gets Measured Gets Managed: Sign-aware Recommendation Needs Sign-aware Evaluation",
    arXiv 2609.33346: a disliked item has the gain :math:`-\gamma`. **The denominators are RecBole's**, those of the
    likes alone: 1 stays the best value at every :math:`\gamma`, and 0 is RecBole's metric to the last digit. The
    paper's own denominators could not be read; this is the choice that keeps these properties. A value may be
    negative, without a lower bound.

    The users are RecBole's: those with a held-out like. An item with both signs has the gain :math:`1 - \gamma`.
    ``signed_gamma`` is :math:`\gamma`, a number of 0 or more (1 by default) or a list of them; ``signedndcg@20`` is of
    the first, and each of a list has a result such as ``signedndcg@20[gamma 0.5]``, which can be ``valid_metric``.
    """

    metric_need = [TOPK, VERDICTS]  # noqa: RUF012 (RecBole's convention)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.gammas = signed_gammas(config["signed_gamma"])

    def used_info(self, dataobject: Any) -> HeldOut:
        """Unpack RecBole's hits, and the dislikes that the collector gathered."""
        verdicts = collected(dataobject, VERDICTS, result_key(self)).numpy()
        ranking = dataobject.get(TOPK).numpy()
        return HeldOut(ranking[:, :-1].astype(bool), (verdicts[:, :-2] & DISLIKE) > 0, ranking[:, -1], verdicts[:, -1])

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """Return the means, taken and rounded by RecBole."""
        results: dict[str, float] = {}
        for suffix, values in self.values(dataobject):
            means = self.topk_result(result_key(self), values)
            results |= {f"{name}{suffix}": float(mean) for name, mean in means.items()}
        return results

    def values(self, dataobject: Any) -> Iterator[tuple[str, FloatArray]]:
        """Yield ``[n_users, max_k]`` for each gamma, and what follows its names."""
        held = self.used_info(dataobject)
        gain, loss = (self.at_every_k(shown, held.n_likes) for shown in (held.like, held.dislike))
        yield "", gain - self.gammas[0] * loss
        for label, gamma in zip(gamma_labels(self.gammas), self.gammas, strict=False):
            yield in_group("", label), gain - gamma * loss


class SignedRecall(SignAwareMetric):
    r"""Recall with a price on dislikes; higher is better, at most 1.

    .. math::
        \mathrm{SignedRecall@k} = \frac{1}{|U^+|} \sum_{u \in U^+}
        \frac{|L_u \cap T^+_u| - \gamma |L_u \cap T^-_u|}{|T^+_u|}

    :math:`U^+` are the users with a held-out like; see the page of metrics for :math:`\gamma` and the denominator.
    """

    at_every_k = staticmethod(recall_at)


class SignedNDCG(SignAwareMetric):
    r"""NDCG in which a dislike has the gain :math:`-\gamma`; higher is better, at most 1.

    .. math::
        \mathrm{SignedNDCG@k} = \frac{1}{|U^+|} \sum_{u \in U^+} \frac{\sum_{j=1}^{k}
        ([L_{u,j} \in T^+_u] - \gamma [L_{u,j} \in T^-_u]) / \log_2(j+1)}{\sum_{j=1}^{\min(k, |T^+_u|)} 1 / \log_2(j+1)}

    The denominator is the DCG of the best list, which holds likes alone; see the page of metrics.
    """

    at_every_k = staticmethod(ndcg_at)


class SignedHit(SignAwareMetric):
    r"""Whether the list has a like, less :math:`\gamma` if it has a dislike; higher is better, at most 1.

    .. math::
        \mathrm{SignedHit@k} = \frac{1}{|U^+|} \sum_{u \in U^+} \left(
        [L_u \cap T^+_u \neq \emptyset] - \gamma [L_u \cap T^-_u \neq \emptyset] \right)
    """

    at_every_k = staticmethod(hit_at)


def signed_gammas(value: Any) -> tuple[float, ...]:
    """Return the gammas that ``signed_gamma`` gives; :data:`DEFAULT_GAMMA` for None."""
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    values = [DEFAULT_GAMMA] if value is None else list(values)
    numbers = [number for number in values if isinstance(number, (int, float)) and not isinstance(number, bool)]
    right = [float(number) for number in numbers if 0 <= number < float("inf")]
    if not right or len({f"{gamma:g}" for gamma in right}) != len(values):
        raise UsageError(
            f"signed_gamma is {value!r}; it must be a number of 0 or more, or a list of some that differ in six digits."
        )
    return tuple(right)


def gamma_of(metric: str, signed_gamma: Any) -> float:
    """Return the gamma of a result such as ``SignedNDCG@20`` or ``SignedNDCG@20[gamma 2]``; 0 for other metrics."""
    name, label = split_group(metric)
    if name.partition("@")[0].lower() not in WITH_GAMMA:
        return 0.0
    gammas = signed_gammas(signed_gamma)
    return dict(zip(gamma_labels(gammas), gammas, strict=False)).get(label, gammas[0])


def gamma_labels(gammas: Sequence[float]) -> list[str]:
    """Return what stands in the brackets of results, such as ``gamma 0.5``; nothing for a single gamma."""
    return [f"gamma {gamma:g}" for gamma in gammas] if len(gammas) > 1 else []


SIGN_AWARE_METRICS: dict[str, type[PerUserMetric]] = {
    metric.__name__: metric for metric in (SignedRecall, SignedNDCG, SignedHit)
}
"""The metrics of this module by class name, as they are written under ``metrics:``."""
WITH_GAMMA = frozenset(name.lower() for name in SIGN_AWARE_METRICS)  # they have a result for each gamma
