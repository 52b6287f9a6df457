"""What models that are fitted in one pass, without gradients, share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from logging import getLogger
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from recbole.utils import InputType, ModelType

from recbole_signed.arrays import begins, contains
from recbole_signed.atomic.signs import HOW_TO_SIGN
from recbole_signed.graph import SignedGraph
from recbole_signed.graph.eigenvectors import gram_eigenvectors
from recbole_signed.graph.inverse import ease_scores
from recbole_signed.graph.propagation import GramFilter, symmetric
from recbole_signed.graph.sparse_kernels import rows_product
from recbole_signed.model.abstract_recommender import SignedRecommender

IntArray = npt.NDArray[np.int64]


class TrainingFreeRecommender(SignedRecommender):
    """A model with a ``fit()`` whose results are buffers.

    A model names the results in ``fitted``: their last dimension is that of the fit, and may differ from what this
    instance has when a checkpoint is loaded. Before the fit it is 0, and ``score`` returns scores all the same: RecBole
    asks an untrained model for some.
    """

    type = ModelType.TRADITIONAL
    input_type = InputType.POINTWISE
    seedless = True
    trained_by_gradients = False
    fitted: tuple[str, ...] = ()

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.fake_loss = torch.nn.Parameter(torch.zeros(1))  # RecBole's optimizer needs one

    def fit(self) -> None:
        """Fit to the training graph; the same graph gives the same model."""
        raise NotImplementedError(f"{type(self).__name__} has no fit.")

    def loss(self, batch: Any) -> torch.Tensor:
        """Fit, if that has not been done, and return 0: for trainers that do not call :meth:`fit`."""
        if not getattr(self, self.fitted[0]).numel():
            self.fit()
        return self.fake_loss.sum() * 0.0

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        make_room(self, self.fitted, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def make_room(module: torch.nn.Module, names: Iterable[str], state_dict: Mapping[str, Any], prefix: str) -> None:
    """Give buffers of a module the last dimension that they have in a checkpoint, where the others agree."""
    for name in names:
        saved, own = state_dict.get(prefix + name), getattr(module, name)
        if saved is not None and saved.dim() == own.dim() and saved.shape[:-1] == own.shape[:-1]:
            setattr(module, name, torch.empty_like(saved, device=own.device))


class FilterRecommender(TrainingFreeRecommender):
    """Reads :meth:`signal`: the likes P, or :math:`X = P + wN` in a subclass that sets ``reads_both_signs``."""

    family = "graph filter, training-free"
    uses_dislikes = False
    needs_sign = False
    reads_both_signs = False  # also in the export to RecBole, which has no facts such as uses_dislikes

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.dislike_weight = float(config["dislike_weight"]) if self.reads_both_signs else 0.0

    def signal(self, users: Any = None) -> sp.csr_matrix:
        """Return the matrix that is filtered, of all users or of some: float32 ``[n_users or batch, n_items]``."""
        return self.signal_of(self.graph if users is None else self.graph.rows(users.cpu().numpy()))

    def signal_of(self, users: SignedGraph) -> sp.csr_matrix:
        """Return the same of any users by their edges."""
        return users.weighted(self.dislike_weight) if self.reads_both_signs else users.likes


class InverseRecommender(FilterRecommender):
    """Keeps G, an inverse of the Gram matrix of :meth:`signal` with a ridge; scores as :func:`ease_scores`."""

    family = "closed form"
    fitted = ("inverse",)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.reg_weight = float(config["reg_weight"])
        self.register_buffer("inverse", torch.zeros(self.n_items, 0))

    def filtered(self, rows: sp.csr_matrix) -> torch.Tensor:
        """Return x B of rows x, CSR ``[n, n_items]``: ``[n, n_items]``."""
        return ease_scores(rows, self.inverse)

    def scores_of(self, users: SignedGraph) -> torch.Tensor:
        """Return the scores of all items for any users by their edges, ``[n_users, n_items]``."""
        return self.filtered(self.signal_of(users))

    def weights_of(self, item: int) -> torch.Tensor:
        """Return what a like of an item adds to the score of each, ``[n_items]``: its row of B."""
        return self.filtered(sp.csr_matrix(([np.float32(1)], ([0], [item])), shape=(1, self.n_items)))[0]

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items for ``users [batch]``: ``[batch, n_items]``."""
        if not self.inverse.numel():
            return torch.zeros(len(users), self.n_items, device=self.device)
        return self.filtered(self.signal(users))


