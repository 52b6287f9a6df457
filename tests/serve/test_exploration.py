"""What is drawn is logged with its probability, from which the value of a policy that never ran follows."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import check_refused
from service_calls import Make, all_written, experiments_of, items, send

from recbole_signed.live.serve import answers
from recbole_signed.live.serve.ab_report import policy_rates
from recbole_signed.live.serve.experiments import Assignment, Policy, parse_experiment
from recbole_signed.live.serve.ranking import POOL, probabilities, raised
from recbole_signed.ssf.item_counters import UNKNOWN

VARIANTS = {"control": {"share": 0.5}, "draws": {"share": 0.5, "explore": 1.0}}
POLICIES = {"careful": {"parameters": {"dislike_aversion": 3.0}}, "popular": {"model": "popularity", "explore": 0.5}}


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20), st.floats(0, 10))
def test_probabilities(scores: list[float], temperature: float) -> None:
    ordered = np.array(sorted(scores, reverse=True))
    found = probabilities(ordered, temperature)
    assert found.sum() == pytest.approx(1)
    assert (np.diff(found) <= 1e-12).all() or np.allclose(ordered, ordered[0])
    assert len(probabilities(ordered[:0], temperature)) == 0


def test_temperatures_and_bonuses_are_in_deviations_of_the_scores() -> None:
    scores = np.array([3.0, 2.0, 2.0, 1.0])
    found = probabilities(scores, 0.5)
    assert np.log(found / found[0]) == pytest.approx((scores - 3) / (0.5 * scores.std()))
    assert probabilities(100 * scores - 7, 0.5) == pytest.approx(found)
    assert probabilities(scores, 0.0).tolist() == [1, 0, 0, 0]
    scores, verdicts = np.array([3.0, 2.0, 1.0, UNKNOWN], dtype=np.float32), np.array([900, 9, 1, 0])
    assert probabilities(scores, 0.5) == pytest.approx([*probabilities(scores[:3], 0.5), 0.0])
    order, found = raised(scores, verdicts, 0.5)
    known, wanted = raised(scores[:3], verdicts[:3], 0.5)
    assert order.tolist() == [*known.tolist(), 3]
    assert found[:3] == pytest.approx(wanted)
    assert probabilities(scores[3:], 0.5).tolist() == [1]


def make(**changes: Any) -> dict[str, Any]:
    return {"variants": VARIANTS, "policies": POLICIES, **changes}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (make(variants={"a": {"share": 0.5}, "b": {"share": 0.5}}), "set 'explore' of a variant"),
        (make(interleave=True), "explores or interleaves, not both"),
        (make(interleave=True, variants={"a": {"share": 0.5}, "b": {"share": 0.5, "new_slots": 2}}), "new_slots of a"),
        (make(policies={"draws": {}}), "is a variant and a policy"),
        (make(policies={"x": {"model": "random"}}), "'policies.x.model' has no 'random'"),
    ],
)
def test_wrong_policies_are_refused(raw: dict[str, Any], message: str) -> None:
    check_refused(message, parse_experiment, "x", raw)


@given(st.lists(st.tuples(st.floats(-50, 50), st.integers(0, 1000)), min_size=1, max_size=40), st.floats(0, 10))
def test_a_bonus_follows_what_is_not_known(items: list[tuple[float, int]], weight: float) -> None:
    scores = np.array(sorted((score for score, _ in items), reverse=True))
    verdicts = np.array([count for _, count in items])
    order, found = raised(scores, verdicts, weight)
    assert sorted(order) == list(range(len(items)))
    assert (np.diff(found) <= 0).all()
    unit = weight * np.std(scores[:20])
    assert found == pytest.approx(scores[order] + unit * (3 / (3 + verdicts[order])) ** 0.5)


def lists_of(serve: Make, young: float, explore: float) -> tuple[list[list[str]], float]:
    """Return a list for each user, and the share of places that items with fewer verdicts than the median have."""
    variants = {"all": {"share": 1 - 1e-9, "young": young, "explore": explore}, "none": {"share": 1e-9}}
    engine: Any = serve(experiments=experiments_of(newcomers={"variants": variants})).engine  # type: ignore[attr-defined]
    lists = [[item for item, _ in engine.recommend(str(user), 10, log=False).items] for user in range(1, 60)]
    with engine.recommender.reading() as (state, _):
        verdicts = state.edges.item_likes + state.edges.item_dislikes
        few = np.flatnonzero(verdicts < np.median(verdicts[1:]))
        names = set(state.items.tokens(few[few > 0].tolist()))
    return lists, float(np.mean([item in names for each in lists for item in each]))


@pytest.mark.parametrize("explore", [0.0, 0.5])
def test_the_higher_the_bonus_the_more_young_items(explore: float, serve: Make) -> None:
    shares = [lists_of(serve, young, explore)[1] for young in (0.0, 2.0, 8.0)]
    assert shares[0] < shares[1] < shares[2]


def test_dislikes_are_verdicts_and_a_bonus_draws_nothing(serve: Make, engine: Any) -> None:
    young = [Assignment("newcomers", "young", 1.0, Policy(young=8.0))]
    with engine.recommender.reading() as (state, learner):
        filters = {"exclude": state.hidden_items(), "include_only": None}
        items, scores = engine.rank(learner, state, 1, POOL, filters, [])
        likes, dislikes = state.edges.item_likes[items], state.edges.item_dislikes[items]
        order, _ = raised(scores, likes + dislikes, 8.0)
        assert order.tolist() != raised(scores, likes, 8.0)[0].tolist()
        found, _ = engine.rank(learner, state, 1, 10, filters, young)
    assert found.tolist() == items[order][:10].tolist()
    assert lists_of(serve, 2.0, 0.0) == lists_of(serve, 2.0, 0.0)
    assert lists_of(serve, 0.0, 0.0)[0] != lists_of(serve, 2.0, 0.0)[0]


def test_the_last_places_are_kept_for_new_items_and_measured(serve: Make) -> None:
    plain, client = serve(), serve(new_items={"slots": 3, "verdicts": 5})
    rows = [{"user_id": str(user), "item_id": f"fresh{n}", "type": "like"} for user in (2, 3) for n in range(6)]
    client.post("/v1/events", json={"events": rows}).raise_for_status()
    lists, new = [], [f"fresh{n}" for n in range(6)]
    for user in map(str, range(10, 30)):
        own = items(plain, user, k=10)
        lists.append(items(client, user, k=10))
        stay = own[: 10 - 3 + sum(each in new for each in own)]
        assert lists[-1][: len(stay)] == stay
        assert len(set(lists[-1])) == 10
    assert np.mean([sum(each in new for each in listed) for listed in lists]) == 3
    assert len({frozenset(listed[-3:]) & frozenset(new) for listed in lists}) > 3, "drawn for each user"
    assert items(client, "10", k=10) == lists[0], "and not for each request"
    client.engine.quality.k = 10  # type: ignore[attr-defined]
    (first,) = [each for each in lists[0][-1:] if each in new]
    send(client, "10", first, "like")
    send(client, "11", lists[1][0], "dislike")
    told = client.get("/v1/quality").json()["windows"]["hour"]["all"]
    assert (told["new_slot_likes"], told["new_slot_dislikes"], told["dislike_recall"]) == (1, 0, 1.0)


@pytest.mark.parametrize("k", [5, 20, 25])
@pytest.mark.parametrize(
    "experiment",
    [
        {"variants": {"draws": {"share": 1 - 1e-9, "explore": 0.5}, "none": {"share": 1e-9}}},
        {"variants": {"model": {"share": 0.5}, "other": {"share": 0.5, "model": "popularity"}}, "interleave": True},
    ],
    ids=["drawn", "interleaved"],
)
def test_a_drawn_or_mixed_list_has_its_places_for_new_items(k: int, experiment: dict[str, Any], serve: Make) -> None:
    client = serve(new_items={"slots": 3, "verdicts": 5}, experiments=experiments_of(first=experiment))
    rows = [{"user_id": str(user), "item_id": f"fresh{n}", "type": "like"} for user in (2, 3) for n in range(6)]
    client.post("/v1/events", json={"events": rows}).raise_for_status()
    engine: Any = client.engine  # type: ignore[attr-defined]
    with engine.recommender.reading() as (state, _):
        few = np.flatnonzero(state.edges.item_likes + state.edges.item_dislikes < 5)
        new = set(state.items.tokens(few[few > 0].tolist()))
    for user in range(10, 30):
        listed = engine.recommend(str(user), k, log=False)
        shown = [item for item, _ in listed.items]
        assert len(set(shown)) == k
        assert sum(item in new for item in shown) >= 3
        if listed.teams:
            kept = [item for item, team in zip(shown, listed.teams, strict=True) if team is None]
            drafted = [item for item, team in zip(shown, listed.teams, strict=True) if team is not None]
            assert set(listed.teams) - {None} == {"model", "other"}
            assert set(kept) <= new
            assert len(kept) == max(0, 3 - sum(item in new for item in drafted))


@pytest.mark.parametrize("young", [0.0, 0.5])
def test_the_value_of_a_policy_that_never_ran(young: float, serve: Make) -> None:
    drawn = {"share": 0.5, "explore": 2.0, "young": young}
    client = serve(experiments=experiments_of(first=make(variants={**VARIANTS, "draws": drawn})))
    engine: Any = client.engine  # type: ignore[attr-defined]
    users = [str(user) for user in range(1, 60) if engine.experiments.assign(str(user), True)[0].variant == "draws"]
    rng = np.random.default_rng(0)
    truth = dict(zip(map(str, range(1000)), rng.uniform(0.1, 0.9, 1000), strict=True))
    careful = {}
    for user in users:
        assert len(engine.recommend(user, 20, parameters={"dislike_aversion": 3.0}, log=False).items) == 20
        answer = client.get(f"/v1/users/{user}/recommendations?k=5").json()
        assert answer["variant"] == "first=draws"
        assert len({each["item"] for each in answer["items"]}) == 5
    own = {user: engine.experiments.assign(user, True) for user in users}
    with engine.recommender.reading() as (state, learner):
        changed = engine.learner_for(learner, [], {"dislike_aversion": 3.0})
        for user in users:
            number = int(state.users.ids([user])[0])
            filters = {"exclude": state.hidden_items(), "include_only": None}
            (best,), _ = engine.rank(changed, state, number, 1, filters, own[user])
            careful[user] = state.items.tokens([int(best)])[0]
    verdicts = []
    for _ in range(40):
        for user in users:
            shown = engine.recommend(user, 3)
            item = shown.items[0][0]
            (own_draw,) = [draw for draw in shown.draws if draw[1] == "draws"]
            assert own_draw[2] == own_draw[3] > 0
            assert {draw[1] for draw in shown.draws} == {"control", "draws", "careful", "popular"}
            verdicts.append((user, item, rng.random() < truth[item]))
    all_written(engine)
    log = engine.traffic
    assert len(log.drawn("first", "careful")) == 41 * len(users)
    liked = np.array([each[2] for each in verdicts])
    # judged as logged, without learning from it: the state stays as it is
    found = engine.traffic._db.execute(
        "SELECT i.id FROM draw d JOIN impression i ON i.id = d.impression WHERE d.policy = 'careful' ORDER BY i.id"
    ).fetchall()[len(users) :]
    engine.traffic._db.executemany(
        "UPDATE impression SET like = ? WHERE id = ?",
        [(int(like), number) for like, (number,) in zip(liked, found, strict=True)],
    )
    engine.traffic._db.execute("DELETE FROM impression WHERE id < ?", (found[0][0],))
    engine.traffic._db.commit()  # reports read by a connection of their own
    result = policy_rates(log.drawn("first", "careful"))
    estimate, expected = result["like_rate"], np.mean([truth[item] for item in careful.values()])
    sigma = (estimate["high"] - estimate["low"]) / 3.92
    assert abs(estimate["value"] - expected) < 4 * sigma
    assert 0.5 < result["weight"] < 1.6
    assert result["dislike_rate"]["value"] == 0


def drawn(like: Any, propensity: Any, probability: Any, user: Any) -> pl.DataFrame:
    columns = {"like": like, "propensity": propensity, "probability": probability, "user": user}
    return pl.DataFrame(columns).with_columns(dislike=1 - pl.col("like"))


def test_policies_by_hand_and_parameters_of_requests(serve: Make) -> None:
    found = policy_rates(drawn([1, 0, 1], [0.5, 0.25, 1.0], [0.125, 0.25, 0.25], [1, 2, 3]))  # weights 1/4, 1, 1/4
    assert (found["weight"], found["effective_size"]) == pytest.approx((0.5, 1.5**2 / 1.125))
    assert found["like_rate"]["value"] == pytest.approx(1 / 3)
    assert found["dislike_rate"]["value"] == pytest.approx(2 / 3)
    squares = (0.25 * 2 / 3) ** 2 * 2 + (1 / 3) ** 2
    half = 1.959964 * np.sqrt(squares * 3 / 2) / 1.5
    assert found["like_rate"]["high"] - found["like_rate"]["value"] == pytest.approx(half)
    clustered = policy_rates(drawn([1, 0, 1, 0], [0.5] * 4, [0.5] * 4, [7, 3, 7, 3]))["like_rate"]
    assert clustered["high"] - clustered["value"] == pytest.approx(1.959964 * np.sqrt(2 / 1 * (1 + 1)) / 4)
    one = policy_rates(drawn([1, 0], [0.5] * 2, [0.5] * 2, [1, 1]))["like_rate"]
    assert one == {"value": 0.5, "low": None, "high": None}
    never = policy_rates(drawn([1, 0], [0.5] * 2, [0.0] * 2, [1, 2]))
    assert (never["like_rate"]["value"], never["effective_size"]) == (None, 0.0)
    variants = {"draws": {"share": 1 - 1e-9, "explore": 2.0}, "none": {"share": 1e-9}}
    raw = make(variants=variants, policies={"same": {"explore": 2.0}})
    engine: Any = serve(experiments=experiments_of(first=raw)).engine  # type: ignore[attr-defined]
    for user in map(str, range(1, 20)):
        shown = engine.recommend(user, 5, parameters={"dislike_aversion": 5.0}, log=False)
        chances = {name: (propensity, probability) for _, name, propensity, probability in shown.draws}
        assert chances["same"] == pytest.approx(chances["draws"])
        assert chances["none"][1] in (0.0, 1.0)  # it draws nothing


@pytest.mark.parametrize("lists", [1, 20])
def test_intervals_cover_the_truth_where_users_differ(lists: int) -> None:
    """Of three items, drawn by a skewed policy; the one in question prefers the last."""
    covered, users, target = 0, 4000 // lists, np.array([0.1, 0.2, 0.7])
    for seed in range(200):
        rng, user = np.random.default_rng(seed), np.repeat(np.arange(users), lists)
        rates, logging = rng.uniform(0.05, 0.6, (users, 3))[user], rng.dirichlet([16, 8, 6], len(user))
        item = (rng.random(len(user))[:, None] > np.cumsum(logging, axis=1)).sum(axis=1).clip(max=2)
        rows = np.arange(len(user))
        like = (rng.random(len(user)) < rates[rows, item]).astype(int)
        found = policy_rates(drawn(like, logging[rows, item], target[item], user))["like_rate"]
        covered += found["low"] <= 0.325 <= found["high"]
    assert covered / 200 > 0.88


@pytest.mark.parametrize("k", [5, 50])
def test_equal_policies_have_equal_probabilities_whatever_the_length(
    k: int, serve: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "POOL", 10)
    monkeypatch.setattr(answers, "CANDIDATES", 5)
    arm = {"share": 0.5, "explore": 0.5, "young": 20.0}
    client = serve(experiments=experiments_of(first=make(variants={"control": arm, "same": arm}, policies={})))
    engine: Any = client.engine  # type: ignore[attr-defined]
    for user in range(1, 40):
        for _, name, own, probability in engine.recommend(str(user), k, log=False).draws:
            assert probability == pytest.approx(own), name
