"""How far the top-20 lists of SSF, with its default settings, depend on anything but the edges.

    python benchmarks/bench_ssf_lists.py ml-100k-signed sigformer-amazon-music sigformer-kuairand

Of each data set's training part: the share of lists that are the same after users and items were numbered in another
order; the overlap with the lists of a decomposition by ARPACK; and the overlap, for one half of the users, with the
lists of a fit without 1 % of the edges, all of them of the other half. The last one stands beside that of R R'R, a
filter without any decomposition, as what the edges themselves change. Fits take the processor time that is printed.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, init_seed
from scipy.sparse.linalg import svds

from recbole_signed.graph import SignedGraph
from recbole_signed.graph.spectral import RightFactors
from recbole_signed.plugin import make_config
from recbole_signed.ssf import FilterSettings, SpectralFilter
from recbole_signed.ssf.filter import Exposure

K, SHARE, AT_A_TIME = 20, 0.01, 500
SETTINGS = FilterSettings()


def training_graph(name: str) -> SignedGraph:
    config = make_config("SSF", name, (), {"state": "ERROR", "save_dataset": False})
    init_seed(config["seed"], True)
    train = data_preparation(config, create_dataset(config))[0]
    return get_model("SSF")(config, train._dataset).graph


def best(scores: torch.Tensor, users: SignedGraph) -> np.ndarray:
    scores[(users.likes + users.dislikes).nonzero()] = -torch.inf
    return scores.topk(K, dim=1).indices.numpy()


def lists(fitted: SpectralFilter, graph: SignedGraph, users: np.ndarray) -> np.ndarray:
    """Return the best items of users that they have no edge to, ``[len(users), K]``."""
    parts = (graph.rows(block) for block in np.array_split(users, -(-len(users) // AT_A_TIME)))
    return np.concatenate([best(fitted.scores(part), part) for part in parts])


def without_decomposition(graph: SignedGraph, of: SignedGraph, users: np.ndarray) -> np.ndarray:
    """Return the best items of R R'R, fitted to a graph, for users of a graph."""
    matrix = Exposure.from_graph(graph, SETTINGS).matrix
    rows = [np.sort(block) for block in np.array_split(users, -(-len(users) // AT_A_TIME))]
    return np.concatenate(
        [best(torch.from_numpy(((matrix[block] @ matrix.T) @ matrix).toarray()), of.rows(block)) for block in rows]
    )


def overlap(items: np.ndarray, others: np.ndarray) -> float:
    return float(np.mean([len(np.intersect1d(*pair)) for pair in zip(items, others, strict=True)]) / K)


def renumbered(graph: SignedGraph, users: np.ndarray, items: np.ndarray) -> SignedGraph:
    assert graph.user_keys is not None
    assert graph.item_keys is not None
    likes, dislikes = (
        sp.csr_matrix(matrix[users][:, items]).sorted_indices() for matrix in (graph.likes, graph.dislikes)
    )
    return SignedGraph(likes, dislikes).keyed(graph.user_keys[users], graph.item_keys[items])


def without_some(graph: SignedGraph, users: np.ndarray, rng: np.random.Generator) -> SignedGraph:
    """Return the graph without edges of some users, :data:`SHARE` of all edges."""
    theirs = np.diff(graph.likes.indptr)[users].sum() + np.diff(graph.dislikes.indptr)[users].sum()
    chosen = np.zeros(graph.n_users)
    chosen[users] = SHARE * graph.n_edges / theirs
    left = []
    for matrix in (graph.likes, graph.dislikes):
        edges = matrix.tocoo()
        stays = rng.random(matrix.nnz) >= chosen[edges.row]
        left.append(sp.csr_matrix((edges.data[stays], (edges.row[stays], edges.col[stays])), shape=matrix.shape))
    return replace(graph, likes=left[0], dislikes=left[1])


def main(names: list[str]) -> None:
    for name in names:
        graph, rng = training_graph(name), np.random.default_rng(0)
        degrees = np.diff(graph.likes.indptr) + np.diff(graph.dislikes.indptr)
        everyone = np.flatnonzero(degrees)
        start = time.process_time()
        fitted, _ = SpectralFilter.fit(graph, SETTINGS)
        seconds = time.process_time() - start
        own = lists(fitted, graph, everyone)

        users, items = rng.permutation(graph.n_users), rng.permutation(graph.n_items)
        other = renumbered(graph, users, items)
        theirs = lists(SpectralFilter.fit(other, SETTINGS)[0], other, np.argsort(users)[everyone])
        same = (np.sort(items[theirs], axis=1) == np.sort(own, axis=1)).all(axis=1).mean()

        exposure = Exposure.from_graph(graph, SETTINGS)
        _, values, vectors = svds(exposure.matrix.astype(np.float64), k=SETTINGS.rank, random_state=0)
        values, exact = (torch.from_numpy(array.astype(np.float32).copy()) for array in (values[::-1], vectors[::-1].T))
        converged = overlap(own, lists(exposure.filter(RightFactors(values, exact, exact), SETTINGS), graph, everyone))

        half = rng.permutation(everyone)
        kept, changed = np.sort(half[: len(half) // 2]), half[len(half) // 2 :]
        fewer = without_some(graph, changed, rng)
        before = lists(SpectralFilter.fit(fewer, SETTINGS)[0], fewer, kept)
        refit = overlap(before, lists(fitted, graph, kept))
        plain = overlap(*(without_decomposition(trained, graph, kept) for trained in (fewer, graph)))
        sys.stdout.write(
            f"{name}: {graph.n_edges:,} edges, fit {seconds:.2f} s; same lists in another order {same:.2%}; "
            f"overlap with ARPACK {converged:.2%}; refit after {1 - fewer.n_edges / graph.n_edges:.2%} of other "
            f"users' events {refit:.2%}, R R'R {plain:.2%}\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
