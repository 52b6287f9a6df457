"""Users and items over HTTP: announced, told, forgotten, taken back."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from refusals import check_refused
from service_calls import NOW, Make, all_written, check_problem, items, send, serving
from waiting import until

from recbole_signed.live import Event, OnlineTrainer
from recbole_signed.live.replica import OnlineReplica
from recbole_signed.live.serve import TrafficLog
from recbole_signed.live.serve.catalogue import Catalogue
from recbole_signed.live.serve.traffic import ImpressionQueue, Shown
from recbole_signed.live.serve.writer import Arrivals
from recbole_signed.live.store.backup import noted


def test_an_item_is_announced_with_its_features(client: TestClient) -> None:
    announced = client.put("/v1/items/new", json={"features": {"genre": ["drama", "crime"], "year": 1999}})
    assert (announced.status_code, announced.json()["features"]["year"]) == (200, 1999)
    with client.engine.recommender.reading() as (state, _):  # type: ignore[attr-defined]
        assert state.announced()["item"] == {state.items.id_of("new"): {"genre": ["drama", "crime"], "year": 1999}}
    refused = client.put("/v1/items/other", json={"features": {"genre": {"a": 1}}})
    assert refused.status_code == 422
    known, held = items(client, "1")[0], {"withdrawn": True, "tags": ["a"]}
    assert client.put(f"/v1/items/{known}", json=held).json() == held
    again = client.put(f"/v1/items/{known}", json={"features": {"year": 2}})
    assert again.json() == {**held, "features": {"year": 2}}  # an announcement leaves the rest as it is, as by an event
    assert client.get(f"/v1/items/{known}").json() == {**held, "features": {"year": 2}}
    assert "expected text, numbers, or a list" in refused.json()["detail"]
    (only,) = client.get("/v1/users/1/recommendations?include_only=new").json()["items"]
    assert only == {"item": "new"}, "nothing is known of it, which is no score of -1e20"
    told = client.get("/v1/users/1/explain/new").json()
    assert (told["score"], told["prior"]) == (None, None)
    event = {"type": "item", "item_id": "third", "timestamp": 1_700_000_000_000, "features": {"year": 1}}
    assert client.post("/v1/events", json={"events": [event]}).json()["accepted"] == 1


def test_a_user_is_announced_with_its_features_and_forgotten(client: TestClient) -> None:
    for country in ("NO", "IT"):
        announced = client.put("/v1/users/new", json={"features": {"country": country, "age": 30}})
        assert (announced.status_code, announced.json()["features"]["country"]) == (200, country)
    with client.engine.recommender.reading() as (state, _):  # type: ignore[attr-defined]
        assert state.announced()["user"] == {state.users.id_of("new"): {"country": "IT", "age": 30}}
    refused = client.put("/v1/users/other", json={"features": {"country": {"a": 1}}})
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("The user can't be announced: ")
    assert client.put("/v1/users/other", json={}).status_code == 422
    assert client.put("/v1/users/" + "x" * 300, json={"features": {}}).status_code == 422
    event = {"type": "user", "user_id": "third", "features": {"age": 1}}
    assert client.post("/v1/events", json={"events": [event]}).json()["accepted"] == 1
    assert client.delete("/v1/users/new").json()["accepted"] == 1
    with client.engine.recommender.reading() as (state, _):  # type: ignore[attr-defined]
        assert state.announced()["user"] == {state.users.id_of("third"): {"age": 1}}


@pytest.mark.usefixtures("countries")
def test_an_announced_user_gets_lists_by_its_features(begun: Callable[..., OnlineTrainer]) -> None:
    given = {"auto": False, "rank": 8, "cutoff": 4, "features": {"user": "all"}, "dislike_aversion": 0.5}
    with serving(begun("SSF", **given)) as client:
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
        assert items(client, "new") == [each["item"] for each in strangers["items"]]


def test_what_is_held_of_a_user_is_told_until_it_is_forgotten(client: TestClient, engine: Any, tmp_path: Path) -> None:
    stranger = {"user": "a/b", "known": False, "edges": [], "impressions": 0, "seq": engine.seq}
    assert client.get("/v1/users/a%2Fb").json() == stranger
    announced = {"country": "NO", "age": 30}
    client.put("/v1/users/a%2Fb", json={"features": announced}).raise_for_status()
    first, second = items(client, "a%2Fb", k=2)
    send(client, "a/b", first, "like", timestamp=NOW)
    send(client, "a/b", second, "dislike", timestamp=NOW + 1)
    send(client, "a/b", "a new item", "view", timestamp=NOW - 1)
    until(lambda: engine.traffic.holding("a/b") >= 2, 60)  # they are written in the background
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
    with serving(OnlineReplica(tmp_path / "state"), tmp_path / "state") as reader:
        assert reader.get("/v1/users/a%2Fb").json() == expected
        assert "pending_erasure" not in reader.get("/v1/status").json()
    assert not any(client.get("/v1/status").json()["pending_erasure"].values())
    assert client.delete("/v1/users/a%2Fb").json()["accepted"] == 1
    assert client.get("/v1/users/a%2Fb").json() == {**stranger, "seq": engine.seq}
    assert client.get("/v1/status").json()["pending_erasure"]["factors"] <= 1
    engine.recommender.refit().result()
    engine.recommender.erase()
    assert client.get("/v1/status").json()["pending_erasure"] == {"rows": 0, "factors": 0, "reasons": [], "since": None}
    assert "recbole_signed_pending_erasures 0.0" in client.get("/metrics").text


def test_forgotten_users_are_unknown_at_any_length_of_their_id(client: TestClient, tmp_path: Path, serve: Make) -> None:
    client.get("/v1/users/1/recommendations")
    assert client.delete("/v1/users/1").json()["accepted"] == 1
    answer = client.get("/v1/users/1/recommendations").json()
    assert not answer["known_user"]
    assert [each["item"] for each in answer["items"]] == items(client, "nobody")
    client, user = serve(limits={"id_length": 9}), "x" * 300
    client.engine.recommender.update([Event("", user, "1", "like", 1_700_000_000_000)])  # type: ignore[attr-defined]
    assert client.get(f"/v1/users/{user}/recommendations").json()["known_user"]
    assert client.put(f"/v1/users/{user}", json={"features": {}}).status_code == 422
    for length, status in ((10, 422), (9, 200)):
        assert client.put("/v1/items/" + "x" * length, json={"withdrawn": True}).status_code == status
    assert client.delete(f"/v1/users/{user}").json()["accepted"] == 1
    assert not client.get(f"/v1/users/{user}/recommendations").json()["known_user"]


def test_what_a_user_said_newest_first(client: TestClient) -> None:
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


def test_what_is_not_forgotten_or_taken_back_is_an_error(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    send(client, "u2", "5", "like")
    monkeypatch.setattr(Arrivals, "times", lambda *_: {})  # a row without a time is refused
    for path in ("/v1/users/u2/verdicts/5?sign=like", "/api/feedback/like/u2/5"):
        check_problem(client.delete(path), 409, "can't be taken back")
    for path in ("/v1/users/u", "/api/user/u"):
        check_problem(client.delete(path), 409, "can't be forgotten: timestamp")


def test_folders_are_looked_up_again_where_the_register_of_backups_has_changed(
    engine: Any, recommender: OnlineTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = list[Path]()
    monkeypatch.setattr("recbole_signed.live.serve.engine.noted", lambda state: looked.append(state) or noted(state))
    for _ in range(3):
        assert engine.without_folders(f"{tmp_path}/state/SEQ; {tmp_path}/copy/SEQ") == f"SEQ; {tmp_path}/copy/SEQ"
    assert len(looked) == 1
    recommender.back_up(tmp_path / "copy")
    assert engine.without_folders(f"{tmp_path}/state/SEQ; {tmp_path}/copy/SEQ") == "SEQ; SEQ"
    assert len(looked) == 2


def test_an_answer_overtaken_by_an_erasure(client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    until(lambda: log.holding("2"), 30)


def test_a_forgetting_that_comes_late_leaves_what_was_shown_since(client: TestClient) -> None:
    assert client.delete("/v1/users/1").json()["accepted"] == 1
    send(client, "1", "5", "like")
    items(client, "1", k=5)
    delayed = {"user_id": "1", "type": "forget_user", "timestamp": NOW}
    assert client.post("/v1/events", json={"events": [delayed]}).json()["duplicate"] == 1
    until(lambda: client.get("/v1/users/1").json()["impressions"] == 5)  # they are written by a thread


def test_what_was_shown_before_impressions_were_switched_off_is_erased(
    serve: Make, engine: Any, tmp_path: Path
) -> None:
    name = engine.traffic._name("1")
    for user in ("1", "2"):
        engine.recommend(user, 5)
    engine.close()
    engine.impressions = engine.traffic = None  # closed
    later = serve(impressions=False)
    items(later, "1", k=5)  # is not kept
    assert later.get("/v1/users/1").json()["impressions"] == 5
    with serving(OnlineReplica(tmp_path / "state"), tmp_path / "state", impressions=False) as reader:
        assert reader.get("/v1/users/1").json()["impressions"] == 5
        assert reader.engine.impressions is None  # type: ignore[attr-defined]  # it may not write the file
    assert later.delete("/v1/users/1").json()["accepted"] == 1
    assert not any(name in each.read_bytes() for each in (tmp_path / "state").glob("traffic*"))
    assert TrafficLog(tmp_path / "state" / "traffic.sqlite")._query("SELECT count(*) FROM impression", ()) == [(5,)]


def test_what_was_shown_before_impressions_were_switched_off_grows_old(serve: Make, tmp_path: Path) -> None:
    TrafficLog(tmp_path / "state" / "traffic.sqlite").write([Shown("1", "1", ["3", "5"], NOW, "v1", [])])
    engine = serve(impressions=False).engine  # type: ignore[attr-defined]
    until(lambda: not engine.traffic.holding("1"), 30)


def test_an_erasure_under_another_spelling_takes_all(client: TestClient, engine: Any, tmp_path: Path) -> None:
    typed, kept = "jose\u0301", "jos\u00e9"
    for user in (typed, kept):
        client.get(f"/v1/users/{user}/recommendations")
    assert client.delete(f"/v1/users/{typed}").json()["accepted"] == 1
    client.get("/v1/users/1/recommendations")
    all_written(engine)
    log = engine.traffic
    assert log._query("SELECT DISTINCT user FROM impression", ()) == [(log._name("1"),)]


def test_tags_and_names_are_kept(tmp_path: Path) -> None:
    with contextlib.closing(Catalogue(tmp_path / "tags")) as catalogue:
        catalogue.put("a/b", ["film", "new"])
        catalogue.put("c", ["film"])
        catalogue.put("a/b", ["new"])
        assert (catalogue.with_tags(["film"]), catalogue.with_tags(["new"])) == (["c"], ["a/b"])
    with contextlib.closing(Catalogue(tmp_path / "tags")) as catalogue:
        assert (catalogue["a/b"], catalogue.with_tags(["film"]), catalogue["other"]) == (("new",), ["c"], ())
        catalogue.put("a", ["film"])
        catalogue.put_names({"a": "Heat", "b": "Alien", "c": "Up"})
        catalogue.put("a", ["old"])
        catalogue.put_names({"b": "", "c": "Up!"})
    with contextlib.closing(Catalogue(tmp_path / "tags")) as catalogue:
        assert [catalogue.name(item) for item in "abcd"] == ["Heat", None, "Up!", None]
        assert (catalogue["a"], catalogue["b"]) == (("old",), ())
    (tmp_path / "text").write_text("no database " * 100)
    check_refused("can't open the catalogue .*text: file is not a database", Catalogue, tmp_path / "text")


def test_a_catalogue_that_also_holds_withdrawals_is_refused(tmp_path: Path) -> None:
    """One from before they were kept in the state was opened, and its withdrawn items were shown."""
    with contextlib.closing(sqlite3.connect(tmp_path / "tags")) as old, old:
        old.execute("CREATE TABLE item (id TEXT PRIMARY KEY, withdrawn INTEGER NOT NULL, tags TEXT NOT NULL)")
    check_refused(r"tags is of another version of this package, .*; move it away, ", Catalogue, tmp_path / "tags")


def test_a_catalogue_without_names_is_read_and_gets_them(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "tags")) as old, old:
        old.execute("CREATE TABLE item (id TEXT PRIMARY KEY, tags TEXT NOT NULL)")
        old.execute("""INSERT INTO item VALUES ('a', '["film"]')""")
    with (
        contextlib.closing(Catalogue(tmp_path / "tags")) as replica,
        contextlib.closing(Catalogue(tmp_path / "tags")) as writer,
    ):
        assert (replica["a"], replica.name("a")) == (("film",), None)
        writer.put_names({"a": "Heat"})
        replica.reload()
        assert (replica["a"], replica.name("a")) == (("film",), "Heat")
