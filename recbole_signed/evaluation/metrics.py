"""RecBole metrics of what a ranking does with held-out dislikes.

Words: ``T⁺_u`` and ``T⁻_u`` are the held-out likes and dislikes of user ``u``, ``L_u`` the first ``k``
recommended items. An item of score -inf is masked: it is not recommended, wherever it stands in the list.

**Which users count.** All metrics here average over the same users: those with at least one held-out like
*and* one held-out dislike (fewer where a docstring says so). A difference between two averages says something
about the ranking only where both are over the same users. A metric for which no user counts is nan, never 0.

The dislike metrics of a list are best, at 0, for a model that shows nothing the user ever rated (only
:class:`SignAUC` can't be bettered like that): read them beside Recall, and beside the rows of popularity and
random (Mena-Maldonado et al., SIGIR 2020, on the popularity bias of false-positive metrics).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import recbole.evaluator.register
from recbole.evaluator.base_metric import AbstractMetric, TopkMetric
from recbole.utils import EvaluatorType

from recbole_signed.errors import UsageError
from recbole_signed.plugin import registry

FloatArray = npt.NDArray[np.float64]
CountArray = npt.NDArray[np.integer[Any]]
AtEveryK = Callable[[npt.NDArray[np.bool_], CountArray], FloatArray]
"""The metric ``[n_users, max_k]`` of hits ``[n_users, max_k]`` among so many relevant items ``[n_users]``."""

VERDICTS = "rec.verdicts"  # `[n_users, max_k + 2]`: LIKE + DISLIKE at each rank, numbers held out of both
SIGN_AUC = "rec.sign_auc"  # `[n_users]`, see `SignAUC`; nan where it is not defined
LIKE, DISLIKE = 1, 2


def recall_at(hits: npt.NDArray[np.bool_], relevant: CountArray) -> FloatArray:
    """Return ``[n_users, max_k]`` recall at every ``k``; 0 where nothing is relevant."""
    return np.asarray(np.cumsum(hits, axis=1) / np.maximum(relevant, 1)[:, None])


def ndcg_at(hits: npt.NDArray[np.bool_], relevant: CountArray) -> FloatArray:
    """Return ``[n_users, max_k]`` binary NDCG at every ``k``; 0 where nothing is relevant."""
    ranks = np.arange(1, hits.shape[1] + 1)
    discount = 1.0 / np.log2(ranks + 1)
    ideal = np.cumsum(discount)[np.minimum(np.maximum(relevant, 1)[:, None], ranks) - 1]
    return np.asarray(np.cumsum(hits * discount, axis=1) / ideal)


def dislike_share_at(like: npt.NDArray[np.bool_], dislike: npt.NDArray[np.bool_]) -> FloatArray:
    """Return ``[n_users, max_k]`` the share of dislikes among the known verdicts at every ``k``; NaN without any."""
    known = np.cumsum(like | dislike, axis=1).astype(np.float64)
    known[known == 0] = np.nan
    return np.cumsum(dislike, axis=1) / known


def hit_at(hits: npt.NDArray[np.bool_], relevant: CountArray | None = None) -> FloatArray:
    """Return ``[n_users, max_k]``: 1 at every ``k`` up to which there was a hit, else 0, whatever is ``relevant``."""
    return np.asarray(np.cumsum(hits, axis=1) > 0, dtype=np.float64)


class HeldOut(NamedTuple):
    """What is known of the evaluated users' top ``max_k`` items, and how much is held out of each user."""

    like: npt.NDArray[np.bool_]  # `[n_users, max_k]`: the item at this rank is a held-out like
    dislike: npt.NDArray[np.bool_]  # `[n_users, max_k]`: a held-out dislike (and a like, if the pair has both signs)
    n_likes: CountArray  # `[n_users]`; repeated rows count as often as they occur, as in the published protocol
    n_dislikes: CountArray  # `[n_users]`; distinct items


class PerUserMetric(AbstractMetric):
    """A metric whose value is the mean of a value per user; this is the one place that averages."""

    metric_type = EvaluatorType.RANKING

    def per_user(self, dataobject: Any) -> dict[str, FloatArray]:
        """Return ``[n_users]`` values by result key (``dislikerecall@20``); nan where a user does not count."""
        raise NotImplementedError

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """Return the mean over the users who count, or nan, rounded to ``metric_decimal_place``."""
        counted = {key: values[~np.isnan(values)] for key, values in self.per_user(dataobject).items()}
        means = {key: float(values.mean()) if len(values) else float("nan") for key, values in counted.items()}
        return {key: round(mean, self.decimal_place) for key, mean in means.items()}


