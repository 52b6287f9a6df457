"""Learners whose first fit had next to nothing to learn from: updates do not fail, and refreshes learn."""

from typing import Any

import edge_streams as streams
import pytest
import torch
from edge_streams import Stream
from refusals import check_refused

from recbole_signed.live.events import VIEW
from recbole_signed.live.learners import make_learner

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
