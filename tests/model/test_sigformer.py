"""SIGformer: its forward pass and loss against a dense float64 reference, its settings, and its evaluation."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prepared import prepared
from recbole.data.interaction import Interaction

from recbole_signed.model import sigformer as module
from recbole_signed.model.sigformer import SIGformer

COLUMNS = ["user_id:token", "item_id:token", "sign:float"]
SMALL = {"embedding_size": 8, "eigs_dim": 6, "n_layers": 2, "sample_hop": 3, "alpha": 0.3}


@pytest.fixture
def make(write_inter: Callable[..., Path]) -> Callable[..., tuple[SIGformer, Any]]:
    """A model and its training batches, on rows of which some repeat a pair or contradict another."""
    rng = np.random.default_rng(3)
    pairs, signs = rng.integers(0, (25, 18), (260, 2)), rng.choice([1, -1], 260)
    rows = [(int(user), int(item), int(sign)) for (user, item), sign in zip(pairs, signs, strict=True)]
    for part, chosen in (("train", rows[:200]), ("valid", rows[200:230]), ("test", rows[230:])):
        write_inter("small", COLUMNS, chosen, part)

    def build(**config: Any) -> tuple[SIGformer, Any]:
        given = {
            "benchmark_filename": ["train", "valid", "test"], "load_col": {"inter": ["user_id", "item_id", "sign"]},
            "duplicate_pairs": "keep", **SMALL, **config,
        }  # fmt: skip
        settings, _, (train, *_) = prepared("small", "SIGformer", **given)
        return SIGformer(settings, train._dataset), train

    return build


def softmax_like(logits: torch.Tensor, rows: torch.Tensor, n: int) -> torch.Tensor:
    weights = logits.exp().clamp(max=5)
    return weights / torch.zeros(n, dtype=weights.dtype).index_add(0, rows, weights)[rows]


def dense_laplacian(batch: Interaction, n_users: int, n_items: int, alpha: float) -> torch.Tensor:
    n = n_users + n_items
    total = torch.zeros(n, n, dtype=torch.float64)
    for weight, sign in ((1.0, 1), (alpha, -1)):
        adjacency = torch.zeros(n, n, dtype=torch.float64)
        of = batch["sign"] == sign
        for user, item in zip(batch["user_id"][of].tolist(), batch["item_id"][of].tolist(), strict=True):
            adjacency[user, n_users + item] += 1  # rows that repeat a pair count
            adjacency[n_users + item, user] += 1
        scale = adjacency.sum(1).clamp(min=1) ** -0.5
        total += weight * (torch.eye(n, dtype=torch.float64) - scale[:, None] * adjacency * scale)
    return total / (1 + alpha)


@pytest.mark.parametrize("beta", [1.0, -0.2, 0.0])
def test_loss_is_the_formula(make: Callable, monkeypatch: pytest.MonkeyPatch, beta: float) -> None:
    """The reference is given the walks and the batch; all else it works out for itself, eigenvectors included."""
    drawn = []
    draw = module.WalkGraph.draw

    def record(self: Any, *args: Any) -> Any:
        drawn.append(draw(self, *args))
        return drawn[-1]

    monkeypatch.setattr(module.WalkGraph, "draw", record)
    model, train = make(beta=beta, reg_weight=0.02, gate_decay=0.3)
    with torch.no_grad():
        model.gate.copy_(torch.tensor([[0.4], [-0.3]]))
        model.path_logits.normal_(std=0.5)
    (batch,) = list(train)
    assert len(batch) == 200
    model.train()
    loss = model.calculate_loss(batch)
    loss.backward()
    n_users, n_items = model.n_users, model.n_items
    tables = [model.user_embedding.weight, model.item_embedding.weight]
    users0, items0 = (each.detach().double().requires_grad_() for each in tables)
    gate, phi = (each.detach().double().requires_grad_() for each in (model.gate, model.path_logits))
    vectors = torch.linalg.eigh(dense_laplacian(batch, n_users, n_items, 0.3)).eigenvectors[:, :6]
    vectors = vectors * torch.sign((vectors**3).sum(0))
    positions = (vectors - vectors.mean(1, keepdim=True)) / (vectors.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    state = torch.cat([users0, items0])
    layers = [state]
    for layer, walks in enumerate(drawn):
        x = (state - state.mean(1, keepdim=True)) / (state.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        rows, columns = walks.pairs.spread(torch.arange(len(x))), walks.pairs.columns.long()
        logits = (x @ x.T / math.sqrt(8) + gate[layer].exp() * (positions @ positions.T))[rows, columns]
        attention = softmax_like(logits, rows, len(x)) + softmax_like(phi[layer][walks.types.long()], rows, len(x))
        dense = torch.zeros(len(x), len(x), dtype=torch.float64).index_put(
            (rows, columns), attention / 2, accumulate=True
        )
        state = dense @ x
        layers.append(state)
    assert len(layers) == 3
    out_users, out_items = torch.stack(layers).mean(0).split([n_users, n_items])
    chosen = batch["sign"] > 0 if beta == 0 else torch.ones(200, dtype=torch.bool)
    u, i, j = batch["user_id"][chosen], batch["item_id"][chosen], batch["neg_item_id"][chosen].view(-1)
    factor = torch.where(batch["sign"][chosen] > 0, 1.0, beta).double()
    scores = out_users @ out_items.T
    wanted = torch.nn.functional.softplus(factor * (scores[u, j] - scores[u, i])).mean()
    wanted = wanted + 0.02 / 2 * sum(each.square().sum() for each in (users0[u], items0[i], items0[j])) / len(u)
    wanted = wanted + 0.3 / 2 * gate.square().sum()
    wanted.backward()
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=1e-6)
    for ours, reference in zip((*tables, model.gate, model.path_logits), (users0, items0, gate, phi), strict=True):
        torch.testing.assert_close(ours.grad.double(), reference.grad, rtol=1e-3, atol=1e-6)


def test_several_unknown_items_are_averaged(make: Callable) -> None:
    model, train = make(n_negatives=3, reg_weight=0.0)
    (batch,) = list(train)
    assert batch["neg_item_id"].shape == (200, 3)
    losses = []
    for columns in (slice(0, 3), *(slice(each, each + 1) for each in range(3))):
        part = Interaction({**batch.interaction, "neg_item_id": batch["neg_item_id"][:, columns]})
        torch.manual_seed(0)
        losses.append(model.train().calculate_loss(part).item())
    assert losses[0] == pytest.approx(np.mean(losses[1:]), rel=1e-5)


def test_training_walks_are_fresh_and_evaluation_walks_are_not(make: Callable) -> None:
    model, _ = make()
    first, second = (model.train().encode()[0] for _ in range(2))
    assert not torch.allclose(first, second)
    state = torch.get_rng_state()
    first, second = (model.eval().encode()[0] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state), "an evaluation must not change what is trained after it"


def test_rows_that_repeat_a_pair_are_parallel_edges(make: Callable) -> None:
    model, train = make()
    assert len(model.walks.neighbours) == 2 * 200
    assert model.graph.n_edges < 200
    kept_once, _ = make(duplicate_pairs="last")
    assert len(kept_once.walks.neighbours) < 2 * 200
    assert len(next(iter(train))) == 200


def test_small_batches_tables_and_no_eigenvectors(make: Callable) -> None:
    model, _ = make(embedding_size=400)
    for table in (model.user_embedding, model.item_embedding):
        assert float(table.weight.std()) == pytest.approx(0.1, rel=0.05)
    assert not model.gate.any()
    assert not model.path_logits.any()
    model, train = make(eigs_dim=0)
    assert not model.positions.any()
    (batch,) = list(train)
    assert torch.isfinite(model.train().calculate_loss(batch))
    model, train = make(beta=0.0, train_batch_size=1, reg_weight=0.0, gate_decay=0.0)
    batch = next(each for each in train if float(each["sign"]) < 0)
    loss = model.train().calculate_loss(batch)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not any(each.grad is not None and each.grad.any() for each in model.parameters())
