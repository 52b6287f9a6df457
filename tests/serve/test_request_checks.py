"""What is refused over HTTP, and how it is said: bodies, paths, parameters, keys, hosts, load."""

import asyncio
import gzip
import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi.testclient import TestClient
from service_calls import Make, check_problem, serving
from waiting import held_calls

from recbole_signed.live.replica import OnlineReplica
from recbole_signed.live.serve.app import make_app
from recbole_signed.live.serve.experiments import Experiments
from recbole_signed.live.serve.keys import make_key
from recbole_signed.live.serve.maintenance import Maintenance
from recbole_signed.live.serve.problems import THREADS


def test_every_other_body_refuses_what_it_does_not_have(client: TestClient) -> None:
    schema, bodies = client.get("/openapi.json").json(), set()
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            if "requestBody" in operation and path.startswith("/v1/"):
                bodies.add(operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2])
    assert len(bodies) >= 6
    for name in bodies:
        assert schema["components"]["schemas"][name]["additionalProperties"] is False, name
    of_events = schema["components"]["schemas"]["EventsBody"]["properties"]["events"]
    assert of_events["items"]["additionalProperties"] is False


def test_bodies_that_are_compressed_or_no_object(client: TestClient) -> None:
    events = json.dumps({"events": [{"user_id": "3", "item_id": "1", "type": "like"}]}).encode()
    given = {"content-type": "application/json"}
    refused = client.post("/v1/events", content=gzip.compress(events), headers={**given, "content-encoding": "gzip"})
    assert (refused.status_code, refused.json()["title"]) == (415, "Unsupported Media Type")
    assert refused.json()["detail"] == "The body has the Content-Encoding 'gzip'; send it without one, not compressed."
    assert client.post("/v1/events", content=events, headers={**given, "content-encoding": "identity"}).is_success

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
    assert detail("[1,", "application/json") == "body: It is no JSON from character 3 on (Expecting value)."


def test_what_is_not_there_names_what_is(client: TestClient) -> None:
    for path, allowed in (("users/1", "DELETE, GET, PUT"), ("models", "GET, POST"), ("popular", "GET")):
        refused = client.patch(f"/v1/{path}")
        assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
    for path, status, title in (("user/1", 404, "Not Found"), ("events", 405, "Method Not Allowed")):
        refused = client.get(f"/v1/{path}")
        told = {"status": status, "title": title, "detail": f"{title}; /docs lists the routes."}
        assert (refused.status_code, refused.json()) == (status, {"type": "about:blank", **told})


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"events": [' + b"9" * 5000 + b"]}", b'{"events": ["\xff"]}'])
def test_a_body_that_the_reader_of_json_gives_up_is_refused(serve: Make, body: bytes) -> None:
    refused = serve().post("/v1/events", content=body, headers={"content-type": "application/json"})
    assert (refused.status_code, refused.json()["detail"][:24]) == (400, "The body is no JSON in U")
    assert refused.json()["title"] == "Bad Request"


def test_pages_and_answers_stay_on_this_host(client: TestClient) -> None:
    for path in ("/", "/docs"):
        page = client.get(path)
        assert page.status_code == 200
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page.text)
    assert client.get("/redoc").status_code == 404
    for path in ("/v1/users/1/recommendations", "/healthz", "/metrics", "/", "/nothing", "/v1/status/"):
        answer = client.get(path, headers={"host": "evil.example"}, follow_redirects=False)
        assert (answer.headers["cache-control"], answer.headers["x-content-type-options"]) == ("no-store", "nosniff")
        assert "location" not in answer.headers


