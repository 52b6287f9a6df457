"""The models that convolve over both signs, against their formulas in dense float64."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from prepared import prepared
from recbole.data.interaction import Interaction
from refusals import check_refused
from signed_reference import (
    FIELDS,
    N_ITEMS,
    N_USERS,
    adjacency,
    assert_same_encoding,
    assert_same_loss,
    bpr_of,
    build,
    defaults,
    nodes,
    small_data,
    squares_of,
)
from torch.nn.functional import leaky_relu
from torch_geometric.nn import SignedConv

from recbole_signed.model import sigformer as module
from recbole_signed.model.dfgnn import DFGNN
from recbole_signed.model.sbgnn import SBGNN
from recbole_signed.model.sgcn import SGCN
from recbole_signed.model.sigformer import SIGformer
from recbole_signed.model.slgnn import SLGNN, SLGNNLayer, singular_features


def with_loops(likes: np.ndarray) -> torch.Tensor:
    """The likes between all nodes with a loop at each, over the roots of the degrees."""
    whole = np.eye(N_USERS + N_ITEMS)
    whole[:N_USERS, N_USERS:], whole[N_USERS:, :N_USERS] = likes, likes.T
    root = np.sqrt(whole.sum(axis=1))
    return torch.from_numpy(whole / root[:, None] / root[None])


def embeddings_of_dfgnn(model: DFGNN, data: Any) -> torch.Tensor:
    low, high = with_loops(data.likes), torch.eye(N_USERS + N_ITEMS) - adjacency(data.dislikes)
    table = nodes(model.user_embedding, model.item_embedding)
    for join in model.joins:
        table = torch.cat([low @ table, high @ table], dim=1) @ join.weight.T + join.bias
    return table


def test_embeddings_and_loss_of_dfgnn_are_those_of_the_formulas() -> None:
    data = small_data()
    model = build(DFGNN, data, temperature=0.6, cl_weight=0.4)
    table, start = embeddings_of_dfgnn(model, data), nodes(model.user_embedding, model.item_embedding)
    assert_same_encoding(model, table)
    batch = data.batch(2)
    liked = batch["sign"] > 0
    u, i = table[batch["user_id"][liked]], table[batch["item_id"][liked] + N_USERS]
    n = table[batch["neg_item_id"][liked] + N_USERS]
    logits = torch.cat([(u * i).sum(1)[:, None], (u[:, None] * n).sum(2)], dim=1)
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    unit = start / start.norm(dim=1, keepdim=True)
    cosines = unit[batch["user_id"]] @ unit[batch["item_id"] + N_USERS].T / 0.6
    regulariser = cosines.exp().sum(dim=1).log() - batch["sign"] * cosines.diagonal()
    assert_same_loss(model, batch, wanted + 0.4 * regulariser.mean())


def test_without_dislikes_or_likes_there_are_scores_and_losses() -> None:
    data = small_data()
    model = build(DFGNN, data)
    batch = {name: column[data.batch(1)["sign"] < 0] for name, column in data.batch(1).items()}
    assert torch.isfinite(model.loss(batch))
    one = {name: column[:1] for name, column in batch.items()}
    assert model.loss(one) == 0
    data = small_data(dislikes=False)
    model = build(DFGNN, data)
    table = nodes(model.user_embedding, model.item_embedding)
    for join in model.joins:
        table = torch.cat([with_loops(data.likes) @ table, table], dim=1) @ join.weight.T + join.bias
    assert_same_encoding(model, table)


SIZE = 6


def means(matrix: np.ndarray) -> torch.Tensor:
    """The mean over neighbours, between all nodes."""
    whole = np.zeros((N_USERS + N_ITEMS,) * 2)
    whole[:N_USERS, N_USERS:], whole[N_USERS:, :N_USERS] = matrix, matrix.T
    return torch.from_numpy(whole / np.maximum(whole.sum(axis=1, keepdims=True), 1))


def embeddings_of_sgcn(model: SGCN, data: Any) -> torch.Tensor:
    plus, minus = means(data.likes), means(data.dislikes)
    liking = disliking = nodes(model.user_embedding, model.item_embedding)
    for number, layer in enumerate(model.layers):
        near, far = plus @ liking, minus @ disliking
        if number:
            near, far = torch.cat([near, far], dim=1), torch.cat([plus @ disliking, minus @ liking], dim=1)
        sides = zip(
            (near, far),
            (liking, disliking),
            (layer.lin_pos_l, layer.lin_neg_l),
            (layer.lin_pos_r, layer.lin_neg_r),
            strict=True,
        )
        liking, disliking = (
            torch.tanh(around @ left.weight.T + own @ right.weight.T + right.bias)
            for around, own, left, right in list(sides)
        )
    return torch.cat([liking, disliking], dim=1)


def test_embeddings_and_loss_of_sgcn_are_those_of_the_formulas() -> None:
    data = small_data()
    model = build(SGCN, data, embedding_size=SIZE, n_layers=3, reg_weight=0.01)
    table, start = embeddings_of_sgcn(model, data), nodes(model.user_embedding, model.item_embedding)
    assert_same_encoding(model, table)
    batch = data.liked(2)
    assert_same_loss(model, batch, bpr_of(batch, table) + 0.01 * squares_of(batch, start) / 2 / len(batch["sign"]))


def test_the_layers_are_signed_convolutions_of_pytorch_geometric() -> None:
    data = small_data()
    model = build(SGCN, data, embedding_size=SIZE, n_layers=2)
    edges = []
    for matrix in (data.likes, data.dislikes):
        users, items = (torch.from_numpy(each) for each in np.nonzero(matrix))
        edges.append(torch.stack([torch.cat([users, items + N_USERS]), torch.cat([items + N_USERS, users])]))
    table = nodes(model.user_embedding, model.item_embedding)
    for number, layer in enumerate(model.layers):
        theirs = SignedConv(SIZE if not number else SIZE // 2, SIZE // 2, first_aggr=not number).double()
        theirs.load_state_dict(layer.state_dict())
        table = torch.tanh(theirs(table, *edges))
    assert_same_encoding(model, table)


def test_without_dislikes_only_the_node_itself_is_disliked() -> None:
    data = small_data(dislikes=False)
    model = build(SGCN, data, embedding_size=SIZE, n_layers=1)
    own, layer = nodes(model.user_embedding, model.item_embedding), model.layers[0]
    liking = torch.tanh(means(data.likes) @ own @ layer.lin_pos_l.weight.T + layer.lin_pos_r(own))
    assert_same_encoding(model, torch.cat([liking, torch.tanh(layer.lin_neg_r(own))], dim=1))
    check_refused("even", build, SGCN, small_data(), embedding_size=5)


def mean_over(paths: np.ndarray, rows: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(paths / np.maximum(paths.sum(axis=1, keepdims=True), 1)) @ rows


def within(p: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often each two rows agree and disagree, themselves apart."""
    found = p @ p.T + n @ n.T, p @ n.T + n @ p.T
    return tuple(each - np.diag(np.diag(each)) for each in found)


