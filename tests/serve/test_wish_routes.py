"""Less and more of a feature over HTTP: what lists, explanations and the routes of a user say, and taking it back."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from service_calls import NOW, Make, items, send

DAY = 86_400


@pytest.fixture
def client(serve: Make) -> TestClient:
    """A service whose items have a genre each, by the last digit of the id."""
    made = serve()
    with made.engine.recommender.reading() as (state, _):  # type: ignore[attr-defined]
        known = [each for each in state.items.tokens(range(1, len(state.items))) if each]
    told = [{"item_id": each, "type": "item", "features": {"genre": genre(each)}} for each in known]
    assert made.post("/v1/events", json={"events": told}).json()["accepted"] == len(known)
    return made


def genre(item: str) -> str:
    return "Horror" if int(item) % 2 else "Comedy"


def ask(client: TestClient, kind: str, value: str = "Horror", **fields: Any) -> dict[str, Any]:
    event = {"user_id": "1", "type": kind, "features": {"genre": value}, **fields}
    return client.post("/v1/events", json={"events": [event]}).json()


def scores(client: TestClient, **query: Any) -> dict[str, float]:
    listed = client.get("/v1/users/1/recommendations", params={"k": 100, **query}).json()["items"]
    return {each["item"]: each["score"] for each in listed}


def test_less_is_asked_for_explained_and_taken_back(client: TestClient) -> None:
    before = scores(client)
    assert ask(client, "less", duration=DAY, event_id="w")["accepted"] == 1
    assert ask(client, "less", duration=DAY, event_id="w")["duplicate"] == 1
    after = scores(client)
    assert after.keys() == before.keys()
    assert [each for each in after if genre(each) == "Horror"] == [each for each in before if genre(each) == "Horror"]
    lowered = [each for each in after if after[each] < before[each]]
    assert lowered
    assert {genre(each) for each in lowered} == {"Horror"}
    assert all(after[each] == before[each] for each in after if genre(each) == "Comedy")
    assert scores(client, dislike_strength=0) != after
    assert items(client, "1", k=3, tags="none") == []

    (wish,) = client.get("/v1/users/1/wishes").json()["wishes"]
    assert wish["until"] == wish["timestamp"] + 1000 * DAY
    assert {name: wish[name] for name in ("kind", "feature", "values", "item")} == {
        "kind": "less",
        "feature": "genre",
        "values": ["Horror"],
        "item": None,
    }
    assert client.get("/v1/users/1").json()["wishes"] == [
        {name: each for name, each in wish.items() if each is not None}
    ]
    assert client.get(f"/v1/items/{lowered[0]}/values").json() == {"values": {"genre": ["Horror"]}}

    why = client.get(f"/v1/users/1/explain/{lowered[0]}").json()
    whole = (sum(each["contribution"] for each in why["contributions"]) + why["from_features"] + why["prior"]) * why[
        "factor"
    ]
    assert why["moved"] < 0
    assert whole - why["lowered"] + why["moved"] == pytest.approx(why["score"], rel=1e-4)
    assert why["score"] == pytest.approx(after[lowered[0]], rel=1e-4)
    assert "It is shown less (-" in why["sentence"]
    assert "user 1 asked for less of genre Horror on 20" in why["sentence"]
    assert " UTC." in why["sentence"]

    assert client.delete("/v1/users/1/wishes/genre/Horror").json()["accepted"] == 1
    assert scores(client) == before
    assert client.get("/v1/users/1/wishes").json()["wishes"] == []
    refused = ask(client, "less", "Horrer")["results"][0]["reason"]
    assert refused == "no item has the genre 'Horrer'; did you mean 'Horror'?"
    ask(client, "less", timestamp=NOW, duration=60)  # has ended years ago, and is older than the undo
    ask(client, "more", "Comedy", timestamp=NOW, duration=60)
    assert scores(client) == before


def test_a_dislike_about_a_feature_hides_and_is_taken_back_as_any_dislike(client: TestClient) -> None:
    before = scores(client)
    item = next(iter(before))
    assert send(client, "1", item, "dislike", about="genre")["accepted"] == 1
    after = scores(client)
    assert before.keys() - after.keys() == {item}
    assert {genre(each) for each in after if after[each] < before[each]} == {genre(item)}
    (wish,) = client.get("/v1/users/1/wishes").json()["wishes"]
    assert (wish["kind"], wish["item"], wish["values"], wish["until"]) == ("dislike", item, [genre(item)], None)
    assert item not in {each["item"] for each in client.get("/v1/users/1/verdicts?sign=dislike").json()["verdicts"]}
    low = min(after, key=lambda each: after[each] - before[each])
    sentence = client.get(f"/v1/users/1/explain/{low}").json()["sentence"]
    assert f"user 1 disliked the genre {genre(item)} of item {item} on 20" in sentence
    assert client.delete(f"/v1/users/1/verdicts/{item}?sign=dislike").json()["accepted"] == 1
    assert scores(client) == before
