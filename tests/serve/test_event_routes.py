"""Events over HTTP: what is taken, in which order, and with which time."""

import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from faults import no_room
from service_calls import NOW, Make, check_problem, items, send
from state_hashes import edges_hash
from waiting import until

from recbole_signed.errors import UsageError
from recbole_signed.live import OnlineRecommender, OnlineTrainer
from recbole_signed.live.serve.experiments import Experiments
from recbole_signed.live.serve.writer import SET_BACK


@pytest.mark.parametrize("kinds", [("like", "dislike"), ("dislike", "like")])
@pytest.mark.parametrize("together", [True, False])
def test_of_verdicts_with_one_time_the_last_holds(client: TestClient, kinds: tuple[str, str], together: bool) -> None:
    events = [{"user_id": "new", "item_id": "1", "type": kind, "timestamp": NOW} for kind in kinds]
    for part in [events] if together else [[each] for each in events]:
        assert client.post("/v1/events", json={"events": part}).json()["accepted"] == len(part)
    (held,) = client.get("/v1/users/new/verdicts").json()["verdicts"]
    assert held["sign"] == kinds[1]


def test_a_bad_event_does_not_spoil_its_batch(client: TestClient) -> None:
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


def test_fields_and_ids_of_events_in_bodies(client: TestClient) -> None:
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

    def lists(*users: Any, **body: Any) -> list[Any]:
        answer = client.post("/v1/recommendations", json={"users": users, "k": 5, **body})
        assert answer.status_code == 200, answer.text
        return [each["items"] for each in answer.json()["answers"]]

    numbers = lists({"user_id": 1}, {"likes": [3, 5], "dislikes": [7]}, exclude=[2], include_only=[1, 2, 4, 6, 8])
    texts = lists({"user_id": "1"}, {"likes": ["3", "5"], "dislikes": ["7"]}, exclude=["2"], include_only=[*"12468"])
    assert numbers == texts
    for wrong in (1.5, True, None, ""):
        assert client.post("/v1/recommendations", json={"users": [{"likes": [wrong]}]}).status_code == 422, wrong


@pytest.mark.parametrize("erase", ["/v1/users/u", "/api/user/u", None])
def test_a_user_back_under_a_clock_that_was_ahead_can_be_forgotten(client: TestClient, erase: str | None) -> None:
    recommender = client.engine.recommender  # type: ignore[attr-defined]
    ahead = round(time.time() * 1000) + 100_000
    send(client, "u", "1", "like", timestamp=ahead)
    recommender.forget("u", ahead)
    send(client, "u", "2", "like", timestamp=ahead + 1)
    assert client.get("/v1/users/u/recommendations").json()["known_user"]
    if erase is None:
        assert send(client, "u", "", "forget_user")["accepted"] == 1
    else:
        client.delete(erase).raise_for_status()
    assert not client.get("/v1/users/u/recommendations").json()["known_user"]


