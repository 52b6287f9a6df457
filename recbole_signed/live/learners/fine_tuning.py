"""Training on the edges of a stream: whole epochs, or a few steps on what is new and a sample of what is old."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import nn

from recbole_signed.arrays import contains
from recbole_signed.data.negative_sampling import UnseenItems, sifts_positives
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE
from recbole_signed.live.learners.recipe import TrainingRecipe, scores_of
from recbole_signed.live.learners.ssf.time_learner import held_out
from recbole_signed.live.store.edges import EdgeArrays
from recbole_signed.ssf.shortlist import Pieces
from recbole_signed.ssf.validation import Validation
from recbole_signed.trainer.checkpoints import grown_optimizer, grown_parameters
from recbole_signed.trainer.signed_trainer import learning_rate

MAX_USERS = 2000


@dataclass(frozen=True)
class Verdicts:
    """The edges that a model is trained on, ``[n]``, sorted by user and item: all verdicts, or the likes."""

    user: np.ndarray
    item: np.ndarray
    sign: np.ndarray  # float32, 1 or -1

    @classmethod
    def from_edges(cls, edges: EdgeArrays, recipe: TrainingRecipe) -> Verdicts:
        """Return what a model wants to learn from."""
        kinds = [LIKE, DISLIKE] if getattr(recipe.model_class, "batches", None) == "edges" else [LIKE]
        rows = np.isin(edges.kind, kinds)
        sign = np.where(edges.kind[rows] == LIKE, 1.0, -1.0).astype(np.float32)
        return cls(edges.user[rows].astype(np.int64), edges.item[rows].astype(np.int64), sign)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def keys(self) -> np.ndarray:
        """One number for each edge and its sign, rising, int64 ``[n]``."""
        return (self.user << 32) | (self.item << 1) | (self.sign > 0)

    def take(self, rows: np.ndarray) -> Verdicts:
        """Return some of the edges."""
        return Verdicts(self.user[rows], self.item[rows], self.sign[rows])

    def new_and_old(self, known: np.ndarray, n_old: int, rng: np.random.Generator) -> Verdicts:
        """Return the edges whose keys are not among ``known`` (rising), and a sample of ``n_old`` others."""
        old = contains(known, self.keys)
        others = np.flatnonzero(old)
        if len(others) > n_old:
            others = rng.choice(others, n_old, replace=False)
        return self.take(np.concatenate([np.flatnonzero(~old), others]))


class Batches:
    """Shuffled batches of the edges of ``pool`` with sampled items that are not ``known``, as a model wants them."""

    def __init__(self, recipe: TrainingRecipe, pool: Verdicts, known: Verdicts, n_items: int, seed: int) -> None:
        config = recipe.config
        self.fields = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"], config["NEG_PREFIX"] + config["ITEM_ID_FIELD"]
        self.stock = getattr(recipe.model_class, "batches", None) is None
        self.n_negatives = 1 if self.stock else int(config["n_negatives"] or 0)
        self.pool = pool
        self.size = int(config["train_batch_size"]) or max(len(pool), 1)
        self.seed = seed
        weights, exponent = None, 0.0 if self.stock else float(config["negative_exponent"] or 0.0)
        if exponent:
            degrees = np.bincount(known.item, minlength=n_items).astype(np.float64)
            weights = np.where(degrees > 0, np.maximum(degrees, 1.0) ** exponent, 0.0)
        own = known if self.stock or sifts_positives(config) else known.take(np.arange(0))
        self.unseen = UnseenItems.from_pairs(own.user, own.item, n_items, weights) if len(known) else None
        if self.n_negatives and self.unseen is not None:  # one user who knows all items must not stop a stream
            self.pool = pool.take(np.flatnonzero(self.unseen.can_draw(pool.user)))

    def __len__(self) -> int:
        """Return the number of batches of a pass."""
        return -(-len(self.pool) // self.size)

    def epoch(self, number: int) -> Iterator[Interaction]:
        """Yield the batches of one pass."""
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(len(self.pool))
        for first in range(0, len(order), self.size):
            yield self._batch(self.pool.take(order[first : first + self.size]), rng)

    def _batch(self, rows: Verdicts, rng: np.random.Generator) -> Interaction:
        columns = dict(zip(self.fields, (rows.user, rows.item), strict=False))
        columns["sign"] = rows.sign
        if self.n_negatives and self.unseen is not None:
            drawn = self.unseen.draw(rows.user, self.n_negatives, rng)
            columns[self.fields[2]] = drawn[:, 0] if self.stock else drawn
        return Interaction({name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items()})


def adam(recipe: TrainingRecipe, model: Any, rate: float | None = None) -> torch.optim.Adam:
    """Return the optimizer of a model's configuration; it clips gradients before a step where that says so."""
    config = recipe.config
    decay, clip = float(config["weight_decay"] or 0.0), config["clip_grad_norm"]
    made = torch.optim.Adam(model.parameters(), lr=rate or float(config["learning_rate"]), weight_decay=decay)
    if clip:

        def clip_gradients(*_: Any) -> None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), **clip)

        made.register_step_pre_hook(clip_gradients)
    return made


