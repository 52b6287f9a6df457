"""The whole API against its own schema: random requests get no 5xx and no answer that the schema does not allow."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import hypothesis
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from recbole_signed.live.serve import schemas
from recbole_signed.live.serve.app import make_app
from recbole_signed.live.serve.experiments import Experiment
from recbole_signed.live.serve.keys import ROLES, make_key
from recbole_signed.live.serve.maintenance import Maintenance
from recbole_signed.live.serve.schemas import Problem, Readiness
from recbole_signed.live.serve.settings import ServeSettings

CHECKS = [not_a_server_error, response_schema_conformance, status_code_conformance]

PATIENCE = 120
"""Seconds that an answer may take: this is no test of speed, and the machine may do other things."""


def run(serve: Callable[..., TestClient], cases: int) -> int:
    """Send as many random requests as said; return how many were sent."""
    engine = serve().engine  # type: ignore[attr-defined]
    never = dict.fromkeys(("refresh", "refit", "snapshot", "compact", "backup"), 0)
    maintenance = Maintenance(engine, ServeSettings.model_validate({"schedule": never}).schedule)
    schema = schemathesis.openapi.from_asgi("/openapi.json", make_app(engine, None, maintenance))
    strategy = st.one_of([operation.ok().as_strategy() for operation in schema.get_all_operations()])
    sent = 0

    @hypothesis.settings(
        max_examples=cases, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @given(strategy)
    def send(case: schemathesis.Case) -> None:
        nonlocal sent
        sent += 1
        case.call_and_validate(checks=CHECKS, timeout=PATIENCE)

    maintenance.start()
    try:
        send()
    finally:
        maintenance.stop()
    return sent


def test_a_few_hundred_requests(serve: Callable[..., TestClient]) -> None:
    assert run(serve, 200) >= 150


def test_the_schema_says_which_key_a_route_needs(serve: Callable[..., TestClient], tmp_path: Path) -> None:
    keys = {role: make_key(tmp_path / "keys", role) for role in ROLES}
    client = serve(tmp_path / "keys")
    schema = client.get("/openapi.json").json()
    schemathesis.openapi.from_dict(schema).validate()
    schemes = schema["components"]["securitySchemes"]
    assert {(each["type"], each.get("name"), each.get("scheme")) for each in schemes.values()} == {
        ("apiKey", "X-API-Key", None),
        ("http", None, "bearer"),
    }
    needed: dict[str, int] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            roles = [role for each in operation["security"] for named in each.values() for role in named]
            assert len({*roles}) == len(operation["security"]) // 2, (method, path)  # the same for both schemes
            assert [set(each) for each in operation["security"]] == ([{name} for name in schemes] if roles else [])
            filled = re.sub(r"{\w+}", "a", path)
            status = {role: client.request(method, filled, headers={"X-API-Key": keys[role]}) for role in keys}
            if method == "get" and not roles:
                assert client.get(filled).status_code != 401, path
            elif roles:
                assert client.request(method, filled).status_code == 401, (method, path)
                assert f"`{roles[0]}`" in operation["description"]
                needed[roles[0]] = needed.get(roles[0], 0) + 1
                for role, answer in status.items():
                    assert (answer.status_code == 403) == (ROLES.index(role) < ROLES.index(roles[0])), (method, path)
    assert set(needed) == set(ROLES)
    assert "/v1/events" in schema["paths"]


def test_a_service_without_keys_says_that_none_is_needed(serve: Callable[..., TestClient]) -> None:
    operation = serve().get("/openapi.json").json()["paths"]["/v1/users/{user_id}"]["delete"]
    assert {} in operation["security"]
    assert "the role `admin`, where the service has keys" in operation["description"]


def test_what_an_answer_leaves_out_where_it_is_empty_is_not_required_by_its_schema(
    serve: Callable[..., TestClient],
) -> None:
    def models(annotation: Any) -> Iterator[type[BaseModel]]:
        for each in get_args(annotation):
            yield from models(each)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
            for field in annotation.model_fields.values():
                yield from models(field.annotation)

    client = serve()
    sparse = [each for each in client.app.routes if getattr(each, "response_model_exclude_none", False)]  # type: ignore[attr-defined]
    found = {each for route in sparse for each in models(route.response_model)}
    assert {schemas.WishInfo, schemas.VersionInfo} <= found
    for each in found:
        for name, field in each.model_fields.items():
            assert not (field.is_required() and type(None) in get_args(field.annotation)), (each, name)


def test_errors_are_of_the_type_and_form_that_the_schema_says(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    probes = {"/readyz", "/api/health/ready"}  # whose 503 is an answer as well
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status >= "400" and not (status == "503" and path in probes):
                    assert response["content"] == problem, (path, status)
    refused = client.get("/v1/items/x/similar")
    assert refused.headers["content-type"] in problem
    Problem.model_validate(refused.json(), strict=True)
    client.engine.writer.failure = "no room"  # type: ignore[attr-defined]
    for path in probes:
        answer = client.get(path)
        assert answer.status_code == 503
        assert [answer.headers["content-type"]] == [*schema["paths"][path]["get"]["responses"]["503"]["content"]]
    Readiness.model_validate(client.get("/readyz").json(), strict=True)


@pytest.mark.slow
def test_ten_thousand_requests(serve: Callable[..., TestClient]) -> None:
    assert run(serve, 10_000) >= 9_000


USERS = [{"user_id": "1"}]


@pytest.mark.parametrize(
    ("body", "taken", "refused"),
    [
        (schemas.EventsBody, {"events": [{}]}, {"events": []}),
        (schemas.UserRequest, {"likes": ["1"] * 1000}, {"likes": ["1"] * 1001}),
        (schemas.UserRequest, {"dislikes": ["1"] * 1000}, {"dislikes": ["1"] * 1001}),
        (schemas.UserRequest, {"user_id": "1", "dislikes": []}, {"user_id": "1", "dislikes": ["2"]}),
        (schemas.ManyBody, {"users": USERS, "k": 1}, {"users": USERS, "k": 0}),
        (schemas.ManyBody, {"users": USERS}, {"users": []}),
        (schemas.ManyBody, {"users": USERS, "dislike_aversion": None}, {"users": USERS, "dislike_aversion": -0.1}),
        (schemas.ItemBody, {"tags": ["a"] * 100}, {"tags": ["a"] * 101}),
    ],
)
def test_a_body_holds_what_it_may_alone(body: type[BaseModel], taken: dict[str, Any], refused: dict[str, Any]) -> None:
    body.model_validate(taken)
    with pytest.raises(ValidationError):
        body.model_validate(refused)


def test_what_a_body_leaves_out() -> None:
    """An experiment is for all users, a list is of twenty items of any kind."""
    shares = {"a": {"share": 0.5}, "b": {"share": 0.5}}
    experiment = Experiment.model_validate({"variants": shares})
    assert (experiment.share, experiment.status, experiment.segment) == (1.0, "running", "all")
    assert (experiment.salt, experiment.interleave, experiment.policies) == ("", False, {})
    many = schemas.ManyBody.model_validate({"users": USERS})
    assert (many.k, many.exclude, many.include_only, many.tags) == (20, [], None, None)
    item = schemas.ItemBody.model_validate({})
    assert (item.withdrawn, item.tags, item.features) == (False, [], None)
