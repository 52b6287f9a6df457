"""What the learner of embeddings is made of, against dense references."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from recbole.model.general_recommender.lightgcn import LightGCN
from refusals import check_refused

from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, VIEW
from recbole_signed.live.learners import fine_tuning, live_embeddings
from recbole_signed.live.learners.fine_tuning import Batches, Verdicts, Weights, adam, tables_of
from recbole_signed.live.learners.live_embeddings import RidgeMap
from recbole_signed.live.learners.recipe import EdgeDataset, TrainingRecipe
from recbole_signed.live.learners.ssf.time_learner import held_out
from recbole_signed.live.store.edges import EdgeArrays
from recbole_signed.trainer.signed_trainer import learning_rate


def edges(n_users: int = 12, n_items: int = 9, n: int = 60, seed: int = 0) -> EdgeArrays:
    rng = np.random.default_rng(seed)
    keys = np.sort(rng.permutation((n_users - 1) * (n_items - 1))[:n])
    user, item = (each.astype(np.int32) + 1 for each in np.divmod(keys, n_items - 1))
    return EdgeArrays(user, item, rng.choice([LIKE, DISLIKE, VIEW], n).astype(np.int8), np.arange(n, dtype=np.int64))


@pytest.fixture(scope="module")
def recipes() -> dict[str, TrainingRecipe]:
    return {name: TrainingRecipe.named(name, {"embedding_size": 4}) for name in ("LightGCN", "BPR", "LSGRec")}


def test_the_ridge_is_that_of_the_least_generalised_cross_validation_error() -> None:
    rng, n = np.random.default_rng(4), 40
    inputs = (rng.normal(size=(n, 12)) @ rng.normal(size=(12, 12))).astype(np.float32)
    targets = 0.05 * inputs @ rng.normal(size=(12, 3)) + rng.normal(size=(n, 3))
    spread = inputs.astype(np.float64).std(axis=0)
    x, y = (inputs - inputs.mean(axis=0)) / spread, targets - targets.mean(axis=0)
    gram = x.T @ x

    def error(ridge: float) -> float:
        hat = x @ np.linalg.solve(gram + ridge * np.eye(12), x.T)
        return float(np.square(y - hat @ y).sum()) * n / (n - 1 - np.trace(hat)) ** 2

    best = min(live_embeddings.RIDGES * np.trace(gram) / 12, key=error)
    wanted = np.linalg.solve(gram + best * np.eye(12), x.T @ y) / spread[:, None]
    found = RidgeMap.fit(inputs, targets)
    np.testing.assert_allclose(found.weights, wanted, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found(inputs), x @ (wanted * spread[:, None]) + targets.mean(axis=0), atol=1e-3)
    constant = RidgeMap.fit(np.column_stack([inputs, np.full(n, 3.0)]), targets)
    assert not constant.weights[12].any()
    assert constant.weights[:12].any()


@pytest.mark.parametrize("n", [0, 1])
def test_a_map_of_next_to_nothing_is_constant(n: int) -> None:
    map_ = RidgeMap.fit(np.ones((n, 4)), np.full((n, 2), 7.0))
    assert map_(np.zeros((3, 4))).shape == (3, 2)
    assert np.isfinite(map_(np.ones((3, 4)))).all()


def test_bipartite_lightgcn_is_recboles(recipes: dict[str, TrainingRecipe]) -> None:
    recipe, arrays = recipes["LightGCN"], edges()
    ours = recipe.build(arrays, 12, 9)
    theirs = LightGCN(recipe.config, EdgeDataset(arrays, 12, 9, recipe.config))
    theirs.load_state_dict(ours.state_dict())
    for mine, own in zip(ours.forward(), theirs.forward(), strict=True):
        torch.testing.assert_close(mine, own, atol=1e-5, rtol=1e-4)
    batch = next(Batches(recipe, *(Verdicts.from_edges(arrays, recipe),) * 2, 9, 0).epoch(0))
    torch.testing.assert_close(ours.calculate_loss(batch), theirs.calculate_loss(batch))


def test_the_view_answers_as_a_data_set_does(recipes: dict[str, TrainingRecipe]) -> None:
    arrays = edges()
    view = EdgeDataset(arrays, 12, 9, recipes["LSGRec"].config)
    assert (view.num("user_id"), view.num("item_id"), len(view)) == (12, 9, int((arrays.kind == LIKE).sum()))
    dense = np.zeros((12, 9))
    dense[arrays.user, arrays.item] = np.select([arrays.kind == LIKE, arrays.kind == DISLIKE], [1, -1], 0)
    graph = view.signed_graph()
    np.testing.assert_array_equal((graph.likes - graph.dislikes).toarray(), dense)
    np.testing.assert_array_equal(view.inter_matrix("csr").toarray(), dense > 0)
    assert graph.neutrals is None
    weighed = TrainingRecipe.named("LSGRec", {"embedding_size": 4, "neutral_weight": -0.5}).config
    graph = EdgeDataset(arrays, 12, 9, weighed).signed_graph()
    seen = np.zeros((12, 9))
    seen[arrays.user, arrays.item] = arrays.kind == VIEW
    np.testing.assert_array_equal(graph.neutrals.toarray() != 0, seen)
    assert graph.neutral_weight == -0.5
    check_refused("the field 'age'", view.num, "age")
    check_refused("no values of edges", view.inter_matrix, "csr", "rating")


@given(st.integers(0, 2**31), st.integers(25, 40), st.sampled_from(["BPR", "LSGRec"]))
@example(2, 88, "LSGRec")
def test_passes_cover_pools_and_nothing_known(recipes: dict[str, TrainingRecipe], seed: int, n: int, name: str) -> None:
    """But for users with a verdict on every item that could be drawn: there is none for them."""
    arrays, recipe = edges(n=n, seed=seed), recipes[name]
    known = Verdicts.from_edges(arrays, recipe)
    batches = Batches(recipe, known, known, 9, seed)
    batches.size = 7
    drawable = set(known.item.tolist()) if recipe.config["negative_exponent"] else set(range(1, 9))
    own = {user: set(known.item[known.user == user].tolist()) for user in known.user.tolist()}
    pool = known.keys[[bool(drawable - own[user]) for user in known.user.tolist()]]
    seen = []
    for batch in batches.epoch(0):
        users, items, sampled = (batch[key].numpy() for key in ("user_id", "item_id", "neg_item_id"))
        seen.append((users << 32) | (items << 1) | (batch["sign"].numpy() > 0))
        pairs = set(zip(known.user.tolist(), known.item.tolist(), strict=True))
        drawn = sampled.reshape(len(users), -1)
        assert all((int(user), int(item)) not in pairs for user, row in zip(users, drawn, strict=True) for item in row)
    whole = np.concatenate(seen) if seen else np.zeros(0, dtype=np.int64)
    np.testing.assert_array_equal(np.sort(whole), pool)
    assert len(seen) == len(batches)


def test_the_pool_of_a_refresh_is_all_that_is_new_and_a_sample_of_the_old(recipes: dict[str, TrainingRecipe]) -> None:
    arrays, recipe = edges(), recipes["LSGRec"]
    verdicts = Verdicts.from_edges(arrays, recipe)
    changed = verdicts.take(np.arange(0, len(verdicts), 2)).keys.copy()
    changed[3] ^= 1  # a like that has become a dislike, or the other way round, is new
    pool = verdicts.new_and_old(np.sort(changed), 5, np.random.default_rng(0))
    new = set(verdicts.keys.tolist()) - set(changed.tolist())
    assert new <= set(pool.keys.tolist())
    assert len(pool) == len(new) + 5
    assert len(set(pool.keys.tolist())) == len(pool)


def test_parameters_and_moments_move_to_a_larger_model(recipes: dict[str, TrainingRecipe]) -> None:
    recipe = recipes["LSGRec"]
    model = recipe.build(edges(), 12, 12)  # as many users as items: names tell them apart
    assert tables_of(model) == {
        "user_embedding.weight": "user",
        "item_embedding.weight": "item",
        "user_dislikes.weight": "user",
        "item_dislikes.weight": "item",
    }
    optimizer, known = adam(recipe, model), Verdicts.from_edges(edges(), recipe)
    model.calculate_loss(next(Batches(recipe, known, known, 12, 0).epoch(0))).backward()
    optimizer.step()
    weights = Weights.from_model(model, optimizer)
    again = Weights.from_tensors(weights.tensors(), weights.tables, weights.step)
    larger = recipe.build(edges(15, 20), 15, 20)
    start = {"user_embedding.weight": (np.array([12, 14]), np.full((2, 4), 5.0, dtype=np.float32))}
    again.move_to(larger, start)
    torch.testing.assert_close(larger.user_embedding.weight[:12], model.user_embedding.weight)
    torch.testing.assert_close(larger.item_dislikes.weight[:12], model.item_dislikes.weight)
    torch.testing.assert_close(larger.rating.weight, model.rating.weight)
    assert (larger.user_embedding.weight[[12, 14]] == 5).all()
    assert (larger.user_embedding.weight[13] != 5).all()
    warm = adam(recipe, larger)
    again.warm(warm, larger)
    state = warm.state[larger.user_embedding.weight]
    torch.testing.assert_close(state["exp_avg"][:12], optimizer.state[model.user_embedding.weight]["exp_avg"])
    assert not state["exp_avg_sq"][12:].any()
    assert float(state["step"]) == 1
    again.forget(np.array([3, 99]))
    assert not again.values["user_dislikes.weight"][3].any()
    assert again.values["item_dislikes.weight"][3].any()


def test_numbers_of_nodes_go_on_where_they_ended() -> None:
    """As SIGformer's marks, which order its walks: two nodes with one number would walk alike."""

    class Marked(torch.nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.register_buffer("mark", torch.randperm(n))

    before, after = Marked(4), Marked(7)
    Weights.from_model(before).move_to(after, {})
    assert after.mark.tolist() == [*before.mark.tolist(), 4, 5, 6]


def stopped(
    monkeypatch: pytest.MonkeyPatch, values: list[float], arrays: EdgeArrays, **keys: int
) -> tuple[int, list[Any]]:
    """Return the best epoch where validations give ``values``, and what each of them was asked."""
    recipe = TrainingRecipe.named("BPR", {"embedding_size": 4, **keys})
    asked: list[Any] = []

    def scripted(_: Any, *what: Any) -> float:
        asked.append(what)
        return values[len(asked) - 1]

    monkeypatch.setattr(fine_tuning, "_ndcg", scripted)
    return fine_tuning.best_epoch(recipe, arrays, 12, 9, 0.25, 0), asked


def test_the_first_best_epoch_counts_and_patience_counts_validations(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"epochs": 20, "eval_step": 2, "stopping_step": 2}
    values = [0.1, 0.5, 0.5, 0.2, 0.1, 0.9, 0.0, 0.0, 0.0, 0.0]
    found, asked = stopped(monkeypatch, values, edges(), **keys)
    assert (found, len(asked)) == (4, 5), "three validations without a better one are over the patience of two"
    found, asked = stopped(monkeypatch, values, edges(), **{**keys, "stopping_step": 3})
    assert (found, len(asked)) == (12, 10)


def pairs_of(users: np.ndarray, items: np.ndarray) -> list[tuple[int, int]]:
    return sorted(zip(users.tolist(), items.tolist(), strict=True))


def test_epochs_are_judged_by_the_last_likes_of_users_who_are_known_before(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = edges()
    time = np.random.default_rng(5).permutation(len(arrays))
    time[arrays.user == 11] += 1000  # all of this user's edges are among the last
    order = np.argsort(time)
    arrays = EdgeArrays(arrays.user, arrays.item, arrays.kind, time)
    early, late = order[:45], order[45:]
    known = set(arrays.user[early].tolist())
    _, asked = stopped(monkeypatch, [0.5], arrays, epochs=1, eval_step=1, stopping_step=1)
    ((validation,),) = asked
    users = validation.numbers
    wanted = late[(arrays.kind[late] == LIKE) & np.isin(arrays.user[late], list(known))]
    assert 11 not in known
    assert LIKE in arrays.kind[arrays.user == 11]
    row, item = np.divmod(validation.like_keys, 9)
    assert pairs_of(users[row], item) == pairs_of(arrays.user[wanted], arrays.item[wanted])
    seen = early[np.isin(arrays.user[early], arrays.user[wanted])]
    row, item = (each.numpy() for each in validation.hidden)
    assert pairs_of(users[row], item) == pairs_of(arrays.user[seen], arrays.item[seen])


@pytest.mark.parametrize("name", ["BPR", "LightGCN", "LSGRec", "PANEGNN"])
def test_epochs_are_judged_by_what_the_model_ranks_by(name: str) -> None:
    """PANEGNN's embeddings hold a disinterest, too: their inner product is not its score."""
    model = TrainingRecipe.named(name, {"embedding_size": 4}).build(edges(), 12, 9).eval()
    users = np.arange(1, 12)
    with torch.no_grad():
        scores = model.full_sort_predict({"user_id": torch.from_numpy(users)}).reshape(11, 9).numpy()
    liked = np.random.default_rng(2).integers(1, 9, 11)
    place = (scores[:, 1:] > scores[np.arange(11), liked][:, None]).sum(axis=1)
    judged = EdgeArrays(users, liked, np.full(11, LIKE, dtype=np.int8), users)
    found = fine_tuning._ndcg(model, held_out(judged, np.zeros(11, dtype=bool), users, (12, 9)))
    assert found == pytest.approx((1 / np.log2(place + 2)).mean())


def test_the_learning_rate_falls_over_all_passes_and_a_refresh_goes_on_with_the_last() -> None:
    keys = {"embedding_size": 4, "learning_rate": 0.1, "lr_milestones": [2, 5], "lr_gamma": 0.5, "train_batch_size": 4}
    keys["weight_decay"] = 0.03
    recipe, arrays = TrainingRecipe.named("BPR", keys), edges()
    known = Verdicts.from_edges(arrays, recipe)
    batches, model = Batches(recipe, known, known, 9, 0), recipe.build(arrays, 12, 9)
    assert len(batches) > 2
    optimizer = adam(recipe, model)
    rates: list[float] = []
    optimizer.register_step_pre_hook(lambda *_: rates.append(optimizer.param_groups[0]["lr"]))
    for epoch in range(2):
        fine_tuning.train_epoch(recipe, model, optimizer, batches, epoch)
    assert rates == [0.1] * 2 + [0.05] * 3 + [0.025] * (2 * len(batches) - 5)
    assert learning_rate(recipe.config, math.inf) == pytest.approx(0.025)
    assert adam(recipe, model, 0.0625).param_groups[0]["lr"] == 0.0625
    assert adam(recipe, model).param_groups[0]["lr"] == 0.1
    assert adam(recipe, model).param_groups[0]["weight_decay"] == 0.03


def test_popular_items_are_sampled_more_often_where_the_exponent_says_so() -> None:
    """Item 8 has 11 verdicts and item 7 one; a user who has neither gets them by the power of these numbers."""
    users = np.array([*range(1, 12), 1, 12], dtype=np.int32)
    items = np.array([*[8] * 11, 7, 1], dtype=np.int32)
    arrays = EdgeArrays(users, items, np.full(13, LIKE, dtype=np.int8), np.arange(13, dtype=np.int64))
    shares: list[list[float]] = []
    for exponent in (0.0, 1.0):
        recipe = TrainingRecipe.named(
            "LSGRec", {"embedding_size": 4, "negative_exponent": exponent, "n_negatives": 600}
        )
        known = Verdicts.from_edges(arrays, recipe)
        pool = known.take(np.flatnonzero(known.user == 12))
        drawn = next(Batches(recipe, pool, known, 9, 0).epoch(0))["neg_item_id"].numpy()
        shares.append([float((drawn == item).mean()) for item in (7, 8)])
    assert shares[0] == pytest.approx([1 / 7, 1 / 7], abs=0.06)
    assert shares[1] == pytest.approx([1 / 12, 11 / 12], abs=0.06)


@pytest.mark.parametrize(
    ("model", "setting"), [("UltraGCN", None), ("LSGRec", None), ("UltraGCN", True), ("LSGRec", False)]
)
def test_a_users_own_items_are_sampled_where_training_samples_them(model: str, setting: bool | None) -> None:
    """``sift_positives`` holds under a stream, too; UltraGCN's is False, as its authors' is."""
    given = {"embedding_size": 4, "n_negatives": 40, **({} if setting is None else {"sift_positives": setting})}
    recipe = TrainingRecipe.named(model, given)
    recipe = TrainingRecipe.named(model, recipe.parameters())
    known = Verdicts.from_edges(edges(), recipe)
    made = next(Batches(recipe, known, known, 9, 0).epoch(0))
    drawn = {
        (user, item)
        for user, row in zip(*(made[key].tolist() for key in ("user_id", "neg_item_id")), strict=True)
        for item in row
    }
    sifts = model == "LSGRec" if setting is None else setting
    assert drawn.isdisjoint(pairs_of(known.user, known.item)) == sifts


def test_a_batch_size_of_zero_is_all_in_one_batch() -> None:
    recipe = TrainingRecipe.named("LSGRec", {"embedding_size": 4, "train_batch_size": 0})
    known = Verdicts.from_edges(edges(), recipe)
    (whole,) = Batches(recipe, known, known, 9, 0).epoch(0)
    assert sorted(zip(whole["user_id"].tolist(), whole["item_id"].tolist(), strict=True)) == pairs_of(
        known.user, known.item
    )


def test_each_pass_of_a_refresh_has_batches_of_its_own(recipes: dict[str, TrainingRecipe]) -> None:
    recipe, arrays = recipes["BPR"], edges()
    known = Verdicts.from_edges(arrays, recipe)
    passes: list[int] = []

    class Noted(Batches):
        def epoch(self, number: int) -> Any:
            passes.append(number)
            return super().epoch(number)

    batches, model = Noted(recipe, known, known, 9, 0), recipe.build(arrays, 12, 9)
    steps = 2 * len(batches) + 1
    assert fine_tuning.train_steps(model, adam(recipe, model), batches, steps, 0.0) == steps
    assert passes == [0, 1, 2]