def messages(p: np.ndarray, n: np.ndarray, weights: Any, own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    agree, disagree = within(p, n)
    parts = (("like", p, other), ("dislike", n, other), ("agree", agree, own), ("disagree", disagree, own))
    return torch.cat([own, *(mean_over(paths, weights[name](rows)) for name, paths, rows in parts)], dim=1)


def embeddings_of_sbgnn(model: SBGNN, data: Any) -> torch.Tensor:
    users, items = model.user_embedding.weight, model.item_embedding.weight
    p, n = data.likes, data.dislikes
    for layer in model.layers:
        _, first, activation, second = layer.update
        sides = messages(p, n, layer.users_from, users, items), messages(p.T, n.T, layer.items_from, items, users)
        users, items = (second(activation(each @ first.weight.T + first.bias)) for each in sides)
    return torch.cat([users, items])


def test_embeddings_and_loss_of_sbgnn_are_those_of_the_formulas() -> None:
    data = small_data()
    model = build(SBGNN, data)
    table = embeddings_of_sbgnn(model, data)
    assert_same_encoding(model, table)
    batch = data.liked(2)
    assert_same_loss(model, batch, bpr_of(batch, table))


def test_pairs_of_both_signs_are_no_neighbours_of_themselves() -> None:
    data = small_data()
    data.dislikes[5] = data.likes[5]  # liked and disliked, as in real logs
    model = build(SBGNN, data)
    assert_same_encoding(model, embeddings_of_sbgnn(model, data))


def test_without_dislikes_half_of_the_messages_are_empty() -> None:
    data = small_data(dislikes=False)
    model = build(SBGNN, data, n_layers=1)
    layer = model.layers[0]
    p, users, items = data.likes, model.user_embedding.weight, model.item_embedding.weight
    sides = []
    for own, other, matrix, weights in ((users, items, p, layer.users_from), (items, users, p.T, layer.items_from)):
        near = mean_over(matrix, weights["like"](other))
        alike = mean_over(within(matrix, np.zeros_like(matrix))[0], weights["agree"](own))
        empty = torch.zeros_like(own)
        sides.append(layer.update(torch.cat([own, near, empty, alike, empty], dim=1)))
    assert_same_encoding(model, torch.cat(sides))
    assert nodes(model.user_embedding, model.item_embedding).shape == torch.cat(sides).shape


SLOPE = 0.6


def between_nodes(matrix: np.ndarray) -> torch.Tensor:
    """Return the 0/1 matrix between all nodes, users first."""
    zeros = np.zeros((N_USERS, N_USERS)), np.zeros((N_ITEMS, N_ITEMS))
    return torch.from_numpy(np.block([[zeros[0], matrix], [matrix.T, zeros[1]]]))


def layer_of(layer: Any, states: torch.Tensor, likes: torch.Tensor, dislikes: torch.Tensor) -> list[torch.Tensor]:
    likes = likes + torch.eye(len(likes), dtype=likes.dtype)
    degrees = (likes + dislikes).sum(1)
    norm, found = (degrees[:, None] * degrees).sqrt(), []
    for head in range(len(layer.bias)):
        sides = []
        for sign, mask in enumerate((likes, dislikes)):
            hidden = states @ (layer.mixture[head, sign, :, None, None] * layer.bases[head]).sum(0)
            half = hidden.shape[1]
            score = (hidden @ layer.attention[head, :half])[:, None] + hidden @ layer.attention[head, half:]
            sides.append((mask * torch.sigmoid(leaky_relu(score, SLOPE)) / norm) @ hidden)
        found.append(sides[0] - sides[1] + layer.bias[head])
    return found


def embeddings_of_slgnn(model: SLGNN, data: Any) -> torch.Tensor:
    graph = between_nodes(data.likes), between_nodes(data.dislikes)
    states = torch.relu(torch.cat(layer_of(model.first, nodes(model.user_embedding, model.item_embedding), *graph), 1))
    return torch.relu(torch.stack(layer_of(model.second, states, *graph)).mean(0))


@pytest.mark.parametrize("n_heads", [1, 3])
def test_embeddings_and_loss_of_slgnn_are_those_of_the_formulas(n_heads: int) -> None:
    data = small_data()
    model = build(SLGNN, data, n_heads=n_heads, slope=SLOPE)
    table = embeddings_of_slgnn(model, data)
    assert_same_encoding(model, table)
    batch = data.liked(2)
    assert_same_loss(model, batch, bpr_of(batch, table))


def test_features_start_as_standardised_singular_vectors() -> None:
    data = small_data()
    matrix = data.likes - data.dislikes
    found = singular_features(sp.csr_matrix(matrix, dtype=np.float32), 80, seed=0).numpy()
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    rank = int((values > 1e-6 * values[0]).sum())
    wanted = np.concatenate([left, right.T])[:, :rank]
    wanted = (wanted - wanted.mean(0)) / wanted.std(0)
    wanted *= np.sign((found[:, :rank] * wanted).sum(0))
    assert rank < 80
    np.testing.assert_allclose(found[:, :rank], wanted, atol=1e-2)
    assert 0.7 < found[:, rank:].std() < 1.3
    torch.manual_seed(0)
    model = SLGNN({**FIELDS, **defaults("SLGNN"), "embedding_size": 4}, data)
    np.testing.assert_allclose(nodes(model.user_embedding, model.item_embedding).detach(), wanted[:, :4], atol=1e-3)


@pytest.mark.parametrize("n_heads", [1, 4])
def test_each_head_starts_with_the_size_of_a_single_one(n_heads: int) -> None:
    """Xavier's standard deviation of the tensors of a head in the authors' code."""
    torch.manual_seed(0)
    layer = SLGNNLayer(48, 64, n_heads, SLOPE, (0.0, 0.0))
    sizes = {"bases": 2 / (48 * 64 + 2 * 64), "attention": 2 / (1 + 128), "bias": 2 / (1 + 64)}
    for name, variance in sizes.items():
        for head in getattr(layer, name):
            assert float(head.detach().std()) == pytest.approx(variance**0.5, rel=0.3)
    many = torch.cat([SLGNNLayer(2, 2, n_heads, SLOPE, (0.0, 0.0)).mixture.detach().flatten() for _ in range(300)])
    assert float(many.std()) == pytest.approx(0.5**0.5, rel=0.1)


@pytest.mark.parametrize("kind", ["node", "edge"])
def test_dropout_of_nodes_is_before_the_head_and_that_of_edges_on_its_weights(kind: str) -> None:
    """A node without edges has itself alone: its state is dropped, or the weight of its loop."""
    data = small_data()
    rates = {"dropout_prob": 0.5 * (kind == "node"), "edge_dropout_prob": 0.5 * (kind == "edge")}
    model = build(SLGNN, data, n_heads=1, embedding_size=1, slope=SLOPE, **rates).train()
    state, layer = nodes(model.user_embedding, model.item_embedding), model.first
    hidden = (state @ (layer.mixture[0, 0, :, None, None] * layer.bases[0]).sum(0))[1, 0]  # user 1

    def of(state: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(leaky_relu(state * layer.attention.sum(), SLOPE)) * state

    wanted = of(2 * hidden) if kind == "node" else 2 * of(hidden)
    found = torch.stack([layer(state, model.neighbours)[0][1, 0] - layer.bias[0, 0] for _ in range(40)])
    dropped = found.abs() < 1e-12
    assert 8 < int(dropped.sum()) < 32
    torch.testing.assert_close(found[~dropped], wanted.expand(int((~dropped).sum())))


def test_without_dislikes_only_the_likes_are_summed() -> None:
    model = build(SLGNN, small_data(dislikes=False))
    with torch.no_grad():
        before = torch.cat(model.encode())
        for layer in (model.first, model.second):
            layer.mixture[:, 1] = 7.0  # the bases of dislikes
        assert torch.equal(torch.cat(model.encode()), before)


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
    drawn, draw = [], module.WalkGraph.draw

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


def test_repeated_pairs_and_unknown_items(make: Callable) -> None:
    model, train = make(n_negatives=3, reg_weight=0.0)
    (batch,) = list(train)
    assert batch["neg_item_id"].shape == (200, 3)
    losses = []
    for columns in (slice(0, 3), *(slice(each, each + 1) for each in range(3))):
        part = Interaction({**batch.interaction, "neg_item_id": batch["neg_item_id"][:, columns]})
        torch.manual_seed(0)
        losses.append(model.train().calculate_loss(part).item())
    assert losses[0] == pytest.approx(np.mean(losses[1:]), rel=1e-5)
    model, train = make()
    assert len(model.walks.neighbours) == 2 * 200
    assert model.graph.n_edges < 200
    kept_once, _ = make(duplicate_pairs="last")
    assert len(kept_once.walks.neighbours) < 2 * 200
    assert len(next(iter(train))) == 200


def test_training_walks_are_fresh_and_evaluation_walks_are_not(make: Callable) -> None:
    model, _ = make()
    first, second = (model.train().encode()[0] for _ in range(2))
    assert not torch.allclose(first, second)
    state = torch.get_rng_state()
    first, second = (model.eval().encode()[0] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state), "an evaluation must not change what is trained after it"


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
