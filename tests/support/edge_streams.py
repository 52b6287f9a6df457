"""Edges and events that tests of learners share."""

import copy
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from state_hashes import edges_hash

from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, FORGET_USER, SKIP, UNDISLIKE, UNLIKE, VIEW
from recbole_signed.live.store.edge_views import LogBatch
from recbole_signed.live.store.edges import Changes, EdgeState

N_USERS, N_ITEMS = 31, 26
Move = tuple[int, int, int]
"""User, item and kind of an event."""

_pair = st.tuples(
    st.integers(1, N_USERS + 3),
    st.integers(1, N_ITEMS + 3),
    st.sampled_from([LIKE, DISLIKE, SKIP, VIEW, UNLIKE, UNDISLIKE]),
)
_forget = st.tuples(st.integers(1, N_USERS - 1), st.just(0), st.just(FORGET_USER)).map(lambda move: [move])
batches = st.lists(st.one_of(st.lists(_pair, min_size=1, max_size=8), _forget), min_size=1, max_size=6)
"""Batches of events: likes, dislikes, retractions, exposures, new users and items; users who are forgotten."""


class Stream:
    """Edges that events change, one batch after the other."""

    def __init__(self, n_users: int, n_items: int, moves: list[Move]) -> None:
        self.edges = EdgeState(n_users, n_items)
        self.seq = 0
        self.take(moves)

    def take(self, moves: list[Move], times: list[int] | None = None) -> Changes:
        """Apply a batch; later events have later times where none are given."""
        n = len(moves)
        user, item, kind = (np.array(column) for column in zip(*moves, strict=True))
        sizes = max(self.edges.n_users, int(user.max()) + 1), max(self.edges.n_items, int(item.max()) + 1)
        seq = np.arange(self.seq + 1, self.seq + n + 1)
        stamps = seq if times is None else np.array(times)
        self.seq += n
        logged = LogBatch(
            int(seq[0]),
            int(seq[-1]),
            *sizes,
            seq,
            user.astype(np.int32),
            item.astype(np.int32),
            kind.astype(np.int8),
            stamps.astype(np.int64),
            np.full(n, np.nan),
        )
        return self.edges.apply(logged)

    @property
    def sizes(self) -> tuple[int, int]:
        return self.edges.n_users, self.edges.n_items

    @property
    def everyone(self) -> np.ndarray:
        return np.arange(self.edges.n_users)

    def signs(self) -> np.ndarray:
        """Return the verdicts as a dense matrix of 1 and -1."""
        dense, edges = np.zeros(self.sizes), self.edges.export()
        dense[edges.user, edges.item] = np.select([edges.kind == LIKE, edges.kind == DISLIKE], [1.0, -1.0], 0.0)
        return dense

    def lasting_signs(self) -> np.ndarray:
        """Return the verdicts, but no dislike that is later than all likes of its user."""
        dense, edges = self.signs(), self.edges.export()
        for user in range(len(dense)):
            own = edges.user == user
            last_like = edges.timestamp[own & (edges.kind == LIKE)].max(initial=0)
            dense[user, edges.item[own & (edges.kind == DISLIKE) & (edges.timestamp > last_like)]] = 0.0
        return dense


def random_moves(n_users: int, n_items: int, share: float = 0.25, seed: int = 0, tastes: int = 4) -> list[Move]:
    """Draw a pair each with tastes: users like what is of their taste, and dislike much of the rest."""
    rng, found = np.random.default_rng(seed), []
    for user in range(1, n_users):
        for item in np.flatnonzero(rng.random(n_items - 1) < share * rng.uniform(0.3, 1.7)) + 1:
            mine = user % tastes == item % tastes
            found.append((user, int(item), LIKE if rng.random() < (0.9 if mine else 0.3) else DISLIKE))
    return found


def small_stream() -> Stream:
    """Return a stream that begins with edges among a few users and items; the last item has none."""
    return Stream(N_USERS, N_ITEMS, random_moves(N_USERS, N_ITEMS - 1))


def large_stream() -> Stream:
    """Return a stream of more items than the block of an iteration has columns."""
    return Stream(301, 181, random_moves(301, 181, share=0.08, tastes=12))


def fitted(learner: Any, stream: Stream) -> Any:
    """Fit a learner to a stream's edges."""
    learner.fit(stream.edges.export(), *stream.sizes)
    learner.attach(stream.edges)
    return learner


