"""Experiments, impressions and live quality over HTTP."""

import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from service_calls import Make, all_written, check_problem, experiments_of, items, send, serving
from small_recommender import begin

from recbole_signed.errors import UsageError
from recbole_signed.live.serve import TrafficLog
from recbole_signed.live.serve.engine import Engine
from recbole_signed.live.serve.experiments import Assignment, Experiments
from recbole_signed.live.serve.traffic import Shown


def test_bulk_loads_are_sampled_and_parameters_replace_those_of_a_variant(serve: Make) -> None:
    held = {"plain": {"share": 1e-9}, "careful": {"share": 1 - 1e-9, "parameters": {"dislike_aversion": 50.0}}}
    client = serve(experiments=experiments_of(held={"variants": held, "status": "draft"}))
    wanted, plain = items(client, "1", k=9, dislike_aversion=3.0), items(client, "1", k=9)
    client.engine.experiments.change("held", status="running")  # type: ignore[attr-defined]
    assert items(client, "1", k=9) != plain
    assert items(client, "1", k=9, dislike_aversion=3.0) == wanted
    client = serve(quality={"per_commit": 3})
    unseen = items(client, "2", k=9)
    rows = [{"user_id": "2", "item_id": item, "type": "like"} for item in unseen]
    assert client.post("/v1/events", json={"events": rows}).json()["accepted"] == 9
    assert client.get("/v1/quality").json()["windows"]["hour"]["all"]["likes"] == 3


def test_a_list_that_can_not_be_explained_is_no_impression(tmp_path: Path) -> None:
    with serving(begin(tmp_path / "state", "Pop"), tmp_path / "state") as client:
        check_problem(client.get("/v1/users/u1/recommendations?k=5&explain=true"), 422, "can't explain")
        engine = client.engine  # type: ignore[attr-defined]
        all_written(engine)
        assert engine.telemetry.total(engine.telemetry.impressions) == engine.traffic.added() == 0


def test_experiments_through_the_api(serve: Make, tmp_path: Path) -> None:
    client = serve(experiments=Experiments.read(tmp_path / "experiments.yaml"))
    body = {"variants": {"plain": {"share": 0.5}, "careful": {"share": 0.5, "parameters": {"dislike_aversion": 4.0}}}}
    assert client.put("/v1/experiments/aversion", json=body).status_code == 200
    seen = {client.get(f"/v1/users/{user}/recommendations").json()["variant"] for user in range(1, 30)}
    assert seen == {"aversion=plain", "aversion=careful"}
    for user in range(1, 30):
        send(client, str(user), items(client, str(user), k=1)[0], "like" if user % 3 else "dislike")
    all_written(client.engine)  # type: ignore[attr-defined]
    report = client.get("/v1/experiments/aversion/report").json()
    assert report["control"] == "plain"
    assert sum(each["users"] for each in report["variants"].values()) == 29
    assert sum(each["likes"] + each["dislikes"] for each in report["variants"].values()) > 20
    assert client.patch("/v1/experiments/aversion", json={"status": "stopped"}).json()["status"] == "stopped"
    assert client.get("/v1/users/1/recommendations").json()["variant"] == ""
    assert Experiments.read(tmp_path / "experiments.yaml")["aversion"].status == "stopped"
    assert client.put("/v1/experiments/x", json={"variants": {"a": {"share": 1}}}).status_code == 422
    assert client.get("/v1/experiments/none/report").status_code == 404


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
    assert client.delete("/v1/experiments/old").status_code == 404
    assert client.patch("/v1/experiments/old", json={"status": "running"}).status_code == 404