def test_ids_that_are_no_text_are_refused(client: TestClient) -> None:
    send(client, "a\ufffd", "1", "like")
    for path in ("/v1/users/a%FF", "/v1/users/a%ED%A0%80", "/v1/users/a%C3"):
        refused = client.delete(path)
        check_problem(refused, 400, "percent-encoded UTF-8")
    assert client.get("/v1/users/1/recommendations?exclude=%FF").status_code == 400
    assert client.get("/v1/users/a%EF%BF%BD/recommendations").json()["known_user"]
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
def test_halves_of_utf_16_pairs_are_refused(path: str, body: dict[str, Any], client: TestClient) -> None:
    answer = client.put(f"/v1/{path}", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"]
    assert items(client, "1", k=3)
    assert client.get("/v1/experiments").json() == {}


def test_a_full_queue_answers_429(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serve(limits={"queue": 1})
    writer = client.engine.writer  # type: ignore[attr-defined]
    two = [{"user_id": "1", "item_id": item, "type": "like"} for item in ("1", "2")]
    assert client.post("/v1/events", json={"events": two}).json()["accepted"] == 2  # nothing waits before them
    monkeypatch.setattr(writer, "waiting", 1)
    refused = client.post("/v1/events", json={"events": [{"user_id": "1", "item_id": "1", "type": "like"}]})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert not client.get("/readyz").json()["ready"]
    unready = client.get("/api/health/ready")
    assert (unready.status_code, unready.json()) == (503, {"Ready": False})


@pytest.mark.parametrize("fails", [False, True])
def test_room_returns_once_a_request_is_answered(fails: bool, serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = serve(limits={"queue": 2}).engine  # type: ignore[attr-defined]
    goes_on, ingest, waiting = threading.Event(), engine.recommender.ingest, Future[int]()

    def slow(*args: Any, **kwargs: Any) -> Any:
        assert goes_on.wait(60)
        if fails:
            raise UsageError("Writing the log failed: No space left on device")
        return ingest(*args, **kwargs)

    monkeypatch.setattr(engine.recommender, "ingest", slow)
    answered = engine.writer.submit([{"user_id": "1", "item_id": item, "type": "like"} for item in ("1", "2")])
    answered.add_done_callback(lambda _: waiting.set_result(engine.writer.waiting))
    goes_on.set()
    assert waiting.result(60) == 0
    assert (answered.exception(60) is not None) == fails


def test_disk_faults_are_no_fault_of_requests(serve: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serve(experiments=Experiments.read(tmp_path / "experiments.yaml"))
    engine = client.engine  # type: ignore[attr-defined]

    def full(*_: Any, **__: Any) -> None:
        raise UsageError("Writing the log failed: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(engine.recommender, "ingest", full)
        refused = client.post("/v1/events", json={"events": [{"user_id": "1", "item_id": "1", "type": "like"}]})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "No space left" in refused.json()["detail"]
        assert client.put("/v1/users/x", json={"features": {}}).status_code == 503

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
    check_problem(client.put("/v1/items/1", json={"tags": ["a"]}), 503, "can't be kept")
    assert client.get("/v1/items/1").json()["tags"] == []


def test_a_service_is_ready_again_once_its_disk_is(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_signed.live.serve.writer.PROBE", 0.05)
    client = serve()
    log = client.engine.recommender.state.log  # type: ignore[attr-defined]
    log.connection.execute("PRAGMA query_only = ON")  # as on a full disk
    event = {"user_id": "1", "item_id": "1", "type": "like"}
    assert client.post("/v1/events", json={"events": [event]}).status_code == 503
    time.sleep(0.2)
    assert client.get("/readyz").status_code == 503
    log.connection.execute("PRAGMA query_only = OFF")
    until(lambda: client.get("/readyz").status_code != 503, 30)  # nothing is sent to a service that is not ready
    assert log.position("") is None
    assert client.post("/v1/events", json={"events": [event]}).json()["accepted"] == 1


def test_answers_are_kept_as_shown_after_an_erasure_that_the_disk_has_refused(client: TestClient, engine: Any) -> None:
    items(client, "1")
    send(client, "2", "1", "like")
    engine.recommender.state.log.connection.execute("PRAGMA query_only = ON")  # as on a full disk
    assert client.delete("/v1/users/1").status_code == 503
    shown = len(items(client, "2"))
    engine.recommender.state.log.connection.execute("PRAGMA query_only = OFF")
    engine.impressions.close()
    assert engine.traffic.holding("2") == shown


def test_a_cancelled_request_does_not_end_the_writer(client: TestClient, engine: Any) -> None:
    with engine.recommender.reading():  # the writer waits
        first = engine.writer.submit([{"user_id": "1", "item_id": "1", "type": "like", "timestamp": NOW}])
        until(lambda: first.running(), 20)
        second = engine.writer.submit([{"user_id": "1", "item_id": "2", "type": "like", "timestamp": NOW}])
        assert not first.cancel()
        assert second.cancel()
    assert first.result(20).seq == 1
    assert send(client, "1", "3", "like")["seq"] == 2


@pytest.mark.parametrize("route", ["v1/users/1/verdicts/{}?sign=dislike", "api/feedback/dislike/1/{}"])
def test_a_verdict_whose_clock_is_ahead_is_taken_back(client: TestClient, route: str) -> None:
    before = items(client, "1", k=50)
    send(client, "1", before[0], "dislike", timestamp=int(time.time() * 1000) + 120_000)
    client.delete(f"/{route.format(before[0])}").raise_for_status()
    assert items(client, "1", k=50) == before


def test_a_verdict_on_an_unknown_item_is_not_taken_back(client: TestClient) -> None:
    before = client.get("/v1/status").json()["items"]
    check_problem(client.delete("/v1/users/1/verdicts/typo?sign=like"), 404, "there is no item 'typo'")
    assert client.get("/v1/status").json()["items"] == before
    assert client.get("/v1/items/typo/similar").status_code == 404


def test_untimed_events_follow_those_from_ahead(client: TestClient, engine: Any, recommender: OnlineTrainer) -> None:
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
    recommender.forget("u", ahead)
    for number, kind in ((6, "like"), (7, "view")):
        assert send(client, "u", str(number), kind)["accepted"] == 1
    rows: list[dict[str, Any]] = [
        {"user_id": "u", "item_id": 8, "type": "forget_user"},  # whose item means nothing
        {"user_id": "u", "item_id": 7, "type": "skip"},
    ]
    assert client.post("/v1/events", json={"events": rows}).json()["accepted"] == 2
    assert kinds() == ["skip"]
    edges = edges_hash(recommender.state.edges)  # type: ignore[union-attr]
    engine.close()
    recommender.close()
    again = OnlineRecommender.open(recommender.directory)
    assert edges_hash(again.state.edges) == edges  # times are in the log: a replay ends with the same
    again.close()


def test_events_keep_their_order_where_the_clock_is_set_back(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    client, clock = serve(), [NOW]
    monkeypatch.setattr("recbole_signed.live.serve.writer.now_ms", lambda: clock[0])
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


def test_verdicts_under_a_late_clock(serve: Make, recommender: OnlineTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
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
        recommender.forget("u", forgotten)
    assert send(client, "u", "5", "like")["accepted"] == 1
    assert client.delete("/v1/users/u").json()["accepted"] == 1
    assert send(client, "u", "5", "like")["accepted"] == 1
    recommender.forget("u")
    assert not client.get("/v1/users/u").json()["known"]
    kinds = [("1", "like"), ("", "forget_user"), ("2", "like")]  # all within a millisecond
    rows = [{"user_id": "v", "item_id": item, "type": kind} for item, kind in kinds]
    assert client.post("/v1/events", json={"events": rows}).json()["accepted"] == 3
    assert [edge["item"] for edge in client.get("/v1/users/v").json()["edges"]] == ["2"]
    assert client.delete("/v1/users/v").json()["accepted"] == 1
    assert send(client, "v", "3", "like")["accepted"] == 1


def test_the_writer_orders_the_times(serve: Make, recommender: OnlineTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    client, found, ahead = serve(), list[str](), int(time.time() * 1000) + 120_000
    look = recommender.times_to_follow

    def times_to_follow(users: Sequence[str], items: Sequence[str]) -> list[int]:
        found.append(threading.current_thread().name)
        return look(users, items)

    monkeypatch.setattr(recommender, "times_to_follow", times_to_follow)
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


def test_an_id_typed_in_two_ways_is_one_id(client: TestClient) -> None:
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


def test_an_id_may_hold_slashes(client: TestClient) -> None:
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
