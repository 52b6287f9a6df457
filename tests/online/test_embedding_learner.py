"""Gradient-trained models under a stream: exact where nothing moved, a function of the edges where something did."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import edge_streams as streams
import numpy as np
import pytest
import torch
from edge_streams import Move, Stream
from hypothesis import assume, given, settings
from refusals import check_refused
from tqdm import tqdm

from recbole_signed.errors import UsageError
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, FORGET_USER, VIEW
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.base import described, learner_from
from recbole_signed.live.learners.embedding import EmbeddingLearner
from recbole_signed.live.learners.fine_tuning import Batches
from recbole_signed.live.learners.recipe import TrainingRecipe, embeddings_of, scores_of
from recbole_signed.live.store.edges import EdgeArrays

COMMON = {"embedding_size": 8, "epochs": 15, "learning_rate": 0.02, "refresh_steps": 10, "reservoir": 300}
MODELS: dict[str, dict[str, Any]] = {
    "BPR": {**COMMON, "epochs": 40, "train_batch_size": 256},
    "LightGCN": {**COMMON, "train_batch_size": 256},
    "LSGRec": {**COMMON, "train_batch_size": 512, "n_negatives": 4, "lr_milestones": []},
    "SiReN": {**COMMON, "train_batch_size": 512, "n_negatives": 4, "dropout_prob": 0.1, "dislike_coefficient": -1.0},
}
RANKS_DISLIKES_LOW = pytest.mark.parametrize("learner", ["BPR", "LightGCN"], indirect=True)
"""LSGRec ranks disliked items above unknown ones, and SiReN needs more training than a test has time for."""
N_USERS, N_ITEMS = 41, 31
NEW_USERS = np.arange(N_USERS, N_USERS + 10)


def planted() -> Stream:
    """Even users like even items and dislike odd ones, odd users the other way round; some pairs have no edge."""
    user, item = np.divmod(np.random.default_rng(3).permutation(40 * 30)[: 40 * 12], 30) + np.ones((2, 1), dtype=int)
    kind = np.where((user + item) % 2 == 0, LIKE, DISLIKE)
    return Stream(N_USERS, N_ITEMS, sorted(zip(user.tolist(), item.tolist(), kind.tolist(), strict=True)))


@pytest.fixture
def stream() -> Stream:
    return planted()


@functools.cache
def fitted(name: str) -> Any:
    return streams.fitted(make_learner(name, MODELS[name]), planted())


@pytest.fixture(params=list(MODELS))
def learner(request: pytest.FixtureRequest) -> Any:
    return copy.deepcopy(fitted(request.param))


def take(learner: Any, stream: Stream, *moves: Move) -> None:
    streams.follow(learner, stream, [list(moves)])


def given_by(stream: Stream) -> tuple[EdgeArrays, int, int]:
    """Return what a fit, a refresh and a new model are given."""
    return stream.edges.export(), *stream.sizes


def short(stream: Stream, name: str = "BPR", **settings: Any) -> Any:
    """Return a learner that was trained for one epoch, if no other number is given."""
    return streams.fitted(make_learner(name, {**MODELS[name], "epochs": 1, **settings}), stream)


def all_scores(learner: Any, stream: Stream) -> torch.Tensor:
    return learner.scores(stream.edges, stream.everyone)


def refreshed(learner: Any, stream: Stream) -> Any:
    found = learner.refresh(*given_by(stream))
    learner.attach(stream.edges)
    return found


def share_of_own_kind(learner: Any, stream: Stream, users: np.ndarray, *, seen: bool = False) -> float:
    """Return for how many users the mean score of items of their own kind is above the others', of unseen ones."""
    margins = []
    for user, scores in zip(users.tolist(), learner.scores(stream.edges, users), strict=True):
        items = np.setdiff1d(np.arange(1, N_ITEMS), [] if seen else stream.edges.of_user(user).ids)
        own = (items + user) % 2 == 0
        margins.append(float(scores[items[own]].mean() - scores[items[~own]].mean()))
    return float(np.mean(np.array(margins) > 0))