class PerUserTopkMetric(PerUserMetric, TopkMetric):
    """A metric of the first ``k`` items, at each ``k`` that is asked for; a subclass gives :meth:`values`."""

    at_every_k: AtEveryK
    """What is measured of the hits, for subclasses that differ in it alone."""
    result: ClassVar[str] = ""
    """What results are called, without their ``k``; after the class by default."""

    def values(self, dataobject: Any) -> Iterator[tuple[str, FloatArray]]:
        """Yield what follows the ``@k`` of a result's name, and ``[n_users, max_k]``, the metric at every ``k``."""
        raise NotImplementedError

    def per_user(self, dataobject: Any) -> dict[str, FloatArray]:
        """See :meth:`PerUserMetric.per_user`."""
        tables, name = list(self.values(dataobject)), self.result or result_key(self)
        return {f"{name}@{k}{suffix}": values[:, k - 1] for suffix, values in tables for k in self.topk}


class SignedTopkMetric(PerUserTopkMetric):
    """A metric of the first ``k`` items; a subclass gives ``metric_info``."""

    metric_need = [VERDICTS]  # noqa: RUF012 (RecBole's convention)

    def used_info(self, dataobject: Any) -> HeldOut:
        """Unpack what the collector gathered under :data:`VERDICTS`."""
        table = collected(dataobject, VERDICTS, result_key(self)).numpy()
        codes, counts = table[:, :-2], table[:, -2:]
        return HeldOut((codes & LIKE) > 0, (codes & DISLIKE) > 0, counts[:, 0], counts[:, 1])

    def values(self, dataobject: Any) -> Iterator[tuple[str, FloatArray]]:
        """See :meth:`PerUserTopkMetric.values`."""
        held = self.used_info(dataobject)
        values = np.asarray(self.metric_info(held))
        if values.shape != held.like.shape:
            raise UsageError(
                f"metric_info of {type(self).__name__} returns an array of the shape {values.shape}; it must be "
                f"{held.like.shape}, a value for each user at each length of the list."
            )
        yield "", of_both_signs(values, held.n_likes, held.n_dislikes)

    def metric_info(self, held: HeldOut) -> FloatArray:
        """Return ``[n_users, max_k]``, the metric at every ``k``; any value for users who do not count."""
        return self.at_every_k(held.dislike, held.n_dislikes)


class DislikeRecall(SignedTopkMetric):
    r"""Share of a user's held-out dislikes that enter the top ``k``; lower is better.

    .. math::
        \mathrm{DislikeRecall@k} = \frac{1}{|U|} \sum_{u \in U} \frac{|L_u \cap T^-_u|}{|T^-_u|}

    The "anti-recall" of Sánchez & Bellogín, "Measuring anti-relevance", RecSys 2018; the idea is that of Frolov &
    Oseledets, "Fifty Shades of Ratings", RecSys 2016. A masked held-out dislike stays in the denominator, as a
    held-out like does in Recall.
    """

    smaller = True
    at_every_k = staticmethod(recall_at)


class DislikeHit(SignedTopkMetric):
    r"""Share of users with at least one held-out dislike in the top ``k``; lower is better.

    .. math::
        \mathrm{DislikeHit@k} = \frac{1}{|U|} \sum_{u \in U} [L_u \cap T^-_u \neq \emptyset]

    HR_n of PNFRec (RecSys 2025, arXiv 2508.14786), there with one held-out item per user.
    """

    smaller = True
    at_every_k = staticmethod(hit_at)


class DislikeNDCG(SignedTopkMetric):
    r"""NDCG with the held-out dislikes as the relevant items; lower is better.

    .. math::
        \mathrm{DislikeNDCG@k} = \frac{1}{|U|} \sum_{u \in U}
        \frac{\sum_{j=1}^{k} [L_{u,j} \in T^-_u] / \log_2(j+1)}{\sum_{j=1}^{\min(k, |T^-_u|)} 1 / \log_2(j+1)}

    The anti-NDCG of Sánchez & Bellogín (RecSys 2018), with RecBole's binary gains. Dislikes are the only gain: an
    NDCG with negative gains for them has no bounds (Gienapp et al., CIKM 2020).
    """

    smaller = True
    at_every_k = staticmethod(ndcg_at)