def test_limits_and_problems(serve: Make) -> None:
    client = serve(limits={"k": 10, "explained": 4, "batch": 2, "body_bytes": 2000, "requests_per_second": 1000})
    assert client.post("/v1/events", json={"events": [{}, {}, {}]}).status_code == 413
    assert client.post("/v1/events", json={"events": [{}, {}]}).json()["refused"] == 2
    assert len(client.get("/v1/users/1/recommendations?k=10").json()["items"]) == 10
    large = client.post("/v1/events", json={"events": [{"user_id": "x" * 3000}]})
    assert (large.status_code, large.headers["content-type"]) == (413, "application/problem+json")
    for path, status in (
        ("v1/users/1/recommendations?k=11", 422),
        ("v1/users/1/recommendations?k=0", 422),
        ("v1/items/none/similar", 404),
        ("v1/items/none/audience", 404),
        ("v1/users/1/explain/none", 404),
        ("api/item/none/neighbors", 404),
    ):
        refused = client.get(f"/{path}")
        assert refused.status_code == status, path
        assert set(refused.json()) == {"type", "title", "status", "detail"}
    client.get("/v1/users/1/recommendations?k=4&explain=true").raise_for_status()
    told = client.get("/v1/users/1/recommendations?k=5&explain=true")
    assert (told.status_code, told.json()["detail"]) == (422, "k is 5; at most 4 are served with explanations.")
    for route in ("recommendations", "last-dislike"):
        behind = client.get(f"/v1/users/1/{route}?k=5&min_seq=999999")
        assert (behind.status_code, behind.headers["retry-after"]) == (409, "1")


def test_parameters_that_are_unknown_or_given_twice_are_refused(client: TestClient) -> None:
    for path, name in (
        ("v1/users/1/recommendations?exclud=3", "'exclud' here; did you mean 'exclude'?"),
        ("v1/users/1/recommendations?tag=a&k=3", "'tag' here; did you mean 'tags'?"),
        ("v1/quality?since=1", "'since' here; "),
        ("api/recommend/1?n=3&offset=3", "'offset' here; /docs lists"),
        ("api/recommend/1?write-back-type=read", "'write-back-type' here"),
    ):
        check_problem(client.get(f"/{path}"), 422, name)
    assert len(client.get("/api/recommend/1?n=3&offset=0").json()) == 3
    assert client.get("/readyz?probe=1").status_code == client.get("/metrics?a=b").status_code == 200
    for path, name in (
        ("v1/users/1/recommendations?k=3&k=4", "k"),
        ("v1/users/1/recommendations?k=3&exclude=2&explain=true&explain=false", "explain"),
        ("v1/popular?k=1&k=1", "k"),
        ("v1/quality?by=version&by=group", "by"),
        ("api/recommend/1?offset=0&n=3&offset=0", "offset"),
    ):
        refused = client.get(f"/{path}")
        assert refused.status_code == 422, refused.text
        assert refused.json()["detail"] == f"query: the parameter '{name}' is given 2 times; give it once."
    for names in ("exclude=1&exclude=2", "include_only=1&include_only=2", "tags=a&tags=b"):
        assert client.get(f"/v1/users/1/recommendations?{names}").status_code == 200, names


