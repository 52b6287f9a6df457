"""Recommendations over HTTP, from an event to the next answer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from service_calls import NOW, Make, answering, check_problem, items, send, serving
from small_recommender import begin
from waiting import until

from recbole_signed.live import LIKE, OnlineRecommender, OnlineTrainer
from recbole_signed.live.events import DISLIKE
from recbole_signed.live.learners import make_learner
from recbole_signed.live.replica import OnlineReplica
from recbole_signed.live.serve.app import make_app
from recbole_signed.live.serve.experiments import Experiments, parse_experiment


@pytest.mark.parametrize("fields", [{}, {"duration": 86_400}], ids=["for good", "for a day"])
def test_a_dislike_changes_the_next_answer_and_an_undo_restores_it(client: TestClient, fields: dict[str, Any]) -> None:
    before = client.get("/v1/users/1/recommendations?k=5").json()
    assert before["known_user"]
    assert before["model"].startswith("SSF@")
    assert len(before["items"]) == 5
    first = before["items"][0]["item"]
    written = send(client, "1", first, "dislike", **fields)
    assert (written["accepted"], written["results"][0]["status"]) == (1, "accepted")
    after = client.get("/v1/users/1/recommendations", params={"k": 50, "min_seq": written["seq"]}).json()
    assert after["seq"] >= written["seq"] > before["seq"]
    assert first not in [each["item"] for each in after["items"]]
    near = [each["item"] for each in client.get(f"/v1/items/{first}/similar?k=3").json()["items"]]
    assert near
    effect = client.get("/v1/users/1/last-dislike?k=5").json()
    assert effect["item"] == first
    lists = [[each["item"] for each in answer["items"][:5]] for answer in (before, after)]
    assert effect["gone"] == [item for item in lists[0] if item not in lists[1]]
    assert effect["come"] == [item for item in lists[1] if item not in lists[0]]
    places = [{item: place for place, item in enumerate(each, 1)} for each in lists]
    lowered = {each["item"]: (each["before"], each["now"]) for each in effect["lowered"]}
    assert lowered
    assert lowered == {item: (places[0].get(item), places[1].get(item)) for item in lowered}
    assert {each for each in effect["gone"] if each != first} <= lowered.keys()
    for item in lowered:
        assert client.get(f"/v1/users/1/explain/{item}").json()["cause"] == first
    undone = client.delete(f"/v1/users/1/verdicts/{first}?sign=dislike").json()
    assert undone["accepted"] == 1
    again = client.get("/v1/users/1/recommendations?k=5").json()
    assert [each["item"] for each in again["items"]] == [each["item"] for each in before["items"]]
    assert client.get("/v1/users/1/last-dislike").json()["item"] != first


@pytest.mark.parametrize("query", ["", "k=3", "k=3&min_seq=0", "min_seq=0", "k=60", "k=2000", "k=0", "min_seq=x"])
def test_a_plain_request_is_answered_as_any_other(query: str, serve: Make) -> None:
    variants = {"a": {"share": 0.5, "model": "popularity"}, "b": {"share": 0.5}}
    client = serve(experiments=Experiments({"test": parse_experiment("test", {"variants": variants})}))
    client.put("/v1/items/2", json={"name": "Zoë"})
    for user in ("1", "2", "3", "nobody"):
        # the route answers what has a parameter beside k and min_seq
        answers = [client.get(f"/v1/users/{user}/recommendations?{each}") for each in (query, f"{query}&log=true")]
        assert answers[0].status_code == answers[1].status_code
        assert answers[0].headers == answers[1].headers
        told = [re.sub(r'"request_id":"\w{32}"', "", each.text) for each in answers]
        assert told[0] == told[1]
    count = client.get("/metrics").text
    route, status = "/v1/users/{user_id}/recommendations", answers[0].status_code
    assert f'request_seconds_count{{route="{route}",status="{status}"}} 8.0' in count


def test_filters(client: TestClient) -> None:
    whole = items(client, "1", k=60)
    assert items(client, "1", k=3, exclude=whole[:2]) == whole[2:5]
    assert items(client, "1", k=9, include_only=[whole[4], whole[1], "unknown"]) == [whole[1], whole[4]]
    assert client.put(f"/v1/items/{whole[0]}", json={"withdrawn": True, "tags": ["a"]}).status_code == 200
    assert client.put(f"/v1/items/{whole[3]}", json={"tags": ["a", "b"]}).json() == {
        "withdrawn": False,
        "tags": ["a", "b"],
    }
    assert items(client, "1", k=2) == whole[1:3]
    assert items(client, "1", tags=["a"]) == [whole[3]]
    assert items(client, "1", tags=["a"], include_only=[whole[1], whole[3]]) == [whole[3]]
    assert items(client, "1", tags=["a"], include_only=[whole[1]]) == []
    assert whole[0] not in items(client, "nobody", k=60)
    for route in ("popular", f"items/{whole[1]}/similar"):
        found = client.get(f"/v1/{route}?k=60").json()["items"]
        assert found
        assert whole[0] not in [each["item"] for each in found]
    client.put(f"/v1/items/{whole[0]}", json={})
    client.put(f"/v1/items/{whole[3]}", json={"tags": ["b"]})
    assert [items(client, "1", tags=[tag]) for tag in "abc"] == [[], [whole[3]], []]
    assert items(client, "1", k=60) == whole
    assert items(client, "1", k=60, dislike_aversion=3.0) != whole


def test_an_item_that_is_announced_as_withdrawn_is_never_shown(
    client: TestClient, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, seen = engine.put_item, []

    def looked_at(*given: Any) -> None:
        seen.append("new" in items(client, "1", k=100))
        put(*given)
        seen.append("new" in items(client, "1", k=100))

    monkeypatch.setattr(engine, "put_item", looked_at)
    body = {"withdrawn": True, "tags": ["a"], "features": {}}
    assert client.put("/v1/items/new", json=body).json()["withdrawn"]
    assert not any([*seen, "new" in items(client, "1", k=100)])
    assert client.put("/v1/items/new", json={"features": {}}).json() == {
        "withdrawn": True,
        "tags": ["a"],
        "features": {},
    }


def test_a_refused_announcement_changes_nothing_else(
    client: TestClient, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.put("/v1/items/7", json={"tags": ["b"]})
    monkeypatch.setattr(engine.recommender, "_unfit", lambda batch: dict.fromkeys(range(len(batch)), "it does not fit"))
    for withdrawn in (True, False):
        body = {"withdrawn": withdrawn, "tags": ["a"], "features": {"year": 1}}
        assert client.put("/v1/items/7", json=body).status_code == 422
        assert client.get("/v1/items/7").json() == {"withdrawn": False, "tags": ["b"]}


def test_similar_items_are_as_many_as_asked_for_though_some_are_withdrawn(client: TestClient) -> None:

    def similar(k: int) -> list[str]:
        return [each["item"] for each in client.get(f"/v1/items/7/similar?k={k}").json()["items"]]

    nearest = similar(9)
    assert "known_user" not in client.get("/v1/items/7/similar").json()  # it is for no user
    client.put(f"/v1/items/{nearest[0]}", json={"withdrawn": True}).raise_for_status()
    assert similar(3) == nearest[1:4]


def test_sessions_and_many_users(client: TestClient) -> None:
    unknown = {"likes": ["never seen"]}
    body = {"users": [{"user_id": "1"}, {"likes": ["3", "5"], "dislikes": ["7"]}, {}, unknown], "k": 5}
    answers = client.post("/v1/recommendations", json=body).json()["answers"]
    assert [each["item"] for each in answers[0]["items"]] == items(client, "1", k=5)
    session = [each["item"] for each in answers[1]["items"]]
    assert len(session) == 5
    assert not {"3", "5", "7"} & set(session)
    assert not answers[2]["known_user"]
    assert (answers[3]["items"], answers[3]["known_user"]) == (answers[2]["items"], False)
    # folded in as a user with the same edges would be
    for item, kind in (("3", "like"), ("5", "like"), ("7", "dislike")):
        send(client, "same", item, kind)
    live = client.get("/v1/users/same/recommendations?k=50").json()["items"]
    again = client.post("/v1/recommendations", json={**body, "users": [body["users"][1]], "k": 50}).json()["answers"][0]
    scores = {each["item"]: each["score"] for each in live}
    for each in again["items"]:
        assert each["score"] == pytest.approx(scores[each["item"]], rel=1e-3, abs=1e-4)
    refused = client.post("/v1/recommendations", json={"users": [{"user_id": "1", "likes": ["3"]}]})
    assert (refused.status_code, "leave out likes and dislikes" in refused.json()["detail"]) == (422, True)
    assert client.post("/v1/recommendations", json={"users": [{"user_id": "1", "likes": []}]}).status_code == 200


def test_an_audience_is_as_long_as_asked_for_or_refused(tmp_path: Path) -> None:
    users, things = [f"u{i}" for i in range(1, 142)], [f"i{i}" for i in range(1, 9)]
    number = np.arange(1, 142)
    edges = (number, number % 7 + 1, np.full(141, LIKE, dtype=np.int8), NOW + number)
    recommender = OnlineRecommender.begin(tmp_path / "state", make_learner("Pop"), users, things, edges)
    with serving(recommender, limits={"k": 200}) as client:
        assert len(client.get("/v1/items/i8/audience?k=120").json()["users"]) == 120
        refused = client.get("/v1/items/i8/audience?k=201")
        assert (refused.status_code, refused.json()["detail"]) == (422, "k is 201; at most 200 are served.")


@pytest.mark.parametrize("model", ["Pop", "SSF"])
def test_items_of_equal_scores_stand_in_one_order(model: str, tmp_path: Path) -> None:
    with serving(begin(tmp_path / "state", model)) as client:
        for user in ("u1", "nobody"):
            whole = items(client, user, k=30)
            for k in range(1, len(whole)):
                assert items(client, user, k=k) == whole[:k]
            assert items(client, user, k=30, exclude=whole[:2]) == whole[2:]
        if model == "Pop":
            before = items(client, "u1", k=6)
            send(client, "u1", before[2], "dislike")
            effect = client.get("/v1/users/u1/last-dislike?k=5").json()
            after = items(client, "u1", k=5)
            assert effect["gone"] == [item for item in before[:5] if item not in after]
            assert before[2] in effect["gone"]
            assert effect["come"] == [item for item in after if item not in before[:5]]


def test_the_last_feedback_of_a_session_counts(client: TestClient) -> None:

    def session(*feedback: tuple[str, str]) -> list[Any]:
        rows = [{"FeedbackType": kind, "ItemId": item} for kind, item in feedback]
        return client.post("/api/session/recommend?n=50", json=rows).json()

    assert session(("dislike", "3"), ("like", "3")) == session(("like", "3"))
    # what is near a dislike falls while it is the newest verdict
    assert session(("dislike", "3"), ("like", "5")) != session(("like", "5"), ("dislike", "3"))


@pytest.mark.usefixtures("countries")
@pytest.mark.parametrize("name", ["SSF", "BPR"])
def test_a_session_is_no_user_whose_features_or_embedding_the_model_has(
    name: str, begun: Callable[..., OnlineTrainer]
) -> None:
    more = {"auto": False, "rank": 8, "features": {"user": "all"}} if name == "SSF" else {"epochs": 2}
    with serving(begun(name, **more)) as client:
        for item, kind in (("3", "like"), ("5", "like"), ("7", "dislike")):
            send(client, "somebody", item, kind)
        engine = client.engine  # type: ignore[attr-defined]
        for user, verdicts in (("nobody", []), ("somebody", [("3", LIKE), ("5", LIKE), ("7", DISLIKE)])):
            session, live = engine.session(verdicts, 9).items, engine.recommend(user, 9).items
            assert [item for item, _ in session] == [item for item, _ in live]
            assert [score for _, score in session] == pytest.approx([score for _, score in live], rel=1e-4)
        refused = client.put("/v1/users/somebody", json={"features": {"countri": "c1"}}) if name == "SSF" else None
        assert refused is None or refused.json()["detail"].endswith("did you mean 'country'?")


def test_explanations_add_up(client: TestClient) -> None:
    first = items(client, "1", k=1)[0]
    why = client.get(f"/v1/users/1/explain/{first}").json()
    added = sum(each["contribution"] for each in why["contributions"]) + why["from_features"]
    total = (added + why["prior"]) * why["factor"] - why["lowered"]
    assert why["score"] == pytest.approx(total, rel=1e-4)
    assert first in why["sentence"]
    listed = client.get("/v1/users/1/recommendations?k=1&explain=true").json()["items"][0]
    assert listed["why"] == why
    held = {name: {"share": 0.5, "parameters": {"dislike_aversion": value}} for name, value in (("a", 2.0), ("b", 4.0))}
    client.put("/v1/experiments/held", json={"variants": held}).raise_for_status()
    for query in ("", "&dislike_aversion=3"):
        for each in client.get(f"/v1/users/1/recommendations?k=5&explain=true{query}").json()["items"]:
            assert each["why"]["score"] == pytest.approx(each["score"], rel=1e-4)
    audience = client.get(f"/v1/items/{first}/audience?k=3").json()["users"]
    assert len(audience) == 3
    assert audience[0]["percentile"] >= audience[2]["percentile"]


def test_many_explanations_take_not_much_longer_than_one(client: TestClient) -> None:
    def seconds(k: int) -> float:
        began = time.process_time()
        (*_, last) = client.get(f"/v1/users/1/recommendations?k={k}&explain=true").json()["items"]
        assert last["why"]["item"] == last["item"]
        return time.process_time() - began

    one, many = (min(seconds(k) for _ in range(3)) for k in (1, 50))
    assert many < 4 * one


def test_what_is_near_to_a_dislike_is_explained_by_it(client: TestClient) -> None:
    """The score was that before the fall, and the sentence praised the item by the dislike."""
    disliked = items(client, "1", k=1)[0]
    send(client, "1", disliked, "dislike")
    listed = client.get("/v1/users/1/recommendations?k=20&explain=true").json()["items"]
    fallen = [each for each in listed if each["why"]["cause"] == disliked]
    assert fallen
    today = datetime.now(timezone.utc).date()
    for each in listed:
        why = each["why"]
        assert why["score"] == pytest.approx(each["score"], rel=1e-4)
        assert f"the dislike of item {disliked}" not in why["sentence"]
        assert {"item": disliked, "sign": -1, "contribution": 0.0} in why["contributions"]
        if why["cause"] == disliked:
            near = f"It is shown less ({-why['lowered']:+.3g}): user 1 disliked item {disliked} on {today}; near by "
            assert near in why["sentence"]
            assert why["common_likes"] > 0
    said = client.get(f"/v1/users/1/explain/{disliked}").json()["sentence"]
    assert said.startswith(f"User 1 disliked item {disliked} on {today}, so it is not recommended again")
    hidden = listed[0]["item"]
    send(client, "1", hidden, "hide")
    said = client.get(f"/v1/users/1/explain/{hidden}").json()["sentence"]
    assert said.startswith(f"User 1 has already met item {hidden}")


def test_the_strength_of_dislikes_is_that_of_the_service_or_of_the_request(serve: Make) -> None:
    client = serve()
    disliked = items(client, "1", k=1)[0]
    send(client, "1", disliked, "dislike")
    felt, none = items(client, "1", k=60), items(client, "1", k=60, dislike_strength=0)
    assert sorted(felt) == sorted(none)
    assert felt != none
    other = serve(dislike_strength=0)
    assert items(other, "1", k=60) == none
    assert items(other, "1", k=60, dislike_strength=client.engine.recommender.learner.dislike_strength) == felt  # type: ignore[attr-defined]
    body = {"users": [{"user_id": "1"}], "k": 60}
    for given, wanted in (({}, felt), ({"dislike_strength": 0}, none)):
        (answer,) = client.post("/v1/recommendations", json=body | given).json()["answers"]
        assert [each["item"] for each in answer["items"]] == wanted
    path = f"/v1/users/1/explain/{client.get(f'/v1/items/{disliked}/similar?k=1').json()['items'][0]['item']}"
    assert client.get(path, params={"dislike_strength": 0}).json()["cause"] is None
    check_problem(client.get("/v1/users/1/recommendations?dislike_strength=1.5"), 422, "dislike_strength")


@pytest.mark.parametrize("by_gorse", [False, True])
def test_what_is_hidden_leaves_the_list_and_says_nothing_of_taste(client: TestClient, by_gorse: bool) -> None:
    before = client.get("/v1/users/1/recommendations?k=60&dislike_strength=0").json()["items"]
    seen = before[2]["item"]
    if by_gorse:
        feedback = {"FeedbackType": "hide", "UserId": "1", "ItemId": seen}
        assert client.post("/api/feedback", json=[feedback]).json() == {"RowAffected": 1}
    else:
        send(client, "1", seen, "hide")
    after = client.get("/v1/users/1/recommendations?k=60&dislike_strength=0").json()["items"]
    assert after == [each for each in before if each["item"] != seen]
    assert client.get("/v1/users/1/verdicts").json()["verdicts"][0]["item"] != seen
    held = client.get("/v1/users/1").json()
    met = [each["type"] for each in held["edges"] if each["item"] == seen]
    assert (met or [wish["kind"] for wish in held["wishes"] if wish["item"] == seen]) == [
        "view" if by_gorse else "hide"
    ]
    said = client.get(f"/v1/users/1/explain/{seen}").json()["sentence"]
    assert said.startswith(f"User 1 has already met item {seen}")


def test_versions(client: TestClient) -> None:
    (version,) = client.get("/v1/models").json()["versions"]
    assert version["current"]
    made = client.post("/v1/models")
    assert made.status_code == 201
    assert [each["current"] for each in made.json()["versions"]] == [False, True]
    send(client, "1", items(client, "1", k=1)[0], "dislike")
    before = items(client, "1")
    assert client.post(f"/v1/models/{version['name']}/activate").status_code == 200
    assert items(client, "1") == before  # events since then stay
    assert client.put(f"/v1/models/{version['name']}/pin").json()["versions"][0]["pinned"]
    missing = client.post("/v1/models/v000099/activate")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    assert "no version 'v000099'" in missing.json()["detail"]


def test_a_version_that_cannot_be_written_is_no_fault_of_the_request(client: TestClient) -> None:
    folder = client.engine.recommender.state.directory  # type: ignore[attr-defined]
    folder.rename(folder.with_name("moved"))
    refused = client.post("/v1/models")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert str(folder) not in refused.json()["detail"]
    folder.with_name("moved").rename(folder)
    assert client.post("/v1/models").status_code == 201


def test_routes_of_gorse(client: TestClient) -> None:
    same = {"UserId": "g", "Timestamp": "2023-11-14T00:00:00Z"}
    kinds = {"star": "3", "dislike": "5", "read": "7"}
    rows = [{"FeedbackType": kind, "ItemId": item, **same} for kind, item in kinds.items()]
    assert client.post("/api/feedback", json=rows).json() == {"RowAffected": 3}
    found = client.get("/api/recommend/g?n=5").json()
    assert len(found) == 5
    assert not {"3", "5", "7"} & set(found)
    assert found == items(client, "g", k=5)
    scored = client.get("/api/recommend/g/?n=5&offset=0", headers={"X-API-Version": "2"}).json()  # as PyGorse asks
    assert [each["Id"] for each in scored] == found
    assert scored == sorted(scored, key=lambda each: -each["Score"])
    assert client.delete("/api/feedback/dislike/g/5").json() == {"RowAffected": 1}
    assert client.delete("/api/feedback/read/g/7").json() == {"RowAffected": 0}
    assert client.delete("/api/feedback/like/g/nothing").json() == {"RowAffected": 0}
    assert client.delete("/api/feedback/g/7").json() == {"RowAffected": 0}  # a view
    assert client.delete("/api/feedback/g/3").json() == {"RowAffected": 1}
    assert {edge["item"] for edge in client.get("/v1/users/g").json()["edges"]} == {"7"}
    rows[0]["UserId"] = "h"
    client.post("/api/feedback", json=rows[:1])
    session = client.post("/api/session/recommend?n=3", json=rows).json()
    assert [set(each) for each in session] == [{"Id", "Score"}] * 3
    assert len(client.get("/api/item/3/neighbors?n=2").json()) == 2
    assert len(client.get("/api/popular?n=2").json()) == 2
    assert client.get("/api/health/live").json() == {"Ready": True}
    assert client.get("/api/health/ready").json() == {"Ready": True}
    assert client.delete("/api/user/g").json() == {"RowAffected": 1}


def test_times_of_gorse_without_a_zone_are_in_utc(client: TestClient) -> None:
    for item, stamp in (("3", "2023-11-14"), ("5", "2023-11-14T22:13:20"), ("7", "2023-11-14T23:13:20+01:00")):
        row = {"FeedbackType": "star", "UserId": "g", "ItemId": item, "Timestamp": stamp}
        assert client.post("/api/feedback", json=[row]).json() == {"RowAffected": 1}, stamp
    with client.engine.recommender.reading() as (state, _):  # type: ignore[attr-defined]
        row = state.edges.of_user(state.users.id_of("g"))
        times = dict(zip(state.items.tokens(row.ids.tolist()), row.timestamp.tolist(), strict=True))
    assert times == {"3": NOW - 80_000_000, "5": NOW, "7": NOW}
    wrong = {"FeedbackType": "star", "UserId": "g", "ItemId": "9", "Timestamp": "14-11-2023"}
    check_problem(client.post("/api/feedback", json=[wrong]), 422, "timestamp")
    right = {**wrong, "Timestamp": "2023-11-14"}
    assert client.post("/api/feedback", json=[wrong, right]).json() == {"RowAffected": 1}


def test_a_replica_answers_alike_and_hands_events_on(serve: Make, recommender: Any, tmp_path: Path) -> None:
    client = serve(experiments=Experiments.read(tmp_path / "state" / "experiments.yaml"))
    reads = serving(OnlineReplica(tmp_path / "state"), tmp_path / "state")
    with reads as alone, answering(client.app) as address:
        follower = TestClient(make_app(alone.engine, writer=address))  # type: ignore[attr-defined]
        first = items(follower, "1", k=1)[0]
        written = send(follower, "1", first, "dislike")  # handed on
        assert written["accepted"] == 1
        query = {"k": 20, "min_seq": written["seq"]}
        assert items(follower, "1", **query) == items(client, "1", **query)
        assert first not in items(follower, "1", **query)
        second = items(client, "1", k=1)[0]
        assert follower.put(f"/v1/items/{second}", json={"withdrawn": True}).status_code == 200
        until(lambda: second not in items(follower, "1", k=20), 10)
        assert follower.get("/v1/models").json()["versions"]
        assert follower.get("/v1/status").json()["edges"] > 0
        assert follower.get("/readyz").json()["ready"]
        refused = alone.post("/v1/events", json={"events": [{"user_id": "1", "item_id": "2", "type": "like"}]})
        assert (refused.status_code, "read replica" in refused.json()["detail"]) == (503, True)


def test_trending_items_are_those_liked_now(serve: Make) -> None:
    client = serve(half_life=1.0)
    liked = "7"
    for user in range(1, 40):
        send(client, str(user), liked, "like")
    found = client.get("/v1/trending?k=5").json()["items"]
    assert found[0]["item"] == liked
    assert [each["score"] for each in found] == sorted((each["score"] for each in found), reverse=True)
    client.put(f"/v1/items/{liked}", json={"withdrawn": True})
    assert liked not in [each["item"] for each in client.get("/v1/trending?k=60").json()["items"]]


def test_items_have_names_in_explanations_and_for_who_asks(serve: Callable[..., TestClient]) -> None:
    client = serve(limits={"k": 20})
    assert client.get("/v1/users/1/verdicts").status_code == 200  # by default no more than may be asked for
    first = client.get("/v1/users/1/recommendations?k=1").json()["items"][0]["item"]
    added = client.get(f"/v1/users/1/explain/{first}").json()["contributions"]
    liked = next(each["item"] for each in added if each["sign"] == 1 and each["contribution"] > 0)
    held = {"withdrawn": False, "tags": ["film"], "name": "Heat"}
    assert client.put(f"/v1/items/{first}", json={"tags": ["film"], "name": "Heat"}).json() == held
    assert client.put(f"/v1/items/{liked}", json={"name": "Alien"}).json()["name"] == "Alien"
    looked_up = client.get("/v1/items", params={"id": [first, liked, "other"]}).json()["items"]
    assert looked_up == [
        {"item": first, **held},
        {"item": liked, "withdrawn": False, "tags": [], "name": "Alien"},
        {"item": "other", "withdrawn": False, "tags": []},
    ]
    listed = client.get("/v1/users/1/recommendations?k=2").json()["items"]
    assert listed[0]["name"] == "Heat"
    assert "name" not in listed[1]
    sentence = client.get(f"/v1/users/1/explain/{first}").json()["sentence"]
    assert sentence.startswith(f"Item {first} (Heat) has the score ")
    assert f"User 1 liked item {liked} (Alien) on " in client.get("/v1/users/1/explain/" + liked).json()["sentence"]
    assert f"the like of item {liked} (Alien) (" in sentence

    # a name alone leaves the rest, and the rest leaves the name
    assert client.put(f"/v1/items/{first}", json={"name": "Heat 2"}).json() == {**held, "name": "Heat 2"}
    assert client.put(f"/v1/items/{first}", json={"withdrawn": True}).json() == {
        "withdrawn": True, "tags": [], "name": "Heat 2"
    }  # fmt: skip
    assert client.put(f"/v1/items/{first}", json={"name": ""}).json() == {"withdrawn": True, "tags": []}
    assert client.put(f"/v1/items/{first}", json={"name": None}).json() == {"withdrawn": False, "tags": []}
    for name in ("x" * 1001, "a\x00b", "\ud800", 7):
        refused = client.put(f"/v1/items/{first}", content=json.dumps({"tags": ["b"], "name": name}))
        assert refused.status_code in (400, 422), name
    assert client.get(f"/v1/items/{first}").json()["tags"] == []
    for each, name in (("1", "Heat and Dust"), ("2", "Été"), ("3", "In the Heat of the Night"), ("4", "heat")):
        client.put(f"/v1/items/{each}", json={"name": name}).raise_for_status()
    for text, found in (("HEAT", ["4", "1", "3"]), ("éTÉ", ["2"]), ("100%", [])):
        assert [each["item"] for each in client.get("/v1/items", params={"search": text}).json()["items"]] == found
    assert [each["item"] for each in client.get("/v1/items?search=heat&k=1").json()["items"]] == ["4"]
    for wrong in ("", "?search=", "?search=a&id=1", "?search=a&k=21"):
        assert client.get(f"/v1/items{wrong}").status_code == 422, wrong
    refused = client.get("/v1/items", params={"id": [str(each) for each in range(21)]})
    assert (refused.status_code, refused.json()["detail"]) == (422, "21 ids are given; at most 20 are looked up.")
