"""Gradient-trained models under a stream: exact where nothing moved, a function of the edges where something did."""

import copy
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refusals import check_refused
from tqdm import tqdm

from recbole_signed.errors import UsageError
from recbole_signed.live import LIKE, Event, EventBatch
from recbole_signed.live.events import DISLIKE, VIEW
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.embedding import EmbeddingLearner
from recbole_signed.live.learners.fine_tuning import Batches
from recbole_signed.live.learners.make import described, learner_from
from recbole_signed.live.learners.recipe import TrainingRecipe, embeddings_of, scores_of
from recbole_signed.live.store.edges import EdgeArrays
from recbole_signed.live.store.state import OnlineState

COMMON = {"embedding_size": 8, "epochs": 15, "learning_rate": 0.02, "refresh_steps": 10, "reservoir": 300}
MODELS: dict[str, dict[str, Any]] = {
    "BPR": {**COMMON, "epochs": 40, "train_batch_size": 256},
    "LightGCN": {**COMMON, "train_batch_size": 256},
    "LSGRec": {**COMMON, "train_batch_size": 512, "n_negatives": 4, "lr_milestones": []},
    "SiReN": {**COMMON, "train_batch_size": 512, "n_negatives": 4, "dropout_prob": 0.1, "dislike_coefficient": -1.0},
}
RANKS_DISLIKES_LOW = ("BPR", "LightGCN")
"""LSGRec ranks disliked items above unknown ones, and SiReN needs more training than a test has time for."""
N_USERS, N_ITEMS = 40, 30
NOW = 1_700_000_000_000


def planted(folder: Path) -> OnlineState:
    """Even users like even items and dislike odd ones, odd users the other way round; the last 6 items are rare."""
    user, item = np.divmod(np.random.default_rng(3).permutation(N_USERS * N_ITEMS)[: N_USERS * 12], N_ITEMS)
    kind = np.where((user + item) % 2 == 0, LIKE, DISLIKE).astype(np.int8)
    order, opened = np.lexsort((item, user)), OnlineState.open(folder)
    opened.bulk_load(
        [f"u{n}" for n in range(N_USERS)],
        [f"i{n}" for n in range(N_ITEMS)],
        user[order] + 1,
        item[order] + 1,
        kind[order],
        np.arange(len(user), dtype=np.int64),
    )
    return opened


@pytest.fixture
def state(tmp_path: Path) -> Iterator[OnlineState]:
    with planted(tmp_path / "state") as opened:
        yield opened


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """A learner of the planted state by its model's name, as it was after its fit; each is fitted once."""

    @functools.cache
    def fit(name: str) -> Any:
        made = make_learner(name, MODELS[name])
        with planted(tmp_path_factory.mktemp(name)) as opened:
            made.fit(*given_by(opened))
        return made

    return lambda name: copy.deepcopy(fit(name))


@pytest.fixture(params=list(MODELS))
def learner(request: pytest.FixtureRequest, fitted: Callable[[str], Any], state: OnlineState) -> Any:
    made = fitted(request.param)
    made.attach(state.edges)
    return made


def batch(*rows: tuple[str, str, str], first: int = 0) -> EventBatch:
    return EventBatch.of(
        [Event(f"e{first + n}", user, item, kind, NOW + first + n) for n, (user, item, kind) in enumerate(rows)]
    )


def take(learner: Any, state: OnlineState, events: EventBatch) -> None:
    learner.update(state.edges, state.ingest(events).changes)


def given_by(state: OnlineState) -> tuple[EdgeArrays, int, int]:
    """Return what a fit, a refresh and a new model are given."""
    return state.edges.export(), state.edges.n_users, state.edges.n_items


def short(state: OnlineState, name: str = "BPR", **settings: Any) -> Any:
    """Return a learner that was trained for one epoch, if no other number is given."""
    learner = make_learner(name, {**MODELS[name], "epochs": 1, **settings})
    learner.fit(*given_by(state))
    return learner


def all_scores(learner: Any, state: OnlineState) -> torch.Tensor:
    return learner.scores(state.edges, np.arange(state.edges.n_users))


