"""Embeddings that follow the edges, against loops over each user's and each item's own edges."""

import copy
import functools
from typing import Any

import edge_streams as streams
import numpy as np
import pytest
import torch
from edge_streams import Stream
from hypothesis import given, settings
from refusals import check_refused

from recbole_signed.graph import SignedGraph
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, FORGET_USER, UNDISLIKE, UNLIKE, VIEW
from recbole_signed.live.learners import live_embeddings, make_learner
from recbole_signed.live.learners.base import graph_of, rows_of
from recbole_signed.live.learners.embedding import EmbeddingLearner
from recbole_signed.live.learners.live_embeddings import RidgeMap

DIMENSIONS, NEW = 3, 2
"""Of an embedding, and how many new users count for an item here."""


@functools.cache
def base(*, keep_cold: bool = False) -> EmbeddingLearner:
    """Return a learner of a version of a small stream; some users and item 25 have no edge."""
    stream = version()
    users, items = embeddings(stream)
    graph = graph_of(stream.edges.export(), *stream.sizes)
    turned = SignedGraph(graph.likes.T.tocsr(), graph.dislikes.T.tocsr())
    made = EmbeddingLearner("BPR", {"embedding_size": DIMENSIONS})
    made.live = live_embeddings.LiveEmbeddings(
        live_embeddings.EmbeddingSide.from_tables(graph, users, items, [users + 1], keep_cold=keep_cold, users=True),
        live_embeddings.EmbeddingSide.from_tables(turned, items, users, [items - 1], keep_cold=keep_cold, users=False),
    )
    made.attach(stream.edges)
    return made


def version() -> Stream:
    moves = streams.random_moves(streams.N_USERS - 1, streams.N_ITEMS - 1)
    return Stream(streams.N_USERS, streams.N_ITEMS, moves)


def embeddings(stream: Stream) -> list[np.ndarray]:
    """Return users and items that lie about the direction of their taste, which their edges tell of."""
    rng = np.random.default_rng(0)
    tastes = rng.normal(size=(4, DIMENSIONS))
    both = (tastes[np.arange(n) % 4] + 0.1 * rng.normal(size=(n, DIMENSIONS)) for n in stream.sizes)
    return [each.astype(np.float32) for each in both]


def mapped(map_: RidgeMap, signs: np.ndarray, vectors: np.ndarray, degrees: np.ndarray, size: int) -> np.ndarray:
    """Return the map's value of one node with some edges, by the formula of ``live_embeddings.py``."""
    parts = []
    for sign in (1, -1):
        ids = np.flatnonzero(signs == sign)
        weighted = sum((vectors[i] / np.sqrt(degrees[i]) for i in ids if degrees[i]), np.zeros(vectors.shape[1]))
        n = max(len(ids), 1)
        parts += [weighted / np.sqrt(n), sum((vectors[i] for i in ids), np.zeros(vectors.shape[1])) / n]
    counts = [np.log(1 + (signs == sign).sum()) for sign in (1, -1)]
    return (np.concatenate([*parts, counts]) @ map_.weights + map_.offset)[:size]


def check(learner: EmbeddingLearner, stream: Stream, gone: set[int]) -> None:
    """Hold users and items against the version, the maps and the edges as they are."""
    first, signs = base().live, stream.signs()
    n_users, n_items = signs.shape
    user_degree, item_degree = (np.zeros(n) for n in signs.shape)
    user_degree[: streams.N_USERS] = first.users.degree[: streams.N_USERS]
    user_degree[list(gone)] = 0.0
    item_degree[: streams.N_ITEMS] = first.items.degree[: streams.N_ITEMS]
    known = item_degree > 0
    now, start = np.abs(signs).sum(axis=0), np.array([first.items.nobody] * n_items)
    start[: streams.N_ITEMS] = first.items.base[: streams.N_ITEMS]
    sources, degrees = np.zeros((n_users, DIMENSIONS)), user_degree.copy()
    for user in range(n_users):
        if user_degree[user]:
            sources[user] = first.users.base[user]
        else:
            sources[user] = mapped(first.users.fold_in, signs[user] * known, start, item_degree, DIMENSIONS)
            degrees[user] = np.abs(signs[user]).sum()
    items, source = start.copy(), start.copy()
    for item in range(1, n_items):
        if now[item] > 1.25 * item_degree[item]:
            counted = signs[:, item].copy()
            counted[[user for user in np.flatnonzero(counted) if not user_degree[user]][NEW:]] = 0
            items[item] = mapped(first.items.fold_in, counted, sources, degrees, DIMENSIONS)
            if known[item]:
                items[item] += first.items.rest[item]
            else:
                source[item] = items[item]
    np.testing.assert_allclose(learner.live.vectors[:n_items], items, atol=1e-4)
    found = learner.live.of_users(stream.edges, stream.everyone)
    for user in range(n_users):
        if signs[user].any():
            wanted = mapped(first.users.fold_in, signs[user], source, np.where(known, item_degree, now), DIMENSIONS)
            wanted += first.users.rest[user] if user_degree[user] else 0.0
        else:
            wanted = first.users.nobody
        np.testing.assert_allclose(found[user], wanted, atol=1e-4)
    np.testing.assert_allclose(learner.scores(stream.edges, stream.everyone).numpy(), found @ items.T, atol=1e-3)