class IdealFilterRecommender(FilterRecommender):
    r"""Holds the linear filter :math:`\tilde R^T \tilde R` and the ideal one :math:`D_i^{-1/2} V V^T D_i^{1/2}`.

    :math:`\tilde R = D_u^{-1/2} P D_i^{-1/2}`; V: its ``rank`` leading right singular vectors, by Lanczos: the filter
    cuts off sharply, so an approximate subspace costs quality.
    """

    fitted: tuple[str, ...] = ("item_factors",)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.rank = int(config["rank"])
        signal = self.signal()
        self.linear = GramFilter(symmetric(signal))
        degrees = np.asarray(abs(signal).sum(axis=0)).ravel()
        self.register_buffer("item_factors", torch.zeros(self.n_items, 0))
        self.register_buffer("item_degrees", torch.from_numpy(degrees).float())

    def fit(self) -> None:
        """Find the singular vectors of the normalised matrix."""
        _, vectors = gram_eigenvectors(self.linear.matrix.astype(np.float64), self.rank)
        self.item_factors = torch.from_numpy(vectors).float().to(self.device)

    def similarity_vectors(self) -> torch.Tensor:
        """Return item vectors, ``[n_items, k]``, whose product is what the linear filter adds from item to item."""
        lengths = np.linalg.norm(self.linear.matrix @ self.item_factors.cpu().numpy(), axis=0)
        return self.item_factors * torch.from_numpy(lengths).to(self.device)

    def ideal(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the two sides of the ideal filter, ``[n_items, k]`` and ``[k, n_items]``."""
        scale = self.item_degrees.sqrt().unsqueeze(1)
        inverse = torch.where(scale > 0, 1.0 / scale.clamp(min=1e-12), 0.0)
        return inverse * self.item_factors, (scale * self.item_factors).T


class OrderedLikesRecommender(TrainingFreeRecommender):
    r"""Scores :math:`x_u B`, where a like counts :math:`e^{-r/\delta_\text{inf}}` if r moments of the user are later.

    ``fit`` of a subclass makes ``item_weights``, which is B, over the items with a like in training. ``_rows`` are
    user, column of B, moment of the user and the user's last moment of each like; likes of one time are one moment.
    Without timestamps all are, and a warning says what the model is then (``without_order``).
    """

    family = "linear transitions"
    needs_sign = False
    uses_dislikes = False
    without_order = ""
    parameter_ranges: ClassVar[Mapping[str, str]] = {"inference_decay": "(0, inf)"}
    fitted: tuple[str, ...] = ("item_weights",)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.inference_decay = float(config["inference_decay"])
        user, item, time = self._likes(dataset)
        self.has_order = time is not None
        if not self.has_order:
            why = f"exact times are read from data with a sign alone; {HOW_TO_SIGN}"
            why = "the data set has no timestamps." if hasattr(dataset, "times") else why
            getLogger().warning(f"{self.without_order}: {why}")
            self.inference_decay = math.inf
        liked = np.flatnonzero(np.bincount(item, minlength=self.n_items))
        self.register_buffer("item_weights", torch.zeros(len(liked), 0))
        self.register_buffer("liked", torch.from_numpy(liked))
        time = np.zeros(len(user)) if time is None else time
        self._rows = user, np.searchsorted(liked, item), *moments(user, time)
        self._users = self._weighted(*self._rows)

    @staticmethod
    def _likes(dataset: Any) -> tuple[IntArray, IntArray, npt.NDArray[Any] | None]:
        """Return users, items and exact times of the likes, ``[n]`` each; no times where there are none."""
        user, item = (dataset.inter_feat[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
        time = dataset.times("inter_feat") if hasattr(dataset, "times") else None
        return user, item, None if time is None else np.asarray(time)

    def _weighted(self, user: IntArray, column: IntArray, moment: IntArray, last: IntArray) -> sp.csr_matrix:
        """Return x of all users, CSR ``[n_users, n_liked]``."""
        weight = np.exp(-(last - moment) / self.inference_decay)
        return sp.csr_matrix((weight, (user, column)), shape=(self.n_users, len(self.liked)), dtype=np.float32)

    def read_histories(self, dataset: Any) -> None:
        """Score users by their likes in another data set; those of items without a like in training count nothing."""
        super().read_histories(dataset)
        user, item, time = self._likes(dataset)
        moment, last = moments(user, np.zeros(len(user)) if time is None else time)
        liked = self.liked.cpu().numpy()
        known = contains(liked, item)
        column = np.searchsorted(liked, item[known])
        self._users = self._weighted(user[known], column, moment[known], last[known])

    def weights_of(self, item: int) -> torch.Tensor:
        """Return what a like of an item adds to the score of each, ``[n_items]``: its row of B; -inf where none is."""
        weights = torch.full((self.n_items,), -torch.inf, device=self.device)
        if bool((self.liked == item).any()):
            weights[self.liked] = self.item_weights[int(torch.searchsorted(self.liked, item))]
        return weights

    def score(self, users: torch.Tensor) -> torch.Tensor:
        """Return the scores of all items for ``users [batch]``: ``[batch, n_items]``."""
        scores = torch.zeros(len(users), self.n_items, device=self.device)
        if self.item_weights.numel():
            scores[:, self.liked] = rows_product(self._users[users.cpu().numpy()], self.item_weights)
        return scores


def moments(user: IntArray, time: npt.NDArray[Any]) -> tuple[IntArray, IntArray]:
    """Return for each row the number of earlier moments of its user, and that of the user's last one, ``[n]`` each."""
    order = np.lexsort((time, user))
    users, times = user[order], time[order]
    count = np.cumsum(begins(users, times))
    ranks: IntArray = count - np.maximum.accumulate(np.where(begins(users), count, 0))
    moment = np.empty(len(user), dtype=np.int64)
    moment[order] = ranks
    last = np.zeros(int(user.max(initial=0)) + 1, dtype=np.int64)
    np.maximum.at(last, user, moment)
    return moment, last[user]
