"""How an exported model finds dislikes in stock RecBole, which knows none, and makes its batches.

The exporter puts these classes' methods in the place of those of ``SignedRecommender``, so they must do without this
package's data set, trainer and loader, and without ``super()``.
"""

from __future__ import annotations

from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.model.abstract_recommender import SequentialRecommender

from recbole_signed.data.negative_sampling import UnseenItems, sifts_positives
from recbole_signed.data.sequential import SIGN_LIST
from recbole_signed.graph import SignedGraph
from recbole_signed.model import SignedRecommender
from recbole_signed.model.abstract_recommender import SignedSequentialRecommender

DISLIKE_FIELDS = ("dislike_user_id", "dislike_item_id")
"""Columns of the file of dislikes."""
DISLIKE_TIME = "dislike_timestamp"
"""Its column of times, for sequences."""

Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class StockRecommender(SignedRecommender):
    """A general recommender that knows likes and dislikes.

    A model gives ``encode()`` and, if it is trained by gradients, ``loss()``; this class gives RecBole's interface. A
    model without user embeddings overrides ``score()`` instead.

    Likes are the interactions. Dislikes of the training part come from

    * an additional atomic file ``<dataset>.dislike`` with the columns ``dislike_user_id:token`` and
      ``dislike_item_id:token``, loaded by ``additional_feat_suffix: [dislike]``, ``alias_of_user_id:
      [dislike_user_id]``, ``alias_of_item_id: [dislike_item_id]`` and ``load_col: {inter: [user_id, item_id], dislike:
      [dislike_user_id, dislike_item_id]}``. This is the way to evaluate on likes alone;
    * or the column ``SIGN_FIELD`` (``sign`` by default) of the interactions, where that is loaded: above 0 for a like,
      below 0 for a dislike, 0 for neither. RecBole's evaluation counts every held-out interaction as a hit, a
      dislike too.

    Without either the model learns from likes alone. With ``hide_dislikes`` (the default) the full ranking leaves out
    what a user disliked in training, as RecBole leaves out what a user liked there.
    """

    def _graph_of(self, dataset: Any) -> SignedGraph:
        """Return the graph of the training part."""
        self.hide_dislikes = hides_dislikes(dataset)
        return graph_of(self.training_rows(dataset), dataset)

    def training_rows(self, dataset: Any) -> Rows:
        """Return users, items and whether it is a like, ``[n_rows]`` each, of the training part, repeated ones too."""
        return signed_rows(dataset)

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Return the scores of all items for each user, flat ``[batch * n_items]``."""
        users = interaction[self.USER_ID]
        scores = self.score(users)
        if self.hide_dislikes and self.graph.dislikes.nnz:
            disliked = self.graph.dislikes[users.cpu().numpy()].tocoo()
            rows, columns = (torch.from_numpy(axis).long().to(scores.device) for axis in (disliked.row, disliked.col))
            scores = scores.index_put((rows, columns), scores.new_tensor(-torch.inf))
        return scores.reshape(-1)


class StockBatchRecommender(StockRecommender):
    """The same for models that set ``batches``: these methods come beside those above."""

    def _graph_of(self, dataset: Any) -> SignedGraph:
        """Return the graph of the training part."""
        self.hide_dislikes = hides_dislikes(dataset)
        rows = self.training_rows(dataset)
        self._signed_batches = SignedBatches(dataset, rows, str(self.batches))
        return graph_of(rows, dataset)

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Return :meth:`loss` of the batch; the cached embeddings are stale after the step that follows."""
        self._embeddings = None
        batch, new_epoch = self._signed_batches.signed(interaction)
        if new_epoch is not None and hasattr(self, "start_epoch"):
            self.start_epoch(new_epoch)
        if not len(batch[self.USER_ID]):
            return 0.0 * sum(parameter.sum() for parameter in self.parameters())
        return self.loss(batch)


def hides_dislikes(dataset: Any) -> bool:
    """Return the setting ``hide_dislikes``."""
    hide = dataset.config["hide_dislikes"]
    return True if hide is None else bool(hide)


def graph_of(rows: Rows, dataset: Any) -> SignedGraph:
    """Return the graph of some rows, over the ids of the data set."""
    users, items, likes = rows
    edges = [(users[chosen].numpy(), items[chosen].numpy()) for chosen in (likes, ~likes)]
    return SignedGraph.from_edges(edges[0], edges[1], dataset.user_num, dataset.item_num)


def sign_field(dataset: Any) -> str | None:
    """Return the column of the interactions that holds the sign; None where it is not loaded.

    Raises:
        ValueError: RecBole normalised the column, which makes dislikes of neutral rows and likes of dislikes.
    """
    config = dataset.config
    field = config["SIGN_FIELD"] or "sign"
    if field not in dataset.inter_feat.columns:
        return None
    if config["normalize_all"] or field in (config["normalize_field"] or []):
        raise ValueError(f"the column '{field}' is a sign and must not be normalised: set normalize_all: False.")
    return field