def train_epoch(
    recipe: TrainingRecipe, model: Any, optimizer: torch.optim.Optimizer, batches: Batches, epoch: int
) -> None:
    """Train for one pass over the pool, each step with its learning rate."""
    model.train()
    for step, batch in enumerate(_pass(model, batches, epoch), start=epoch * len(batches)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe.config, step)
        _step(model, optimizer, batch)


def train_steps(model: Any, optimizer: torch.optim.Optimizer, batches: Batches, steps: int, anchor: float) -> int:
    """Train for some steps, each with a decoupled pull by ``anchor`` to the start; return the number of steps taken."""
    model.train()
    parameters = list(model.parameters())
    start = [parameter.detach().clone() for parameter in parameters]
    numbers = itertools.count() if len(batches) else ()
    all_passes = itertools.chain.from_iterable(_pass(model, batches, number) for number in numbers)
    taken = 0
    for batch in itertools.islice(all_passes, steps):
        _step(model, optimizer, batch)
        taken += 1
        pull = anchor * float(optimizer.param_groups[0]["lr"])
        if pull:
            with torch.no_grad():
                for parameter, old in zip(parameters, start, strict=True):
                    parameter.lerp_(old, min(pull, 1.0))
    return taken


def _pass(model: Any, batches: Batches, number: int) -> Iterator[Interaction]:
    """Yield the batches of one pass, which the model is told of before."""
    if hasattr(model, "start_epoch"):
        model.start_epoch(number)
    yield from batches.epoch(number)


def _step(model: Any, optimizer: torch.optim.Optimizer, batch: Interaction) -> None:
    optimizer.zero_grad()
    loss: Any = model.calculate_loss(batch.to(model.device))
    loss.backward()
    optimizer.step()


def best_epoch(recipe: TrainingRecipe, edges: EdgeArrays, n_users: int, n_items: int, share: float, seed: int) -> int:
    """Return the epochs after which NDCG@20 on the last ``share`` of likes is best; ``epochs`` if there are none."""
    config = recipe.config
    epochs, every, patience = (int(config[key] or 0) for key in ("epochs", "eval_step", "stopping_step"))
    order = np.argsort(edges.timestamp, kind="stable")
    held = np.zeros(len(edges), dtype=bool)
    held[order[int(len(edges) * (1 - share)) :]] = True
    train = edges.where(~held)
    users = np.intersect1d(edges.user[held & (edges.kind == LIKE)], train.user)[:MAX_USERS].astype(np.int64)
    if not len(users) or not every:
        return epochs
    validation = held_out(edges, ~held, users, (n_users, n_items))
    model = recipe.build(train, n_users, n_items)
    known = Verdicts.from_edges(train, recipe)
    batches, optimizer = Batches(recipe, known, known, n_items, seed), adam(recipe, model)
    best, chosen = -1.0, epochs
    for epoch in range(epochs):
        train_epoch(recipe, model, optimizer, batches, epoch)
        if (epoch + 1) % every:
            continue
        value = _ndcg(model, validation)
        if value > best:
            best, chosen = value, epoch + 1
        elif epoch + 1 - chosen > patience * every:
            break
    return chosen


