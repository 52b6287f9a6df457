"""The routes, from an event to the next answer."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from small_recommender import begin

from recbole_signed.errors import UsageError
from recbole_signed.online import DISLIKE, LIKE, Event, OnlineRecommender, OnlineReplica, OnlineTrainer
from recbole_signed.online.learners import make_learner
from recbole_signed.online.store import noted
from recbole_signed.serve import (
    Engine,
    Experiments,
    ImpressionQueue,
    Maintenance,
    ServeSettings,
    Shown,
    TrafficLog,
    make_app,
    make_key,
    parse_experiment,
)
from recbole_signed.serve.arrivals import SET_BACK, Arrivals
from recbole_signed.serve.experiments import Assignment
from recbole_signed.serve.requests import THREADS

Make = Callable[..., TestClient]
NOW = 1_700_000_000_000


def items(client: TestClient, user: str, **query: Any) -> list[str]:
    answer = client.get(f"/v1/users/{user}/recommendations", params=query)
    assert answer.status_code == 200, answer.text
    return [each["item"] for each in answer.json()["items"]]


def send(client: TestClient, user: str, item: str, kind: str, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/events", json={"events": [{"user_id": user, "item_id": item, "type": kind, **fields}]})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_dislike_changes_the_next_answer_and_an_undo_restores_it(serve: Make) -> None:
    client = serve()
    before = client.get("/v1/users/1/recommendations?k=5").json()
    assert before["known_user"]
    assert before["model"].startswith("SSF@")
    assert len(before["items"]) == 5
    first = before["items"][0]["item"]
    written = send(client, "1", first, "dislike")
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
    undone = client.delete(f"/v1/users/1/verdicts/{first}?sign=dislike").json()
    assert undone["accepted"] == 1
    again = client.get("/v1/users/1/recommendations?k=5").json()
    assert [each["item"] for each in again["items"]] == [each["item"] for each in before["items"]]
    assert client.get("/v1/users/1/last-dislike").json()["item"] != first


def test_a_bad_event_does_not_spoil_its_batch(serve: Make) -> None:
    client = serve()
    rows = [
        {"user_id": "new", "item_id": "1", "type": "like", "timestamp": NOW, "event_id": "a"},
        {"user_id": "new", "item_id": "2", "type": "adore", "timestamp": NOW},
        {"user_id": "new", "item_id": "2", "type": "like", "timestamp": "2023-11-14T22:13:20Z"},
        {"user_id": "new", "item_id": "1", "type": "like", "timestamp": NOW, "event_id": "a"},
        {"user_id": "new", "item_id": "3", "type": "like", "timestamp": "yesterday"},
        7,
        {"user_id": 5, "item_id": 6, "type": "view"},
    ]
    answer = client.post("/v1/events", json={"events": rows}).json()
    assert [each["status"] for each in answer["results"]] == [
        *("accepted", "refused", "accepted", "duplicate", "refused", "refused", "accepted")
    ]
    assert "did you mean" in answer["results"][1]["reason"] or "not a type" in answer["results"][1]["reason"]
    assert (answer["accepted"], answer["duplicate"], answer["refused"]) == (3, 1, 3)
    assert client.post("/v1/events", json={"events": rows[:1]}).json()["duplicate"] == 1


def test_a_field_that_no_event_has_is_refused(serve: Make) -> None:
    client = serve()
    good = {"user_id": "new", "item_id": "1", "type": "like"}
    answer = client.post(
        "/v1/events", json={"events": [{**good, "timestmap": NOW}, {**good, "note": "x"}, good]}
    ).json()
    assert [each["status"] for each in answer["results"]] == ["refused", "refused", "accepted"]
    assert answer["results"][0]["reason"] == "there is no field 'timestmap'; did you mean 'timestamp'?"
    assert "there is no field 'note'; the fields are event_id" in answer["results"][1]["reason"]
    # gorse's clients send fields of theirs
    sent = [{"FeedbackType": "like", "UserId": "new", "ItemId": "2", "Comment": "x", "Value": 1}]
    assert client.post("/api/feedback", json=sent).json() == {"RowAffected": 1}


def test_every_other_body_refuses_what_it_does_not_have(serve: Make) -> None:
    schema = serve().get("/openapi.json").json()
    bodies = set()
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            if "requestBody" in operation and path.startswith("/v1/"):
                bodies.add(operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2])
    assert len(bodies) >= 6
    for name in bodies:
        assert schema["components"]["schemas"][name]["additionalProperties"] is False, name
    assert (
        schema["components"]["schemas"]["EventsBody"]["properties"]["events"]["items"]["additionalProperties"] is False
    )


def test_filters(serve: Make) -> None:
    client = serve()
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


def test_similar_items_are_as_many_as_asked_for_though_some_are_withdrawn(serve: Make) -> None:
    client = serve()

    def similar(k: int) -> list[str]:
        return [each["item"] for each in client.get(f"/v1/items/7/similar?k={k}").json()["items"]]

    nearest = similar(9)
    assert "known_user" not in client.get("/v1/items/7/similar").json()  # it is for no user
    client.put(f"/v1/items/{nearest[0]}", json={"withdrawn": True}).raise_for_status()
    assert similar(3) == nearest[1:4]


def test_a_parameter_of_a_request_takes_the_place_of_that_of_a_variant(serve: Make) -> None:
    held = {"plain": {"share": 1e-9}, "careful": {"share": 1 - 1e-9, "parameters": {"dislike_aversion": 50.0}}}
    raw = {"variants": held, "status": "draft"}
    client = serve(experiments=Experiments({"held": parse_experiment("held", raw)}))
    wanted, plain = items(client, "1", k=9, dislike_aversion=3.0), items(client, "1", k=9)
    client.engine.experiments.change("held", status="running")  # type: ignore[attr-defined]
    assert items(client, "1", k=9) != plain
    assert items(client, "1", k=9, dislike_aversion=3.0) == wanted


def test_an_item_is_announced_with_its_features(serve: Make) -> None:
    client = serve()
    announced = client.put("/v1/items/new", json={"features": {"genre": ["drama", "crime"], "year": 1999}})
    assert (announced.status_code, announced.json()["features"]["year"]) == (200, 1999)
    with client.engine.trainer.reading() as (state, _):  # type: ignore[attr-defined]
        assert state.announced()["item"] == {state.items.id_of("new"): {"genre": ["drama", "crime"], "year": 1999}}
    refused = client.put("/v1/items/other", json={"features": {"genre": {"a": 1}}})
    assert refused.status_code == 422
    known = items(client, "1")[0]
    held = {"withdrawn": True, "tags": ["a"]}
    assert client.put(f"/v1/items/{known}", json=held).json() == held
    again = client.put(f"/v1/items/{known}", json={"features": {"year": 2}})
    assert again.json() == {**held, "features": {"year": 2}}  # an announcement leaves the rest as it is, as by an event
    assert client.get(f"/v1/items/{known}").json() == held
    assert "expected text, numbers, or a list" in refused.json()["detail"]
    event = {"type": "item", "item_id": "third", "timestamp": 1_700_000_000_000, "features": {"year": 1}}
    assert client.post("/v1/events", json={"events": [event]}).json()["accepted"] == 1


def test_a_user_is_announced_with_its_features_and_forgotten(serve: Make) -> None:
    client = serve()
    for country in ("NO", "IT"):
        announced = client.put("/v1/users/new", json={"features": {"country": country, "age": 30}})
        assert (announced.status_code, announced.json()["features"]["country"]) == (200, country)
    with client.engine.trainer.reading() as (state, _):  # type: ignore[attr-defined]
        assert state.announced()["user"] == {state.users.id_of("new"): {"country": "IT", "age": 30}}
    refused = client.put("/v1/users/other", json={"features": {"country": {"a": 1}}})
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("The user can't be announced: ")
    assert client.put("/v1/users/other", json={}).status_code == 422
    assert client.put("/v1/users/" + "x" * 300, json={"features": {}}).status_code == 422
    event = {"type": "user", "user_id": "third", "features": {"age": 1}}
    assert client.post("/v1/events", json={"events": [event]}).json()["accepted"] == 1
    assert client.delete("/v1/users/new").json()["accepted"] == 1
    with client.engine.trainer.reading() as (state, _):  # type: ignore[attr-defined]
        assert state.announced()["user"] == {state.users.id_of("third"): {"age": 1}}


def test_an_announced_user_gets_lists_and_explanations_by_its_features(
    prepare_model: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "dataset" / "small"
    folder.mkdir(parents=True)
    users = [f"{user}\tc{user % 5}" for user in range(60)]
    (folder / "small.user").write_text("\n".join(["user_id:token\tcountry:token", *users]) + "\n")
    given = {"auto": False, "rank": 8, "cutoff": 4, "features": {"user": "all"}, "dislike_aversion": 0.5}
    model, config, parts = prepare_model("SSF", online_state=str(tmp_path / "state"), **given)
    trainer = OnlineTrainer(config, model)
    trainer.fit(parts[0], saved=False, show_progress=False)
    engine = Engine(trainer)
    client = TestClient(make_app(engine))
    strangers = client.get("/v1/users/new/recommendations").json()
    assert not strangers["known_user"]
    client.put("/v1/users/new", json={"features": {"country": "c3"}}).raise_for_status()
    answer = client.get("/v1/users/new/recommendations").json()
    assert answer["known_user"]
    assert [each["item"] for each in answer["items"]] != [each["item"] for each in strangers["items"]]
    best = answer["items"][0]
    why = client.get(f"/v1/users/new/explain/{best['item']}").json()
    assert why["contributions"] == []
    assert why["from_features"]
    assert why["score"] == pytest.approx((why["from_features"] + why["prior"]) * why["factor"], rel=1e-4)
    assert why["score"] == pytest.approx(best["score"], rel=1e-4)
    assert "country c3" in why["sentence"]
    refused = client.put("/v1/users/other", json={"features": {"cuntry": "c3"}}).json()
    assert "no feature 'cuntry' of users; did you mean 'country'?" in refused["detail"]
    client.delete("/v1/users/new").raise_for_status()
    again = client.get("/v1/users/new/recommendations").json()
    assert [each["item"] for each in again["items"]] == [each["item"] for each in strangers["items"]]
    engine.close()
    trainer.close()


def test_sessions_and_many_users(serve: Make) -> None:
    client = serve()
    body = {"users": [{"user_id": "1"}, {"likes": ["3", "5"], "dislikes": ["7"]}, {}], "k": 5}
    answers = client.post("/v1/recommendations", json=body).json()["answers"]
    assert [each["item"] for each in answers[0]["items"]] == items(client, "1", k=5)
    session = [each["item"] for each in answers[1]["items"]]
    assert len(session) == 5
    assert not {"3", "5", "7"} & set(session)
    assert not answers[2]["known_user"]
    # folded in as a user with the same edges would be
    for item, kind in (("3", "like"), ("5", "like"), ("7", "dislike")):
        send(client, "same", item, kind)
    live = client.get("/v1/users/same/recommendations?k=50").json()["items"]
    again = client.post("/v1/recommendations", json={**body, "users": [body["users"][1]], "k": 50}).json()["answers"][0]
    scores = {each["item"]: each["score"] for each in live}
    for each in again["items"]:
        assert each["score"] == pytest.approx(scores[each["item"]], rel=1e-3, abs=1e-4)


def test_verdicts_beside_a_user_id_are_refused(serve: Make) -> None:
    client = serve()
    body = {"users": [{"user_id": "1", "likes": ["3"]}], "k": 5}
    refused = client.post("/v1/recommendations", json=body)
    assert (refused.status_code, "leave out likes and dislikes" in refused.json()["detail"]) == (422, True)
    assert client.post("/v1/recommendations", json={"users": [{"user_id": "1", "likes": []}]}).status_code == 200


def test_an_audience_is_as_long_as_asked_for_or_refused(tmp_path: Path) -> None:
    users, things = [f"u{i}" for i in range(1, 142)], [f"i{i}" for i in range(1, 9)]
    number = np.arange(1, 142)
    edges = (number, number % 7 + 1, np.full(141, LIKE, dtype=np.int8), NOW + number)
    trainer = OnlineRecommender.begin(tmp_path / "state", make_learner("Pop"), users, things, edges)
    engine = Engine(trainer, ServeSettings.model_validate({"limits": {"k": 200}}))
    client = TestClient(make_app(engine))
    try:
        assert len(client.get("/v1/items/i8/audience?k=120").json()["users"]) == 120
        refused = client.get("/v1/items/i8/audience?k=201")
        assert (refused.status_code, refused.json()["detail"]) == (422, "k is 201; at most 200 are served.")
    finally:
        engine.close()
        trainer.close()


@pytest.mark.parametrize("model", ["Pop", "SSF"])
def test_items_of_equal_scores_stand_in_one_order(model: str, tmp_path: Path) -> None:
    trainer = begin(tmp_path / "state", model)
    engine = Engine(trainer)
    client = TestClient(make_app(engine))
    try:
        for user in ("u1", "nobody"):
            whole = items(client, user, k=30)
            for k in range(1, len(whole)):
                assert items(client, user, k=k) == whole[:k]
            assert items(client, user, k=30, exclude=whole[:2]) == whole[2:]
        if model == "Pop":  # nothing but the item itself changes
            before = items(client, "u1", k=6)
            send(client, "u1", before[2], "dislike")
            effect = client.get("/v1/users/u1/last-dislike?k=5").json()
            assert effect == {"item": before[2], "gone": [before[2]], "come": [before[5]]}
    finally:
        engine.close()
        trainer.close()


def test_a_list_that_can_not_be_explained_is_no_impression(tmp_path: Path) -> None:
    trainer = begin(tmp_path / "state", "Pop")
    engine = Engine(trainer, folder=tmp_path / "state")
    refused = TestClient(make_app(engine)).get("/v1/users/u1/recommendations?k=5&explain=true")
    assert (refused.status_code, "can't explain" in refused.json()["detail"]) == (422, True)
    assert engine.telemetry.total(engine.telemetry.impressions) == 0
    assert engine.impressions is not None
    engine.impressions.close()
    engine.impressions = None
    assert engine.traffic is not None
    assert engine.traffic.added() == 0
    engine.close()
    trainer.close()


def test_a_session_of_unknown_items_alone_is_nobody(serve: Make) -> None:
    body = {"users": [{"likes": ["never seen"]}, {}], "k": 5}
    unknown, nobody = serve().post("/v1/recommendations", json=body).json()["answers"]
    assert unknown["items"] == nobody["items"]
    assert not unknown["known_user"]


def test_ids_in_a_body_may_be_whole_numbers_as_in_events(serve: Make) -> None:
    client = serve()

    def lists(*users: Any, **body: Any) -> list[Any]:
        answer = client.post("/v1/recommendations", json={"users": users, "k": 5, **body})
        assert answer.status_code == 200, answer.text
        return [each["items"] for each in answer.json()["answers"]]

    numbers = lists({"user_id": 1}, {"likes": [3, 5], "dislikes": [7]}, exclude=[2], include_only=[1, 2, 4, 6, 8])
    texts = lists({"user_id": "1"}, {"likes": ["3", "5"], "dislikes": ["7"]}, exclude=["2"], include_only=[*"12468"])
    assert numbers == texts
    for wrong in (1.5, True, None, ""):
        refused = client.post("/v1/recommendations", json={"users": [{"likes": [wrong]}]})
        assert refused.status_code == 422, wrong


def test_what_is_no_json_object_is_said_in_words_of_json(serve: Make) -> None:
    client = serve()

    def detail(content: str, kind: str) -> str:
        answer = client.post("/v1/recommendations", content=content, headers={"content-type": kind})
        assert answer.status_code == 422
        return str(answer.json()["detail"])

    whole = json.dumps({"users": [{"user_id": "1"}]})
    for kind in ("application/x-www-form-urlencoded", "text/plain", ""):  # the first is what curl -d sends
        assert "Content-Type: application/json" in detail(whole, kind)
    assert detail("[]", "application/json").startswith('body: An object was expected, such as {"users": [')
    bare = client.post("/v1/events", json=[{"user_id": "1", "item_id": "1", "type": "like"}]).json()["detail"]
    assert bare.startswith('body: An object was expected, such as {"events": [{"user_id": ')
    assert detail('{"users": ["1"]}', "text/plain; a=b").startswith("body: It is not taken for JSON")
    assert detail('{"users": ["1"]}', "application/json").startswith("body.users.0: An object was expected")


def test_what_is_not_allowed_names_what_is(serve: Make) -> None:
    client = serve()
    for path, allowed in (("users/1", "DELETE, GET, PUT"), ("models", "GET, POST"), ("popular", "GET")):
        refused = client.patch(f"/v1/{path}")
        assert (refused.status_code, refused.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"events": [' + b"9" * 5000 + b"]}", b'{"events": ["\xff"]}'])
def test_a_body_that_the_reader_of_json_gives_up_is_refused(serve: Make, body: bytes) -> None:
    refused = serve().post("/v1/events", content=body, headers={"content-type": "application/json"})
    assert (refused.status_code, refused.json()["detail"][:24]) == (400, "The body is no JSON in U")


def test_no_page_loads_anything_of_a_foreign_host(serve: Make) -> None:
    client = serve()
    for path in ("/", "/docs"):
        page = client.get(path)
        assert page.status_code == 200
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page.text)
    assert client.get("/redoc").status_code == 404


def test_a_path_or_method_that_is_not_there_names_the_page_of_those_that_are(serve: Make) -> None:
    client = serve()
    assert client.get("/v1/user/1").json()["detail"] == "Not Found; /docs lists the routes."
    assert client.get("/v1/events").json()["detail"] == "Method Not Allowed; /docs lists the routes."


def test_the_last_feedback_of_a_session_counts(serve: Make) -> None:
    client = serve()

    def session(*feedback: tuple[str, str]) -> list[Any]:
        rows = [{"FeedbackType": kind, "UserId": "g", "ItemId": item} for kind, item in feedback]
        return client.post("/api/session/recommend?n=50", json=rows).json()

    assert session(("dislike", "3"), ("like", "3")) == session(("like", "3"))
    # what is near a dislike falls while it is the newest verdict
    assert session(("dislike", "3"), ("like", "5")) != session(("like", "5"), ("dislike", "3"))


@pytest.mark.parametrize("name", ["SSF", "BPR"])
def test_a_session_is_no_user_whose_features_or_embedding_the_model_has(
    name: str, prepare_model: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "dataset" / "small"
    folder.mkdir(parents=True)
    users = [f"{user}\tc{user % 5}" for user in range(60)]
    (folder / "small.user").write_text("\n".join(["user_id:token\tcountry:token", *users]) + "\n")
    more = {"auto": False, "rank": 8, "features": {"user": "all"}} if name == "SSF" else {"epochs": 2}
    model, config, parts = prepare_model(name, online_state=str(tmp_path / "state"), **more)
    trainer = OnlineTrainer(config, model)
    trainer.fit(parts[0], saved=False, show_progress=False)
    engine = Engine(trainer)
    client = TestClient(make_app(engine))
    for item, kind in (("3", "like"), ("5", "like"), ("7", "dislike")):
        send(client, "somebody", item, kind)
    for user, verdicts in (("nobody", []), ("somebody", [("3", LIKE), ("5", LIKE), ("7", DISLIKE)])):
        session, live = engine.session(verdicts, 9).items, engine.recommend(user, 9).items
        assert [item for item, _ in session] == [item for item, _ in live]
        assert [score for _, score in session] == pytest.approx([score for _, score in live], rel=1e-4)
    engine.close()
    trainer.close()


def test_explanations_add_up(serve: Make) -> None:
    client = serve()
    first = items(client, "1", k=1)[0]
    why = client.get(f"/v1/users/1/explain/{first}").json()
    added = sum(each["contribution"] for each in why["contributions"]) + why["from_features"]
    total = (added + why["prior"]) * why["factor"]
    assert why["score"] == pytest.approx(total, rel=1e-4)
    assert first in why["sentence"]
    listed = client.get("/v1/users/1/recommendations?k=1&explain=true").json()["items"][0]
    assert listed["why"]["sentence"] == why["sentence"]
    held = {name: {"share": 0.5, "parameters": {"dislike_aversion": value}} for name, value in (("a", 2.0), ("b", 4.0))}
    client.put("/v1/experiments/held", json={"variants": held}).raise_for_status()
    for query in ("", "&dislike_aversion=3"):
        for each in client.get(f"/v1/users/1/recommendations?k=5&explain=true{query}").json()["items"]:
            assert each["why"]["score"] == pytest.approx(each["score"], rel=1e-4)
    audience = client.get(f"/v1/items/{first}/audience?k=3").json()["users"]
    assert len(audience) == 3
    assert audience[0]["percentile"] >= audience[2]["percentile"]


def test_what_is_held_of_a_user_is_told_until_it_is_forgotten(serve: Make, tmp_path: Path) -> None:
    client = serve()
    engine = client.engine  # type: ignore[attr-defined]
    stranger = {"user": "a/b", "known": False, "edges": [], "impressions": 0, "seq": engine.seq}
    assert client.get("/v1/users/a%2Fb").json() == stranger
    announced = {"country": "NO", "age": 30}
    client.put("/v1/users/a%2Fb", json={"features": announced}).raise_for_status()
    first, second = items(client, "a%2Fb", k=2)
    send(client, "a/b", first, "like", timestamp=NOW)
    send(client, "a/b", second, "dislike", timestamp=NOW + 1)
    send(client, "a/b", "a new item", "view", timestamp=NOW - 1)
    deadline = time.monotonic() + 60
    while engine.traffic.holding("a/b") < 2 and time.monotonic() < deadline:  # they are written in the background
        time.sleep(0.01)
    expected = {
        "user": "a/b",
        "known": True,
        "edges": [
            {"item": second, "type": "dislike", "timestamp": NOW + 1},
            {"item": first, "type": "like", "timestamp": NOW},
            {"item": "a new item", "type": "view", "timestamp": NOW - 1},
        ],
        "features": announced,
        "impressions": 2,
        "seq": engine.seq,
    }
    assert client.get("/v1/users/a%2Fb").json() == expected
    replica = OnlineReplica(tmp_path / "state")
    reader = Engine(replica, folder=tmp_path / "state")
    assert TestClient(make_app(reader)).get("/v1/users/a%2Fb").json() == expected
    assert reader.status()["pending_erasure"] is None
    reader.close()
    replica.close()
    assert not any(client.get("/v1/status").json()["pending_erasure"].values())
    assert client.delete("/v1/users/a%2Fb").json()["accepted"] == 1
    assert client.get("/v1/users/a%2Fb").json() == {**stranger, "seq": engine.seq}
    left = client.get("/v1/status").json()["pending_erasure"]
    assert left["factors"] <= 1
    engine.trainer.refit().result()
    engine.trainer.erase()
    assert client.get("/v1/status").json()["pending_erasure"] == {
        "rows": 0,
        "factors": 0,
        "reasons": [],
        "since": None,
    }
    assert "recbole_signed_pending_erasures 0.0" in client.get("/metrics").text


def test_a_forgotten_user_is_unknown(serve: Make, tmp_path: Path) -> None:
    client = serve()
    client.get("/v1/users/1/recommendations")
    assert client.delete("/v1/users/1").json()["accepted"] == 1
    answer = client.get("/v1/users/1/recommendations").json()
    assert not answer["known_user"]
    assert [each["item"] for each in answer["items"]] == items(client, "nobody")


def test_what_a_user_said_newest_first(serve: Make) -> None:
    client = serve()
    for n, (item, kind) in enumerate([("3", "like"), ("5", "dislike"), ("7", "like"), ("3", "unlike"), ("9", "view")]):
        written = send(client, "n/1", item, kind, timestamp=NOW + n)
    path = "/v1/users/n%2F1/verdicts"
    answer = client.get(path, params={"min_seq": written["seq"]}).json()
    newest = [
        {"item": "7", "sign": "like", "timestamp": NOW + 2},
        {"item": "5", "sign": "dislike", "timestamp": NOW + 1},
    ]
    assert answer == {"verdicts": newest, "total": 2, "seq": written["seq"]}
    assert client.get(f"{path}?k=1").json()["verdicts"] == newest[:1]
    assert client.get(f"{path}?sign=dislike").json() == {**answer, "verdicts": newest[1:], "total": 1}
    assert client.get("/v1/users/nobody/verdicts").json()["verdicts"] == []
    for wrong in ("k=0", "k=1000000", "sign=view", "signs=like"):
        assert client.get(f"{path}?{wrong}").status_code == 422


@pytest.mark.parametrize("erase", ["/v1/users/u", "/api/user/u", None])
def test_a_user_who_came_back_under_a_clock_that_was_ahead_can_be_forgotten(serve: Make, erase: str | None) -> None:
    client = serve()
    trainer = client.engine.trainer  # type: ignore[attr-defined]
    ahead = round(time.time() * 1000) + 100_000
    send(client, "u", "1", "like", timestamp=ahead)
    trainer.forget("u", ahead)
    send(client, "u", "2", "like", timestamp=ahead + 1)
    assert client.get("/v1/users/u/recommendations").json()["known_user"]
    if erase is None:
        assert send(client, "u", "", "forget_user")["accepted"] == 1
    else:
        client.delete(erase).raise_for_status()
    assert not client.get("/v1/users/u/recommendations").json()["known_user"]


def test_what_is_not_forgotten_or_taken_back_is_an_error(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serve()
    send(client, "u2", "5", "like")
    monkeypatch.setattr(Arrivals, "times", lambda *_: {})  # a row without a time is refused
    for path in ("/v1/users/u2/verdicts/5?sign=like", "/api/feedback/like/u2/5"):
        refused = client.delete(path)
        assert (refused.status_code, "can't be taken back" in refused.json()["detail"]) == (409, True)
    for path in ("/v1/users/u", "/api/user/u"):
        refused = client.delete(path)
        assert refused.status_code == 409
        assert "can't be forgotten: timestamp" in refused.json()["detail"]


def test_what_is_not_utf_8_is_no_id(serve: Make) -> None:
    client = serve()
    send(client, "a\ufffd", "1", "like")
    for path in ("/v1/users/a%FF", "/v1/users/a%ED%A0%80", "/v1/users/a%C3"):
        refused = client.delete(path)
        assert refused.status_code == 400, path
        assert "percent-encoded UTF-8" in refused.json()["detail"]
    assert client.get("/v1/users/1/recommendations?exclude=%FF").status_code == 400
    assert client.get("/v1/users/a%EF%BF%BD/recommendations").json()["known_user"]


def test_a_user_whose_id_is_longer_than_the_limit_can_be_read_and_forgotten(serve: Make) -> None:
    client, user = serve(limits={"id_length": 9}), "x" * 300
    client.engine.trainer.update([Event("", user, "1", "like", 1_700_000_000_000)])  # type: ignore[attr-defined]
    assert client.get(f"/v1/users/{user}/recommendations").json()["known_user"]
    assert client.put(f"/v1/users/{user}", json={"features": {}}).status_code == 422
    assert client.put("/v1/items/" + "x" * 10, json={"withdrawn": True}).status_code == 422
    assert client.delete(f"/v1/users/{user}").json()["accepted"] == 1
    assert not client.get(f"/v1/users/{user}/recommendations").json()["known_user"]


def test_versions(serve: Make) -> None:
    client = serve()
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
    assert (missing.status_code, missing.headers["content-type"]) == (422, "application/problem+json")
    assert "no version 'v000099'" in missing.json()["detail"]


def test_experiments_through_the_api(serve: Make, tmp_path: Path) -> None:
    experiments = Experiments.read(tmp_path / "experiments.yaml")
    client = serve(experiments=experiments)
    body = {
        "variants": {"plain": {"share": 0.5}, "careful": {"share": 0.5, "parameters": {"dislike_aversion": 4.0}}},
    }
    assert client.put("/v1/experiments/aversion", json=body).status_code == 200
    seen = {client.get(f"/v1/users/{user}/recommendations").json()["variant"] for user in range(1, 30)}
    assert seen == {"aversion=plain", "aversion=careful"}
    for user in range(1, 30):
        send(client, str(user), items(client, str(user), k=1)[0], "like" if user % 3 else "dislike")
    client.engine.impressions.close()  # type: ignore[attr-defined]
    report = client.get("/v1/experiments/aversion/report").json()
    assert report["control"] == "plain"
    assert sum(each["users"] for each in report["variants"].values()) == 29
    assert sum(each["likes"] + each["dislikes"] for each in report["variants"].values()) > 20
    client.engine.impressions = None  # type: ignore[attr-defined]
    assert client.patch("/v1/experiments/aversion", json={"status": "stopped"}).json()["status"] == "stopped"
    assert client.get("/v1/users/1/recommendations").json()["variant"] == ""
    assert Experiments.read(tmp_path / "experiments.yaml")["aversion"].status == "stopped"
    assert client.put("/v1/experiments/x", json={"variants": {"a": {"share": 1}}}).status_code == 422
    assert client.get("/v1/experiments/none/report").status_code == 422


def test_an_experiment_that_does_not_run_can_be_removed(serve: Make, tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    client = serve(experiments=Experiments.read(path))
    body = {"variants": {"a": {"share": 0.5}, "b": {"share": 0.5}}}
    for name in ("old", "kept"):
        client.put(f"/v1/experiments/{name}", json=body).raise_for_status()
    running = client.delete("/v1/experiments/old")
    assert (running.status_code, running.json()["detail"]) == (422, "the experiment 'old' is running; stop it first.")
    client.patch("/v1/experiments/old", json={"status": "stopped"}).raise_for_status()
    assert client.delete("/v1/experiments/old").status_code == 204
    assert list(client.get("/v1/experiments").json()) == [name for name, _ in Experiments.read(path)] == ["kept"]
    assert client.delete("/v1/experiments/old").status_code == 422


def test_the_writer_follows_its_file_of_experiments_as_replicas_do(
    serve: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recbole_signed.serve.answers.SECOND", 0.0)
    path = tmp_path / "experiments.yaml"
    client = serve(experiments=Experiments.read(path))
    path.write_text("experiments: {mine: {variants: {a: {share: 0.5}, b: {share: 0.5}}}}")
    assert client.get("/v1/users/1/recommendations").json()["variant"] in ("mine=a", "mine=b")
    path.write_text(path.read_text().replace("mine:", "other:"))
    assert list(client.get("/v1/experiments").json()) == ["other"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("items/x", {"features": {"genre": "\ud800"}}),
        ("users/x", {"features": {"\ud800": "drama"}}),
        ("experiments/x", {"variants": {"a": {"share": 0.5}, "b": {"share": 0.5}}, "salt": "\ud800"}),
        ("experiments/x", {"variants": {"a": {"share": 0.5}, "\ud800": {"share": 0.5}}}),
        ("experiments/x", {"variants": {"a": {"share": 0.5}, "b": {"share": 0.5, "parameters": {"\ud800": 1}}}}),
    ],
)
def test_halves_of_utf_16_pairs_are_refused(path: str, body: dict[str, Any], serve: Make) -> None:
    client = serve()
    answer = client.put(f"/v1/{path}", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"]
    assert items(client, "1", k=3)
    assert client.get("/v1/experiments").json() == {}


def test_interleaved_lists(serve: Make) -> None:
    variants = {"ours": {"share": 0.5}, "popular": {"share": 0.5, "model": "popularity"}}
    mix = parse_experiment("mix", {"variants": variants, "interleave": True})
    client = serve(experiments=Experiments({"mix": mix}))
    answer = client.get("/v1/users/1/recommendations?k=10").json()
    teams = [each["variant"] for each in answer["items"]]
    assert sorted(set(teams)) == ["ours", "popular"]
    assert abs(teams.count("ours") - teams.count("popular")) <= 1


def test_items_of_an_interleaved_list_are_explained_by_the_variant_that_they_are_from(serve: Make) -> None:
    for other in ({"model": "popularity"}, {"parameters": {"dislike_aversion": 5.0}}):
        variants = {"ours": {"share": 0.5}, "other": {"share": 0.5, **other}}
        mix = parse_experiment("mix", {"variants": variants, "interleave": True})
        client = serve(experiments=Experiments({"mix": mix}))
        listed = client.get("/v1/users/1/recommendations?k=10&explain=true").json()["items"]
        for each in listed:
            if "model" in other and each["variant"] == "other":
                assert "why" not in each
            else:
                assert each["why"]["score"] == pytest.approx(each["score"], rel=1e-4)
        assert {each["variant"] for each in listed} == {"ours", "other"}


def test_dislikes_are_held_against_the_impressions_of_all_processes(serve: Make, tmp_path: Path) -> None:
    client = serve()
    engine = client.engine  # type: ignore[attr-defined]
    item = items(client, "1", k=2)[0]
    replica = TrafficLog(tmp_path / "state" / "traffic.sqlite")
    replica.write([Shown("r", "2", [f"i{i}" for i in range(8)], round(time.time() * 1000), "v", [[]])])
    replica.close()
    send(client, "1", item, "dislike")
    engine.impressions.close()
    engine.impressions = None
    assert engine.gauges()["dislikes_per_impression"][1] == 1 / 10


def test_a_list_that_is_looked_at_is_no_impression(serve: Make) -> None:
    client = serve()
    engine = client.engine  # type: ignore[attr-defined]
    assert items(client, "1", k=5, log=False) == items(client, "1", k=5)
    engine.impressions.close()
    engine.impressions = None
    assert engine.traffic.added() == engine.telemetry.total(engine.telemetry.impressions) == 5


def test_a_verdict_from_before_an_impression_is_no_outcome_of_it(serve: Make) -> None:
    client = serve()
    early, slow, prompt = items(client, "1", k=3)
    now = int(time.time() * 1000)
    send(client, "1", early, "like", timestamp=now - 120_000)
    send(client, "1", slow, "like", timestamp=now - 5_000)  # by a clock that lags
    send(client, "1", prompt, "like")
    engine = client.engine  # type: ignore[attr-defined]
    engine.impressions.close()
    engine.impressions = None
    assert set(engine.traffic._query("SELECT item FROM impression WHERE like", ())) == {(slow,), (prompt,)}


def test_parameters_of_a_request_hold_in_interleaved_lists(serve: Make) -> None:
    variants = {"one": {"share": 0.5}, "same": {"share": 0.5}}
    mix = parse_experiment("mix", {"variants": variants, "interleave": True})
    plain, mixed = serve(), serve(experiments=Experiments({"mix": mix}))
    differ = 0
    for user in ("1", "2", "3"):
        careful = items(plain, user, k=10, dislike_aversion=5.0)
        differ += careful != items(plain, user, k=10)
        assert items(mixed, user, k=10, dislike_aversion=5.0) == careful
    assert differ


def test_experiments_must_fit_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users, things = [f"u{i}" for i in range(1, 13)], [f"i{i}" for i in range(1, 9)]
    user, item = np.divmod(np.arange(60), 5)
    edges = (user + 1, item + 1, np.full(60, LIKE, dtype=np.int8), NOW + np.arange(60))
    trainer = OnlineRecommender.begin(tmp_path / "ease", make_learner("SignedEASE"), users, things, edges)
    variants = {"plain": {"share": 0.5}, "careful": {"share": 0.5, "parameters": {"dislike_aversion": 1.0}}}
    careful = parse_experiment("careful", {"variants": variants})
    with pytest.raises(UsageError, match="'careful' of the experiment 'careful' does not fit the model: SignedEASE"):
        Engine(trainer, experiments=Experiments({"careful": careful}))
    engine = Engine(trainer)
    client = TestClient(make_app(engine))
    refused = client.put("/v1/experiments/careful", json={"variants": variants})
    assert (refused.status_code, "no parameter 'dislike_aversion'" in refused.json()["detail"]) == (422, True)
    assert client.get("/v1/experiments").json() == {}
    # whatever goes wrong with the list of one user, events are taken
    monkeypatch.setattr(engine.experiments, "assign", lambda user, known: [Assignment("x", "y", 1.0, variant)])
    variant = careful.variants["careful"]
    events = [{"user_id": user, "item_id": "i8", "type": "like"} for user in users]
    assert client.post("/v1/events", json={"events": events}).json()["accepted"] == len(events)
    engine.close()
    trainer.close()


def test_live_quality_and_metrics(serve: Make) -> None:
    client = serve()
    for user in ("1", "2", "3"):
        send(client, user, items(client, user, k=1)[0], "like")
    quality = client.get("/v1/quality").json()
    assert quality["windows"]["hour"]["all"]["recall"] == 1.0
    assert quality["windows"]["hour"]["all"]["likes"] == 3
    assert set(client.get("/v1/quality?by=group").json()["windows"]["hour"]) <= {"new", "light", "heavy"}
    text = client.get("/metrics").text
    for name in (
        'events_total{result="accepted"} 3.0',
        "event_to_visible_seconds_count 3.0",
        "request_seconds_bucket",
        'quality_recall{version="SSF@',
        "resident_memory_bytes",
    ):
        assert name in text or name.split("{")[0] in text, name
    status = client.get("/v1/status").json()
    assert status["edges"] > 0
    assert status["visible_p99"] > 0
    assert client.get("/readyz").json()["ready"]
    assert client.get("/healthz").text == "ok"
    assert "recbole-signed" in client.get("/").text


def test_limits_and_problems(serve: Make) -> None:
    client = serve(limits={"k": 10, "batch": 2, "body_bytes": 2000, "requests_per_second": 1000})
    too_many = client.post("/v1/events", json={"events": [{}, {}, {}]})
    assert too_many.status_code == 413
    large = client.post("/v1/events", json={"events": [{"user_id": "x" * 3000}]})
    assert (large.status_code, large.headers["content-type"]) == (413, "application/problem+json")
    for path in (
        "users/1/recommendations?k=11",
        "users/1/recommendations?k=0",
        "items/none/similar",
        "users/1/explain/none",
    ):
        refused = client.get(f"/v1/{path}")
        assert refused.status_code == 422, path
        assert set(refused.json()) == {"type", "title", "status", "detail"}
    assert client.post("/v1/events", content=b"{").status_code == 422
    assert client.get("/v1/nothing").status_code == 404
    behind = client.get("/v1/users/1/recommendations?k=5&min_seq=999999")
    assert (behind.status_code, behind.headers["retry-after"]) == (409, "1")


def test_parameters_that_a_route_does_not_have_are_refused(serve: Make) -> None:
    client = serve()
    for path, name in (
        ("v1/users/1/recommendations?exclud=3", "'exclud' here; did you mean 'exclude'?"),
        ("v1/users/1/recommendations?tag=a&k=3", "'tag' here; did you mean 'tags'?"),
        ("v1/quality?since=1", "'since' here; "),
        ("api/recommend/1?n=3&offset=3", "'offset' here; /docs lists"),
        ("api/recommend/1?write-back-type=read", "'write-back-type' here"),
    ):
        refused = client.get(f"/{path}")
        assert (refused.status_code, name in refused.json()["detail"]) == (422, True), refused.text
    assert len(client.get("/api/recommend/1?n=3&offset=0").json()) == 3
    assert client.get("/readyz?probe=1").status_code == client.get("/metrics?a=b").status_code == 200


def test_a_full_queue_answers_429(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serve(limits={"queue": 1})
    writer = client.engine.writer  # type: ignore[attr-defined]
    monkeypatch.setattr(writer, "waiting", 1)
    refused = client.post("/v1/events", json={"events": [{"user_id": "1", "item_id": "1", "type": "like"}]})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert not client.get("/readyz").json()["ready"]
    unready = client.get("/api/health/ready")
    assert (unready.status_code, unready.json()) == (503, {"Ready": False})


def test_what_the_disk_refuses_is_no_fault_of_the_request(
    serve: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(experiments=Experiments.read(tmp_path / "experiments.yaml"))
    engine = client.engine  # type: ignore[attr-defined]

    def full(*_: Any, **__: Any) -> None:
        raise UsageError("Writing the log failed: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(engine.trainer, "ingest", full)
        refused = client.post("/v1/events", json={"events": [{"user_id": "1", "item_id": "1", "type": "like"}]})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "No space left" in refused.json()["detail"]
        assert client.put("/v1/users/x", json={"features": {}}).status_code == 503

    def no_room(step: str) -> None:
        raise OSError(28, "No space left on device")

    body = {"variants": {"a": {"share": 0.5}, "b": {"share": 0.5}}}
    assert client.put("/v1/experiments/kept", json=body).status_code == 200
    with monkeypatch.context() as patch:
        patch.setattr("recbole_signed.files.reached", no_room)
        for method, path, given in (
            ("POST", "models", None),
            ("PUT", "experiments/other", body),
            ("PATCH", "experiments/kept", {"status": "stopped"}),
        ):
            refused = client.request(method, f"/v1/{path}", json=given)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1"), path
            assert "No space left" in refused.json()["detail"]
    assert client.get("/v1/experiments").json().keys() == {"kept"}
    engine.catalogue._db.execute("PRAGMA query_only = ON")
    refused = client.put("/v1/items/1", json={"tags": ["a"]})
    assert (refused.status_code, "can't be kept" in refused.json()["detail"]) == (503, True)
    assert client.get("/v1/items/1").json()["tags"] == []


def test_clients_are_not_told_where_files_of_the_service_are(
    serve: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = tmp_path / "state" / "experiments.yaml"
    client = serve(experiments=Experiments.read(kept), backup=tmp_path / "copies" / "ratings")
    engine = client.engine  # type: ignore[attr-defined]
    maintenance = Maintenance(engine, engine.settings.schedule)
    told = TestClient(make_app(engine, maintenance=maintenance))

    unknown = client.post("/v1/models/v99/activate")
    assert unknown.json()["detail"].startswith("There is no version 'v99' in versions; ")
    assert f"in {tmp_path}" in caplog.text
    kept.write_text("experiments: [")
    body = {"variants": {"a": {"share": 0.5}, "b": {"share": 0.5}}}
    texts = [client.put("/v1/experiments/x", json=body).text]
    (tmp_path / "copies").write_text("a file where the folder of backups would be")
    assert maintenance.run("backup").error is not None
    texts.append(told.get("/v1/status").text)
    engine.trainer.state.log.connection.execute("PRAGMA query_only = ON")  # as on a full disk
    refused = client.post("/v1/events", json={"events": [{"user_id": "1", "item_id": "1", "type": "like"}]})
    assert (refused.status_code, "(log.sqlite)" in refused.json()["detail"]) == (503, True)
    assert "Events can't be taken: Appending to the event log failed" in caplog.text
    texts += [refused.text, client.get("/readyz").text]
    assert all("failed" in each or "not" in each for each in texts)
    assert not [each for each in texts if str(tmp_path) in each]
    named = client.get(f"/v1/items/{quote(f'a{tmp_path}/state/b', safe='')}/similar").json()["detail"]
    assert named.startswith(f"there is no item 'a{tmp_path}/state/b'")  # an id is told as it was given


def test_a_service_is_ready_again_once_its_disk_is(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_signed.serve.writer.PROBE", 0.05)
    client = serve()
    log = client.engine.trainer.state.log  # type: ignore[attr-defined]
    log.connection.execute("PRAGMA query_only = ON")  # as on a full disk
    event = {"user_id": "1", "item_id": "1", "type": "like"}
    assert client.post("/v1/events", json={"events": [event]}).status_code == 503
    time.sleep(0.2)
    assert client.get("/readyz").status_code == 503
    log.connection.execute("PRAGMA query_only = OFF")
    deadline = time.monotonic() + 30
    while client.get("/readyz").status_code == 503:  # nothing is sent to a service that is not ready
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert log.position("") is None
    assert client.post("/v1/events", json={"events": [event]}).json()["accepted"] == 1


def test_a_cancelled_request_does_not_end_the_writer(serve: Make) -> None:
    client = serve()
    engine = client.engine  # type: ignore[attr-defined]
    with engine.trainer.reading():  # the writer waits
        first = engine.writer.submit([{"user_id": "1", "item_id": "1", "type": "like", "timestamp": NOW}])
        deadline = time.monotonic() + 20
        while not first.running() and time.monotonic() < deadline:
            time.sleep(0.001)
        second = engine.writer.submit([{"user_id": "1", "item_id": "2", "type": "like", "timestamp": NOW}])
        assert not first.cancel()
        assert second.cancel()
    assert first.result(20).seq == 1
    assert send(client, "1", "3", "like")["seq"] == 2


def test_a_page_of_another_site_changes_nothing(serve: Make) -> None:
    client = serve()
    foreign = {"Origin": "http://other.example", "Sec-Fetch-Site": "cross-site"}
    refused = client.post("/v1/models", headers=foreign)
    assert (refused.status_code, "allow_origins" in refused.json()["detail"]) == (403, True)
    assert client.get("/v1/popular", headers=foreign).status_code == 200
    for path in ("/v1/users/1/recommendations", "/api/recommend/a%2Fb"):  # which would be kept as shown
        assert client.get(path, headers=foreign).status_code == 403
        assert client.get(path, headers={**foreign, "Sec-Fetch-Site": "same-site"}).status_code == 200
    assert client.post("/v1/models", headers={**foreign, "Sec-Fetch-Site": "same-origin"}).status_code == 201
    assert "frame-ancestors 'none'" in client.get("/").headers["content-security-policy"]
    for origins in (["http://other.example"], ["*"]):
        assert serve(allow_origins=origins).post("/v1/models", headers=foreign).status_code == 201


def test_a_service_without_keys_answers_under_local_names_alone() -> None:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from recbole_signed.serve.middleware import LocalHosts

    def status(host: str, also: tuple[str, ...] = ()) -> int:
        app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("here"))])
        app.add_middleware(LocalHosts, also=also)
        return TestClient(app).get("/", headers={"host": host}).status_code

    local = (
        "localhost",
        "localhost:8080",
        "localhost.",
        "LOCALHOST",
        "127.0.0.1:8080",
        "127.0.0.2",
        "[::1]:8080",
        "[::1]",
    )
    assert {status(host) for host in local} == {200}
    foreign = (
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "[::1",
        "1.2.3.4",
        "@",
    )
    assert {status(host) for host in foreign} == {421}
    assert status("Ratings.example:80", ("ratings.Example",)) == 200
    assert status("evil.example", ("ratings.example",)) == 421
    assert status("evil.example", ("*",)) == 200


def test_roles(serve: Make, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    made = {role: make_key(path, role) for role in ("read", "write", "admin")}
    client = serve(keys=path)
    event = {"events": [{"user_id": "1", "item_id": "1", "type": "like"}]}
    assert client.get("/v1/popular").status_code == 401
    assert client.get("/healthz").status_code == 200
    read = {"X-API-Key": made["read"]}
    assert client.get("/v1/popular", headers=read).status_code == 200
    assert client.post("/v1/events", json=event, headers=read).status_code == 403
    bearer = {"Authorization": f"Bearer {made['write']}"}
    assert client.post("/v1/events", json=event, headers=bearer).status_code == 200
    assert client.delete("/v1/users/1", headers=bearer).status_code == 403
    erasure = {"events": [*event["events"], {"user_id": "1", "type": "forget_user"}]}
    assert client.post("/v1/events", json=erasure, headers=bearer).status_code == 403
    assert client.get("/v1/users/1/recommendations", headers=read).json()["known_user"]
    admin = {"X-API-Key": made["admin"]}
    assert client.post("/v1/events", json=erasure, headers=admin).json()["accepted"] == 2
    assert client.delete("/v1/users/1", headers=admin).status_code == 200


def test_routes_of_gorse(serve: Make) -> None:
    client = serve()
    same = {"UserId": "g", "Timestamp": "2023-11-14T00:00:00Z"}
    kinds = {"star": "3", "dislike": "5", "read": "7"}
    rows = [{"FeedbackType": kind, "ItemId": item, **same} for kind, item in kinds.items()]
    assert client.post("/api/feedback", json=rows).json() == {"RowAffected": 3}
    found = client.get("/api/recommend/g?n=5").json()
    assert len(found) == 5
    assert not {"3", "5", "7"} & set(found)
    assert found == items(client, "g", k=5)
    assert client.delete("/api/feedback/dislike/g/5").json() == {"RowAffected": 1}
    assert client.delete("/api/feedback/read/g/7").json() == {"RowAffected": 0}
    session = client.post("/api/session/recommend?n=3", json=rows).json()
    assert [set(each) for each in session] == [{"Id", "Score"}] * 3
    assert len(client.get("/api/item/3/neighbors?n=2").json()) == 2
    assert len(client.get("/api/popular?n=2").json()) == 2
    assert client.get("/api/health/live").json() == {"Ready": True}
    assert client.get("/api/health/ready").json() == {"Ready": True}
    assert client.delete("/api/user/g").json() == {"RowAffected": 1}


def test_times_of_gorse_without_a_zone_are_in_utc(serve: Make) -> None:
    client = serve()
    for item, stamp in (("3", "2023-11-14"), ("5", "2023-11-14T22:13:20"), ("7", "2023-11-14T23:13:20+01:00")):
        row = {"FeedbackType": "star", "UserId": "g", "ItemId": item, "Timestamp": stamp}
        assert client.post("/api/feedback", json=[row]).json() == {"RowAffected": 1}, stamp
    with client.engine.trainer.reading() as (state, _):  # type: ignore[attr-defined]
        row = state.edges.of_user(state.users.id_of("g"))
        times = dict(zip(state.items.tokens(row.ids.tolist()), row.timestamp.tolist(), strict=True))
    assert times == {"3": NOW - 80_000_000, "5": NOW, "7": NOW}
    wrong = {"FeedbackType": "star", "UserId": "g", "ItemId": "9", "Timestamp": "14-11-2023"}
    refused = client.post("/api/feedback", json=[wrong])
    assert refused.status_code == 422
    assert "timestamp" in refused.json()["detail"]
    right = {**wrong, "Timestamp": "2023-11-14"}
    assert client.post("/api/feedback", json=[wrong, right]).json() == {"RowAffected": 1}


def test_folders_are_looked_up_again_where_the_register_of_backups_has_changed(
    serve: Make, trainer: OnlineTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, looked = serve().engine, list[Path]()  # type: ignore[attr-defined]
    monkeypatch.setattr("recbole_signed.serve.engine.noted", lambda state: looked.append(state) or noted(state))
    for _ in range(3):
        assert engine.without_folders(f"{tmp_path}/state/SEQ; {tmp_path}/copy/SEQ") == f"SEQ; {tmp_path}/copy/SEQ"
    assert len(looked) == 1
    trainer.back_up(tmp_path / "copy")
    assert engine.without_folders(f"{tmp_path}/state/SEQ; {tmp_path}/copy/SEQ") == "SEQ; SEQ"
    assert len(looked) == 2


@pytest.mark.parametrize("route", ["v1/users/1/verdicts/{}?sign=dislike", "api/feedback/dislike/1/{}"])
def test_a_verdict_whose_clock_is_ahead_is_taken_back(serve: Make, route: str) -> None:
    client = serve()
    before = items(client, "1", k=50)
    send(client, "1", before[0], "dislike", timestamp=int(time.time() * 1000) + 120_000)
    client.delete(f"/{route.format(before[0])}").raise_for_status()
    assert items(client, "1", k=50) == before


def test_what_has_no_time_follows_what_came_with_a_clock_that_is_ahead(serve: Make, trainer: OnlineTrainer) -> None:
    client = serve()
    ahead = int(time.time() * 1000) + 120_000

    def kinds(user: str = "u") -> list[str]:
        return [edge["type"] for edge in client.get(f"/v1/users/{user}").json()["edges"]]

    send(client, "u", "5", "like", timestamp=ahead)
    send(client, "u", "5", "dislike")
    assert kinds() == ["dislike"]
    client.delete("/v1/users/u/verdicts/5?sign=dislike").raise_for_status()
    assert kinds() == []
    send(client, "u", "5", "like")
    assert kinds() == ["like"]
    send(client, "u", "5", "dislike", timestamp=ahead - 1)  # one with a time is of that time
    assert kinds() == ["like"]
    again_and_again = [{"user_id": "u", "item_id": "9", "type": kind} for kind in ("like", "unlike", "like")]
    assert client.post("/v1/events", json={"events": again_and_again}).json()["accepted"] == 3
    assert kinds() == ["like", "like"]
    trainer.forget("u", ahead)
    for number, kind in ((6, "like"), (7, "view")):
        assert send(client, "u", str(number), kind)["accepted"] == 1
    rows: list[dict[str, Any]] = [
        {"user_id": "u", "item_id": 8, "type": "forget_user"},  # whose item means nothing
        {"user_id": "u", "item_id": 7, "type": "skip"},
    ]
    assert client.post("/v1/events", json={"events": rows}).json()["accepted"] == 2
    assert kinds() == ["skip"]
    edges = trainer.state.edges.content_hash()  # type: ignore[union-attr]
    engine = client.engine  # type: ignore[attr-defined]
    engine.close()
    trainer.close()
    again = OnlineRecommender.open(trainer.directory)
    assert again.state is not None
    assert again.state.edges.content_hash() == edges  # times are in the log: a replay ends with the same
    again.close()


def test_events_keep_their_order_where_the_clock_is_set_back(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    client, clock = serve(), [NOW]
    monkeypatch.setattr("recbole_signed.serve.arrivals.now_ms", lambda: clock[0])
    before = items(client, "1", k=50)
    send(client, "1", before[0], "dislike")
    clock[0] -= 30_000
    assert send(client, "1", before[0], "undislike")["accepted"] == 1
    assert items(client, "1", k=50) == before
    for _ in range(2):
        assert send(client, "1", before[0], "dislike")["accepted"] == 1
        assert before[0] not in items(client, "1", k=50)
        assert send(client, "1", before[0], "undislike")["accepted"] == 1
        assert items(client, "1", k=50) == before
    arrivals = client.engine.writer.arrivals  # type: ignore[attr-defined]
    assert arrivals.now() == NOW + 6
    clock[0] = NOW - SET_BACK  # what is further ahead would be refused
    assert arrivals.now() == clock[0]


def test_a_clock_set_back_by_hours_keeps_nobody_from_another_verdict(
    serve: Make, trainer: OnlineTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, clock = serve(), [time.time_ns()]
    monkeypatch.setattr(time, "time_ns", lambda: clock[0])
    send(client, "u", "5", "like")
    (liked,) = client.get("/v1/users/u/verdicts").json()["verdicts"]
    clock[0] -= 5 * 3_600_000_000_000
    assert send(client, "u", "5", "dislike")["accepted"] == 1
    (disliked,) = client.get("/v1/users/u/verdicts").json()["verdicts"]
    assert (disliked["sign"], disliked["timestamp"]) == ("dislike", liked["timestamp"] + 1)
    client.delete("/v1/users/u/verdicts/5?sign=dislike").raise_for_status()
    assert client.get("/v1/users/u/verdicts").json()["total"] == 0
    send(client, "u", "6", "like")  # of the clock as it is: nothing was said of this pair
    assert client.get("/v1/users/u/verdicts").json()["verdicts"][0]["timestamp"] == clock[0] // 1_000_000
    late = {"user_id": "u", "item_id": "5", "type": "like", "timestamp": liked["timestamp"] + 9}
    assert client.post("/v1/events", json={"events": [late]}).json()["refused"] == 1  # with a time: as before
    forgotten = liked["timestamp"] + 60_000
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: forgotten * 1_000_000)
        trainer.forget("u", forgotten)
    assert send(client, "u", "5", "like")["accepted"] == 1
    assert client.delete("/v1/users/u").json()["accepted"] == 1
    assert send(client, "u", "5", "like")["accepted"] == 1
    trainer.forget("u")
    assert not client.get("/v1/users/u").json()["known"]


def test_times_are_given_by_the_writer_in_the_order_of_the_request(
    serve: Make, trainer: OnlineTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, found, ahead = serve(), list[str](), int(time.time() * 1000) + 120_000
    look = trainer.times_to_follow

    def times_to_follow(users: Sequence[str], items: Sequence[str]) -> list[int]:
        found.append(threading.current_thread().name)
        return look(users, items)

    monkeypatch.setattr(trainer, "times_to_follow", times_to_follow)
    rows = [
        {"user_id": "u", "item_id": 5, "type": "like", "timestamp": ahead},
        {"user_id": "u", "item_id": "5", "type": "dislike"},
        {"user_id": "u", "item_id": "6", "type": "like", "timestamp": ahead * 1000},  # refused
        {"user_id": "u", "item_id": "6", "type": "dislike"},
        "no row",
    ]
    answer = client.post("/v1/events", json={"events": rows}).json()
    assert [each["status"] for each in answer["results"]] == ["accepted"] * 2 + ["refused", "accepted", "refused"]
    first, second = client.get("/v1/users/u/verdicts").json()["verdicts"]
    assert (first["item"], first["sign"], first["timestamp"]) == ("5", "dislike", ahead + 1)
    assert (second["item"], second["sign"]) == ("6", "dislike")
    assert second["timestamp"] < ahead
    assert found == ["writer"]  # which may wait for the state: the thread that answers may not


def test_an_answer_that_an_erasure_overtakes_is_not_logged(
    serve: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve()
    held: list[Shown] = []
    with monkeypatch.context() as patch:
        patch.setattr(ImpressionQueue, "put", lambda self, answer: held.append(answer))
        client.get("/v1/users/1/recommendations")
    assert client.delete("/v1/users/1").json()["accepted"] == 1
    log = client.engine.traffic  # type: ignore[attr-defined]
    log.write(held)
    name = log._name("1")
    assert not any(name in each.read_bytes() for each in (tmp_path / "state").glob("traffic*"))
    client.get("/v1/users/2/recommendations")  # others are logged as before
    deadline = time.monotonic() + 30
    while not (rows := log._query("SELECT count(*) FROM impression", ())[0][0]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert rows


def test_what_comes_after_a_forgetting_without_a_time_is_taken(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    client, clock = serve(), time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: clock)  # all within a millisecond
    rows: list[dict[str, Any]] = [
        {"user_id": "u", "item_id": "1", "type": "like"},
        {"user_id": "u", "type": "forget_user"},
        {"user_id": "u", "item_id": "2", "type": "like"},
    ]
    assert client.post("/v1/events", json={"events": rows}).json()["accepted"] == 3
    assert [edge["item"] for edge in client.get("/v1/users/u").json()["edges"]] == ["2"]
    assert client.delete("/v1/users/u").json()["accepted"] == 1
    assert send(client, "u", "3", "like")["accepted"] == 1


def test_a_forgetting_that_comes_late_leaves_what_was_shown_since(serve: Make) -> None:
    client = serve()
    engine = client.engine  # type: ignore[attr-defined]
    assert client.delete("/v1/users/1").json()["accepted"] == 1
    send(client, "1", "5", "like")
    items(client, "1", k=5)
    engine.impressions.outcomes([], lambda *_: None)
    delayed = {"user_id": "1", "type": "forget_user", "timestamp": NOW}
    assert client.post("/v1/events", json={"events": [delayed]}).json()["duplicate"] == 1
    assert client.get("/v1/users/1").json()["impressions"] == 5


def test_what_was_shown_before_impressions_were_switched_off_is_erased(serve: Make, tmp_path: Path) -> None:
    engine = serve().engine  # type: ignore[attr-defined]
    name = engine.traffic._name("1")
    for user in ("1", "2"):
        engine.recommend(user, 5)
    engine.close()
    engine.impressions = engine.traffic = None  # closed
    later = serve(impressions=False)
    items(later, "1", k=5)  # is not kept
    assert later.get("/v1/users/1").json()["impressions"] == 5
    replica = OnlineReplica(tmp_path / "state")
    reader = Engine(replica, ServeSettings(impressions=False), None, tmp_path / "state")
    assert reader.user("1")["impressions"] == 5
    assert reader.impressions is None  # it may not be allowed to write the file
    reader.close()
    replica.close()
    assert later.delete("/v1/users/1").json()["accepted"] == 1
    assert not any(name in each.read_bytes() for each in (tmp_path / "state").glob("traffic*"))
    assert TrafficLog(tmp_path / "state" / "traffic.sqlite")._query("SELECT count(*) FROM impression", ()) == [(5,)]


def test_what_was_shown_before_impressions_were_switched_off_grows_old(serve: Make, tmp_path: Path) -> None:
    log = TrafficLog(tmp_path / "state" / "traffic.sqlite")
    log.write([Shown("1", "1", ["3", "5"], NOW, "v1", [])])
    engine = serve(impressions=False).engine  # type: ignore[attr-defined]
    deadline = time.monotonic() + 30
    while engine.traffic.holding("1") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not engine.traffic.holding("1")


def test_a_replica_answers_alike_and_hands_events_on(serve: Make, trainer: Any, tmp_path: Path) -> None:
    import uvicorn

    from recbole_signed.online import OnlineReplica
    from recbole_signed.serve import Engine, listening_socket, make_app

    client = serve(experiments=Experiments.read(tmp_path / "state" / "experiments.yaml"))
    writer_socket = listening_socket("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(client.app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=lambda: server.run(sockets=[writer_socket]), daemon=True)
    thread.start()
    replica = OnlineReplica(tmp_path / "state")
    engine = Engine(replica, None, Experiments.read(tmp_path / "state" / "experiments.yaml"), tmp_path / "state")
    try:
        address = f"http://127.0.0.1:{writer_socket.getsockname()[1]}"
        follower = TestClient(make_app(engine, writer=address))
        first = items(follower, "1", k=1)[0]
        written = send(follower, "1", first, "dislike")  # handed on
        assert written["accepted"] == 1
        query = {"k": 20, "min_seq": written["seq"]}
        assert items(follower, "1", **query) == items(client, "1", **query)
        assert first not in items(follower, "1", **query)
        second = items(client, "1", k=1)[0]
        assert follower.put(f"/v1/items/{second}", json={"withdrawn": True}).status_code == 200
        deadline = time.monotonic() + 10
        while second in items(follower, "1", k=20) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert second not in items(follower, "1", k=20)
        assert follower.get("/v1/models").json()["versions"]
        assert follower.get("/v1/status").json()["edges"] > 0
        assert follower.get("/readyz").json()["ready"]
        alone = TestClient(make_app(engine))
        refused = alone.post("/v1/events", json={"events": [{"user_id": "1", "item_id": "2", "type": "like"}]})
        assert (refused.status_code, "read replica" in refused.json()["detail"]) == (503, True)
    finally:
        engine.close()
        replica.close()
        server.should_exit = True
        thread.join(20)


def test_a_bulk_load_is_sampled_for_live_quality(serve: Make) -> None:
    client = serve(quality={"per_commit": 3})
    unseen = items(client, "2", k=9)
    rows = [{"user_id": "2", "item_id": item, "type": "like"} for item in unseen]
    assert client.post("/v1/events", json={"events": rows}).json()["accepted"] == 9
    assert client.get("/v1/quality").json()["windows"]["hour"]["all"]["likes"] == 3


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


def test_a_variant_may_rank_by_trend(serve: Make) -> None:
    variants = {"ours": {"share": 0.5}, "trend": {"share": 0.5, "model": "trending"}}
    client = serve(experiments=Experiments({"trend": parse_experiment("trend", {"variants": variants})}))
    trending = [each["item"] for each in client.get("/v1/trending?k=60").json()["items"]]
    for user in map(str, range(1, 20)):
        answer = client.get(f"/v1/users/{user}/recommendations?k=5").json()
        listed = [each["item"] for each in answer["items"]]
        if answer["variant"] == "trend=trend":
            assert listed == [item for item in trending if item in listed]
            some = listed[1:3]
            assert items(client, user, k=5, include_only=some) == some
            assert items(client, user, k=5, tags=["none"]) == []
            break
    else:
        pytest.fail("no user got the variant")


def test_live_quality_holds_verdicts_against_the_list_of_the_variant(serve: Make) -> None:
    variants = {"ours": {"share": 1e-9}, "popular": {"share": 1 - 1e-9, "model": "popularity"}}
    raw = {"variants": variants, "status": "draft"}
    client = serve(experiments=Experiments({"rank": parse_experiment("rank", raw)}), quality={"k": 3})
    by_model = {user: items(client, user, k=3) for user in map(str, range(1, 60))}
    client.engine.experiments.change("rank", status="running")  # type: ignore[attr-defined]
    for user in map(str, range(1, 60)):
        if best := [item for item in items(client, user, k=3) if item not in by_model[user]]:
            send(client, user, best[0], "like")
            break
    figures = client.get("/v1/quality?by=variant").json()["windows"]["hour"]["rank=popular"]
    assert (figures["likes"], figures["recall"]) == (1, 1.0)
    send(client, user, items(client, user, k=60)[-1], "dislike")
    assert client.get("/v1/quality?by=variant").json()["windows"]["hour"]["rank=popular"]["sign_auc"] == 1.0


def test_live_quality_holds_each_newcomer_of_a_batch_against_the_list_of_its_own_variant(serve: Make) -> None:
    """To the state they are all nobody."""
    variants = {"plain": {"share": 0.5}, "careful": {"share": 0.5, "parameters": {"dislike_aversion": 50.0}}}
    client = serve(
        experiments=Experiments({"held": parse_experiment("held", {"variants": variants})}), quality={"k": 3}
    )
    lists: dict[str, tuple[str, list[str]]] = {}
    for user in (f"new {n}" for n in range(8)):
        answer = client.get(f"/v1/users/{user}/recommendations?k=3").json()
        lists[user] = answer["variant"], [each["item"] for each in answer["items"]]
    rows = []
    for user, (variant, own) in lists.items():
        others = {item for name, listed in lists.values() if name != variant for item in listed}
        item = next(item for item in own if item not in others)
        rows.append({"user_id": user, "item_id": item, "type": "like"})
    assert client.post("/v1/events", json={"events": rows}).json()["accepted"] == 8
    found = client.get("/v1/quality?by=variant").json()["windows"]["hour"]
    assert {name: each["recall"] for name, each in found.items()} == {"held=plain": 1.0, "held=careful": 1.0}


def test_live_quality_counts_an_event_that_comes_twice_once(serve: Make) -> None:
    client = serve()
    row = {"user_id": "1", "item_id": items(client, "1", k=1)[0], "type": "like", "event_id": "a"}
    answer = client.post("/v1/events", json={"events": [row, row]}).json()
    assert (answer["accepted"], answer["duplicate"]) == (1, 1)
    assert client.get("/v1/quality").json()["windows"]["hour"]["all"]["likes"] == 1


def test_what_is_told_of_a_list_by_popularity_does_not_come_from_the_model(serve: Make) -> None:
    variants = {"ours": {"share": 1e-9}, "popular": {"share": 1 - 1e-9, "model": "popularity"}}
    raw = {"variants": variants, "status": "draft"}
    client = serve(experiments=Experiments({"rank": parse_experiment("rank", raw)}))
    item = items(client, "1", k=1)[0]
    assert client.get("/v1/users/1/recommendations?k=1&explain=true").json()["items"][0]["why"]["item"] == item
    client.engine.experiments.change("rank", status="running")  # type: ignore[attr-defined]
    assert "why" not in client.get("/v1/users/1/recommendations?k=1&explain=true").json()["items"][0]
    refused = client.get(f"/v1/users/1/explain/{item}")
    assert (refused.status_code, "ranks by likes of all users" in refused.json()["detail"]) == (422, True)
    before = items(client, "1", k=4)
    send(client, "1", before[1], "dislike")
    after = items(client, "1", k=3)
    assert after == [before[0], *before[2:]]  # nothing is pulled down but the item itself
    effect = client.get("/v1/users/1/last-dislike?k=3").json()
    assert effect == {"item": before[1], "gone": [before[1]], "come": [before[3]]}


def test_an_experiment_goes_on_beside_an_interleaved_one(serve: Make) -> None:
    mix = {"ours": {"share": 0.5}, "popular": {"share": 0.5, "model": "popularity"}}
    held = {"plain": {"share": 1e-9}, "careful": {"share": 1 - 1e-9, "parameters": {"dislike_aversion": 50.0}}}
    raw = {"mix": {"variants": mix, "interleave": True}, "held": {"variants": held, "status": "draft"}}
    client = serve(experiments=Experiments({name: parse_experiment(name, each) for name, each in raw.items()}))
    engine = client.engine  # type: ignore[attr-defined]
    aware = client.get("/v1/users/1/recommendations?k=9&dislike_aversion=50").json()["items"]
    engine.experiments.change("held", status="running")
    answer = client.get("/v1/users/1/recommendations?k=9").json()
    scores = [
        {each["item"]: each["score"] for each in shown if each["variant"] == "ours"}
        for shown in (aware, answer["items"])
    ]
    both = scores[0].keys() & scores[1].keys()
    assert both
    assert [scores[0][item] for item in both] == [scores[1][item] for item in both]
    assert answer["variant"].endswith(",held=careful")
    engine.impressions.close()
    engine.impressions = None
    assert engine.traffic.logged("held")["variant"].to_list() == ["careful"] * 9
    assert set(engine.traffic.logged("mix")["variant"].tail(9)) == {"ours", "popular"}


def test_an_id_typed_in_two_ways_is_one_id(serve: Make) -> None:
    client = serve()
    typed, kept = "jose\u0301", "jos\u00e9"
    send(client, typed, "cafe\u0301", "like")
    assert client.get(f"/v1/users/{typed}/recommendations").json()["known_user"]
    send(client, "1", "the\u0301", "like")
    send(client, "2", "the\u0301", "like")
    both = items(client, kept, k=60)
    assert "th\u00e9" in both
    assert items(client, typed, k=60, exclude=["the\u0301"]) == [each for each in both if each != "th\u00e9"]
    assert items(client, typed, include_only=["the\u0301"]) == ["th\u00e9"]
    body = {"users": [{"user_id": typed}, {"likes": ["cafe\u0301"]}], "k": 3}
    answers = client.post("/v1/recommendations", json=body).json()["answers"]
    assert [each["known_user"] for each in answers] == [True, True]
    assert "caf\u00e9" not in [each["item"] for answer in answers for each in answer["items"]]
    for withdrawn in (True, False):  # it returns under the id that it was withdrawn by
        client.put("/v1/items/the\u0301", json={"withdrawn": withdrawn, "tags": ["a"]}).raise_for_status()
        assert client.get("/v1/items/the\u0301").json() == {"withdrawn": withdrawn, "tags": ["a"]}
        assert ("th\u00e9" in items(client, "3", k=60, tags=["a"])) is not withdrawn
    assert client.get(f"/api/recommend/{typed}?n=60").json() == both


def test_an_id_may_hold_slashes(serve: Make) -> None:
    client = serve()
    first = items(client, "7", k=1)[0]
    send(client, "a/b", "films/1", "like")
    send(client, "a/b", first, "dislike")
    assert client.put("/v1/items/films%2F1", json={"tags": ["x/y"]}).json()["tags"] == ["x/y"]
    assert client.get("/v1/items/films%2f1").json()["tags"] == ["x/y"]
    assert client.get("/v1/users/a%2Fb/recommendations").json()["known_user"]
    assert client.get("/v1/users/a%2Fb/last-dislike").json()["item"] == first
    assert client.get("/v1/users/a%2Fb/explain/films%2F1").json()["item"] == "films/1"
    assert client.get("/api/recommend/a%2Fb?n=3").status_code == 200
    assert client.delete("/v1/users/a%2Fb/verdicts/films%2F1?sign=like").json()["accepted"] == 1
    assert client.delete("/v1/users/a%2Fb").json()["accepted"] == 1
    assert not client.get("/v1/users/a%2Fb/recommendations").json()["known_user"]
    assert client.get("/v1/users/a%2Fb%00/recommendations").status_code == 422
    assert client.get("/v1/users/a/b/recommendations").status_code == 404


def test_an_erasure_under_a_name_typed_otherwise_takes_all_impressions(serve: Make, tmp_path: Path) -> None:
    client = serve()
    typed, kept = "jose\u0301", "jos\u00e9"
    engine = client.engine  # type: ignore[attr-defined]
    for user in (typed, kept):
        client.get(f"/v1/users/{user}/recommendations")
    assert client.delete(f"/v1/users/{typed}").json()["accepted"] == 1
    client.get("/v1/users/1/recommendations")
    engine.impressions.close()
    engine.impressions = None
    log = engine.traffic
    assert log._query("SELECT DISTINCT user FROM impression", ()) == [(log._name("1"),)]


def test_an_event_id_that_is_no_text_is_refused(serve: Make) -> None:
    client = serve()
    good = {"user_id": "1", "item_id": "2", "type": "view", "event_id": "good"}
    bogus = [{"type": "bogus", "event_id": each} for each in ("\ud800", "b")]
    rows = [good, {**good, "event_id": "\ud800"}, *bogus]
    content = json.dumps({"events": rows})
    answer = client.post("/v1/events", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [each["status"] for each in results] == ["accepted", "refused", "refused", "refused"]
    assert "event_id holds a lone surrogate" in results[1]["reason"]
    assert [each.get("event_id") for each in results] == ["good", None, None, "b"]


def test_a_body_is_counted_whatever_the_headers_say(serve: Make, tmp_path: Path) -> None:
    client = serve(limits={"body_bytes": 2000})
    event = b'{"events": [{"user_id": "1", "item_id": "2", "type": "like"}]}'

    def post(blanks: int, **headers: str) -> Any:
        parts = (part for part in [b" " * 100] * blanks + [event])
        return client.post("/v1/events", content=parts, headers={"Content-Type": "application/json", **headers})

    for coding in ("chunked", "Chunked", "gzip, chunked"):
        refused = post(30, **{"Transfer-Encoding": coding})
        assert (refused.status_code, refused.json()["title"]) == (413, "Content Too Large")
        assert refused.json()["detail"] == "A body may have at most 2000 bytes."
        assert post(3, **{"Transfer-Encoding": coding}).status_code == 200
    replica = OnlineReplica(tmp_path / "state")
    engine = Engine(replica, ServeSettings.model_validate({"limits": {"body_bytes": 2000}}))
    client = TestClient(make_app(engine, writer="http://127.0.0.1:9"))
    assert post(30).status_code == 413  # before it is handed on
    engine.close()
    replica.close()


def test_a_key_is_checked_before_a_body_is_read(serve: Make, tmp_path: Path) -> None:
    make_key(tmp_path / "keys", "admin")
    client = serve(keys=tmp_path / "keys")
    for headers in ({}, {"X-API-Key": "wrong"}):
        json_body = {"Content-Type": "application/json", **headers}
        assert client.post("/v1/events", content=b"{", headers=json_body).status_code == 401
    for route in client.app.routes:  # type: ignore[attr-defined]
        for method in getattr(route, "methods", None) or ():
            if method not in ("GET", "HEAD"):
                path = route.path.replace("{", "").replace("}", "")
                assert client.request(method, path, content=b"{").status_code == 401, route


def test_the_rate_limit_counts_addresses_where_keys_are_not_valid(serve: Make, tmp_path: Path) -> None:
    made = [make_key(tmp_path / "keys", "read") for _ in range(2)]

    def statuses(client: TestClient, keys: list[str]) -> list[int]:
        return [client.get("/v1/popular", headers={"X-API-Key": key}).status_code for key in keys]

    limits = {"requests_per_second": 0.01}  # one request, then none for long
    client = serve(keys=tmp_path / "keys", limits=limits)
    assert statuses(client, ["random", "other", *made, made[0]]) == [401, 429, 200, 200, 429]
    assert statuses(serve(limits=limits), ["random", "other"]) == [200, 429]


@pytest.mark.parametrize(
    ("name", "path"), [("recommend", "/v1/users/{}/recommendations"), ("similar", "/v1/items/{}/similar")]
)
def test_more_than_can_be_answered_is_refused_soon(
    name: str, path: str, serve: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(limits={"wait": 0.3})
    engine = client.engine  # type: ignore[attr-defined]
    answer = getattr(engine, name)

    def slow(*args: Any, **named: Any) -> Any:
        time.sleep(0.1)
        return answer(*args, **named)

    monkeypatch.setattr(engine, name, slow)

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as many:
            paths = [path.format(number) for number in range(1, 41)]
            return await asyncio.gather(*map(many.get, [*paths, "/healthz"]))

    started = time.perf_counter()
    *lists, probe = asyncio.run(ask())
    statuses = [answer.status_code for answer in lists]
    assert set(statuses) == {200, 503}
    assert probe.status_code == 200
    refused = lists[statuses.index(503)]
    assert "ask again later" in refused.json()["detail"]
    assert refused.headers["Retry-After"] == "1"
    assert time.perf_counter() - started < 0.1 * len(lists)
    assert client.get("/v1/users/1/recommendations").status_code == 200


def test_a_request_is_refused_in_time_though_no_answer_before_it_ends(
    serve: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(limits={"wait": 0.2})
    engine = client.engine  # type: ignore[attr-defined]
    popular, go_on = engine.popular, threading.Event()
    monkeypatch.setattr(engine, "popular", lambda *_: go_on.wait(60) and popular(*_))

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as many:
            held = [asyncio.create_task(many.get("/v1/popular")) for _ in range(THREADS)]
            await asyncio.sleep(0.05)
            refused = [await many.get("/v1/popular"), await many.get("/v1/items/1/similar")]
            go_on.set()
            return [*refused, *await asyncio.gather(*held), await many.get("/v1/popular")]

    assert [answer.status_code for answer in asyncio.run(ask())] == [503, 503, *[200] * (THREADS + 1)]