def signed_rows(dataset: Any) -> Rows:
    """Return users, items and whether it is a like, ``[n_rows]`` each, of RecBole's training part."""
    likes, field = dataset.inter_feat, sign_field(dataset)
    users, items = likes[dataset.uid_field], likes[dataset.iid_field]
    liked = torch.ones(len(users), dtype=torch.bool)
    if field is not None:
        known = likes[field] != 0
        users, items, liked = users[known], items[known], likes[field][known] > 0
        if not bool(liked.all()):
            getLogger().warning(
                f"RecBole evaluates on every held-out row, whatever its '{field}': put dislikes in a .dislike file to "
                "evaluate on likes."
            )
    dislikes = getattr(dataset, "dislike_feat", None)
    if dislikes is None:
        return users, items, liked
    theirs = [dislikes[name] for name in DISLIKE_FIELDS]
    liked = torch.cat([liked, torch.zeros(len(theirs[0]), dtype=torch.bool)])
    return torch.cat([users, theirs[0]]), torch.cat([items, theirs[1]]), liked


class SignedBatches:
    """Makes batches of edges, with ``n_negatives`` sampled items each, of RecBole's batches.

    ``kind`` is the attribute ``batches`` of the model: ``"edges"``, likes and dislikes, or ``"likes"``, likes alone.
    Dislikes of the additional file are dealt out among the batches of an epoch in a new random order, each once. Items
    are sampled from those that the user has no edge to (for ``"likes"``: did not like), in proportion to the power
    ``negative_exponent`` of their number of edges.
    """

    def __init__(self, dataset: Any, rows: Rows, kind: str) -> None:
        config = dataset.config
        self.user_field, self.item_field = dataset.uid_field, dataset.iid_field
        self.negative_field = config["NEG_PREFIX"] + self.item_field
        self.sign_field = sign_field(dataset)
        self.with_dislikes = kind == "edges"
        users, items, likes = rows
        if not self.with_dislikes:
            users, items = users[likes], items[likes]
        self.n_negatives = int(config["n_negatives"] or 0)
        exponent, weights = float(config["negative_exponent"] or 0.0), None
        if exponent:
            degrees = torch.bincount(items, minlength=dataset.item_num).double().numpy()
            weights = np.where(degrees > 0, np.maximum(degrees, 1.0) ** exponent, 0.0)
        known = slice(None) if sifts_positives(config) else slice(0)
        self.unseen = UnseenItems.from_pairs(users[known].numpy(), items[known].numpy(), dataset.item_num, weights)
        self.rng = np.random.default_rng(int(config["seed"]))
        dislikes = getattr(dataset, "dislike_feat", None) if self.with_dislikes else None
        none = torch.zeros(0, dtype=torch.int64)
        self.dislikes = [none, none] if dislikes is None else [dislikes[name] for name in DISLIKE_FIELDS]
        sampling = config["train_neg_sample_args"] or {}
        times = 1 if sampling.get("distribution") == "none" else int(sampling.get("sample_num", 1) or 1)
        self.n_rows = max(len(dataset.inter_feat) * times, 1)
        self.seen = 0
        self.order = np.arange(0)

    def signed(self, interaction: Any) -> tuple[dict[str, torch.Tensor], int | None]:
        """Return the batch, and the number of the epoch that it begins, if it does."""
        users, items = interaction[self.user_field], interaction[self.item_field]
        device, size = users.device, len(users)
        sign = torch.ones(size, device=device)
        if self.sign_field is not None:
            sign = interaction[self.sign_field]
            kept = (sign != 0) if self.with_dislikes else (sign > 0)
            users, items, sign = users[kept], items[kept], sign[kept]
        epoch, place = divmod(self.seen, self.n_rows)
        if place == 0:
            self.order = self.rng.permutation(len(self.dislikes[0]))
        self.seen += size
        ends = [min(end, self.n_rows) * len(self.order) // self.n_rows for end in (place, place + size)]
        drawn = torch.from_numpy(self.order[ends[0] : ends[1]])
        theirs = [side[drawn].to(device) for side in self.dislikes]
        users, items = torch.cat([users, theirs[0]]), torch.cat([items, theirs[1]])
        sign = torch.cat([sign, -torch.ones(len(drawn), device=device)])
        sampled = self.unseen.draw(users.cpu().numpy(), self.n_negatives, self.rng)
        batch = {self.user_field: users, self.item_field: items, "sign": sign}
        batch[self.negative_field] = torch.from_numpy(sampled).to(device)
        return batch, epoch if place == 0 else None


class StockSequentialRecommender(SignedSequentialRecommender):
    """A sequential recommender that reads likes and dislikes in one sequence.

    Likes are the interactions, as RecBole puts them in sequences. Dislikes of the training part come from an additional
    atomic file ``<dataset>.dislike`` with the columns ``dislike_user_id:token``, ``dislike_item_id:token`` and
    ``dislike_timestamp:float``, loaded by ``additional_feat_suffix: [dislike]``, ``alias_of_user_id:
    [dislike_user_id]``, ``alias_of_item_id: [dislike_item_id]`` and ``load_col: {inter: [user_id, item_id, timestamp],
    dislike: [dislike_user_id, dislike_item_id, dislike_timestamp]}``. Without that file all events are likes.

    A dislike is in a sequence where its time says, if it is earlier than the item to be predicted; among events of one
    time, likes come first. RecBole's times are 32-bit floats, which hold seconds since 1970 in steps of 64 or 128:
    count them from the first event of the data.

    Raises:
        ValueError: a row is no like by the column ``SIGN_FIELD`` of the interactions (``sign`` by default), or
            RecBole normalised that column.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        SequentialRecommender.__init__(self, config, dataset)
        field = sign_field(dataset)
        if field is not None and bool((dataset.inter_feat[field] <= 0).any()):
            raise ValueError(
                f"RecBole would take interactions whose '{field}' is not above 0 for likes: leave them out by "
                f"""val_interval: {{{field}: "[1,1]"}}, and put dislikes into the additional file."""
            )
        theirs = getattr(dataset, "dislike_feat", None)
        self._dislikes = TimedDislikes(dataset) if theirs is not None and len(theirs) else None

    def with_signs(self, batch: Any) -> Any:
        """Return a batch with the items of both signs in order, their signs in ``sign_list``, and their number."""
        items, length = batch[self.ITEM_SEQ], batch[self.ITEM_SEQ_LEN]
        columns = {name: batch[name] for name in (self.USER_ID, self.ITEM_ID) if name in batch}
        if self._dislikes is None:
            signs = (items > 0).to(torch.int64)
        else:
            items, signs, length = self._dislikes.among(batch, items, length)
        return {**columns, self.ITEM_SEQ: items, SIGN_LIST: signs, self.ITEM_SEQ_LEN: length}


class TimedDislikes:
    """The dislikes of a data set by user and time, which are put among the likes of sequences.

    Raises:
        ValueError: times are missing or normalised.
    """

    def __init__(self, dataset: Any) -> None:
        config, theirs = dataset.config, dataset.dislike_feat
        self.user_field, self.time_field = dataset.uid_field, dataset.time_field
        self.times_field = f"{self.time_field}{config['LIST_SUFFIX']}"
        if self.time_field not in dataset.inter_feat.columns or DISLIKE_TIME not in theirs.columns:
            raise ValueError(f"load_col needs '{self.time_field}' of interactions and '{DISLIKE_TIME}' of dislikes.")
        normalised = {self.time_field, DISLIKE_TIME}.intersection(config["normalize_field"] or [])
        if config["normalize_all"] or normalised:
            raise ValueError("times must not be normalised, each file by itself: set normalize_all: False.")
        user, item, time = (theirs[name].numpy() for name in (*DISLIKE_FIELDS, DISLIKE_TIME))
        order = np.lexsort((time, user))
        self.item, self.time = torch.from_numpy(item[order]), torch.from_numpy(time[order])
        self.indptr = np.searchsorted(user[order], np.arange(dataset.user_num + 1))
        self.moments = np.unique(time)
        self.keys = self._keys(user[order], time[order])

    def _keys(self, user: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Return numbers in the order of user and time, ``[n]``."""
        return user * (len(self.moments) + 1) + np.searchsorted(self.moments, time)

    def among(
        self, batch: Any, items: torch.Tensor, length: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the last events of both signs before the items to be predicted.

        Args:
            batch: of RecBole's, with times; without that of the target all dislikes are before it.
            items: likes, filled from the left, ``[n_rows, longest]``.
            length: how many likes, ``[n_rows]``.

        Returns:
            Items and signs, 0 for padding, ``[n_rows, longest]`` each, and how many events, ``[n_rows]``.
        """
        longest = items.shape[1]
        user = batch[self.user_field].cpu().numpy()
        end = self.indptr[user + 1]
        if self.time_field in batch:
            target = batch[self.time_field].cpu().numpy()
            end = np.searchsorted(self.keys, self._keys(user, target))
        place = torch.from_numpy(end[:, None] + np.arange(-longest, 0))
        known = place >= torch.from_numpy(self.indptr[user])[:, None]
        place = place.clamp(min=0)
        known, disliked, time = (tensor.to(items.device) for tensor in (known, self.item[place], self.time[place]))
        likes = torch.arange(longest, device=items.device) < length[:, None]
        both = torch.cat([items * likes, disliked * known], dim=1)
        signs = torch.cat([likes.to(torch.int64), -known.to(torch.int64)], dim=1)
        moments = torch.cat([batch[self.times_field], time.to(batch[self.times_field])], dim=1)
        order = moments.masked_fill(signs == 0, -torch.inf).sort(dim=1, stable=True).indices
        count = (length + known.sum(dim=1)).clamp(max=longest)
        # the last ones of the order, from the left
        column = torch.arange(longest, device=items.device) - count[:, None]
        order = order.gather(1, (column + order.shape[1]).clamp(max=order.shape[1] - 1))
        inside = column < 0
        return both.gather(1, order) * inside, signs.gather(1, order) * inside, count