@settings(max_examples=15)
@given(streams.batches)
def test_events_leave_what_the_formulas_give(moves: list[list[streams.Move]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_embeddings, "MAX_NEW_USERS", NEW)
        stream, learner = version(), copy.deepcopy(base())
        streams.follow(learner, stream, moves)
        gone = {user for batch in moves for user, _, kind in batch if kind == FORGET_USER}
        check(learner, stream, gone)
        learner.attach(stream.edges)
        check(learner, stream, gone)


def test_items_that_many_new_users_touch_and_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """And users who take all back, or are forgotten and come again."""
    gone: set[int] = set()
    monkeypatch.setattr(live_embeddings, "MAX_NEW_USERS", NEW)
    stream, learner = version(), copy.deepcopy(base())
    all_of_7 = [(7, int(item), kind) for item in stream.edges.of_user(7).ids for kind in (UNLIKE, UNDISLIKE)]
    for batch in (
        all_of_7,
        [(user, 27, LIKE) for user in (3, 40, 41, 42, 43)] + [(40, 2, DISLIKE), (30, 27, DISLIKE)],
        [(3, 0, FORGET_USER)],
        [(40, 28, LIKE), (41, 5, LIKE), (3, 27, LIKE), (3, 6, DISLIKE)],
        [(user, 27, UNLIKE) for user in (3, 40, 41, 42, 43)],
        [(user, item, LIKE) for user in range(1, 25) for item in (4, 25)],
    ):
        streams.follow(learner, stream, [batch])
        gone |= {user for user, _, kind in batch if kind == FORGET_USER}
        check(learner, stream, gone)


def test_a_version_is_the_models_own_where_nothing_moved() -> None:
    stream = version()
    users, items = embeddings(stream)
    known, some = stream.signs().any(axis=1), stream.signs().any(axis=0)
    assert not known[30]
    assert not some[25]
    for keep_cold in (True, False):
        live = base(keep_cold=keep_cold).live
        wanted = [np.where(known[:, None], users, live.users.nobody), np.where(some[:, None], items, live.items.nobody)]
        if keep_cold:
            wanted[0][1:], wanted[1][1:] = users[1:], items[1:]
        np.testing.assert_allclose(live.of_users(stream.edges, stream.everyone), wanted[0], atol=1e-4)
        np.testing.assert_allclose(live.vectors, wanted[1], atol=1e-4)
        np.testing.assert_allclose(live.users.nobody, users[known].mean(axis=0), atol=1e-5)
        np.testing.assert_array_equal(live.items.nobody, live.items.map.offset)


@pytest.mark.parametrize(("model", "reads_dislikes"), [("BPR", False), ("LightGCN", False), ("SiReN", True)])
def test_users_with_dislikes_alone(model: str, reads_dislikes: bool) -> None:
    """Of a model that reads likes alone they get what an unknown user gets: what it has of them was drawn."""
    stream = version()
    stream.take([(30, item, DISLIKE) for item in (1, 2, 3)])  # user 30 had no edge
    settings = {"embedding_size": 4, "epochs": 2, "train_batch_size": 64, "seed": 3}
    learner = make_learner(model, settings)
    learner.fit(stream.edges.export(), *stream.sizes)
    learner.attach(stream.edges)
    restored = make_learner(model, settings)
    restored.load(*learner.state())
    restored.attach(stream.edges)
    streams.follow(learner, stream, [[(streams.N_USERS, 4, DISLIKE)]])
    restored.attach(stream.edges)
    for each in (learner, restored):
        disliking, new, unknown = each.scores(stream.edges, np.array([30, streams.N_USERS, streams.N_USERS + 5]))
        assert torch.equal(disliking, unknown) is not reads_dislikes
        assert torch.equal(new, unknown) is not reads_dislikes


def test_items_without_edges_and_users_who_are_not_known() -> None:
    # all such items have one vector, that of an item of which nothing is known
    learner, n_items = copy.deepcopy(base()), version().sizes[1]
    learner.live.items.grow(n_items + 3)
    found = [learner.similar(item, 5)[0].tolist() for item in range(n_items + 3)]
    some = np.flatnonzero(version().signs().any(axis=0)).tolist()
    assert set().union(*found) <= set(some)
    assert not any(found[item] for item in (25, *range(n_items, n_items + 3)))
    assert np.mean([len(found[item]) > 0 for item in some]) > 0.9
    stream = version()
    n_users, n_items = stream.sizes
    rows = rows_of(stream.edges, np.array([2, n_users, n_users + 7, 0]), n_items)
    wanted = np.zeros((4, n_items), dtype=int)
    wanted[0] = stream.signs()[2]
    np.testing.assert_array_equal((rows.likes - rows.dislikes).toarray(), wanted)


def test_new_users_and_items_start_from_their_fold_ins() -> None:
    """An item that new users alone have touched is folded in from what these start from; of both, tables are too."""
    stream, learner = version(), copy.deepcopy(base())
    streams.follow(learner, stream, [[(33, 27, LIKE), (33, 4, LIKE), (34, 27, DISLIKE), (5, 28, LIKE)]])
    signs, live = stream.signs(), learner.live
    (users, of_users), (items, of_items) = live.starts(graph_of(stream.edges.export(), *stream.sizes))
    assert (users.tolist(), items.tolist()) == ([33, 34], [27, 28])
    item_degree = np.where(live.items.degree[:29] > 0, live.items.degree[:29], np.abs(signs).sum(axis=0))
    user_degree = np.where(live.users.degree[:35] > 0, live.users.degree[:35], np.abs(signs).sum(axis=1))
    own = live.users.base[:35].astype(float)
    for user, found in zip(users, of_users, strict=True):
        wanted = mapped(live.users.fold_in, signs[user], live.source[:29], item_degree, 2 * DIMENSIONS)
        np.testing.assert_allclose(found, wanted, atol=1e-4)
        own[user] = wanted[:DIMENSIONS]
    for item, found in zip(items, of_items, strict=True):
        wanted = mapped(live.items.fold_in, signs[:, item], own, user_degree, 2 * DIMENSIONS)
        np.testing.assert_allclose(found, wanted, atol=1e-4)


N_USERS, N_ITEMS = 60, 45
SSF = {"rank": 20, "cutoff": 6}
MODELS: dict[str, dict[str, Any]] = {
    "SSF": SSF, "SSFL": {**SSF, "learned_rank": 10}, "SSFT": SSF,
    "SignediALS": {"embedding_size": 12, "n_iterations": 60}, "BPR": {"embedding_size": 8, "epochs": 1},
    "LightGCN": {"embedding_size": 8, "epochs": 1},
}  # fmt: skip


def grown(model: str, n_users: int, n_items: int) -> tuple[Any, Stream]:
    """Fit to the edges of the first users and items, let all others follow, and refresh."""
    moves = streams.random_moves(N_USERS, N_ITEMS, share=0.3)
    first = [move for move in moves if move[0] < n_users and move[1] < n_items]
    stream = Stream(n_users, n_items, first or [(1, 1, VIEW)])
    learner = streams.fitted(make_learner(model, MODELS[model]), stream)
    rest = [move for move in moves if move not in first]
    streams.follow(learner, stream, [rest[: len(rest) // 2], rest[len(rest) // 2 :]])
    assert learner.scores(stream.edges, stream.everyone).isfinite().all()
    for _ in range(3):
        learner.refresh(stream.edges.export(), *stream.sizes)
        learner.attach(stream.edges)
    return learner, stream


@pytest.mark.parametrize(("n_users", "n_items"), [(2, 2), (9, 7)])
@pytest.mark.parametrize("model", ["SSF", "SSFL", "SSFT", "SignediALS"])
def test_refreshes_lead_where_a_fit_leads(model: str, n_users: int, n_items: int) -> None:
    learner, stream = grown(model, n_users, n_items)
    refit = streams.fitted(make_learner(model, MODELS[model]), stream)
    one, other = (each.scores(stream.edges, stream.everyone)[1:, 1:] for each in (learner, refit))
    assert float((one - other).norm() / other.norm()) < 0.05


@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_refreshes_train_what_was_never_trained(model: str) -> None:
    learner, stream = grown(model, 2, 2)
    scores = learner.scores(stream.edges, stream.everyone)
    likes = torch.from_numpy(stream.signs() > 0)
    assert float(scores[1:][likes[1:]].mean()) > float(scores[1:][~likes[1:]].mean()) + 0.02


@pytest.mark.parametrize("value", [None, "x", float("nan"), 4.5, float("inf"), [4]])
def test_a_parameter_that_is_no_whole_number(value: Any) -> None:
    check_refused(r"rank is .*; it must be a whole number", make_learner, "SSF", {"rank": value})
