"""The whole API against its own schema: random requests get no 5xx and no answer that the schema does not allow."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

CHECKS = [not_a_server_error, response_schema_conformance, status_code_conformance]

PATIENCE = 120
"""Seconds that an answer may take: this is no test of speed, and the machine may do other things."""


def run(serve: Callable[..., TestClient], cases: int) -> int:
    """Send as many random requests as said; return how many were sent."""
    client = serve()
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
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

    send()
    return sent


def test_a_few_hundred_requests(serve: Callable[..., TestClient]) -> None:
    assert run(serve, 200) >= 150


@pytest.mark.slow
def test_ten_thousand_requests(serve: Callable[..., TestClient]) -> None:
    assert run(serve, 10_000) >= 9_000
