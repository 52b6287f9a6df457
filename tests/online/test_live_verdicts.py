"""Personal verdicts under a stream: the formula, offline and live alike, and what a dislike does not do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import edge_streams as streams
import numpy as np
import pytest
import torch
import verdict_reference as slow
from edge_streams import Stream
from hypothesis import given, settings
from hypothesis import strategies as st
from small_recommender import Opens, begin, event
from verdict_reference import Person

from recbole_signed.graph import SignedGraph
from recbole_signed.graph.personal_verdict import Neighbourhoods
from recbole_signed.live import LIKE, OnlineRecommender
from recbole_signed.live.events import DISLIKE, VIEW
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.asked import OwnEdges
from recbole_signed.live.learners.base import described, learner_from, learner_of
from recbole_signed.live.learners.ranking import ranked_scores
from recbole_signed.live.store import nearest_items
from recbole_signed.live.trainer import base_of
from recbole_signed.model.verdicts import PersonalVerdicts
from recbole_signed.plugin.ranges import _warn_once

N_ITEMS = 11
MAP = np.random.default_rng(4).standard_normal((N_ITEMS, N_ITEMS)).astype(np.float32)
NEUTRAL = np.random.default_rng(5).standard_normal(N_ITEMS).astype(np.float32) - 1
STRENGTH = 0.6


def scores_of(events: Iterable[slow.Event]) -> np.ndarray:
    """A model that knows one user's verdicts alone, and to which a dislike is half a like."""
    row = np.zeros(N_ITEMS, dtype=np.float32)
    for _, item, like in events:
        row[item] = 1.0 if like else 0.5
    return row @ MAP


class LinearLearner:
    """The same under a stream."""

    dislike_strength, ranks_without_edges = STRENGTH, True

    def __init__(self, leads: bool) -> None:
        self.dislikes_lead = leads

    def scores(self, edges: Any, users: np.ndarray) -> torch.Tensor:
        rows = edges.of_users(users)
        dense = np.zeros((len(users), N_ITEMS), dtype=np.float32)
        owner = np.repeat(np.arange(len(users)), np.diff(rows.indptr))
        dense[owner, rows.ids] = np.select([rows.kind == LIKE, rows.kind == DISLIKE], [1.0, 0.5], 0.0)
        return torch.from_numpy(dense @ MAP)

    def pair_scores(self, edges: Any, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return np.take_along_axis(self.scores(edges, users).numpy(), items, axis=1)

    def without_taste(self, items: np.ndarray) -> np.ndarray:
        return NEUTRAL[items]


class Table(dict[str, torch.Tensor]):
    """Rows of a data set."""

    def __len__(self) -> int:
        return len(self["user"])


def offline(people: list[Person], leads: bool) -> torch.Tensor:
    """Return what all users are ranked by at evaluation; user 0 is the padding."""
    tables: dict[str, Any] = {}
    for name, chosen in (
        ("inter_feat", [(u, i, t) for u, each in enumerate(people) for t, i, like in each.events if like]),
        ("neg_feat", [(u, i, t) for u, each in enumerate(people) for t, i, like in each.events if not like]),
        ("neutral_feat", [(u, i, 1) for u, each in enumerate(people) for i in each.views]),
    ):
        columns = np.array(chosen, dtype=np.int64).reshape(-1, 3)
        tables[name] = Table(user=torch.from_numpy(columns[:, 0]), item=torch.from_numpy(columns[:, 1]))
        tables[f"times of {name}"] = columns[:, 2]
    dataset = SimpleNamespace(uid_field="user", iid_field="item", **tables)
    dataset.times = lambda name: tables[f"times of {name}"]
    likes, dislikes = ((tables[n]["user"].numpy(), tables[n]["item"].numpy()) for n in ("inter_feat", "neg_feat"))
    graph = SignedGraph.from_edges(likes, dislikes, len(people), N_ITEMS)

    def scores(users: SignedGraph, _: Any, items: torch.Tensor | None) -> torch.Tensor:
        found = torch.from_numpy((users.likes + 0.5 * users.dislikes).toarray().astype(np.float32) @ MAP)
        return found if items is None else found.gather(1, items)

    verdicts = PersonalVerdicts.from_dataset(dataset, graph, leads=leads)
    if verdicts is None:  # nobody dislikes anything
        return scores(graph, None, None)
    return verdicts.judged(np.arange(len(people)), scores, torch.from_numpy(NEUTRAL)[None], STRENGTH)


def live(people: list[Person], leads: bool) -> torch.Tensor:
    """Return what they are ranked by under a stream that has brought the events in some order."""
    moves = [(u, i, LIKE if like else DISLIKE, t) for u, each in enumerate(people) for t, i, like in each.events]
    moves += [(u, i, VIEW, 1) for u, each in enumerate(people) for i in each.views]
    stream = Stream.__new__(Stream)
    stream.edges, stream.seq = type(streams.small_stream().edges)(len(people), N_ITEMS), 0
    for user, item, kind, time in np.random.default_rng(0).permutation(np.array(moves, dtype=int).reshape(-1, 4)):
        stream.take([(int(user), int(item), int(kind))], [int(time)])
    learner: Any = LinearLearner(leads)
    return ranked_scores(learner, stream.edges, np.arange(len(people)))


@settings(max_examples=25)
@given(slow.populations(5, N_ITEMS), st.booleans())
def test_offline_and_live_are_the_formula(people: list[Person], leads: bool) -> None:
    """Also where something is seen without a verdict, which offline no model has to read."""
    people = [Person([], set()), *people]
    wanted = [slow.ranked(people, each, scores_of, NEUTRAL, STRENGTH, leads) for each in people]
    for found in (offline(people, leads), live(people, leads)):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-5)