class DislikeShare(SignedTopkMetric):
    r"""Share of dislikes among the recommended items whose verdict is known; lower is better.

    .. math::
        \mathrm{DislikeShare@k} = \frac{1}{|U_k|} \sum_{u \in U_k}
        \frac{|L_u \cap T^-_u|}{|L_u \cap (T^+_u \cup T^-_u)|},
        \qquad U_k = \{u \in U : L_u \cap (T^+_u \cup T^-_u) \neq \emptyset\}

    Every user weighs the same, so that values per user can be compared in pairs. The price: ``U_k`` depends on the
    model and on ``k``. The anti-precision of Sánchez & Bellogín (RecSys 2018) divides by ``k`` and so takes
    recommending nothing known for quality.
    """

    smaller = True

    def metric_info(self, held: HeldOut) -> FloatArray:
        """See :meth:`SignedTopkMetric.metric_info`."""
        return dislike_share_at(held.like, held.dislike)


class _Delta(SignedTopkMetric):
    def metric_info(self, held: HeldOut) -> FloatArray:
        return self.at_every_k(held.like, held.n_likes) - self.at_every_k(held.dislike, held.n_dislikes)


class DeltaRecall(_Delta):
    r"""Recall of the held-out likes minus recall of the held-out dislikes; higher is better, in [-1, 1].

    .. math::
        \mathrm{DeltaRecall@k} = \frac{1}{|U|} \sum_{u \in U} \left(
        \frac{|L_u \cap T^+_u|}{|T^+_u|} - \frac{|L_u \cap T^-_u|}{|T^-_u|} \right)

    After ΔHR of PNFRec (RecSys 2025, arXiv 2508.14786), but within each user, so that what kind of user has dislikes
    does not enter. It is the Recall of the users who count minus :class:`DislikeRecall`, not the printed Recall minus
    it, which is also over users without a held-out dislike.
    """

    at_every_k = staticmethod(recall_at)


class DeltaNDCG(_Delta):
    """NDCG of the held-out likes minus NDCG of the held-out dislikes; higher is better, in [-1, 1].

    ΔNDCG of PNFRec (RecSys 2025, arXiv 2508.14786), taken per user as :class:`DeltaRecall` is.
    """

    at_every_k = staticmethod(ndcg_at)


class SignAUC(PerUserMetric):
    r"""Probability that a held-out like scores above a held-out dislike of the same user; higher is better.

    .. math::
        \mathrm{SignAUC} = \frac{1}{|U|} \sum_{u \in U} \frac{1}{|T^+_u| |T^-_u|}
        \sum_{i \in T^+_u} \sum_{j \in T^-_u}
        \left( [s_{ui} > s_{uj}] + \tfrac{1}{2} [s_{ui} = s_{uj}] \right)

    The area under the ROC curve of each user with the explicit dislikes as the negatives. It has no ``k``, and is the
    only one here that can't be improved by keeping away from rated items altogether.

    ``T⁺`` and ``T⁻`` are distinct items whose score is not -inf: a model that filters items out itself should push
    them down by a finite amount. Users left without a like or a dislike do not count.
    """

    metric_need = [SIGN_AUC]  # noqa: RUF012 (RecBole's convention)

    def per_user(self, dataobject: Any) -> dict[str, FloatArray]:
        """See :meth:`PerUserMetric.per_user`; the key is ``signauc``."""
        return {result_key(self): collected(dataobject, SIGN_AUC, result_key(self)).numpy()}


METRICS: dict[str, type[PerUserMetric]] = {
    metric.__name__: metric
    for metric in (DislikeRecall, DislikeHit, DislikeNDCG, DislikeShare, DeltaRecall, DeltaNDCG, SignAUC)
}
"""The metrics of this package by class name, as they are written under ``metrics:``."""


def register(evaluator_register_module: ModuleType, metrics: Mapping[str, type[AbstractMetric]] = METRICS) -> None:
    """Enter metrics into the tables of ``recbole.evaluator.register``, in place; a second call changes nothing."""
    tables: Any = evaluator_register_module
    for class_name, metric in metrics.items():
        name = class_name.lower()
        tables.metrics_dict[name] = metric
        tables.metric_information[name] = metric.metric_need
        tables.metric_types[name] = metric.metric_type
        if metric.smaller and name not in tables.smaller_metrics:
            tables.smaller_metrics.append(name)


