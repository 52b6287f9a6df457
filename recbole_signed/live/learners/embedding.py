r"""Any model of embeddings under a stream: gradient training from time to time, closed forms in between.

Update: a user is :math:`r_u + f(\text{its edges now})`, with the fold-in map f of the last version
(:mod:`~.live_embeddings`) and :math:`r_u = z_u - f(\text{its edges then})`; new and grown items follow from their
users. Refresh: some steps on what is new and a sample of what is old, pulled to where parameters were. Refit: from
scratch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from recbole_signed.errors import UsageError
from recbole_signed.live.learners.base import IntArray, Learner, Neighbours, Refreshed, graph_of
from recbole_signed.live.learners.fine_tuning import (
    ITEM,
    USER,
    Batches,
    Verdicts,
    Weights,
    adam,
    best_epoch,
    train_epoch,
    train_steps,
)
from recbole_signed.live.learners.live_embeddings import EmbeddingSide, LiveEmbeddings
from recbole_signed.live.learners.recipe import TrainingRecipe, embeddings_of
from recbole_signed.live.store.edges import Changes, EdgeArrays, EdgeState
from recbole_signed.trainer.signed_trainer import learning_rate


@dataclass(frozen=True)
class OnlineSettings:
    """How a model goes on learning; in a stream's yaml beside its parameters, else under ``online_settings``."""

    refresh_steps: int = 100  # steps of a refresh
    reservoir: int = 20_000  # old edges that a refresh is trained on, drawn again each time; all new ones are
    anchor: float = 1.0  # strength of the pull to the last version: `anchor * rate` of the way back after each step
    refresh_rate: float = 0.0  # learning rate of a refresh; 0: what the training ends with
    valid_share: float = 0.0  # of the edges, the last, on which a fit finds its epochs; 0: it has `epochs`

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) < np.inf:
                raise UsageError(f"'{field.name}' must be 0 or more, and finite, but is {getattr(self, field.name)}.")
        if self.valid_share >= 1:
            raise UsageError(f"'valid_share' must be below 1, but is {self.valid_share}.")

    @classmethod
    def split(cls, given: Mapping[str, Any]) -> tuple[OnlineSettings, dict[str, Any]]:
        """Return these settings, and what is left of ``given``."""
        types: dict[str, Any] = {field.name: type(field.default) for field in fields(cls)}
        own = {key: types[key](value) for key, value in given.items() if key in types}
        return cls(**own), {key: value for key, value in given.items() if key not in types}