def refreshed(learner: Any, state: OnlineState) -> Any:
    found = learner.refresh(*given_by(state))
    learner.attach(state.edges)
    return found


def margin(scores: torch.Tensor, user: int, unseen: np.ndarray) -> float:
    """By how much the mean score of the user's own kind of items is above the others'."""
    items = np.arange(1, N_ITEMS + 1)
    items = items[~np.isin(items, unseen)]
    own, other = items[(items + user) % 2 == 0], items[(items + user) % 2 == 1]
    return float(scores[own].mean() - scores[other].mean())


def test_users_without_new_edges_keep_their_scores(learner: Any, state: OnlineState) -> None:
    model = learner.recipe.build(*given_by(state))
    learner.weights.move_to(model, {})
    users, items = embeddings_of(model)
    known = np.arange(1, N_USERS + 1)
    torch.testing.assert_close(
        learner.scores(state.edges, known)[:, 1:], users[known] @ items[1:].T.float(), atol=1e-4, rtol=1e-4
    )
    before = all_scores(learner, state)
    take(learner, state, batch(("u1", "fresh", "like"), ("u2", "fresh", "like"), ("someone", "fresh", "like")))
    torch.testing.assert_close(all_scores(learner, state)[10:41, : N_ITEMS + 1], before[10:])


def test_a_trained_model_is_taken_over_once_with_all_its_users(state: OnlineState) -> None:
    """Those without edges, whom its training knew of, too; later fits train, as long as the last tenth asks for."""
    sizes = N_USERS + 4, N_ITEMS + 3
    given = state.edges.export(), *sizes
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
        return torch.allclose(each.scores(state.edges, np.arange(1, sizes[0]))[:, 1:], wanted, atol=1e-4)

    assert is_the_model(learner)
    np.testing.assert_array_equal(learner.weights.values["user_embedding.weight"], model.user_embedding.weight.detach())
    learner.fit(*given)
    assert not is_the_model(learner)
    assert not is_the_model(again)


def test_the_model_has_learned(learner: Any, state: OnlineState) -> None:
    _only_with_a_known_answer(learner)
    scores = all_scores(learner, state)
    margins = [margin(scores[user], user, state.edges.of_user(user).ids) for user in range(1, N_USERS + 1)]
    assert np.mean(np.array(margins) > 0) > 0.8


def _only_with_a_known_answer(learner: Any) -> None:
    if learner.name not in RANKS_DISLIKES_LOW:
        pytest.skip(f"the planted halves are not what {learner.name} ranks by")


def test_a_new_user_is_ranked_for_by_its_first_edges(learner: Any, state: OnlineState) -> None:
    _only_with_a_known_answer(learner)
    nobody = learner.scores(state.edges, np.array([0]))
    take(learner, state, batch(*((f"new{n}", f"i{n % 2 + 2 * k}", "like") for n in range(6) for k in range(3))))
    users = state.users.ids([f"new{n}" for n in range(6)])
    scores = learner.scores(state.edges, users)
    assert not torch.allclose(scores, nobody.expand_as(scores))
    margins = [
        margin(each, n + 1, state.edges.of_user(int(user)).ids)
        for n, (each, user) in enumerate(zip(scores, users, strict=True))
    ]
    assert np.mean(np.array(margins) > 0) > 0.8


def test_a_new_item_is_recommended_to_those_who_are_like_its_users(learner: Any, state: OnlineState) -> None:
    take(learner, state, batch(*((f"u{2 * n}", "new item", "like") for n in range(12))))
    item = int(state.items.ids(["new item"])[0])
    scores = all_scores(learner, state)[25:, item]
    even = scores[torch.arange(25, N_USERS + 1) % 2 == 1]  # u0 has the id 1
    odd = scores[torch.arange(25, N_USERS + 1) % 2 == 0]
    assert even.mean() > odd.mean()