@functools.cache
def small(name: str) -> Any:
    """Return a learner of the small stream, after few epochs."""
    return streams.fitted(make_learner(name, {**MODELS[name], "epochs": 3}), streams.small_stream())


@pytest.mark.parametrize("name", list(MODELS))
@settings(max_examples=8)
@given(streams.batches)
def test_updates_make_a_function_of_the_edges(name: str, moves: list[list[Move]]) -> None:
    """What is taken back leaves no trace, and what is saved and loaded is what it was."""
    moves = [batch for batch in moves if batch[0][2] != FORGET_USER]  # who comes back has another id
    assume(moves)
    streams.check_every_way_is_the_same(small(name), moves, 1e-4)


def test_users_without_new_edges_keep_their_scores(learner: Any, stream: Stream) -> None:
    model = learner.recipe.build(*given_by(stream))
    learner.weights.move_to(model, {})
    users, items = embeddings_of(model)
    before = all_scores(learner, stream)
    torch.testing.assert_close(before[1:, 1:], users[1:] @ items[1:].T.float(), atol=1e-4, rtol=1e-4)
    take(learner, stream, (1, N_ITEMS, LIKE), (2, N_ITEMS, LIKE), (N_USERS, N_ITEMS, LIKE))
    during = all_scores(learner, stream)[:, :N_ITEMS]
    torch.testing.assert_close(during[3:N_USERS], before[3:])
    assert not torch.allclose(during[1], before[1])


def test_a_trained_model_is_taken_over_once_with_all_its_users(stream: Stream) -> None:
    """Those without edges, whom its training knew of, too; later fits train, as long as the last tenth asks for."""
    sizes = N_USERS + 3, N_ITEMS + 2
    given = stream.edges.export(), *sizes
    recipe = TrainingRecipe.named("BPR", {"embedding_size": 8, "epochs": 1})
    model = recipe.build(*given)
    learner = EmbeddingLearner.from_model(model, recipe.config)
    assert (learner.settings.valid_share, learner.needs_times) == (0.1, True)
    assert EmbeddingLearner.from_model(model, recipe.config, {"valid_share": 0.0}).settings.valid_share == 0.0
    with pytest.raises(UsageError, match="'online_settings' has an unknown key 'valid_shear'"):
        EmbeddingLearner.from_model(model, recipe.config, {"valid_shear": 0.0})
    wanted = scores_of(model, torch.arange(1, sizes[0]))[:, 1:]
    again = copy.deepcopy(learner).from_scratch()
    for each in (learner, again):
        each.fit(*given)

    def is_the_model(each: Any) -> bool:
        return torch.allclose(each.scores(stream.edges, np.arange(1, sizes[0]))[:, 1:], wanted, atol=1e-4)

    assert is_the_model(learner)
    np.testing.assert_array_equal(learner.weights.values["user_embedding.weight"], model.user_embedding.weight.detach())
    learner.fit(*given)
    assert not is_the_model(learner)
    assert not is_the_model(again)


@RANKS_DISLIKES_LOW
def test_known_and_new_users_are_ranked_for_by_their_taste(learner: Any, stream: Stream) -> None:
    assert share_of_own_kind(learner, stream, np.arange(1, N_USERS)) > 0.8
    nobody = learner.scores(stream.edges, np.array([0]))
    users = NEW_USERS[:6]
    take(learner, stream, *((user, 1 + (user + 1) % 2 + 2 * k, LIKE) for user in users.tolist() for k in range(3)))
    scores = learner.scores(stream.edges, users)
    assert not torch.allclose(scores, nobody.expand_as(scores))
    assert share_of_own_kind(learner, stream, users) > 0.8


def test_a_new_item_is_recommended_to_those_who_are_like_its_users(learner: Any, stream: Stream) -> None:
    take(learner, stream, *((user, N_ITEMS, LIKE) for user in range(1, 24, 2)))
    scores = all_scores(learner, stream)[25:, N_ITEMS]
    assert scores[::2].mean() > scores[1::2].mean()