@settings(max_examples=50)
@given(slow.populations(5, N_ITEMS), st.booleans(), st.data())
def test_a_dislike_raises_nothing_that_is_near_it(people: list[Person], leads: bool, data: st.DataObject) -> None:
    """Whatever a model makes of dislikes, in a run of them too."""
    people = [Person([], set()), *people]
    fresh = [item for item in range(1, N_ITEMS) if item not in people[1].seen]
    before = offline(people, leads)[1]
    for time, item in enumerate(data.draw(st.permutations(fresh)), 20):
        people[1] = Person([*people[1].events, (time, item, False)], people[1].views)
        after = offline(people, leads)[1]
        near = [*slow.kappa(people, people[1], item, N_ITEMS)]
        assert (after[near] <= before[near] + 1e-5).all()
        before = after


NARROW: dict[str, int] = {
    "KEPT": 5,
    "WAITING": 2,
    "PIECE_OF_ITEMS": 4,
    "CELLS": 20,
    "FEW_LIKES": 3,
    "MOST_CHANGES": 9,
    "MOST_MOVES": 60,
}


@pytest.mark.parametrize(
    "widths", [{**NARROW, "TABLE": 0}, NARROW, {"FEW_LIKES": 64}], ids=["narrow", "with a table", "wide"]
)
@settings(max_examples=60)
@given(data=st.data())
def test_what_is_near_follows_each_event(widths: dict[str, int], data: st.DataObject) -> None:
    """Rows are made, kept, moved and made again: each is that of the likes as they are."""
    most = 3 if "KEPT" in widths else 64
    with patch.multiple(nearest_items, **widths):
        stream = streams.small_stream()
        keys = np.random.default_rng(0).permutation(100)
        for batch in [[(1, 1, LIKE)], *data.draw(streams.batches)]:
            stream.take(batch)
            likes = stream.signs() == 1
            n_likes, n_items = likes.sum(axis=0), stream.sizes[1]
            asked = np.array(data.draw(st.lists(st.integers(1, n_items - 1), min_size=1, max_size=6)))
            indptr, near, cosines = stream.edges.nearest(asked, keys, most)
            for place, item in enumerate(asked.tolist()):
                here = slice(indptr[place], indptr[place + 1])
                common = (likes[:, [item]] & likes).sum(axis=0)
                wanted = Neighbourhoods.row(common, n_likes, item, keys)
                assert near[here].tolist() == wanted[0][:most].tolist()
                np.testing.assert_array_equal(cosines[here], wanted[1][:most])