def test_the_writer_follows_its_experiments_file(serve: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_signed.live.serve.answers.SECOND", 0.0)
    path = tmp_path / "experiments.yaml"
    client = serve(experiments=Experiments.read(path))
    path.write_text("experiments: {mine: {variants: {a: {share: 0.5}, b: {share: 0.5}}}}")
    assert client.get("/v1/users/1/recommendations").json()["variant"] in ("mine=a", "mine=b")
    path.write_text(path.read_text().replace("mine:", "other:"))
    assert list(client.get("/v1/experiments").json()) == ["other"]


def test_interleaved_lists_with_parameters(serve: Make) -> None:
    variants = {"ours": {"share": 0.5}, "popular": {"share": 0.5, "model": "popularity"}}
    client = serve(experiments=experiments_of(mix={"variants": variants, "interleave": True}))
    answer = client.get("/v1/users/1/recommendations?k=10").json()
    teams = [each["variant"] for each in answer["items"]]
    assert sorted(set(teams)) == ["ours", "popular"]
    assert abs(teams.count("ours") - teams.count("popular")) <= 1
    variants = {"one": {"share": 0.5}, "same": {"share": 0.5}}
    plain, mixed = serve(), serve(experiments=experiments_of(mix={"variants": variants, "interleave": True}))
    differ = 0
    for user in ("1", "2", "3"):
        careful = items(plain, user, k=10, dislike_aversion=5.0)
        differ += careful != items(plain, user, k=10)
        assert items(mixed, user, k=10, dislike_aversion=5.0) == careful
    assert differ


def test_items_of_an_interleaved_list_are_explained_by_the_variant_that_they_are_from(serve: Make) -> None:
    for other in ({"model": "popularity"}, {"parameters": {"dislike_aversion": 5.0}}):
        variants = {"ours": {"share": 0.5}, "other": {"share": 0.5, **other}}
        client = serve(experiments=experiments_of(mix={"variants": variants, "interleave": True}))
        listed = client.get("/v1/users/1/recommendations?k=10&explain=true").json()["items"]
        for each in listed:
            if "model" in other and each["variant"] == "other":
                assert "why" not in each
            else:
                assert each["why"]["score"] == pytest.approx(each["score"], rel=1e-4)
        assert {each["variant"] for each in listed} == {"ours", "other"}


def test_dislikes_count_against_impressions_of_all_processes(client: TestClient, engine: Any, tmp_path: Path) -> None:
    item = items(client, "1", k=2)[0]
    replica = TrafficLog(tmp_path / "state" / "traffic.sqlite")
    replica.write([Shown("r", "2", [f"i{i}" for i in range(8)], round(time.time() * 1000), "v", [[]])])
    replica.close()
    send(client, "1", item, "dislike")
    all_written(engine)
    assert engine.gauges()["dislikes_per_impression"][1] == 1 / 10


def test_a_list_that_is_looked_at_is_no_impression(client: TestClient, engine: Any) -> None:
    assert items(client, "1", k=5, log=False) == items(client, "1", k=5)
    all_written(engine)
    assert engine.traffic.added() == engine.telemetry.total(engine.telemetry.impressions) == 5


def test_live_quality_counts_an_event_that_comes_twice_once(client: TestClient) -> None:
    row = {"user_id": "1", "item_id": items(client, "1", k=1)[0], "type": "like", "event_id": "a"}
    answer = client.post("/v1/events", json={"events": [row, row]}).json()
    assert (answer["accepted"], answer["duplicate"]) == (1, 1)
    assert client.get("/v1/quality").json()["windows"]["hour"]["all"]["likes"] == 1


def test_a_verdict_from_before_an_impression_is_no_outcome_of_it(client: TestClient, engine: Any) -> None:
    early, slow, prompt = items(client, "1", k=3)
    now = int(time.time() * 1000)
    send(client, "1", early, "like", timestamp=now - 120_000)
    send(client, "1", slow, "like", timestamp=now - 5_000)  # by a clock that lags
    send(client, "1", prompt, "like")
    all_written(engine)
    assert set(engine.traffic._query("SELECT item FROM impression WHERE like", ())) == {(slow,), (prompt,)}


def test_experiments_must_fit_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = begin(tmp_path / "ease", "SignedEASE")
    variants = {"plain": {"share": 0.5}, "careful": {"share": 0.5, "parameters": {"dislike_aversion": 1.0}}}
    careful = experiments_of(careful={"variants": variants})
    with pytest.raises(UsageError, match="'careful' of the experiment 'careful' does not fit the model: SignedEASE"):
        Engine(recommender, experiments=careful)
    variant = Assignment("x", "y", 1.0, careful["careful"].variants["careful"])
    with serving(recommender) as client:
        refused = client.put("/v1/experiments/careful", json={"variants": variants})
        assert (refused.status_code, "no parameter 'dislike_aversion'" in refused.json()["detail"]) == (422, True)
        assert client.get("/v1/experiments").json() == {}
        # whatever goes wrong with the list of one user, events are taken
        monkeypatch.setattr(client.engine.experiments, "assign", lambda user, known: [variant])  # type: ignore[attr-defined]
        events = [{"user_id": user, "item_id": "i8", "type": "like"} for user in ("u1", "u2", "new")]
        assert client.post("/v1/events", json={"events": events}).json()["accepted"] == len(events)


def test_live_quality_and_metrics(client: TestClient) -> None:
    for user in ("1", "2", "3"):
        send(client, user, items(client, user, k=1)[0], "like")
    quality = client.get("/v1/quality").json()
    assert (quality["windows"]["hour"]["all"]["recall"], quality["windows"]["hour"]["all"]["likes"]) == (1.0, 3)
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


def test_a_variant_may_rank_by_trend(serve: Make) -> None:
    variants = {"ours": {"share": 0.5}, "trend": {"share": 0.5, "model": "trending"}}
    client = serve(experiments=experiments_of(trend={"variants": variants}))
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
    client = serve(experiments=experiments_of(rank={"variants": variants, "status": "draft"}), quality={"k": 3})
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
    client = serve(experiments=experiments_of(held={"variants": variants}), quality={"k": 3})
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


def test_another_verdict_on_what_a_user_has_judged_says_nothing_of_its_list(client: TestClient) -> None:
    item = items(client, "1")[0]
    for kind in ("like", "dislike"):
        assert send(client, "1", item, kind)["accepted"] == 1
    found = client.get("/v1/quality").json()["windows"]["hour"]["all"]
    assert (found["likes"], found["dislikes"]) == (1, 0)


@pytest.mark.parametrize("before", ["hide", "view", "dislike for a while", "withdrawn"])
def test_a_verdict_on_what_is_in_no_list_says_nothing_of_the_list(client: TestClient, before: str) -> None:
    first = items(client, "1")[0]
    if before == "withdrawn":
        client.put(f"/v1/items/{first}", json={"withdrawn": True}).raise_for_status()
    else:
        send(client, "1", first, before.split()[0], **({"duration": 3600} if " " in before else {}))
    kind = "dislike" if " " in before else "like"
    assert send(client, "1", first, kind, timestamp=int(time.time() * 1000) + 1000)["accepted"] == 1
    figures = client.get("/v1/quality").json()["windows"].get("hour", {}).get("all", {})
    assert figures.get("likes", 0) == figures.get("dislikes", 0) == 0


def test_what_is_told_of_a_list_by_popularity_does_not_come_from_the_model(serve: Make) -> None:
    variants = {"ours": {"share": 1e-9}, "popular": {"share": 1 - 1e-9, "model": "popularity"}}
    client = serve(experiments=experiments_of(rank={"variants": variants, "status": "draft"}))
    item = items(client, "1", k=1)[0]
    assert client.get("/v1/users/1/recommendations?k=1&explain=true").json()["items"][0]["why"]["item"] == item
    client.engine.experiments.change("rank", status="running")  # type: ignore[attr-defined]
    assert "why" not in client.get("/v1/users/1/recommendations?k=1&explain=true").json()["items"][0]
    check_problem(client.get(f"/v1/users/1/explain/{item}"), 422, "ranks by likes of all users")
    before = items(client, "1", k=4)
    send(client, "1", before[1], "dislike")
    after = items(client, "1", k=3)
    assert after == [before[0], *before[2:]]  # nothing is pulled down but the item itself
    effect = client.get("/v1/users/1/last-dislike?k=3").json()
    assert effect == {"item": before[1], "gone": [before[1]], "come": [before[3]], "lowered": []}


def test_an_experiment_goes_on_beside_an_interleaved_one(serve: Make) -> None:
    mix = {"ours": {"share": 0.5}, "popular": {"share": 0.5, "model": "popularity"}}
    held = {"plain": {"share": 1e-9}, "careful": {"share": 1 - 1e-9, "parameters": {"dislike_aversion": 50.0}}}
    raw = {"mix": {"variants": mix, "interleave": True}, "held": {"variants": held, "status": "draft"}}
    client = serve(experiments=experiments_of(**raw))
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
    all_written(engine)
    shown = engine.traffic._query("SELECT experiment, variant, count(*) FROM exposure GROUP BY experiment, variant", ())
    assert {(name, variant): n for name, variant, n in shown if name == "held"} == {("held", "careful"): 9}
    assert {variant for name, variant, _ in shown if name == "mix"} == {"ours", "popular"}