def test_a_refresh_learns_what_is_new_and_keeps_what_is_old(learner: Any, stream: Stream) -> None:
    before = learner.live.items.base.copy()
    rows = ((user, item, LIKE) for user in NEW_USERS.tolist() for item in range(2 - user % 2, N_ITEMS, 4))
    take(learner, stream, *rows)
    found = refreshed(learner, stream)
    assert found.passes == 10
    assert 0 < found.staleness < 1
    learned = learner.live.items.base[1:N_ITEMS]
    assert np.linalg.norm(learned - before[1:N_ITEMS]) < np.linalg.norm(learned)
    for name, side in learner.weights.tables.items():
        assert len(learner.weights.values[name]) == stream.sizes[side == "item"]
        assert learner.weights.moments[name][0].shape == learner.weights.values[name].shape
    assert share_of_own_kind(learner, stream, NEW_USERS, seen=True) > 0.7


def test_refreshes_learn_from_new_and_from_other_old_edges(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sampled beside them is nothing that a user likes, whether it is learned from now or not."""
    made: list[Any] = []

    def spied(recipe: Any, pool: Any, known: Any, *rest: Any) -> Batches:
        made.append((set(pool.keys.tolist()), known.keys.tolist()))
        return Batches(recipe, pool, known, *rest)

    learner = short(stream, reservoir=40, refresh_steps=1)
    old = learner.known.tolist()
    take(learner, stream, *((user, user - N_USERS + 1, LIKE) for user in NEW_USERS[:3].tolist()))
    monkeypatch.setattr("recbole_signed.live.learners.embedding.Batches", spied)
    for _ in range(3):
        refreshed(learner, stream)
    new = set(learner.known.tolist()) - set(old)
    pools, known = zip(*made, strict=True)
    assert list(known) == [learner.known.tolist()] * 3
    assert (len(new), *map(len, pools)) == (3, 43, 40, 40)
    assert new < pools[0]
    assert len(pools[1] & pools[2]) < 35


@pytest.mark.parametrize(("rate", "moves"), [(1e-7, False), (0.0, True)])
def test_a_refresh_has_its_own_rate_or_that_of_the_training(rate: float, moves: bool, stream: Stream) -> None:
    assert (refreshed(short(stream, refresh_rate=rate), stream).staleness > 1e-3) == moves


def test_an_anchor_holds_the_parameters(learner: Any, stream: Stream) -> None:
    take(learner, stream, *((user, 1 + (user * 7) % (N_ITEMS - 1), LIKE) for user in range(1, 31)))
    moved = []
    for anchor in (0.0, 20.0):
        held = copy.deepcopy(learner)
        held.settings = type(held.settings)(refresh_steps=20, reservoir=300, anchor=anchor)
        held.refresh(*given_by(stream))
        name = next(iter(held.weights.tables))
        old = learner.weights.values[name]
        moved.append(np.linalg.norm(held.weights.values[name][: len(old)] - old))
    assert moved[1] < 0.7 * moved[0]


@pytest.mark.parametrize(("model", "more"), [("BPR", {}), ("LSGRec", {}), ("LSGRec", {"negative_exponent": 0.75})])
def test_a_user_who_knows_all_items_stops_no_stream(model: str, more: dict[str, float], stream: Stream) -> None:
    learner = short(stream, model, **more)
    take(learner, stream, *((1, item, LIKE) for item in range(1, N_ITEMS)))
    assert refreshed(learner, stream).passes == COMMON["refresh_steps"]
    learner.fit(*given_by(stream))
    assert all_scores(learner, stream).isfinite().all()


def test_gradients_are_clipped_and_no_steps_change_nothing(stream: Stream) -> None:
    moved = []
    for clip in (None, {"max_norm": 1e-12}):
        learner = short(stream, clip_grad_norm=clip)
        before = learner.weights.values["item_embedding.weight"]
        learner.refresh(*given_by(stream))
        moved.append(np.linalg.norm(learner.weights.values["item_embedding.weight"] - before))
    assert moved[1] < 0.01 * moved[0]
    learner = short(stream, refresh_steps=0)
    before = all_scores(learner, stream)
    assert refreshed(learner, stream).staleness == 0
    torch.testing.assert_close(all_scores(learner, stream)[1:], before[1:], atol=1e-5, rtol=1e-4)


def test_parameters_describe_the_fit_and_the_graph(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {**MODELS["BPR"], "clip_grad_norm": {"max_norm": 5.0}, "eval_step": 3, "stopping_step": 2}
    learner = make_learner("BPR", given)
    assert learner.parameters().items() >= given.items()
    assert make_learner("BPR", learner.parameters()).parameters() == learner.parameters()
    # of a model that reads exposures them too, which a service that starts from its state would lose at its next fit
    monkeypatch.setattr("recbole_signed.model.lsgrec.LSGRec.reads_neutrals", True)
    learner = make_learner("LSGRec", {**MODELS["LSGRec"], "neutral_weight": -0.5})
    edges = stream.edges.export()
    edges = EdgeArrays(edges.user, edges.item, np.where(edges.kind == DISLIKE, VIEW, edges.kind), edges.timestamp)
    for each in (learner, learner_from(described(learner))):
        graph = each.recipe.build(edges, N_USERS, N_ITEMS).graph  # type: ignore[attr-defined]
        assert (graph.neutrals.nnz, graph.neutral_weight) == ((edges.kind == VIEW).sum(), -0.5)


def test_a_saved_learner_learns_on_alike(learner: Any, stream: Stream) -> None:
    take(learner, stream, (1, 3, DISLIKE), (N_USERS, 4, LIKE), (N_USERS, 6, LIKE))
    refreshed(learner, stream)
    tensors, meta = learner.state()
    assert all(isinstance(each, np.ndarray) for each in tensors.values())
    other = make_learner(learner.name, MODELS[learner.name])
    other.load({name: each.copy() for name, each in tensors.items()}, meta)
    for each in (learner, other):
        refreshed(each, stream)
    torch.testing.assert_close(all_scores(other, stream), all_scores(learner, stream), atol=1e-5, rtol=1e-4)


def test_a_forgotten_user_leaves_no_row_nor_does_a_fit_without_it(learner: Any, stream: Stream) -> None:
    """Those who were forgotten while a fit went on are among the users without edges, and their rows would be saved."""
    take(learner, stream, (8, 0, FORGET_USER))
    assert not (learner.known >> 32 == 8).any()
    assert learner.live.users.degree[8] == 0
    assert not learner.live.users.rest[8].any()
    for name in (name for name, side in learner.weights.tables.items() if side == "user"):
        assert not learner.weights.values[name][8].any()
        assert not learner.weights.moments[name][0][8].any()
    nobody = learner.scores(stream.edges, np.array([0]))
    torch.testing.assert_close(learner.scores(stream.edges, np.array([8])), nobody)
    rows = short(stream).weights.values["user_embedding.weight"]
    assert rows.any(axis=1).tolist() == [user not in (0, 8) for user in range(len(rows))]


def test_a_fit_can_find_how_long_to_train(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    import recbole_signed.live.learners.embedding as module

    asked: list[Any] = []

    def spy(*args: Any) -> int:
        asked.append(found := original(*args))
        return found

    original: Callable[..., int] = module.best_epoch
    monkeypatch.setattr(module, "best_epoch", spy)
    short(stream, epochs=40, valid_share=0.2, eval_step=2, stopping_step=2)
    assert len(asked) == 1
    assert asked[0] in range(2, 42, 2)


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("GFCF", {}, "no embeddings of users and items"),
        ("LightGNC", {}, "LightGCN"),
        ("BPR", {"anker": 1.0}, "anker"),
        ("BPR", {"anchor": -1.0}, "'anchor' must be 0 or more"),
        ("BPR", {"anchor": float("nan")}, "'anchor' must be 0 or more"),
        ("BPR", {"learner": "sgd"}, "Adam alone"),
    ],
)
def test_what_can_not_go_on_is_refused(model: str, settings: dict[str, Any], message: str) -> None:
    check_refused(message, EmbeddingLearner, model, settings)


def test_a_fit_writes_no_progress_into_a_log(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = "recbole_signed.live.learners.embedding.tqdm"
    monkeypatch.setattr(module, lambda *args, **options: tqdm(*args, **{**options, "delay": 0, "mininterval": 0}))
    short(stream, epochs=3)
    assert capsys.readouterr().err == ""
