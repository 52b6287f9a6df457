"""A small signed graph, models on it without RecBole's machinery, and the dense formulas they are compared with."""

from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import numpy as np
import torch
import yaml
from torch.nn.functional import logsigmoid

from recbole_signed.graph import SignedGraph

N_USERS, N_ITEMS, SIZE = 13, 17, 5
FIELDS = {"USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "NEG_PREFIX": "neg_", "device": "cpu", "seed": 7}


@dataclass
class SmallData:
    """What a model asks a data set for; ids 0 are padding, user 1 has no edge, user 2 no dislike, user 3 no like."""

    likes: np.ndarray
    dislikes: np.ndarray
    edges: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.edges = np.concatenate(
            [
                np.column_stack([*np.nonzero(self.likes), np.ones(int(self.likes.sum()))]),
                np.column_stack([*np.nonzero(self.dislikes), -np.ones(int(self.dislikes.sum()))]),
            ]
        )

    def num(self, name: str) -> int:
        return {"user_id": N_USERS, "item_id": N_ITEMS}[name]

    def signed_graph(self) -> SignedGraph:
        return SignedGraph.from_edges(np.nonzero(self.likes), np.nonzero(self.dislikes), N_USERS, N_ITEMS)

    def batch(self, n_negatives: int, seed: int = 1) -> dict[str, torch.Tensor]:
        """All edges, in random order, with random items."""
        rng = np.random.default_rng(seed)
        edges = torch.from_numpy(rng.permutation(self.edges))
        return {
            "user_id": edges[:, 0].long(),
            "item_id": edges[:, 1].long(),
            "sign": edges[:, 2].float(),
            "neg_item_id": torch.from_numpy(rng.integers(1, N_ITEMS, (len(edges), n_negatives))),
        }

    def liked(self, n_negatives: int) -> dict[str, torch.Tensor]:
        """The edges of a batch that are likes."""
        batch = self.batch(n_negatives)
        return {name: column[batch["sign"] > 0] for name, column in batch.items()}


def small_data(dislikes: bool = True) -> SmallData:
    drawn = np.random.default_rng(3).choice([1, 0, -1], (N_USERS, N_ITEMS), p=[0.3, 0.5, 0.2])
    drawn[:2], drawn[:, 0], drawn[:, 1] = 0, 0, 0
    drawn[2] = np.maximum(drawn[2], 0)
    drawn[3] = np.minimum(drawn[3], 0)
    return SmallData((drawn > 0).astype(float), (drawn < 0).astype(float) * dislikes)


def defaults(name: str) -> dict[str, Any]:
    """Return the defaults of a model's yaml."""
    text = resources.files("recbole_signed").joinpath(f"properties/model/{name}.yaml").read_text("utf-8")
    return dict(yaml.safe_load(text))


def build(model: type, data: SmallData, **changes: Any) -> Any:
    """Return a model of random parameters in float64, in evaluation mode, with the defaults of its yaml."""
    torch.manual_seed(0)
    made = model({**FIELDS, **defaults(model.__name__), "embedding_size": SIZE, **changes}, data).double().eval()
    with torch.no_grad():
        for each in made.parameters():
            each.copy_(0.7 * torch.randn(each.shape, dtype=torch.float64))
    return made


def normalised(matrix: np.ndarray) -> torch.Tensor:
    """Return the dense matrix over the roots of its row and column sums; empty rows and columns stay zero."""
    degrees = [matrix.sum(axis=axis) for axis in (1, 0)]
    scales = [np.divide(1.0, np.sqrt(each), out=np.zeros_like(each), where=each > 0) for each in degrees]
    return torch.from_numpy(scales[0][:, None] * matrix * scales[1])


def adjacency(matrix: np.ndarray) -> torch.Tensor:
    """Return the normalised matrix between all nodes, users first."""
    half = normalised(matrix)
    top = torch.cat([torch.zeros(N_USERS, N_USERS), half], dim=1)
    return torch.cat([top, torch.cat([half.T, torch.zeros(N_ITEMS, N_ITEMS)], dim=1)])


def nodes(users: torch.nn.Embedding, items: torch.nn.Embedding) -> torch.Tensor:
    return torch.cat([users.weight, items.weight])


def light(matrix: np.ndarray, start: torch.Tensor, n_layers: int) -> torch.Tensor:
    """Return LightGCN's mean over layers, dense."""
    return sum(torch.linalg.matrix_power(adjacency(matrix), layer) @ start for layer in range(n_layers + 1)) / (
        n_layers + 1
    )


def rows_of(batch: dict[str, torch.Tensor], table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the rows of users ``[B, d]``, items ``[B, d]`` and sampled items ``[B, K, d]`` of a table of all nodes."""
    return table[batch["user_id"]], table[batch["item_id"] + N_USERS], table[batch["neg_item_id"] + N_USERS]


def margins_of(
    batch: dict[str, torch.Tensor], table: torch.Tensor, coefficient: torch.Tensor | float = 1.0
) -> torch.Tensor:
    """Return how far each edge's score, times its coefficient, is above its sampled items', ``[B, K]``."""
    u, i, n = rows_of(batch, table)
    return (coefficient * (u * i).sum(1))[:, None] - (u[:, None] * n).sum(2)


def squares_of(batch: dict[str, torch.Tensor], table: torch.Tensor) -> Any:
    """Return the sum of the squares of the rows that a batch names, as often as it names them."""
    return sum(each.square().sum() for each in rows_of(batch, table))


def bpr_of(batch: dict[str, torch.Tensor], table: torch.Tensor) -> torch.Tensor:
    """Return the mean ranking loss of a table of all nodes."""
    return -logsigmoid(margins_of(batch, table)).mean()


def bpr_of_both(
    batch: dict[str, torch.Tensor], interest: torch.Tensor, disinterest: torch.Tensor | None, b: float, weight: float
) -> torch.Tensor:
    """Return the ranking losses of a table of interest and one of disinterest, regularised with a weight."""
    total = torch.zeros((), dtype=torch.float64)
    for kind, table, like, dislike in ((1, interest, 1.0, b), (-1, disinterest, b, 1.0)):
        if table is not None:
            margins = kind * margins_of(batch, table, torch.where(batch["sign"] > 0, like, dislike))
            total = total - logsigmoid(margins).sum(1).mean() + weight / 2 * squares_of(batch, table)
    return total


def contrast(first: torch.Tensor, second: torch.Tensor, ids: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return InfoNCE over the distinct rows, as a softmax over the dense matrix of cosines."""
    chosen = sorted(set(ids.tolist()))
    first, second = (each[chosen] / each[chosen].norm(dim=1, keepdim=True) for each in (first, second))
    return -torch.log_softmax(first @ second.T / temperature, dim=1).diagonal().mean()


def assert_disinterest_comes_last(
    model: Any, interest: torch.Tensor, disinterest: torch.Tensor, threshold: float
) -> None:
    """Compare each user's order of items with that of interest, items above the threshold of disinterest last."""
    plus, minus = ((each[:N_USERS] @ each[N_USERS:].T).detach() for each in (interest, disinterest))
    scores = model.score(torch.arange(N_USERS))
    assert torch.isfinite(scores).all()
    for row, likes, dislikes in zip(scores, plus, minus, strict=True):
        wanted = sorted(range(len(row)), key=lambda item: (bool(dislikes[item] > threshold), -float(likes[item])))
        assert row.argsort(descending=True).tolist() == wanted
    assert (minus > threshold).any(dim=1).sum() > 5


def assert_same_loss(model: Any, batch: dict[str, torch.Tensor], reference: torch.Tensor) -> None:
    """Compare the loss and its gradient for every parameter with those of a dense reference."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    ours = model.loss(batch)
    torch.testing.assert_close(ours, reference.reshape(()), rtol=1e-5, atol=1e-7)
    found, wanted = (
        torch.autograd.grad(each, parameters, allow_unused=True, materialize_grads=True) for each in (ours, reference)
    )
    for name, one, other in zip(names, found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
        assert torch.isfinite(one).all()


def assert_same_encoding(model: Any, wanted: torch.Tensor) -> None:
    found = torch.cat(model.encode())
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert torch.isfinite(found).all()
