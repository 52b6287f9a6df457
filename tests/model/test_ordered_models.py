"""SLIST, TALE and PCTM against dense solutions and loops, and cases worked out by hand."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prepared import prepared
from recbole.utils import get_model
from refusals import check_refused
from small_ordered import fitted_in_order, likes_of

from recbole_signed import UsageError
from recbole_signed.model.training_free import moments

Event = tuple[int, int, int]


def dense_parts(events: list[Event], decay: float, n_users: int, n_items: int) -> tuple[Any, Any, Any]:
    """X, S and T by loops; events are (user, item, time)."""
    x = np.zeros((n_users, n_items))
    before, after = [], []
    for user in range(n_users):
        own = [(time, item) for owner, item, time in events if owner == user]
        times = sorted({time for time, _ in own})
        for _, item in own:
            x[user, item] = 1.0
        for place in range(1, len(times)):
            s, t = np.zeros(n_items), np.zeros(n_items)
            for time, item in own:
                distance = place - 1 - times.index(time) if times.index(time) < place else times.index(time) - place
                (s if times.index(time) < place else t)[item] = math.exp(-distance / decay)
            before.append(s)
            after.append(t)
    return x, np.array(before).reshape(-1, n_items), np.array(after).reshape(-1, n_items)


def dense_solution(x: Any, s: Any, t: Any, alpha: float, ridge: float, limit: float) -> np.ndarray:
    """Each column is a ridge regression; where its own weight would be above the limit, it is held there."""
    n = x.shape[1]
    gram = alpha * x.T @ x + (1 - alpha) * s.T @ s + ridge * np.eye(n)
    target, found = alpha * x.T @ x + (1 - alpha) * s.T @ t, np.zeros((n, n))
    for j in range(n):
        column = np.linalg.solve(gram, target[:, j])
        if column[j] > limit:
            others = np.arange(n) != j
            column[others] = np.linalg.solve(gram[np.ix_(others, others)], target[others, j] - gram[others, j] * limit)
            column[j] = limit
        found[:, j] = column
    return found


@pytest.fixture
def slist(write_inter: Callable[..., Path]) -> Callable[..., tuple[Any, Any]]:
    return fitted_in_order("SLIST", write_inter)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("limit", [0.0, 0.2])
def test_weights_are_dense_slists(alpha: float, limit: float, slist: Callable[..., Any], signed_rows: list) -> None:
    rows = [(u, i, sign, t // 30_000) for u, i, sign, t in signed_rows]  # with ties
    model, dataset = slist(
        rows, alpha=alpha, diagonal_limit=limit, train_decay=1.5, inference_decay=2.5, reg_weight=3.0
    )
    users = {token: place for place, token in enumerate(dataset.field2id_token["user_id"])}
    places = {int(item): place for place, item in enumerate(model.liked)}
    events = [(users[str(u)], places[int(dataset.token2id("item_id", str(i)))], t) for u, i, s, t in rows if s > 0]
    parts = dense_parts(events, 1.5, len(users), len(places))
    wanted = dense_solution(*parts, alpha, 3.0, limit)
    np.testing.assert_allclose(model.item_weights.numpy(), wanted, rtol=2e-2, atol=2e-3)  # weights below .001 are out
    weights = np.zeros((len(users), len(places)))
    for user in range(len(users)):
        own = [(time, item) for owner, item, time in events if owner == user]
        times = sorted({time for time, _ in own})
        for time, item in own:
            weights[user, item] = math.exp(-(len(times) - 1 - times.index(time)) / 2.5)
    scores = model.score(torch.arange(len(users)))
    np.testing.assert_allclose(scores[:, model.liked], weights @ model.item_weights.numpy(), rtol=1e-4, atol=1e-5)
    unliked = np.setdiff1d(np.arange(model.n_items), model.liked)
    assert not scores[:, unliked].any()


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        (["user_id:token", "item_id:token", "timestamp:float"], "exact times are read from data with a sign alone"),
        (["user_id:token", "item_id:token", "sign:float"], "the data set has no timestamps"),
    ],
)
def test_it_says_why_there_is_no_order(
    columns: list[str], why: str, write_inter: Callable[..., Path], signed_rows: list, caplog: pytest.LogCaptureFixture
) -> None:
    write_inter("plain", columns, [(u, i, t if "timestamp:float" in columns else s) for u, i, s, t in signed_rows])
    config, _, (train, *_) = prepared("plain", "SLIST", state="INFO")
    with caplog.at_level(logging.WARNING):
        model = get_model("SLIST")(config, train._dataset)
    assert f"SLIST is SLIS here, without an order of likes: {why}" in caplog.text
    assert model.alpha == 1


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=40))
def test_moments_are_distinct_times(rows: list[tuple[int, int]]) -> None:
    user, time = (np.array([row[column] for row in rows], dtype=np.int64) for column in (0, 1))
    moment, last = moments(user, time)
    for place, (owner, when) in enumerate(rows):
        times = sorted({t for u, t in rows if u == owner})
        assert moment[place] == times.index(when)
        assert last[place] == len(times) - 1


def test_weights_that_do_not_fit_into_memory_are_refused(slist: Callable[..., Any], signed_rows: list) -> None:
    model, _ = slist(signed_rows)
    model.liked = torch.zeros(10_000_000, dtype=torch.int8)
    check_refused("are needed for 2 item-item matrices of 10,000,000 items", model.fit)


DAY = 86_400


@pytest.fixture
def tale(write_inter: Callable[..., Path]) -> Callable[..., Any]:
    return fitted_in_order("TALE", write_inter)


@pytest.mark.parametrize(("trend_days", "exponent"), [(30.0, 0.0), (2.0, -0.4), (30.0, 0.3)])
def test_weights_are_tales(trend_days: float, exponent: float, tale: Callable[..., Any], signed_rows: list) -> None:
    rows = [(u, i, sign, 1_500_000_000 + t // 60_000 * DAY // 2) for u, i, sign, t in signed_rows]  # with ties
    model, dataset = tale(
        rows, reg_weight=3.0, time_decay=4.0, smallest_weight=0.3, trend_days=trend_days, trend_exponent=exponent
    )
    of_user = likes_of(rows, dataset)
    likes = [(time, item) for own in of_user.values() for time, item in own]

    def scale(time: int, item: int) -> float:
        return sum(each == item and time - trend_days * DAY <= at <= time for at, each in likes) ** exponent

    before, after = [], []
    for own in of_user.values():
        for time, item in own:
            source, target = np.zeros(model.n_items), np.zeros(model.n_items)
            for earlier, other in own:
                if earlier < time:
                    gap = (time - earlier) / DAY
                    source[other] += max(math.exp(-gap / 4.0), 0.3) * scale(earlier, other)
            if source.any():
                target[item] = scale(time, item)
                before.append(source)
                after.append(target)
    s, t = np.array(before), np.array(after)
    wanted = np.linalg.solve(s.T @ s + 3.0 * np.eye(model.n_items), s.T @ t)
    liked = model.liked.numpy()
    np.testing.assert_allclose(model.item_weights, wanted[np.ix_(liked, liked)], rtol=1e-3, atol=1e-4)


def test_a_later_like_follows_by_hand(tale: Callable[..., Any]) -> None:
    """One user: 7 and then 8, a day later. S = [e^-1], T = [1] on one item each."""
    rows = [(1, 7, 1, 1_500_000_000), (1, 8, 1, 1_500_000_000 + DAY), (2, 7, 1, 1_500_000_000)]
    settings = {"reg_weight": 0.5, "time_decay": 1.0, "smallest_weight": 0.0, "trend_exponent": 0.0}
    model, dataset = tale(rows, inference_decay=2.0, **settings)
    seven, eight = (int(dataset.token2id("item_id", each)) for each in ("7", "8"))
    one, two = (int(dataset.token2id("user_id", each)) for each in ("1", "2"))
    weight, scores = math.exp(-1) / (math.exp(-2) + 0.5), model.score(torch.tensor([one, two]))
    assert scores[:, eight].tolist() == pytest.approx([math.exp(-1 / 2.0) * weight, weight])
    assert not scores[:, seven].any()


@pytest.fixture
def pctm(write_inter: Callable[..., Path]) -> Callable[..., Any]:
    return fitted_in_order("PCTM", write_inter)


def test_what_follows_an_item_by_hand(pctm: Callable[..., Any]) -> None:
    # twice 7 -> 8 -> 9, twice 7 -> 8: one step counts 1, two steps 1/2; one prior count for each of the 5 items
    rows = [(user, item, 1, time) for user in (1, 2) for time, item in enumerate((7, 8, 9))]
    rows += [(user, item, 1, time) for user in (3, 4) for time, item in enumerate((7, 8))]
    rows += [(5, 6, 1, 0), (6, 7, 1, 0)]
    model, dataset = pctm(rows, max_distance=2, distance_decay=0.5, prior_count=5.0, popularity_weight=0.0)
    assert model.n_items == 5  # with RecBole's padding
    six, seven, eight, nine = (int(dataset.token2id("item_id", str(item))) for item in (6, 7, 8, 9))
    probability = torch.softmax(model.score(torch.tensor([int(dataset.token2id("user_id", "6"))]))[0], 0)
    assert probability[[six, seven, eight, nine]].tolist() == pytest.approx([1 / 10, 1 / 10, 5 / 10, 2 / 10])


@pytest.mark.parametrize(("distance", "decay"), [(1, 1.0), (3, 0.6), (50, 0.9)])
def test_scores_are_the_formula(distance: int, decay: float, pctm: Callable[..., Any], signed_rows: list) -> None:
    rows = [(u, i, sign, t // 30_000) for u, i, sign, t in signed_rows]  # with ties
    settings = {"prior_count": 20.0, "inference_decay": 2.5, "popularity_weight": 0.7}
    model, dataset = pctm(rows, max_distance=distance, distance_decay=decay, **settings)
    n_users, n_items = model.n_users, model.n_items
    counts, likes, of_user = np.zeros((n_items, n_items)), np.zeros(n_items), np.zeros((n_users, n_items))
    for user, own in likes_of(rows, dataset).items():
        times = sorted({time for time, _ in own})
        place = [(times.index(time), item) for time, item in own]
        for at, item in place:
            likes[item] += 1
            of_user[user, item] = math.exp((at - len(times) + 1) / 2.5)
            for later, follower in place:
                if 0 < later - at <= distance:
                    counts[item, follower] += decay ** (later - at - 1)
    probability = (counts + 20.0 / n_items) / (counts.sum(1, keepdims=True) + 20.0)
    liked = np.flatnonzero(likes)
    popularity = (likes + 1) / (likes[liked] + 1).sum()
    wanted = (of_user @ np.log(probability) + 0.7 * np.log(popularity))[:, liked]
    found = model.score(torch.arange(n_users)).numpy()
    have = of_user.any(1)
    np.testing.assert_allclose(
        found[have][:, liked] - found[have][:, liked].mean(1, keepdims=True),
        wanted[have] - wanted[have].mean(1, keepdims=True),
        rtol=1e-4,
        atol=1e-4,
    )
    unliked = np.setdiff1d(np.arange(n_items), liked)
    assert (found[:, unliked].max(1) <= found[:, liked].min(1)).all()
    row = model.weights_of(int(liked[0]))[liked]
    np.testing.assert_allclose(row, np.log1p(n_items * counts[liked[0], liked] / 20.0), rtol=1e-4, atol=1e-6)


LENGTH = 5
SETTINGS = {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": LENGTH}


@pytest.fixture
def model(prepare_model: Callable[..., Any]) -> Any:
    return prepare_model("SignedSASRec", **SETTINGS)[0].eval()


@st.composite
def batches(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    rows = draw(st.integers(1, 4))
    lengths = draw(st.lists(st.integers(1, LENGTH), min_size=rows, max_size=rows))
    items, signs = torch.zeros((rows, LENGTH), dtype=torch.int64), torch.zeros((rows, LENGTH), dtype=torch.int64)
    for row, length in enumerate(lengths):
        for place in range(length):
            items[row, place] = draw(st.integers(1, 20))
            signs[row, place] = draw(st.sampled_from([1, -1]))
    targets = draw(st.lists(st.integers(1, 20), min_size=rows, max_size=rows))
    return {
        "item_id_list": items,
        "sign_list": signs,
        "item_length": torch.tensor(lengths),
        "item_id": torch.tensor(targets),
    }


def loop_targets(batch: dict[str, torch.Tensor]) -> list[tuple[int, int, int, int | None]]:
    """(row, place, next liked item, disliked next item if any) of each place."""
    found = []
    for row, length in enumerate(batch["item_length"].tolist()):
        events = list(zip(batch["item_id_list"][row].tolist(), batch["sign_list"][row].tolist(), strict=True))[:length]
        events.append((int(batch["item_id"][row]), 1))
        for place in range(length):
            following = events[place + 1 :]
            like = next(item for item, sign in following if sign > 0)
            found.append((row, place, like, following[0][0] if following[0][1] < 0 else None))
    return found


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=batches(), weight=st.sampled_from([0.0, 0.7]))
def test_the_loss_is_that_of_a_loop_over_places(model: Any, batch: dict, weight: float) -> None:
    model.dislike_weight = weight
    with torch.no_grad():
        scores = model.forward(batch) @ model.item_embedding.weight.T
        losses, pushes, targets = 0.0, 0.0, loop_targets(batch)
        for row, place, like, dislike in targets:
            here = scores[row, place].double()
            losses += float(torch.logsumexp(here, 0) - here[like])
            if dislike is not None:
                pushes += math.log1p(math.exp(float(here[dislike] - here[like])))
        wanted = (losses + weight * pushes) / len(targets)
        assert float(model.calculate_loss(batch)) == pytest.approx(wanted, rel=1e-4)


def test_a_place_sees_nothing_that_is_later(model: Any) -> None:
    batch = {
        "item_id_list": torch.tensor([[3, 4, 5, 6, 7]]),
        "sign_list": torch.tensor([[1, -1, 1, 1, -1]]),
        "item_length": torch.tensor([5]),
    }
    before = model.forward(batch)
    batch["item_id_list"][0, 3], batch["sign_list"][0, 4] = 9, 1
    after = model.forward(batch)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_the_encoder_is_recboles_sasrec_with_signs_added_to_items(prepare_model: Callable[..., Any]) -> None:
    """Each item occurs with one sign, so the sum of both embeddings is an item embedding of SASRec."""
    keys = {"hidden_size": 8, "inner_size": 12, "n_layers": 2, "n_heads": 2, "MAX_ITEM_LIST_LENGTH": LENGTH}
    keys |= {"hidden_act": "relu", "layer_norm_eps": 1e-3, "initializer_range": 0.5}
    keys |= {"hidden_dropout_prob": 0.2, "attn_dropout_prob": 0.6}
    ours = prepare_model("SignedSASRec", **keys)[0].eval()
    theirs = prepare_model("SASRec", **keys, train_neg_sample_args=None)[0].eval()
    items = torch.tensor([[3, 4, 5, 6, 7], [7, 8, 3, 0, 0]])
    signs = torch.tensor([[1, -1, 1, 1, -1], [-1, -1, 1, 0, 0]])
    lengths = torch.tensor([5, 3])
    for own, other in ((ours.norm, theirs.LayerNorm), (ours.encoder, theirs.trm_encoder)):
        other.load_state_dict(own.state_dict())
    with torch.no_grad():
        for each in (ours.sign_embedding.weight, ours.item_embedding.weight, ours.position_embedding.weight):
            assert float(each.std()) == pytest.approx(0.5, rel=0.3)
        theirs.position_embedding.weight.copy_(ours.position_embedding.weight)
        theirs.item_embedding.weight.copy_(ours.item_embedding.weight)
        liked, disliked = torch.tensor([3, 5, 6]), torch.tensor([4, 7, 8])
        theirs.item_embedding.weight[disliked] += ours.sign_embedding.weight[0]
        theirs.item_embedding.weight[liked] += ours.sign_embedding.weight[2]
        batch = {"item_id_list": items, "sign_list": signs, "item_length": lengths}
        wanted = theirs.forward(items, lengths)
        torch.testing.assert_close(ours.forward(batch)[torch.arange(2), lengths - 1], wanted, rtol=1e-4, atol=1e-5)
        scores, dropped = ours.full_sort_predict(batch), []
        for each, given in ((ours.train(), (batch,)), (theirs.train(), (items, lengths))):
            torch.manual_seed(3)
            dropped.append(each.forward(*given))
        torch.testing.assert_close(dropped[0][torch.arange(2), lengths - 1], dropped[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores, wanted @ ours.item_embedding.weight.T, rtol=1e-4, atol=1e-5)


def test_a_negative_weight_of_dislikes_is_refused(prepare_model: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="dislike_weight is -1; it must be a number 0 or more"):
        prepare_model("SignedSASRec", **SETTINGS, dislike_weight=-1)