def _ndcg(model: Any, validation: Validation) -> float:
    """Return NDCG@20 of what a model ranks by."""
    users = torch.from_numpy(validation.numbers)

    def scores(pieces: Pieces) -> torch.Tensor:
        values = scores_of(model, users[pieces.rows])
        values[:, 0] = -torch.inf  # padding
        return values

    return float(validation.values([scores]).mean())


USER, ITEM = "user", "item"
MOMENTS = "exp_avg", "exp_avg_sq"  # names of Adam's moments in its state


def tables_of(model: Any) -> dict[str, str]:
    """Return the parameters with a row for each user or each item: name -> which of the two."""
    tables = {name: module for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
    sides = {f"{name}.weight": _side(name, table.num_embeddings, model) for name, table in tables.items()}
    return {name: side for name, side in sides.items() if side is not None}


def _side(name: str, rows: int, model: Any) -> str | None:
    sides = [side for side, n in ((USER, model.n_users), (ITEM, model.n_items)) if n == rows]
    if len(sides) == 2:  # as many users as items: the name decides
        return USER if USER in name else ITEM
    return sides[0] if sides else None


@dataclass
class Weights:
    """What is known of a model between two instances: state, moments, and which tables have a row per node."""

    values: dict[str, np.ndarray] = field(default_factory=dict)
    moments: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    step: float = 0.0  # steps that Adam has taken

    @classmethod
    def from_model(cls, model: Any, optimizer: torch.optim.Optimizer | None = None) -> Weights:
        """Copy a model's state, and the moments of its optimizer."""
        values = {name: value.detach().cpu().numpy().copy() for name, value in model.state_dict().items()}
        weights = cls(values, {}, tables_of(model))
        states: Mapping[Any, Any] = optimizer.state if optimizer is not None else {}
        for name, parameter in model.named_parameters():
            state = states.get(parameter)
            if state:
                first, second = (state[key].cpu().numpy().copy() for key in MOMENTS)
                weights.moments[name] = first, second
                weights.step = max(weights.step, float(state["step"]))
        return weights

    def forget(self, users: np.ndarray) -> None:
        """Set the rows of users to zero, moments too."""
        for name, side in self.tables.items():
            if side == USER:
                for table in (self.values[name], *self.moments.get(name, ())):
                    table[users[users < len(table)]] = 0.0

    def move_to(self, model: Any, starts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Give ``model`` these values; rows beyond them keep their start, or that of ``starts``, by table."""
        fresh = model.state_dict()
        saved = {name: torch.tensor(value) for name, value in self.values.items() if name in fresh}
        grown = grown_parameters(saved, fresh)
        state = {**fresh, **{name: value for name, value in grown.items() if value.shape == fresh[name].shape}}
        for name, (rows, values) in starts.items():
            state[name][torch.from_numpy(rows)] = torch.from_numpy(values).to(state[name])
        model.load_state_dict(state)

    def warm(self, optimizer: torch.optim.Optimizer, model: Any) -> None:
        """Give Adam its moments back; those of new rows are zero."""
        state = {}
        for number, (name, _) in enumerate(model.named_parameters()):
            if name in self.moments:
                known = map(torch.tensor, self.moments[name])
                state[number] = {"step": torch.tensor(self.step), **dict(zip(MOMENTS, known, strict=True))}
        saved = {**optimizer.state_dict(), "state": state}
        optimizer.load_state_dict(grown_optimizer(saved, list(model.parameters())))

    def tensors(self) -> dict[str, np.ndarray]:
        """Return all arrays by names that :meth:`from_tensors` reads."""
        tensors = {f"value/{name}": value for name, value in self.values.items()}
        for name, (first, second) in self.moments.items():
            tensors[f"first/{name}"], tensors[f"second/{name}"] = first, second
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], tables: Mapping[str, str], step: float) -> Weights:
        """Make the weights again that :meth:`tensors` gave."""
        weights = cls(tables=dict(tables), step=step)
        for key, value in tensors.items():
            kind, _, name = key.partition("/")
            if kind == "value":
                weights.values[name] = np.array(value)
            elif kind == "first":
                weights.moments[name] = np.array(value), np.array(tensors[f"second/{name}"])
        return weights