def test_clients_are_not_told_where_files_are(serve: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = tmp_path / "state" / "experiments.yaml"
    client = serve(experiments=Experiments.read(kept), backup=tmp_path / "copies" / "ratings")
    engine = client.engine  # type: ignore[attr-defined]
    maintenance = Maintenance(engine, engine.settings.schedule)
    told = TestClient(make_app(engine, maintenance=maintenance))
    assert client.post("/v1/models/v99/activate").json()["detail"].startswith("There is no version 'v99' in versions; ")
    assert f"in {tmp_path}" in caplog.text
    kept.write_text("experiments: [")
    texts = [client.put("/v1/experiments/x", json={"variants": {"a": {"share": 0.5}, "b": {"share": 0.5}}}).text]
    (tmp_path / "copies").write_text("a file where the folder of backups would be")
    assert maintenance.run("backup").error is not None
    texts.append(told.get("/v1/status").text)
    engine.recommender.state.log.connection.execute("PRAGMA query_only = ON")  # as on a full disk
    refused = client.post("/v1/events", json={"events": [{"user_id": "1", "item_id": "1", "type": "like"}]})
    check_problem(refused, 503, "(log.sqlite)")
    assert "Events can't be taken: Appending to the event log failed" in caplog.text
    texts += [refused.text, client.get("/readyz").text]
    assert all("failed" in each or "not" in each for each in texts)
    assert not [each for each in texts if str(tmp_path) in each]
    named = client.get(f"/v1/items/{quote(f'a{tmp_path}/state/b', safe='')}/similar").json()["detail"]
    assert named.startswith(f"there is no item 'a{tmp_path}/state/b'")  # an id is told as it was given


def test_a_page_of_another_site_changes_nothing(client: TestClient, serve: Make) -> None:
    foreign = {"Origin": "http://other.example", "Sec-Fetch-Site": "cross-site"}
    check_problem(client.post("/v1/models", headers=foreign), 403, "allow_origins")
    assert client.get("/v1/popular", headers=foreign).status_code == 200
    kept_as_shown = ("v1/users/1/recommendations", "api/recommend/a%2Fb", "api/recommend/1/")
    for path in kept_as_shown:
        assert client.get(f"/{path}", headers=foreign).status_code == 403
        assert client.get(f"/{path}", headers={**foreign, "Sec-Fetch-Site": "same-site"}).status_code == 200
    assert client.post("/v1/models", headers={**foreign, "Sec-Fetch-Site": "same-origin"}).status_code == 201
    assert "frame-ancestors 'none'" in client.get("/").headers["content-security-policy"]
    for origins in (["http://other.example"], ["*"]):
        assert serve(allow_origins=origins).post("/v1/models", headers=foreign).status_code == 201


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("ratings.lan", "http://evil.example", 403),
        ("ratings.lan:8080", "http://ratings.lan", 403),
        ("ratings.lan:8080", "http://ratings.lan:9090", 403),
        ("ratings.lan", "null", 403),
        ("ratings.lan", "http://ratings.lan:x", 403),
        ("ratings.lan", "http://other.example", 201),  # which is allowed
        ("ratings.lan", None, 201),
        ("ratings.lan:8080", "http://ratings.lan:8080", 201),
        ("ratings.lan:80", "http://ratings.lan", 201),
        ("RATINGS.lan", "https://ratings.lan", 201),
        ("ratings.lan", "https://ratings.lan:8443", 201),  # a proxy that leaves the port out
    ],
)
def test_a_page_of_another_origin_changes_nothing(serve: Make, host: str, origin: str | None, status: int) -> None:
    """Browsers send no Sec-Fetch-Site to names that are not loopback, but through TLS."""
    client = serve(allow_hosts=["ratings.lan"], allow_origins=["http://other.example"])
    headers = {"Host": host} | ({} if origin is None else {"Origin": origin})
    assert client.post("/v1/models", headers=headers).status_code == status
    assert client.get("/v1/popular", headers=headers).status_code == 200


def test_a_key_comes_from_any_page_and_probes_need_none(serve: Make, tmp_path: Path) -> None:
    # no page of another site can send a key, and a gateway may hand on the origin of a page
    headers = {"X-API-Key": make_key(tmp_path / "keys", "admin"), "Origin": "http://shop.example"}
    assert serve(keys=tmp_path / "keys").post("/v1/models", headers=headers).status_code == 201
    key = make_key(tmp_path / "keys", "read")
    client = serve(keys=tmp_path / "keys", limits={"requests_per_second": 0.01})
    assert [client.get("/v1/popular").status_code for _ in range(3)] == [401, 429, 429]
    for path in ("/healthz", "/readyz", "/api/health/live", "/api/health/ready"):
        assert [client.get(path).status_code for _ in range(3)] == [200, 200, 200]
    assert [client.get("/metrics", headers={"X-API-Key": key}).status_code for _ in range(2)] == [200, 429]