def follow(learner: Any, stream: Stream, moves: list[list[Move]], *, twice: bool = False) -> Any:
    """Take batches in, each of them twice if so wished."""
    for batch in moves:
        changes = stream.take(batch)
        learner.update(stream.edges, changes)
        if twice:
            learner.update(stream.edges, changes)
    return learner


def check_every_way_is_the_same(base: Any, moves: list[list[Move]], tolerance: float) -> None:
    """Check that a model after events is a function of the edges, whatever the way to them was, and scores of pairs.

    Args:
        base: a learner that was fitted to :func:`small_stream`.
        moves: batches.
        tolerance: of the scores, over the largest of them.
    """
    stream = small_stream()
    learner = follow(copy.deepcopy(base), stream, moves)
    wanted = learner.scores(stream.edges, stream.everyone)
    assert torch.isfinite(wanted).all()
    users, items = np.array([3, 0, 3, N_USERS + 50]), np.array([[1, 5, N_ITEMS - 2]] * 4)
    among_all = np.take_along_axis(learner.scores(stream.edges, users).numpy(), items, axis=1)
    np.testing.assert_allclose(learner.pair_scores(stream.edges, users, items), among_all, rtol=1e-3, atol=1e-4)
    ways = {"attached": copy.deepcopy(base)}
    ways["attached"].attach(stream.edges)
    again = small_stream()
    ways["twice"] = follow(copy.deepcopy(base), again, moves, twice=True)
    late = small_stream()  # the edges are ahead of the learner, as after a crash
    changes = [late.take(batch) for batch in moves]
    ways["late"] = copy.deepcopy(base)
    for each in changes:
        ways["late"].update(late.edges, each)
    if all(move[2] != FORGET_USER for batch in moves for move in batch):
        flat = [move for batch in moves for move in batch]
        turned = small_stream()
        times = list(range(turned.seq + 1, turned.seq + 1 + len(flat)))
        ways["turned round"] = copy.deepcopy(base)
        order = _order_that_times_allow(flat)
        for place in order:
            ways["turned round"].update(turned.edges, turned.take([flat[place]], [times[place]]))
        assert edges_hash(turned.edges) == edges_hash(late.edges)
    tensors, meta = learner.state()
    ways["loaded"] = copy.deepcopy(base)
    ways["loaded"].load({name: value.copy() for name, value in tensors.items()}, meta)
    ways["loaded"].attach(stream.edges)
    known = torch.from_numpy(stream.edges.item_likes + stream.edges.item_dislikes > 0)
    for way, other in ways.items():
        found = other.scores(stream.edges, stream.everyone)
        found = torch.nn.functional.pad(found, (0, wanted.shape[1] - found.shape[1]))
        for items in (known, ~known):  # apart: the score of items without edges may be a very large number
            own = wanted[:, items]
            size = torch.cat([own, wanted[:, known]], dim=1).abs().max().clamp(min=1e-9)
            difference = float((found[:, items] - own).norm(torch.inf) / size)
            assert difference < tolerance, (way, difference)


def check_explanations(base: Any) -> None:
    """Check that the explanation of each pair adds up to its score, likes, dislikes and growing items included."""
    stream = small_stream()
    moves = [[(4, 3, DISLIKE), (4, 5, LIKE), (9, 3, LIKE)], [(N_USERS + 1, 3, LIKE)]]
    learner = follow(copy.deepcopy(base), stream, moves)
    scores = learner.scores(stream.edges, stream.everyone).numpy()
    for user in (1, 4, 9, N_USERS + 1):
        items = np.arange(1, stream.edges.n_items)
        for item, told in zip(items.tolist(), learner.explain(stream.edges, user, items), strict=True):
            score = float(scores[user, item])
            total = (told.contributions.sum() + told.from_features + told.prior) * told.factor
            np.testing.assert_allclose([told.score, total], score, rtol=1e-3, atol=1e-6)


def _order_that_times_allow(moves: list[Move]) -> list[int]:
    """Turn the order of pairs round, but not that of a pair's own events."""
    pairs: dict[tuple[int, int], list[int]] = {}
    for place, (user, item, _) in enumerate(moves):
        pairs.setdefault((user, item), []).append(place)
    return [place for pair in reversed(list(pairs.values())) for place in pair]