CLOSED: dict[str, Any] = {"auto": False, "rank": 12, "cutoff": 5}


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("SSF", {**CLOSED, "dislike_aversion": 0.5, "popularity_exponent": 0.2}),
        ("SSFL", {**CLOSED, "learned_rank": 6}),
        ("SSFT", CLOSED),
        ("SignedEASE", {"dislike_strength": 0.5}),
        ("Pop", {"dislike_strength": 0.5}),
    ],
)
def test_a_model_and_its_learner_rank_alike(
    name: str, given: dict[str, Any], prepare_model: Callable[..., Any], tmp_path: Path
) -> None:
    model, config, (train, *_) = prepare_model(name, **given)
    if hasattr(model, "fit"):
        model.fit()
    base = base_of(train.dataset)
    users = np.arange(1, model.n_users)
    with torch.no_grad():
        batch = {"user_id": torch.from_numpy(users)}
        wanted = torch.as_tensor(model.full_sort_predict(SimpleBatch(batch))).reshape(len(users), -1)[:, 1:]
        model.dislike_strength, strength = 0.0, model.dislike_strength
        plain = torch.as_tensor(model.full_sort_predict(SimpleBatch(batch))).reshape(len(users), -1)[:, 1:]
        model.dislike_strength = strength
    recommender = OnlineRecommender.begin(tmp_path / "state", learner_of(model, config), *base)
    with recommender.reading() as (state, learner):
        assert learner.dislike_strength == strength > 0
        found = ranked_scores(learner, state.edges, users, (state.users.keys, state.items.keys))[:, 1:]
    recommender.close()
    # a live popularity counts, where the model divides by the largest count
    sized = [each.numpy() / float(each.std()) for each in (found, wanted)]
    np.testing.assert_allclose(*sized, rtol=2e-3, atol=2e-3)
    assert float((plain - wanted).abs().max()) > 0.1 * float(plain.std())


class SimpleBatch(dict[str, torch.Tensor]):
    """What RecBole gives a model, as far as it is read."""

    def __len__(self) -> int:
        return len(self["user_id"])


# ---- of a state ----


def lists(recommender: OnlineRecommender, users: Iterable[str] = ("u1", "u2", "u3", "u4", "nobody")) -> list[Any]:
    return [recommender.recommend(user, 30) for user in users]


@pytest.mark.parametrize("model", ["SSF", "SSFT", "SignedEASE", "Pop"])
def test_what_falls_stays_in_the_list(tmp_path: Path, model: str) -> None:
    """However strong: a list has all that the user has no edge to, or as many as are asked for."""
    recommender = begin(tmp_path / "state", model)
    left = {item for item, _ in recommender.recommend("u1", 30)}
    for number in range(len(left)):
        worst, best = (recommender.recommend("u1", 30, dislike_strength=each) for each in (1.0, 0.0))
        assert {item for item, _ in worst} == {item for item, _ in best} == left
        for k in (1, 5):
            assert [item for item, _ in recommender.recommend("u1", k, dislike_strength=1.0)] == [
                item for item, _ in worst[:k]
            ]
        left.discard(best[0][0])
        recommender.update([event(number, "u1", best[0][0], "dislike")])
    assert recommender.recommend("u1", 30) == []
    recommender.close()