def of_both_signs(values: FloatArray, n_likes: CountArray, n_dislikes: CountArray) -> FloatArray:
    """Return ``[n_users, max_k]`` values, nan for users who do not count: without a held-out like or dislike."""
    return np.where(((n_likes > 0) & (n_dislikes > 0))[:, None], values, np.nan)


def unsigned_error(metrics: Iterable[str], what_was_got: str) -> UsageError:
    """Return the error for metrics of this package in an evaluation that has no held-out dislikes."""
    return UsageError(
        f"{', '.join(metrics)} can't be computed, because {what_was_got}; use a data set with a sign "
        "(a 'sign' column or a sign rule) and full-sort evaluation (eval_args: {mode: full}), or drop it "
        "from 'metrics'."
    )


def result_key(metric: AbstractMetric) -> str:
    """Return the name of a metric's result, without its ``k``."""
    return type(metric).__name__.lower()


def collected(dataobject: Any, name: str, metric: str) -> Any:
    """Return what was collected under a name; refuse an evaluation of unsigned data or without full sorting."""
    if name not in dataobject:
        raise unsigned_error([metric], "this evaluation collected no held-out dislikes")
    return dataobject.get(name)


class PooledNDCG(TopkMetric):
    r"""The mean DCG of all users over their mean ideal DCG; higher is better.

    .. math::
        \mathrm{PooledNDCG@k} = \frac{\sum_{u} \sum_{j=1}^{k} [L_{u,j} \in T^+_u] / \log_2(j+1)}
        {\sum_{u} \sum_{j=1}^{\min(k, |T^+_u|)} 1 / \log_2(j+1)}

    The ``NDCG`` of Yambda's benchmark (arXiv 2505.22238), in which users with many held-out likes weigh more. There is
    no value per user, so that it takes part in no test.
    """

    smaller = False

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """Return the ratio at each k, rounded to ``metric_decimal_place``; nan where no user has a like."""
        hits, n_likes = self.used_info(dataobject)
        discount = 1.0 / np.log2(np.arange(2, hits.shape[1] + 2))
        ranks = np.arange(1, hits.shape[1] + 1)
        gained = (np.asarray(hits, dtype=bool) * discount).sum(axis=0).cumsum()
        possible = ((np.asarray(n_likes)[:, None] >= ranks) * discount).sum(axis=0).cumsum()
        with np.errstate(invalid="ignore"):
            values = gained / possible
        return {f"pooledndcg@{k}": round(float(values[k - 1]), self.decimal_place) for k in self.topk}


POOLED_METRICS: dict[str, type[AbstractMetric]] = {"PooledNDCG": PooledNDCG}  # NDCG as a ratio of means, as some print


# ---- metrics from outside this package ----

Metric = TypeVar("Metric", bound=type[AbstractMetric])


def register_metric(metric: Metric) -> Metric:
    """Let runs, tables and ``tune`` evaluate a metric, under the name of its class; also as a decorator.

    Call it in the module that defines the class: the processes that ``compare`` and ``tune`` start import that module.
    It must not be the script that is run itself, as it would be run again.

    Args:
        metric: a class that extends :class:`~recbole_signed.evaluation.metrics.SignedTopkMetric`, another one of this
            package, or a metric of RecBole.

    Returns:
        The class.

    Raises:
        UsageError: it is no metric, or there is another one of that name.
    """
    if not (isinstance(metric, type) and issubclass(metric, AbstractMetric)):
        raise UsageError(f"{metric!r} is not a class of a metric; extend SignedTopkMetric, or a metric of RecBole.")
    tables = recbole.evaluator.register
    taken = tables.metrics_dict.get(metric.__name__.lower())
    if taken is not None and (taken.__module__, taken.__name__) != (metric.__module__, metric.__name__):
        raise UsageError(f"there is a metric {taken.__name__} in {taken.__module__} already; give yours another name.")
    register(tables, {metric.__name__: metric})
    registry.keep_metric(registry.MetricEntry(metric.__name__, metric.__module__, bool(metric.smaller)))
    return metric


def register_inherited_metrics() -> None:
    """Register what the process that started this one had registered."""
    for name, origin in registry.inherited(registry.INHERITED_METRICS).items():
        if name not in registry.own_metrics:
            sys.path.extend(path for path in origin["path"] if path not in sys.path)
            register_metric(getattr(import_module(origin["module"]), name))