@pytest.mark.parametrize("seed", range(3))
def test_updates_make_a_function_of_the_edges(learner: Any, state: OnlineState, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(50 * 34)[:60]
    rows = [(f"u{pair // 34}", f"i{pair % 34}", str(rng.choice(["like", "dislike"]))) for pair in pairs]
    detour = [
        each
        for user, item, kind in rows[:25]
        for each in ((user, f"i{rng.integers(34, 37)}", "like"), (user, item, kind))
    ]
    undone = [(user, item, f"un{kind}") for user, item, kind in detour if item in ("i34", "i35", "i36")]
    other = copy.deepcopy(learner)
    with OnlineState.open(tmp_path / "copy") as twin:
        edges = state.edges.export()
        twin.bulk_load(
            state.users.tokens(np.arange(1, N_USERS + 1)),
            state.items.tokens(np.arange(1, N_ITEMS + 1)),
            edges.user,
            edges.item,
            edges.kind,
            edges.timestamp,
        )
        # both see all users and items in one order, so that ids agree
        order = rows + detour
        take(learner, state, batch(*order, *undone))
        for number, row in enumerate((*order, *undone)):
            take(other, twin, batch(row, first=number))
        assert twin.edges.content_hash() == state.edges.content_hash()
        torch.testing.assert_close(all_scores(other, twin), all_scores(learner, state), atol=1e-5, rtol=1e-4)
        other.attach(twin.edges)
        torch.testing.assert_close(all_scores(other, twin), all_scores(learner, state), atol=1e-5, rtol=1e-4)


def test_a_like_that_is_taken_back_leaves_no_trace(learner: Any, state: OnlineState) -> None:
    before = all_scores(learner, state)
    free = {user: f"i{np.setdiff1d(np.arange(1, 31), state.edges.of_user(user + 1).ids)[0] - 1}" for user in (1, 2)}
    take(learner, state, batch(("u1", free[1], "like"), ("u2", free[2], "dislike"), ("u5", "fresh", "like")))
    during = all_scores(learner, state)[:, : N_ITEMS + 1]
    for user in (2, 3, 6):
        assert not torch.allclose(during[user], before[user])
    rows = ("u1", free[1], "unlike"), ("u2", free[2], "undislike"), ("u5", "fresh", "unlike")
    take(learner, state, batch(*rows, first=10))
    torch.testing.assert_close(all_scores(learner, state)[:, : N_ITEMS + 1], before)


def test_a_refresh_learns_what_is_new_and_keeps_what_is_old(learner: Any, state: OnlineState) -> None:
    before = learner.live.items.base.copy()
    rows = [(f"new{n}", f"i{k}", "like") for n in range(10) for k in range(n % 2, N_ITEMS, 4)]
    take(learner, state, batch(*rows))
    moments = {name: pair[0].copy() for name, pair in learner.weights.moments.items()}
    found = refreshed(learner, state)
    assert found.passes == 10
    assert 0 < found.staleness < 1
    learned = learner.live.items.base[1 : N_ITEMS + 1]
    assert np.linalg.norm(learned - before[1 : N_ITEMS + 1]) < np.linalg.norm(learned)
    for name, side in learner.weights.tables.items():
        n = state.edges.n_users if side == "user" else state.edges.n_items
        assert learner.weights.values[name].shape[0] == n
        assert learner.weights.moments[name][0].shape == learner.weights.values[name].shape
        assert moments[name].any()
    scores = all_scores(learner, state)
    users = state.users.ids([f"new{n}" for n in range(10)])
    assert np.mean(np.array([margin(scores[user], n + 1, np.zeros(0)) for n, user in enumerate(users)]) > 0) > 0.7


def test_refreshes_learn_from_new_and_from_other_old_edges(state: OnlineState, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sampled beside them is nothing that a user likes, whether it is learned from now or not."""
    made: list[Any] = []

    def spied(recipe: Any, pool: Any, known: Any, *rest: Any) -> Batches:
        made.append((set(pool.keys.tolist()), known.keys.tolist()))
        return Batches(recipe, pool, known, *rest)

    learner = short(state, reservoir=40, refresh_steps=1)
    old = learner.known.tolist()
    take(learner, state, batch(*((f"new{n}", f"i{n}", "like") for n in range(3))))
    monkeypatch.setattr("recbole_signed.live.learners.embedding.Batches", spied)
    for _ in range(3):
        refreshed(learner, state)
    new = set(learner.known.tolist()) - set(old)
    pools, known = zip(*made, strict=True)
    assert list(known) == [learner.known.tolist()] * 3
    assert (len(new), *map(len, pools)) == (3, 43, 40, 40)
    assert new < pools[0]
    assert len(pools[1] & pools[2]) < 35


@pytest.mark.parametrize(("rate", "moves"), [(1e-7, False), (0.0, True)])
def test_a_refresh_has_its_own_rate_or_that_of_the_training(rate: float, moves: bool, state: OnlineState) -> None:
    assert (refreshed(short(state, refresh_rate=rate), state).staleness > 1e-3) == moves


def test_a_live_model_of_disinterest_ranks_as_the_model_before_and_after_it_is_saved(state: OnlineState) -> None:
    """By its own score: the inner product of its embeddings takes disinterest for interest."""
    settings = {**COMMON, "epochs": 1, "train_batch_size": 512, "n_negatives": 4}
    learner, other = (make_learner("PANEGNN", settings) for _ in range(2))
    learner.fit(*given_by(state))
    other.load(*learner.state())
    model = learner.recipe.build(*given_by(state))
    learner.weights.move_to(model, {})
    users = np.arange(1, N_USERS + 1)
    wanted = scores_of(model, torch.from_numpy(users))
    items = np.array([[3, 9, 27]])
    for each in (learner, other):
        each.attach(state.edges)
        torch.testing.assert_close(each.scores(state.edges, users)[:, 1:], wanted[:, 1:], atol=1e-4, rtol=1e-4)
        pairs = each.pair_scores(state.edges, users, items)
        np.testing.assert_allclose(pairs, wanted[:, items[0]], atol=1e-4, rtol=1e-4)


def test_an_anchor_holds_the_parameters(learner: Any, state: OnlineState) -> None:
    take(learner, state, batch(*((f"u{n}", f"i{(n * 7) % N_ITEMS}", "like") for n in range(30))))
    moved = []
    for anchor in (0.0, 20.0):
        held = copy.deepcopy(learner)
        held.settings = type(held.settings)(refresh_steps=20, reservoir=300, anchor=anchor)
        held.refresh(*given_by(state))
        name = next(iter(held.weights.tables))
        old = learner.weights.values[name]
        moved.append(np.linalg.norm(held.weights.values[name][: len(old)] - old))
    assert moved[1] < 0.7 * moved[0]


@pytest.mark.parametrize(("model", "more"), [("BPR", {}), ("LSGRec", {}), ("LSGRec", {"negative_exponent": 0.75})])
def test_a_user_who_knows_all_items_stops_no_stream(model: str, more: dict[str, float], state: OnlineState) -> None:
    learner = short(state, model, **more)
    learner.attach(state.edges)
    take(learner, state, batch(*(("u1", f"i{n}", "like") for n in range(N_ITEMS))))
    assert refreshed(learner, state).passes == COMMON["refresh_steps"]
    learner.fit(*given_by(state))
    assert all_scores(learner, state).isfinite().all()


def test_gradients_are_clipped_and_no_steps_change_nothing(state: OnlineState) -> None:
    moved = []
    for clip in (None, {"max_norm": 1e-12}):
        learner = short(state, clip_grad_norm=clip)
        before = learner.weights.values["item_embedding.weight"]
        learner.refresh(*given_by(state))
        moved.append(np.linalg.norm(learner.weights.values["item_embedding.weight"] - before))
    assert moved[1] < 0.01 * moved[0]
    learner = short(state, refresh_steps=0)
    learner.attach(state.edges)
    before = all_scores(learner, state)
    assert refreshed(learner, state).staleness == 0
    torch.testing.assert_close(all_scores(learner, state)[1:], before[1:], atol=1e-5, rtol=1e-4)


def test_parameters_describe_the_fit_and_the_graph(state: OnlineState) -> None:
    given = {**MODELS["BPR"], "clip_grad_norm": {"max_norm": 5.0}, "eval_step": 3, "stopping_step": 2}
    learner = make_learner("BPR", given)
    assert learner.parameters().items() >= given.items()
    assert make_learner("BPR", learner.parameters()).parameters() == learner.parameters()
    # exposures too, which a service that starts from its state alone would lose at its next fit
    learner = make_learner("LSGRec", {**MODELS["LSGRec"], "neutral_weight": -0.5})
    edges = state.edges.export()
    edges = EdgeArrays(edges.user, edges.item, np.where(edges.kind == DISLIKE, VIEW, edges.kind), edges.timestamp)
    for each in (learner, learner_from(described(learner))):
        graph = each.recipe.build(edges, N_USERS + 1, N_ITEMS + 1).graph  # type: ignore[attr-defined]
        assert (graph.neutrals.nnz, graph.neutral_weight) == ((edges.kind == VIEW).sum(), -0.5)


def test_a_saved_learner_goes_on_alike(learner: Any, state: OnlineState) -> None:
    take(learner, state, batch(("u1", "i3", "dislike"), ("new", "i4", "like"), ("new", "i6", "like")))
    tensors, meta = learner.state()
    assert all(isinstance(each, np.ndarray) for each in tensors.values())
    other = make_learner(learner.name, MODELS[learner.name])
    other.load({name: each.copy() for name, each in tensors.items()}, meta)
    other.attach(state.edges)
    torch.testing.assert_close(all_scores(other, state), all_scores(learner, state))
    for each in (learner, other):
        refreshed(each, state)
    torch.testing.assert_close(all_scores(other, state), all_scores(learner, state), atol=1e-5, rtol=1e-4)


def test_a_forgotten_user_leaves_no_row(learner: Any, state: OnlineState) -> None:
    take(learner, state, EventBatch.of([Event("f", "u7", "", "forget_user", NOW)]))
    assert not (learner.known >> 32 == 8).any()
    assert learner.live.users.degree[8] == 0
    assert not learner.live.users.rest[8].any()
    for name, side in learner.weights.tables.items():
        if side == "user":
            assert not learner.weights.values[name][8].any()
            assert not learner.weights.moments[name][0][8].any()
    nobody = learner.scores(state.edges, np.array([0]))
    torch.testing.assert_close(learner.scores(state.edges, np.array([8])), nobody)


def test_a_fit_leaves_nothing_in_the_rows_of_users_without_edges(state: OnlineState) -> None:
    """Those who were forgotten while it went on are among them, and their rows would be saved."""
    learner = make_learner("BPR", {**MODELS["BPR"], "epochs": 1})
    take(learner, state, EventBatch.of([Event("f", "u7", "", "forget_user", NOW)]))
    learner.fit(*given_by(state))
    rows = learner.weights.values["user_embedding.weight"]
    assert rows.any(axis=1).tolist() == [user not in (0, 8) for user in range(len(rows))]


def test_a_fit_can_find_how_long_to_train(state: OnlineState, monkeypatch: pytest.MonkeyPatch) -> None:
    import recbole_signed.live.learners.embedding as module

    asked: list[Any] = []

    def spy(*args: Any) -> int:
        asked.append(found := original(*args))
        return found

    original: Callable[..., int] = module.best_epoch
    monkeypatch.setattr(module, "best_epoch", spy)
    learner = make_learner("BPR", {**MODELS["BPR"], "valid_share": 0.2, "eval_step": 2, "stopping_step": 2})
    learner.fit(*given_by(state))
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
    state: OnlineState, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = "recbole_signed.live.learners.embedding.tqdm"
    monkeypatch.setattr(module, lambda *args, **options: tqdm(*args, **{**options, "delay": 0, "mininterval": 0}))
    make_learner("BPR", {**MODELS["BPR"], "epochs": 3}).fit(state.edges.export(), N_USERS + 1, N_ITEMS + 1)
    assert capsys.readouterr().err == ""