@pytest.mark.parametrize("model", ["SSF", "SSFL", "SignediALS"])
def test_a_dislike_moves_its_neighbours_alone_where_liked_items_have_grown(tmp_path: Path, model: str) -> None:
    """Such items are made again from their users, who are read without what their scores do not show yet."""
    recommender = begin(tmp_path / "state", model, **({} if model == "SignediALS" else {"dislike_aversion": 0.0}))
    likes = [event(n, "fresh", f"i{n}", "like") for n in range(1, 4)]
    recommender.update([*likes, *(event(10 + n, f"other{n}", f"i{1 + n % 3}", "like") for n in range(60))])
    before = dict(recommender.recommend("fresh", 30))
    for number, item in enumerate([*before][:8]):
        recommender.update([event(100 + 2 * number, "fresh", item, "dislike")])
        after = dict(recommender.recommend("fresh", 30))
        assert [*after.values()] == sorted(after.values(), reverse=True)
        moved = [other for other in after if after[other] != pytest.approx(before[other], rel=1e-5, abs=1e-6)]
        assert 1 <= len(moved) <= 10
        assert all(after[other] < before[other] for other in moved)
        recommender.update([event(101 + 2 * number, "fresh", item, "undislike")])
        assert dict(recommender.recommend("fresh", 30)) == pytest.approx(before, rel=1e-5, abs=1e-6)
    recommender.update([event(200, "fresh", next(iter(before)), "dislike")])
    held_back = dict(recommender.recommend("fresh", 30))
    recommender.update([event(201, "fresh", [*before][-1], "like")])
    now = dict(recommender.recommend("fresh", 30))
    assert sum(now[item] != held_back[item] for item in now) > 20
    recommender.close()


def test_of_who_is_forgotten_nothing_is_left_in_the_lists_of_others(tmp_path: Path, opens: Opens) -> None:
    """Also not in what is near to what: the likes of a visitor decide it."""
    plain, recommender = begin(tmp_path / "plain", "Pop"), begin(tmp_path / "state", "Pop")
    visits = [
        event(100 + 40 * n + place, f"visitor{n}", f"i{item}", "like")
        for n in range(30)
        for place, item in enumerate((3, 5 + n % 20, 6 + n % 20))
    ]
    dislikes = [event(5000 + n, f"u{n}", "i3", "dislike") for n in (1, 2, 3, 4)]
    recommender.update(visits)
    recommender.update(dislikes)
    plain.update(dislikes)
    assert lists(recommender) != lists(plain)
    recommender.update([event(9000 + n, f"visitor{n}", "", "forget_user") for n in range(30)])
    assert lists(recommender) == lists(plain)
    recommender.close()
    assert lists(opens()) == lists(plain)
    plain.close()


# ---- settings of before ----


def test_a_description_with_a_push_opens_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    _warn_once.cache_clear()  # it is said once in each process
    old = {**described(make_learner("SSF", {"rank": 5})), "dislike_push": 0.3}
    del old["dislike_strength"]
    with caplog.at_level(logging.WARNING):
        learner: Any = learner_from(old)
    assert [record.message.count("dislike_push") for record in caplog.records] == [1]
    assert learner.dislike_strength == make_learner("SSF").dislike_strength > 0
    with caplog.at_level(logging.WARNING):
        assert make_learner("SSF", {"dislike_push": 0.0, "dislike_strength": 0.2}).dislike_strength == 0.2
    assert len(caplog.records) == 1


def test_a_configuration_with_a_push_goes_online_with_one_warning(
    prepare_model: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    model, config, _ = prepare_model("SSF", **CLOSED, dislike_strength=0.4, online_settings={"dislike_push": 0.5})
    caplog.clear()
    _warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert learner_of(model, config).dislike_strength == 0.4
    assert sum("dislike_push" in record.message for record in caplog.records) == 1


def test_edges_in_which_users_have_others_are_given_for_all_of_these_or_for_none() -> None:
    edges = Stream(6, 9, [(user, user + 1, LIKE) for user in range(1, 6)]).edges
    users, rows = np.array([2, 4]), edges.of_users(np.array([1, 5]), times=True)
    own: Any = OwnEdges(edges, users, rows)
    assert own.of_users(users).ids.tolist() == rows.ids.tolist()
    assert own.of_user(4).ids.tolist() == [6]
    assert own.of_users(np.array([1, 3])).ids.tolist() == [2, 4]
    one: Any = OwnEdges.with_row(edges, 2, edges.of_user(5))
    assert one.of_users(np.array([2, 2])).ids.tolist() == [6, 6]
    with pytest.raises(ValueError, match="all must be asked for"):
        own.of_users(np.array([4]))