class EmbeddingLearner(Learner):
    """A gradient-trained model of this package, or RecBole's LightGCN or BPR, that follows a stream."""

    def __init__(self, model_name: str, settings: Mapping[str, Any] | None = None) -> None:
        own, model_settings = OnlineSettings.split(settings or {})
        self._begin(TrainingRecipe.named(model_name, model_settings), own)

    def _begin(self, recipe: TrainingRecipe, settings: OnlineSettings) -> None:
        self.name, self.recipe, self.settings = recipe.name, recipe, settings
        self.needs_times = bool(settings.valid_share)  # a fit holds out the last edges then
        self.seed = int(recipe.config["seed"])
        self.weights = Weights()
        self.known = np.zeros(0, dtype=np.int64)  # keys of the edges that the version has learned from
        self.forgotten = np.zeros(0, dtype=np.int64)  # users, for what is learned of edges from before that
        self.n_users = 1
        self.n_refreshes = 0
        self.live = LiveEmbeddings(EmbeddingSide.empty(), EmbeddingSide.empty())
        self._near: Neighbours | None = None
        self._scorer: Any = None  # of models that score otherwise than by inner products
        self._trained: Weights | None = None

    @classmethod
    def from_model(cls, model: Any, config: Any, given: Mapping[str, Any] | None = None) -> EmbeddingLearner:
        """Return a learner whose first :meth:`fit` takes over the parameters of a model that RecBole trained."""
        own, unknown = OnlineSettings.split({"valid_share": 0.1, **(given or {})})
        if unknown:
            raise UsageError(f"'online_settings' has an unknown key '{next(iter(unknown))}'.")
        learner = cls.__new__(cls)
        learner._begin(TrainingRecipe.from_config(type(model), config), own)
        learner._trained = Weights.from_model(model)
        return learner

    def from_scratch(self) -> EmbeddingLearner:
        """Return this without the parameters that :meth:`from_model` kept."""
        self._trained = None
        return self

    # ---- T3 and T2

    def fit(self, edges: EdgeArrays, n_users: int, n_items: int) -> None:
        """Train from scratch; the first time after :meth:`from_model` take over the trained parameters."""
        with _seeded(self.seed):
            if self._trained is not None:
                model = self.recipe.build(edges, n_users, n_items)
                self._trained.move_to(model, {})
                self._trained = None
                self._take(model, None, edges, keep_cold=True)
                return
            epochs = int(self.recipe.config["epochs"])
            if self.settings.valid_share:
                epochs = best_epoch(self.recipe, edges, n_users, n_items, self.settings.valid_share, self.seed)
            model = self.recipe.build(edges, n_users, n_items)
            known = Verdicts.from_edges(edges, self.recipe)
            batches, optimizer = Batches(self.recipe, known, known, n_items, self.seed), adam(self.recipe, model)
            # on a terminal alone: that of a nightly refit would fill the log of a service
            shown = tqdm(range(epochs), f"fit {self.name}", unit="epoch", leave=False, delay=5, disable=None)
            for epoch in shown:
                train_epoch(self.recipe, model, optimizer, batches, epoch)
            self._take(model, optimizer, edges)

    def refresh(self, edges: EdgeArrays, n_users: int, n_items: int) -> Refreshed:
        """Train for ``refresh_steps`` on new and replayed edges, on the graph as it is now."""
        self.live.grow(n_users, n_items)
        self.n_refreshes += 1
        seed = self.seed + self.n_refreshes
        graph, verdicts = graph_of(edges, n_users, n_items), Verdicts.from_edges(edges, self.recipe)
        with _seeded(seed):
            model = self.recipe.build(edges, n_users, n_items)
            self.weights.move_to(model, self._starts(self.live.starts(graph)))
            rate = self.settings.refresh_rate or learning_rate(self.recipe.config, math.inf)
            optimizer = adam(self.recipe, model, rate)
            self.weights.warm(optimizer, model)
            pool = verdicts.new_and_old(self.known, self.settings.reservoir, np.random.default_rng(seed))
            batches = Batches(self.recipe, pool, verdicts, n_items, seed)
            steps = train_steps(model, optimizer, batches, self.settings.refresh_steps, self.settings.anchor)
            known = np.flatnonzero(self.live.items.degree[:n_items] > 0)
            before = self.live.vectors[known]
            self._take(model, optimizer, edges)
        after = self.live.items.base[known]
        size = float(np.linalg.norm(after))
        return Refreshed(float(np.linalg.norm(after - before)) / size if size else 0.0, steps)

    def _starts(self, fold_ins: Any) -> dict[str, tuple[IntArray, np.ndarray]]:
        """Cut the fold-ins of new nodes into the rows of the model's tables; none where no node was learned from."""
        if not self.live.users.degree.any():
            return {}
        starts, first = {}, dict.fromkeys((USER, ITEM), self.live.vectors.shape[1])
        for name, side in self.weights.tables.items():
            ids, values = fold_ins[side == ITEM]
            width = self.weights.values[name].shape[1]
            starts[name] = ids, values[:, first[side] : first[side] + width]
            first[side] += width
        return starts

    def _take(self, model: Any, optimizer: Any, edges: EdgeArrays, *, keep_cold: bool = False) -> None:
        """Make a trained model the version in force."""
        self.weights = Weights.from_model(model, optimizer)
        self.n_users = model.n_users
        graph = graph_of(edges, model.n_users, model.n_items)
        users, items = (table.numpy().astype(np.float32) for table in embeddings_of(model))
        tables: dict[str, list[np.ndarray]] = {USER: [], ITEM: []}
        for name, side in self.weights.tables.items():
            tables[side].append(self.weights.values[name])
        turned = type(graph)(graph.likes.T.tocsr(), graph.dislikes.T.tocsr())
        likes_only, self._near = not self.recipe.reads_dislikes, None
        how = {"keep_cold": keep_cold, "likes_only": likes_only}
        self.live = LiveEmbeddings(
            EmbeddingSide.from_tables(graph, users, items, tables[USER], **how, users=True),
            EmbeddingSide.from_tables(turned, items, users, tables[ITEM], **how, users=False),
            likes_only=likes_only,
        )
        if not keep_cold:  # users who were forgotten while this was learned, among others
            self.weights.forget(np.flatnonzero(self.live.users.degree[: self.n_users] == 0))
        self.known = Verdicts.from_edges(edges, self.recipe).keys
        self._scorer = model if self.recipe.own_score else None

    # ---- T0 and T1

    def update(self, edges: EdgeState, changes: Changes) -> None:
        """Fold in the touched items that are new or have grown; users follow their edges when they are scored."""
        self._grow(edges)
        self._forget(changes.forgotten.astype(np.int64))
        touched = self.live.touched(edges, changes.users.astype(np.int64), changes.items.astype(np.int64))
        self.live.update_items(edges, touched)

    def attach(self, edges: EdgeState) -> None:
        """Fold in all items that are new or have grown since the version was made."""
        self._grow(edges)
        self.live.update_items(edges, self.live.live_items(edges))
        if self.recipe.own_score and self._scorer is None:
            self._scorer = self.recipe.build(edges.export(), edges.n_users, edges.n_items)

    def keep_without_forgotten(self, of: Any) -> bool:
        """Forget the users whom another learner of the state had to forget, who are in the edges of a fit meanwhile."""
        self._forget(of.forgotten)
        return super().keep_without_forgotten(of)

    def _grow(self, edges: EdgeState) -> None:
        self.live.grow(edges.n_users, edges.n_items)
        self.n_users = max(self.n_users, edges.n_users)

    def _forget(self, users: IntArray) -> None:
        if len(users):
            self.forgotten = np.union1d(self.forgotten, users)
            self.live.forget(users[users < len(self.live.users.degree)])
            self.weights.forget(users)
            bounds = np.searchsorted(self.known, np.stack([users, users + 1], axis=1) << 32)
            bounds = bounds[bounds[:, 0] < bounds[:, 1]]
            self.known = np.delete(self.known, np.concatenate([np.arange(0), *(np.arange(*span) for span in bounds)]))

    def scores(self, edges: EdgeState, users: IntArray) -> torch.Tensor:
        """Return the scores of all items for users with the edges they have now, ``[len(users), n_items]``."""
        own = torch.from_numpy(self.live.of_users(edges, np.asarray(users, dtype=np.int64)))
        items = torch.from_numpy(self.live.vectors[: self.live.n_items])
        if self._scorer is None:
            return own @ items.T
        scorer = copy.copy(self._scorer)
        scorer._embeddings = own, items
        return scorer.score(torch.arange(len(own)))

    def pair_scores(self, edges: EdgeState, users: IntArray, items: IntArray) -> np.ndarray:
        """Return the scores of some items for each user, ``[len(users), m]``."""
        if self._scorer is not None:
            return np.take_along_axis(
                self.scores(edges, users).numpy(), np.broadcast_to(items, (len(users), items.shape[1])), 1
            )
        return np.einsum("nk,nmk->nm", self.live.of_users(edges, users), self.live.vectors[items])

    def similar(self, item: int, k: int, keys: IntArray | None = None) -> tuple[IntArray, np.ndarray]:
        """Return the nearest items as they were in the last version."""
        if self._near is None:  # made when it is asked for
            known = self.live.items.degree[:, None] > 0
            self._near = Neighbours(np.where(known, self.live.items.base, np.float32(0.0)))
        return super().similar(item, k, keys)

    # ---- keeping

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the model and its training, and those of :class:`OnlineSettings`."""
        return {**self.recipe.parameters(), **asdict(self.settings)}

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the version: parameters, moments, embeddings and fold-in maps; the rest follows from the edges."""
        tensors = {**self.weights.tensors(), **self.live.tensors(self.n_users), "known": self.known}
        meta = {
            "tables": self.weights.tables,
            "step": self.weights.step,
            "n_refreshes": self.n_refreshes,
            "n_users": self.n_users,
        }
        return tensors, meta

    def load(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` gave; :meth:`attach` brings the fold-ins."""
        self.weights = Weights.from_tensors(tensors, meta["tables"], float(meta["step"]))
        self.live = LiveEmbeddings.from_tensors(tensors, likes_only=not self.recipe.reads_dislikes)
        self._near = None
        self.known = np.array(tensors["known"])
        self.n_refreshes, self.n_users = int(meta["n_refreshes"]), int(meta["n_users"])
        self._scorer, self._trained = None, None


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw what models draw (starts, dropout, walks) from a seed, and leave the process' generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