def test_a_service_without_keys_answers_under_local_names_alone() -> None:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from recbole_signed.live.serve.middleware import LocalHosts

    def status(host: str, also: tuple[str, ...] = ()) -> int:
        app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("here"))])
        app.add_middleware(LocalHosts, also=also)
        return TestClient(app).get("/", headers={"host": host}).status_code

    local = (
        "localhost", "localhost:8080", "localhost.", "LOCALHOST", "127.0.0.1:8080", "127.0.0.2", "[::1]:8080",
        "[::1]",
    )  # fmt: skip
    assert {status(host) for host in local} == {200}
    foreign = (
        "evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "[::1", "1.2.3.4",
        "@",
    )  # fmt: skip
    assert {status(host) for host in foreign} == {421}
    assert status("Ratings.example:80", ("ratings.Example",)) == 200
    assert status("evil.example", ("ratings.example",)) == 421
    assert status("evil.example", ("*",)) == 200


def test_probes_by_head_and_failures_of_the_service(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/api/health/live", "/api/health/ready"):
        found = client.head(path)
        assert (found.status_code, found.content) == (200, b"")
        assert found.headers["content-type"] == client.get(path).headers["content-type"]
    client.engine.writer.failure = "the disk is full"  # type: ignore[attr-defined]
    assert client.head("/readyz").status_code == 503
    assert client.head("/v1/users/1/recommendations").status_code == 405  # a list would be kept as shown

    def fail(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(client.engine, "popular", fail)  # type: ignore[attr-defined]
    failed = TestClient(client.app, raise_server_exceptions=False).get("/v1/popular")
    assert (failed.status_code, failed.headers["content-type"]) == (500, "application/problem+json")
    assert failed.json()["detail"] == "The service failed; its log says why."


def test_roles(serve: Make, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    made = {role: make_key(path, role) for role in ("read", "write", "admin")}
    client = serve(keys=path)
    event = {"events": [{"user_id": "1", "item_id": "1", "type": "like"}]}
    read, bearer = {"X-API-Key": made["read"]}, {"Authorization": f"Bearer {made['write']}"}
    assert client.post("/v1/events", json=event, headers=read).status_code == 403
    assert client.post("/v1/events", json=event, headers=bearer).status_code == 200
    assert client.delete("/v1/users/1", headers=bearer).status_code == 403
    erasure = {"events": [*event["events"], {"user_id": "1", "type": "forget_user"}]}
    assert client.post("/v1/events", json=erasure, headers=bearer).status_code == 403
    assert client.get("/v1/users/1/recommendations", headers=read).json()["known_user"]
    admin = {"X-API-Key": made["admin"]}
    assert client.post("/v1/events", json=erasure, headers=admin).json()["accepted"] == 2
    assert client.delete("/v1/users/1", headers=admin).status_code == 200


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
    with serving(OnlineReplica(tmp_path / "state"), limits={"body_bytes": 2000}) as reader:
        client = TestClient(make_app(reader.engine, writer="http://127.0.0.1:9"))  # type: ignore[attr-defined]
        assert post(30).status_code == 413  # before it is handed on


def test_a_key_is_checked_before_body_and_parameters(serve: Make, tmp_path: Path) -> None:
    make_key(tmp_path / "keys", "admin")
    client = serve(keys=tmp_path / "keys")
    for headers in ({}, {"X-API-Key": "wrong"}):
        json_body = {"Content-Type": "application/json", **headers}
        assert client.post("/v1/events", content=b"{", headers=json_body).status_code == 401
    for route in client.app.routes:  # type: ignore[attr-defined]
        path = route.path.replace("{", "").replace("}", "")
        for method in getattr(route, "methods", None) or ():
            if method not in ("GET", "HEAD"):
                assert client.request(method, path, content=b"{").status_code == 401, route
            elif method == "GET" and path.startswith(("/v1/", "/api/")) and "health" not in path:
                assert client.get(path, params={"x": 1, "k": "x"}).status_code == 401, path
    keys = {role: {"X-API-Key": make_key(tmp_path / "keys", role)} for role in ("read", "write")}
    client = serve(keys=tmp_path / "keys")
    assert client.get("/v1/popular", params={"x": 1}, headers=keys["read"]).status_code == 422
    assert client.post("/v1/models", params={"x": 1}, headers=keys["write"]).status_code == 403
    assert client.post("/v1/events", params={"x": 1}, headers=keys["write"], json={"events": [1]}).status_code == 422


def test_the_lists_of_one_request_are_bounded_together(serve: Make) -> None:
    client = serve()

    def asked(n: int, k: int, **limits: int) -> httpx.Response:
        return client.post("/v1/recommendations", json={"users": [{"user_id": str(i)} for i in range(n)], "k": k})

    assert asked(100, 500).status_code == 200
    refused = asked(101, 500)
    assert (refused.status_code, refused.json()["title"]) == (413, "Content Too Large")
    assert refused.json()["detail"].startswith("101 lists of 500 items are asked for; the lists of a request hold at")
    client = serve(limits={"items": 10})
    assert [asked(2, 5).status_code, asked(2, 6).status_code] == [200, 413]


@pytest.mark.parametrize("name", [".", ".."])
def test_an_id_that_no_address_can_hold_is_refused(client: TestClient, name: str) -> None:
    rows = [
        {"user_id": name, "item_id": "1", "type": "like"},
        {"user_id": "1", "item_id": name, "type": "dislike"},
        {"item_id": name, "type": "item", "features": {}},
        {"user_id": name, "type": "user", "features": {}},
        {"user_id": name, "type": "forget_user"},  # an older state may have one
        {"user_id": f"{name}a", "item_id": "...", "type": "like"},
    ]
    results = client.post("/v1/events", json={"events": rows}).json()["results"]
    assert [each["status"] for each in results] == [*["refused"] * 4, *["accepted"] * 2]
    assert f"'{name}' is not taken as an id" in results[0]["reason"]


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
def test_too_much_is_refused_at_once(name: str, path: str, serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_probe_waits_for_no_earlier_list(client: TestClient, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recommend, made = engine.recommend, []

    def slow(*args: Any, **named: Any) -> Any:
        time.sleep(0.02)
        made.append(1)
        return recommend(*args, **named)

    monkeypatch.setattr(engine, "recommend", slow)

    async def ask() -> int:
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as many:
            lists = [asyncio.create_task(many.get(f"/v1/users/{n}/recommendations")) for n in range(1, 31)]
            await asyncio.sleep(0)  # all of them are sent
            assert (await many.get("/healthz")).status_code == 200
            before = len(made)
            assert {answer.status_code for answer in await asyncio.gather(*lists)} == {200}
            return before

    assert asyncio.run(ask()) < 10


def test_a_request_is_refused_in_time_while_others_go_on(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    client = serve(limits={"wait": 0.2})
    engine = client.engine  # type: ignore[attr-defined]
    _, go_on = held_calls(monkeypatch, engine, "popular")

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as many:
            held = [asyncio.create_task(many.get("/v1/popular")) for _ in range(THREADS)]
            await asyncio.sleep(0.05)
            refused = [await many.get("/v1/popular"), await many.get("/v1/items/1/similar")]
            go_on.set()
            return [*refused, *await asyncio.gather(*held), await many.get("/v1/popular")]

    assert [answer.status_code for answer in asyncio.run(ask())] == [503, 503, *[200] * (THREADS + 1)]


@pytest.mark.parametrize("path", ["/v1/events", "/v1/recommendations", "/api/feedback"])
def test_a_key_that_a_body_has_twice_is_refused(client: TestClient, path: str) -> None:
    """The last one held, and of two lists of events the first was lost."""
    headers = {"content-type": "application/json"}
    event = '{"user_id": "1", "item_id": "2", "type": "like"}'
    for body, name, number in (
        (f'{{"events": [{event}], "events": [{event}]}}', "events", 2),
        (f'{{"events": [{event[:-1]}, "item_id": "3", "item_id": "4"}}]}}', "item_id", 3),
    ):
        refused = client.post(path, content=body, headers=headers)
        assert refused.status_code == 422
        assert refused.json()["detail"] == f"body: the key '{name}' is given {number} times; give it once."
    assert client.post("/v1/events", content=f'{{"events": [{event}]}}', headers=headers).json()["accepted"] == 1
