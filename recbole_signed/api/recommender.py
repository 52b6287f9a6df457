"""A fitted model with raw ids: recommendations, explanations, similar items, embeddings."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from recbole.data.interaction import Interaction

from recbole_signed.api.explanations import ItemExplanation, explained
from recbole_signed.api.ids import Ids, IntArray
from recbole_signed.api.model_parts import UserSequences, liked_items, likes_without_a_row, similarities, vectors_of
from recbole_signed.api.saving import save
from recbole_signed.data.item_lists import ItemLists
from recbole_signed.errors import UsageError, counted
from recbole_signed.files import path_of
from recbole_signed.graph.top_scores import best_of_each
from recbole_signed.ids_and_times import day, hashes, milliseconds
from recbole_signed.live import OnlineRecommender
from recbole_signed.live.learners.base import learner_of
from recbole_signed.live.store.settings import StateSettings
from recbole_signed.live.trainer import base_of
from recbole_signed.model.verdicts import RateWeighted, weighed
from recbole_signed.plugin.ranges import RANGES
from recbole_signed.ssf.item_counters import UNKNOWN

CELLS = 4_000_000  # scores that are held at a time
PROBED = 4  # users for whom the product of vectors is compared with the score
SCHEMA = {"user": pl.String, "item": pl.String, "score": pl.Float32, "rank": pl.Int32, "known": pl.Boolean}
_FEATURES = ("inter_feat", "neg_feat", "neutral_feat")


class Recommender:
    """What :func:`~recbole_signed.fit` and :func:`~recbole_signed.load` return: a fitted model that speaks raw ids.

    Ids are compared as text: ``7`` and ``"7"`` are the same user. Tables are polars frames; ``.to_pandas()`` and
    ``.to_arrow()`` turn them into others.

    Attributes:
        config: RecBole's configuration; ``config["model"]`` is the model's name.
        model: the fitted RecBole model, for those who need its tensors.
        users, items: the raw ids (:class:`~recbole_signed.api.ids.Ids`).
    """

    def __init__(
        self,
        config: Any,
        model: Any,
        dataset: Any,
        seen: ItemLists | None = None,
        kept: Any = None,
        sequences: UserSequences | None = None,
    ) -> None:
        self.config, self.model = config, model
        self._dataset, self._kept, self._sequences = dataset, kept, sequences
        self.users, self.items = (
            Ids(what, dataset.field2id_token[field], dataset.field2token_id[field])
            for what, field in (("user", dataset.uid_field), ("item", dataset.iid_field))
        )
        self._trained = edges_of(dataset)
        self._seen = seen or self._trained

    def __repr__(self) -> str:
        users, items = counted(len(self.users), "user"), counted(len(self.items), "item")
        return f"<{self.config['model']} fitted to {users} and {items}>"

    @property
    def dataset(self) -> Any:
        """The RecBole data set that the model was fitted to."""
        return self._dataset

    def save(self, path: Path | str) -> None:
        """Write the model to one file that :func:`~recbole_signed.load` reads, with the data that it was fitted to.

        Args:
            path: the file; one that is there is replaced.

        Raises:
            UsageError: it can't be written, or the data set folder is gone, or has other ids than the model was fitted
                to.
        """
        save(self.config, self.model, path)

    def online(self, directory: Path | str) -> OnlineRecommender:
        """Begin an online state with the model and what it was fitted to: events change its recommendations at once.

        Its lists are those of the fitted model, but that items near a user's newest dislike are lower, as far as
        ``fit(..., online_settings={"dislike_strength": 0.4})`` says.

        ``recbole-signed serve --state DIRECTORY`` serves the state once it is closed, and
        ``OnlineRecommender.open(directory)`` opens it again.

        Args:
            directory: of the state, empty or not there yet.

        Returns:
            The model over the state; ``close()`` it in the end.

        Raises:
            UsageError: the model can't go on learning, or the folder holds something.

        Example:
            >>> live = model.online("state")  # doctest: +SKIP
            >>> live.update([rs.Event("e1", "user 7", "item 3", "dislike", 1_700_000_000_000)])  # doctest: +SKIP
            >>> live.recommend("user 7", k=10)  # doctest: +SKIP
        """
        directory = path_of(directory, "directory")
        learner = learner_of(self.model, self.config)
        settings = StateSettings.from_config(self.config["online_limits"])
        base = base_of(self._dataset)
        return OnlineRecommender.begin(directory, learner, *base, unit_known=True, settings=settings)

    # ---- recommendations ----

    def recommend(
        self,
        users: Any,
        k: int = 10,
        *,
        exclude: Any = (),
        include_only: Any = None,
        include_seen: bool = False,
        dislike_aversion: float | None = None,
        dislike_strength: float | None = None,
    ) -> pl.DataFrame:
        """Return the best items of one or several users.

        A user that the model does not know, or that has no edge in what it was fitted to, gets what the model gives
        a user without edges: SSF, SSF-L and SSF-T their own scores, by the features of the user where they use these,
        other models the items by their number of likes, times the like rate to the power of a ``dislike_aversion`` that
        they were fitted with. So does a user of whose edges the model reads none, such as one who has only viewed
        items, or only disliked some where the model reads likes alone: what is near to these is lower if the model was
        fitted with ``dislike_strength``.

        Args:
            users: a raw id, or a list, array or series of them.
            k: how many items for each user; fewer where no more are left.
            exclude: raw ids of items that nobody gets.
            include_only: raw ids of the only items to choose from.
            include_seen: also items that the user has an edge to; by default nobody gets what they have liked,
                disliked or seen.
            dislike_aversion: for SSF, SSF-L and SSF-T: how strongly items with a low like rate are held back, in
                place of the fitted value, at most 100; 0: not at all.
            dislike_strength: for SSF, SSF-L and SSF-T, and models fitted with it: how far what is near to a dislike of
                the user falls, in place of the fitted value, from 0 (not at all) to 1.

        Returns:
            A polars frame with the columns ``user``, ``item`` (String), ``score`` (Float32; comparable within a user,
            null where nothing is known of the item), ``rank`` (Int32, from 1) and ``known`` (Boolean: whether the model
            knows edges of that user). Users come in the order given, items best first. Items with equal scores stand in
            an order that a hash of their ids draws, whatever the order of the rows was that the model was fitted to.

        Raises:
            UsageError: an id or ``include_seen`` of a wrong type, k below 1, an item that the model does not know, or a
                ``dislike_aversion`` or ``dislike_strength`` for a model that has none.

        Example:
            >>> model.recommend(["user 7", "user 9"], k=10, exclude=["item 3"])  # doctest: +SKIP
        """
        options = exclude, include_only, include_seen, dislike_aversion, dislike_strength
        frames = list(self.batches(users, k, *options))
        return pl.concat(frames) if frames else pl.DataFrame(schema=SCHEMA)

    def batches(
        self,
        users: Any,
        k: int = 10,
        exclude: Any = (),
        include_only: Any = None,
        include_seen: bool = False,
        dislike_aversion: float | None = None,
        dislike_strength: float | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield what :meth:`recommend` returns in pieces, with bounded memory however many users there are.

        Args and errors are those of :meth:`recommend`; all of them are checked before the first piece.
        """
        k = checked_k(k, "items for each user")
        if not isinstance(include_seen, (bool, np.bool_)):  # the text "false" counts as true
            raise UsageError(f"include_seen is {include_seen!r}; give True or False.")
        texts = self.users.texts(users)
        model = self._with(dislike_aversion=dislike_aversion, dislike_strength=dislike_strength)
        hidden = self._hidden(exclude, include_only)
        starts = range(0, len(texts), self.batch_size)
        pieces = (texts[start : start + self.batch_size] for start in starts)
        return (self._ranked(model, piece, k, hidden, bool(include_seen)) for piece in pieces)

    @property
    def batch_size(self) -> int:
        """Number of users of each piece of :meth:`batches` but the last."""
        return max(1, CELLS // (len(self.items) + 1))

    def knows(self, users: Any) -> np.ndarray:
        """Return whether the model knows edges of each of the given users, bool ``[n]``."""
        return self._known(self.users.numbers(self.users.texts(users)))

    def _known(self, numbers: IntArray) -> np.ndarray:
        if self._sequences is not None:
            return self._sequences.known(numbers)
        known: np.ndarray = self._trained.counts(numbers) > 0
        return known

    @cached_property
    def _item_keys(self) -> torch.Tensor:
        """What decides between items with equal scores, int64 ``[n_items]``: it follows from the ids alone."""
        return torch.from_numpy(hashes(self.items.tokens.to_numpy()))

    @torch.no_grad()
    def _ranked(self, model: Any, texts: list[str], k: int, hidden: torch.Tensor, include_seen: bool) -> pl.DataFrame:
        numbers = self.users.numbers(texts)
        known = self._known(numbers)
        scores = self._scores(model, numbers, known)
        scores[:, hidden] = -torch.inf
        if not include_seen:
            row, item = self._seen.select(numbers)
            scores[torch.from_numpy(row), torch.from_numpy(item)] = -torch.inf
        values, best = self._best(scores, k, "scores")
        width = values.shape[1]
        rows = np.repeat(np.arange(len(texts)), width)
        frame = pl.DataFrame(
            {
                "user": pl.Series(texts, dtype=pl.String).gather(rows),
                "item": self.items.tokens.gather(best.reshape(-1).numpy()),
                "score": values.reshape(-1).numpy(),
                "rank": np.tile(np.arange(1, width + 1, dtype=np.int32), len(texts)),
                "known": known[rows],
            },
            schema=SCHEMA,
        )
        score = pl.when(pl.col("score") > UNKNOWN).then(pl.col("score"))
        return frame.filter(pl.col("score").is_finite()).with_columns(score=score)

    def _best(self, values: torch.Tensor, k: int, what: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the ``k`` best of ``values [n, n_items]`` and their items, two ``[n, <= k]``, in one order of ties."""
        best, items = best_of_each(values, k, self._item_keys)
        if bool(best.isnan().any()):
            raise UsageError(
                f"the {what} of {self.config['model']} are not numbers: its training diverged; fit it again with a "
                "smaller learning_rate."
            )
        return best, items

    def _scores(self, model: Any, users: IntArray, known: np.ndarray) -> torch.Tensor:
        """Return the scores of all items, float32 ``[n_users, n_items]`` on the CPU, which the caller may change."""
        if hasattr(model, "fold_in"):  # without an edge the features of a user are asked, where it has any
            return self._model_scores(model, users)
        scores = self._popularity.expand(len(users), -1).clone()
        known = known & self._asked[users]
        if known.any():
            own = self._model_scores(model, users[known])
            # all scores are equal where, for example, no other user has an item of this one
            differ = own[:, 1:].amin(dim=1) != own[:, 1:].amax(dim=1)
            known[known] = differ.numpy()
            scores[torch.from_numpy(known)] = own[differ]
        if isinstance(model, RateWeighted):
            others = torch.from_numpy(~known)
            scores[others] = model.lowered_for(users[~known], scores[others])
        return scores

    @cached_property
    def _asked(self) -> np.ndarray:
        """Whether the model reads an edge of each user, bool ``[n_users]``; of others it may keep a random start."""
        dataset = self._dataset
        if self._sequences is not None:
            return np.ones(dataset.user_num, dtype=bool)
        weak = getattr(getattr(self.model, "graph", None), "neutrals", None) is not None
        read = {"inter_feat": True, "neg_feat": getattr(self.model, "uses_dislikes", False), "neutral_feat": weak}
        tables = [getattr(dataset, name, None) for name in _FEATURES if read[name]]
        users = torch.cat([table[dataset.uid_field] for table in tables if table is not None])
        return np.bincount(users.numpy(), minlength=dataset.user_num) > 0

    def _model_scores(self, model: Any, users: IntArray) -> torch.Tensor:
        n_items, dataset = len(self.items) + 1, self._dataset
        if self._sequences is not None:
            batch = self._sequences.rows(users)
        else:
            batch = dataset.join(Interaction({dataset.uid_field: torch.from_numpy(users)}))
        batch = batch.to(self.config["device"])
        try:
            scores = model.full_sort_predict(batch)
        except NotImplementedError:  # the model scores pairs alone
            batch = batch.repeat_interleave(n_items)
            batch.update(dataset.get_item_feature().to(self.config["device"]).repeat(len(users)))
            scores = model.predict(batch)
        return scores.view(-1, n_items).float().cpu()

    @property
    def _popularity(self) -> torch.Tensor:
        """The number of likes of each item, weighed as the model's own scores are, ``[n_items]``."""
        likes = torch.bincount(liked_items(self._dataset), minlength=len(self.items) + 1).float()
        if not isinstance(self.model, RateWeighted):
            return likes
        return weighed(likes, self.model.relative_rates.cpu(), self.model.dislike_aversion, logits=False)

    def _hidden(self, exclude: Any, include_only: Any) -> torch.Tensor:
        """Return which items nobody gets, bool ``[n_items]``: padding is among them."""
        hidden = torch.zeros(len(self.items) + 1, dtype=torch.bool)
        if include_only is not None:
            hidden[:] = True
            hidden[torch.from_numpy(self.items.known(include_only))] = False
        if exclude is not None:
            hidden[torch.from_numpy(self.items.known(exclude))] = True
        hidden[0] = True
        return hidden

    # ---- looking into the model ----

    def explain(
        self, user: Any, item: Any, *, dislike_aversion: float | None = None, dislike_strength: float | None = None
    ) -> ItemExplanation:
        """Say why a user gets an item: what each of the user's edges contributes, exactly, and in words.

        Args:
            user: raw id; one that the model does not know has no edges.
            item: raw id.
            dislike_aversion: in place of the fitted value.
            dislike_strength: so.

        Returns:
            The explanation; ``print`` shows the sentence, ``.edges`` is a frame.

        Raises:
            UsageError: the model is not SSF, SSF-L or SSF-T, an id is of a wrong type, or the item does not exist.
        """
        if not hasattr(self.model, "explain_edges"):
            raise UsageError(f"{self.config['model']} can't explain its scores; SSF, SSFL and SSFT can.")
        (text,) = self.users.texts([user])
        model = self._with(dislike_aversion=dislike_aversion, dislike_strength=dislike_strength)
        number, users = self.items.one(item), self.users.numbers([text])
        explanation = model.explain_edges(int(users[0]), number)
        seen, tokens = number in self._seen.select(users)[1], self.items.tokens
        return explained(
            explanation, model.settings, text, tokens[number], tokens, dates=self._dates(text).get, seen=seen
        )

    def _dates(self, user: str) -> dict[str, str]:
        """Return the day of each verdict of a user, by the raw ids of the items; without those of an unknown time."""
        days: dict[str, str] = {}
        number = int(self.users.numbers([user])[0])
        for name in ("inter_feat", "neg_feat") if number else ():
            table, times = getattr(self._dataset, name), self._dataset.times(name)
            if times is None:
                continue
            rows = np.flatnonzero(table[self._dataset.uid_field].numpy() == number)
            rows = rows[times[rows] != 0]
            items = self.items.tokens.gather(table[self._dataset.iid_field].numpy()[rows])
            stamps = milliseconds(times[rows].astype(np.float64), f"the time of '{self._dataset.dataset_name}'")
            days |= zip(items, map(day, stamps.tolist()), strict=True)
        return days

    def similar(self, item: Any, k: int = 10) -> pl.DataFrame:
        """Return the items most similar to one: by the cosine of their vectors, or by the model's own similarities.

        Args:
            item: raw id.
            k: how many.

        Returns:
            A polars frame with the columns ``item`` (String), ``similarity`` (Float32) and ``rank`` (Int32, from 1).
            Items of which the model knows nothing are not in it, and it is empty for such an item. Equal similarities
            stand in the order of :meth:`recommend`.

        Raises:
            UsageError: the item does not exist, k is below 1, or the model has neither vectors nor similarities.
        """
        number, k = self.items.one(item), checked_k(k, "similar items")
        similarity = torch.from_numpy(similarities(self.model, number)).float()
        similarity[[0, number]] = -torch.inf
        values, best = self._best(similarity[None], k, "similarities")
        frame = pl.DataFrame(
            {
                "item": self.items.tokens.gather(best[0].numpy()),
                "similarity": values[0].numpy(),
                "rank": np.arange(1, values.shape[1] + 1, dtype=np.int32),
            }
        )
        return frame.filter(pl.col("similarity").is_finite())

    def item_embeddings(self) -> pl.DataFrame:
        """Return the vectors of all items: for SSF the singular vectors, for SSF-L these and the learned factors.

        Returns:
            A polars frame with the columns ``item`` (String) and ``embedding`` (``Array(Float32, d)``).

        Raises:
            UsageError: the model has no item vectors.
        """
        return self._embeddings("item", self.items, vectors_of(self.model, "item"))

    def user_embeddings(self) -> pl.DataFrame:
        """Return the vectors of all users; the product with an item's vector is the score that is learned.

        For SSF and SSF-L a user's vector is the fold-in of its edges, and the product is the exposure score, before
        popularity and like rate.

        Returns:
            A polars frame with the columns ``user`` (String) and ``embedding`` (``Array(Float32, d)``).

        Raises:
            UsageError: the model has no user vectors, or its scores are another function of the vectors.
        """
        vectors = vectors_of(self.model, "user")
        if not hasattr(self.model, "vectors"):  # which says itself what their product is
            self._refuse_other_scores(vectors)
        return self._embeddings("user", self.users, vectors)

    @torch.no_grad()
    def _refuse_other_scores(self, vectors: np.ndarray) -> None:
        """Refuse vectors of users whose product with those of the items is not the score, by that of the first ones."""
        users = np.arange(1, min(len(vectors), PROBED + 1))
        scores = self._model_scores(self.model, users).numpy()[:, 1:]
        items = vectors_of(self.model, "item")[1:]
        same = items.shape[1] == vectors.shape[1] and np.allclose(
            vectors[users] @ items.T, scores, rtol=1e-3, atol=1e-3 * np.abs(scores).max(initial=0.0)
        )
        if not same:
            raise UsageError(
                f"{self.config['model']} has vectors of users, but its scores are not their products with those of "
                "items, so these would rank others first; recommend() gives its lists."
            )

    @staticmethod
    def _embeddings(name: str, ids: Ids, vectors: np.ndarray) -> pl.DataFrame:
        return pl.DataFrame(
            {name: ids.tokens[1:], "embedding": pl.Series(vectors[1:], dtype=pl.Array(pl.Float32, vectors.shape[1]))}
        )

    def _with(self, **given: float | None) -> Any:
        """Return the model with other values of what holds disliked items back; the fitted one stays as it is."""
        changed = {name: value for name, value in given.items() if value is not None}
        if not changed:
            return self.model
        other = copy.copy(self.model)
        other._buffers = dict(other._buffers)
        for name, value in changed.items():
            if not hasattr(type(self.model), name):
                raise UsageError(f"{self.config['model']} has no {name}; SSF, SSFL and SSFT have.")
            if not isinstance(value, Real) or not RANGES[name].holds(value if isinstance(value, int) else float(value)):
                raise UsageError(f"{name} is {value!r}; give {RANGES[name]}.")
            if name == "dislike_strength" and isinstance(self.model, RateWeighted) and not self.model.dislike_strength:
                raise UsageError(f"{self.config['model']} was fitted without dislike_strength; fit it with one.")
            setattr(other, name, float(value))
        return other


def checked_k(k: Any, what: str) -> int:
    """Return the length of a ranking, a whole number of 1 or more."""
    if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
        raise UsageError(f"k is {k!r}; give the number of {what}, 1 or more.")
    return int(k)


def edges_of(*datasets: Any) -> ItemLists:
    """Return the items that each user has an edge to in some parts of a data set: likes, dislikes and neutral rows."""
    first = datasets[0]
    tables = [
        getattr(dataset, name) for dataset in datasets for name in _FEATURES if getattr(dataset, name, None) is not None
    ]
    pairs = [(table[first.uid_field], table[first.iid_field]) for table in tables]
    pairs += [likes_without_a_row(dataset) for dataset in datasets if hasattr(dataset, "item_list_length_field")]
    users, items = (torch.cat(ids).numpy() for ids in zip(*pairs, strict=True))
    return ItemLists.from_pairs(users, items, first.user_num, first.item_num)
